"""Array fields on the command line: summaries in tables, lists in JSON, the newest as a plot over its axis."""

import io
import json
import threading

import numpy as np
import pytest
from rich.console import Console

from sisock.cli import show
from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.fields import Field, Samples, Timeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.shapes import Axis
from sisock.testing import ManualSource
from tests.commands import sisock

T0 = 1_772_366_400.0  # 2026-03-01T12:00Z
AXIS = Axis("frequency", np.linspace(0.0, 500.0, 2001), "Hz")


def spectra(values, axis=AXIS):
    values = np.asarray(values, float)
    info = FieldInfo("spectrum", "number", "V", None, "tl", None, shape=values.shape[1:], axis=axis)
    samples = Samples(T0 + np.arange(len(values)), {"spectrum": values})
    return Data("rig", {"tl": samples}, [], {"spectrum": info})


def printed(render, *args, **how):
    out = io.StringIO()
    render(Console(file=out, width=100), *args, **how)
    return out.getvalue()


def test_table_has_minimum_maximum_and_size_of_each_array():
    values = np.zeros((3, 2001))
    values[0, 7], values[1, 8], values[2] = 4.5, np.nan, np.nan
    lines = printed(show.as_table, spectra(values), most=None).splitlines()
    assert lines[0] == "time (UTC)\tspectrum [V]"
    assert [line.partition("\t")[2] for line in lines[1:]] == ["0 … 4.5 (2001)", "0 … 0 (2001)", "no value (2001)"]
    image = printed(show.as_table, spectra(np.ones((1, 2, 3)), axis=None), most=None)
    assert "1 … 1 (2 × 3)" in image


def test_json_has_lists_with_null_for_nan():
    content = show.as_json(spectra([[1.0, np.nan]], axis=None))
    assert json.loads(json.dumps(content))["timelines"]["tl"]["data"] == {"spectrum": [[1.0, None]]}


def test_newest_sample_is_drawn_over_its_axis():
    values = np.zeros((2, 2001))
    values[1, 1000] = 3.0  # one of 2001 values, at 250 Hz
    drawn = printed(show.as_plot, spectra(values))
    assert "spectrum [V] over frequency, 2026-03-01T12:00:01" in drawn
    for tick in ("0 Hz", "100 Hz", "500 Hz"):
        assert tick in drawn
    lines = drawn.splitlines()
    (top,) = [line for line in lines if line.strip().startswith("3┤")]
    assert any("\u2801" <= c <= "\u28ff" for c in top)  # the spike is not lost


def test_arrays_without_an_axis_are_drawn_over_numbers_and_images_are_not_drawn():
    assert "over number" in printed(show.as_plot, spectra([[1.0, 2.0, 3.0]], axis=None))
    assert "spectrum: an image cannot be drawn" in printed(show.as_plot, spectra(np.ones((1, 2, 3)), axis=None))
    assert "the newest sample has no value" in printed(show.as_plot, spectra([[np.nan, np.nan]], axis=None))


def test_commands_show_shape_and_axis_and_draw_only_the_newest(sisock_router, sisock_serve, unique, tmp_path):
    timeline = Timeline("tl", [Field("spectrum", units="V", shape=(2001,), axis=AXIS)], lateness_s=1e9)
    source = ManualSource(timeline)
    sisock_serve(Node(unique, None, [source], HistorySettings(keep=1e12)))
    values = np.zeros((2, 2001))
    values[1, 1000] = 3.0
    source.emit("tl", [T0, T0 + 1.0], {"spectrum": values})
    where = ("--site", str(sisock_router.site.path))
    listed = sisock("fields", unique, *where, cwd=tmp_path)
    assert listed.stdout.splitlines()[1].split("\t")[-2:] == ["2001", "frequency 0 … 500 Hz"]
    (described,) = json.loads(sisock("fields", unique, "--json", *where, cwd=tmp_path).stdout)
    assert described["shape"] == [2001]
    assert described["axis"] == {"name": "frequency", "values": list(AXIS.values), "units": "Hz"}
    plotted = sisock("get", unique, "spectrum", "--start", "1", "--plot", *where, cwd=tmp_path)
    assert "12:00:01" in plotted.stdout
    earlier = sisock("get", unique, "spectrum", "--start", "1", "--end", f"{T0 + 1}", "--plot", *where, cwd=tmp_path)
    assert "12:00:00" in earlier.stdout


def test_watch_shows_minimum_and_maximum_of_arrays(sisock_router, sisock_serve, unique, tmp_path):
    source = ManualSource(Timeline("tl", [Field("spectrum", shape=(3,))], lateness_s=1e9))
    sisock_serve(Node(unique, None, [source], HistorySettings(keep=1e12)))
    source.emit("tl", [T0], {"spectrum": [[1.0, 2.0, 3.0]]})
    ended = threading.Event()

    def emit():
        t = T0
        while not ended.wait(0.05):
            t += 1.0
            source.emit("tl", [t], {"spectrum": [[1.0, np.nan, 4.0]]})

    thread = threading.Thread(target=emit)
    thread.start()
    try:
        where = ("--count", "1", "--site", str(sisock_router.site.path))
        done = sisock("watch", unique, "spectrum", *where, cwd=tmp_path)
        assert done.stdout.splitlines()[0].endswith("\tspectrum\t1 … 4 (3)")
        done = sisock("watch", unique, "spectrum", "--json", *where, cwd=tmp_path)
        assert json.loads(done.stdout.splitlines()[0])["value"] == [1.0, None, 4.0]
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("values", [np.arange(1e6)[::-1]])
def test_plot_of_many_values_has_few_points(values):
    drawn = printed(show.as_plot, spectra([values], axis=Axis("time", np.arange(1e6)[::-1], "s")))
    assert "800000 s" in drawn
