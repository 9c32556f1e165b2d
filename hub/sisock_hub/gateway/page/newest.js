import { coordinate, edges, isArray, places, sizeText } from "./axis.js";
import { byId, make, setText } from "./dom.js";
import { plotly } from "./library.js";
import { colourKey, colourRange, colourScale } from "./shades.js";
import { brief, moment } from "./text.js";
import { colour, seriesColour, theme } from "./theme.js";
import { prefixed, scaled, unitsSuffix } from "./units.js";
import { zone, zoneName } from "./zone.js";

const MARGIN = { l: 62, r: 18, t: 8, b: 40 };
const [LINE_HEIGHT, IMAGE_HEIGHT] = [180, 320];
// Arrays with fewer values are drawn with a point for each.
const FEW = 60;
const FONT = "system-ui, sans-serif";
const CONFIG = { displayModeBar: false, doubleClick: "reset", responsive: false, showTips: false };

/** Above the plot, the newest sample of each array field: a line over its axis, or an image. */
export class NewestSamples {
  /** @type {Map<string, {element: HTMLElement, caption: HTMLElement, plot: any, drawn: string, isDrawing: boolean}>} */
  #shown = new Map();

  /**
   * @param {import("./plot.js").Plot} plot
   * @param {import("./view.js").View} view
   */
  constructor(plot, view) {
    [this.plot, this.view, this.place] = [plot, view, byId("newest")];
    this.logarithmic = make("input", { type: "checkbox", onchange: () => view.setScale(this.logarithmic.checked) });
    this.scale = make("label", { class: "scale" }, this.logarithmic, " Logarithmic");
    for (const name of ["drawn", "loaded"]) plot.addEventListener(name, () => this.#update());
    for (const each of [theme, zone]) each.addEventListener("change", () => this.#update());
    view.addEventListener("change", ({ detail }) => detail === "scale" && this.#update());
  }

  #update() {
    const arrays = this.plot.shown.map((each) => ({ ...each, ...this.plot.arrays.of(each.target) })).filter(({ info, newest }) => isArray(info) && newest);
    const targets = arrays.map(({ target }) => target);
    for (const [target, { element }] of this.#shown) if (!targets.includes(target)) (element.remove(), this.#shown.delete(target));
    this.place.hidden = !arrays.length;
    this.logarithmic.checked = this.view.logarithmic;
    if (!arrays.length) return;
    if (!this.scale.isConnected) this.place.prepend(this.scale);
    for (const each of arrays) {
      if (!this.#shown.has(each.target)) this.#shown.set(each.target, this.#made());
      this.#draw(this.#shown.get(each.target), each).catch(() => {}); // the plot shows the error of a library that cannot be loaded
    }
  }

  #made() {
    const [caption, plot] = [make("p", { class: "quiet" }), make("div", { role: "img" })];
    const element = make("div", { class: "sample" }, caption, plot);
    this.place.append(element);
    return { element, caption, plot, drawn: "", isDrawing: false };
  }

  async #draw(shown, each) {
    const { node, field, info, newest } = each;
    const width = shown.plot.clientWidth;
    const version = [newest.t, width, colour("text"), zoneName(newest.t), this.view.logarithmic].join();
    if (shown.isDrawing || !width || version === shown.drawn) return;
    [shown.isDrawing, shown.drawn] = [true, version];
    try {
      const { react } = await plotly();
      const isLine = info.shape.length === 1;
      const { data, layout, note, spoken } = (isLine ? lineOf : imageOf)(each, this.view.logarithmic);
      shown.caption.replaceChildren(make("strong", {}, field), ` newest: ${moment(newest.t, 3)} ${zoneName(newest.t)}`, ...note);
      shown.plot.setAttribute("aria-label", `Newest sample of ${node} ${field}: ${sizeText(info)}, ${spoken}`);
      await react(shown.plot, data, { ...frame(), ...layout, width, height: isLine ? LINE_HEIGHT : IMAGE_HEIGHT }, CONFIG);
    } finally {
      shown.isDrawing = false;
    }
  }
}

function lineOf({ number, newest, info }, isLogarithmic) {
  const { values, reduced } = newest;
  const along = coordinate(info, 0);
  const numbers = values.filter((value) => value !== null);
  const size = numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const { units, factor } = prefixed(newest.units, size);
  const trace = { type: "scatter", mode: values.length < FEW ? "lines+markers" : "lines", x: places(along.values, reduced), y: values.map((value) => (value === null ? null : scaled(value, factor))),
    line: { color: seriesColour(number), width: 1.2 }, hovertemplate: `%{y:.5~g}${escaped(unitsSuffix(units))}<extra></extra>` };
  const layout = { hovermode: "x unified", xaxis: { ...axis(along.title), unifiedhovertitle: { text: `${escaped(along.title.replace(/ \(.*/, ""))} %{x:.6~g}${escaped(unitsSuffix(along.units))}` } }, yaxis: { ...axis(unitsSuffix(units).trim()), fixedrange: true, nticks: 5, exponentformat: "power", ...(isLogarithmic ? { type: "log", tickformat: "~g" } : { type: "linear" }) } };
  const note = reduced ? [`; minimum and maximum of ${reduced.block[0]} values each`] : [];
  return { data: [trace], layout, note, spoken: spoken(numbers, newest.units) };
}

function imageOf({ newest, info }, isLogarithmic) {
  const { values, reduced } = newest;
  const range = colourRange(values, isLogarithmic);
  const numbers = values.flat().filter((value) => value !== null);
  const [down, right] = [0, 1].map((dimension) => coordinate(info, dimension));
  const [y, x] = [down, right].map(({ values: along }, dimension) => edges(along, reduced?.block[dimension] ?? 1));
  const shown = isLogarithmic ? values.map((row) => row.map((value) => (value > 0 ? Math.log10(value) : null))) : values;
  const [zmin, zmax] = (range ?? [0, 1]).map((limit) => (isLogarithmic ? Math.log10(limit) : limit));
  const trace = { type: "heatmap", x, y, z: shown, customdata: values, zmin, zmax, zauto: false, colorscale: colourScale(), showscale: false, hoverongaps: false,
    hovertemplate: `%{customdata:.5~g}${escaped(unitsSuffix(newest.units))} at %{x:.5~g}, %{y:.5~g}<extra></extra>` };
  const square = info.axis ? {} : { scaleanchor: "x", constrain: "domain" };
  const layout = { hovermode: "closest", xaxis: { ...axis(right.title), constrain: "domain" }, yaxis: { ...axis(down.title), range: [y.at(-1), y[0]], ...square } };
  const key = range ? ["; ", ...colourKey(range, newest.units)] : [];
  const note = [...(reduced ? [`; maximum of ${reduced.block.join(" × ")} values each`] : []), ...key];
  return { data: [trace], layout, note, spoken: spoken(numbers, newest.units) };
}

const axis = (title) => ({ title: { text: escaped(title), font: { size: 12, color: colour("text") }, standoff: 4 }, gridcolor: colour("grid"), linecolor: colour("line"), tickcolor: colour("line"), zeroline: false });

function frame() {
  return {
    margin: MARGIN,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: colour("text-quiet") },
    showlegend: false,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text"), family: FONT } },
    uirevision: "kept", // a zoom stays while new samples come
  };
}

function spoken(numbers, units) {
  if (!numbers.length) return "without a value";
  const [least, most] = numbers.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  return `from ${brief(least)} to ${brief(most)}${unitsSuffix(units)}`;
}

/** Return a text that Plotly shows literally. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");
