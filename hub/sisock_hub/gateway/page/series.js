/**
 * Samples of one timeline of a node, as they are plotted.
 * @typedef {{t: number[], data: Record<string, any[]>, final: number|null, gaps: [number, number][],
 *   late: number, dropped: number, missed: number, thinned: boolean, reset: number}} Line
 */

/**
 * Return what the API answers of a timeline as a line.
 * @param {any} answer
 * @returns {Line}
 */
export function lineOf(answer) {
  const { t, data, finalized_until: final, gaps, late, dropped, downsample, reset } = answer;
  return { t, data, final, gaps, late, dropped, missed: 0, thinned: (downsample?.stride ?? 0) > 0, reset: reset ?? 0 };
}

/**
 * Add what has come since to a line; what it has already is passed over.
 * @param {Line} line
 * @param {{t: number[], data: Record<string, any[]>, finalized_until: number|null, missed: number, gaps: [number, number][], reset?: number}} news
 */
export function extend(line, news) {
  if ((news.reset ?? 0) > line.reset && news.t.length) setBack(line, news);
  const newest = line.t.at(-1) ?? -Infinity;
  const from = firstAfter(news.t, newest);
  for (let i = from; i < news.t.length; i++) line.t.push(news.t[i]);
  for (const [name, values] of Object.entries(line.data)) {
    const more = news.data[name];
    for (let i = from; i < news.t.length; i++) values.push(more ? more[i] : null);
  }
  line.final = latest(line.final, news.finalized_until);
  line.gaps.push(...news.gaps.filter(([begin]) => !line.gaps.some(([known]) => known === begin)));
  line.missed += news.missed + (news.lost ?? 0);
}

/**
 * Take over from the line before what a fresh answer came too early for.
 * @param {Line} line
 * @param {Line|undefined} before
 */
export function carryOver(line, before) {
  if (!before || before.reset < line.reset || Object.keys(line.data).join() !== Object.keys(before.data).join()) return;
  extend(line, { t: before.t, data: before.data, finalized_until: before.final, missed: before.missed, gaps: [], reset: before.reset });
}

/**
 * Forget what lies before a time, but for the last sample there: a line leads from it to the next.
 * @param {Line} line
 * @param {number} time UNIX seconds
 */
export function trim(line, time) {
  const keep = Math.max(0, firstAfter(line.t, time) - 1);
  if (!keep) return;
  line.t.splice(0, keep);
  for (const values of Object.values(line.data)) values.splice(0, keep);
  line.gaps = line.gaps.filter(([, end]) => end > time);
}

/**
 * Return the points of a field; where a gap is, the line is broken by a null.
 * @param {Line} line
 * @param {string} field
 * @returns {{t: number[], values: any[]}}
 */
export function broken(line, field) {
  const source = line.data[field] ?? [];
  const gaps = [...line.gaps].sort(([a], [b]) => a - b);
  if (!gaps.length) return { t: line.t, values: source };
  const [t, values] = [[], []];
  let next = 0;
  for (let i = 0; i < line.t.length; i++) {
    let crossed = null;
    // A gap begins with the last sample before it.
    while (next < gaps.length && gaps[next][0] < line.t[i]) crossed = gaps[next++];
    if (crossed && i) {
      t.push(Math.max(line.t[i - 1], Math.min(line.t[i], crossed[0])));
      values.push(null);
    }
    t.push(line.t[i]);
    values.push(source[i]);
  }
  return { t, values };
}

/**
 * Return the spans in which a field had one value each.
 * @param {Line} line
 * @param {string} field
 * @param {number} from
 * @param {number} to
 * @returns {{from: number, to: number, value: any}[]}
 */
export function runs(line, field, from, to) {
  const { t, values } = broken(line, field);
  const found = [];
  let run = null;
  const close = (until) => {
    if (run) run.to = Math.min(until, to);
    if (run && run.to > run.from) found.push(run);
    run = null;
  };
  for (let i = 0; i < t.length; i++) {
    if (run && run.value !== values[i]) close(t[i]);
    if (!run && values[i] !== null) run = { from: Math.max(t[i], from), to, value: values[i] };
  }
  close(t.at(-1) ?? to);
  // The last value has been seen only once where it is new: it is shown at its time, not left out.
  if (t.length && !found.length && values.at(-1) !== null) found.push({ from: t.at(-1), to: t.at(-1), value: values.at(-1) });
  return found;
}

/** Forget what was measured while the node's clock was ahead: its watermark was set back. */
function setBack(line, news) {
  const keep = firstAfter(line.t, news.t[0]);
  line.t.splice(keep);
  for (const values of Object.values(line.data)) values.splice(keep);
  line.gaps = line.gaps.filter(([begin]) => begin < news.t[0]);
  line.final = news.finalized_until;
  line.reset = news.reset;
}

/** Return the index of the first time after another, in ascending times. */
function firstAfter(times, time) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

const latest = (a, b) => (a === null || b === null || b === undefined ? a ?? b ?? null : Math.max(a, b));
