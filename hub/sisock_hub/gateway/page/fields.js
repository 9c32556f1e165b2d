import { now } from "./clock.js";
import { make, setText } from "./dom.js";
import { moment, span } from "./text.js";
import { reading, unitsSuffix } from "./units.js";
import { SEPARATOR } from "./view.js";
import { zoneName } from "./zone.js";

/**
 * @typedef {import("./catalogue.js").Field} Field
 * @typedef {import("./values.js").Last} Last
 * @typedef {import("./rows.js").Row} Row
 */

// Values younger than this are labelled `now`.
const FRESH_S = 2;

/**
 * Return the rows of all fields of a node, by timeline.
 * @param {string} node
 * @param {Record<string, Field>} fields
 * @param {(node: string, field: Field) => Row} rowOf
 * @returns {Row[]}
 */
export function rowsOf(node, fields, rowOf) {
  const timelines = Map.groupBy(Object.values(fields), (field) => field.timeline);
  return [...timelines].flatMap(([timeline, group]) => [
    ...(timelines.size > 1 ? [heading(node, timeline, group[0].interval)] : []),
    ...group.map((field) => rowOf(node, field)),
  ]);
}

/** Return the row above the fields of a timeline. @returns {Row} */
function heading(node, timeline, interval) {
  const rate = interval ? ` every ${interval < 1 ? `${Number((interval * 1000).toPrecision(3))} ms` : span(interval)}` : "";
  const element = () => make("li", { class: "within timeline" }, make("h2", {}, timeline, make("span", { class: "quiet" }, rate)));
  return { key: `timeline ${node}${SEPARATOR}${timeline}`, version: rate, height: 30, make: element, isButton: false };
}

/**
 * Return the element of a field: a button that plots it, with its last value.
 * @param {string} node
 * @param {Field} field
 * @param {() => void} toggle
 */
export function fieldElement(node, field, toggle) {
  const button = make(
    "button",
    { type: "button", class: "field", "data-field": field.name, title: field.description, onclick: toggle },
    make("span", { class: "tick", "aria-hidden": "true" }),
    make("span", { class: "name" }, field.name),
    make("span", { class: "reading" }, make("span", { class: "value" }, "–"), make("span", { class: "units" }, unitsSuffix(field.units))),
    field.description ? make("span", { class: "about" }, field.description) : null,
    make("span", { class: "age" }),
  );
  return make("li", { class: "within", "data-of": node }, button);
}

/** Show the last value of a field. @param {HTMLElement} element @param {Last} last */
export function showLast(element, last) {
  const [value, units] = reading(last.value, last.units);
  setText(element.querySelector(".value"), value);
  setText(element.querySelector(".units"), units);
  const [age, place] = [now() - last.t, element.querySelector(".age")];
  setText(place, age < FRESH_S ? "now" : `${span(age)} ago`);
  place.title = `${moment(last.t, 3)} ${zoneName(last.t)}`;
}
