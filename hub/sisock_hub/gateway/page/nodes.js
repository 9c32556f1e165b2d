import { fieldsOf } from "./catalogue.js";
import { now } from "./clock.js";
import { byId, make, say } from "./dom.js";
import { fieldElement, rowsOf, showLast } from "./fields.js";
import { near } from "./near.js";
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

const STATES = { live: "live", online: "online", stale: "stale", gone: "gone" };
const [NODE_PX, FIELD_PX, TEXT_PX] = [92, 48, 36];
const PARTS = ["state", "newest", "about", "reason"];
const TICK_MS = 1000;

/** The list of nodes, one of which may be open and show its fields; or what was searched for. */
export class Nodes {
  /** @type {import("./search.js").Found|null} */
  #found = null;
  /** @type {Map<string, Record<string, Field>|Error>} fields of the nodes that are open */
  #fields = new Map();
  /** @type {Map<string, {target: string, node: string, field: Field}>} the fields in the list, by the keys of their rows */
  #listed = new Map();
  /** @type {Map<string, LastValues>} */
  #asking = new Map();
  /** @type {Map<string, import("./values.js").Last>} */
  #last = new Map();

  /**
   * @param {import("./watch.js").Watch} watch
   * @param {import("./view.js").View} view
   */
  constructor(watch, view) {
    [this.watch, this.view, this.input] = [watch, view, byId("search")];
    /** @type {string|null} the node of the address, until the list has been scrolled to it */
    this.sought = view.node;
    this.rows = new Rows(byId("nodes"), byId("nodes-section"));
    this.rows.addEventListener("placed", () => this.#placed());
    watch.addEventListener("nodes", () => this.#update());
    watch.addEventListener("back", () => this.#refresh());
    view.addEventListener("change", ({ detail }) => {
      if (detail === "node") (this.sought = view.node), this.#refresh();
      if (detail === "plot") this.#mark();
    });
    const search = new Search((found) => {
      this.#found = found;
      this.#update();
    });
    this.input.addEventListener("input", () => search.typed(this.input.value.trim()));
    this.input.addEventListener("keydown", (event) => event.key === "ArrowDown" && this.#walk(event, null, 1));
    byId("nodes").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) this.#walk(event, document.activeElement, step);
    });
    setInterval(() => this.#tellValues(), TICK_MS);
    this.#refresh();
  }

  /** Ask for the fields of the node that is open: it may have got more. */
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
    this.rows.show(this.#found ? this.#hits(this.#found) : this.#all());
    if (this.sought !== null && this.rows.reveal(`node ${this.sought}`)) this.sought = null;
    for (const node of this.watch.nodes) this.#tellNode(node);
    this.#mark();
    const counts = Map.groupBy(this.watch.nodes, (node) => node.state);
    const said = Object.keys(STATES).filter((state) => counts.has(state)).map((state) => `${counts.get(state).length} ${state}`);
    say(byId("summary"), said.join(", "));
    this.#tellNoNode();
    if (this.view.node !== null && !this.#fields.has(this.view.node) && this.watch.find(this.view.node)) this.#askOnce(this.view.node);
  }

  /** Ask for fields that nobody has asked for yet: the node was not known when the page was opened. */
  #askOnce(name) {
    if (this.asked === name) return;
    this.asked = name;
    this.#refresh().finally(() => (this.asked = null));
  }

  /** @returns {Row[]} */
  #all() {
    const hasLeft = ({ state }) => Number(state === "gone");
    const nodes = [...this.watch.nodes].sort((a, b) => hasLeft(a) - hasLeft(b) || a.name.localeCompare(b.name));
    say(byId("found"), this.watch.known && !nodes.length ? "No nodes yet. They appear here as soon as they are added to the hub." : "");
    return nodes.flatMap((node) => [this.#nodeRow(node, node.name === this.view.node), ...this.#within(node.name)]);
  }

  /** Return the rows of what was found: nodes, each with those of its fields that were. @returns {Row[]} */
  #hits({ words, hits, total, warnings }) {
    const fields = Map.groupBy(hits.filter(({ field }) => field), ({ node }) => node);
    const isMeant = ({ name, description }) => words.toLowerCase().split(/\s+/).every((word) => `${name} ${description ?? ""}`.toLowerCase().includes(word));
    // Also those that have left, or do not answer.
    const names = new Set([...hits.map(({ node }) => node), ...this.watch.nodes.filter(isMeant).map(({ name }) => name)]);
    const nodes = [...names].map((name) => this.watch.find(name)).filter(Boolean);
    const rest = total > hits.length ? `The first ${hits.length} of ${total.toLocaleString("en")} matches are shown; add a word to narrow the search.` : "";
    const none = nodes.length ? "" : `No node and no field matches “${words}”.`;
    say(byId("found"), [rest, none, ...warnings.slice(0, 3)].filter(Boolean).join(" "));
    return nodes.flatMap((node) => {
      const own = (fields.get(node.name) ?? []).map(({ field }) => this.#fieldRow(node.name, field));
      return [this.#nodeRow(node, node.name === this.view.node || own.length > 0), ...(own.length ? own : this.#within(node.name))];
    });
  }

  /** Return the rows of the fields of a node, if it is open. @returns {Row[]} */
  #within(name) {
    if (name !== this.view.node) return [];
    const fields = this.#fields.get(name);
    if (fields instanceof Error) return [text(name, fields.message)];
    if (!fields) return [text(name, this.watch.find(name)?.state === "gone" ? "This node has left." : "asking …")];
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

  /** Fill rows that have come into the page, and ask for the values of the fields among them. */
  #placed() {
    for (const node of this.watch.nodes) this.#tellNode(node);
    this.#mark();
    this.#tellValues();
    const nodes = new Set([...this.#listed].filter(([key]) => this.rows.element(key)).map(([, { node }]) => node));
    for (const node of nodes) if (!this.#asking.has(node)) this.#asking.set(node, this.#valuesOf(node));
    for (const [node, values] of this.#asking) if (!nodes.has(node)) (values.stop(), this.#asking.delete(node));
  }

  #valuesOf(node) {
    const inSight = () => [...this.#listed].filter(([key, each]) => each.node === node && this.rows.element(key)).map(([, { field }]) => field);
    return new LastValues(node, inSight, (name, last) => {
      const target = node + SEPARATOR + name;
      this.#last.set(target, last);
      const element = this.rows.element(`field ${target}`);
      if (element) showLast(element, last);
    });
  }

  #tellValues() {
    for (const [key, { target }] of this.#listed) {
      const [element, last] = [this.rows.element(key), this.#last.get(target)];
      if (element && last) showLast(element, last);
    }
    for (const target of this.#last.keys()) if (!this.#listed.has(`field ${target}`)) this.#last.delete(target);
  }

  /** Show which fields are plotted, and which nodes are open. */
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
  #tellNode(node) {
    const element = this.rows.element(`node ${node.name}`);
    if (!element) return;
    element.dataset.state = node.state;
    const [state, newest, about, reason] = PARTS.map((name) => element.querySelector(`.${name}`));
    say(state, `${STATES[node.state]} for ${span(Math.max(0, now() - node.since))}`);
    state.title = `since ${moment(node.since)} ${zoneName(node.since)}`;
    say(newest, node.newest === null ? "" : `newest ${age(node)}`);
    if (node.newest !== null) newest.title = `${moment(node.newest)} ${zoneName(node.newest)}`;
    say(about, node.description ?? "");
    const ill = ["live", "online"].includes(node.state) && node.health && node.health.state !== "ok" ? node.health : null;
    const why = node.reason ?? (ill ? [ill.state, ill.error].filter(Boolean).join(": ") : "");
    say(reason, why);
    reason.hidden = !why;
  }

  /** Explain an address that names a node which does not exist. */
  #tellNoNode() {
    const [name, place] = [this.view.node, byId("no-node")];
    const unknown = name !== null && this.watch.known && !this.watch.find(name);
    place.hidden = !unknown;
    if (!unknown) return;
    const names = near(name, this.watch.nodes.map((node) => node.name));
    const said = [name, ...names].join("\n");
    if (place.dataset.said === said) return;
    place.dataset.said = said;
    const instead = names.flatMap((each) => [make("button", { type: "button", onclick: () => this.view.open(each) }, each), " "]);
    place.replaceChildren(`There is no node ${name} at this site. `, ...(names.length ? ["Did you mean ", ...instead, "? "] : []), "All nodes are listed below.");
  }

  /** Let the arrows go from one row to the next, and from the first to the search. */
  #walk(event, from, step) {
    event.preventDefault();
    if (!this.rows.step(from, step) && step < 0) this.input.focus();
  }
}

function expanded(element, open) {
  element.firstElementChild.setAttribute("aria-expanded", String(open));
  return element;
}

function nodeElement(name, onclick) {
  const parts = [make("span", { class: "name" }, name), ...PARTS.map((each) => make("span", { class: each }))];
  return make("li", { "data-node": name }, make("button", { type: "button", class: "node", onclick }, make("span", { class: "dot", "aria-hidden": "true" }), ...parts));
}

/** @returns {Row} */
const text = (node, said) => ({ key: `text ${node}`, version: said, height: TEXT_PX, make: () => make("li", { class: "within quiet" }, make("p", {}, said)), isButton: false });
