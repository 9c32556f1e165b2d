import { get, ofNode } from "./api.js";
import { shownAnswer } from "./answer.js";
import { arrange, make, setText } from "./dom.js";
import { showError } from "./form.js";
import { brief, moment, summary } from "./text.js";
import { zone, zoneName } from "./zone.js";

/** @typedef {{number: number, values: Record<string, any>, element?: HTMLElement}} TableRow */

const [PAGE, MOST, FOLLOW_MS, MARGIN_ROWS, ROW_PX] = [1000, 20000, 2000, 10, 32];
const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

/** The rows of a table that fulfil the conditions: the newest first, or sorted by a column; new ones are added as they come. */
export class TableView {
  /** @type {TableRow[]} newest first */
  #rows = [];
  /** @type {TableRow[]} in the order in which they are shown */
  #shown = [];
  /** @type {string[]} */
  #conditions = [];
  #sort = { column: "", order: "none" };
  /** @type {number|null} null until the node has answered */
  #cursor = null;
  #isFailing = false;
  #newest = 0;
  #timer = 0;
  #height = ROW_PX;
  #lost = false;

  /**
   * @param {string} node
   * @param {{name: string, columns: Record<string, string>}} table
   */
  constructor(node, { name, columns }) {
    [this.path, this.columns] = [ofNode(node, `tables/${encodeURIComponent(name)}`), columns];
    this.input = make("input", { "aria-label": `Condition on ${name}`, placeholder: "condition, such as severity == error", maxlength: 1000, autocomplete: "off", spellcheck: "false" });
    const form = make("form", { class: "act", onsubmit: (event) => (event.preventDefault(), this.#add()) }, this.input, make("button", {}, "Filter"));
    this.filters = make("ul", { class: "buttons", "aria-label": "Conditions" });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.note = make("p", { class: "quiet", role: "status" });
    this.heads = ["", ...Object.keys(columns)].map((column) => this.#head(column));
    this.body = make("tbody");
    [this.above, this.below] = [1, 2].map(() => make("td", { colspan: this.heads.length }));
    const spacer = (cell) => make("tbody", { "aria-hidden": "true", class: "spacer" }, make("tr", {}, cell));
    this.table = make("table", { "aria-label": `Rows of ${name}` }, make("thead", {}, make("tr", { "aria-rowindex": 1 }, ...this.heads)), spacer(this.above), this.body, spacer(this.below));
    this.box = make("div", { class: "table rows", tabindex: "0", role: "region", "aria-label": `Table ${name}`, onscroll: () => this.#draw() }, this.table);
    this.older = make("button", { type: "button", hidden: true, onclick: () => this.#readOlder() }, "Older rows");
    this.details = make("div", { class: "answer" });
    this.element = make("div", { class: "procedures" }, form, this.filters, this.error, this.note, this.box, this.details, this.older);
    this.redraw = () => this.#order(true);
    zone.addEventListener("change", this.redraw);
    this.size = new ResizeObserver(() => this.#draw());
    this.size.observe(this.box);
    this.load();
  }

  /** Request nothing more. */
  close() {
    this.#newest++;
    clearTimeout(this.#timer);
    this.size.disconnect();
    zone.removeEventListener("change", this.redraw);
  }

  /**
   * Request the newest rows, and follow those that come.
   * @param {string[]} [conditions]
   * @returns {Promise<boolean>} whether the node has answered
   */
  async load(conditions = this.#conditions) {
    const request = ++this.#newest;
    clearTimeout(this.#timer);
    try {
      const page = await get(this.path, { condition: conditions, order: "descending", limit: PAGE });
      if (request !== this.#newest) return false;
      [this.#conditions, this.#rows, this.#cursor, this.#lost] = [conditions, rowsOf(page), page.cursor, false];
      this.older.hidden = !page.more;
      showError(this.error, "");
      this.box.scrollTop = 0;
      this.#showConditions();
      this.#order();
      this.#plan(FOLLOW_MS);
      return true;
    } catch (error) {
      if (request !== this.#newest) return false;
      showError(this.error, error.message);
      this.#plan(FOLLOW_MS);
      return false;
    }
  }

  #plan(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#follow(), milliseconds);
  }

  /** Read the rows since the last answer; a page that is not visible reads them later. */
  async #follow() {
    if (document.hidden || !this.box.offsetParent) return this.#plan(FOLLOW_MS);
    if (this.#cursor === null) return this.load();
    const request = this.#newest;
    try {
      const page = await get(this.path, { condition: this.#conditions, after: this.#cursor, limit: PAGE });
      if (request !== this.#newest) return undefined;
      if (page.cursor < this.#cursor) return this.load(); // the table has begun again
      this.#lost ||= page.oldest > this.#cursor;
      this.#cursor = page.cursor;
      // The error of a condition that was refused stays.
      if (this.#isFailing) showError(this.error, "");
      this.#isFailing = false;
      if (page.numbers.length || this.#lost) this.#addNew(rowsOf(page).reverse());
      return this.#plan(page.more ? 0 : FOLLOW_MS);
    } catch (error) {
      if (request !== this.#newest) return undefined;
      this.#isFailing = true;
      showError(this.error, error.message);
      return this.#plan(FOLLOW_MS);
    }
  }

  #addNew(rows) {
    this.#rows.unshift(...rows);
    if (this.#rows.length > MOST) [this.#rows.length, this.older.hidden] = [MOST, true];
    // What is in view stays there, if it is further down or has the focus.
    const isReading = this.box.scrollTop > 0 || this.body.contains(document.activeElement);
    this.#order();
    if (isReading && this.#sort.order === "none") this.box.scrollTop += rows.length * this.#height;
  }

  async #readOlder() {
    const request = this.#newest;
    try {
      const page = await get(this.path, { condition: this.#conditions, order: "descending", before: this.#rows.at(-1).number, limit: PAGE });
      if (request !== this.#newest) return;
      this.#rows.push(...rowsOf(page));
      this.older.hidden = !page.more || this.#rows.length >= MOST;
      this.#order();
    } catch (error) {
      showError(this.error, error.message);
    }
  }

  /** Add a condition; one that the node refuses stays in the input. */
  async #add() {
    const text = this.input.value.trim();
    if (text && (await this.load([...this.#conditions, text]))) this.input.value = "";
  }

  #showConditions() {
    const without = (i) => this.load(this.#conditions.filter((_, each) => each !== i)).then(() => this.input.focus());
    this.filters.replaceChildren(...this.#conditions.map((text, i) =>
      make("li", {}, make("button", { type: "button", "aria-label": `Remove ${text}`, onclick: () => without(i) }, `${text} ×`))));
  }

  #head(column) {
    const onclick = () => {
      this.#sort = { column, order: NEXT[this.#sort.column === column ? this.#sort.order : "none"] };
      for (const each of this.heads) each.setAttribute("aria-sort", each === head ? this.#sort.order : "none");
      this.#order();
    };
    const head = make("th", { scope: "col", "aria-sort": "none" }, make("button", { type: "button", onclick }, column || "row"));
    return head;
  }

  /** Sort the rows, and draw them. @param {boolean} [again] whether all elements are made again */
  #order(again = false) {
    if (again) for (const row of this.#rows) row.element = undefined;
    const { column, order } = this.#sort;
    const sign = order === "descending" ? -1 : 1;
    const value = column ? ({ values }) => values[column] : ({ number }) => number;
    this.#shown = order === "none" ? this.#rows : [...this.#rows].sort((a, b) => compare(value(a), value(b), sign));
    const count = `${this.#rows.length} rows${this.older.hidden ? "" : ", and older ones"}`;
    const most = this.#rows.length >= MOST ? ` No more than ${MOST} are shown.` : "";
    const lost = this.#lost ? " Rows are missing: the node removed them before they were read." : "";
    const sorted = order === "none" ? "" : ", sorted among these";
    setText(this.note, this.#rows.length ? `${count}${sorted}.${most}${lost}` : `No rows.${lost}`);
    this.#draw();
  }

  /** Put the visible rows into the page. */
  #draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / this.#height) - MARGIN_ROWS);
    const last = Math.min(this.#shown.length, first + Math.ceil(this.box.clientHeight / this.#height) + 2 * MARGIN_ROWS);
    const visible = this.#shown.slice(first, last);
    visible.forEach((row, i) => (row.element ??= this.#made(row)).setAttribute("aria-rowindex", first + i + 2));
    arrange(this.body, visible.map(({ element }) => element));
    this.table.setAttribute("aria-rowcount", String(this.#shown.length + 1));
    this.above.style.height = `${first * this.#height}px`;
    this.below.style.height = `${(this.#shown.length - last) * this.#height}px`;
    const height = visible[0]?.element.offsetHeight || this.#height;
    if (Math.abs(height - this.#height) < 1) return;
    this.#height = height;
    this.#draw();
  }

  /** @param {TableRow} row */
  #made({ number, values }) {
    const show = () => this.details.replaceChildren(make("h3", {}, `Row ${number}`), shownAnswer(values));
    const cells = Object.entries(this.columns).map(([column, type]) => make("td", { class: "short" }, cellText(values[column], type)));
    return make("tr", {}, make("td", { class: "short" }, make("button", { type: "button", "aria-label": `Row ${number} in full`, onclick: show }, number)), ...cells);
  }
}

/** @returns {TableRow[]} */
const rowsOf = ({ numbers, columns }) =>
  numbers.map((number, i) => ({ number, values: Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[i]])) }));

/** Compare two values; those that are missing are last in either order. */
function compare(a, b, sign) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  if (typeof a === "object" || typeof b === "object") [a, b] = [summary(a), summary(b)];
  return a < b ? -sign : a > b ? sign : 0;
}

function cellText(value, type) {
  if (value === null || value === undefined) return "–";
  if (type === "time") return `${moment(value, 3)} ${zoneName(value)}`;
  // Numbers of a browser are exact up to 2^53.
  if (type === "integer") return Number.isSafeInteger(value) ? String(value) : `≈ ${brief(value)}`;
  return type === "json" ? summary(value) : brief(value);
}
