import { make } from "./dom.js";
import { brief } from "./text.js";
import { isDark } from "./theme.js";
import { unitsSuffix } from "./units.js";

// Large values stand out from the page: Viridis on a dark one, ColorBrewer's YlGnBu on a light one.
const DARK = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const LIGHT = ["#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58"];
// Shares of the values below and above which colours do not change: a single spike leaves the others their contrast.
const [LOWEST, HIGHEST] = [0.01, 0.999];
// Values that are looked at, to find those.
const MOST_LOOKED_AT = 20000;
const STEPS = 20;

const shades = () => (isDark() ? DARK : LIGHT);

/** Return the colours of arrays, as Plotly has them. @returns {[number, string][]} */
export const colourScale = () => shades().map((each, i, all) => [i / (all.length - 1), each]);

/** Return the key of the colours: a bar between the values of the first and the last. @param {[number, number]} range @param {string|null} units */
export function colourKey(range, units) {
  const bar = make("span", { class: "colours", "aria-hidden": "true" });
  bar.style.background = `linear-gradient(to right, ${shades().join(", ")})`;
  return [`${brief(range[0])} `, bar, ` ${brief(range[1])}${unitsSuffix(units)}`];
}

/**
 * Return the values of the first and the last colour, at round numbers so that they change rarely; null without values.
 * @param {(number|null)[][]} rows
 * @param {boolean} isLogarithmic
 * @returns {[number, number]|null}
 */
export function colourRange(rows, isLogarithmic) {
  const count = rows.reduce((sum, row) => sum + row.length, 0);
  const step = Math.max(1, Math.floor(count / MOST_LOOKED_AT));
  const seen = [];
  let next = 0;
  for (const row of rows) {
    for (; next < row.length; next += step) if (row[next] !== null && (!isLogarithmic || row[next] > 0)) seen.push(row[next]);
    next -= row.length;
  }
  if (!seen.length) return null;
  const sorted = Float64Array.from(isLogarithmic ? seen.map(Math.log10) : seen).sort();
  const [low, high] = [LOWEST, HIGHEST].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
  return isLogarithmic ? [digitBelow(10 ** low), digitAbove(10 ** high)] : rounded(low, high);
}

/** Return the largest of 1, 2 and 5 times a power of ten that is not above a value, and the smallest above it. */
const digitBelow = (value) => digits(value).findLast((each) => each <= value * 1.0001);
const digitAbove = (value) => digits(value).find((each) => each > value);
const digits = (value) => [0, 1].flatMap((more) => [1, 2, 5].map((digit) => Number(`${digit}e${Math.floor(Math.log10(value)) + more}`)));

/** Return a range at multiples of about a twentieth of it. */
function rounded(low, high) {
  if (!(high > low)) return [low - (Math.abs(low) || 1) * 0.01, high + (Math.abs(high) || 1) * 0.01];
  const power = 10 ** Math.floor(Math.log10((high - low) / STEPS));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= ((high - low) / STEPS) * 0.999);
  const at = (number) => Number((number * step).toPrecision(12));
  return [at(Math.floor(low / step)), at(Math.ceil(high / step))];
}
