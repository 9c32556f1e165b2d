/**
 * A row of a list. Its element is made when it becomes visible, and replaced when its version changes.
 * @typedef {{key: string, version: string, height: number, make: () => HTMLElement, isButton: boolean}} Row
 * `height` is an estimate in pixels, used until the row has been visible; `isButton` is true if it contains a button.
 */

// Rows within this many pixels of the visible part are in the page, too.
const MARGIN_PX = 300;
// Other rows become visible if heights differ from their estimates; rows are placed again, at most this many times.
const MOST_PASSES = 6;

/**
 * A list of any length of which only the visible rows are in the page. Each row has its position and the length of the list
 * as ARIA attributes. The row with the focus stays. Dispatches `placed` when the rows in the page have changed.
 */
export class Rows extends EventTarget {
  /** @type {Row[]} */
  #rows = [];
  /** @type {Map<string, {element: HTMLElement, version: string}>} */
  #made = new Map();
  /** @type {Map<string, number>} */
  #heights = new Map();
  /** @type {number[]} */
  #tops = [0];
  #planned = false;
  #width = 0;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} box around the list; the box scrolls, or the page
   */
  constructor(list, box) {
    super();
    [this.list, this.box] = [list, box];
    this.observer = new ResizeObserver((seen) => {
      for (const { target } of seen) if (target.isConnected && target.offsetHeight) this.#heights.set(target.dataset.key, target.offsetHeight);
      this.#plan();
    });
    new ResizeObserver(() => {
      if (list.clientWidth !== this.#width) this.#heights.clear();
      this.#width = list.clientWidth;
      this.#plan();
    }).observe(box);
    document.addEventListener("scroll", () => this.#plan(), { capture: true, passive: true });
    addEventListener("resize", () => this.#plan());
  }

  /** Replace the rows. @param {Row[]} rows */
  show(rows) {
    this.#rows = rows;
    const versions = new Map(rows.map(({ key, version }) => [key, version]));
    for (const [key, { version }] of this.#made) if (versions.get(key) !== version) this.#remove(key);
    this.#place();
  }

  /** Return the element of a row that is in the page. @param {string} key */
  element(key) {
    return this.#made.get(key)?.element;
  }

  /**
   * Move the focus to the next row with a button, or to the first one, visible or not.
   * @param {Element|null} from the row, or an element within it; null before the first row
   * @param {1|-1} step
   * @returns {boolean} whether such a row exists
   */
  step(from, step) {
    const key = from?.closest("li")?.dataset.key;
    let i = key === undefined ? (step > 0 ? 0 : this.#rows.length - 1) : this.#rows.findIndex((row) => row.key === key) + step;
    while (this.#rows[i] && !this.#rows[i].isButton) i += step;
    if (!this.#rows[i]) return false;
    this.#place(i);
    const button = this.#made.get(this.#rows[i].key).element.querySelector("button");
    button.focus();
    button.scrollIntoView({ block: "nearest" });
    return true;
  }

  /**
   * Scroll to a row, unless it is visible.
   * @param {string} key
   * @returns {boolean} whether the row is in the list, and the list visible
   */
  reveal(key) {
    const i = this.#rows.findIndex((row) => row.key === key);
    if (i < 0 || !this.list.offsetParent) return false;
    this.#place(i);
    const [row, box] = [this.#made.get(key).element, this.box].map((each) => each.getBoundingClientRect());
    if (row.top < Math.max(0, box.top) || row.bottom > Math.min(innerHeight, box.bottom)) this.#made.get(key).element.scrollIntoView({ block: "center" });
    return true;
  }

  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => {
      this.#planned = false;
      this.#place();
    });
  }

  /** Put the visible rows into the page, and one more if requested. */
  #place(more = -1) {
    if (!this.list.offsetParent) return;
    const before = [...this.#made.keys()].join("\n");
    for (let pass = 0; pass < MOST_PASSES; pass++) {
      this.#addUp();
      const [first, last] = this.#visible();
      const focused = document.activeElement?.closest("li")?.dataset.key;
      const wanted = this.#rows.flatMap((row, i) => ((i >= first && i <= last) || i === more || row.key === focused ? [i] : []));
      if (!this.#put(wanted)) break;
    }
    this.list.style.height = `${this.#tops.at(-1)}px`;
    if ([...this.#made.keys()].join("\n") !== before) this.dispatchEvent(new Event("placed"));
  }

  #addUp() {
    this.#tops = [0];
    for (const { key, height } of this.#rows) this.#tops.push(this.#tops.at(-1) + (this.#heights.get(key) ?? height));
  }

  /** Return the indices of the first and the last row that are visible or close to it. */
  #visible() {
    const [list, box] = [this.list.getBoundingClientRect(), this.box.getBoundingClientRect()];
    const from = Math.max(0, box.top) - list.top - MARGIN_PX;
    const to = Math.min(innerHeight, box.bottom) - list.top + MARGIN_PX;
    const first = this.#tops.findIndex((top) => top > from) - 1;
    const beyond = this.#tops.findIndex((top) => top >= to);
    return [Math.max(0, first), beyond < 0 ? this.#rows.length - 1 : beyond - 1];
  }

  /** Put exactly these rows into the page; return whether the height of one differs from its estimate. */
  #put(wanted) {
    const keys = new Set(wanted.map((i) => this.#rows[i].key));
    for (const key of this.#made.keys()) if (!keys.has(key)) this.#remove(key);
    let [previous, changed] = [null, false];
    const count = this.#rows.length;
    for (const i of wanted) {
      const { key, version, make } = this.#rows[i];
      if (!this.#made.has(key)) {
        const element = make();
        element.dataset.key = key;
        this.#made.set(key, { element, version });
        this.observer.observe(element);
      }
      const { element } = this.#made.get(key);
      const next = previous ? previous.nextElementSibling : this.list.firstElementChild;
      if (next !== element) this.list.insertBefore(element, next);
      previous = element;
      set(element, "aria-setsize", count);
      set(element, "aria-posinset", i + 1);
      if (element.style.top !== `${this.#tops[i]}px`) element.style.top = `${this.#tops[i]}px`;
    }
    for (const i of wanted) {
      const { key, height } = this.#rows[i];
      const is = this.#made.get(key).element.offsetHeight;
      if (!is || is === (this.#heights.get(key) ?? height)) continue;
      this.#heights.set(key, is);
      changed = true;
    }
    return changed;
  }

  #remove(key) {
    const { element } = this.#made.get(key);
    this.observer.unobserve(element);
    element.remove();
    this.#made.delete(key);
  }
}

/** Set an attribute if its value differs. */
function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}
