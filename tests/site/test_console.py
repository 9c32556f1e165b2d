"""The console, in a real browser, with a real router, gateway and nodes."""

import os
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest

from sisock import DataNodeServer
from sisock.consumer import BlockingConsumer
from sisock.fields import Field, Timeline
from sisock.node import Node, open_node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.fixtures import free_ports
from sisock.testing.serving import Serving
from sisock_nodes.table.settings import TableSettings
from sisock_nodes.udp.settings import UdpSettings
from tests.site.gateway import followed, gateway_of, wait
from tests.site.pages import VIOLATIONS, touch, until
from tests.site.test_gateway import SECRETS

pytestmark = pytest.mark.xdist_group("console")
# The time of the newest sample in the plot, as Plotly has it.
NEWEST = "document.getElementById('plot').data.find((d) => d.type === 'scatter').x.at(-1)"
FIELDS = [Field("x", units="K"), Field("y", units="m"), Field("door", "bool"), Field("phase", "string")]


class Measured:
    """A node that measures ten times a second until it is stopped."""

    def __init__(self, router, name):
        tl = Timeline("tl", FIELDS, interval_s=0.1, lateness_s=0.5, follows_clock=False, live=True)
        self.source = ManualSource(tl)
        self.node = Node(name, "a rig", [self.source], HistorySettings(keep=1e6))
        self.serving = Serving(router.access("server"))
        self.serving.serve(self.node)
        t = time.time() - 120.0 + np.arange(1190) / 10
        past = t[(t < t[0] + 50.0) | (t > t[0] + 60.0)]
        first = past[past < t[0] + 50.0]
        self.source.emit("tl", first, columns(first))
        end = first[-1:] + 10
        self.source.emit("tl", end, columns(end), gap_from=float(first[-1]))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.1):
            t = np.array([time.time()])
            self.source.emit("tl", t, columns(t))

    def stop(self):
        self._stop.set()
        self._thread.join()
        self.serving.stop()


def columns(t):
    phase = np.array(["rest" if int(at) % 20 < 10 else "load" for at in t], object)
    return {"x": np.sin(t), "y": t % 60, "door": t % 20 < 3, "phase": phase}


@pytest.fixture
def measured(sisock_router, unique):
    measured = Measured(sisock_router, unique)
    yield measured
    measured.stop()


def pick(page, node, *fields):
    page.locator(f'li[data-node="{node}"] > button').click()
    for field in fields:
        page.locator(f'li[data-of="{node}"] button.field[data-field="{field}"]').click()


def drawn(page):
    """Return names and lengths of the plotted lines."""
    return page.evaluate(
        "() => (document.getElementById('plot').data ?? []).map((each) => [each.name ?? '', each.x?.length ?? 0])"
    )


def ranges(page):
    """Return the seconds and the maximum points of the plot's requests."""
    asked = [parse_qs(urlsplit(url).query) for url in page.asked if urlsplit(url).path == "/api/v1/data"]
    return [(float(q["end"][0]) - float(q["start"][0]), int(q["max_points"][0])) for q in asked if "max_points" in q]


def test_person_finds_a_field_plots_it_and_looks_closer(console, measured, opened):
    name = measured.node.name
    page = opened(console.url)
    node = page.locator(f'li[data-node="{name}"]')
    node.wait_for()
    until(page, lambda: "live" in node.inner_text())  # stale until its first sample of now
    pick(page, name, "x", "y", "door", "phase")
    row = page.locator(f'li[data-of="{name}"] button.field[data-field="x"]')
    assert "K" in row.inner_text()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).length >= 4")
    page.wait_for_function("() => Math.max(...document.getElementById('plot').data.map((d) => d.x.length)) > 300")
    before = page.evaluate(f"() => {NEWEST}")
    shown = datetime.fromisoformat(before[:23] + "+00:00").timestamp()
    assert abs(shown - time.time()) < 100.0  # in UTC, wherever the browser is
    value = row.locator(".value").inner_text()
    page.wait_for_function(
        f"(before) => {NEWEST} > before",
        arg=before,
    )
    page.wait_for_function(
        "([node, was]) => document.querySelector(`li[data-of='${node}'] [data-field=x] .value`).textContent !== was",
        arg=[name, value],
    )
    shapes = page.evaluate("() => document.getElementById('plot').layout.shapes.length")
    assert shapes > 0  # the gap, and the samples beyond the watermark
    asked = len(ranges(page))
    span, points = ranges(page)[-1]
    assert span == pytest.approx(300.0, abs=1.0)
    assert 200 <= points <= 4000
    page.locator("#plot").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => location.hash.includes('from=')")
    until(page, lambda: len(ranges(page)) > asked)
    page.wait_for_function("() => !document.getElementById('plot').hasAttribute('aria-busy')")
    assert ranges(page)[-1][0] < 200.0
    box = page.locator("#plot .nsewdrag").first.bounding_box()
    asked = len(ranges(page))
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 42, steps=5)
    page.mouse.up()
    until(page, lambda: len(ranges(page)) > asked)
    assert ranges(page)[-1][0] < 60.0
    shared = page.url
    again = opened(shared)
    again.wait_for_function("() => (document.getElementById('plot').data ?? []).length >= 4")
    assert urlsplit(again.url).fragment == urlsplit(shared).fragment


def test_local_times_are_monotonic_where_clocks_are_set_back(console, opened, sisock_router, unique, tmp_path):
    path = tmp_path / "autumn.csv"
    start = 1729985400  # 2024-10-26T23:30Z, which is 01:30 in Paris, in summer time
    path.write_text("time,x\n" + "".join(f"{start + 60 * i},{i}\n" for i in range(181)))
    node = open_node(unique, TableSettings(type="table", path=path, time={"format": "unix"}))
    serving = Serving(sisock_router.access("server"))
    serving.serve(node)
    try:
        wait(lambda: node.sources[0].counters["rows"] == 181)
        where = f"{console.url}#plot={unique}::x&from={start}&to={start + 10800}"
        away = ["503 (Service Unavailable)", "404 (Not Found)"]  # when the node stops
        page = opened(where, timezone_id="Europe/Paris", expects=away)
        page.locator("#zone").click()
        page.wait_for_function("() => document.getElementById('plot').data?.[0]?.x.length > 100")
        page.wait_for_function(
            "() => document.getElementById('plot').layout.annotations.some(({ text }) => text.includes('UTC+2'))"
        )
        found = page.evaluate(
            "() => { const { data, layout } = document.getElementById('plot');"
            " return [data[0].x, layout.xaxis.range, layout.annotations.find(({ name }) => name === 'zone').text, document.getElementById('seen').textContent] }"
        )
        x, shown, title, seen = found
        assert x == sorted(x)
        assert (x[0][:19], x[-1][:16]) == ("2024-10-27T01:30:00", "2024-10-27T04:29")
        assert [each[:16] for each in shown] == ["2024-10-27T01:30", "2024-10-27T04:30"]
        assert title == "UTC+2, clocks change to UTC+1"
        assert seen == "2024-10-27 01:30:00 UTC+2 – 2024-10-27 03:30:00 UTC+1"
        page.screenshot(path=tmp_path / "autumn.png")
        page.get_by_text("From – to").click()
        page.locator("input[name=from]").fill("2024-10-27T02:00")
        page.locator("input[name=to]").fill("2024-10-27T02:30")
        page.get_by_role("button", name="Show").click()
        page.wait_for_function("() => location.hash.includes('from=1729987200&to=1729992600')")  # both hours
    finally:
        serving.stop()


# Minimum and maximum of the plotted values, by the units of their panels.
PANELS = """() => {
  const { data, layout } = document.getElementById("plot");
  const units = (trace) => layout[trace.yaxis.replace("y", "yaxis")].title.text.trim();
  const curves = data.filter((trace) => trace.type === "scatter" && trace.x[0] !== null);
  return Object.fromEntries(curves.map((trace) => {
    const values = trace.y.filter((value) => value !== null);
    return [units(trace), [Math.min(...values), Math.max(...values)]];
  }));
}"""


def test_field_whose_units_changed_has_a_panel_for_each(console, opened, sisock_router, unique, tmp_path):
    def tank(units):
        fields = [Field("level", units=units), Field("ratio", units="1")]
        timeline = Timeline("tl", fields, 1.0, lateness_s=0.0, follows_clock=False)
        return Node(unique, None, [ManualSource(timeline)], HistorySettings(path=tmp_path / "h", keep=1e6))

    def emit(node, t, level):
        node.sources[0].emit("tl", t, {"level": np.full(len(t), level), "ratio": np.full(len(t), 0.5)})

    now = time.time()
    serving = Serving(sisock_router.access("server"))
    for units, level, ago in (("mm", 1000.0, 300.0), ("m", 1.25, 200.0)):
        node = tank(units)
        serving.serve(node)
        emit(node, now - ago + np.arange(100.0), level)
        if units == "mm":
            serving.stop()
            serving = Serving(sisock_router.access("server"))
    try:
        away = ["502 (Bad Gateway)", "503 (Service Unavailable)", "404 (Not Found)"]  # while the node is away
        where = f"#plot={unique}::level&plot={unique}::ratio&from={now - 310}&to={now}"
        page = opened(console.url + where, expects=away)
        page.wait_for_function("() => (document.getElementById('plot').data ?? []).length === 3")
        assert page.evaluate(PANELS) == {"mm": [1000, 1000], "m": [1.25, 1.25], "ratio": [0.5, 0.5]}
        level, ratio = (chip.inner_text().split("\n") for chip in page.locator("#legend li").all())
        assert "1.25 m" in level
        assert any(text.startswith("mm until ") for text in level)
        assert "0.5" in ratio
        page.screenshot(path=tmp_path / "epochs.png")
        # Live, the line of the next units begins in a panel of its own, too.
        page.goto(f"{console.url}#plot={unique}::level&last=1000")
        page.wait_for_function("() => (document.getElementById('plot').data ?? []).length === 2")
        serving.stop()
        serving = Serving(sisock_router.access("server"))
        node = tank("cm")
        serving.serve(node)
        with BlockingConsumer(sisock_router.access()) as consumer:
            followed(consumer, unique)
        emit(node, np.array([time.time()]), 125.0)
        page.wait_for_function("() => document.querySelector('#legend .value')?.textContent === '125 cm'")
        page.wait_for_function("() => document.getElementById('plot').data.length === 3")
        assert page.evaluate(PANELS) == {"mm": [1000, 1000], "m": [1.25, 1.25], "cm": [125, 125]}
    finally:
        serving.stop()


def test_node_that_dies_shows_as_gone(console, opened, sisock_router, unique):
    measured = Measured(sisock_router, unique)
    page = opened(console.url, expects=["502 (Bad Gateway)", "404 (Not Found)"])  # while the node is away
    item = page.locator(f'li[data-node="{unique}"]')
    item.wait_for()
    page.locator("#search").fill(unique)  # those that have left are the last of the list
    measured.stop()
    page.wait_for_function(
        "(node) => document.querySelector(`li[data-node='${node}']`)?.dataset.state === 'gone'", arg=unique
    )
    assert "gone" in item.inner_text()


def test_sources_are_created_stopped_and_started_by_forms_made_from_schemas(
    console, sisock_router, sisock_serve, unique, opened
):
    (port,) = free_ports(1)
    node = open_node(unique, UdpSettings(type="udp", host="127.0.0.1", port=port), sisock_router.access("server"))
    sisock_serve(node)
    page = opened(console.url, expects=["400 (Bad Request)"])
    page.locator(f'li[data-node="{unique}"] > button').click()
    form = page.locator('form[data-procedure="create_source"]')
    page.get_by_text("create source", exact=True).first.click()
    form.get_by_label("id", exact=False).first.fill("s")
    form.get_by_label("byte format").first.fill("<d")  # not hidden among the options: without it nothing works
    form.get_by_label("input names").first.fill("v\nw")
    form.locator("button.primary").click()
    page.locator('form[data-procedure="create_source"] .error').get_by_text("2").or_(
        form.locator(".error")
    ).first.wait_for()
    assert "names" in form.locator(".error").inner_text()
    form.get_by_label("input names").first.fill("v")
    form.locator("button.primary").click()
    until(page, lambda: [part.name for part in node.sources[0].parts] == ["s"])
    page.get_by_role("button", name="list sources").click()
    (stream,) = node.sources[0].parts
    page.get_by_role("button", name="stop source s").click()
    until(page, lambda: stream.is_running is False)
    page.get_by_role("button", name="start source s").click()
    until(page, lambda: stream.is_running is True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(struct.pack("<d", 42.5), ("127.0.0.1", port))
    wait(lambda: stream.counters["decoded"] == 1)
    page.reload()
    value = page.locator(f'li[data-of="{unique}"] button.field[data-field="s.v"] .value')
    value.wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.field .value')].some((e) => e.textContent === '42.5')"
    )


def test_keys_alone_lead_to_a_plot(console, measured, opened):
    page = opened(console.url)
    page.locator(f'li[data-node="{measured.node.name}"]').wait_for()
    page.keyboard.press("/")
    page.keyboard.type(measured.node.name)
    page.wait_for_function("() => document.querySelectorAll('#nodes li[data-node]').length === 1")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator('button.field[data-field="x"]').wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 100)")


def hash_of(page):
    return parse_qs(urlsplit(page.url).fragment)


def test_back_undoes_a_zoom_and_a_choice_and_reloading_keeps_the_view(console, measured, opened):
    name = measured.node.name
    start = int(time.time()) - 100
    page = opened(f"{console.url}/#plot={name}::x&from={start}&to={start + 80}")
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 100)")
    box = page.locator("#plot .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 42, steps=5)
    page.mouse.up()
    page.wait_for_function("(start) => !location.hash.includes(`from=${start}&`)", arg=start)
    zoomed = hash_of(page)
    assert float(zoomed["to"][0]) - float(zoomed["from"][0]) == pytest.approx(20.0, abs=1.0)
    page.wait_for_timeout(800)  # the next step is one of its own
    page.locator("#plot").hover(position={"x": box["width"] / 2, "y": 100})
    for _ in range(4):
        page.mouse.wheel(0, -100)  # together one step
    page.wait_for_function("(was) => !location.hash.includes(was)", arg=f"from={zoomed['from'][0]}")
    pick(page, name, "y")
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('#legend li').length === 2")
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('#legend li').length === 1")
    page.go_back()  # the node is closed again
    page.go_back()
    page.wait_for_function("(was) => location.hash.includes(was)", arg=f"from={zoomed['from'][0]}")
    page.go_back()
    page.wait_for_function("(start) => location.hash.includes(`from=${start}&to=${start + 80}`)", arg=start)
    seen = page.evaluate(
        "() => document.getElementById('plot').layout.xaxis.range.map((t) => Date.parse(`${t.slice(0, 23)}Z`) / 1000)"
    )
    assert seen == [start, start + 80]
    page.go_forward()
    page.wait_for_function("(was) => location.hash.includes(was)", arg=f"from={zoomed['from'][0]}")


SMALL = [Field("u", units="V"), Field("temperature", units="°C"), Field("share", units="%"), Field("disk", units="B")]
SMALL += [Field("count"), Field("noise", units="V/√Hz"), Field("a.rather.long.name.of.a.state", "string")]


@pytest.fixture(scope="module")
def small(sisock_router):
    """A node whose values take prefixes, and whose newest sample is an hour old."""
    timeline = Timeline("tl", SMALL, 1.0, lateness_s=0.0, follows_clock=False)
    node = Node(f"small-{os.getpid()}", "small things", [ManualSource(timeline)], HistorySettings(keep=1e6))
    serving = Serving(sisock_router.access("server"))
    serving.serve(node)
    node.newest = int(time.time()) - 3600
    t = node.newest - 99.0 + np.arange(100.0)
    values = {"u": 0.0012, "temperature": 0.0012, "share": 2500.0, "disk": 25283207168.0, "count": 25283207168.0}
    values |= {"noise": 3.5e-9}
    data = {name: np.full(100, value) for name, value in values.items()}
    data["a.rather.long.name.of.a.state"] = np.array(["idle" if i < 50 else "busy" for i in range(100)], object)
    node.sources[0].emit("tl", t, data)
    yield node
    serving.stop()


def test_values_and_axes_have_prefixes_where_their_units_take_them(console, small, opened):
    plotted = "".join(f"plot={small.name}::{quote(field.name)}&" for field in SMALL)
    page = opened(f"{console.url}/#node={small.name}&{plotted}from={small.newest - 99}&to={small.newest + 1}")
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).length === 7")
    chips = dict(chip.split("\n")[:2] for chip in page.locator("#legend li").all_inner_texts())
    read = {name.removeprefix(f"{small.name} "): value for name, value in chips.items()}
    assert read == {
        "u": "1.2 mV", "temperature": "0.0012 °C", "share": "2500 %", "disk": "25.283 GB", "count": "25,283,207,168",
        "noise": "3.5 nV/√Hz", "a.rather.long.name.of.a.state": "busy",
    }  # fmt: skip
    row = page.locator('button.field[data-field="u"] .reading')
    row.get_by_text("1.2").wait_for()
    assert row.inner_text() == "1.2 mV"
    axes = page.evaluate(PANELS)
    assert axes["mV"] == pytest.approx([1.2, 1.2])
    assert axes["nV/√Hz"] == pytest.approx([3.5, 3.5])
    assert axes["count"] == [25_283_207_168, 25_283_207_168]  # a pure number: the axis has the name of its field
    assert axes["°C"] == [0.0012, 0.0012]
    assert axes["GB"] == pytest.approx([25.283207168, 25.283207168])
    # The box at the pointer has whole names, and no space before the colon.
    page.locator("#plot .nsewdrag").first.hover()
    page.locator("#plot .hoverlayer").get_by_text(f"{small.name} u: 1.2 mV").wait_for()
    # The band has its whole name above it, in the colour that the legend gives to the field, and shades of it.
    name, colours = page.evaluate(
        "() => { const { data, layout } = document.getElementById('plot');"
        " return [layout.annotations.find(({ name }) => name === 'band'), data.find(({ type }) => type === 'bar').marker.color]; }"
    )
    swatch = page.locator("#legend li .swatch").last.evaluate("(element) => getComputedStyle(element).backgroundColor")
    assert name["text"] == "a.rather.long.name.of.a.state"
    assert name["font"]["color"] == swatch
    assert {colour.rpartition(",")[0].replace("rgba", "rgb") + ")" for colour in colours} == {swatch}
    assert len(set(colours)) == 2


def test_interval_without_samples_has_no_invented_axis_and_names_the_newest(console, small, opened):
    start = small.newest + 1000
    page = opened(f"{console.url}/#plot={small.name}::u&from={start}&to={start + 60}")
    page.locator("#plot").get_by_text("No samples in this interval").wait_for()
    assert page.locator("#plot .ytick").count() == 0
    assert page.locator("#plot .xtick").count() > 0
    newest = datetime.fromtimestamp(small.newest, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert newest in page.locator("#notes").inner_text()
    page.locator("#notes").get_by_role("button", name="Show the newest").click()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 10)")
    assert page.locator("#notes").inner_text() == ""


def test_status_shows_dates_as_dates_and_bytes_as_bytes(console, small, opened):
    page = opened(f"{console.url}/#node={small.name}", **touch(360, 640))
    page.locator('nav button[data-to="control"]').tap()
    page.get_by_text("Health and counters").tap()
    table = page.locator('.table[aria-label="Table: sources"]')
    table.wait_for()
    text = page.locator("#control-section .status", has_text="Health and counters").inner_text()
    newest = datetime.fromtimestamp(small.newest, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert newest in text
    assert "256 MB" in text  # of answers
    assert page.evaluate("() => document.documentElement.scrollWidth") == 360


def test_address_with_a_name_that_does_not_exist_explains_what_to_do(console, small, opened):
    page = opened(
        f"{console.url}/#plot={small.name}::temprature&from={small.newest - 99}&to={small.newest + 1}", expects=["404"]
    )
    notes = page.locator("#notes")
    notes.get_by_text(f"{small.name} has no field temprature.").wait_for()
    assert "Did you mean" in notes.inner_text()
    notes.get_by_role("button", name="temperature", exact=True).click()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 10)")
    assert hash_of(page)["plot"] == [f"{small.name}::temperature"]
    page.goto(f"{console.url}/#node={small.name}x&plot={small.name}x::u&from={small.newest - 99}&to={small.newest + 1}")
    notes.get_by_text(f"There is no node {small.name}x at this site.").wait_for()
    page.locator("#no-node").get_by_text(f"There is no node {small.name}x at this site.").wait_for()
    notes.get_by_role("button", name=small.name, exact=True).click()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 10)")


def test_address_with_a_field_that_does_not_exist_shows_an_error(console, measured, opened):
    name = measured.node.name
    page = opened(f"{console.url}/#plot={name}::x&plot={name}::torque")
    page.locator("#notes").get_by_text(f"{name} has no field torque.").wait_for()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 100)")
    assert "No samples of" not in page.locator("#notes").inner_text()
    alone = opened(f"{console.url}/#plot={name}::torque")
    alone.locator("#notes").get_by_text(f"{name} has no field torque.").wait_for()
    alone.wait_for_function("() => document.querySelectorAll('#plot .xtick').length > 0")


# The place of the plot, and of the buttons below it.
PLACES = """() => {
  const box = (selector) => document.querySelector(selector).getBoundingClientRect();
  const [plot, drawn, bar] = [box("#plot"), box("#plot .main-svg"), box("#panes")];
  return { wide: document.documentElement.scrollWidth, drawn: drawn.width, plot: plot.width, right: drawn.right,
    top: drawn.top, bottom: drawn.bottom, bar: [bar.left, bar.top, bar.right, bar.bottom] };
}"""


BAR = "document.getElementById('bar')"
FADE = """() => {
  const fade = getComputedStyle(document.querySelector(".strip"), "::after");
  return [fade.position, fade.backgroundImage.includes("gradient")];
}"""


@pytest.mark.parametrize(("width", "height"), [(390, 844), (360, 640)])
def test_phone_that_opens_a_node_and_taps_a_field_sees_the_plot_fit(console, measured, opened, width, height):
    page = opened(console.url, **touch(width, height))
    page.locator(f'li[data-node="{measured.node.name}"]').wait_for()
    page.locator(f'li[data-node="{measured.node.name}"] > button').tap()
    page.locator('button.field[data-field="x"]').tap()
    until(page, lambda: ranges(page))
    page.wait_for_timeout(1000)  # as a person takes, before the plot is seen
    page.locator('nav button[data-to="plot"]').tap()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 100)")
    page.wait_for_function(
        "() => document.getElementById('plot').clientWidth === document.querySelector('#plot .main-svg').clientWidth"
    )
    seen = page.evaluate(PLACES)
    assert seen["wide"] == width
    assert seen["right"] <= width
    assert seen["bar"] == [0, seen["bar"][1], width, height]  # all of it on the screen
    assert seen["top"] > 0
    assert seen["bottom"] <= seen["bar"][1]  # nothing to scroll for
    # Nor with the bar of an outage.
    text = "The gateway does not answer; retrying. The page shows the last known state."
    # At each poll, since the page hides the bar once the gateway answers.
    show = f"if ({BAR}.textContent !== '{text}') {{ {BAR}.textContent = '{text}'; }} {BAR}.hidden = false"
    page.wait_for_function(f"(bottom) => {{ {show}; return ({PLACES})().bottom <= bottom; }}", arg=seen["bar"][1])
    page.evaluate(f"() => {{ {BAR}.hidden = true; }}")
    # The row of ranges fades at its edge, and ends with a whole button.
    assert page.evaluate(FADE) == ["sticky", True]
    page.evaluate("() => document.querySelector('.strip').scrollTo(10000, 0)")
    beyond = "() => document.querySelector('.strip').getBoundingClientRect().right - document.querySelector('.strip').lastElementChild.getBoundingClientRect().right"
    until(page, lambda: page.evaluate(beyond) >= 30)
    page.set_viewport_size({"width": height, "height": width})
    page.wait_for_function("(width) => document.querySelector('#plot .main-svg').clientWidth > width", arg=width)
    assert page.evaluate(PLACES)["wide"] == height
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function("(width) => document.querySelector('#plot .main-svg').clientWidth < width", arg=width)
    page.go_back()
    page.locator('button.field[data-field="x"]').wait_for()
    assert page.locator("#nodes-section").is_visible()


def test_plot_follows_the_width_of_its_place(console, measured, opened):
    page = opened(f"{console.url}/#plot={measured.node.name}::x")
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 100)")
    fits = "() => document.getElementById('plot').clientWidth === document.querySelector('#plot .main-svg').clientWidth"
    wide = page.evaluate("() => document.querySelector('#plot .main-svg').clientWidth")
    page.set_viewport_size({"width": 900, "height": 700})
    page.wait_for_function("(wide) => document.querySelector('#plot .main-svg').clientWidth < wide - 300", arg=wide)
    page.wait_for_function(fits)
    page.evaluate(
        "() => { document.getElementById('nodes-section').style.width = '15rem'; }"
    )  # no resize of the window
    page.evaluate("() => { document.querySelector('main').style.gridTemplateColumns = '15rem 1fr'; }")
    page.wait_for_function(fits)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function("(wide) => document.querySelector('#plot .main-svg').clientWidth > wide", arg=wide)
    page.wait_for_function(fits)


def test_phone_in_the_dark(console, measured, opened):
    page = opened(console.url, **touch(390, 800, color_scheme="dark"))
    page.locator(f'li[data-node="{measured.node.name}"]').wait_for()
    pick(page, measured.node.name, "x")
    page.locator('nav button[data-to="plot"]').click()
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).some((d) => d.x.length > 100)")
    for pane in ("nodes", "plot", "control"):
        page.locator(f'nav button[data-to="{pane}"]').click()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), pane
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in dark.strip("rgba() ").split(",")[:3]) < 150
    small = page.evaluate(
        "() => [...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 40).map((b) => b.textContent)"
    )
    assert small == []


class Cheap(DataNodeServer):
    """A node with 50 fields and no source."""

    def get_fields(self, start, end):
        names = [f"field.{i:02}" for i in range(50)]
        about = {"type": "number", "timeline": "tl", "units": "V"}
        return dict.fromkeys(names, about), {"tl": {"interval": 1.0, "field": names}}

    def get_data(self, field, start, end, min_stride=None):
        return {"data": {name: [1.0] for name in field}, "timeline": {"tl": {"t": [1e9], "finalized_until": None}}}


@pytest.fixture
def crowd(mortal_router):
    """Names of 200 nodes with 50 fields each, on a router of their own, and a gateway to them."""
    names = [f"crowd-{i:03}" for i in range(200)]
    serving = Serving(mortal_router.access("server"))
    with gateway_of(mortal_router.site) as gateway:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(serving.serve, [type("Cheap", (Cheap,), {"name": name}) for name in names]))
        yield names, gateway
        serving.stop()


IN_SIGHT = """(name) => {
  const row = document.querySelector(`li[data-node="${name}"]`)?.getBoundingClientRect();
  return Boolean(row) && row.top >= 0 && row.bottom <= innerHeight;
}"""
ROWS = "() => document.querySelectorAll('#nodes > li').length"


def test_of_200_nodes_with_50_fields_only_what_is_in_sight_is_in_the_page(crowd, opened):
    names, gateway = crowd
    page = opened(gateway.url, expects=["503 (Service Unavailable)", "502 (Bad Gateway)", "WebSocket"])  # in the end
    first, last = (page.locator(f'li[data-node="{name}"]') for name in (names[0], names[-1]))
    page.wait_for_function("() => document.querySelector('#nodes > li')?.getAttribute('aria-setsize') === '200'")
    assert (first.get_attribute("aria-posinset"), last.count()) == ("1", 0)
    assert page.evaluate(ROWS) < 40
    first.locator("button").click()
    page.wait_for_function("() => document.querySelector('#nodes > li').getAttribute('aria-setsize') === '250'")
    assert page.evaluate(ROWS) < 40
    for _ in range(51):  # over all of its fields to the next node
        page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.activeElement.closest('li').dataset.node") == names[1]
    assert page.evaluate(ROWS) < 40
    page.locator("#nodes-section").evaluate("(section) => section.scrollTo(0, section.scrollHeight)")
    last.wait_for()
    assert page.evaluate(ROWS) < 41  # with the one that has the focus
    assert page.evaluate("() => document.activeElement.closest('li').dataset.node") == names[1]
    # An address with a node leads to its row.
    for name in (names[150], names[3]):
        page.evaluate("(name) => { location.hash = `node=${name}`; }", name)
        until(page, lambda name=name: page.evaluate(IN_SIGHT, name))
    linked = opened(f"{gateway.url}/#node={names[120]}")
    until(linked, lambda: linked.evaluate(IN_SIGHT, names[120]))
    linked.close()
    # One letter is one question, and a bounded answer.
    asked = len(page.asked)
    page.keyboard.press("/")
    page.keyboard.type("f")
    page.locator("#found").get_by_text("The first 200 of 10,000 matches are shown").wait_for()
    assert page.evaluate("() => Number(document.querySelector('#nodes > li').getAttribute('aria-setsize'))") == 204
    assert page.evaluate(ROWS) < 40
    searched = [url for url in page.asked[asked:] if urlsplit(url).path == "/api/v1/search"]
    assert len(searched) == 1
    assert len([url for url in page.asked[asked:] if urlsplit(url).path.endswith("/fields")]) <= 1
    page.keyboard.type("ield.49 crowd-007")
    page.wait_for_function("() => document.querySelector('#nodes > li').getAttribute('aria-setsize') === '2'")
    assert page.locator("button.field").get_attribute("data-field") == "field.49"
    page.close()  # before the gateway goes


@pytest.fixture(scope="module")
def rig(sisock_router):
    """A node with forms of all kinds."""
    serving = Serving(sisock_router.access("server"))
    (port,) = free_ports(1)
    node = open_node(f"rig-{os.getpid()}", UdpSettings(type="udp", host="127.0.0.1", port=port), sisock_router.access())
    serving.serve(node)
    yield node
    serving.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_violation_on_any_page_or_dialog(console, small, rig, axe, opened, width, scheme):
    how = {"color_scheme": scheme} if width > 1000 else touch(width, 844, color_scheme=scheme)
    found = {}

    def look(what):
        if page.evaluate("() => typeof axe") == "undefined":
            page.evaluate(axe)
        found[what] = page.evaluate(VIOLATIONS)

    def pane(to):
        if width < 1000:
            page.locator(f'nav button[data-to="{to}"]').tap()

    page = opened(console.url, **how, expects=["404 (Not Found)"])
    page.locator(f'li[data-node="{small.name}"]').wait_for()
    look("nodes")
    pane("plot")
    look("welcome")
    pane("nodes")
    page.locator("#search").fill("noise")
    page.locator(f'li[data-of="{small.name}"] button.field[data-field="noise"]').wait_for()
    look("search")
    times = f"from={small.newest - 99}&to={small.newest + 1}"
    fields = "u", "a.rather.long.name.of.a.state", "share", "typo"
    plotted = "".join(f"&plot={small.name}::{field}" for field in fields)
    page.goto(f"{console.url}/#node={rig.name}{plotted}&plot=nobody::x&{times}")
    pane("plot")
    page.wait_for_function("() => (document.getElementById('plot').data ?? []).length === 3")
    page.locator("#notes").get_by_text("There is no node nobody").wait_for()
    look("plot")
    for menu in ("From – to", "Save"):
        page.get_by_text(menu, exact=True).click()
        look(menu)
        page.keyboard.press("Escape")
    pane("control")
    page.get_by_text("Health and counters").click()
    page.locator(".status dl").first.wait_for()
    page.get_by_text("create source", exact=True).first.click()
    page.locator('form[data-procedure="create_source"] .options > summary').click()
    look("control")
    page.evaluate(
        "() => { document.getElementById('login').showModal(); document.getElementById('login-error').hidden = false; }"
    )
    page.evaluate(
        "() => { document.getElementById('login-error').textContent = 'The user or the password is wrong.'; }"
    )
    look("login")
    assert found == {what: [] for what in found}
    assert len(found) == 8


def test_login_is_shown_where_it_is_required(sisock_router, measured, opened):
    with gateway_of(sisock_router.site, SECRETS, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        page = opened(gateway.url, expects=["401 (Unauthorized)", "403 (Forbidden)"])
        page.get_by_label("User").fill("paul")
        page.get_by_label("Password").fill("not it, no")
        page.locator("#login-form button").click()
        page.locator("#login-error").get_by_text("incorrect").wait_for()
        page.get_by_label("Password").fill("battery staple")
        page.locator("#login-form button").click()
        page.locator(f'li[data-node="{measured.node.name}"]').wait_for()
        assert "paul" in page.locator("#who").inner_text()
        page.locator("#logout").click()
        page.get_by_label("User").wait_for()
        page.close()  # before the gateway goes


def test_outage_of_the_router_is_shown_until_it_is_back(mortal_router, opened):
    with gateway_of(mortal_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        page = opened(gateway.url, expects=["503 (Service Unavailable)", "WebSocket"])
        assert page.locator("#bar").is_hidden()
        mortal_router.kill("router")
        page.locator("#bar").wait_for(state="visible")
        assert "router" in page.locator("#bar").inner_text()
        mortal_router.start("router")
        page.locator("#bar").wait_for(state="hidden")
        page.close()  # before the gateway goes


@pytest.mark.parametrize("span", ["from=1e300&to=2e300", "from=-Infinity&to=Infinity", "from=9e12&to=9.1e12"])
def test_address_with_times_that_no_calendar_has_shows_the_newest(console, measured, opened, span):
    page = opened(f"{console.url}#plot={measured.node.name}::x&{span}")
    until(page, lambda: page.evaluate("document.getElementById('plot').data?.some(({ x }) => x?.length > 1)"))
    page.locator("#nodes button").first.wait_for()
