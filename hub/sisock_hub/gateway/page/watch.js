import { ApiError, get } from "./api.js";

/**
 * @typedef {{name: string, description: string|null, state: "live"|"online"|"stale"|"gone", since: number, reason: string|null, newest: number|null, age: number|null, ahead: number|null,
 *   work: {started: number|null, revision: number, active: number, runs: number}|null,
 *   alarms: {by_severity: Record<string, Record<string, number>>, changes: number}|null}} NodeInfo
 */

const EVERY_MS = 2000;
const RETRY_MS = 700;

/**
 * Requests the list of nodes every 2 s. Dispatches `nodes` with each answer, `outage` with each failure, and `recovered` with
 * the first answer after a failure.
 */
export class Watch extends EventTarget {
  /** @type {NodeInfo[]} */
  nodes = [];
  /** Whether the gateway has answered. */
  known = false;
  /** @type {ApiError|null} */
  outage = null;
  #timer = 0;

  /** Request the list now and every 2 s from now on. */
  async start() {
    clearTimeout(this.#timer);
    try {
      this.nodes = await get("/api/v1/nodes", {}, AbortSignal.timeout(8000));
    } catch (error) {
      const outage = error instanceof ApiError ? error : new ApiError(0, "no_gateway", "the gateway does not answer");
      if (outage.status === 401) return; // the page is reloaded after the login
      this.outage = outage;
      this.dispatchEvent(new Event("outage"));
      this.#timer = setTimeout(() => this.start(), RETRY_MS);
      return;
    }
    const recovered = this.outage !== null;
    this.known = true;
    this.outage = null;
    this.dispatchEvent(new Event("nodes"));
    if (recovered) this.dispatchEvent(new Event("recovered"));
    this.#timer = setTimeout(() => this.start(), EVERY_MS);
  }

  /** Return the description of a node. @param {string} name */
  find(name) {
    return this.nodes.find((node) => node.name === name);
  }
}
