import { prefixed, scaled, unitsSuffix } from "./units.js";

/**
 * How an array was reduced: the number of values in a block, in each dimension.
 * @typedef {{method: "max"|"minmax", block: number[]}} Reduced
 */

/** Whether the samples of a field are arrays. @param {import("./catalogue.js").Field|undefined} info */
export const isArray = (info) => (info?.shape?.length ?? 0) > 0;

/** Return the numbers of values of an array, such as `480 × 640 values`. @param {import("./catalogue.js").Field} info */
export const sizeText = ({ shape }) => `${shape.join(" × ")} values`;

/**
 * Return the coordinate of a dimension of a field, with the prefix that suits its values: that of the node for the last
 * dimension, otherwise the number of each value.
 * @param {import("./catalogue.js").Field} info
 * @param {number} dimension
 * @returns {{title: string, units: string, values: number[]}}
 */
export function coordinate({ shape, axis }, dimension) {
  const count = shape[dimension];
  const values = axis?.values ?? [];
  const isUsable = dimension === shape.length - 1 && values.length === count && isMonotonic(values);
  if (!isUsable) return { title: shape.length > 1 ? ["row", "column"][dimension] : "number", units: "", values: Array.from({ length: count }, (_, i) => i) };
  const size = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const { units, factor } = prefixed(axis.units, size);
  const suffix = unitsSuffix(units).trim();
  return { title: suffix ? `${axis.name} (${suffix})` : axis.name, units: suffix, values: values.map((value) => scaled(value, factor)) };
}

/**
 * Return the edges between blocks of values: half-way between neighbours.
 * @param {number[]} values
 * @param {number} block
 * @param {boolean} [isEven] whether the last block has the width of the others, though it may have fewer values
 */
export function edges(values, block, isEven = false) {
  const last = values.length - 1;
  const half = (a, b) => (values[b] - values[a]) / 2 || 0.5;
  const found = [values[0] - half(0, Math.min(1, last))];
  for (let i = block; i <= last; i += block) found.push((values[i - 1] + values[i]) / 2);
  const missing = isEven ? (block - (values.length % block)) % block : 0;
  found.push(values[last] + (1 + 2 * missing) * half(Math.max(0, last - 1), last));
  return found;
}

/**
 * Return the coordinates of the values of an array, which may have been reduced to minimum and maximum of each block.
 * @param {number[]} values
 * @param {Reduced|undefined} reduced
 */
export function places(values, reduced) {
  if (!reduced) return values;
  const bounds = edges(values, reduced.block[0]);
  const shares = reduced.method === "minmax" ? [0.25, 0.75] : [0.5];
  return bounds.slice(1).flatMap((to, i) => shares.map((share) => bounds[i] + share * (to - bounds[i])));
}

function isMonotonic(values) {
  const sign = Math.sign(values[1] - values[0]) || 1;
  return values.every((value, i) => !i || sign * (value - values[i - 1]) > 0);
}
