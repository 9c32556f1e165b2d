import { SEVERITIES } from "./alarms.js";
import { byId, make } from "./dom.js";

/**
 * Show above the page how many alarms nobody has acknowledged, by severity, and how many are acknowledged.
 * @param {import("./alarms.js").Alarms} alarms
 * @param {() => void} onOpen called to show the list of alarms
 */
export function showBanner(alarms, onOpen) {
  const banner = byId("alarm-banner");
  const texts = make("span", { role: "status" });
  banner.append(texts, make("button", { type: "button", onclick: onOpen }, "Show alarms"));
  alarms.addEventListener("change", () => {
    const open = alarms.counts("unacknowledged", "returned");
    const known = Object.values(alarms.counts("acknowledged")).reduce((sum, count) => sum + count, 0);
    const worst = SEVERITIES.find((severity) => open[severity]);
    banner.hidden = !worst && !known;
    banner.dataset.severity = worst ?? "";
    const counted = SEVERITIES.filter((severity) => open[severity]).map((severity) => [severity, `${open[severity]} ${severity}`]);
    if (known) counted.push(["", `${known} acknowledged`]);
    const shown = counted.map(([, text]) => text).join();
    if (texts.dataset.shown === shown) return;
    texts.dataset.shown = shown;
    texts.replaceChildren("Alarms: ", ...counted.flatMap(([severity, text]) => [make("span", { class: "severity", "data-severity": severity }, text), " "]));
  });
}
