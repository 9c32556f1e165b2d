import { make } from "./dom.js";

let library = null;

/** Load Plotly on first use: it is large. */
export function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = make("script", { src: "/console/plotly.min.js", onload: () => resolve(window.Plotly) });
    script.addEventListener("error", () => {
      library = null;
      reject(new Error("the plotting library cannot be loaded"));
    });
    document.head.append(script);
  });
  return library;
}
