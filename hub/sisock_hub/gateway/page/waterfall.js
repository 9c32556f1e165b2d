import { coordinate, edges } from "./axis.js";
import { colourRange, colourScale } from "./shades.js";
import { span } from "./text.js";
import { prefixed, scaled, unitsSuffix } from "./units.js";
import { toAxis } from "./zone.js";

export const MOST_COLUMNS = 1000;
// A sample is drawn until the next one, or for this many times the usual interval.
const LASTS = 2;
const NARROW = 500;

/**
 * Return the panel of the past of an array field: time × axis, with the colour of each value.
 * @param {import("./figure.js").Shown & import("./series.js").Quantity} each
 * @param {[number, number]} interval UNIX seconds
 * @param {{width: number, height: number}} size pixels
 * @param {boolean} isLogarithmic whether colours are
 */
export function waterfall(each, interval, size, isLogarithmic) {
  const { line, field, info } = each;
  const rows = line.data[field];
  const range = colourRange(rows.filter((row, i) => row && isWithin(line.t[i], each.spans)), isLogarithmic);
  const { units, factor } = prefixed(each.units, range ? Math.max(...range.map(Math.abs)) : 0);
  const along = coordinate(info, 0);
  const { block, together } = blocks(each, size.height);
  // Plotly draws rows of the same height in an eighth of the time.
  const y = edges(along.values, block, true);
  const { picked, from, step } = columns(line, each.spans, interval, Math.min(MOST_COLUMNS, size.width), info.interval);
  const height = y.length - 1;
  const shown = Array.from({ length: height }, () => new Array(picked.length).fill(null));
  const values = isLogarithmic ? shown.map((row) => [...row]) : shown;
  picked.forEach((index, x) => {
    const sample = index < 0 ? null : rows[index];
    for (let i = 0; sample && i < height; i++) {
      const value = maximum(sample, i * together, together);
      if (value === null) continue;
      values[i][x] = scaled(value, factor);
      if (isLogarithmic) shown[i][x] = value > 0 ? Math.log10(value) : null;
    }
  });
  const limits = range?.map((limit) => (isLogarithmic ? Math.log10(limit) : scaled(limit, factor))) ?? [0, 1];
  const trace = {
    type: "heatmap",
    x0: toAxis(from + step / 2, interval[0]),
    dx: step * 1000,
    y,
    z: shown,
    customdata: values,
    zmin: limits[0],
    zmax: limits[1],
    zauto: false,
    colorscale: colourScale(),
    showscale: false,
    hoverongaps: false,
  };
  return { trace, along, near: unitsSuffix(units), range, how: reduction(line, block, size.width), ends: edges(along.values, info.shape[0]) };
}

/** Return how many values a row of the screen has, and how many of the gateway's blocks: rows below a pixel would be lost. */
function blocks({ line, field, info }, height) {
  const block = line.reduced[field]?.block[0] ?? 1;
  const together = Math.ceil(info.shape[0] / block / height);
  return { block: block * together, together };
}

/** Return the maximum of some values of a sample; null if it has none. */
function maximum(sample, from, count) {
  let most = null;
  for (let i = from; i < Math.min(sample.length, from + count); i++) if (sample[i] !== null && (most === null || sample[i] > most)) most = sample[i];
  return most;
}

/** Return how the values of a waterfall were reduced, as a text. */
function reduction(line, block, width) {
  const [column, row] = width < NARROW ? ["", ""] : ["each column: ", "each row: "];
  const columns = line.stride ? `${column}mean of ${Number.isFinite(line.stride) ? span(line.stride) : "all"}` : "";
  return [columns, block > 1 ? `${row}maximum of ${block} values` : ""].filter(Boolean).join(", ");
}

const isWithin = (t, spans) => spans.some(([from, to]) => t >= from && t < to);

/**
 * Return the sample of each column, -1 for none, and the time of the first column. Columns start at multiples of their width,
 * so that a live waterfall moves by whole columns.
 */
function columns(line, spans, [start, end], count, interval) {
  const step = (end - start) / count;
  const from = Math.floor(start / step) * step;
  const picked = new Array(count + 1).fill(-1);
  const usual = Math.max(median(line.t), interval ?? 0, Number.isFinite(line.stride) ? line.stride : 0);
  const gaps = [...line.gaps].sort(([a], [b]) => a - b);
  let gap = 0;
  for (let i = 0; i < line.t.length; i++) {
    const t = line.t[i];
    while (gap < gaps.length && gaps[gap][0] < t) gap++;
    const until = Math.min(line.t[i + 1] ?? Infinity, t + Math.max(LASTS * usual, step), gaps[gap]?.[0] > t ? gaps[gap][0] : Infinity);
    if (!isWithin(t, spans)) continue;
    const last = Math.min(count, Math.ceil((until - from) / step) - 1);
    for (let x = Math.max(0, Math.floor((t - from) / step)); x <= last; x++) picked[x] = i;
  }
  return { picked, from, step };
}

/** Return the median distance of ascending times; 0 if there are fewer than two. */
function median(times) {
  const apart = Float64Array.from({ length: Math.max(0, times.length - 1) }, (_, i) => times[i + 1] - times[i]).sort();
  return apart.length ? apart[apart.length >> 1] : 0;
}
