import { broken, quantities, runs } from "./series.js";
import { brief } from "./text.js";
import { colour, faded, seriesColour } from "./theme.js";
import { behind, prefixed, scaled } from "./units.js";
import { written, zoneNames } from "./zone.js";

/**
 * A field that is plotted.
 * @typedef {{target: string, node: string, field: string, number: number,
 *   info: import("./catalogue.js").Field|undefined, line: import("./series.js").Line|undefined}} Shown
 */

export const MARGIN = { l: 62, r: 18, t: 10, b: 44 };
const [LEAST_PANEL, SPACE] = [150, 18];
// A band has its name above it.
const [BAND, NAME] = [26, 20];
const ROW = BAND + NAME;
// Fewer samples than this share of the pixels are shown as points, too.
const SPARSE = 0.1;
const MOST_SHAPES = 300;
const FONT = "system-ui, sans-serif";

/**
 * Return a part for each of a field's units, drawn in a panel of its own; texts and bools are drawn as bands.
 * @param {Shown} each
 * @returns {(Shown & import("./series.js").Quantity)[]}
 */
function parts(each) {
  const whole = { units: each.info?.units ?? null, isNumber: (each.info?.type ?? "number") === "number", spans: [[-Infinity, Infinity]] };
  return (each.line ? quantities(each.line, each.field) : [whole]).map((part) => ({ ...each, ...part }));
}

/**
 * Return what Plotly draws: a panel for each unit, one above the other on one axis of time, and below them bands of texts
 * and bools. A field whose units changed has a line in each of their panels.
 * @param {Shown[]} shown
 * @param {[number, number]} interval UNIX seconds
 * @param {{outer: number, width: number, height: number, dragmode: string|false, isLoading: boolean}} how `outer` is the
 *   width with all margins
 */
export function figure(shown, interval, how) {
  // What has no samples has no axis either: nothing is known of its values.
  const there = shown.filter((each) => hasSamples(each, interval)).flatMap(parts);
  if (!there.length) return empty(shown, interval, how);
  const bands = there.filter(({ isNumber }) => !isNumber);
  const units = Map.groupBy(there.filter(({ isNumber }) => isNumber), (each) => each.units ?? "");
  const panels = [...units].map(([unit, fields]) => curves(unit, fields));
  const bandHeight = bands.length ? new Set(bands.map(({ target }) => target)).size * ROW : 0;
  const spaces = (panels.length + (bands.length ? 1 : 0) - 1) * SPACE;
  const room = how.height - MARGIN.t - MARGIN.b - spaces - bandHeight;
  for (const panel of panels) panel.height = Math.max(LEAST_PANEL, room / panels.length);
  if (bands.length) panels.push({ unit: null, fields: bands, height: bandHeight });
  const inside = panels.reduce((sum, { height }) => sum + height, spaces);
  const layout = frame(interval, how, inside + MARGIN.t + MARGIN.b);
  const [data, marks] = [[], { gaps: false, open: false, thinned: false }];
  const pixel = (interval[1] - interval[0]) / how.width;
  let top = inside;
  panels.forEach((panel, i) => {
    const axis = i ? `y${i + 1}` : "y";
    layout[i ? `yaxis${i + 1}` : "yaxis"] = {
      ...yAxis(panel, how),
      domain: [Math.max(0, (top - panel.height) / inside), top / inside],
    };
    layout.xaxis.anchor = axis; // of the lowest panel
    for (const each of panel.fields) {
      if (!each.line) continue;
      data.push(panel.unit === null ? band(each, axis, interval) : curve(each, axis, interval, how.width, panel));
      marks.thinned ||= each.line.thinned;
    }
    if (panel.unit === null) nameBands(layout, panel.fields, axis);
    shade(layout, panel, axis, interval, pixel, marks);
    top -= panel.height + SPACE;
  });
  return { data, layout, marks };
}

/** Whether a field has a value in view. */
function hasSamples({ line, field }, [from]) {
  return Boolean(line) && line.t.at(-1) >= from && (line.data[field] ?? []).some((value) => value !== null);
}

/** Return a panel of curves, with what is drawn of each and the units of its axis. */
function curves(unit, fields) {
  const drawn = fields.map((each) => ({ ...each, points: broken(each.line, each.field, each.spans) }));
  let size = 0;
  for (const { points } of drawn) for (const value of points.values) if (Math.abs(value) > size) size = Math.abs(value);
  const { units: near, factor } = prefixed(unit, size);
  return { unit, near, factor, fields: drawn, height: 0 };
}

/** Return an axis of time that nothing is drawn over, with what was lost there. */
function empty(shown, interval, how) {
  const layout = frame(interval, how, how.height);
  const [marks, pixel] = [{ gaps: false, open: false, thinned: false }, (interval[1] - interval[0]) / how.width];
  layout.yaxis = { visible: false, fixedrange: true, range: [0, 1] };
  shade(layout, { fields: shown }, "y", interval, pixel, marks);
  if (!how.isLoading) {
    layout.annotations.push({ x: 0.5, xref: "paper", y: 0.5, yref: "paper", showarrow: false, text: "No samples in this span", name: "empty",
      font: { size: 16, color: colour("text-quiet") } });
  }
  const data = [{ type: "scatter", x: [null], y: [null], hoverinfo: "skip" }];
  return { data, layout, marks };
}

function frame(interval, how, height) {
  const text = colour("text-quiet");
  return {
    width: how.outer,
    height,
    margin: MARGIN,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: text },
    showlegend: false,
    barmode: "overlay",
    dragmode: how.dragmode,
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("text"), family: FONT } },
    uniformtext: { minsize: 10, mode: "hide" },
    shapes: [],
    annotations: [zoneLabel(zoneNames(...interval))],
    xaxis: {
      type: "date",
      range: interval.map((t) => written(t, interval[0])),
      gridcolor: colour("grid"),
      linecolor: colour("line"),
      tickcolor: colour("line"),
      ticks: "outside",
      zeroline: false,
      hoverformat: "%Y-%m-%d %H:%M:%S.%3f",
      nticks: Math.max(2, Math.round(how.width / 110)),
    },
  };
}

/** Return the zone of the axis of time: left of it, where no tick is labelled, or below it if that is too narrow. */
function zoneLabel(text) {
  const place = text.length < 10 ? { x: 0, xshift: -6, yshift: -4 } : { x: 1, xshift: 0, yshift: -26 };
  return { ...place, xref: "paper", xanchor: "right", y: 0, yref: "paper", yanchor: "top", showarrow: false, text, name: "zone", font: { size: 11 } };
}

function yAxis(panel, how) {
  const lines = { gridcolor: colour("grid"), linecolor: colour("line"), tickcolor: colour("line"), fixedrange: true };
  if (panel.unit === null) {
    const names = targets(panel.fields);
    return { ...lines, type: "category", categoryorder: "array", categoryarray: [...names].reverse(), range: [-0.5, names.length - 0.5],
      showticklabels: false, ticks: "", showgrid: false };
  }
  return { ...lines, zeroline: false, ticks: "", nticks: Math.max(3, Math.round(panel.height / 45)), exponentformat: "power",
    autorange: true, title: { text: escaped(axisName(panel)), font: { size: 12, color: colour("text") } }, rangemode: "normal",
    tickfont: { size: how.width < 500 ? 10 : 12 } };
}

/** Return what stands beside the axis of a panel: its units, or the name of its field where that has none. */
function axisName({ near, unit, fields }) {
  const names = targets(fields);
  return behind(near).trim() || (names.length === 1 ? brief(fields[0].field) : unit);
}

function curve(each, axis, interval, width, panel) {
  const { t, values } = each.points;
  return {
    type: "scatter",
    mode: t.length < width * SPARSE ? "lines+markers" : "lines",
    name: nameOf(each),
    x: t.map((each) => written(each, interval[0])),
    // A copy in any case: a live line grows and is cut while Plotly shows it.
    y: values.map((value) => (value === null ? null : scaled(value, panel.factor))),
    yaxis: axis,
    connectgaps: false,
    line: { color: seriesColour(each.number), width: 1.5 },
    marker: { size: 4 },
    hovertemplate: hover(each, `%{y:.6~g}${escaped(behind(panel.near))}`),
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
    base: found.map((run) => written(run.from, interval[0])),
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

/** Return a line of the box at the pointer: Plotly's own has a space before the colon, and cuts long names. */
const hover = (each, value) => `${escaped(nameOf(each))}: ${value}<extra></extra>`;

// How much of a field's colour its values have, in turn.
const SHADES = [0.45, 0.2, 0.6, 0.32];

/** Return a shade of a field's colour for one of its values; `false` is pale. */
function bandColour(value, values, number) {
  if (value === false) return colour("band-off");
  return faded(seriesColour(number), SHADES[value === true ? 0 : values.indexOf(value) % SHADES.length]);
}

/** Return the fields of a panel, each once, in their order. */
const targets = (fields) => [...new Set(fields.map(({ target }) => target))];

/** Write above each band the whole name of its field. */
function nameBands(layout, fields, axis) {
  const names = targets(fields);
  names.forEach((target, i) => {
    const { field, number } = fields.find((each) => each.target === target);
    layout.annotations.push({ x: 0, xref: "x domain", xanchor: "left", y: 1 - (i * ROW) / (names.length * ROW), yref: `${axis} domain`, yanchor: "top",
      text: escaped(field), showarrow: false, align: "left", borderpad: 0, name: "band", font: { size: 12, color: seriesColour(number) } });
  });
}

/** Shade the gaps of a panel's timelines, and veil what may still change. */
function shade(layout, panel, axis, [from, to], pixel, marks) {
  const lines = [...new Set(panel.fields.map(({ line }) => line).filter(Boolean))];
  const place = { xref: "x", yref: `${axis} domain`, y0: 0, y1: 1 };
  const label = (t, text) =>
    layout.annotations.push({ x: written(t, from), y: 1, xref: "x", yref: `${axis} domain`, text, showarrow: false, yanchor: "top",
      font: { size: 11, color: colour("text-quiet") } });
  for (const [begin, end] of lines.flatMap(({ gaps }) => gaps)) {
    const [x0, x1] = [Math.max(begin, from), Math.min(end, to)];
    if (x1 <= x0 || layout.shapes.length > MOST_SHAPES) continue;
    marks.gaps = true;
    const wide = Math.max(x1, x0 + pixel);
    layout.shapes.push({ type: "rect", ...place, x0: written(x0, from), x1: written(wide, from), fillcolor: colour("gap"), line: { width: 0 }, layer: "below", name: "gap" });
    if ((x1 - x0) / pixel > 44) label((x0 + x1) / 2, "gap");
  }
  const finals = lines.map(({ final }) => final).filter((final) => final !== null);
  const final = Math.max(from, Math.min(...finals));
  if (!finals.length || (to - final) / pixel < 2) return;
  marks.open = true;
  const x0 = written(final, from);
  layout.shapes.push({ type: "rect", ...place, x0, x1: written(to, from), fillcolor: colour("veil"), line: { width: 0 }, layer: "above", name: "open" });
  layout.shapes.push({ type: "line", ...place, x0, x1: x0, line: { width: 1, dash: "dot", color: colour("text-quiet") }, name: "final" });
}

/** Plotly reads some tags in its texts; what comes from a node is to be shown as it is. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");
