import { get, ofNode, post } from "./api.js";
import { shownAnswer } from "./answer.js";
import { forget } from "./catalogue.js";
import { byId, make, setText } from "./dom.js";
import { inputs, openAroundInvalid, showError } from "./form.js";
import { words } from "./text.js";

/** @typedef {{name: string, description: string|null, parameters: import("./schema.js").Schema}} Procedure */

// A query may be repeated without a click; a destructive command asks for confirmation.
const QUERY = /^(list|read|get|show|describe|status)(_|$)/;
const DESTRUCTIVE = /^(delete|remove|clear|erase|reset|abort|drop|forget)(_|$)/;

/**
 * The status and the procedures of the open node: forms and buttons made from its description of its procedures.
 */
export class Control {
  #node = null;
  #presence = "";

  /**
   * @param {import("./view.js").View} view
   * @param {import("./watch.js").Watch} watch
   * @param {() => {user: string|null, operator: boolean}} principal
   */
  constructor(view, watch, principal) {
    [this.view, this.watch, this.principal, this.section] = [view, watch, principal, byId("control-section")];
    view.addEventListener("change", ({ detail }) => detail === "node" && this.show());
    watch.addEventListener("nodes", () => this.show());
  }

  /** Show the open node. */
  async show() {
    const name = this.view.node;
    const node = name === null ? undefined : this.watch.find(name);
    this.section.hidden = !node;
    if (!node) return this.#forget();
    const state = node.state === "gone" ? "gone" : "present";
    if (name === this.#node && this.#presence === state) return undefined;
    [this.#node, this.#presence] = [name, state];
    if (state === "gone" && this.section.dataset.node === name) return this.#disable("This node has left.");
    return this.#fill(name, node);
  }

  #forget() {
    [this.#node, this.#presence] = [null, ""];
    this.section.replaceChildren();
    delete this.section.dataset.node;
  }

  async #fill(name, node) {
    const procedures = node.state === "gone" ? [] : await get(ofNode(name, "procedures")).catch(() => []);
    if (this.#node !== name) return;
    this.section.dataset.node = name;
    const panel = new Panel(name, procedures);
    this.section.replaceChildren(make("h2", {}, name), make("p", { class: "quiet" }, node.description), statusOf(name), ...panel.elements);
    this.reason = make("p", { class: "notice", hidden: true });
    if (procedures.length) this.section.querySelector(".procedures").before(this.reason);
    const { user, operator } = this.principal();
    if (node.state === "gone") this.#disable("This node has left.");
    else if (!operator) this.#disable(user === null
      ? "Commands are disabled: the site file does not set operator: true for this gateway."
      : `Commands are disabled: ${user} is not an operator.`);
  }

  #disable(why) {
    for (const each of this.section.querySelectorAll("fieldset.guard, .buttons button")) each.disabled = true;
    if (this.reason) showError(this.reason, why);
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

/** The procedures of a node. */
class Panel {
  /** @param {string} node @param {Procedure[]} procedures */
  constructor(node, procedures) {
    [this.node, this.procedures] = [node, procedures];
    const isBare = ({ parameters }) => !Object.keys(parameters.properties ?? {}).length;
    this.output = make("div", { class: "answer", role: "status" });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    const buttons = procedures.filter(isBare).map((each) => this.#button(each, () => ({}), this.output, this.error));
    const forms = procedures.filter((each) => !isBare(each)).map((each) => this.#form(each));
    this.elements = !procedures.length ? [] : [
      make("div", { class: "procedures" }, make("div", { class: "buttons" }, ...buttons), this.error, this.output, ...forms)];
  }

  /** Return a button that calls a procedure; a destructive command asks for confirmation. */
  #button(procedure, args, output, error, then = () => {}) {
    const title = words(procedure.name);
    const button = make("button", { type: "button", title: procedure.description }, title);
    let confirmed = !DESTRUCTIVE.test(procedure.name);
    button.addEventListener("click", () => {
      if (!confirmed) {
        [confirmed, button.textContent] = [true, `Confirm: ${title}`];
        button.classList.add("danger");
        button.addEventListener("blur", () => {
          [confirmed, button.textContent] = [false, title];
          button.classList.remove("danger");
        }, { once: true });
        return;
      }
      this.#call(procedure, args(), output, error, button).then((done) => done && then());
    });
    return button;
  }

  #form(procedure) {
    const { parameters } = procedure;
    const made = inputs(parameters, parameters.$defs ?? {});
    const [output, error] = [make("div", { class: "answer", role: "status" }), make("p", { class: "error", role: "alert", hidden: true })];
    const send = make("button", { class: "primary" }, words(procedure.name));
    const form = make("form", { "data-procedure": procedure.name }, make("fieldset", { class: "guard" }, make("legend", { class: "unseen" }, words(procedure.name)), made.element, send), error, output);
    openAroundInvalid(form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (await this.#call(procedure, made.value(), output, error, send)) this.#refreshTable();
    });
    return make("details", { class: "procedure" },
      make("summary", {}, make("strong", {}, words(procedure.name)), make("span", { class: "quiet" }, procedure.description ?? "")), form);
  }

  /** Call a procedure and show its answer or its error; return whether it succeeded. */
  async #call(procedure, args, output, error, button) {
    button.setAttribute("aria-busy", "true");
    showError(error, "");
    try {
      const answer = await post(ofNode(this.node, `procedures/${encodeURIComponent(procedure.name)}`), args);
      const isTable = Array.isArray(answer);
      if (isTable && output === this.output) this.repeat = QUERY.test(procedure.name) ? () => this.#call(procedure, args, output, error, button) : null;
      output.replaceChildren(shownAnswer(answer, (row) => this.#actions(row, procedure)));
      forget(this.node);
      return true;
    } catch (failure) {
      showError(error, failure.message);
      return false;
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  /** Request the table on the page again: it may have changed. */
  #refreshTable() {
    return this.repeat?.();
  }

  /** Return buttons for the procedures whose parameters are all required and all columns of a row. */
  #actions(row, source) {
    const fitting = this.procedures.filter(({ name, parameters }) => {
      const names = Object.keys(parameters.properties ?? {});
      const needed = parameters.required ?? [];
      return name !== source.name && names.length > 0 && needed.length === names.length && names.every((each) => each in row);
    });
    return fitting.map((procedure) => {
      const args = () => Object.fromEntries(Object.keys(procedure.parameters.properties).map((each) => [each, row[each]]));
      const output = QUERY.test(procedure.name) ? this.#rowAnswer() : make("div");
      const button = this.#button(procedure, args, output, this.error, QUERY.test(procedure.name) ? undefined : () => this.#refreshTable());
      button.setAttribute("aria-label", `${words(procedure.name)} ${Object.values(args()).join(" ")}`);
      setText(button, shortened(words(procedure.name), words(source.name)));
      return button;
    });
  }

  /** Return the element below the table that shows answers to queries of a row. */
  #rowAnswer() {
    this.rowAnswer ??= make("div", { class: "answer" });
    if (!this.rowAnswer.isConnected) this.output.after(this.rowAnswer);
    return this.rowAnswer;
  }
}

/** Return the first word of a name if the rest names the rows of the table: `start` of `start source`. */
function shortened(name, table) {
  const [verb, ...rest] = name.split(" ");
  const thing = rest.join(" ").replace(/e?s$/, "");
  return thing && table.includes(thing) ? verb : name;
}
