const RETRY_MS = [500, 1000, 2000, 4000];
const RESUBSCRIBE_MS = 2000;

/** One WebSocket for all subscriptions; it is opened again after its connection is lost. */
export class Live {
  /** @type {Map<string, {wanted: object, onUpdate: (update: any) => void}>} */
  #followed = new Map();
  /** @type {WebSocket|null} */
  #socket = null;
  #timer = 0;
  #attempts = 0;
  #number = 0;

  /**
   * Follow fields of one timeline of a node, its events, or a run. The returned function ends the subscription.
   * @param {object} wanted a subscription, see docs/gateway.md; it is sent again after an outage, as it is then
   * @param {(update: any) => void} onUpdate called with each message of the subscription
   */
  follow(wanted, onUpdate) {
    const id = String(this.#number++);
    this.#followed.set(id, { wanted, onUpdate });
    if (this.#socket?.readyState === WebSocket.OPEN) this.#send("subscribe", id);
    else this.#open();
    return () => {
      this.#followed.delete(id);
      if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ op: "unsubscribe", id }));
      if (!this.#followed.size) this.#close();
    };
  }

  /** Open the WebSocket again: feeds may have stopped during an outage of the router. */
  restart() {
    this.#close();
    if (this.#followed.size) this.#open();
  }

  #close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    // A socket that is still connecting is closed once it is open: browsers log an error if it is closed earlier.
    if (socket?.readyState === WebSocket.OPEN) socket.close();
  }

  #open() {
    if (this.#socket) return;
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/api/v1/live`);
    this.#socket = socket;
    socket.addEventListener("open", () => {
      if (this.#socket !== socket) {
        socket.close();
        return;
      }
      this.#attempts = 0;
      for (const id of this.#followed.keys()) this.#send("subscribe", id);
    });
    socket.addEventListener("message", ({ data }) => {
      if (this.#socket === socket) this.#onMessage(JSON.parse(data));
    });
    socket.addEventListener("close", () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      clearTimeout(this.#timer);
      if (!this.#followed.size) return;
      this.#timer = setTimeout(() => this.#open(), RETRY_MS[Math.min(this.#attempts++, RETRY_MS.length - 1)]);
    });
  }

  #send(op, id) {
    this.#socket.send(JSON.stringify({ op, id, ...this.#followed.get(id).wanted }));
  }

  #onMessage(message) {
    if (message.error) {
      // The node may be available again soon.
      setTimeout(() => {
        if (this.#followed.has(message.id) && this.#socket?.readyState === WebSocket.OPEN) this.#send("subscribe", message.id);
      }, RESUBSCRIBE_MS);
    } else if (!message.subscribed) this.#followed.get(message.id)?.onUpdate(message);
  }
}
