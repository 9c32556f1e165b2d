// The gateway's clock counts: that of a phone or a lab's computer may be wrong by minutes.
let ahead = 0;
// HTTP's date has whole seconds, so that a smaller difference says nothing.
const RESOLUTION_S = 2;

/**
 * Hear what time it is at the gateway.
 * @param {string|null} date as HTTP has it
 */
export function heard(date) {
  const there = date === null ? NaN : Date.parse(date) / 1000 + 0.5;
  const difference = there - Date.now() / 1000;
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > RESOLUTION_S ? difference : 0;
}

/** Return UNIX seconds. */
export const now = () => Date.now() / 1000 + ahead;
