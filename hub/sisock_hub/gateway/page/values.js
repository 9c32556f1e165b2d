import { get, ofNode } from "./api.js";

const EVERY_MS = 1000;
const SLOWLY_MS = 4000;
// A node that does not tell how new its data are is asked for what came in these seconds.
const RECENT_S = 60;
const MOST_FIELDS = 200;

/**
 * @typedef {{t: number, value: any, units: string|null}} Last
 * @typedef {import("./catalogue.js").Field} Field
 */

/**
 * Asks for the last values of fields of a node, once a second and only of those that are in sight.
 */
export class LastValues {
  #timer = 0;
  #stopped = false;
  /** @type {Map<string, string>} the newest sample that was asked for, by timeline, with the fields asked of it */
  #seen = new Map();

  /**
   * @param {string} node
   * @param {() => Field[]} inSight
   * @param {(field: string, last: Last) => void} tell
   */
  constructor(node, inSight, tell) {
    [this.node, this.inSight, this.tell] = [node, inSight, tell];
    this.#ask();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #ask() {
    let wait = EVERY_MS;
    const fields = document.hidden ? [] : this.inSight().slice(0, MOST_FIELDS);
    try {
      if (fields.length) await this.#tellOf(fields);
    } catch {
      wait = SLOWLY_MS; // the node's state says what is wrong with it
    }
    if (!this.#stopped) this.#timer = setTimeout(() => this.#ask(), wait);
  }

  /** @param {Field[]} fields */
  async #tellOf(fields) {
    const timelines = await this.#timelines();
    const groups = Map.groupBy(fields, (field) => field.timeline);
    await Promise.all([...groups].map(([timeline, group]) => this.#tellOfOne(timeline, group, timelines?.[timeline]?.newest)));
  }

  async #timelines() {
    if (this.plain) return null;
    try {
      const { timelines } = await get(ofNode(this.node, "status"));
      this.plain = !timelines;
      return timelines ?? null;
    } catch (error) {
      this.plain = error.status === 502; // it speaks the published contract alone, which has no status
      return null;
    }
  }

  async #tellOfOne(timeline, fields, newest) {
    const names = fields.map((field) => field.name);
    const key = `${newest} ${names.join(" ")}`;
    if (newest === null || (newest !== undefined && this.#seen.get(timeline) === key)) return;
    const when = newest === undefined ? { start: -RECENT_S, end: "now" } : { start: newest, end: newest + 1e-3 };
    const answer = await get(ofNode(this.node, "data"), { field: names, ...when });
    this.#seen.set(timeline, key);
    for (const { t, data } of Object.values(answer.timelines)) {
      for (const [name, values] of Object.entries(data)) {
        if (t.length && !this.#stopped) this.tell(name, { t: t.at(-1), value: values.at(-1), units: answer.fields[name]?.units ?? null });
      }
    }
  }
}
