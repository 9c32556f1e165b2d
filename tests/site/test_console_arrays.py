"""The console's view of array fields, in a real browser: the newest as a line or an image, the past as a waterfall."""

import threading
import time

import numpy as np
import pytest

from sisock.fields import Field, Timeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.shapes import Axis
from sisock.testing import ManualSource
from sisock.testing.serving import Serving
from tests.site.pages import VIOLATIONS, touch, until

pytestmark = pytest.mark.xdist_group("console")
FREQUENCIES = np.arange(2000) * 2.0  # Hz
PEAK = 750  # its place in a spectrum: 1500 Hz
# The waterfall of the plot: rows, columns, edges of the rows, values of the last colour, and the columns without a sample.
WATERFALL = """() => {
  const trace = document.getElementById("plot").data?.find(({ type }) => type === "heatmap");
  if (!trace) return null;
  const columns = trace.z[0].map((_, x) => trace.z.map((row) => row[x]));
  const times = columns.map((_, x) => Date.parse(trace.x0.slice(0, 23) + "Z") / 1000 + (x * trace.dx) / 1000);
  const filled = columns.map((column) => column.some((value) => value !== null));
  const { range } = document.getElementById("plot").layout.yaxis;
  return { rows: trace.z.length, columns: columns.length, y: trace.y, range, zmax: trace.zmax, times, filled,
    peaks: columns.map((column) => column.indexOf(Math.max(...column.filter((value) => value !== null)))) };
}"""
LINE = """() => {
  const [trace] = document.querySelector("#newest .sample [role=img]")?.data ?? [];
  return trace ? { x: trace.x, y: trace.y } : null;
}"""


class Spectra:
    """A node with spectra ten times a second until it is stopped, waveforms without an axis, and an image."""

    def __init__(self, router, name):
        spectrum = Field("spectrum", units="V", shape=(2000,), axis=Axis("frequency", FREQUENCIES, "Hz"))
        how = {"lateness_s": 0.5, "follows_clock": False, "live": True}
        self.source = ManualSource(
            Timeline("spectra", [spectrum], interval_s=0.1, **how),
            Timeline("others", [Field("image", shape=(20, 30)), Field("waveform", shape=(5,))], interval_s=1.0, **how),
        )
        self.node = Node(name, "an analyzer", [self.source], HistorySettings(keep=1e6, max_samples=10_000_000))
        self.serving = Serving(router.access("server"))
        self.serving.serve(self.node)
        self.end = time.time()
        past = self.end - 120.0 + np.arange(1000) / 10
        first, second = past[past < past[0] + 40.0], past[past > past[0] + 60.0]
        self.emit(first)
        self.emit(second, gap_from=float(first[-1]))
        image = np.arange(600.0).reshape(1, 20, 30)
        self.source.emit("others", [self.end - 1.0], {"image": image, "waveform": [[1.0, np.nan, 3.0, 2.0, 1.0]]})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def emit(self, t, **more):
        spectra = np.full((len(t), 2000), 1e-4)
        spectra[:, PEAK] = 0.05
        self.source.emit("spectra", t, {"spectrum": spectra}, **more)

    def start(self):
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.1):
            self.emit(np.array([time.time()]))

    def stop(self):
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        self.serving.stop()


@pytest.fixture
def spectra(sisock_router, unique):
    spectra = Spectra(sisock_router, unique)
    yield spectra
    spectra.stop()


def test_spectrum_is_a_line_and_its_past_a_waterfall(console, spectra, opened):
    name = spectra.node.name
    page = opened(f"{console.url}/#node={name}&plot={name}::spectrum")
    page.locator("button.field", has_text="2000 values").wait_for()
    page.wait_for_function(f"() => ({LINE})()")
    line = page.evaluate(LINE)
    # Minimum and maximum of each pixel, over the axis with the prefix of its units.
    assert 500 < len(line["x"]) < 2000
    assert max(line["y"]) == 50.0  # mV
    assert line["x"][line["y"].index(50.0)] == pytest.approx(1.5, abs=0.02)  # kHz
    page.locator("#newest .sample").get_by_text("minimum and maximum of").wait_for()
    page.wait_for_function(f"() => ({WATERFALL})()?.filled.some(Boolean)")
    seen = page.evaluate(WATERFALL)
    assert seen["rows"] <= 400 < seen["columns"] <= 1001
    assert seen["range"] == pytest.approx([-0.001, 3.999])
    titles = page.evaluate("() => document.getElementById('plot').layout.annotations.map(({ text }) => text)")
    assert any("each row: maximum of" in title for title in titles)
    for t, filled, peak in zip(seen["times"], seen["filled"], seen["peaks"], strict=True):
        if spectra.end - 119.0 < t < spectra.end - 82.0 or spectra.end - 59.0 < t < spectra.end - 21.0:
            assert filled
            assert seen["y"][peak] <= 1.5 <= seen["y"][peak + 1]
        elif t < spectra.end - 122.0 or spectra.end - 78.0 < t < spectra.end - 61.0:
            assert not filled  # before the first sample, and in the gap
    # New samples move the line, and are columns of the waterfall.
    newest = page.locator("#newest .sample p").inner_text()
    spectra.start()
    until(page, lambda: page.locator("#newest .sample p").inner_text() != newest)
    until(page, lambda: (now := page.evaluate(WATERFALL))["filled"][now["columns"] - 4])
    # A logarithmic scale is part of the address.
    page.get_by_label("Logarithmic").check()
    assert "scale=log" in page.url
    until(page, lambda: page.evaluate(WATERFALL)["zmax"] < 4.0)  # powers of ten of 0.1 to 100 mV
    assert page.evaluate("() => document.querySelector('#newest .sample [role=img]').layout.yaxis.type") == "log"
    page.go_back()
    until(page, lambda: not page.get_by_label("Logarithmic").is_checked())


def test_image_has_no_waterfall_and_a_waveform_without_axis_is_over_numbers(console, spectra, opened):
    name = spectra.node.name
    page = opened(f"{console.url}/#plot={name}::image")
    image = "() => document.querySelector('#newest .sample [role=img]')?.data?.[0]?.z"
    page.wait_for_function(image)
    assert page.evaluate(image) == np.arange(600.0).reshape(20, 30).tolist()
    assert page.evaluate("() => document.getElementById('plot').offsetHeight") == 0
    assert page.locator("#legend .value").inner_text() == "20 × 30 values"
    page.goto(f"{console.url}/#plot={name}::waveform")
    page.wait_for_function(f"() => ({LINE})()?.y.length === 5")
    assert page.evaluate(LINE) == {"x": [0, 1, 2, 3, 4], "y": [1, None, 3, 2, 1]}
    page.wait_for_function(f"() => ({WATERFALL})()?.rows === 5")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_violation_in_a_waterfall(console, spectra, axe, opened, width, scheme):
    how = {"color_scheme": scheme} if width > 1000 else touch(width, 844, color_scheme=scheme)
    name = spectra.node.name
    page = opened(f"{console.url}/#plot={name}::spectrum&plot={name}::image", **how)
    page.wait_for_function(
        f"() => ({WATERFALL})() && document.querySelectorAll('#newest .js-plotly-plot').length === 2"
    )
    page.evaluate(axe)
    assert page.evaluate(VIOLATIONS) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
