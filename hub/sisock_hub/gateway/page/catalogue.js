import { get, ofNode } from "./api.js";

/**
 * @typedef {{name: string, type: "number"|"string"|"bool", units: string|null, description: string|null,
 *   timeline: string, interval: number|null}} Field
 */

const REMEMBERED_MS = 10000;
/** @type {Map<string, {at: number, fields: Promise<Record<string, Field>>}>} */
const known = new Map();

/**
 * Return the fields of a node by name; remembered for some seconds.
 * @param {string} node
 * @returns {Promise<Record<string, Field>>}
 */
export function fieldsOf(node) {
  const before = known.get(node);
  if (before && performance.now() < before.at + REMEMBERED_MS) return before.fields;
  const fields = get(ofNode(node, "fields"));
  known.set(node, { at: performance.now(), fields });
  fields.catch(() => known.delete(node));
  return fields;
}

/** Forget what a node said: it was told to do something. @param {string} node */
export const forget = (node) => known.delete(node);
