import { byId, make, setText } from "./dom.js";
import { downloads } from "./legend.js";
import { moment } from "./text.js";
import { fromDisplay, isLocal, toDisplay, zone, zoneName } from "./zone.js";

const SPANS = [[300, "5 min"], [3600, "1 h"], [21600, "6 h"], [86400, "24 h"], [604800, "7 d"]];
const [STEP, FACTOR] = [0.5, 2];

/**
 * Offer time ranges by buttons above the plot and by keys on it.
 * @param {import("./view.js").View} view
 * @param {import("./plot.js").Plot} plot
 */
export function offerRanges(view, plot) {
  const button = (text, label, onclick) => make("button", { type: "button", "aria-label": label, title: label, onclick }, text);
  const live = make("button", { type: "button", class: "live", onclick: () => (view.live ? view.showInterval(...view.interval) : view.follow()) },
    make("span", { class: "dot", "aria-hidden": "true" }), "Live");
  const spans = SPANS.map(([seconds, text]) => button(text, `Last ${text}`, () => view.follow(seconds)));
  const all = button("All", "All samples of these fields", () => plot.fit().catch(() => {}));
  const seen = make("span", { id: "seen" });
  const drag = dragging(plot);
  const update = () => {
    live.setAttribute("aria-pressed", String(view.live));
    spans.forEach((each, i) => each.setAttribute("aria-pressed", String(view.live && view.span === SPANS[i][0])));
    const [from, to] = view.interval;
    const digits = to - from < 10 ? 3 : 0;
    setText(seen, view.live ? "" : between(from, to, digits));
  };
  byId("ranges").append(
    make("div", { class: "group strip" }, live, ...spans, all, custom(view), save(view, plot)),
    make("div", { class: "group" },
      button("◀", "Earlier (left arrow)", () => view.pan(-STEP)),
      button("−", "Zoom out (minus)", () => view.zoom(FACTOR)),
      button("+", "Zoom in (plus)", () => view.zoom(1 / FACTOR)),
      button("▶", "Later (right arrow)", () => view.pan(STEP)),
      drag,
    ),
    seen,
  );
  const keys = { ArrowLeft: () => view.pan(-STEP / 2), ArrowRight: () => view.pan(STEP / 2), "+": () => view.zoom(1 / FACTOR), "=": () => view.zoom(1 / FACTOR),
    "-": () => view.zoom(FACTOR), l: () => live.click(), a: () => all.click() };
  plot.element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  view.addEventListener("change", ({ detail }) => {
    if (detail === "plot") byId("ranges").hidden = !view.plotted.length;
    if (detail === "range") update();
  });
  zone.addEventListener("change", update);
  byId("ranges").hidden = !view.plotted.length;
  update();
}

// On a touch screen, dragging scrolls the page by default.
const DRAGS = { "": "Drag to scroll", zoom: "Drag to zoom", pan: "Drag to move" };

/** Return a select element for the action of dragging across the plot. */
function dragging(plot) {
  const offered = Object.entries(DRAGS).filter(([mode]) => mode || plot.dragmode === false);
  const options = offered.map(([mode, text]) => make("option", { value: mode, selected: mode === (plot.dragmode || "") }, text));
  const select = make("select", { id: "drag", "aria-label": "Dragging the plot", title: "Dragging the plot", onchange: () => plot.drag(select.value || false) }, ...options);
  return select;
}

/** Return the text of an interval, with its offset from UTC, or with both if they differ. */
function between(from, to, digits) {
  const [first, last] = [zoneName(from), zoneName(to)];
  return `${moment(from, digits)}${first === last ? "" : ` ${first}`} – ${moment(to, digits)} ${last}`;
}

/** Return a menu that closes with Escape, or by a click elsewhere. */
function menu(title, ...content) {
  const element = make("details", { class: "menu" }, make("summary", {}, title), make("div", { class: "popup" }, ...content));
  element.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    element.open = false;
    element.querySelector("summary").focus();
  });
  addEventListener("pointerdown", ({ target }) => {
    if (!element.contains(target)) element.open = false;
  });
  return element;
}

function custom(view) {
  const input = (name) => make("input", { type: "datetime-local", name, step: "any", required: true });
  const [from, to, zoneNote, error] = [input("from"), input("to"), make("span", { class: "quiet" }), make("p", { class: "error", role: "alert" })];
  const form = make("form", {}, make("label", {}, "From ", from), make("label", {}, "To ", to), zoneNote, error, make("button", { class: "primary" }, "Show"));
  const element = menu("From – to", form);
  element.addEventListener("toggle", () => {
    if (!element.open) return;
    const written = view.interval.map((t) => new Date(toDisplay(t)).toISOString().slice(0, 19));
    [from.value, to.value] = written;
    setText(zoneNote, `Times are ${isLocal() ? "local" : "UTC"}.`);
    setText(error, "");
    from.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [start, end] = [from, to].map(({ value }, i) => fromDisplay(Date.parse(`${value}Z`), i === 1));
    if (!(start < end)) return setText(error, "The start must be before the end.");
    element.open = false;
    return view.showInterval(start, end);
  });
  return element;
}

function save(view, plot) {
  const [links, hint] = [make("div"), make("p", { class: "quiet" }, "All samples in view, not downsampled.")];
  const element = menu("Save", links, hint);
  element.addEventListener("toggle", () => element.open && links.replaceChildren(...downloads(plot, view.interval)));
  return element;
}
