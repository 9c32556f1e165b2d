import { fieldsOf } from "./catalogue.js";
import { now } from "./clock.js";
import { byId, make, say } from "./dom.js";
import { Fields, fits } from "./fields.js";
import { age, moment, span } from "./text.js";
import { zoneName } from "./zone.js";

const STATES = { live: "live", online: "online", stale: "stale", gone: "gone" };
const TYPING_MS = 200;

/** The nodes with their states; one of them may be open and show its fields. */
export class Nodes {
  #items = new Map();
  #words = "";
  #timer = 0;

  /**
   * @param {import("./watch.js").Watch} watch
   * @param {import("./view.js").View} view
   */
  constructor(watch, view) {
    [this.watch, this.view] = [watch, view];
    this.list = byId("nodes");
    watch.addEventListener("nodes", () => this.#update());
    watch.addEventListener("back", () => this.#refresh());
    view.addEventListener("change", ({ detail }) => {
      if (detail === "node") this.#update();
      if (detail === "plot") for (const item of this.#items.values()) item.fields?.mark();
    });
    byId("search").addEventListener("input", ({ target }) => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#search(target.value.trim()), TYPING_MS);
    });
    byId("search").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.list.querySelector("li:not([hidden]) button")?.focus();
    });
    this.list.addEventListener("keydown", (event) => this.#walk(event));
  }

  #update() {
    for (const node of this.watch.nodes) {
      if (!this.#items.has(node.name)) this.#add(node);
      this.#tell(this.#items.get(node.name), node);
    }
    const names = new Set(this.watch.nodes.map((node) => node.name));
    for (const [name, item] of this.#items) if (!names.has(name)) this.#remove(name, item);
    this.list.append(...this.#inOrder());
    this.#show();
    const counts = Map.groupBy(this.watch.nodes, (node) => node.state);
    const said = Object.keys(STATES).filter((state) => counts.has(state)).map((state) => `${counts.get(state).length} ${state}`);
    say(byId("summary"), said.join(", "));
    say(byId("no-nodes"), this.#words ? "No node or field with these words." : "No nodes yet. They appear here as soon as they are added to the hub.");
  }

  /** Return the items that are not where they belong, as a whole: moving what has the focus would lose it. */
  #inOrder() {
    const items = [...this.#items].sort(([a], [b]) => a.localeCompare(b)).map(([, item]) => item.element);
    return items.every((element, i) => this.list.children[i] === element) ? [] : items;
  }

  #add({ name }) {
    const parts = {
      dot: make("span", { class: "dot", "aria-hidden": "true" }),
      state: make("span", { class: "state" }),
      newest: make("span", { class: "newest" }),
      about: make("span", { class: "about" }),
      reason: make("span", { class: "reason" }),
    };
    const head = make(
      "button",
      { type: "button", class: "node", "aria-expanded": "false", onclick: () => this.view.open(this.view.node === name ? null : name) },
      parts.dot,
      make("span", { class: "name" }, name),
      parts.state,
      parts.newest,
      parts.about,
      parts.reason,
    );
    this.#items.set(name, { ...parts, name, head, element: make("li", { "data-node": name }, head), fields: null });
  }

  #remove(name, item) {
    item.fields?.stop();
    item.element.remove();
    this.#items.delete(name);
  }

  #tell(item, node) {
    item.element.dataset.state = node.state;
    say(item.state, `${STATES[node.state]} for ${span(Math.max(0, now() - node.since))}`);
    item.state.title = `since ${moment(node.since)} ${zoneName(node.since)}`;
    say(item.newest, node.newest === null ? "" : `newest ${age(node)}`);
    if (node.newest !== null) item.newest.title = `${moment(node.newest)} ${zoneName(node.newest)}`;
    say(item.about, node.description ?? "");
    const ill = ["live", "online"].includes(node.state) && node.health && node.health.state !== "ok" ? node.health : null;
    const reason = node.reason ?? (ill ? [ill.state, ill.error].filter(Boolean).join(": ") : "");
    say(item.reason, reason);
    item.reason.hidden = !reason;
  }

  #show() {
    let some = false;
    for (const [name, item] of this.#items) {
      const found = item.found ?? !this.#words;
      const open = this.view.node === name || Boolean(item.deep);
      item.element.hidden = !found;
      item.head.setAttribute("aria-expanded", String(open && found));
      some ||= found;
      if (open && found) this.#open(item);
      else this.#close(item);
    }
    byId("no-nodes").hidden = some;
  }

  #open(item) {
    if (!item.fields) {
      item.fields = new Fields(item.name, this.view);
      item.element.append(item.fields.element);
    }
    item.fields.filter(item.deep ? this.#words : "");
    if (item.element.dataset.state !== "gone") item.fields.refresh();
  }

  #close(item) {
    item.fields?.stop();
    item.fields?.element.remove();
    item.fields = null;
  }

  #refresh() {
    for (const item of this.#items.values()) item.fields?.refresh();
  }

  async #search(words) {
    this.#words = words;
    for (const item of this.#items.values()) [item.found, item.deep] = [undefined, undefined];
    if (words) {
      await Promise.all([...this.#items.values()].map((item) => this.#look(item, words)));
      if (words !== this.#words) return; // more was typed meanwhile
    }
    this.#update();
  }

  /** Find out whether words mean a node, or some of its fields. */
  async #look(item, words) {
    const node = this.watch.find(item.name);
    item.found = `${item.name} ${node?.description ?? ""}`.toLowerCase().includes(words.toLowerCase());
    if (node?.state === "gone") return;
    const fields = await fieldsOf(item.name).catch(() => ({}));
    item.deep = Object.values(fields).some((field) => fits(field, words));
    item.found ||= item.deep;
  }

  /** Let the arrows go from one button of the list to the next. */
  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...this.list.querySelectorAll("li:not([hidden]) > button")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    (next ?? (step < 0 ? byId("search") : null))?.focus();
    event.preventDefault();
  }
}
