import { get, ofNode, remove } from "./api.js";
import { shownAnswer } from "./answer.js";
import { now } from "./clock.js";
import { confirmation } from "./confirm.js";
import { make, setText } from "./dom.js";
import { showError } from "./form.js";
import { moment, span, summary, words } from "./text.js";
import { zoneName } from "./zone.js";

/**
 * A run of an operation; lists of runs leave out `update` and `result`.
 * @typedef {{id: string, seq: number, name: string, state: "queued"|"running"|"cancelling"|"done"|"failed"|"cancelled",
 *   arguments: any, caller: {authid: string|null, on_behalf_of: {user: string}|null}, progress: number|null, message: string|null,
 *   update?: any, result?: any, error: string|null, queued: number, started: number|null, ended: number|null}} Run
 *
 * A change of a run.
 * @typedef {{seq: number, state: Run["state"], progress: number|null, message: string|null, update: any}} Change
 */

const ENDED = new Set(["done", "failed", "cancelled"]);
const MOST_UPDATES = 5;

/** Whether a run has ended. @param {Run} run */
export const isEnded = ({ state }) => ENDED.has(state);

/** The element of a run: its progress and newest updates while it is active, then its result or its error. */
export class RunElement {
  #stop = () => {};

  /**
   * @param {string} node
   * @param {Run} run
   * @param {import("./live.js").Live} live
   * @param {boolean} isOperator whether it may be cancelled here
   * @param {boolean} isOwn whether it was started here, so that its result is shown when it ends
   */
  constructor(node, run, live, isOperator, isOwn) {
    [this.node, this.run, this.isOwn] = [node, run, isOwn];
    const span = (name) => make("span", { class: name });
    [this.state, this.about, this.share, this.message] = ["state", "quiet", "share", "message"].map(span);
    this.bar = make("progress", { max: 1, "aria-label": `Progress of ${words(run.name)}` });
    this.progress = make("div", { class: "progress" }, this.bar, this.share, this.message);
    this.updates = make("ol", { class: "updates", "aria-label": "Newest updates" });
    this.outcome = make("p", { class: "outcome" });
    this.error = make("p", { class: "error", role: "alert", hidden: true });
    this.cancel = isOperator ? this.#cancelButton("Cancel", {}, false) : null;
    this.force = isOperator ? this.#cancelButton("End by force", { hard: true }, true) : null;
    this.details = this.#details();
    this.element = make("li", { class: "run", "data-run": run.id, tabindex: -1 },
      make("div", { class: "head" }, make("strong", {}, words(run.name)), this.state, this.about, this.cancel, this.force),
      this.progress, this.updates, this.outcome, this.error, this.details);
    this.#draw();
    if (!isEnded(run)) this.#follow(live);
  }

  /** Show a newer description. @param {Run} run */
  update(run) {
    if ((run.seq ?? 0) < (this.run.seq ?? 0) || isEnded(this.run)) return;
    this.run = { ...this.run, ...run };
    this.#draw();
  }

  /** Update the text of the time. */
  tick() {
    const { caller, queued, started, ended } = this.run;
    const by = caller?.on_behalf_of?.user ?? caller?.authid ?? "the node";
    const since = started ?? queued ?? now();
    const when = !isEnded(this.run) ? `for ${span(Math.max(0, now() - since))}` : `${moment(ended)} ${zoneName(ended)}, ${lasted(this.run)}`;
    setText(this.about, `by ${by}, ${when}`);
  }

  /** Follow its changes no more. */
  close() {
    this.#stop();
    this.#stop = () => {};
  }

  /** Follow the changes of the run until it has ended. @param {import("./live.js").Live} live */
  #follow(live) {
    const wanted = { node: this.node, operation: this.run.id, after: 0 };
    this.#stop = live.follow(wanted, (/** @type {Change} */ { seq, state, progress, message, update }) => {
      wanted.after = seq; // where the subscription begins again after an outage
      if (update !== null && update !== undefined) this.#addUpdate(update);
      if (state === this.run.state) this.update({ ...this.run, seq, progress, message });
      else this.#request();
    });
  }

  /** Request the run: a change of its state comes without times, result and error. */
  async #request() {
    const run = await get(this.#path).catch(() => null); // the list of runs is requested again as well
    if (run) this.update(run);
  }

  #addUpdate(update) {
    this.updates.prepend(make("li", {}, summary(update)));
    while (this.updates.children.length > MOST_UPDATES) this.updates.lastChild.remove();
  }

  get #path() {
    return ofNode(this.node, `operations/${encodeURIComponent(this.run.id)}`);
  }

  #draw() {
    const { state, progress, message, error } = this.run;
    const over = isEnded(this.run);
    this.element.dataset.state = state;
    setText(this.state, state);
    this.progress.hidden = over || state === "queued";
    if (progress === null) this.bar.removeAttribute("value");
    else this.bar.value = progress;
    setText(this.share, progress === null ? "" : `${Math.round(progress * 100)} %`);
    setText(this.message, message ?? "");
    setText(this.outcome, error ?? "");
    this.outcome.classList.toggle("error", state === "failed");
    this.updates.hidden = over;
    this.details.hidden = !over;
    if (this.cancel) this.cancel.hidden = over || state === "cancelling";
    if (this.force) this.force.hidden = state !== "cancelling";
    if (over) this.close();
    if (this.isOwn && state === "done") this.details.open = true;
    this.tick();
  }

  /** Return a button that asks the run to end. */
  #cancelButton(text, query, needsConfirmation) {
    const button = make("button", { type: "button", "aria-label": `${text}: ${words(this.run.name)}` }, text);
    const isConfirmed = confirmation(button, needsConfirmation);
    button.addEventListener("click", async () => {
      if (!isConfirmed()) return;
      showError(this.error, "");
      try {
        this.update(await remove(this.#path, query));
      } catch (error) {
        showError(this.error, error.message);
      }
    });
    return button;
  }

  /** Return the arguments and the result, which are requested when they are opened. */
  #details() {
    const holder = make("div");
    const details = make("details", { class: "status" }, make("summary", {}, "Arguments and result"), holder);
    details.addEventListener("toggle", async () => {
      if (!details.open) return;
      const { arguments: given, result, update, started } = await get(this.#path).catch((error) => ({ result: error.message }));
      const known = Object.entries({ arguments: given, result, last_update: update, started }).filter(([, value]) => value !== null && value !== undefined);
      holder.replaceChildren(shownAnswer(Object.fromEntries(known)));
    });
    return details;
  }
}

/** Return how long a run took. @param {Run} run */
const lasted = ({ started, ended }) => (started === null ? "never started" : `took ${span(Math.max(0, ended - started))}`);
