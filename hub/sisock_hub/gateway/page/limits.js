import { colour } from "./theme.js";
import { scaled } from "./units.js";

const COLOURS = { critical: "bad", error: "bad", warning: "warn", info: "accent" };
// A limit that is farther from the values than this many times their range is named at the edge, so that they keep their detail.
const FAR = 3;

/**
 * Draw the limits of alarms into the panel of their fields: a line, or an arrow at the edge if the limit is far from all values.
 * @param {any} layout of Plotly
 * @param {{unit: string, factor: number, fields: {alarms?: import("./alarms.js").Alarm[], points: {values: any[]}}[]}} panel
 * @param {string} axis
 * @param {any} yaxis the layout of that axis
 * @returns {boolean} whether there are any
 */
export function drawLimits(layout, panel, axis, yaxis) {
  const limits = panel.fields.flatMap(({ alarms = [] }) => alarms.flatMap((alarm) => limitsOf(alarm, panel)));
  const [least, most] = range(panel);
  const far = FAR * (most - least || Math.abs(most) / 10);
  const included = [];
  const edges = { above: 0, below: 0 };
  for (const { name, side, limit, severity } of limits) {
    const style = { color: colour(COLOURS[severity]), width: 1.5, dash: "dash" };
    const label = { showarrow: false, x: 1, xref: "paper", xanchor: "right", xshift: -4, name: "limit", font: { size: 11, color: style.color } };
    if (limit >= least - far && limit <= most + far) {
      included.push(limit);
      layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: axis, y0: limit, y1: limit, line: style, name: "limit" });
      layout.annotations.push({ ...label, y: limit, yref: axis, yanchor: side === "above" ? "bottom" : "top", text: name });
      continue;
    }
    const isHigher = limit > most;
    const place = isHigher ? { y: 1, yanchor: "top", yshift: -14 * edges.above++ } : { y: 0, yanchor: "bottom", yshift: 14 * edges.below++ };
    layout.annotations.push({ ...label, ...place, yref: `${axis} domain`, text: `${isHigher ? "▲" : "▼"} ${name}: ${side} ${Number(limit.toPrecision(6))}` });
  }
  if (included.length) yaxis.autorangeoptions = { include: included };
  return limits.length > 0;
}

/** Return the limits of an alarm in the units of a panel; none if it is for other units. */
function limitsOf({ name, severity, units, definition }, { unit, factor }) {
  if (units !== null && (units ?? "") !== unit) return [];
  return ["above", "below"].filter((side) => typeof definition[side] === "number")
    .map((side) => ({ name: name.replaceAll("<", "&lt;"), severity, side, limit: scaled(definition[side], factor) }));
}

/** Return minimum and maximum of the values in a panel, in its units. */
function range({ fields, factor }) {
  let [least, most] = [Infinity, -Infinity];
  for (const { points } of fields) {
    for (const value of points.values) {
      if (value === null) continue;
      if (value < least) least = value;
      if (value > most) most = value;
    }
  }
  return [scaled(least, factor), scaled(most, factor)];
}
