import { synchronise } from "./clock.js";

/** An error that the gateway returns, or an unreachable gateway. */
export class ApiError extends Error {
  /**
   * @param {number} status HTTP's status; 0 if there was no response
   * @param {string} kind the name of the error in the API
   * @param {string} message
   */
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/** Dispatches `login` when the gateway requires a login. */
export const loginEvents = new EventTarget();

/**
 * Return the path of a resource of a node.
 * @param {string} node
 * @param {string} rest
 */
export const ofNode = (node, rest) => `/api/v1/nodes/${encodeURIComponent(node)}/${rest}`;

/**
 * Return a path with its query parameters.
 * @param {string} path
 * @param {Record<string, any>} [query] a list becomes a parameter for each item
 */
export function address(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) parameters.append(name, String(each));
  return parameters.size ? `${path}?${parameters}` : path;
}

/**
 * Return the content of a resource.
 * @param {string} path
 * @param {Record<string, any>} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const get = (path, query, signal) => request(address(path, query), { signal });

/**
 * Send JSON to a resource, and return its answer.
 * @param {string} path
 * @param {any} content
 * @returns {Promise<any>}
 */
export const post = (path, content) =>
  request(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

/**
 * Delete a resource, and return the answer.
 * @param {string} path
 * @param {Record<string, any>} [query]
 * @returns {Promise<any>}
 */
export const remove = (path, query) => request(address(path, query), { method: "DELETE" });

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "no_gateway", "the gateway does not answer");
  }
  synchronise(response.headers.get("date"));
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response.ok) throw new ApiError(0, "no_gateway", "the gateway's response is incomplete");
  }
  if (response.ok) return content;
  if (response.status === 401) loginEvents.dispatchEvent(new Event("login"));
  throw new ApiError(response.status, content?.error ?? "unknown", content?.message ?? response.statusText);
}
