/**
 * What a field is from a time on, in UNIX seconds.
 * @typedef {{from: number, type: "number"|"string"|"bool", units: string|null}} Epoch
 *
 * Samples of one timeline of a node, as they are plotted; each field has an epoch at least.
 * @typedef {{t: number[], data: Record<string, any[]>, epochs: Record<string, Epoch[]>, final: number|null,
 *   gaps: [number, number][], late: number, dropped: number, missed: number, thinned: boolean, reset: number}} Line
 *
 * The samples of a field that have the same units, and are all of numbers or none.
 * @typedef {{units: string|null, isNumber: boolean, spans: [number, number][]}} Quantity
 */

/**
 * Return what the API answers of a timeline as a line.
 * @param {any} answer
 * @param {Record<string, import("./catalogue.js").Field>} fields
 * @returns {Line}
 */
export function lineOf(answer, fields) {
  const { t, data, finalized_until: final, gaps, late, dropped, downsample, reset } = answer;
  const epochs = Object.fromEntries(Object.keys(data).map((name) => [name, answer.epochs[name] ?? [firstEpoch(data[name], fields[name])]]));
  return { t, data, epochs, final, gaps, late, dropped, missed: 0, thinned: (downsample?.stride ?? 0) > 0, reset: reset ?? 0 };
}

/** Return what a field is that did not change. */
const firstEpoch = (values, info) => ({ from: -Infinity, type: info?.type ?? typeOf(values) ?? "number", units: info?.units ?? null });

/** Return the type of a field with these values; undefined where none is there. */
function typeOf(values) {
  const value = values.find((each) => each !== null);
  return value === undefined ? undefined : { number: "number", boolean: "bool" }[typeof value] ?? "string";
}

/**
 * Add what has come since to a line; what it has already is passed over.
 * @param {Line} line
 * @param {{t: number[], data: Record<string, any[]>, finalized_until: number|null, missed: number, gaps: [number, number][],
 *   reset?: number, epochs?: Record<string, Epoch[]>, units?: Record<string, string|null>}} news with `epochs`, or with the `units` of all of it
 */
export function extend(line, news) {
  if ((news.reset ?? 0) > line.reset && news.t.length) setBack(line, news);
  const newest = line.t.at(-1) ?? -Infinity;
  const from = firstAfter(news.t, newest);
  if (from < news.t.length) for (const name of Object.keys(line.data)) addEpochs(line.epochs[name], news, name, news.t[from]);
  for (let i = from; i < news.t.length; i++) line.t.push(news.t[i]);
  for (const [name, values] of Object.entries(line.data)) {
    const more = news.data[name];
    for (let i = from; i < news.t.length; i++) values.push(more ? more[i] : null);
  }
  line.final = latest(line.final, news.finalized_until);
  line.gaps.push(...news.gaps.filter(([begin]) => !line.gaps.some(([known]) => known === begin)));
  line.missed += news.missed + (news.lost ?? 0);
}

/** Add what a field has become by some news. @param {Epoch[]} known */
function addEpochs(known, news, name, at) {
  const { type, units } = known.at(-1);
  const of = typeOf(news.data[name] ?? []) ?? type;
  const now = { from: at, type: of === "bool" && type === "number" ? type : of, units: news.units && name in news.units ? news.units[name] : units };
  for (const epoch of news.epochs?.[name] ?? [now]) {
    const before = known.at(-1);
    if (epoch.from > before.from && (epoch.units !== before.units || epoch.type !== before.type)) known.push({ ...epoch });
  }
}

/**
 * Return a field by its units, and numbers separate from others, in the order in which they came; mostly one.
 * @param {Line} line
 * @param {string} field
 * @returns {Quantity[]}
 */
export function quantities(line, field) {
  const epochs = line.epochs[field];
  const parts = new Map();
  epochs.forEach(({ from, type, units }, i) => {
    const key = JSON.stringify([units, type === "number"]);
    if (!parts.has(key)) parts.set(key, { units, isNumber: type === "number", spans: [] });
    parts.get(key).spans.push([i ? from : -Infinity, epochs[i + 1]?.from ?? Infinity]);
  });
  return [...parts.values()];
}

/**
 * Take over from the line before what a fresh answer came too early for.
 * @param {Line} line
 * @param {Line|undefined} before
 */
export function carryOver(line, before) {
  if (!before || before.reset < line.reset || Object.keys(line.data).join() !== Object.keys(before.data).join()) return;
  extend(line, { t: before.t, data: before.data, epochs: before.epochs, finalized_until: before.final, missed: before.missed, gaps: [], reset: before.reset });
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
  for (const epochs of Object.values(line.epochs)) while (epochs[1]?.from <= line.t[0]) epochs.shift();
  line.gaps = line.gaps.filter(([, end]) => end > time);
}

/**
 * Return the points of a field within some spans; where a gap is, and between spans, the line is broken by a null.
 * @param {Line} line
 * @param {string} field
 * @param {[number, number][]} spans half-open, ascending
 * @returns {{t: number[], values: any[]}}
 */
export function broken(line, field, spans) {
  const whole = brokenByGaps(line, line.data[field] ?? []);
  if (spans.length === 1 && spans[0][0] === -Infinity && spans[0][1] === Infinity) return whole;
  const [t, values] = [[], []];
  let left = false; // whether a span has ended since the point before
  whole.t.forEach((time, i) => {
    if (!spans.some(([from, to]) => time >= from && time < to)) {
      left = t.length > 0;
      return;
    }
    if (left) (t.push(time), values.push(null));
    left = false;
    t.push(time);
    values.push(whole.values[i]);
  });
  return { t, values };
}

function brokenByGaps(line, source) {
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
 * @param {[number, number][]} spans as of `broken`
 * @param {number} from
 * @param {number} to
 * @returns {{from: number, to: number, value: any}[]}
 */
export function runs(line, field, spans, from, to) {
  const { t, values } = broken(line, field, spans);
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
  for (const epochs of Object.values(line.epochs)) while (epochs.length > 1 && epochs.at(-1).from >= news.t[0]) epochs.pop();
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
