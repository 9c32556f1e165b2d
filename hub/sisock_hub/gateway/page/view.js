import { now } from "./clock.js";

/** Between the names of a node and of its field. */
export const SEPARATOR = "::";
const SHORTEST_S = 1e-3;
const LONGEST_S = 200 * 31557600;
const DEFAULT_S = 300;
// Nodes refuse times farther from 1970.
const FARTHEST_S = 1e11;
const TOGETHER_MS = 700;

/**
 * The view, kept in the fragment of the address, so that it can be shared and survives a reload: `plot=node::field` for each
 * plotted field, `node=…` for the open node, `scale=log` for logarithmic values of arrays, `last=seconds` for a live view or `from=…&to=…` in UNIX seconds. The
 * browser's Back returns to the previous view. Dispatches `change` with the changed part: `plot`, `range`, `scale`, `node` or `pane`.
 */
export class View extends EventTarget {
  #last = { what: "", at: -Infinity };

  constructor() {
    super();
    this.#read();
    // The pane that a phone shows is not part of the address, so that a shared address does not set it.
    this.pane = history.state?.pane ?? (this.plotted.length ? "plot" : "nodes");
    history.replaceState({ pane: this.pane }, "");
    for (const event of ["popstate", "hashchange"]) addEventListener(event, () => this.#restore());
  }

  /** Read the address again, after Back, Forward or an edit of the address. */
  #restore() {
    const pane = history.state?.pane ?? this.pane;
    const before = { node: this.node, plot: this.plotted.join("\n"), range: this.#range, scale: this.logarithmic, pane: this.pane };
    this.#read();
    this.pane = pane;
    this.#last.what = "";
    const now = { node: this.node, plot: this.plotted.join("\n"), range: this.#range, scale: this.logarithmic, pane };
    for (const what of Object.keys(now)) if (now[what] !== before[what]) this.#notify(what);
  }

  get #range() {
    return [this.live, this.chosen, this.live ? this.span : `${this.from} ${this.to}`].join();
  }

  #read() {
    const parameters = new URLSearchParams(location.hash.slice(1));
    /** @type {string[]} */
    this.plotted = [...new Set(parameters.getAll("plot").filter((target) => target.includes(SEPARATOR)))];
    /** @type {string|null} */
    this.node = parameters.get("node");
    this.logarithmic = parameters.get("scale") === "log";
    const [last, from, to] = ["last", "from", "to"].map((name) => parseFloat(parameters.get(name) ?? ""));
    // Times outside the calendar cannot be shown.
    const isFixed = from < to && from > -FARTHEST_S && to < FARTHEST_S;
    this.live = !isFixed;
    this.chosen = isFixed || last > 0;
    this.span = last > 0 ? clamped(last) : DEFAULT_S;
    [this.from, this.to] = [from, to];
  }

  #fragment() {
    const parameters = new URLSearchParams();
    if (this.node !== null) parameters.append("node", this.node);
    for (const target of this.plotted) parameters.append("plot", target);
    if (!this.live) {
      parameters.append("from", String(this.from));
      parameters.append("to", String(this.to));
    } else if (this.chosen) parameters.append("last", String(this.span));
    if (this.logarithmic) parameters.append("scale", "log");
    return parameters.size ? `#${parameters}` : "";
  }

  #notify(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  #changed(what, replaces = false) {
    // All steps of the wheel, or of a key that is held down, are one step for Back.
    const at = performance.now();
    const together = what === "range" && this.#last.what === what && at < this.#last.at + TOGETHER_MS;
    this.#last = { what, at };
    const address = this.#fragment() || location.pathname;
    const same = new URL(address, location.href).href === location.href && history.state?.pane === this.pane;
    history[together || replaces || same ? "replaceState" : "pushState"]({ pane: this.pane }, "", address);
    this.#notify(what);
  }

  /** Return the interval in view, in UNIX seconds. */
  get interval() {
    const end = now();
    return this.live ? [end - this.span, end] : [this.from, this.to];
  }

  /** Set the pane that a phone shows. @param {"nodes"|"plot"|"control"|"alarms"|"events"} pane */
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

  /** Set whether the values of arrays are drawn on a logarithmic scale. @param {boolean} logarithmic */
  setScale(logarithmic) {
    this.logarithmic = logarithmic;
    this.#changed("scale");
  }

  /** @param {string} target */
  toggle(target) {
    const left = this.plotted.filter((each) => each !== target);
    this.plotted = left.length < this.plotted.length ? left : [...left, target];
    this.#changed("plot");
  }

  /** Show the newest samples, live. @param {number} [span] seconds; by default those of the view */
  follow(span = this.live ? this.span : this.to - this.from) {
    [this.live, this.span, this.chosen] = [true, clamped(span), true];
    this.#changed("range");
  }

  /**
   * Replace a plotted field by another, or remove it.
   * @param {string} target
   * @param {string} [instead]
   */
  replace(target, instead) {
    this.plotted = [...new Set(this.plotted.flatMap((each) => (each === target ? instead ?? [] : each)))];
    this.#changed("plot");
  }

  /**
   * Show a fixed interval, in UNIX seconds.
   * @param {number} from
   * @param {number} to
   * @param {boolean} [automatic] whether the page chose it, so that it is not a step for Back
   */
  showInterval(from, to, automatic = false) {
    const [middle, width] = [(from + to) / 2, clamped(to - from)];
    [this.live, this.chosen] = [false, true];
    [this.from, this.to] = [middle - width / 2, middle + width / 2].map((t) => Number(t.toFixed(6)));
    this.#changed("range", automatic);
  }

  /** Scale the interval, around its middle, or around its end if live. @param {number} factor */
  zoom(factor) {
    if (this.live) return this.follow(this.span * factor);
    const [middle, half] = [(this.from + this.to) / 2, ((this.to - this.from) / 2) * factor];
    return this.showInterval(middle - half, middle + half);
  }

  /** Shift the interval. @param {number} share of its length */
  pan(share) {
    const [from, to] = this.interval;
    this.showInterval(from + share * (to - from), to + share * (to - from));
  }
}

const clamped = (width) => Math.min(LONGEST_S, Math.max(SHORTEST_S, width));

/**
 * Return node and field of a target.
 * @param {string} target
 * @returns {[string, string]}
 */
export function parts(target) {
  const at = target.indexOf(SEPARATOR);
  return [target.slice(0, at), target.slice(at + SEPARATOR.length)];
}
