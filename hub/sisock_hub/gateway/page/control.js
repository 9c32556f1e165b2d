import { get, ofNode } from "./api.js";
import { shownAnswer } from "./answer.js";
import { byId, make } from "./dom.js";
import { showError } from "./form.js";
import { Procedures } from "./procedures.js";
import { Runs } from "./runs.js";
import { Tables } from "./tables.js";

/** The open node: its status, the runs of its operations, and its procedures. */
export class Control {
  /** @type {NodePanel|null} */
  #panel = null;

  /**
   * @param {import("./view.js").View} view
   * @param {import("./watch.js").Watch} watch
   * @param {import("./live.js").Live} live
   * @param {() => {user: string|null, operator: boolean}} principal
   */
  constructor(view, watch, live, principal) {
    [this.view, this.watch, this.live, this.principal, this.section] = [view, watch, live, principal, byId("control-section")];
    view.addEventListener("change", ({ detail }) => detail === "node" && this.#show());
    watch.addEventListener("nodes", () => this.#show());
  }

  /** Show the open node. */
  #show() {
    const name = this.view.node;
    const node = name === null ? undefined : this.watch.find(name);
    this.section.hidden = !node;
    if (this.#panel && this.#panel.name !== node?.name) {
      this.#panel.close();
      this.#panel = null;
      this.section.replaceChildren();
    }
    if (!node) return;
    if (!this.#panel) {
      this.#panel = new NodePanel(node, this.live, this.principal());
      this.section.replaceChildren(...this.#panel.elements);
    }
    this.#panel.show(node);
  }
}

/** One node. */
class NodePanel {
  #offers = "";
  #work = "";

  /**
   * @param {import("./watch.js").NodeInfo} node
   * @param {import("./live.js").Live} live
   * @param {{user: string|null, operator: boolean}} principal
   */
  constructor({ name, description }, live, principal) {
    [this.name, this.principal] = [name, principal];
    this.runs = new Runs(name, live, principal.operator);
    this.procedures = new Procedures(name, (run) => this.runs.started(run));
    this.tables = new Tables(name);
    this.reason = make("p", { class: "notice", hidden: true });
    this.elements = [make("h2", {}, name), make("p", { class: "quiet" }, description), statusOf(name), this.tables.element, this.runs.element, this.reason, this.procedures.element];
  }

  /** Show whether the node is available, its newest runs, and its procedures if they have changed. @param {import("./watch.js").NodeInfo} node */
  show({ state, work }) {
    const offers = state === "gone" ? "gone" : `${work?.started} ${work?.revision}`;
    if (offers !== this.#offers) this.#load(offers);
    const runs = JSON.stringify(work);
    if (work && runs !== this.#work && state !== "gone") this.runs.refresh();
    [this.#offers, this.#work] = [offers, runs];
  }

  /** Request nothing more. */
  close() {
    this.#offers = "";
    this.runs.close();
    this.tables.close();
  }

  async #load(offers) {
    if (offers !== "gone" && this.#offers !== "") this.tables.load(); // it has started again, or offers something else
    if (offers === "gone") return this.#disable(true, "This node has left.");
    const listed = await get(ofNode(this.name, "procedures")).catch(() => []);
    if (offers !== this.#offers) return undefined;
    const { user, operator } = this.principal;
    const procedures = operator ? listed : listed.filter(({ kind }) => kind === "query");
    this.procedures.show(procedures);
    if (procedures.length === listed.length) return this.#disable(false, "");
    return this.#disable(false, user === null
      ? "Commands and operations are not available: the site file does not set operator: true for this gateway."
      : `Commands and operations are not available: ${user} is not an operator.`);
  }

  /** Disable all forms and buttons, or enable them, and show the reason. */
  #disable(isDisabled, why) {
    for (const element of [this.procedures.element, this.runs.element]) {
      for (const each of element.querySelectorAll("fieldset.guard, button")) each.disabled = isDisabled;
    }
    showError(this.reason, why);
  }
}

function statusOf(node) {
  const holder = make("div");
  const element = make("details", { class: "status" }, make("summary", {}, "Health and counters"), holder);
  element.addEventListener("toggle", async () => {
    if (!element.open) return;
    const status = await get(ofNode(node, "status")).catch((error) => ({ error: error.message }));
    holder.replaceChildren(shownAnswer(status));
  });
  return element;
}
