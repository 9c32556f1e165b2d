import { ApiError, get } from "./api.js";
import { Arrays } from "./arrays.js";
import { byId } from "./dom.js";
import { figure, MARGIN } from "./figure.js";
import { plotly } from "./library.js";
import { carryOver, extend, lineOf, trim } from "./series.js";
import { theme } from "./theme.js";
import { parts } from "./view.js";
import { fromAxis, zone } from "./zone.js";

const SETTLE_MS = 120;
const [LOWEST, LOWEST_ON_PHONE, HIGHEST] = [320, 200, 900];
// Pixels below the plot: the legend of the marks, and the edge of the section.
const [BELOW, BELOW_ON_PHONE] = [60, 50];
const LEAST_POINTS = 200;
// With fewer, the newest sample would not be among the points.
const LEAST_LIVE_POINTS = 3;
// A live view requests its history again after a share of its span: to show late samples, and to stay downsampled evenly.
const RELOAD = { share: 0.1, least_s: 10, most_s: 60 };
// Points of a line, as a multiple of the requested ones, beyond which the history is requested again.
const MOST_POINTS = 3;
const CONFIG = { displayModeBar: false, scrollZoom: true, doubleClick: false, responsive: false, showTips: false };

/**
 * The plot: requests the samples in view at the resolution of the screen, and follows live ones. Dispatches `drawn` after
 * each drawing and `loaded` after each answer.
 */
export class Plot extends EventTarget {
  /** @type {import("./figure.js").Shown[]} */
  shown = [];
  /** @type {Record<string, Error>} errors by node */
  errors = {};
  marks = {};
  /** @type {Record<string, [number, number]|null>} the values of the first and the last colour of each waterfall */
  ranges = {};
  dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  #lines = new Map();
  #infos = new Map();
  #request = new AbortController();
  #unfollow = [];
  #timers = {};
  #held = false;
  #loadedAt = 0;
  #drawing = false;
  #drawnFrom = 0;
  #isDue = false;

  /**
   * @param {import("./view.js").View} view
   * @param {import("./live.js").Live} live
   * @param {import("./alarms.js").Alarms} alarms of which the limits are drawn
   */
  constructor(view, live, alarms) {
    super();
    [this.view, this.live, this.alarms, this.element] = [view, live, alarms, byId("plot")];
    this.arrays = new Arrays(live, (isDue) => isDue && this.load());
    alarms.addEventListener("change", () => this.draw());
    view.addEventListener("change", ({ detail }) => ["plot", "range"].includes(detail) && this.#changed(detail));
    view.addEventListener("change", ({ detail }) => detail === "scale" && this.draw());
    for (const each of [zone, theme]) each.addEventListener("change", () => this.draw());
    this.#watchSize();
    // Drawing during a drag would end the drag.
    this.element.addEventListener("pointerdown", () => (this.#held = true));
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => this.#release());
    document.addEventListener("visibilitychange", () => !document.hidden && this.load());
    this.#changed("plot");
  }

  /** Return the pixels of the time axis. */
  get width() {
    return Math.max(100, this.element.clientWidth - MARGIN.l - MARGIN.r);
  }

  /** Request the samples in view. */
  async load() {
    this.#request.abort();
    const request = (this.#request = new AbortController());
    this.#loadedAt = performance.now();
    const targets = this.view.plotted;
    if (!targets.length) return;
    const [start, end] = this.view.interval;
    this.element.setAttribute("aria-busy", "true");
    try {
      const arrays = await this.arrays.among(targets);
      if (request.signal.aborted) return;
      // Before the request, so that no sample comes between its answer and those that are followed.
      if (this.view.live) this.arrays.follow(arrays, { start: () => this.view.interval[0], span: this.view.span, width: this.width, every: this.#every });
      const others = targets.filter((target) => !arrays.some((each) => each.target === target));
      const wanted = { target: others, start, end, max_points: this.#points, downsample: "minmax" };
      const options = { interval: [start, end], width: this.width, isLive: this.view.live, signal: request.signal };
      const [answer, errors] = await Promise.all([others.length ? get("/api/v1/data", wanted, request.signal) : { nodes: {}, errors: {} }, this.arrays.load(arrays, options)]);
      this.#store(answer);
      Object.assign(this.errors, errors);
    } catch (error) {
      if (error.name === "AbortError") return;
      const nodes = targets.map((target) => parts(target)[0]);
      this.errors = Object.fromEntries(nodes.map((node) => [node, error]));
    }
    this.element.removeAttribute("aria-busy");
    this.#gather();
    if (this.view.live) this.#follow();
    await this.draw();
    this.dispatchEvent(new Event("loaded"));
  }

  /**
   * Show all samples of some targets.
   * @param {string[]} [targets]
   * @param {boolean} [automatic] as of `View.showInterval`
   */
  async fit(targets = this.view.plotted, automatic = false) {
    // Of arrays only the times are needed.
    const few = (await this.arrays.among(targets)).length ? { max_points: LEAST_LIVE_POINTS, max_values: 2 } : { max_points: LEAST_POINTS };
    const answer = await get("/api/v1/data", { target: targets, start: 0.000001, end: "now", ...few });
    const times = Object.values(answer.nodes).flatMap(({ timelines }) => Object.values(timelines)).map(({ t }) => t).filter((t) => t.length);
    if (!times.length) return;
    const [from, to] = [Math.min(...times.map((t) => t[0])), Math.max(...times.map((t) => t.at(-1)))];
    const edge = Math.max(0.5, (to - from) * 0.01);
    this.view.showInterval(from - edge, to + edge, automatic);
  }

  /** Draw the samples on the page. */
  async draw() {
    clearTimeout(this.#timers.draw);
    const isSeen = !document.hidden && this.element.clientWidth > 0;
    if (this.#drawing || this.#held || !isSeen || !this.shown.length) {
      this.#isDue = true;
      return this.#drawLater();
    }
    [this.#drawing, this.#isDue] = [true, false];
    try {
      const { react } = await plotly();
      if (!this.shown.length) return undefined;
      const options = { outer: this.element.clientWidth, width: this.width, height: this.#height, dragmode: this.dragmode, isLoading: this.#isLoading, isLogarithmic: this.view.logarithmic };
      const interval = this.view.interval;
      // The past of images is not drawn.
      const shown = this.shown.filter(({ info }) => (info?.shape?.length ?? 0) < 2).map((each) => ({ ...each, alarms: this.alarms.of(each.node, each.field) }));
      const { data, layout, marks, ranges } = figure(shown, interval, options);
      [this.marks, this.ranges] = [marks, ranges];
      this.element.style.height = `${shown.length ? layout.height : 0}px`;
      const isFirst = !this.element.data;
      this.#drawnFrom = interval[0];
      await react(this.element, data, layout, CONFIG);
      if (isFirst) this.#listen();
      this.dispatchEvent(new Event("drawn"));
    } catch (error) {
      this.errors = { ...this.errors, plot: error };
      this.dispatchEvent(new Event("drawn"));
    } finally {
      this.#drawing = false;
    }
    return this.#isDue ? this.draw() : this.#drawLater();
  }

  get #points() {
    return Math.max(LEAST_POINTS, 2 * Math.round(this.width));
  }

  /** Return the height that is left for the plot. */
  get #height() {
    const bar = byId("panes").offsetHeight;
    const top = this.element.getBoundingClientRect().top + scrollY;
    const [lowest, below] = bar ? [LOWEST_ON_PHONE, BELOW_ON_PHONE] : [LOWEST, BELOW];
    return Math.max(lowest, Math.min(innerHeight - top - bar - below, HIGHEST));
  }

  get #isLoading() {
    return this.element.hasAttribute("aria-busy");
  }

  /** Return the seconds between drawings of a live view, at least those of one pixel. */
  get #every() {
    const reduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
    return Math.min(10, Math.max(reduced ? 1 : 0.25, this.view.span / this.width));
  }

  /** Set the action of dragging across the plot. @param {"zoom"|"pan"|false} dragmode */
  drag(dragmode) {
    this.dragmode = dragmode;
    this.draw();
  }

  #changed(what) {
    const some = this.view.plotted.length > 0;
    this.element.hidden = !some;
    byId("welcome").hidden = some;
    for (const node of Object.keys(this.errors)) delete this.errors[node];
    this.#gather();
    this.#stopFollowing();
    this.dispatchEvent(new Event("drawn"));
    if (some) this.element.setAttribute("aria-busy", "true");
    if (what === "range") this.draw(); // samples on the page move at once; others follow
    clearTimeout(this.#timers.load);
    this.#timers.load = setTimeout(() => this.load(), what === "plot" ? 0 : SETTLE_MS);
  }

  #store(answer) {
    this.errors = Object.fromEntries(Object.entries(answer.errors).map(([node, { error, message }]) => [node, new ApiError(0, error, message)]));
    const before = this.#lines;
    this.#lines = new Map();
    for (const [node, { timelines, fields }] of Object.entries(answer.nodes)) {
      for (const info of Object.values(fields)) this.#infos.set(`${node}::${info.name}`, info);
      for (const [name, timeline] of Object.entries(timelines)) {
        const line = lineOf(timeline, fields);
        if (this.view.live) carryOver(line, before.get(`${node}::${name}`));
        this.#lines.set(`${node}::${name}`, line);
      }
    }
  }

  /** Assign lines and descriptions to the plotted fields. */
  #gather() {
    this.shown = this.view.plotted.map((target, number) => {
      const [node, field] = parts(target);
      const array = this.arrays.of(target);
      if (array) return { target, node, field, number, ...array };
      const info = this.#infos.get(target);
      const lines = [...this.#lines].filter(([name, line]) => name.startsWith(`${node}::`) && field in line.data);
      return { target, node, field, number, info, line: lines[0]?.[1] };
    });
  }

  #follow() {
    for (const stop of this.#unfollow.splice(0)) stop();
    const every = this.#every;
    const points = Math.max(LEAST_LIVE_POINTS, Math.ceil((this.#points * every) / this.view.span));
    const known = this.shown.filter(({ info, target }) => info && !this.arrays.of(target));
    for (const group of Map.groupBy(known, ({ node, info }) => `${node}::${info.timeline}`).values()) {
      const [{ node, info }, fields] = [group[0], group.map(({ field }) => field)];
      const key = `${node}::${info.timeline}`;
      const onUpdate = (update) => this.#onUpdate(key, fields, update);
      this.#unfollow.push(this.live.follow({ node, fields, every, max_points: points }, onUpdate));
    }
  }

  #stopFollowing() {
    for (const stop of this.#unfollow.splice(0)) stop();
    this.arrays.stop();
  }

  #onUpdate(key, fields, update) {
    if (!this.#lines.has(key)) {
      const data = Object.fromEntries(fields.map((field) => [field, []]));
      const own = this.shown.filter(({ node, info }) => `${node}::${info?.timeline}` === key);
      const infos = Object.fromEntries(own.map(({ field, info }) => [field, info]));
      const nothing = { t: [], data, epochs: {}, finalized_until: null, gaps: [], late: 0, dropped: 0 };
      this.#lines.set(key, lineOf(nothing, infos));
      this.#gather();
    }
    const line = this.#lines.get(key);
    extend(line, update);
    trim(line, this.view.interval[0]);
    if (line.t.length > MOST_POINTS * this.#points) this.load();
  }

  #drawLater() {
    if (!this.view.live || !this.view.plotted.length) return;
    const again = Math.min(RELOAD.most_s, Math.max(RELOAD.least_s, this.view.span * RELOAD.share));
    clearTimeout(this.#timers.draw);
    this.#timers.draw = setTimeout(() => {
      if (!document.hidden && performance.now() > this.#loadedAt + again * 1000) this.load();
      else this.draw();
    }, this.#every * 1000);
  }

  #listen() {
    this.element.on("plotly_relayout", (change) => {
      const range = change["xaxis.range"] ?? [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (range[0] !== undefined) this.view.showInterval(...range.map((each) => fromAxis(milliseconds(each), this.#drawnFrom)));
    });
    this.element.on("plotly_doubleclick", () => this.fit().catch(() => {}));
  }

  #release() {
    if (!this.#held) return;
    this.#held = false;
    if (this.#isDue) this.draw();
  }

  #watchSize() {
    let [width, height] = [0, 0];
    const changed = () => {
      const before = width;
      if (this.element.clientWidth === width && this.#height === height) return;
      [width, height] = [this.element.clientWidth, this.#height];
      if (!width) return;
      this.draw();
      if (width === before) return;
      clearTimeout(this.#timers.load);
      this.#timers.load = setTimeout(() => this.load(), SETTLE_MS);
    };
    const observer = new ResizeObserver(changed);
    // Everything above the plot.
    const above = [document.querySelector("header"), byId("bar"), byId("alarm-banner"), byId("legend"), byId("notes"), byId("ranges"), byId("newest")];
    for (const each of [this.element, ...above]) observer.observe(each);
    addEventListener("resize", changed);
  }
}

/** Return milliseconds of a time as Plotly writes it, down to its last digit. */
function milliseconds(written) {
  if (typeof written === "number") return written;
  const [, whole, fraction] = /^([^.]*)(\.\d+)?$/.exec(String(written));
  return Date.parse(whole.length > 10 ? `${whole.replace(" ", "T")}Z` : whole) + Number(fraction ?? 0) * 1000;
}
