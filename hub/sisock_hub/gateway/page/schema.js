/**
 * Reading JSON schemas as nodes give them: those of pydantic, and what looks like them.
 * @typedef {Record<string, any>} Schema
 */

/**
 * Return a schema with its references followed, and with what may be null told apart.
 * @param {Schema} schema
 * @param {Record<string, Schema>} definitions
 * @returns {Schema} with `nullable`
 */
export function resolved(schema, definitions) {
  if (schema.properties && oneOfThese(schema).size) return { ...schema, nullable: false };
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
 * Return the names of an object's parts of which one is needed, though none of them by itself.
 * @param {Schema} schema
 * @returns {Set<string>}
 */
export function oneOfThese({ anyOf, oneOf }) {
  const choices = anyOf ?? oneOf ?? [];
  return new Set(choices.every((each) => each.required && !each.type && !each.$ref) ? choices.flatMap(({ required }) => required) : []);
}

/** Return the minimum and the maximum, and how they are said. @param {Schema} schema */
export function limits(schema) {
  // pydantic leaves `ge` and its kin as they are where a validator comes before them.
  const [least, above] = [schema.minimum ?? schema.ge, schema.exclusiveMinimum ?? schema.gt];
  const [most, below] = [schema.maximum ?? schema.le, schema.exclusiveMaximum ?? schema.lt];
  const said = [];
  if (least !== undefined && most !== undefined) said.push(`${least} to ${most}`);
  else if (least !== undefined) said.push(`at least ${least}`);
  else if (most !== undefined) said.push(`at most ${most}`);
  if (above !== undefined) said.push(`above ${above}`);
  if (below !== undefined) said.push(`below ${below}`);
  return { min: least ?? above, max: most ?? below, said: said.join(", ") };
}

/** Whether a value is all that a schema's input can hold on one line. @param {Schema} schema */
export const isPlain = (schema) => ["string", "number", "integer"].includes(schema.type) && !schema.enum;

/**
 * Return what was typed as what a schema asks for.
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

/** Whether two values are the same. @param {any} a @param {any} b */
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
