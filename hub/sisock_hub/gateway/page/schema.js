/**
 * Reading the JSON schemas of nodes: those of pydantic, and similar ones.
 * @typedef {Record<string, any>} Schema
 */

/**
 * Return a schema with its references resolved, and with null separated from its alternatives.
 * @param {Schema} schema
 * @param {Record<string, Schema>} definitions
 * @returns {Schema} with `nullable`
 */
export function resolved(schema, definitions) {
  if (schema.properties && requiredAlternatives(schema).size) return { ...schema, nullable: false };
  const { $ref, allOf, anyOf, oneOf, ...own } = schema;
  if ($ref) return resolved({ ...definitions[$ref.split("/").at(-1)], ...own }, definitions);
  if (allOf?.length === 1) return resolved({ ...allOf[0], ...own }, definitions);
  if (Array.isArray(schema.type)) return resolved({ ...own, type: undefined, anyOf: schema.type.map((type) => ({ type })) }, definitions);
  const choices = (anyOf ?? oneOf ?? []).filter((each) => each.type !== "null");
  const nullable = (anyOf ?? oneOf ?? []).length > choices.length;
  if (choices.length === 1) return { ...resolved({ ...choices[0], ...own }, definitions), nullable };
  return choices.length ? { ...own, choices, nullable } : { ...own, nullable };
}

/**
 * Return the names of an object's properties of which any one is required.
 * @param {Schema} schema
 * @returns {Set<string>}
 */
export function requiredAlternatives({ anyOf, oneOf }) {
  const choices = anyOf ?? oneOf ?? [];
  return new Set(choices.every((each) => each.required && !each.type && !each.$ref) ? choices.flatMap(({ required }) => required) : []);
}

/** Return the minimum and the maximum, and a text of the limits. @param {Schema} schema */
export function limits(schema) {
  // pydantic leaves `ge`, `gt`, `le` and `lt` untranslated if a validator precedes them.
  const [least, above] = [schema.minimum ?? schema.ge, schema.exclusiveMinimum ?? schema.gt];
  const [most, below] = [schema.maximum ?? schema.le, schema.exclusiveMaximum ?? schema.lt];
  const texts = [];
  if (least !== undefined && most !== undefined) texts.push(`${least} to ${most}`);
  else if (least !== undefined) texts.push(`at least ${least}`);
  else if (most !== undefined) texts.push(`at most ${most}`);
  if (above !== undefined) texts.push(`above ${above}`);
  if (below !== undefined) texts.push(`below ${below}`);
  return { min: least ?? above, max: most ?? below, text: texts.join(", ") };
}

/** Whether one line of text can hold any value of a schema. @param {Schema} schema */
export const isPlain = (schema) => ["string", "number", "integer"].includes(schema.type) && !schema.enum;

/**
 * Convert a text to the type of a schema; a text that cannot be converted is returned unchanged.
 * @param {string} text
 * @param {Schema} schema
 */
export function parsed(text, schema) {
  if (schema.type === "string") return text;
  if (["number", "integer"].includes(schema.type)) return Number.isNaN(Number(text)) ? text : Number(text);
  const types = (schema.choices ?? []).map(({ type }) => type);
  if (types.some((type) => type === "number" || type === "integer") && /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(text)) return Number(text);
  if (types.includes("boolean") && /^(true|false)$/.test(text)) return text === "true";
  return text;
}

/** Whether two values are equal. @param {any} a @param {any} b */
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
