import { now } from "./clock.js";

/** Between the names of a node and of its field. */
export const SEPARATOR = "::";
const SHORTEST_S = 1e-3;
const LONGEST_S = 200 * 31557600;
const DEFAULT_S = 300;
// Farther from 1970, nodes refuse times.
const FARTHEST_S = 1e11;
const TOGETHER_MS = 700;

/**
 * What is looked at, kept in the address, so that it can be shared and survives a reload: `#plot=node::field` as often
 * as needed, `node=…` for the node that is open, `last=seconds` for a live view or `from=…&to=…` in UNIX seconds.
 * What was looked at before is where the browser's Back leads. Tells `change` with what has changed: `plot`, `range`,
 * `node` or `pane`.
 */
export class View extends EventTarget {
  #last = { what: "", at: -Infinity };

  constructor() {
    super();
    this.#read();
    // The part of the page that a phone shows is kept beside the address: who opens a shared one chooses for themselves.
    this.pane = history.state?.pane ?? (this.plotted.length ? "plot" : "nodes");
    history.replaceState({ pane: this.pane }, "");
    for (const event of ["popstate", "hashchange"]) addEventListener(event, () => this.#restore());
  }

  /** Go by the address again: somebody went back or forward, or wrote another one. */
  #restore() {
    const pane = history.state?.pane ?? this.pane;
    const before = { node: this.node, plot: this.plotted.join("\n"), range: this.#range, pane: this.pane };
    this.#read();
    this.pane = pane;
    this.#last.what = "";
    const now = { node: this.node, plot: this.plotted.join("\n"), range: this.#range, pane };
    for (const what of Object.keys(now)) if (now[what] !== before[what]) this.#tell(what);
  }

  get #range() {
    return [this.live, this.chosen, this.live ? this.span : `${this.from} ${this.to}`].join();
  }

  #read() {
    const said = new URLSearchParams(location.hash.slice(1));
    /** @type {string[]} */
    this.plotted = [...new Set(said.getAll("plot").filter((target) => target.includes(SEPARATOR)))];
    /** @type {string|null} */
    this.node = said.get("node");
    const [last, from, to] = ["last", "from", "to"].map((name) => parseFloat(said.get(name) ?? ""));
    // What no calendar has would be an error wherever it is shown.
    const isFixed = from < to && from > -FARTHEST_S && to < FARTHEST_S;
    this.live = !isFixed;
    this.chosen = isFixed || last > 0;
    this.span = last > 0 ? bounded(last) : DEFAULT_S;
    [this.from, this.to] = [from, to];
  }

  #written() {
    const said = new URLSearchParams();
    if (this.node !== null) said.append("node", this.node);
    for (const target of this.plotted) said.append("plot", target);
    if (!this.live) {
      said.append("from", String(this.from));
      said.append("to", String(this.to));
    } else if (this.chosen) said.append("last", String(this.span));
    return said.size ? `#${said}` : "";
  }

  #tell(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  #changed(what, replaces = false) {
    // A turn of the wheel, or a key that is held down, is one step back.
    const at = performance.now();
    const together = what === "range" && this.#last.what === what && at < this.#last.at + TOGETHER_MS;
    this.#last = { what, at };
    const address = this.#written() || location.pathname;
    const same = new URL(address, location.href).href === location.href && history.state?.pane === this.pane;
    history[together || replaces || same ? "replaceState" : "pushState"]({ pane: this.pane }, "", address);
    this.#tell(what);
  }

  /** Return what is seen, in UNIX seconds. */
  get interval() {
    const end = now();
    return this.live ? [end - this.span, end] : [this.from, this.to];
  }

  /** Show a part of the page, where there is room for one. @param {"nodes"|"plot"|"control"} pane */
  show(pane) {
    if (pane === this.pane) return;
    this.pane = pane;
    this.#changed("pane");
  }

  /** @param {string|null} node */
  open(node) {
    this.node = node;
    this.#changed("node");
  }

  /** @param {string} target */
  toggle(target) {
    const left = this.plotted.filter((each) => each !== target);
    this.plotted = left.length < this.plotted.length ? left : [...left, target];
    this.#changed("plot");
  }

  /** Follow the newest. @param {number} [span] seconds; as wide as it is when not given */
  follow(span = this.live ? this.span : this.to - this.from) {
    [this.live, this.span, this.chosen] = [true, bounded(span), true];
    this.#changed("range");
  }

  /**
   * Plot one field in the place of another, or none.
   * @param {string} target
   * @param {string} [instead]
   */
  replace(target, instead) {
    this.plotted = [...new Set(this.plotted.flatMap((each) => (each === target ? instead ?? [] : each)))];
    this.#changed("plot");
  }

  /**
   * Look at a fixed interval, in UNIX seconds.
   * @param {number} from
   * @param {number} to
   * @param {boolean} [unasked] whether nobody chose it, so that Back does not lead to what was seen before
   */
  look(from, to, unasked = false) {
    const [middle, width] = [(from + to) / 2, bounded(to - from)];
    [this.live, this.chosen] = [false, true];
    [this.from, this.to] = [middle - width / 2, middle + width / 2].map((t) => Number(t.toFixed(6)));
    this.#changed("range", unasked);
  }

  /** Look at more or less, around the middle, or live until now. @param {number} factor */
  zoom(factor) {
    if (this.live) return this.follow(this.span * factor);
    const [middle, half] = [(this.from + this.to) / 2, ((this.to - this.from) / 2) * factor];
    return this.look(middle - half, middle + half);
  }

  /** Look at what comes before or after. @param {number} share of what is seen */
  pan(share) {
    const [from, to] = this.interval;
    this.look(from + share * (to - from), to + share * (to - from));
  }
}

const bounded = (width) => Math.min(LONGEST_S, Math.max(SHORTEST_S, width));

/**
 * Return node and field of what is plotted.
 * @param {string} target
 * @returns {[string, string]}
 */
export function parts(target) {
  const at = target.indexOf(SEPARATOR);
  return [target.slice(0, at), target.slice(at + SEPARATOR.length)];
}
