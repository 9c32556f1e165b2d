import { get, ofNode } from "./api.js";
import { isArray } from "./axis.js";
import { fieldsOf } from "./catalogue.js";
import { carryOver, extend, lineOf, trim } from "./series.js";
import { parts, SEPARATOR } from "./view.js";
import { MOST_COLUMNS } from "./waterfall.js";

/**
 * The newest sample of an array field.
 * @typedef {{t: number, values: any[], units: string|null, reduced: import("./axis.js").Reduced|undefined}} Newest
 */

// Rows of a waterfall, and values of each side of an image; longer arrays are reduced by the gateway.
const MOST_ROWS = 400;
// Values of a waterfall that a node is asked for, below its allowance; arrays that are very long have fewer columns.
const MOST_VALUES = 4e6;
// With fewer, the newest sample would not be among the points.
const LEAST_POINTS = 3;
const NOTHING = { t: [], finalized_until: null, gaps: [], late: 0, dropped: 0, epochs: {} };

/** The array fields that are plotted: their past, of which each sample is a column, and the newest sample in full. */
export class Arrays {
  /** @type {Map<string, {info: import("./catalogue.js").Field, line: import("./series.js").Line, newest: Newest|null}>} */
  #known = new Map();
  /** @type {Map<string, import("./catalogue.js").Field>} */
  #infos = new Map();
  #unfollow = [];

  /**
   * @param {import("./live.js").Live} live
   * @param {() => void} onChange called when new samples are to be drawn, or the past is to be loaded again (true)
   */
  constructor(live, onChange) {
    [this.live, this.onChange] = [live, onChange];
  }

  /** Return description, line and newest sample of a target. @param {string} target */
  of(target) {
    return this.#known.get(target);
  }

  /**
   * Return those of some targets that are array fields; a node that does not list its fields has none.
   * @param {string[]} targets
   */
  async among(targets) {
    const unknown = targets.filter((target) => !this.#infos.has(target)).map(parts);
    await Promise.all([...Map.groupBy(unknown, ([node]) => node)].map(async ([node, wanted]) => {
      const fields = await fieldsOf(node).catch(() => ({}));
      for (const [, field] of wanted) if (field in fields) this.#infos.set(node + SEPARATOR + field, fields[field]);
    }));
    const found = targets.map((target) => ({ target, info: this.#infos.get(target) })).filter(({ info }) => isArray(info));
    return found;
  }

  /**
   * Request the past of array fields, and their newest samples.
   * @param {{target: string, info: import("./catalogue.js").Field}[]} found as of `among`
   * @param {{interval: [number, number], width: number, isLive: boolean, signal: AbortSignal}} options
   * @returns {Promise<Record<string, Error>>} the errors by node
   */
  async load(found, options) {
    const errors = {};
    for (const target of this.#known.keys()) if (!found.some((each) => each.target === target)) this.#known.delete(target);
    await Promise.all(found.map(async ({ target, info }) => {
      const node = parts(target)[0];
      try {
        const line = isImage(info) ? emptyLine(info) : await this.#past(target, info, options);
        const found = await this.#newest(target, info, line.t.at(-1), options);
        const before = options.isLive ? this.#known.get(target) : undefined; // it has grown meanwhile
        if (!isImage(info)) carryOver(line, before?.line);
        const newest = (before?.newest?.t ?? -Infinity) > (found?.t ?? -Infinity) ? before.newest : found;
        this.#known.set(target, withImage({ info, line, newest }));
      } catch (error) {
        if (error.name === "AbortError") throw error;
        errors[node] = error;
      }
    }));
    return errors;
  }

  async #past(target, info, { interval: [start, end], width, signal }) {
    const points = columnsOf(info, width);
    const wanted = { target, start, end, max_points: points, downsample: "mean", max_values: MOST_ROWS };
    const answer = await get("/api/v1/data", wanted, signal);
    const now = answer.nodes[parts(target)[0]].fields[info.name];
    if (now) this.#infos.set(target, now); // its shape may have changed
    return only(answer, target, info);
  }

  /** Return the newest sample in view, with minimum and maximum of each pixel. */
  async #newest(target, info, known, { interval: [start, end], width, signal }) {
    const [node] = parts(target);
    let from = known;
    if (from === undefined) {
      const { timelines } = await get(ofNode(node, "status"), {}, signal).catch(() => ({}));
      from = timelines?.[info.timeline]?.newest;
      if (typeof from !== "number" || from < start || from >= end) from = start;
    }
    const line = only(await get("/api/v1/data", { target, start: from, end, max_points: LEAST_POINTS, ...wholeOf(info, width) }, signal), target, info);
    const values = line.data[info.name]?.at(-1);
    return values ? { t: line.t.at(-1), values, units: line.epochs[info.name].at(-1).units, reduced: line.reduced[info.name] } : null;
  }

  /**
   * Follow array fields.
   * @param {{target: string, info: import("./catalogue.js").Field}[]} found
   * @param {{start: () => number, span: number, width: number, every: number}} options start of the view; seconds between drawings
   */
  follow(found, { start, span, width, every }) {
    this.stop();
    for (const { target, info } of found) {
      const [node, field] = parts(target);
      if (!this.#known.has(target)) this.#known.set(target, { info, line: emptyLine(info), newest: null });
      const wanted = { node, fields: [field] };
      const onNewest = (update) => this.#onNewest(target, info, update);
      this.#unfollow.push(this.live.follow({ ...wanted, every, max_points: LEAST_POINTS, ...wholeOf(info, width) }, onNewest));
      if (isImage(info)) continue;
      const columns = columnsOf(info, width);
      const pause = Math.min(10, Math.max(every, span / columns));
      const onColumns = (update) => {
        const line = this.#known.get(target)?.line;
        if (!line) return;
        extend(line, update);
        if (update.reduced) line.reduced = update.reduced;
        trim(line, start());
        this.onChange(line.t.length > 3 * columns);
      };
      this.#unfollow.push(this.live.follow({ ...wanted, every: pause, max_points: Math.max(2, Math.ceil((columns * pause) / span)), downsample: "mean", max_values: MOST_ROWS }, onColumns));
    }
  }

  /** Follow nothing more. */
  stop() {
    for (const stop of this.#unfollow.splice(0)) stop();
  }

  #onNewest(target, info, { t, data, units, reduced }) {
    const values = data[info.name]?.at(-1);
    const known = this.#known.get(target);
    if (!values || !known) return;
    known.newest = { t: t.at(-1), values, units: units[info.name] ?? null, reduced: reduced?.[info.name] };
    withImage(known);
    this.onChange(false);
  }
}

const isImage = ({ shape }) => shape.length > 1;

/** Return what is known of a target; the past of an image is its newest sample. */
function withImage(known) {
  const { info, line, newest } = known;
  if (isImage(info) && newest) Object.assign(line, { t: [newest.t], data: { [info.name]: [newest.values] } });
  return known;
}

const columnsOf = ({ shape }, width) => Math.max(2, Math.min(MOST_COLUMNS, Math.round(width), Math.floor(MOST_VALUES / shape[0])));

const emptyLine = (info) => lineOf({ ...NOTHING, data: { [info.name]: [] } }, { [info.name]: info });

/** Return the parameters that leave as many values of a sample as the screen can show. */
const wholeOf = (info, width) => (isImage(info) ? { max_values: MOST_ROWS } : { max_values: 2 * Math.max(100, Math.round(width)), reduce: "minmax" });

/** Return the line of an answer about one target. */
function only(answer, target, info) {
  const [node] = parts(target);
  const { timelines, fields } = answer.nodes[node];
  const found = Object.values(timelines)[0];
  return found ? lineOf(found, fields) : emptyLine(info);
}
