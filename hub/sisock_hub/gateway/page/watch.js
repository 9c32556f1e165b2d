import { ApiError, get } from "./api.js";

/**
 * @typedef {{name: string, description: string|null, state: "live"|"online"|"stale"|"gone", since: number, reason: string|null, newest: number|null, age: number|null, ahead: number|null}} NodeInfo
 */

const EVERY_MS = 2000;
const AGAIN_MS = 700;

/**
 * Asks again and again which nodes there are. Tells `nodes` with each answer, `trouble` when there is none, and `back`
 * with the first answer after that.
 */
export class Watch extends EventTarget {
  /** @type {NodeInfo[]} */
  nodes = [];
  /** Whether the gateway has been asked. */
  known = false;
  /** @type {ApiError|null} */
  trouble = null;
  #timer = 0;

  /** Ask now, and from now on. */
  async start() {
    clearTimeout(this.#timer);
    try {
      this.nodes = await get("/api/v1/nodes", {}, AbortSignal.timeout(8000));
    } catch (error) {
      const trouble = error instanceof ApiError ? error : new ApiError(0, "no_gateway", "the gateway does not answer");
      if (trouble.status === 401) return; // begun again after the login
      this.trouble = trouble;
      this.dispatchEvent(new Event("trouble"));
      this.#timer = setTimeout(() => this.start(), AGAIN_MS);
      return;
    }
    const back = this.trouble !== null;
    this.known = true;
    this.trouble = null;
    this.dispatchEvent(new Event("nodes"));
    if (back) this.dispatchEvent(new Event("back"));
    this.#timer = setTimeout(() => this.start(), EVERY_MS);
  }

  /** Return what is known of a node. @param {string} name */
  find(name) {
    return this.nodes.find((node) => node.name === name);
  }
}
