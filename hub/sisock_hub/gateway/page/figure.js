import { broken, quantities, runs } from "./series.js";
import { behind, brief } from "./text.js";
import { colour, faded, seriesColour } from "./theme.js";
import { written, zoneNames } from "./zone.js";

/**
 * A field that is plotted.
 * @typedef {{target: string, node: string, field: string, number: number,
 *   info: import("./catalogue.js").Field|undefined, line: import("./series.js").Line|undefined}} Shown
 */

export const MARGIN = { l: 68, r: 18, t: 10, b: 44 };
const [LEAST_PANEL, ROW, SPACE] = [150, 30, 18];
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
 * @param {{width: number, height: number, dragmode: string|false}} how
 */
export function figure(shown, interval, how) {
  // A field that nothing is known of has no panel, unless it is the only thing that there is.
  const known = shown.filter(({ info, line }) => info || line);
  const there = (known.length ? known : shown).flatMap(parts);
  const bands = there.filter(({ isNumber }) => !isNumber);
  const units = Map.groupBy(there.filter(({ isNumber }) => isNumber), (each) => each.units ?? "");
  const panels = [...units].map(([unit, fields]) => ({ unit, fields, height: 0 }));
  const bandHeight = bands.length ? new Set(bands.map(({ target }) => target)).size * ROW + 8 : 0;
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
      data.push(panel.unit === null ? band(each, axis, interval) : curve(each, axis, interval, how.width));
      marks.thinned ||= each.line.thinned;
    }
    // Plotly leaves out a panel that has nothing at all.
    if (!panel.fields.some(({ line }) => line)) data.push({ type: "scatter", x: [null], y: [null], yaxis: axis, hoverinfo: "skip" });
    shade(layout, panel, axis, interval, pixel, marks);
    top -= panel.height + SPACE;
  });
  return { data, layout, marks };
}

function frame(interval, how, height) {
  const text = colour("text-quiet");
  return {
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
    annotations: [],
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
      title: { text: zoneNames(...interval), font: { size: 11 } },
    },
  };
}

function yAxis(panel, how) {
  const lines = { gridcolor: colour("grid"), linecolor: colour("line"), tickcolor: colour("line"), fixedrange: true };
  if (panel.unit === null) {
    const fields = new Map(panel.fields.map(({ target, field }) => [target, field]));
    const names = [...fields.keys()];
    const labels = [...fields.values()].map((field) => (field.length > 9 ? `…${field.slice(-8)}` : field));
    return { ...lines, type: "category", categoryorder: "array", categoryarray: [...names].reverse(), range: [-0.5, names.length - 0.5],
      tickmode: "array", tickvals: names, ticktext: labels, showgrid: false, tickfont: { size: 11 } };
  }
  return { ...lines, zeroline: false, ticks: "", nticks: Math.max(3, Math.round(panel.height / 45)), exponentformat: "power",
    autorange: true, title: { text: behind(panel.unit), font: { size: 12, color: colour("text") } }, rangemode: "normal",
    tickfont: { size: how.width < 500 ? 10 : 12 } };
}

function curve(each, axis, interval, width) {
  const { t, values } = broken(each.line, each.field, each.spans);
  return {
    type: "scatter",
    mode: t.length < width * SPARSE ? "lines+markers" : "lines",
    name: `${each.node} ${each.field}`,
    x: t.map((each) => written(each, interval[0])),
    y: [...values], // a live line grows and is cut while Plotly shows it
    yaxis: axis,
    connectgaps: false,
    line: { color: seriesColour(each.number), width: 1.5 },
    marker: { size: 4 },
    hovertemplate: `%{y:.6~g}${escaped(behind(each.units))}`,
  };
}

function band(each, axis, interval) {
  const found = runs(each.line, each.field, each.spans, ...interval);
  const values = [...new Set(each.line.data[each.field])].sort();
  return {
    type: "bar",
    orientation: "h",
    name: `${each.node} ${each.field}`,
    y: found.map(() => each.target),
    base: found.map((run) => written(run.from, interval[0])),
    x: found.map((run) => Math.max(1e-3, (run.to - run.from) * 1000)),
    width: 0.72,
    yaxis: axis,
    text: found.map((run) => escaped(brief(run.value))),
    textposition: "inside",
    insidetextanchor: "middle",
    insidetextfont: { color: colour("text"), size: 11 },
    textangle: 0,
    marker: { color: found.map((run) => bandColour(run.value, values, each.number)), line: { width: 0 } },
    hovertemplate: "%{text}",
  };
}

/** Return a colour for a value: `false` is pale, and others differ. */
function bandColour(value, values, number) {
  if (value === false) return colour("band-off");
  return faded(seriesColour(value === true ? number : values.indexOf(value)), 0.45);
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
