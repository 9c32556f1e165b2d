import { get, ofNode } from "./api.js";
import { isArray, sizeText } from "./axis.js";

const EVERY_MS = 1000;
const RETRY_MS = 4000;
// A node that does not report the time of its newest sample is asked for the samples of this many seconds.
const RECENT_S = 60;
const MOST_FIELDS = 200;

/**
 * @typedef {{t: number, value: any, units: string|null}} Last
 * @typedef {import("./catalogue.js").Field} Field
 */

/**
 * Requests the last values of the visible fields of a node, once a second.
 */
export class LastValues {
  #timer = 0;
  #stopped = false;
  /** @type {Map<string, string>} the newest sample that was requested, by timeline, with its fields */
  #seen = new Map();

  /**
   * @param {string} node
   * @param {() => Field[]} visible
   * @param {(field: string, last: Last) => void} onValue
   */
  constructor(node, visible, onValue) {
    [this.node, this.visible, this.onValue] = [node, visible, onValue];
    this.#poll();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #poll() {
    let wait = EVERY_MS;
    const fields = document.hidden ? [] : this.visible().slice(0, MOST_FIELDS);
    try {
      if (fields.length) await this.#load(fields);
    } catch {
      wait = RETRY_MS; // the node's state shows the error
    }
    if (!this.#stopped) this.#timer = setTimeout(() => this.#poll(), wait);
  }

  /** @param {Field[]} fields */
  async #load(fields) {
    const timelines = await this.#timelines();
    const groups = Map.groupBy(fields, (field) => field.timeline);
    await Promise.all([...groups].map(([timeline, group]) => this.#loadTimeline(timeline, group, timelines?.[timeline]?.newest)));
  }

  async #timelines() {
    if (this.hasNoStatus) return null;
    try {
      const { timelines } = await get(ofNode(this.node, "status"));
      this.hasNoStatus = !timelines;
      return timelines ?? null;
    } catch (error) {
      this.hasNoStatus = error.status === 502; // the published contract has no status
      return null;
    }
  }

  async #loadTimeline(timeline, fields, newest) {
    // Arrays are not read: the list shows how many values they have.
    const names = fields.filter((field) => !isArray(field)).map((field) => field.name);
    if (typeof newest === "number") for (const field of fields) if (isArray(field)) this.onValue(field.name, { t: newest, value: sizeText(field), units: null });
    if (!names.length) return;
    const key = `${newest} ${names.join(" ")}`;
    if (newest === null || (newest !== undefined && this.#seen.get(timeline) === key)) return;
    const when = newest === undefined ? { start: -RECENT_S, end: "now" } : { start: newest, end: newest + 1e-3 };
    const answer = await get(ofNode(this.node, "data"), { field: names, ...when });
    this.#seen.set(timeline, key);
    for (const { t, data } of Object.values(answer.timelines)) {
      for (const [name, values] of Object.entries(data)) {
        if (t.length && !this.#stopped) this.onValue(name, { t: t.at(-1), value: values.at(-1), units: answer.fields[name]?.units ?? null });
      }
    }
  }
}
