import { brief } from "./text.js";

const PREFIXES = new Map([[-12, "p"], [-9, "n"], [-6, "µ"], [-3, "m"], [0, ""], [3, "k"], [6, "M"], [9, "G"], [12, "T"], [15, "P"]]);
// Symbols that take prefixes, and the smallest and the largest power of ten that is usual with them. A field in `mm` or
// `MHz` keeps its prefix; °C, %, dB, m², counts and pure numbers have none. C and F are left out: they are often used for
// degrees.
const SYMBOLS = new Map([
  ...["V", "A", "W", "Hz", "N", "J", "Pa", "eV", "Ω", "Ohm", "ohm", "H", "S", "Bq", "Gy", "Sv", "VA", "var", "Wh"].map((each) => [each, [-12, 15]]),
  ...["s", "K", "mol", "rad", "T", "bar", "L", "l"].map((each) => [each, [-12, 0]]),
  ...["m", "g"].map((each) => [each, [-9, 3]]),
  ...["B", "bit"].map((each) => [each, [0, 15]]),
]);
// Values from 0.1 to 1000 take no prefix.
const [SMALL, LARGE] = [0.1, 1000];

/**
 * Return units with the best prefix for a size, and one of them in the field's units.
 * @param {string|null|undefined} units of the field; of a quotient, such as `V/s`, the part above the line has the prefix
 * @param {number} size the largest absolute value
 * @returns {{units: string, factor: number}}
 */
export function prefixed(units, size) {
  const [, symbol, rest] = /^([^/\s]*)(\/.*)?$/.exec(units ?? "") ?? [];
  const usual = SYMBOLS.get(symbol);
  if (!usual || !Number.isFinite(size) || size === 0 || (size >= SMALL && size < LARGE)) return { units: units ?? "", factor: 1 };
  const power = Math.min(usual[1], Math.max(usual[0], 3 * Math.floor(Math.log10(size) / 3)));
  return { units: PREFIXES.get(power) + symbol + (rest ?? ""), factor: Number(`1e${power}`) };
}

/**
 * Return a value in the units of a prefix.
 * @param {number} value
 * @param {number} factor
 */
export const scaled = (value, factor) => (factor < 1 ? value * Math.round(1 / factor) : value / factor);

/**
 * Return units as they follow a value; a pure number, whose unit is 1, has none.
 * @param {string|null|undefined} units
 */
export const unitsSuffix = (units) => (units && units !== "1" ? ` ${units}` : "");

/**
 * Return a value and its units as short texts.
 * @param {any} value
 * @param {string|null|undefined} units
 * @returns {[string, string]}
 */
export function reading(value, units) {
  if (typeof value !== "number") return [brief(value), ""];
  const { units: near, factor } = prefixed(units, Math.abs(value));
  return [brief(scaled(value, factor)), unitsSuffix(near)];
}
