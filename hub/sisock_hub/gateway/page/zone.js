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

/**
 * Return a time as milliseconds that read as UTC show what is to be shown.
 * @param {number} t UNIX seconds
 */
export const shown = (t) => t * 1000 + offset(t) * 60000;

/**
 * Return a time as it is shown, to the tenth of a microsecond. Plotly would take a number for a time of this device.
 * @param {number} t UNIX seconds
 */
export function written(t) {
  const milliseconds = shown(t);
  const whole = Math.floor(milliseconds);
  const rest = Math.min(9999, Math.round((milliseconds - whole) * 10000));
  return new Date(whole).toISOString().slice(0, -1) + String(rest).padStart(4, "0");
}

/**
 * Return UNIX seconds of what is shown.
 * @param {number} milliseconds
 */
export function meant(milliseconds) {
  if (!local) return milliseconds / 1000;
  const t = milliseconds / 1000 - offset(milliseconds / 1000) * 60;
  return milliseconds / 1000 - offset(t) * 60; // by the offset of that very time, near a change of summer time
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
