import { make, setText } from "./dom.js";
import { isPlain, limits, parsed, requiredAlternatives, resolved, same } from "./schema.js";
import { brief, words } from "./text.js";

/**
 * A part of a form: `value` returns undefined if the input is empty, so that the node's default applies.
 * @typedef {{element: HTMLElement, value: () => any}} Input
 * @typedef {import("./schema.js").Schema} Schema
 * @typedef {{label: string, required: boolean, definitions: Record<string, Schema>}} Place
 */

// Up to this number, optional parameters are not collapsed.
const FEW = 3;
let number = 0;

/**
 * Return the inputs for the parameters of a procedure, or for the properties of an object.
 * @param {Schema} schema of an object
 * @param {Record<string, Schema>} definitions
 * @param {boolean} strict whether required inputs must be filled in before the form is sent
 * @returns {Input}
 */
export function inputs(schema, definitions, strict = true) {
  const needed = schema.required ?? [];
  const some = requiredAlternatives(schema);
  const made = Object.entries(schema.properties ?? {}).map(([name, each]) => {
    const place = { label: words(name), required: strict && needed.includes(name), definitions };
    return { name, needed: needed.includes(name), prominent: needed.includes(name) || some.has(name), ...inputOf(resolved(each, definitions), place) };
  });
  const optional = made.filter((each) => !each.prominent).map(({ element }) => element);
  const element = make("div", { class: "inputs" }, ...made.filter((each) => each.needed).map((each) => each.element));
  const alternatives = made.filter((each) => each.prominent && !each.needed).map((each) => each.element);
  if (alternatives.length) element.append(make("fieldset", {}, make("legend", {}, "One of these is required"), ...alternatives));
  if (optional.length <= FEW) element.append(...optional);
  else element.append(make("details", { class: "options" }, make("summary", {}, `${optional.length} options`), ...optional));
  const value = () => Object.fromEntries(made.map(({ name, value }) => [name, value()]).filter(([, content]) => content !== undefined));
  return { element, value };
}

/** @param {Schema} schema resolved @param {Place} place @returns {Input} */
function inputOf(schema, place) {
  if (schema.const !== undefined) return { element: make("span", { hidden: true }), value: () => schema.const };
  if (schema.enum) return choice(schema, place);
  if (schema.type === "boolean") return schema.nullable ? choice({ ...schema, enum: [true, false] }, place) : tick(schema, place);
  if (isPlain(schema)) return line(schema, place);
  if (schema.type === "array") return list(schema, place);
  if (schema.type === "object") return schema.properties ? nested(schema, place) : map(schema, place);
  if (schema.choices) return alternatives(schema, place);
  return json(schema, place);
}

function line(schema, place) {
  const isNumber = schema.type !== "string";
  const { min, max, text } = limits(schema);
  const type = isNumber ? "number" : schema.format === "password" || schema.writeOnly ? "password" : "text";
  const input = make("input", {
    type, min, max, step: schema.type === "integer" ? 1 : isNumber ? "any" : null, required: place.required,
    minlength: schema.minLength, maxlength: schema.maxLength, autocomplete: "off", spellcheck: "false",
    placeholder: schema.default === undefined || schema.default === null ? null : String(schema.default),
  });
  return labelled(schema, place, input, () => (input.value === "" ? undefined : parsed(input.value, schema)), text);
}

function tick(schema, place) {
  const input = make("input", { type: "checkbox", checked: schema.default === true });
  const value = () => (input.checked === (schema.default ?? null) ? undefined : input.checked);
  return labelled(schema, place, input, value);
}

function choice(schema, place) {
  const unset = schema.default === undefined || schema.default === null ? "–" : `${brief(schema.default)} (default)`;
  const left = schema.enum.filter((each) => !same(each, schema.default));
  const select = make("select", { required: place.required }, make("option", { value: "" }, unset),
    ...left.map((each, i) => make("option", { value: i }, brief(each))));
  return labelled(schema, place, select, () => (select.value === "" ? undefined : left[Number(select.value)]));
}

function list(schema, place) {
  const item = resolved(schema.items ?? {}, place.definitions);
  const plain = isPlain(item) || item.choices?.every((each) => isPlain(resolved(each, place.definitions)));
  return plain ? lines(schema, item, place) : several(schema, item, place);
}

function lines(schema, item, place) {
  const area = make("textarea", { rows: 3, required: place.required, spellcheck: "false", placeholder: (schema.default ?? []).join("\n") });
  const value = () => {
    const items = area.value.split("\n").map((each) => each.trim()).filter(Boolean);
    return items.length ? items.map((each) => parsed(each, item)) : undefined;
  };
  return labelled(schema, place, area, value, "one per line");
}

function several(schema, item, place) {
  return growing(schema, place, () => inputOf(item, { ...place, label: place.label, required: false }), (made) => made);
}

function map(schema, place) {
  const item = resolved(typeof schema.additionalProperties === "object" ? schema.additionalProperties : {}, place.definitions);
  const row = () => {
    const key = make("input", { type: "text", "aria-label": `${place.label}: name`, placeholder: "name", autocomplete: "off", spellcheck: "false" });
    const inner = inputOf(Object.keys(item).length > 1 ? item : { type: "string" }, { ...place, label: "value", required: false });
    return { element: make("div", { class: "pair" }, key, inner.element), value: () => (key.value ? [key.value, inner.value() ?? ""] : undefined) };
  };
  return growing(schema, place, row, Object.fromEntries);
}

/** Return an input whose parts can be added and removed. */
function growing(schema, place, makePart, join) {
  const parts = new Map();
  const holder = make("div", { class: "parts" });
  const add = () => {
    const part = makePart();
    const remove = make("button", { type: "button", class: "remove", "aria-label": `Remove from ${place.label}`, onclick: () => {
      parts.delete(row);
      row.remove();
      more.focus();
    } }, "×");
    const row = make("div", { class: "part" }, part.element, remove);
    parts.set(row, part);
    holder.append(row);
    row.querySelector("input, select, textarea")?.focus();
  };
  const more = make("button", { type: "button", onclick: add }, `Add to ${place.label}`);
  const element = make("fieldset", {}, make("legend", {}, place.label, star(place)), about(schema), holder, more);
  const value = () => {
    const contents = [...parts.values()].map((part) => part.value()).filter((each) => each !== undefined);
    return contents.length || place.required ? join(contents) : undefined;
  };
  return { element, value };
}

/** Return the inputs of an object within an object. They are made when it is opened, since schemas may be recursive. */
function nested(schema, place) {
  let inner = null;
  const open = () => {
    if (inner) return;
    inner = inputs(schema, place.definitions, place.required);
    holder.append(inner.element);
  };
  const holder = make("div");
  const element = place.required
    ? make("fieldset", {}, make("legend", {}, place.label, star(place)), about(schema), holder)
    : make("details", { class: "nested", ontoggle: open }, make("summary", {}, place.label), about(schema), holder);
  if (place.required) open();
  const value = () => {
    const content = inner?.value() ?? {};
    return Object.keys(content).length || place.required ? content : undefined;
  };
  return { element, value };
}

function alternatives(schema, place) {
  const kinds = schema.choices.map((each) => resolved(each, place.definitions));
  if (kinds.every(isPlain)) {
    const input = make("input", { type: "text", required: place.required, autocomplete: "off", spellcheck: "false",
      placeholder: schema.default === undefined || schema.default === null ? null : String(schema.default) });
    return labelled(schema, place, input, () => (input.value === "" ? undefined : parsed(input.value, schema)));
  }
  let inner = null;
  const holder = make("div");
  const select = make("select", { required: place.required }, make("option", { value: "" }, "–"),
    ...kinds.map((kind, i) => make("option", { value: i }, kind.title ?? kind.type ?? `variant ${i + 1}`)));
  select.addEventListener("change", () => {
    inner = select.value === "" ? null : inputOf(kinds[Number(select.value)], { ...place, required: true });
    holder.replaceChildren(...(inner ? [inner.element] : []));
  });
  const chooser = labelled(schema, place, select, () => inner?.value());
  chooser.element.append(holder);
  return chooser;
}

function json(schema, place) {
  const area = make("textarea", { rows: 3, required: place.required, spellcheck: "false", placeholder: "JSON" });
  area.addEventListener("input", () => area.setCustomValidity(area.value.trim() === "" || isJson(area.value) ? "" : "This is not valid JSON."));
  return labelled(schema, place, area, () => (area.value.trim() === "" ? undefined : JSON.parse(area.value)), "JSON");
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Return an input with its label, its description and its limits. */
function labelled(schema, place, input, value, note = "") {
  const [id, hint] = [`in-${number++}`, about(schema, note)];
  input.id = id;
  if (hint) {
    hint.id = `${id}-about`;
    input.setAttribute("aria-describedby", hint.id);
  }
  const label = make("label", { for: id }, place.label, star(place));
  return { element: make("div", { class: `input${input.type === "checkbox" ? " tick" : ""}` }, label, input, hint), value };
}

const star = ({ required }) => (required ? make("span", { class: "star", title: "required" }, " *") : null);

/** Return the description of a schema, with its code in `code` elements, and a note such as its limits; null without both. */
function about(schema, note = "") {
  const pieces = (schema.description ?? "").split(/`+([^`]+)`+/);
  const nodes = pieces.map((piece, i) => (i % 2 ? make("code", {}, piece) : piece)).filter((piece) => piece !== "");
  if (!nodes.length && !note) return null;
  const element = make("span", { class: "hint" });
  element.append(...nodes);
  if (note) element.append(make("span", { class: "limits" }, `${nodes.length ? " (" : ""}${note}${nodes.length ? ")" : ""}`));
  return element;
}

/** Let a form open the collapsed parts around an invalid input, so that it is visible. @param {HTMLElement} form */
export function openAroundInvalid(form) {
  form.addEventListener("invalid", ({ target }) => {
    for (let each = target.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
  }, true);
}

/** Show or hide an error beside a form. @param {HTMLElement} element @param {string} text */
export function showError(element, text) {
  setText(element, text);
  element.hidden = !text;
}
