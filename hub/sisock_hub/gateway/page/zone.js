import { byId, say } from "./dom.js";

/** Tells `change` when times are to be shown otherwise. */
export const zone = new EventTarget();

let local = localStorage.getItem("sisock.zone") === "local";

/** Whether times are those of this device; otherwise UTC. */
export const isLocal = () => local;

/** Return the minutes that shown times are ahead of UTC. */
const offset = (t) => (local ? -new Date(t * 1000).getTimezoneOffset() : 0);

/** Return what is added to UTC at a time, as people write it. */
export function zoneName(t) {
  if (!local) return "UTC";
  const minutes = offset(t);
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

/** Return what is added to UTC at a time, and where that changes until another, what it is then. */
export function zoneNames(from, to) {
  const [first, last] = [zoneName(from), zoneName(to)];
  return first === last ? first : `${first}, clocks change to ${last}`;
}

/**
 * Return a time as milliseconds that read as UTC show what is to be shown.
 * @param {number} t UNIX seconds
 */
export const shown = (t) => t * 1000 + offset(t) * 60000;

/**
 * Return a time as it is shown on an axis, to the tenth of a microsecond. Plotly would take a number for a time of this
 * device. An axis has the offset of its beginning throughout: where clocks change, it would go back otherwise.
 * @param {number} t UNIX seconds
 * @param {number} start UNIX seconds at which the axis begins
 */
export function written(t, start) {
  const milliseconds = t * 1000 + offset(start) * 60000;
  const whole = Math.floor(milliseconds);
  const rest = Math.min(9999, Math.round((milliseconds - whole) * 10000));
  return new Date(whole).toISOString().slice(0, -1) + String(rest).padStart(4, "0");
}

/**
 * Return UNIX seconds of what is shown on an axis.
 * @param {number} milliseconds
 * @param {number} start UNIX seconds at which the axis begins
 */
export const meantOn = (milliseconds, start) => milliseconds / 1000 - offset(start) * 60;

/**
 * Return UNIX seconds of a time that somebody writes; of one that comes twice, the first or the last.
 * @param {number} milliseconds
 * @param {boolean} [last]
 */
export function meant(milliseconds, last = false) {
  const offsets = [-86400, 86400].map((away) => offset(milliseconds / 1000 + away));
  const times = offsets.map((minutes) => milliseconds / 1000 - minutes * 60);
  const there = times.filter((t) => shown(t) === milliseconds).sort((a, b) => a - b);
  // One that does not come at all is as far behind the change as it would be.
  return (last ? there.at(-1) : there[0]) ?? times[0];
}

/** Let the button switch between UTC and local time. */
export function offerZones() {
  const button = byId("zone");
  const tell = () => say(button, local ? "Local time" : "UTC");
  button.addEventListener("click", () => {
    local = !local;
    localStorage.setItem("sisock.zone", local ? "local" : "utc");
    tell();
    zone.dispatchEvent(new Event("change"));
  });
  tell();
}
