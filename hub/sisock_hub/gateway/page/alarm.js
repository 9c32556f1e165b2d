import { confirmation } from "./confirm.js";
import { make, setText } from "./dom.js";
import { showError } from "./form.js";
import { moment } from "./text.js";
import { unitsSuffix } from "./units.js";
import { zoneName } from "./zone.js";

/** @typedef {import("./alarms.js").Alarm} Alarm */

const SHELVES = [[900, "15 min"], [3600, "1 h"], [28800, "8 h"], [86400, "1 d"], [604800, "7 d"]];
// The actions of operators, and whether a state allows them.
const ACTIONS = {
  acknowledge: ({ state }) => ["unacknowledged", "returned"].includes(state),
  reset: ({ state, latched, active }) => state === "acknowledged" && latched && !active,
  shelve: ({ state }) => state !== "suppressed",
  unshelve: ({ state }) => ["shelved", "suppressed"].includes(state),
  suppress: ({ state }) => state !== "suppressed",
  delete: ({ origin }) => origin === "command",
};
const WITH_END = ["shelve", "suppress"];

/** The element of an alarm, with forms for the actions of operators. */
export class AlarmElement {
  /**
   * @param {string} node
   * @param {Alarm} alarm
   * @param {import("./alarms.js").Alarms} alarms
   * @param {boolean} isOperator
   */
  constructor(node, alarm, alarms, isOperator) {
    [this.node, this.alarm, this.alarms] = [node, alarm, alarms];
    const part = (name) => make("span", { class: name });
    [this.severity, this.state, this.about] = ["severity", "state", "quiet"].map(part);
    [this.text, this.comment, this.fault] = [make("p", { class: "text" }), make("p", { class: "quiet" }), make("p", { class: "notice", hidden: true })];
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.buttons = isOperator ? Object.fromEntries(Object.keys(ACTIONS).map((action) => [action, this.#button(action)])) : {};
    this.form = make("div");
    this.element = make("li", { class: "alarm", "data-alarm": `${node} ${alarm.name}` },
      make("div", { class: "head" }, this.severity, make("strong", {}, make("span", { class: "quiet" }, `${node} `), alarm.name), this.state, this.about),
      this.text, this.comment, this.fault, make("div", { class: "buttons" }, ...Object.values(this.buttons)), this.form, this.error);
    this.update(alarm);
  }

  /** Show a newer description. @param {Alarm} alarm */
  update(alarm) {
    this.alarm = alarm;
    const { severity, state, field, condition, since, until, by, comment, error, active } = alarm;
    [this.element.dataset.severity, this.element.dataset.state] = [severity, state];
    setText(this.severity, severity);
    const holds = ["shelved", "suppressed"].includes(state) ? `, ${active ? "active" : "not active"}` : "";
    setText(this.state, `${state}${until === null ? "" : ` until ${moment(until)} ${zoneName(until)}`}${holds}`);
    const limit = ["above", "below"].some((side) => condition.startsWith(side)) ? unitsSuffix(alarm.units) : "";
    setText(this.about, `${field} ${condition}${limit}, since ${moment(since)} ${zoneName(since)}`);
    setText(this.text, state === "normal" ? "" : alarm.text);
    setText(this.comment, [by && `by ${by}`, comment].filter(Boolean).join(": "));
    showError(this.fault, error ? `This alarm is not evaluated: ${error}` : "");
    for (const [action, button] of Object.entries(this.buttons)) button.hidden = !ACTIONS[action](alarm);
  }

  #button(action) {
    const title = action[0].toUpperCase() + action.slice(1);
    const button = make("button", { type: "button", "aria-label": `${title} ${this.alarm.name} of ${this.node}` }, title);
    const isConfirmed = confirmation(button, action === "delete");
    button.addEventListener("click", () => action === "delete" ? isConfirmed() && this.#delete() : this.#ask(action, title));
    return button;
  }

  async #delete() {
    showError(this.error, "");
    await this.alarms.act(this.node, "delete_alarm", { name: this.alarm.name }).catch(({ message }) => showError(this.error, message));
  }

  /** Show the form of an action. */
  #ask(action, title) {
    const comment = make("input", { name: "comment", maxlength: 1000, autocomplete: "off" });
    const length = WITH_END.includes(action) ? make("select", { name: "for" }, ...SHELVES.map(([seconds, text]) => make("option", { value: seconds }, text))) : null;
    const send = make("button", { class: "primary" }, title);
    const cancel = make("button", { type: "button", onclick: () => this.#close(action) }, "Back");
    const form = make("form", { class: "act" }, length && make("label", {}, "For ", length), make("label", { class: "grow" }, "Comment ", comment), send, cancel);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      showError(this.error, "");
      send.disabled = true;
      try {
        const args = { name: this.alarm.name, ...(comment.value && { comment: comment.value }), ...(length && { for: Number(length.value) }) };
        await this.alarms.act(this.node, `${action}_alarm`, args);
        this.#close(action);
      } catch (failure) {
        showError(this.error, failure.message);
        send.disabled = false;
      }
    });
    form.addEventListener("keydown", ({ key }) => key === "Escape" && this.#close(action));
    this.form.replaceChildren(form);
    (length ?? comment).focus();
  }

  #close(action) {
    this.form.replaceChildren();
    const button = [this.buttons[action], ...Object.values(this.buttons)].find(({ hidden }) => !hidden);
    button?.focus();
  }
}
