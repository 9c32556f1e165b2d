import { byId, say } from "./dom.js";

const WHO = { 0: "The gateway does not answer", no_router: "The router is unreachable", no_hub: "The hub is unreachable" };

/**
 * Show in a bar that the gateway, the router or the hub is away, for as long as it is.
 * @param {import("./watch.js").Watch} watch
 */
export function showTrouble(watch) {
  const bar = byId("bar");
  watch.addEventListener("trouble", () => {
    const { status, kind, message } = watch.trouble;
    const who = WHO[status] ?? WHO[kind] ?? `The nodes cannot be listed: ${message}`;
    say(bar, `${who}; retrying. The page shows what was known last.`);
    bar.hidden = false;
  });
  watch.addEventListener("nodes", () => {
    bar.hidden = true;
  });
}
