import { toDisplay } from "./zone.js";

const UNITS = [[31557600, "y"], [86400, "d"], [3600, "h"], [60, "min"]];

/**
 * Return a duration in its largest unit, such as `3 h`.
 * @param {number} seconds
 */
export function span(seconds) {
  const unit = UNITS.find(([size]) => seconds >= size);
  if (!unit) return seconds < 10 ? `${Math.max(0, seconds).toFixed(seconds < 1 ? 1 : 0)} s` : `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / unit[0])} ${unit[1]}`;
}

/**
 * Return the age of the newest sample of a node.
 * @param {{age: number|null, ahead: number|null}} node
 */
export function age({ age, ahead }) {
  if (age === null && ahead === null) return "unknown";
  const text = span(age ?? ahead).replace(/ y$/, (age ?? ahead) < 2 * UNITS[0][0] ? " year" : " years");
  return ahead === null ? `${text} ago` : `${text} ahead of the node's clock`;
}

/**
 * Return date and time, to the second or to `digits` of it.
 * @param {number} t UNIX seconds
 * @param {number} [digits] of a second
 */
export function moment(t, digits = 0) {
  const text = new Date(toDisplay(t)).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, digits ? 20 + digits : 19)}`;
}

/**
 * Return a value as a short text.
 * @param {any} value
 */
export function brief(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && size < 1e15) return size < 1e7 ? String(value) : value.toLocaleString("en");
  if (size >= 1e7 || size < 1e-3) return power(value);
  return String(Number(value.toPrecision(5)));
}

const DIGITS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

/** Return a number with a power of ten, such as `1.5×10⁻⁶`. */
function power(value) {
  const [digits, exponent] = value.toExponential(3).replace("e+", "e").split("e");
  return `${Number(digits)}×10${[...exponent].map((digit) => DIGITS[digit]).join("")}`;
}

/**
 * Return a name with spaces instead of underscores.
 * @param {string} name
 */
export const words = (name) => name.replaceAll("_", " ");

/**
 * Return a value of JSON as one line.
 * @param {any} value
 * @returns {string}
 */
export function summary(value) {
  if (value === null || typeof value !== "object") return brief(value);
  if (Array.isArray(value)) return value.map(summary).join(", ");
  return Object.entries(value).map(([name, each]) => `${words(name)}: ${summary(each)}`).join(", ");
}
