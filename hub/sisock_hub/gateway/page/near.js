/**
 * Return the names most similar to a name, the most similar first.
 * @param {string} name
 * @param {string[]} names
 * @param {number} [most]
 */
export function similarNames(name, names, most = 3) {
  const wanted = name.toLowerCase();
  const ranked = names.map((each) => [distance(wanted, each.toLowerCase()), each]);
  const enough = Math.max(2, Math.floor(wanted.length / 3));
  return ranked.filter(([edits]) => edits <= enough).sort(([a], [b]) => a - b).slice(0, most).map(([, each]) => each);
}

/** Return the number of letters to change, insert or delete; a part of a name is one edit away from the whole name. */
function distance(a, b) {
  if (a.length > 2 && (b.includes(a) || a.includes(b))) return a === b ? 0 : 1;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row.at(-1);
}
