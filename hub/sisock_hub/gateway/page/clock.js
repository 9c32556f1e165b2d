// The page follows the gateway's clock: that of a phone or a lab's computer may be minutes ahead or behind.
let ahead = 0;
// HTTP's date has whole seconds, so that smaller differences are ignored.
const RESOLUTION_S = 2;

/**
 * Set the clock of the page from a response of the gateway.
 * @param {string|null} date the header Date
 */
export function synchronise(date) {
  const remote = date === null ? NaN : Date.parse(date) / 1000 + 0.5;
  const difference = remote - Date.now() / 1000;
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > RESOLUTION_S ? difference : 0;
}

/** Return UNIX seconds of the gateway's clock. */
export const now = () => Date.now() / 1000 + ahead;
