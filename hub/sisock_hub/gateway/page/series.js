/**
 * Type and units of a field from a time on, in UNIX seconds.
 * @typedef {{from: number, type: "number"|"string"|"bool", units: string|null}} Epoch
 *
 * Samples of one timeline of a node, as they are plotted; each field has at least one epoch.
 * @typedef {{t: number[], data: Record<string, any[]>, epochs: Record<string, Epoch[]>, watermark: number|null,
 *   gaps: [number, number][], late: number, dropped: number, missed: number, downsampled: boolean, reset: number,
 *   stride: number, reduced: Record<string, import("./axis.js").Reduced>}} Line the stride in seconds, infinite if all samples are one
 *
 * The samples of a field with the same units, either all numbers or all other values.
 * @typedef {{units: string|null, isNumber: boolean, spans: [number, number][]}} Quantity
 */

/**
 * Return the API's answer for a timeline as a line.
 * @param {any} answer
 * @param {Record<string, import("./catalogue.js").Field>} fields
 * @returns {Line}
 */
export function lineOf(answer, fields) {
  const { t, data, finalized_until: watermark, gaps, late, dropped, downsample, reset, reduced } = answer;
  const stride = downsample ? downsample.stride ?? Infinity : 0;
  const epochs = Object.fromEntries(Object.keys(data).map((name) => [name, answer.epochs[name] ?? [firstEpoch(data[name], fields[name])]]));
  return { t, data, epochs, watermark, gaps, late, dropped, missed: 0, downsampled: (downsample?.stride ?? 0) > 0, reset: reset ?? 0, stride, reduced: reduced ?? {} };
}

/** Return the only epoch of a field that did not change. */
const firstEpoch = (values, info) => ({ from: -Infinity, type: info?.type ?? typeOf(values) ?? "number", units: info?.units ?? null });

/** Return the type of a field with these values; undefined without values. */
function typeOf(values) {
  const value = values.find((each) => each !== null);
  return value === undefined ? undefined : Array.isArray(value) ? "number" : { number: "number", boolean: "bool" }[typeof value] ?? "string";
}

/**
 * Add new samples to a line; samples that it already has are skipped.
 * @param {Line} line
 * @param {{t: number[], data: Record<string, any[]>, finalized_until: number|null, missed: number, gaps: [number, number][],
 *   reset?: number, epochs?: Record<string, Epoch[]>, units?: Record<string, string|null>}} update with `epochs`, or with the `units` of all its samples
 */
export function extend(line, update) {
  if ((update.reset ?? 0) > line.reset && update.t.length) rewind(line, update);
  const newest = line.t.at(-1) ?? -Infinity;
  const from = firstAfter(update.t, newest);
  if (from < update.t.length) for (const name of Object.keys(line.data)) addEpochs(line.epochs[name], update, name, update.t[from]);
  for (let i = from; i < update.t.length; i++) line.t.push(update.t[i]);
  for (const [name, values] of Object.entries(line.data)) {
    const more = update.data[name];
    for (let i = from; i < update.t.length; i++) values.push(more ? more[i] : null);
  }
  line.watermark = latest(line.watermark, update.finalized_until);
  line.gaps.push(...update.gaps.filter(([begin]) => !line.gaps.some(([known]) => known === begin)));
  line.missed += update.missed + (update.lost ?? 0);
}

/** Add the epochs of an update to those of a field. @param {Epoch[]} known */
function addEpochs(known, update, name, at) {
  const { type, units } = known.at(-1);
  const of = typeOf(update.data[name] ?? []) ?? type;
  const now = { from: at, type: of === "bool" && type === "number" ? type : of, units: update.units && name in update.units ? update.units[name] : units };
  for (const epoch of update.epochs?.[name] ?? [now]) {
    const before = known.at(-1);
    if (epoch.from > before.from && (epoch.units !== before.units || epoch.type !== before.type)) known.push({ ...epoch });
  }
}

/**
 * Return a field split by its units, with numbers separate from other values, in order of time; usually one part.
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
 * Add samples of the previous line that are newer than a fresh answer.
 * @param {Line} line
 * @param {Line|undefined} before
 */
export function carryOver(line, before) {
  if (!before || before.reset < line.reset || Object.keys(line.data).join() !== Object.keys(before.data).join()) return;
  extend(line, { t: before.t, data: before.data, epochs: before.epochs, finalized_until: before.watermark, missed: before.missed, gaps: [], reset: before.reset });
}

/**
 * Remove the samples before a time, except the last one: a line leads from it to the next.
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
 * Return the points of a field within some spans; at gaps and between spans, a null interrupts the line.
 * @param {Line} line
 * @param {string} field
 * @param {[number, number][]} spans half-open, ascending
 * @returns {{t: number[], values: any[]}}
 */
export function broken(line, field, spans) {
  const whole = brokenByGaps(line, line.data[field] ?? []);
  if (spans.length === 1 && spans[0][0] === -Infinity && spans[0][1] === Infinity) return whole;
  const [t, values] = [[], []];
  let left = false; // whether a span has ended since the previous point
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
    // A gap starts at the last sample before it.
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
  // A single new value has no duration yet: it is shown at its time.
  if (t.length && !found.length && values.at(-1) !== null) found.push({ from: t.at(-1), to: t.at(-1), value: values.at(-1) });
  return found;
}

/** Remove samples from the time when the node's clock was ahead: its watermark was set back. */
function rewind(line, update) {
  const keep = firstAfter(line.t, update.t[0]);
  line.t.splice(keep);
  for (const values of Object.values(line.data)) values.splice(keep);
  for (const epochs of Object.values(line.epochs)) while (epochs.length > 1 && epochs.at(-1).from >= update.t[0]) epochs.pop();
  line.gaps = line.gaps.filter(([begin]) => begin < update.t[0]);
  line.watermark = update.finalized_until;
  line.reset = update.reset;
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
