import { get, ofNode } from "./api.js";
import { fieldsOf } from "./catalogue.js";
import { now } from "./clock.js";
import { byId, make } from "./dom.js";
import { similarNames } from "./near.js";
import { moment, span } from "./text.js";
import { SEPARATOR } from "./view.js";
import { zoneName } from "./zone.js";

/**
 * Show below the legend why fields are not plotted, with remedies: errors of nodes, fields that do not exist, fields without
 * samples in view.
 * @param {import("./plot.js").Plot} plot
 * @param {import("./view.js").View} view
 * @param {import("./watch.js").Watch} watch
 */
export function showNotes(plot, view, watch) {
  const place = byId("notes");
  let newestRun = 0;
  plot.addEventListener("loaded", async () => {
    const run = ++newestRun;
    const empty = plot.shown.filter(({ node, line }) => !line?.t.length && !plot.errors[node]);
    // If only fields were chosen, and no interval, all samples are shown.
    if (empty.length && empty.length === plot.shown.length && !view.chosen) plot.fit(undefined, true).catch(() => {});
    const known = empty.filter(({ info }) => info);
    const notes = await Promise.all([
      ...Object.entries(plot.errors).map(([node, error]) => failed(node, error, view, watch)),
      ...empty.filter(({ info }) => !info).map((each) => noField(each, view)),
      ...(known.length ? [noSamples(known, plot, view)] : []),
    ]);
    if (run === newestRun) place.replaceChildren(...notes);
  });
  plot.addEventListener("drawn", () => {
    if (!plot.shown.length) (newestRun++, place.replaceChildren());
  });
}

const button = (text, onclick) => make("button", { type: "button", onclick }, text);

/** Return a paragraph of texts and buttons, separated by spaces. */
const note = (kind, ...parts) => make("p", { class: kind }, ...parts.flatMap((part, i) => (i ? [" ", part] : [part])));

function failed(node, error, view, watch) {
  const targets = view.plotted.filter((target) => target.startsWith(node + SEPARATOR));
  if (error.kind !== "no_such_node") return note("error", `${node}: ${error.message}`);
  const remove = button("Remove from the plot", () => targets.forEach((target) => view.replace(target)));
  if (watch.find(node)) return note("error", `The node ${node} has left; its fields are plotted again once it returns.`, remove);
  const instead = similarNames(node, watch.nodes.map(({ name }) => name)).map((name) =>
    button(name, () => targets.forEach((target) => view.replace(target, name + target.slice(node.length)))));
  return note("error", `There is no node ${node} at this site.`, ...(instead.length ? ["Did you mean", ...instead, "?"] : []),
    button("Show all nodes", () => showNodes(view)), remove);
}

async function noField({ node, field, target }, view) {
  const names = Object.keys(await fieldsOf(node).catch(() => ({})));
  const instead = similarNames(field, names).map((name) => button(name, () => view.replace(target, node + SEPARATOR + name)));
  return note("error", `${node} has no field ${field}.`, ...(instead.length ? ["Did you mean", ...instead, "?"] : []),
    button(`Show the fields of ${node}`, () => (view.open(node), showNodes(view))), button("Remove from the plot", () => view.replace(target)));
}

async function noSamples(fields, plot, view) {
  const names = fields.map(({ node, field }) => `${node} ${field}`).join(", ");
  const newest = await newestOf(fields);
  const targets = fields.map(({ target }) => target);
  const all = button("Show all samples", () => plot.fit(targets).catch(() => {}));
  if (newest === null) return note("", `No samples of ${names} in this interval.`, all);
  const [from, to] = view.interval;
  const show = () => view.showInterval(newest - (to - from) * 0.9, newest + (to - from) * 0.1);
  return note("", `No samples of ${names} in this interval. The newest is from ${moment(newest)} ${zoneName(newest)}, ${span(now() - newest)} ago.`,
    button("Show the newest", show), all);
}

/** Return the time of the newest sample of some fields; null if no node reports it. */
async function newestOf(fields) {
  const nodes = [...new Set(fields.map(({ node }) => node))];
  const statuses = await Promise.all(nodes.map((node) => get(ofNode(node, "status")).catch(() => ({}))));
  const times = fields.map(({ node, info }) => statuses[nodes.indexOf(node)].timelines?.[info.timeline]?.newest);
  const known = times.filter((t) => typeof t === "number");
  return known.length ? Math.max(...known) : null;
}

function showNodes(view) {
  view.show("nodes");
  byId("search").focus();
}
