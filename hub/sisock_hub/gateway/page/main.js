import { AlarmList } from "./alarm_list.js";
import { Alarms } from "./alarms.js";
import { showBanner } from "./banner.js";
import { showOutages } from "./bar.js";
import { Control } from "./control.js";
import { byId } from "./dom.js";
import { Events } from "./events.js";
import { showLegend } from "./legend.js";
import { Live } from "./live.js";
import { handleLogin, loadPrincipal } from "./login.js";
import { Nodes } from "./nodes.js";
import { NewestSamples } from "./newest.js";
import { showNotes } from "./notes.js";
import { Plot } from "./plot.js";
import { offerRanges } from "./ranges.js";
import { offerThemes } from "./theme.js";
import { View } from "./view.js";
import { Watch } from "./watch.js";
import { offerZones } from "./zone.js";

offerThemes();
offerZones();

const watch = new Watch();
let principal = await handleLogin(() => location.reload());
if (principal) start();

function start() {
  const [view, live] = [new View(), new Live()];
  const alarms = new Alarms(watch, view);
  const plot = new Plot(view, live, alarms);
  showOutages(watch);
  showLegend(plot, view, watch);
  showNotes(plot, view, watch);
  new NewestSamples(plot, view);
  offerRanges(view, plot);
  new Nodes(watch, view);
  new Control(view, watch, live, () => principal);
  new AlarmList(alarms, view, () => principal);
  showBanner(alarms, () => goTo(view, "alarms"));
  const events = new Events(view, live);
  watch.addEventListener("recovered", async () => {
    principal = (await loadPrincipal()) ?? principal;
    live.restart();
    plot.load();
    events.load();
  });
  offerPanes(view, alarms);
  offerSearchKey();
  watch.start();
}

/** Let buttons switch between the parts of the page: a phone shows one at a time. */
function offerPanes(view, alarms) {
  const buttons = [...byId("panes").children];
  const show = () => {
    document.body.dataset.pane = view.pane;
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.to === view.pane));
    scrollTo(0, 0);
  };
  for (const each of buttons) each.addEventListener("click", () => view.show(each.dataset.to));
  const count = () => {
    const plotted = view.plotted.length;
    buttons[1].textContent = plotted ? `Plot (${plotted})` : "Plot";
    const open = Object.values(alarms.counts("unacknowledged", "returned")).reduce((sum, each) => sum + each, 0);
    buttons[3].textContent = open ? `Alarms (${open})` : "Alarms";
  };
  alarms.addEventListener("change", count);
  view.addEventListener("change", ({ detail }) => (detail === "pane" ? show() : count()));
  count();
  show();
}

/** Show a part of the page, and move the focus to it. */
function goTo(view, pane) {
  view.show(pane);
  byId(`${pane}-section`).focus();
}

function offerSearchKey() {
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    byId("search").focus();
  });
}
