/**
 * A row of a list. Its element is made when it comes into sight, and made anew when its version changes.
 * @typedef {{key: string, version: string, height: number, make: () => HTMLElement, isButton: boolean}} Row
 * `height` is an estimate in pixels, until the row has been seen; `isButton` says whether it contains a button.
 */

// Pixels beyond what is in sight for which there are rows, too.
const BEYOND = 300;
// Rows have other heights than estimated, so that others come into sight; so often it is looked again.
const MOST_LOOKS = 6;

/**
 * A list of any length of which only the rows in sight are in the page. Each says which of how many it is, and the one
 * that has the focus stays. Tells `placed` when other rows are in the page than before.
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
   * @param {HTMLElement} box around the list; it scrolls, or the page does
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

  /** Show other rows. @param {Row[]} rows */
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
   * Give the focus to the next row with a button, or to the first one, wherever they are.
   * @param {Element|null} from the row, or what is in it; null for before the first
   * @param {1|-1} step
   * @returns {boolean} whether there is one
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
   * Scroll to a row, unless it is in sight.
   * @param {string} key
   * @returns {boolean} whether it is in the list, and the list in the page
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

  /** Put the rows in sight into the page, and one more if it is asked for. */
  #place(more = -1) {
    if (!this.list.offsetParent) return;
    const before = [...this.#made.keys()].join("\n");
    for (let look = 0; look < MOST_LOOKS; look++) {
      this.#addUp();
      const [first, last] = this.#inSight();
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

  /** Return the first and the last row in sight, or close to it. */
  #inSight() {
    const [list, box] = [this.list.getBoundingClientRect(), this.box.getBoundingClientRect()];
    const from = Math.max(0, box.top) - list.top - BEYOND;
    const to = Math.min(innerHeight, box.bottom) - list.top + BEYOND;
    const first = this.#tops.findIndex((top) => top > from) - 1;
    const beyond = this.#tops.findIndex((top) => top >= to);
    return [Math.max(0, first), beyond < 0 ? this.#rows.length - 1 : beyond - 1];
  }

  /** Have these rows in the page, and no others; returns whether one has another height than was assumed. */
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

/** Set an attribute, unless it is that already. */
function set(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}
