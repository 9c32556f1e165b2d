import { get, ofNode } from "./api.js";
import { shownAnswer } from "./answer.js";
import { arrange, byId, make, setText } from "./dom.js";
import { showError } from "./form.js";
import { moment } from "./text.js";
import { zone, zoneName } from "./zone.js";

/**
 * Something that happened to a node or in it; those that the gateway notices itself have no `seq`.
 * @typedef {{time: number, seq?: number, kind: string, subject: string, text: string, severity: string, data: any, missed?: number}} Event
 */

const SEVERITIES = [["debug", "All events"], ["info", "Info or worse"], ["warning", "Warnings or worse"], ["error", "Errors or worse"], ["critical", "Critical only"]];
const NAMES = SEVERITIES.map(([name]) => name);
const [PAGE, MOST, DRAW_MS] = [50, 500, 100];
// The gateway notices when nodes arrive, leave, or fall silent.
const OWN = { left: "warning", stale: "warning" };

/** The events of the open node, or without one the arrivals, departures and silences of all nodes; newest first, and live. */
export class Events {
  #stop = () => {};
  #newest = 0;
  #missed = 0;
  #timer = 0;
  /** @type {Event[]} newest first */
  #events = [];

  /**
   * @param {import("./view.js").View} view
   * @param {import("./live.js").Live} live
   */
  constructor(view, live) {
    [this.view, this.live] = [view, live];
    this.title = make("h2", {});
    this.severity = make("select", { id: "severity", "aria-label": "Severity of events", onchange: () => this.load() },
      ...SEVERITIES.map(([value, text]) => make("option", { value, selected: value === "info" }, text)));
    this.list = make("ol", { class: "events", tabindex: "0", "aria-label": "Events, newest first" });
    this.note = make("p", { class: "quiet", role: "status" });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.older = make("button", { type: "button", hidden: true, onclick: () => this.#loadOlder() }, "Older events");
    byId("events-section").append(make("div", { class: "head" }, this.title, this.severity), this.error, this.note, this.list, this.older);
    view.addEventListener("change", ({ detail }) => detail === "node" && this.load());
    zone.addEventListener("change", () => this.#draw(true));
    this.load();
  }

  /** Request the newest events, and follow those that come. */
  async load() {
    this.#stop();
    const [node, severity, request] = [this.view.node, this.severity.value, ++this.#newest];
    this.#missed = 0;
    setText(this.title, node === null ? "Events" : `Events of ${node}`);
    showError(this.error, "");
    let page;
    try {
      page = node === null ? await this.#ofGateway(severity) : await get(ofNode(node, "events"), { severity, limit: PAGE });
    } catch (error) {
      page = { events: [], cursor: null, error };
    }
    if (request !== this.#newest) return;
    this.#events = page.events.reverse();
    this.list.replaceChildren();
    this.older.hidden = node === null || page.events.length < PAGE;
    this.#draw();
    if (page.error) showError(this.error, page.error.message);
    else this.#follow(node, severity, page.cursor);
  }

  /** Return the events that the gateway has noticed. */
  async #ofGateway(severity) {
    const events = (await get("/api/v1/events", { start: "-1d" })).map(ownEvent);
    return { events: events.filter((each) => isAtLeast(each, severity)).slice(-PAGE), cursor: null };
  }

  #follow(node, severity, cursor) {
    const wanted = node === null ? {} : { node, events: true, severity, after: cursor };
    this.#stop = this.live.follow(wanted, (message) => {
      const event = node === null ? ownEvent(message) : message;
      if (!isAtLeast(event, severity)) return;
      if (node !== null) wanted.after = event.seq + 1; // where the subscription begins again after an outage
      this.#missed += event.missed ?? 0;
      this.#events.unshift(event);
      if (this.#events.length > MOST) this.older.hidden = node === null;
      this.#events.length = Math.min(this.#events.length, MOST);
      // Events that come together are drawn together.
      this.#timer ||= setTimeout(() => ((this.#timer = 0), this.#draw()), DRAW_MS);
    });
  }

  async #loadOlder() {
    const [node, severity, request] = [this.view.node, this.severity.value, this.#newest];
    showError(this.error, "");
    try {
      const page = await get(ofNode(node, "events"), { severity, limit: PAGE, before: this.#events.at(-1).seq });
      if (request !== this.#newest) return;
      this.#events.push(...page.events.reverse());
      this.older.hidden = page.events.length < PAGE || this.#events.length >= MOST;
      this.#draw();
    } catch (error) {
      showError(this.error, error.message);
    }
  }

  /** @param {boolean} [again] whether all elements are made again */
  #draw(again = false) {
    for (const event of this.#events) if (again || !event.element) event.element = eventElement(event);
    arrange(this.list, this.#events.map(({ element }) => element));
    const none = this.#events.length ? "" : this.view.node === null ? "No node has arrived, left or fallen silent. Open a node to see its events." : "No events of this severity.";
    setText(this.note, this.#missed ? `${this.#missed} events are not shown: more came than could be read.` : none);
  }
}

const isAtLeast = ({ severity }, least) => NAMES.indexOf(severity) >= NAMES.indexOf(least);

/** Return an event that the gateway has noticed in the form of a node's events. @returns {Event} */
const ownEvent = ({ t, node, kind, text }) => ({ time: t, kind, subject: node, text, severity: OWN[kind] ?? "info", data: {} });

/** @param {Event} event */
function eventElement({ time, kind, subject, text, severity, data }) {
  const head = [make("time", { datetime: new Date(time * 1000).toISOString() }, `${moment(time)} ${zoneName(time)}`), make("span", { class: "severity", "data-severity": severity }, severity),
    make("span", { class: "quiet" }, kind), make("strong", {}, subject), make("span", { class: "text" }, text)];
  if (!Object.keys(data ?? {}).length) return make("li", { class: "event" }, make("div", { class: "head" }, ...head));
  const holder = make("div");
  const details = make("details", {}, make("summary", { class: "head" }, ...head), holder);
  details.addEventListener("toggle", () => details.open && holder.replaceChildren(shownAnswer(data)), { once: true });
  return make("li", { class: "event" }, details);
}
