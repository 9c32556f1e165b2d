const AGAIN_MS = [500, 1000, 2000, 4000];
const REFUSED_MS = 2000;

/** One WebSocket for all that is followed; it is opened again when it was lost. */
export class Live {
  /** @type {Map<string, {wanted: object, tell: (news: any) => void}>} */
  #followed = new Map();
  /** @type {WebSocket|null} */
  #socket = null;
  #timer = 0;
  #tries = 0;
  #number = 0;

  /**
   * Follow fields of one timeline of a node until the function that is returned is called.
   * @param {{node: string, fields: string[], every: number, max_points: number}} wanted
   * @param {(news: {t: number[], data: Record<string, any[]>, finalized_until: number|null, missed: number,
   *   gaps: [number, number][]}) => void} tell
   */
  follow(wanted, tell) {
    const id = String(this.#number++);
    this.#followed.set(id, { wanted, tell });
    if (this.#socket?.readyState === WebSocket.OPEN) this.#say("subscribe", id);
    else this.#open();
    return () => {
      this.#followed.delete(id);
      if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ op: "unsubscribe", id }));
      if (!this.#followed.size) this.#close();
    };
  }

  /** Begin anew: the router was away, and what was followed through it may have ended. */
  restart() {
    this.#close();
    if (this.#followed.size) this.#open();
  }

  #close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    // One that is still being opened is closed as soon as it is: browsers take the other for an error.
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
      this.#tries = 0;
      for (const id of this.#followed.keys()) this.#say("subscribe", id);
    });
    socket.addEventListener("message", ({ data }) => {
      if (this.#socket === socket) this.#hear(JSON.parse(data));
    });
    socket.addEventListener("close", () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      clearTimeout(this.#timer);
      if (!this.#followed.size) return;
      this.#timer = setTimeout(() => this.#open(), AGAIN_MS[Math.min(this.#tries++, AGAIN_MS.length - 1)]);
    });
  }

  #say(op, id) {
    this.#socket.send(JSON.stringify({ op, id, ...this.#followed.get(id).wanted }));
  }

  #hear(message) {
    if (message.error) {
      // The node may be back in a moment.
      setTimeout(() => {
        if (this.#followed.has(message.id) && this.#socket?.readyState === WebSocket.OPEN) this.#say("subscribe", message.id);
      }, REFUSED_MS);
    } else if (message.t) this.#followed.get(message.id)?.tell(message);
  }
}
