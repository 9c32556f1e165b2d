import { make } from "./dom.js";
import { brief, moment, words } from "./text.js";
import { reading } from "./units.js";
import { zoneName } from "./zone.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// Kinds of values, by their names. A number is shown as a time only if it also lies between 1990 and 2100.
const TIME = /^(t|at|time|wall|since|until|oldest|newest|first|last|start(ed)?|end(ed)?|from|to|created|changed|modified)$|_(t|at|time|since|until)$/;
const [EARLIEST, LATEST] = [Date.UTC(1990) / 1000, Date.UTC(2100) / 1000];
const BYTES = /(^|_)(bytes|size)$/;
const SECONDS = /_(s|seconds)$/;
const IDENTIFIER = /(^|_)(id|pid|session|seq|number)$/;

/**
 * Return an element that shows the answer of a node: a table, a list of details, or a line of text.
 * @param {any} value
 * @param {(row: Record<string, any>) => HTMLElement[]} [actions] returns the buttons of a row of a table
 * @param {string} [name] of the value
 * @returns {HTMLElement}
 */
export function shownAnswer(value, actions = () => [], name = "answer") {
  if (isTable(value)) return table(value, actions, name);
  if (Array.isArray(value) && !value.length) return make("p", { class: "quiet" }, "The list is empty.");
  if (isObject(value) && Object.keys(value).length) return details(value);
  if (value === null || value === true) return make("p", {}, "Done.");
  return make("p", {}, inline(value, name));
}

const isTable = (value) => Array.isArray(value) && value.length > 0 && value.every(isObject);

/** Return the rows of a table of similar objects by name; null if the values are not similar objects. */
function rowsOf(value) {
  const each = Object.values(value);
  if (each.length < 2 || !each.every((part) => isObject(part) && Object.keys(part).length > 1)) return null;
  const columns = new Set(each.flatMap(Object.keys));
  if ("name" in each[0] || !each.every((part) => Object.keys(part).length * 2 > columns.size)) return null;
  return Object.entries(value).map(([name, part]) => ({ name, ...part }));
}

function table(rows, actions, title) {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const offered = rows.map(actions);
  const some = offered.some((each) => each.length);
  const head = columns.map((name) => make("th", { scope: "col" }, labelOf(name)));
  if (some) head.splice(1, 0, make("th", { scope: "col" }, make("span", { class: "unseen" }, "actions")));
  const lines = rows.map((row, i) => {
    const cells = columns.map((name, k) => make(k ? "td" : "th", k ? { class: typeof row[name] !== "string" && "short" } : { scope: "row" }, name in row ? cell(row[name], name) : ""));
    if (some) cells.splice(1, 0, make("td", { class: "actions" }, ...offered[i]));
    return make("tr", {}, ...cells);
  });
  return make("div", { class: "table", tabindex: 0, role: "group", "aria-label": `Table: ${words(title)}` },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines)));
}

function details(value) {
  const pairs = Object.entries(value).flatMap(([name, each]) => [make("dt", {}, labelOf(name)), make("dd", {}, cell(each, name))]);
  return make("dl", {}, ...pairs);
}

function cell(value, name) {
  if (isTable(value)) return table(value, () => [], name);
  if (!isObject(value) || !Object.keys(value).length) return inline(value, name);
  const rows = rowsOf(value);
  return rows ? table(rows, () => [], name) : details(value);
}

/** Return the text of a value that is not an object, formatted by its name. */
function inline(value, name) {
  if (Array.isArray(value)) return value.map((each) => (isObject(each) ? JSON.stringify(each) : inline(each, name))).join(", ") || "none";
  if (isObject(value)) return "none";
  if (typeof value !== "number") return brief(value);
  if (TIME.test(name) && value > EARLIEST && value < LATEST) return `${moment(value)} ${zoneName(value)}`;
  if (BYTES.test(name)) return reading(value, "B").join("");
  if (SECONDS.test(name)) return reading(value, "s").join("");
  if (IDENTIFIER.test(name) && Number.isSafeInteger(value)) return String(value);
  return brief(value);
}

/** Return the label of a name, without the units that follow the value. */
const labelOf = (name) => words(SECONDS.test(name) ? name.replace(SECONDS, "") : name);
