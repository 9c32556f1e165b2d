import { fieldsOf } from "./catalogue.js";
import { now } from "./clock.js";
import { byId, make, setText } from "./dom.js";
import { fieldElement, rowsOf, showLast } from "./fields.js";
import { similarNames } from "./near.js";
import { Rows } from "./rows.js";
import { Search } from "./search.js";
import { age, moment, span } from "./text.js";
import { LastValues } from "./values.js";
import { SEPARATOR } from "./view.js";
import { zoneName } from "./zone.js";

/**
 * @typedef {import("./watch.js").NodeInfo} NodeInfo
 * @typedef {import("./catalogue.js").Field} Field
 * @typedef {import("./rows.js").Row} Row
 */

const STATES = ["live", "online", "stale", "gone"];
const [NODE_PX, FIELD_PX, TEXT_PX] = [92, 48, 36];
const LINES = ["state", "newest", "about", "reason"];
const TICK_MS = 1000;

/** The list of nodes, of which one may be open and show its fields, or the matches of a search. */
export class Nodes {
  /** @type {import("./search.js").Found|null} */
  #found = null;
  /** @type {Map<string, Record<string, Field>|Error>} fields of the open node, or the error of its request */
  #fields = new Map();
  /** @type {Map<string, {target: string, node: string, field: Field}>} the fields in the list, by the keys of their rows */
  #listed = new Map();
  /** @type {Map<string, LastValues>} */
  #lastValues = new Map();
  /** @type {Map<string, import("./values.js").Last>} */
  #last = new Map();

  /**
   * @param {import("./watch.js").Watch} watch
   * @param {import("./view.js").View} view
   */
  constructor(watch, view) {
    [this.watch, this.view, this.input] = [watch, view, byId("search")];
    /** @type {string|null} the node of the address, until the list is scrolled to it */
    this.scrollTarget = view.node;
    this.rows = new Rows(byId("nodes"), byId("nodes-section"));
    this.rows.addEventListener("placed", () => this.#placed());
    watch.addEventListener("nodes", () => this.#update());
    watch.addEventListener("recovered", () => this.#refresh());
    view.addEventListener("change", ({ detail }) => {
      if (detail === "node") (this.scrollTarget = view.node), this.#refresh();
      if (detail === "plot") this.#mark();
    });
    const search = new Search((found) => {
      this.#found = found;
      this.#update();
    });
    this.input.addEventListener("input", () => search.typed(this.input.value.trim()));
    this.input.addEventListener("keydown", (event) => event.key === "ArrowDown" && this.#moveFocus(event, null, 1));
    byId("nodes").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.#moveFocus(event, document.activeElement, step);
    });
    setInterval(() => this.#showValues(), TICK_MS);
    this.#refresh();
  }

  /** Request the fields of the open node: it may have more than before. */
  async #refresh() {
    const name = this.view.node;
    for (const each of this.#fields.keys()) if (each !== name) this.#fields.delete(each);
    this.#update();
    if (name === null || this.watch.find(name)?.state === "gone") return;
    const answer = await fieldsOf(name).catch((error) => error);
    if (this.view.node !== name || (answer instanceof Error && this.#fields.has(name))) return;
    this.#fields.set(name, answer);
    this.#update();
  }

  #update() {
    this.#listed.clear();
    this.rows.show(this.#found ? this.#hitRows(this.#found) : this.#allRows());
    if (this.scrollTarget !== null && this.rows.reveal(`node ${this.scrollTarget}`)) this.scrollTarget = null;
    for (const node of this.watch.nodes) this.#showNode(node);
    this.#mark();
    const counts = Map.groupBy(this.watch.nodes, (node) => node.state);
    const texts = STATES.filter((state) => counts.has(state)).map((state) => `${counts.get(state).length} ${state}`);
    setText(byId("summary"), texts.join(", "));
    this.#explainUnknownNode();
    if (this.view.node !== null && !this.#fields.has(this.view.node) && this.watch.find(this.view.node)) this.#refreshOnce(this.view.node);
  }

  /** Request the fields of a node that was not known when the page was opened. */
  #refreshOnce(name) {
    if (this.refreshing === name) return;
    this.refreshing = name;
    this.#refresh().finally(() => (this.refreshing = null));
  }

  /** @returns {Row[]} */
  #allRows() {
    const hasLeft = ({ state }) => Number(state === "gone");
    const nodes = [...this.watch.nodes].sort((a, b) => hasLeft(a) - hasLeft(b) || a.name.localeCompare(b.name));
    setText(byId("found"), this.watch.known && !nodes.length ? "No nodes yet. Nodes appear here once they are registered with the hub." : "");
    return nodes.flatMap((node) => [this.#nodeRow(node, node.name === this.view.node), ...this.#fieldRows(node.name)]);
  }

  /** Return the rows of the matches: nodes, each with its matching fields. @returns {Row[]} */
  #hitRows({ words, hits, total, warnings }) {
    const fields = Map.groupBy(hits.filter(({ field }) => field), ({ node }) => node);
    const matches = ({ name, description }) => words.toLowerCase().split(/\s+/).every((word) => `${name} ${description ?? ""}`.toLowerCase().includes(word));
    // Nodes that have left or do not answer are not among the hits.
    const names = new Set([...hits.map(({ node }) => node), ...this.watch.nodes.filter(matches).map(({ name }) => name)]);
    const nodes = [...names].map((name) => this.watch.find(name)).filter(Boolean);
    const rest = total > hits.length ? `The first ${hits.length} of ${total.toLocaleString("en")} matches are shown; add a word to narrow the search.` : "";
    const none = nodes.length ? "" : `No node or field matches “${words}”.`;
    setText(byId("found"), [rest, none, ...warnings.slice(0, 3)].filter(Boolean).join(" "));
    return nodes.flatMap((node) => {
      const own = (fields.get(node.name) ?? []).map(({ field }) => this.#fieldRow(node.name, field));
      return [this.#nodeRow(node, node.name === this.view.node || own.length > 0), ...(own.length ? own : this.#fieldRows(node.name))];
    });
  }

  /** Return the rows of the fields of a node if it is open. @returns {Row[]} */
  #fieldRows(name) {
    if (name !== this.view.node) return [];
    const fields = this.#fields.get(name);
    if (fields instanceof Error) return [text(name, fields.message)];
    if (!fields) return [text(name, this.watch.find(name)?.state === "gone" ? "This node has left." : "Loading fields …")];
    const rows = rowsOf(name, fields, (node, field) => this.#fieldRow(node, field));
    return rows.length ? rows : [text(name, "No field has a sample yet.")];
  }

  /** @param {NodeInfo} node @param {boolean} open @returns {Row} */
  #nodeRow({ name }, open) {
    const make = () => expanded(nodeElement(name, () => this.view.open(this.view.node === name ? null : name)), open);
    return { key: `node ${name}`, version: "", height: NODE_PX, make, isButton: true };
  }

  /** @param {string} node @param {Field} field @returns {Row} */
  #fieldRow(node, field) {
    const target = node + SEPARATOR + field.name;
    const key = `field ${target}`;
    this.#listed.set(key, { target, node, field });
    const make = () => fieldElement(node, field, () => this.view.toggle(target));
    const version = [field.units, field.description].join("\n");
    return { key, version, height: FIELD_PX, make, isButton: true };
  }

  /** Fill the rows that are now in the page, and request the values of their fields. */
  #placed() {
    for (const node of this.watch.nodes) this.#showNode(node);
    this.#mark();
    this.#showValues();
    const nodes = new Set([...this.#listed].filter(([key]) => this.rows.element(key)).map(([, { node }]) => node));
    for (const node of nodes) if (!this.#lastValues.has(node)) this.#lastValues.set(node, this.#valuesOf(node));
    for (const [node, values] of this.#lastValues) if (!nodes.has(node)) (values.stop(), this.#lastValues.delete(node));
  }

  #valuesOf(node) {
    const visible = () => [...this.#listed].filter(([key, each]) => each.node === node && this.rows.element(key)).map(([, { field }]) => field);
    return new LastValues(node, visible, (name, last) => {
      const target = node + SEPARATOR + name;
      this.#last.set(target, last);
      const element = this.rows.element(`field ${target}`);
      if (element) showLast(element, last);
    });
  }

  #showValues() {
    for (const [key, { target }] of this.#listed) {
      const [element, last] = [this.rows.element(key), this.#last.get(target)];
      if (element && last) showLast(element, last);
    }
    for (const target of this.#last.keys()) if (!this.#listed.has(`field ${target}`)) this.#last.delete(target);
  }

  /** Mark the plotted fields and the open nodes. */
  #mark() {
    for (const [key, { target }] of this.#listed) {
      this.rows.element(key)?.firstElementChild.setAttribute("aria-pressed", String(this.view.plotted.includes(target)));
    }
    const withFields = new Set([...this.#listed.values()].map(({ node }) => node));
    for (const { name } of this.watch.nodes) {
      const element = this.rows.element(`node ${name}`);
      if (element) expanded(element, name === this.view.node || withFields.has(name));
    }
  }

  /** @param {NodeInfo} node */
  #showNode(node) {
    const element = this.rows.element(`node ${node.name}`);
    if (!element) return;
    element.dataset.state = node.state;
    const [state, newest, about, reason] = LINES.map((name) => element.querySelector(`.${name}`));
    setText(state, `${node.state} for ${span(Math.max(0, now() - node.since))}`);
    state.title = `since ${moment(node.since)} ${zoneName(node.since)}`;
    setText(newest, node.newest === null ? "" : `newest ${age(node)}`);
    if (node.newest !== null) newest.title = `${moment(node.newest)} ${zoneName(node.newest)}`;
    setText(about, node.description ?? "");
    const unhealthy = ["live", "online"].includes(node.state) && node.health && node.health.state !== "ok" ? node.health : null;
    const cause = node.reason ?? (unhealthy ? [unhealthy.state, unhealthy.error].filter(Boolean).join(": ") : "");
    setText(reason, cause);
    reason.hidden = !cause;
  }

  /** Explain an address that names a node which does not exist. */
  #explainUnknownNode() {
    const [name, place] = [this.view.node, byId("no-node")];
    const unknown = name !== null && this.watch.known && !this.watch.find(name);
    place.hidden = !unknown;
    if (!unknown) return;
    const names = similarNames(name, this.watch.nodes.map((node) => node.name));
    const shown = [name, ...names].join("\n");
    if (place.dataset.shown === shown) return;
    place.dataset.shown = shown;
    const instead = names.flatMap((each) => [make("button", { type: "button", onclick: () => this.view.open(each) }, each), " "]);
    place.replaceChildren(`There is no node ${name} at this site. `, ...(names.length ? ["Did you mean ", ...instead, "? "] : []), "All nodes are listed below.");
  }

  /** Move the focus from one row to the next, and from the first to the search box. */
  #moveFocus(event, from, step) {
    event.preventDefault();
    if (!this.rows.step(from, step) && step < 0) this.input.focus();
  }
}

function expanded(element, open) {
  element.firstElementChild.setAttribute("aria-expanded", String(open));
  return element;
}

function nodeElement(name, onclick) {
  const parts = [make("span", { class: "name" }, name), ...LINES.map((each) => make("span", { class: each }))];
  return make("li", { "data-node": name }, make("button", { type: "button", class: "node", onclick }, make("span", { class: "dot", "aria-hidden": "true" }), ...parts));
}

/** @returns {Row} */
const text = (node, shown) => ({ key: `text ${node}`, version: shown, height: TEXT_PX, make: () => make("li", { class: "within quiet" }, make("p", {}, shown)), isButton: false });
