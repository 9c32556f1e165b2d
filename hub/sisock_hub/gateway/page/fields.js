import { fieldsOf } from "./catalogue.js";
import { now } from "./clock.js";
import { make, say } from "./dom.js";
import { behind, brief, moment, span } from "./text.js";
import { LastValues } from "./values.js";
import { SEPARATOR } from "./view.js";
import { zoneName } from "./zone.js";

// Rows that are shown before somebody asks for more.
const SOME = 150;
// What is younger needs no age beside it.
const FRESH_S = 2;

/** The fields of a node, by timeline, with their last values; each is a button that plots it. */
export class Fields {
  #rows = new Map();
  #visible = new Set();
  #words = "";
  #most = SOME;
  /** @type {Record<string, import("./catalogue.js").Field>|null} */
  #fields = null;

  /**
   * @param {string} node
   * @param {import("./view.js").View} view
   */
  constructor(node, view) {
    [this.node, this.view] = [node, view];
    this.element = make("div", { class: "fields" }, make("p", { class: "quiet" }, "asking …"));
    this.observer = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) this.#visible[isIntersecting ? "add" : "delete"](target.dataset.field);
    });
    this.values = new LastValues(node, () => this.#inSight(), (name, last) => this.#show(name, last));
    this.timer = setInterval(() => this.#grow(), 1000);
    this.refresh();
  }

  stop() {
    this.values.stop();
    this.observer.disconnect();
    clearInterval(this.timer);
  }

  /** Ask for the fields again: a node may have got more. */
  async refresh() {
    try {
      const fields = await fieldsOf(this.node);
      if (JSON.stringify(fields) === JSON.stringify(this.#fields)) return;
      this.#fields = fields;
      this.#fill();
    } catch (error) {
      if (!this.#fields) this.element.replaceChildren(make("p", { class: "quiet" }, error.message));
    }
  }

  /** Show only fields with these words. @param {string} words */
  filter(words) {
    if (words === this.#words) return;
    this.#words = words;
    this.#fill();
  }

  /** Show which fields are plotted. */
  mark() {
    for (const [name, { button }] of this.#rows) {
      button.setAttribute("aria-pressed", String(this.view.plotted.includes(this.node + SEPARATOR + name)));
    }
  }

  #inSight() {
    return Object.values(this.#fields ?? {}).filter((field) => this.#visible.has(field.name));
  }

  #fill() {
    if (!this.#fields) return;
    this.observer.disconnect();
    this.#rows.clear();
    this.#visible.clear();
    const fitting = Object.values(this.#fields).filter((field) => fits(field, this.#words));
    const groups = Map.groupBy(fitting.slice(0, this.#most), (field) => field.timeline);
    const several = new Set(Object.values(this.#fields).map((field) => field.timeline)).size > 1;
    this.element.replaceChildren(...[...groups].map(([timeline, fields]) => this.#group(timeline, fields, several)));
    if (!fitting.length) {
      const why = this.#words ? "no field with these words" : "no field has a sample yet";
      this.element.append(make("p", { class: "quiet" }, why));
    }
    if (fitting.length > this.#most) {
      const more = () => {
        this.#most *= 4;
        this.#fill();
      };
      this.element.append(make("button", { type: "button", onclick: more }, `Show more of ${fitting.length} fields`));
    }
    this.mark();
  }

  #group(timeline, fields, titled) {
    const interval = fields[0].interval;
    const pace = interval ? ` every ${interval < 1 ? `${Number((interval * 1000).toPrecision(3))} ms` : span(interval)}` : "";
    const title = titled ? make("h3", {}, timeline, make("span", { class: "quiet" }, pace)) : null;
    return make("div", { class: "timeline" }, title, make("ul", {}, ...fields.map((field) => this.#row(field))));
  }

  #row(field) {
    const [value, units, age] = [make("span", { class: "value" }, "–"), make("span", { class: "units" }, behind(field.units)), make("span", { class: "age" })];
    const button = make(
      "button",
      {
        type: "button",
        class: "field",
        "data-field": field.name,
        title: field.description,
        onclick: () => this.view.toggle(this.node + SEPARATOR + field.name),
      },
      make("span", { class: "tick", "aria-hidden": "true" }),
      make("span", { class: "name" }, field.name),
      make("span", { class: "reading" }, value, units),
      field.description ? make("span", { class: "about" }, field.description) : null,
      age,
    );
    this.observer.observe(button);
    this.#rows.set(field.name, { button, value, units, age, t: null });
    return make("li", {}, button);
  }

  #show(name, last) {
    const row = this.#rows.get(name);
    if (!row) return;
    row.t = last.t;
    say(row.value, brief(last.value));
    say(row.units, behind(last.units));
    this.#tellAge(row);
  }

  #grow() {
    for (const row of this.#rows.values()) if (row.t !== null) this.#tellAge(row);
  }

  #tellAge(row) {
    const age = now() - row.t;
    say(row.age, age < FRESH_S ? "now" : `${span(age)} ago`);
    row.age.title = `${moment(row.t, 3)} ${zoneName(row.t)}`;
  }
}

/**
 * Whether a field is meant by words.
 * @param {import("./catalogue.js").Field} field
 * @param {string} said
 */
export function fits(field, said) {
  const text = `${field.name} ${field.description ?? ""} ${field.units ?? ""} ${field.timeline}`.toLowerCase();
  return said.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
