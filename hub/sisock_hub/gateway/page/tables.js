import { get, ofNode } from "./api.js";
import { make } from "./dom.js";
import { showError } from "./form.js";
import { TableView } from "./table.js";

/** The tables of a node, of which one is open; they are requested when a person opens the list. */
export class Tables {
  /** @type {TableView|null} */
  #open = null;
  #newest = 0;

  /** @param {string} node */
  constructor(node) {
    this.node = node;
    this.choice = make("select", { class: "choice", "aria-label": "Table", onchange: () => this.#show() });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.holder = make("div");
    this.element = make("details", { class: "status" }, make("summary", {}, "Tables"), make("div", {}, this.error, this.choice, this.holder));
    this.element.addEventListener("toggle", () => (this.element.open ? this.load() : this.close()));
  }

  /** Request the tables again, if the list is open, and show the one that was open. */
  async load() {
    if (!this.element.open) return;
    const [request, chosen] = [++this.#newest, this.choice.value];
    try {
      const listed = await get(ofNode(this.node, "tables"));
      if (request !== this.#newest) return;
      this.listed = listed;
      this.choice.replaceChildren(...listed.map(({ name }) => make("option", { value: name, selected: name === chosen }, name)));
      showError(this.error, listed.length ? "" : "This node keeps no tables.");
      this.choice.hidden = !listed.length;
      this.#show();
    } catch (error) {
      if (request === this.#newest) showError(this.error, error.message);
    }
  }

  /** Request nothing more. */
  close() {
    this.#newest++;
    this.#open?.close();
    this.#open = null;
  }

  #show() {
    this.#open?.close();
    const table = this.listed.find(({ name }) => name === this.choice.value);
    this.#open = table ? new TableView(this.node, table) : null;
    this.holder.replaceChildren(...(this.#open ? [this.#open.element] : []));
  }
}
