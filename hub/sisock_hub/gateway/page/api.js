import { heard } from "./clock.js";

/** What the gateway answers when it cannot do what it was asked. */
export class ApiError extends Error {
  /**
   * @param {number} status HTTP's status; 0 when there was no answer
   * @param {string} kind the error's name, as the API tells it
   * @param {string} message
   */
  constructor(status, kind, message) {
    super(message);
    this.status = status;
    this.kind = kind;
  }
}

/** Tells `login` when somebody has to say who they are. */
export const doorbell = new EventTarget();

/**
 * Return the path of something of a node.
 * @param {string} node
 * @param {string} rest
 */
export const ofNode = (node, rest) => `/api/v1/nodes/${encodeURIComponent(node)}/${rest}`;

/**
 * Return an address with its query.
 * @param {string} path
 * @param {Record<string, any>} [query] lists are repeated
 */
export function address(path, query = {}) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const each of [value].flat()) said.append(name, String(each));
  return said.size ? `${path}?${said}` : path;
}

/**
 * Ask.
 * @param {string} path
 * @param {Record<string, any>} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const get = (path, query, signal) => ask(address(path, query), { signal });

/**
 * Have something done.
 * @param {string} path
 * @param {any} content
 * @returns {Promise<any>}
 */
export const post = (path, content) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

async function ask(path, how) {
  let response;
  try {
    response = await fetch(path, how);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "no_gateway", "the gateway does not answer");
  }
  heard(response.headers.get("date"));
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (response.ok) throw new ApiError(0, "no_gateway", "the answer of the gateway ended too early");
  }
  if (response.ok) return content;
  if (response.status === 401) doorbell.dispatchEvent(new Event("login"));
  throw new ApiError(response.status, content?.error ?? "unknown", content?.message ?? response.statusText);
}
