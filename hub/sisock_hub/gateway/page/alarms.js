import { get, ofNode, post } from "./api.js";
import { parts } from "./view.js";

/**
 * An alarm as its node lists it.
 * @typedef {"info"|"warning"|"error"|"critical"} Severity
 * @typedef {{name: string, field: string, condition: string, severity: Severity, text: string, since: number, raised: number|null,
 *   state: "normal"|"unacknowledged"|"acknowledged"|"returned"|"shelved"|"suppressed", active: boolean, latched: boolean,
 *   origin: "site file"|"command", until: number|null, units: string|null, by: string|null, comment: string|null, error: string|null,
 *   definition: {above?: number, below?: number}}} Alarm
 */

/** The worst first. @type {Severity[]} */
export const SEVERITIES = ["critical", "error", "warning", "info"];

/**
 * The alarms of the nodes: their counts, which come with the list of nodes, and the alarms of those nodes of which some are not
 * normal, or which are open or plotted. Dispatches `change` when either has changed.
 */
export class Alarms extends EventTarget {
  /** @type {Map<string, Alarm[]>} by node */
  #listed = new Map();
  /** @type {Map<string, string>} the counts of a node when its alarms were requested */
  #requested = new Map();
  #counts = "";
  /** @type {Map<string, string>} the counts of a node, which are older than its alarms: a command has changed these */
  #outdated = new Map();
  /** @type {Map<string, string>} the errors of nodes whose alarms could not be read, by node */
  errors = new Map();

  /**
   * @param {import("./watch.js").Watch} watch
   * @param {import("./view.js").View} view
   */
  constructor(watch, view) {
    super();
    [this.watch, this.view] = [watch, view];
    watch.addEventListener("nodes", () => this.#update());
    view.addEventListener("change", ({ detail }) => ["node", "plot"].includes(detail) && this.#update());
  }

  /** Return node and alarm of all that were requested. @returns {[string, Alarm][]} */
  get all() {
    return [...this.#listed].flatMap(([node, alarms]) => alarms.map((alarm) => [node, alarm]));
  }

  /** Return the number of alarms in some states, by severity. @param {...Alarm["state"]} states */
  counts(...states) {
    const counts = Object.fromEntries(SEVERITIES.map((each) => [each, 0]));
    for (const { name, alarms } of this.#present()) {
      if (this.#outdated.get(name) === JSON.stringify(alarms)) {
        for (const { severity, state } of this.#listed.get(name) ?? []) if (states.includes(state)) counts[severity]++;
        continue;
      }
      for (const [severity, ofState] of Object.entries(alarms.by_severity)) for (const each of states) counts[severity] += ofState[each] ?? 0;
    }
    return counts;
  }

  /** Whether a node has alarms, or may have some. @param {string|null} node */
  has(node) {
    return this.#present().some(({ name }) => name === node);
  }

  /** Return the alarms of a field. @param {string} node @param {string} field */
  of(node, field) {
    return (this.#listed.get(node) ?? []).filter((alarm) => alarm.field === field);
  }

  /**
   * Call a command about an alarm, and request the alarms of its node again.
   * @param {string} node
   * @param {string} command
   * @param {Record<string, any>} args
   */
  async act(node, command, args) {
    const { unchanged } = await post(ofNode(node, `commands/${command}`), args);
    this.#outdated.set(node, JSON.stringify(this.watch.find(node)?.alarms));
    await this.#request(node);
    const reasons = Object.entries(unchanged).map(([name, reason]) => `${name} ${reason}`);
    if (reasons.length) throw new Error(reasons.join("; "));
  }

  #present() {
    return this.watch.nodes.filter(({ alarms, state }) => alarms && state !== "gone");
  }

  #update() {
    const present = this.#present();
    const names = new Set(present.map(({ name }) => name));
    for (const node of this.#listed.keys()) if (!names.has(node)) (this.#listed.delete(node), this.#requested.delete(node));
    for (const node of this.errors.keys()) if (!names.has(node)) this.errors.delete(node);
    for (const { name, alarms } of present) {
      const version = JSON.stringify(alarms);
      if (this.#isWanted(name, alarms) && this.#requested.get(name) !== version) {
        this.#requested.set(name, version);
        this.#request(name).catch(({ message }) => {
          this.#requested.delete(name); // it is requested again with the next list of nodes
          this.errors.set(name, message);
          this.dispatchEvent(new Event("change"));
        });
      }
    }
    const counts = JSON.stringify(present.map(({ name, alarms }) => [name, alarms]));
    if (counts !== this.#counts) this.dispatchEvent(new Event("change"));
    this.#counts = counts;
  }

  #isWanted(name, { by_severity: counts }) {
    const isNormal = Object.values(counts).every((states) => Object.keys(states).every((state) => state === "normal" || !states[state]));
    return this.#listed.has(name) || !isNormal || name === this.view.node || this.view.plotted.some((target) => parts(target)[0] === name);
  }

  async #request(node) {
    this.#listed.set(node, await get(ofNode(node, "alarms")));
    this.errors.delete(node);
    this.dispatchEvent(new Event("change"));
  }
}
