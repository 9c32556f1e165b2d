import { setText } from "./dom.js";

/**
 * Return a function that reports whether an action of a button is confirmed. The first time it is not, and the button asks;
 * the second time it is, unless the button has lost the focus meanwhile.
 * @param {HTMLElement} button
 * @param {boolean} isNeeded whether the button asks at all
 * @returns {() => boolean}
 */
export function confirmation(button, isNeeded) {
  if (!isNeeded) return () => true;
  let before = null; // text and label of the button, while it asks
  const ask = () => {
    before = { text: button.textContent, label: button.getAttribute("aria-label") };
    setText(button, `Confirm: ${before.text}`);
    if (before.label !== null) button.setAttribute("aria-label", `Confirm: ${before.label}`);
    button.classList.add("danger");
    button.focus(); // also where a key in an input has sent a form
  };
  const reset = () => {
    if (before === null) return;
    setText(button, before.text);
    if (before.label !== null) button.setAttribute("aria-label", before.label);
    button.classList.remove("danger");
    before = null;
  };
  button.addEventListener("blur", reset);
  return () => {
    const isConfirmed = before !== null;
    (isConfirmed ? reset : ask)();
    return isConfirmed;
  };
}
