import { byId, setText } from "./dom.js";

const OUTAGES = { 0: "The gateway does not answer", no_router: "The router is unreachable", no_hub: "The hub is unreachable" };

/**
 * Show a bar during an outage of the gateway, the router or the hub.
 * @param {import("./watch.js").Watch} watch
 */
export function showOutages(watch) {
  const bar = byId("bar");
  watch.addEventListener("outage", () => {
    const { status, kind, message } = watch.outage;
    const outage = OUTAGES[status] ?? OUTAGES[kind] ?? `The nodes cannot be listed: ${message}`;
    setText(bar, `${outage}; retrying. The page shows the last known state.`);
    bar.hidden = false;
  });
  watch.addEventListener("nodes", () => {
    bar.hidden = true;
  });
}
