import { isArray } from "./axis.js";
import { drawLimits } from "./limits.js";
import { broken, quantities, runs } from "./series.js";
import { brief } from "./text.js";
import { colour, faded, seriesColour } from "./theme.js";
import { prefixed, scaled, unitsSuffix } from "./units.js";
import { waterfall } from "./waterfall.js";
import { toAxis, zoneNames } from "./zone.js";

/**
 * A field that is plotted.
 * @typedef {{target: string, node: string, field: string, number: number,
 *   info: import("./catalogue.js").Field|undefined, line: import("./series.js").Line|undefined,
 *   newest?: import("./arrays.js").Newest|null,
 *   alarms?: import("./alarms.js").Alarm[]}} Shown
 */

export const MARGIN = { l: 62, r: 18, t: 10, b: 44 };
const [LEAST_PANEL, LEAST_WATERFALL, SPACE] = [150, 260, 18];
// The name of a band is above it.
const [BAND, NAME] = [26, 20];
const ROW = BAND + NAME;
// If there are fewer samples than this share of the pixels, they are also drawn as points.
const SPARSE = 0.1;
const MOST_SHAPES = 300;
const FONT = "system-ui, sans-serif";

/**
 * Return a part for each of a field's units, to be drawn in separate panels; strings and bools are drawn as bands.
 * @param {Shown} each
 * @returns {(Shown & import("./series.js").Quantity)[]}
 */
function parts(each) {
  const whole = { units: each.info?.units ?? null, isNumber: (each.info?.type ?? "number") === "number", spans: [[-Infinity, Infinity]] };
  return (each.line ? quantities(each.line, each.field) : [whole]).map((part) => ({ ...each, ...part }));
}

/**
 * Return data and layout for Plotly: a panel for each unit, all on one time axis, and below them the bands of strings and
 * bools. A field whose units changed has a line in each of their panels. An array field has a panel of its own.
 * @param {Shown[]} shown
 * @param {[number, number]} interval UNIX seconds
 * @param {{outer: number, width: number, height: number, dragmode: string|false, isLoading: boolean, isLogarithmic: boolean}} options `outer` is the
 *   width with all margins
 */
export function figure(shown, interval, options) {
  // A field without samples has no axis: the range of its values is unknown.
  const drawable = shown.filter((each) => hasSamples(each, interval)).flatMap(parts);
  if (!drawable.length) return empty(shown, interval, options);
  const bands = drawable.filter(({ isNumber }) => !isNumber);
  const [arrays, numbers] = [true, false].map((wanted) => drawable.filter(({ isNumber, info }) => isNumber && isArray(info) === wanted));
  const units = Map.groupBy(numbers, (each) => each.units ?? "");
  const panels = [...units].map(([unit, fields]) => curvePanel(unit, fields));
  for (const each of arrays) panels.push({ unit: each.units ?? "", fields: [each], height: 0, isArray: true });
  const bandHeight = bands.length ? new Set(bands.map(({ target }) => target)).size * ROW : 0;
  const spaces = (panels.length + (bands.length ? 1 : 0) - 1) * SPACE;
  const room = options.height - MARGIN.t - MARGIN.b - spaces - bandHeight;
  for (const panel of panels) {
    panel.height = Math.max(panel.isArray ? LEAST_WATERFALL : LEAST_PANEL, room / panels.length);
    if (panel.isArray) panel.drawn = waterfall(panel.fields[0], interval, { width: options.width, height: panel.height - NAME }, options.isLogarithmic);
  }
  if (bands.length) panels.push({ unit: null, fields: bands, height: bandHeight });
  const inside = panels.reduce((sum, { height }) => sum + height, spaces);
  const layout = frame(interval, options, inside + MARGIN.t + MARGIN.b);
  const [data, marks] = [[], { gaps: false, open: false, downsampled: false, limits: false }];
  const pixel = (interval[1] - interval[0]) / options.width;
  let top = inside;
  panels.forEach((panel, i) => {
    const axis = i ? `y${i + 1}` : "y";
    layout[i ? `yaxis${i + 1}` : "yaxis"] = {
      ...yAxis(panel, options),
      domain: [Math.max(0, (top - panel.height) / inside), (top - (panel.drawn ? NAME : 0)) / inside],
    };
    layout.xaxis.anchor = axis; // of the lowest panel
    for (const each of panel.fields) {
      if (!each.line) continue;
      if (panel.drawn) data.push({ ...panel.drawn.trace, name: nameOf(each), yaxis: axis, hovertemplate: hoverAlong(each, panel.drawn) });
      else data.push(panel.unit === null ? band(each, axis, interval) : curve(each, axis, interval, options.width, panel));
      marks.downsampled ||= each.line.downsampled && !panel.drawn;
    }
    if (panel.drawn) nameArray(layout, panel.fields[0], panel.drawn.how, axis);
    else if (panel.unit === null) nameBands(layout, panel.fields, axis);
    else if (drawLimits(layout, panel, axis, layout[i ? `yaxis${i + 1}` : "yaxis"])) marks.limits = true;
    shade(layout, panel, axis, interval, pixel, marks);
    top -= panel.height + SPACE;
  });
  return { data, layout, marks, ranges: Object.fromEntries(panels.filter(({ drawn }) => drawn).map(({ fields, drawn }) => [fields[0].target, drawn.range])) };
}

/** Whether a field has a value in view. */
function hasSamples({ line, field }, [from]) {
  return Boolean(line) && line.t.at(-1) >= from && (line.data[field] ?? []).some((value) => value !== null);
}

/** Return a panel of curves, with the points of each and the units of its axis. */
function curvePanel(unit, fields) {
  const drawn = fields.map((each) => ({ ...each, points: broken(each.line, each.field, each.spans) }));
  let size = 0;
  for (const { points } of drawn) for (const value of points.values) if (Math.abs(value) > size) size = Math.abs(value);
  const { units: near, factor } = prefixed(unit, size);
  return { unit, near, factor, fields: drawn, height: 0 };
}

/** Return an empty plot: a time axis with the gaps. */
function empty(shown, interval, options) {
  const layout = frame(interval, options, options.height);
  const [marks, pixel] = [{ gaps: false, open: false, downsampled: false, limits: false }, (interval[1] - interval[0]) / options.width];
  layout.yaxis = { visible: false, fixedrange: true, range: [0, 1] };
  shade(layout, { fields: shown }, "y", interval, pixel, marks);
  if (!options.isLoading) {
    layout.annotations.push({ x: 0.5, xref: "paper", y: 0.5, yref: "paper", showarrow: false, text: "No samples in this interval", name: "empty",
      font: { size: 16, color: colour("text-quiet") } });
  }
  const data = [{ type: "scatter", x: [null], y: [null], hoverinfo: "skip" }];
  return { data, layout, marks, ranges: {} };
}

function frame(interval, options, height) {
  const text = colour("text-quiet");
  return {
    width: options.outer,
    height,
    margin: MARGIN,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: text },
    showlegend: false,
    barmode: "overlay",
    dragmode: options.dragmode,
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text"), family: FONT } },
    uniformtext: { minsize: 10, mode: "hide" },
    shapes: [],
    annotations: [zoneLabel(zoneNames(...interval))],
    xaxis: {
      type: "date",
      range: interval.map((t) => toAxis(t, interval[0])),
      gridcolor: colour("grid"),
      linecolor: colour("line"),
      tickcolor: colour("line"),
      ticks: "outside",
      zeroline: false,
      hoverformat: "%Y-%m-%d %H:%M:%S.%3f",
      nticks: Math.max(2, Math.round(options.width / 110)),
    },
  };
}

/** Return the label of the time zone: left of the time axis, where no tick is labelled, or below the axis if it is long. */
function zoneLabel(text) {
  const place = text.length < 10 ? { x: 0, xshift: -6, yshift: -4 } : { x: 1, xshift: 0, yshift: -26 };
  return { ...place, xref: "paper", xanchor: "right", y: 0, yref: "paper", yanchor: "top", showarrow: false, text, name: "zone", font: { size: 11 } };
}

function yAxis(panel, options) {
  const lines = { gridcolor: colour("grid"), linecolor: colour("line"), tickcolor: colour("line"), fixedrange: true };
  if (panel.drawn) {
    const { ends, along } = panel.drawn;
    return { ...lines, zeroline: false, showgrid: false, ticks: "outside", nticks: Math.max(3, Math.round(panel.height / 45)), range: ends,
      title: { text: escaped(along.title), font: { size: 12, color: colour("text") } }, tickfont: { size: options.width < 500 ? 10 : 12 } };
  }
  if (panel.unit === null) {
    const names = targets(panel.fields);
    return { ...lines, type: "category", categoryorder: "array", categoryarray: [...names].reverse(), range: [-0.5, names.length - 0.5],
      showticklabels: false, ticks: "", showgrid: false };
  }
  return { ...lines, zeroline: false, ticks: "", nticks: Math.max(3, Math.round(panel.height / 45)), exponentformat: "power",
    autorange: true, title: { text: escaped(axisName(panel)), font: { size: 12, color: colour("text") } }, rangemode: "normal",
    tickfont: { size: options.width < 500 ? 10 : 12 } };
}

/** Return the title of a panel's axis: its units, or the name of its field if that has no units. */
function axisName({ near, unit, fields }) {
  const names = targets(fields);
  return unitsSuffix(near).trim() || (names.length === 1 ? brief(fields[0].field) : unit);
}

function curve(each, axis, interval, width, panel) {
  const { t, values } = each.points;
  return {
    type: "scatter",
    mode: t.length < width * SPARSE ? "lines+markers" : "lines",
    name: nameOf(each),
    x: t.map((each) => toAxis(each, interval[0])),
    // Always a copy: a live line grows and is trimmed while Plotly shows it.
    y: values.map((value) => (value === null ? null : scaled(value, panel.factor))),
    yaxis: axis,
    connectgaps: false,
    line: { color: seriesColour(each.number), width: 1.5 },
    marker: { size: 4 },
    hovertemplate: hover(each, `%{y:.6~g}${escaped(unitsSuffix(panel.near))}`),
  };
}

function band(each, axis, interval) {
  const found = runs(each.line, each.field, each.spans, ...interval);
  const values = [...new Set(each.line.data[each.field])].sort();
  return {
    type: "bar",
    orientation: "h",
    name: nameOf(each),
    y: found.map(() => each.target),
    base: found.map((run) => toAxis(run.from, interval[0])),
    x: found.map((run) => Math.max(1e-3, (run.to - run.from) * 1000)),
    width: BAND / ROW,
    offset: -0.5,
    yaxis: axis,
    text: found.map((run) => escaped(brief(run.value))),
    textposition: "inside",
    insidetextanchor: "middle",
    insidetextfont: { color: colour("text"), size: 11 },
    textangle: 0,
    marker: { color: found.map((run) => bandColour(run.value, values, each.number)), line: { width: 0.5, color: colour("raised") } },
    hovertemplate: hover(each, "%{text}"),
  };
}

const nameOf = ({ node, field }) => `${node} ${field}`;

/** Return a line of the box at the pointer: Plotly's default has a space before the colon, and cuts long names. */
const hover = (each, value) => `${escaped(nameOf(each))}: ${value}<extra></extra>`;

/** Return a line of the box at the pointer, for a value of an array. */
const hoverAlong = (each, { along, near }) =>
  hover(each, `%{customdata:.4~g}${escaped(near)} at ${escaped(along.title.replace(/ \(.*/, ""))} %{y:.5~g}${escaped(unitsSuffix(along.units))}`);

/** Add the name of an array field above its panel, and how its values were reduced. */
function nameArray(layout, each, how, axis) {
  layout.annotations.push({ x: 0, xref: "x domain", xanchor: "left", y: 1, yref: `${axis} domain`, yanchor: "bottom", showarrow: false, align: "left", borderpad: 0, name: "array",
    text: `<b>${escaped(each.field)}</b>${how ? `  ${escaped(how)}` : ""}`, font: { size: 12, color: colour("text-quiet") } });
}

// Opacities of a field's colour, for its values in turn.
const SHADES = [0.45, 0.2, 0.6, 0.32];

/** Return a shade of a field's colour for one of its values; `false` is pale. */
function bandColour(value, values, number) {
  if (value === false) return colour("band-off");
  return faded(seriesColour(number), SHADES[value === true ? 0 : values.indexOf(value) % SHADES.length]);
}

/** Return the distinct fields of a panel. */
const targets = (fields) => [...new Set(fields.map(({ target }) => target))];

/** Add the full name of its field above each band. */
function nameBands(layout, fields, axis) {
  const names = targets(fields);
  names.forEach((target, i) => {
    const { field, number } = fields.find((each) => each.target === target);
    layout.annotations.push({ x: 0, xref: "x domain", xanchor: "left", y: 1 - (i * ROW) / (names.length * ROW), yref: `${axis} domain`, yanchor: "top",
      text: escaped(field), showarrow: false, align: "left", borderpad: 0, name: "band", font: { size: 12, color: seriesColour(number) } });
  });
}

/** Shade the gaps of a panel's timelines, and veil samples that may still change. */
function shade(layout, panel, axis, [from, to], pixel, marks) {
  const lines = [...new Set(panel.fields.map(({ line }) => line).filter(Boolean))];
  const place = { xref: "x", yref: `${axis} domain`, y0: 0, y1: 1 };
  const label = (t, text) =>
    layout.annotations.push({ x: toAxis(t, from), y: 1, xref: "x", yref: `${axis} domain`, text, showarrow: false, yanchor: "top",
      font: { size: 11, color: colour("text-quiet") } });
  for (const [begin, end] of lines.flatMap(({ gaps }) => gaps)) {
    const [x0, x1] = [Math.max(begin, from), Math.min(end, to)];
    if (x1 <= x0 || layout.shapes.length > MOST_SHAPES) continue;
    marks.gaps = true;
    const wide = Math.max(x1, x0 + pixel);
    layout.shapes.push({ type: "rect", ...place, x0: toAxis(x0, from), x1: toAxis(wide, from), fillcolor: colour("gap"), line: { width: 0 }, layer: "below", name: "gap" });
    if ((x1 - x0) / pixel > 44) label((x0 + x1) / 2, "gap");
  }
  const watermarks = lines.map(({ watermark }) => watermark).filter((watermark) => watermark !== null);
  const watermark = Math.max(from, Math.min(...watermarks));
  if (!watermarks.length || (to - watermark) / pixel < 2) return;
  marks.open = true;
  const x0 = toAxis(watermark, from);
  layout.shapes.push({ type: "rect", ...place, x0, x1: toAxis(to, from), fillcolor: colour("veil"), line: { width: 0 }, layer: "above", name: "open" });
  layout.shapes.push({ type: "line", ...place, x0, x1: x0, line: { width: 1, dash: "dot", color: colour("text-quiet") }, name: "watermark" });
}

/** Return a text that Plotly shows literally: it would parse tags and templates in texts of a node. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");
