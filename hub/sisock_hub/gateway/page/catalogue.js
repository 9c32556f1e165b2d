import { get, ofNode } from "./api.js";

/**
 * @typedef {{name: string, type: "number"|"string"|"bool", units: string|null, description: string|null,
 *   timeline: string, interval: number|null, shape?: number[], axis?: {name: string, units: string|null, values: number[]}|null}} Field
 */

const CACHED_MS = 10000;
/** @type {Map<string, {at: number, fields: Promise<Record<string, Field>>}>} */
const cache = new Map();

/**
 * Return the fields of a node by name; cached for 10 s.
 * @param {string} node
 * @returns {Promise<Record<string, Field>>}
 */
export function fieldsOf(node) {
  const cached = cache.get(node);
  if (cached && performance.now() < cached.at + CACHED_MS) return cached.fields;
  const fields = get(ofNode(node, "fields"));
  cache.set(node, { at: performance.now(), fields });
  fields.catch(() => cache.delete(node));
  return fields;
}

/** Remove the fields of a node from the cache; a command may have changed them. @param {string} node */
export const forget = (node) => cache.delete(node);
