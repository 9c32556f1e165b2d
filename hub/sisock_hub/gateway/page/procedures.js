import { ofNode, post } from "./api.js";
import { shownAnswer } from "./answer.js";
import { forget } from "./catalogue.js";
import { confirmation } from "./confirm.js";
import { arrange, make, setText } from "./dom.js";
import { inputs, openAroundInvalid, showError } from "./form.js";
import { words } from "./text.js";

/**
 * A procedure of a node; all procedures of a node of an older version are commands, and `destructive` is null.
 * @typedef {{name: string, kind: "query"|"command"|"operation", destructive: boolean|null, description: string|null,
 *   parameters: import("./schema.js").Schema}} Procedure
 *
 * Where an answer and an error are shown; `isMain` below the buttons, where a table has buttons in its rows.
 * @typedef {{output: HTMLElement, error: HTMLElement, isMain: boolean, ofRow?: HTMLElement}} Place
 */

const KINDS = [["operation", "operations", "Operations"], ["command", "commands", "Commands"], ["query", "queries", "Queries"]];
const RESOURCES = Object.fromEntries(KINDS);
const isQuery = ({ kind }) => kind === "query";
const isBare = ({ parameters }) => !Object.keys(parameters.properties ?? {}).length;
// The effect of a command of an older version is not known.
const needsConfirmation = (procedure) => !isQuery(procedure) && (procedure.destructive ?? true);

/**
 * The procedures of a node by kind: queries show their results, commands that destroy something ask for confirmation, and
 * operations start a run. Those without parameters are buttons, the others forms.
 */
export class Procedures {
  element = make("div", { class: "kinds" });
  /** @type {Procedure[]} */
  #procedures = [];
  /** Requests the table on the page again: a command may have changed it. @type {(() => void)|null} */
  #repeat = null;
  /** @type {Map<string, {element: HTMLElement, buttons: HTMLElement, forms: HTMLElement, place: Place}>} */
  #groups = new Map();
  /** @type {Map<string, HTMLElement>} buttons and forms, by the descriptions of their procedures */
  #made = new Map();

  /**
   * @param {string} node
   * @param {(run: import("./run.js").Run) => void} onRun called with each run that was started
   */
  constructor(node, onRun) {
    [this.node, this.onRun] = [node, onRun];
  }

  /** Show procedures; those that are shown already keep what was typed into their forms. @param {Procedure[]} procedures */
  show(procedures) {
    this.#procedures = procedures;
    const made = new Map(procedures.map((each) => [JSON.stringify(each), each]));
    for (const key of this.#made.keys()) if (!made.has(key)) this.#made.delete(key);
    const ofKind = Map.groupBy(procedures, ({ kind }) => kind);
    const kinds = KINDS.filter(([kind]) => ofKind.has(kind));
    arrange(this.element, kinds.map(([kind, , title]) => this.#group(title, ofKind.get(kind))));
  }

  /** Return the element of the procedures of one kind. */
  #group(title, procedures) {
    if (!this.#groups.has(title)) this.#groups.set(title, newGroup(title));
    const { element, buttons, forms, place } = this.#groups.get(title);
    arrange(buttons, procedures.filter(isBare).map((each) => this.#once(each, () => this.#bare(each, place))));
    arrange(forms, procedures.filter((each) => !isBare(each)).map((each) => this.#once(each, () => this.#form(each))));
    return element;
  }

  /** Return the element of a procedure, which is made when it is described in this way for the first time. */
  #once(procedure, make) {
    const key = JSON.stringify(procedure);
    if (!this.#made.has(key)) this.#made.set(key, make());
    return this.#made.get(key);
  }

  /** Return the button of a procedure without parameters, beside its description. */
  #bare(procedure, place) {
    return make("p", {}, this.#button(procedure, () => ({}), place), make("span", { class: "quiet" }, procedure.description ?? ""));
  }

  /** Return a button that calls a procedure. */
  #button(procedure, args, place) {
    const button = make("button", { type: "button", title: procedure.description }, words(procedure.name));
    const isConfirmed = confirmation(button, needsConfirmation(procedure));
    button.addEventListener("click", () => isConfirmed() && this.#call(procedure, args(), place, button));
    return button;
  }

  #form(procedure) {
    const { parameters } = procedure;
    const made = inputs(parameters, parameters.$defs ?? {});
    const place = newPlace(false);
    const send = make("button", { class: "primary" }, words(procedure.name));
    const isConfirmed = confirmation(send, needsConfirmation(procedure));
    const form = make("form", { "data-procedure": procedure.name }, make("fieldset", { class: "guard" }, make("legend", { class: "unseen" }, words(procedure.name)), made.element, send), place.error, place.output);
    openAroundInvalid(form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (isConfirmed()) this.#call(procedure, made.value(), place, send);
    });
    return make("details", { class: "procedure" },
      make("summary", {}, make("strong", {}, words(procedure.name)), make("span", { class: "quiet" }, procedure.description ?? "")), form);
  }

  /** Call a procedure and show its answer or its error. */
  async #call(procedure, args, place, button) {
    if (button.ariaBusy === "true") return; // a double click is one call
    button.setAttribute("aria-busy", "true");
    showError(place.error, "");
    try {
      const answer = await post(ofNode(this.node, `${RESOURCES[procedure.kind]}/${encodeURIComponent(procedure.name)}`), args);
      if (procedure.kind === "operation") this.onRun(answer);
      else this.#show(answer, procedure, place, () => this.#call(procedure, args, place, button));
    } catch (failure) {
      showError(place.error, failure.message);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  #show(answer, procedure, place, again) {
    if (Array.isArray(answer) && place.isMain) this.#repeat = isQuery(procedure) ? again : null;
    place.output.replaceChildren(shownAnswer(answer, (row) => this.#actions(row, procedure, place)));
    if (isQuery(procedure)) return;
    forget(this.node);
    this.#repeat?.();
  }

  /** Return buttons for the procedures whose parameters are all required and all columns of a row. */
  #actions(row, source, place) {
    const fitting = this.#procedures.filter(({ name, parameters }) => {
      const names = Object.keys(parameters.properties ?? {});
      const needed = parameters.required ?? [];
      return name !== source.name && names.length > 0 && needed.length === names.length && names.every((each) => each in row);
    });
    return fitting.map((procedure) => {
      const args = () => Object.fromEntries(Object.keys(procedure.parameters.properties).map((each) => [each, row[each]]));
      const output = isQuery(procedure) ? belowTable(place) : make("div");
      const button = this.#button(procedure, args, { output, error: place.error, isMain: false });
      button.setAttribute("aria-label", `${words(procedure.name)} ${Object.values(args()).join(" ")}`);
      setText(button, shortened(words(procedure.name), words(source.name)));
      return button;
    });
  }
}

/** @param {boolean} isMain @returns {Place} */
const newPlace = (isMain) => ({
  output: make("div", { class: "answer", role: "status" }), error: make("p", { class: "error", role: "alert", hidden: true }), isMain,
});

function newGroup(title) {
  const [buttons, forms, place] = [make("div", { class: "buttons described" }), make("div", { class: "procedures" }), newPlace(true)];
  return { element: make("section", { class: "procedures" }, make("h3", {}, title), buttons, place.error, place.output, forms), buttons, forms, place };
}

/** Return the element below a table that shows answers to queries of a row. @param {Place} place */
function belowTable(place) {
  place.ofRow ??= make("div", { class: "answer" });
  if (!place.ofRow.isConnected) place.output.after(place.ofRow);
  return place.ofRow;
}

/** Return the first word of a name if the rest names the rows of the table: `start` of `start source`. */
function shortened(name, table) {
  const [verb, ...rest] = name.split(" ");
  const thing = rest.join(" ").replace(/e?s$/, "");
  return thing && table.includes(thing) ? verb : name;
}
