import { byId, make, say } from "./dom.js";

/** Tells `change` when colours have changed. */
export const theme = new EventTarget();

const KINDS = ["auto", "light", "dark"];

/** Let the button switch between the device's colours, light and dark. */
export function offerThemes() {
  const button = byId("theme");
  let kind = localStorage.getItem("sisock.theme") ?? "auto";
  const apply = () => {
    document.documentElement.dataset.theme = kind;
    say(button, `Colours: ${kind}`);
    button.title = "Colours: as the device has them, light, or dark";
    theme.dispatchEvent(new Event("change"));
  };
  button.addEventListener("click", () => {
    kind = KINDS[(KINDS.indexOf(kind) + 1) % KINDS.length];
    localStorage.setItem("sisock.theme", kind);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

/** @type {Map<string, string>} colours as they are now */
const known = new Map();
theme.addEventListener("change", () => known.clear());

/**
 * Return a colour of the style sheet, as `rgb(…)`.
 * @param {string} name without the leading dashes
 */
export function colour(name) {
  if (!known.has(name)) {
    const probe = make("i", { hidden: true });
    document.body.append(probe);
    probe.style.color = `var(--${name})`;
    known.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return known.get(name);
}

/**
 * Return a colour that lets through what is behind it.
 * @param {string} rgb
 * @param {number} share of the colour itself
 */
export const faded = (rgb, share) => rgb.replace("rgb(", "rgba(").replace(")", `, ${share})`);

const SERIES = 8;

/**
 * Return the colour of the n-th thing that is plotted.
 * @param {number} n
 */
export const seriesColour = (n) => colour(`series-${n % SERIES}`);
