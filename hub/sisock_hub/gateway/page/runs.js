import { get, ofNode } from "./api.js";
import { arrange, make } from "./dom.js";
import { isEnded, RunElement } from "./run.js";

/** @typedef {import("./run.js").Run} Run */

const LAST = 10;
const TICK_MS = 1000;

/** The runs of a node's operations: all active ones, and the last ones that have ended, the newest first. */
export class Runs {
  /** @type {Map<string, RunElement>} */
  #shown = new Map();
  #newest = 0;
  #timer = 0;

  /**
   * @param {string} node
   * @param {import("./live.js").Live} live
   * @param {boolean} isOperator
   */
  constructor(node, live, isOperator) {
    [this.node, this.live, this.isOperator] = [node, live, isOperator];
    this.list = make("ol", { class: "runs", "aria-label": "Runs" });
    this.element = make("section", { class: "procedures", hidden: true }, make("h3", {}, "Runs"), this.list);
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Request the list again. */
  async refresh() {
    const request = ++this.#newest;
    const list = (query) => get(ofNode(this.node, "operations"), query);
    const [active, ended] = await Promise.all([list({ active: true }), list({ active: false, limit: LAST })]).catch(() => [[], []]);
    if (request === this.#newest) this.#show([...active, ...ended]);
  }

  /** Show a run that was started here, and move the focus to it. @param {Run} run */
  started(run) {
    this.#newest++; // a list that was requested earlier lacks it
    this.#show([run, ...[...this.#shown.values()].map((each) => each.run)], run.id);
    const { element } = this.#shown.get(run.id);
    element.scrollIntoView({ block: "nearest" });
    element.focus({ preventScroll: true });
  }

  /** Request nothing more. */
  close() {
    this.#newest++;
    clearInterval(this.#timer);
    for (const each of this.#shown.values()) each.close();
  }

  /** @param {Run[]} runs @param {string} [own] the id of a run that was started here */
  #show(runs, own) {
    // The id of a later run is greater.
    const sorted = [...runs].sort((a, b) => Number(isEnded(a)) - Number(isEnded(b)) || (a.id < b.id ? 1 : -1));
    const ids = new Set(sorted.map(({ id }) => id));
    for (const [id, each] of this.#shown) if (!ids.has(id)) (each.close(), this.#shown.delete(id));
    for (const run of sorted) {
      if (this.#shown.has(run.id)) this.#shown.get(run.id).update(run);
      else this.#shown.set(run.id, new RunElement(this.node, run, this.live, this.isOperator, run.id === own));
    }
    arrange(this.list, sorted.map(({ id }) => this.#shown.get(id).element));
    this.element.hidden = !sorted.length;
  }

  #tick() {
    for (const each of this.#shown.values()) if (!isEnded(each.run)) each.tick();
  }
}
