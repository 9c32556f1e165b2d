import { get } from "./api.js";

/**
 * @typedef {{node: string, field: import("./catalogue.js").Field|null}} Hit
 * @typedef {{words: string, hits: Hit[], total: number, warnings: string[]}} Found
 */

const TYPING_MS = 200;
const MOST_HITS = 200;

/** Searches nodes and fields through the gateway, after a pause in typing; only the last search is answered. */
export class Search {
  #timer = 0;
  #request = new AbortController();

  /** @param {(found: Found|null) => void} onFound called with null if the search box is empty */
  constructor(onFound) {
    this.onFound = onFound;
  }

  /** Search for words as they are typed. @param {string} words */
  typed(words) {
    clearTimeout(this.#timer);
    this.#request.abort();
    if (!words) this.onFound(null);
    else this.#timer = setTimeout(() => this.#search(words), TYPING_MS);
  }

  async #search(words) {
    const request = (this.#request = new AbortController());
    try {
      const found = await get("/api/v1/search", { q: words, limit: MOST_HITS }, request.signal);
      if (!request.signal.aborted) this.onFound({ words, ...found });
    } catch (error) {
      if (error.name !== "AbortError") this.onFound({ words, hits: [], total: 0, warnings: [error.message] });
    }
  }
}
