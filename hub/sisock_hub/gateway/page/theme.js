import { byId, make } from "./dom.js";

/** Dispatches `change` when colours have changed. */
export const theme = new EventTarget();

const KINDS = ["auto", "light", "dark"];

/** Let the button switch between the device's colours, light and dark. */
export function offerThemes() {
  const button = byId("theme");
  let kind = localStorage.getItem("sisock.theme") ?? "auto";
  const apply = () => {
    document.documentElement.dataset.theme = kind;
    button.replaceChildren(make("span", { class: "unless-phone" }, "Colours: "), kind);
    button.setAttribute("aria-label", `Colours: ${kind}`);
    button.title = "Switch between the colours of the device, light and dark";
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

/** @type {Map<string, string>} current colours */
const cache = new Map();
theme.addEventListener("change", () => cache.clear());

/**
 * Return a colour of the style sheet, as `rgb(…)`.
 * @param {string} name without the leading dashes
 */
export function colour(name) {
  if (!cache.has(name)) {
    const probe = make("i", { hidden: true });
    document.body.append(probe);
    probe.style.color = `var(--${name})`;
    cache.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return cache.get(name);
}

/**
 * Return a colour with an opacity.
 * @param {string} rgb
 * @param {number} share opacity, 0 to 1
 */
export const faded = (rgb, share) => rgb.replace("rgb(", "rgba(").replace(")", `, ${share})`);

/** Whether the page is dark. */
export function isDark() {
  const { theme: kind } = document.documentElement.dataset;
  return kind === "dark" || (kind !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

const SERIES = 8;

/**
 * Return the colour of the n-th plotted field.
 * @param {number} n
 */
export const seriesColour = (n) => colour(`series-${n % SERIES}`);
