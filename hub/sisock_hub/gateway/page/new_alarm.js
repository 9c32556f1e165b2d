import { SEVERITIES } from "./alarms.js";
import { fieldsOf } from "./catalogue.js";
import { make, setText } from "./dom.js";
import { showError } from "./form.js";

const CONDITIONS = [["above", "is above"], ["below", "is below"], ["equals", "equals"], ["not_equals", "does not equal"], ["stale_after", "has no value for"]];
const WITH_CLEAR = ["above", "below"];

/** The form by which operators define an alarm of the open node. */
export class NewAlarm {
  /** @type {string|null} */
  #node = null;

  /** @param {import("./alarms.js").Alarms} alarms */
  constructor(alarms) {
    this.alarms = alarms;
    const input = (name, attributes) => make("input", { name, autocomplete: "off", spellcheck: "false", ...attributes });
    const option = ([value, text]) => make("option", { value }, text);
    this.name = input("name", { required: true, placeholder: "group/name", maxlength: 200 });
    this.known = make("datalist", { id: "known-fields" });
    this.field = input("field", { required: true, list: this.known.id });
    this.condition = make("select", { name: "condition", onchange: () => this.#adapt() }, ...CONDITIONS.map(option));
    this.limit = input("limit", { required: true });
    this.clear = input("clear", { type: "number", step: "any", placeholder: "at the limit" });
    this.delay = input("for", { placeholder: "0 s" });
    this.severity = make("select", { name: "severity" }, ...SEVERITIES.map((each) => option([each, each])));
    this.severity.value = "warning";
    this.text = input("text", { maxlength: 1000, placeholder: "for operators" });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.send = make("button", { class: "primary" }, "Define");
    const labelled = (text, element) => make("label", {}, `${text} `, element);
    this.clearLabel = labelled("Clear at", this.clear);
    this.form = make("form", { class: "act" }, labelled("Name", this.name), labelled("Field", this.field), this.known, labelled("Condition", this.condition),
      labelled("Limit", this.limit), this.clearLabel, labelled("Delay", this.delay), labelled("Severity", this.severity), labelled("Text", this.text), this.send);
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.#define()));
    this.summary = make("summary", {}, "New alarm");
    this.element = make("details", { class: "status", hidden: true }, this.summary, this.form, this.error);
    this.element.addEventListener("toggle", () => this.element.open && this.#listFields());
    this.#adapt();
  }

  /** Show the form for a node, or hide it. @param {string|null} node */
  show(node) {
    this.element.hidden = node === null;
    if (node === this.#node) return;
    this.#node = node;
    this.element.open = false;
    showError(this.error, "");
    setText(this.summary, `New alarm of ${node}`);
  }

  async #listFields() {
    const node = this.#node;
    const fields = await fieldsOf(node).catch(({ message }) => (showError(this.error, message), {}));
    if (node !== this.#node) return;
    this.known.replaceChildren(...Object.entries(fields).map(([value, { units }]) => make("option", { value }, units ?? "")));
  }

  #adapt() {
    const { value } = this.condition;
    this.limit.placeholder = value === "stale_after" ? "10 s" : "";
    this.clearLabel.hidden = !WITH_CLEAR.includes(value);
  }

  async #define() {
    showError(this.error, "");
    this.send.disabled = true;
    const condition = this.condition.value;
    const definition = { name: this.name.value, field: this.field.value, [condition]: condition === "stale_after" ? this.limit.value : literal(this.limit.value), severity: this.severity.value };
    if (WITH_CLEAR.includes(condition) && this.clear.value !== "") definition.clear = Number(this.clear.value);
    if (this.delay.value !== "") definition.for = this.delay.value;
    if (this.text.value !== "") definition.text = this.text.value;
    try {
      await this.alarms.act(this.#node, "set_alarm", definition);
      this.form.reset();
      this.#adapt();
      this.element.open = false;
      this.summary.focus();
    } catch ({ message }) {
      showError(this.error, message);
    }
    this.send.disabled = false;
  }
}

/** Return what was typed as a number, as true or false, or as a text. @param {string} text */
function literal(text) {
  if (text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
  return { true: true, false: false }[text.trim()] ?? text;
}
