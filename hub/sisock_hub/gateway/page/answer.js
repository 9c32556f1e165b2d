import { make } from "./dom.js";
import { brief, words } from "./text.js";

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/**
 * Return what a node answered so that it can be read.
 * @param {any} value
 * @param {(row: Record<string, any>) => HTMLElement[]} [actions] what can be done with a row of a table
 * @returns {HTMLElement}
 */
export function shownAnswer(value, actions = () => []) {
  if (Array.isArray(value) && value.length && value.every(isObject)) return table(value, actions);
  if (Array.isArray(value) && !value.length) return make("p", { class: "quiet" }, "The list is empty.");
  if (isObject(value) && Object.keys(value).length) return details(value);
  if (value === null || value === true) return make("p", {}, "Done.");
  return make("p", {}, inline(value));
}

function table(rows, actions) {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  const offered = rows.map(actions);
  const some = offered.some((each) => each.length);
  const head = columns.map((name) => make("th", { scope: "col" }, words(name)));
  if (some) head.splice(1, 0, make("th", { scope: "col" }, make("span", { class: "unseen" }, "what can be done")));
  const lines = rows.map((row, i) => {
    const cells = columns.map((name) => make("td", {}, name in row ? cell(row[name]) : ""));
    if (some) cells.splice(1, 0, make("td", { class: "actions" }, ...offered[i]));
    return make("tr", {}, ...cells);
  });
  return make("div", { class: "table", tabindex: 0, role: "region", "aria-label": "Answer" },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines)));
}

function details(value) {
  const pairs = Object.entries(value).flatMap(([name, each]) => [make("dt", {}, words(name)), make("dd", {}, cell(each))]);
  return make("dl", {}, ...pairs);
}

function cell(value) {
  if (Array.isArray(value) && value.length && value.every(isObject)) return table(value, () => []);
  return isObject(value) && Object.keys(value).length ? details(value) : inline(value);
}

function inline(value) {
  if (Array.isArray(value)) return value.map(inline).join(", ") || "none";
  return isObject(value) ? "none" : brief(value);
}
