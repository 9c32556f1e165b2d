import { byId, setText } from "./dom.js";

/** Dispatches `change` when the time zone has changed. */
export const zone = new EventTarget();

let local = localStorage.getItem("sisock.zone") === "local";

/** Whether times are shown in local time; otherwise in UTC. */
export const isLocal = () => local;

/** Return the minutes by which displayed times are ahead of UTC. */
const offset = (t) => (local ? -new Date(t * 1000).getTimezoneOffset() : 0);

/** Return the offset from UTC at a time, such as `UTC+2`. */
export function zoneName(t) {
  if (!local) return "UTC";
  const minutes = offset(t);
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

/** Return the offset from UTC at the start of an interval, and that at its end if it differs. */
export function zoneNames(from, to) {
  const [first, last] = [zoneName(from), zoneName(to)];
  return first === last ? first : `${first}, clocks change to ${last}`;
}

/**
 * Return a time as milliseconds that, formatted as UTC, show the time in the chosen zone.
 * @param {number} t UNIX seconds
 */
export const toDisplay = (t) => t * 1000 + offset(t) * 60000;

/**
 * Return a time as text for an axis, to the tenth of a microsecond. Plotly would show a number as local time of this
 * device. An axis has the offset of its start throughout: it would not be monotonic otherwise where clocks change.
 * @param {number} t UNIX seconds
 * @param {number} start UNIX seconds of the start of the axis
 */
export function toAxis(t, start) {
  const milliseconds = t * 1000 + offset(start) * 60000;
  const whole = Math.floor(milliseconds);
  const rest = Math.min(9999, Math.round((milliseconds - whole) * 10000));
  return new Date(whole).toISOString().slice(0, -1) + String(rest).padStart(4, "0");
}

/**
 * Return UNIX seconds of a time on an axis.
 * @param {number} milliseconds
 * @param {number} start UNIX seconds of the start of the axis
 */
export const fromAxis = (milliseconds, start) => milliseconds / 1000 - offset(start) * 60;

/**
 * Return UNIX seconds of a displayed time; of one that occurs twice, the first or the last.
 * @param {number} milliseconds
 * @param {boolean} [last]
 */
export function fromDisplay(milliseconds, last = false) {
  const offsets = [-86400, 86400].map((away) => offset(milliseconds / 1000 + away));
  const times = offsets.map((minutes) => milliseconds / 1000 - minutes * 60);
  const exact = times.filter((t) => toDisplay(t) === milliseconds).sort((a, b) => a - b);
  // A time that clocks skip has the offset from before the change.
  return (last ? exact.at(-1) : exact[0]) ?? times[0];
}

/** Let the button switch between UTC and local time. */
export function offerZones() {
  const button = byId("zone");
  const update = () => setText(button, local ? "Local time" : "UTC");
  button.addEventListener("click", () => {
    local = !local;
    localStorage.setItem("sisock.zone", local ? "local" : "utc");
    update();
    zone.dispatchEvent(new Event("change"));
  });
  update();
}
