import { get } from "./api.js";

/**
 * @typedef {{node: string, field: import("./catalogue.js").Field|null}} Hit
 * @typedef {{words: string, hits: Hit[], total: number, warnings: string[]}} Found
 */

const TYPING_MS = 200;
const MOST_HITS = 200;

/** Asks the gateway what is found by some words, once they are typed; only the last question is answered. */
export class Search {
  #timer = 0;
  #asking = new AbortController();

  /** @param {(found: Found|null) => void} tell with null where there is nothing to look for */
  constructor(tell) {
    this.tell = tell;
  }

  /** Look for words, as they are typed. @param {string} words */
  typed(words) {
    clearTimeout(this.#timer);
    this.#asking.abort();
    if (!words) this.tell(null);
    else this.#timer = setTimeout(() => this.#ask(words), TYPING_MS);
  }

  async #ask(words) {
    const asking = (this.#asking = new AbortController());
    try {
      const found = await get("/api/v1/search", { q: words, limit: MOST_HITS }, asking.signal);
      if (!asking.signal.aborted) this.tell({ words, ...found });
    } catch (error) {
      if (error.name !== "AbortError") this.tell({ words, hits: [], total: 0, warnings: [error.message] });
    }
  }
}
