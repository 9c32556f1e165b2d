import { AlarmElement } from "./alarm.js";
import { SEVERITIES } from "./alarms.js";
import { showError } from "./form.js";
import { NewAlarm } from "./new_alarm.js";
import { arrange, byId, make, setText } from "./dom.js";

/** @typedef {import("./alarms.js").Alarm} Alarm */

// The most urgent first.
const STATES = ["unacknowledged", "returned", "acknowledged", "shelved", "suppressed", "normal"];
const MOST = 200;

/** The alarms of all nodes that are not normal, and all alarms of the open node. */
export class AlarmList {
  /** @type {Map<string, AlarmElement>} */
  #shown = new Map();

  /**
   * @param {import("./alarms.js").Alarms} alarms
   * @param {import("./view.js").View} view
   * @param {() => {operator: boolean}} principal
   */
  constructor(alarms, view, principal) {
    [this.alarms, this.view, this.principal] = [alarms, view, principal];
    this.list = make("ol", { class: "alarms", "aria-label": "Alarms" });
    this.rest = make("p", { class: "quiet" });
    this.unread = make("p", { class: "notice", hidden: true });
    this.newAlarm = new NewAlarm(alarms);
    byId("alarms-section").append(make("h2", {}, "Alarms"), this.unread, this.rest, this.list, this.newAlarm.element);
    alarms.addEventListener("change", () => this.#show());
    view.addEventListener("change", ({ detail }) => detail === "node" && this.#show());
    this.#show();
  }

  #show() {
    const wanted = this.alarms.all.filter(([node, { state }]) => state !== "normal" || node === this.view.node).sort(moreUrgent);
    const listed = wanted.slice(0, MOST);
    const keys = listed.map(([node, { name }]) => `${node}\n${name}`);
    for (const key of this.#shown.keys()) if (!keys.includes(key)) this.#shown.delete(key);
    listed.forEach(([node, alarm], i) => {
      const known = this.#shown.get(keys[i]);
      if (known) known.update(alarm);
      else this.#shown.set(keys[i], new AlarmElement(node, alarm, this.alarms, this.principal().operator));
    });
    arrange(this.list, keys.map((key) => this.#shown.get(key).element));
    const ofOpen = this.principal().operator && this.alarms.has(this.view.node) ? this.view.node : null;
    this.newAlarm.show(ofOpen);
    byId("alarms-section").dataset.empty = String(!listed.length && !this.alarms.errors.size && ofOpen === null);
    showError(this.unread, [...this.alarms.errors].map(([node, message]) => `The alarms of ${node} cannot be read: ${message}`).join("; "));
    setText(this.rest, wanted.length > MOST ? `The ${MOST} most urgent of ${wanted.length} alarms are shown.` : listed.length || this.alarms.errors.size ? "" : "No alarm is raised.");
  }
}

/** Compare node and alarm: by state, then severity, then the newest first. */
function moreUrgent([, a], [, b]) {
  return STATES.indexOf(a.state) - STATES.indexOf(b.state) || SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || b.since - a.since;
}
