import { address, ofNode } from "./api.js";
import { isArray, sizeText } from "./axis.js";
import { byId, make, setText } from "./dom.js";
import { colourKey } from "./shades.js";
import { moment } from "./text.js";
import { colour, seriesColour } from "./theme.js";
import { reading } from "./units.js";

/**
 * Show the plotted fields, with their newest values, former units, and lost samples.
 * @param {import("./plot.js").Plot} plot
 * @param {import("./view.js").View} view
 * @param {import("./watch.js").Watch} watch
 */
export function showLegend(plot, view, watch) {
  const [list, items] = [byId("legend"), new Map()];
  plot.addEventListener("drawn", () => {
    for (const [target, item] of items) if (!view.plotted.includes(target)) (item.element.remove(), items.delete(target));
    for (const each of plot.shown) {
      if (!items.has(each.target)) items.set(each.target, chip(each, view));
      const item = items.get(each.target);
      if (list.children[each.number] !== item.element) list.insertBefore(item.element, list.children[each.number] ?? null);
      update(item, each, watch, plot.ranges[each.target]);
    }
    showMarks(plot);
    describe(plot);
  });
}

function chip(each, view) {
  const parts = { swatch: make("span", { class: "swatch", "aria-hidden": "true" }), value: make("span", { class: "value" }), changed: make("span", { class: "changed quiet" }), lost: make("span", { class: "lost" }) };
  const remove = make("button", { type: "button", class: "remove", "aria-label": `Remove ${each.node} ${each.field}`, onclick: () => view.toggle(each.target) }, "×");
  const name = make("span", { class: "name", title: each.info?.description }, make("span", { class: "quiet" }, `${each.node} `), each.field);
  return { ...parts, element: make("li", { "data-target": each.target }, parts.swatch, name, parts.value, parts.changed, parts.lost, remove) };
}

function update(item, { node, number, field, line, info }, watch, range) {
  item.swatch.style.backgroundColor = seriesColour(number);
  const value = line?.data[field]?.at(-1);
  const left = watch.find(node)?.state === "gone" ? " (gone)" : "";
  const epochs = line?.epochs[field] ?? [];
  if (isArray(info)) showKey(item, info, range, epochs.at(-1)?.units, left);
  else setText(item.value, (value === undefined ? "–" : reading(value, epochs.at(-1).units).join("")) + left);
  setText(item.changed, epochs.slice(0, -1).map((epoch, i) => formerly(epoch, epochs[i + 1])).join(", "));
  const counts = line ? { late: line.late, dropped: line.dropped, missed: line.missed } : {};
  const lost = Object.entries(counts).filter(([, count]) => count).map(([what, count]) => `${count} ${what}`);
  setText(item.lost, lost.join(", "));
  item.lost.title = "late: arrived too late and were not stored; dropped: lost before storage; missed: stored, but not shown here";
}

/** Show the number of values of an array field, and the colours of its waterfall. */
function showKey({ value: place }, info, range, units, left) {
  const version = [sizeText(info), range, units, left, colour("text")].join();
  if (place.dataset.version === version) return;
  place.dataset.version = version;
  place.replaceChildren(...(range ? colourKey(range, units) : [sizeText(info)]), left);
}

/** Return the units or the type that a field had until it changed. */
function formerly(before, after) {
  const was = before.units === after.units ? before.type : before.units ?? "no units";
  return `${was} until ${moment(after.from)}`;
}

const MARKS = {
  gaps: ["gap", "gap: no samples were recorded"],
  open: ["veil", "newest values may still change"],
  limits: ["limit", "limit of an alarm"],
  downsampled: ["thin", "minimum and maximum of each pixel"],
};

function showMarks(plot) {
  const seen = Object.keys(MARKS).filter((mark) => plot.marks[mark] && plot.shown.length);
  const shown = seen.join();
  const element = byId("marks");
  element.hidden = !shown;
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  element.replaceChildren(...seen.map((mark) => make("span", {}, make("span", { class: `mark ${MARKS[mark][0]}`, "aria-hidden": "true" }), MARKS[mark][1])));
}

/** Describe the plot for screen readers. */
function describe(plot) {
  const fields = plot.shown.map(({ node, field, line }) => `${node} ${field}${line?.t.length ? "" : ", no samples"}`);
  const text = `Plot of ${fields.join("; ")}. Arrow keys move, plus and minus zoom, L switches live on and off, A shows all samples.`;
  if (plot.element.getAttribute("aria-label") !== text) plot.element.setAttribute("aria-label", text);
}

/**
 * Return links to all samples in view: one for each timeline and file format.
 * @param {import("./plot.js").Plot} plot
 * @param {[number, number]} interval
 */
export function downloads(plot, [start, end]) {
  const known = plot.shown.filter(({ info }) => info);
  const groups = Map.groupBy(known, ({ node, info }) => `${node} ${info.timeline}`);
  return [...groups].map(([title, group]) => {
    const query = { field: group.map(({ field }) => field), start, end };
    const link = (format, text) =>
      make("a", { href: address(ofNode(group[0].node, "data"), { ...query, format }), download: true }, text);
    return make("p", {}, `${title}: `, link("csv", "CSV"), " ", link("arrow", "Arrow"));
  });
}
