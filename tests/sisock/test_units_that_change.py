"""Values of a field whose units changed are never under other units than their own, and never taken together."""

import io

import numpy as np
import pytest
from rich.console import Console

from sisock.cli import files, show
from sisock.consumer import Data, FieldInfo
from sisock.errors import BadRequest
from sisock.fields import Field, Samples, Timeline, as_batch
from sisock.history import History
from sisock.recording import open_recording
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from sisock.wamp.replies import decode, encode
from sisock_nodes.file import make_sources
from sisock_nodes.file.settings import FileSettings

T0 = 1_700_000_000.0
EVER = Interval(T0 - 1e6, T0 + 1e6)


def history(folder, *fields):
    timeline = Timeline("tl", fields, lateness_s=0.0, follows_clock=False)
    return History([timeline], HistorySettings(path=folder), StepClock(T0 + 5000))


@pytest.fixture
def tank(tmp_path):
    """A level in mm before a restart of its node, and in m after it; both within one bin of 1,024 s."""
    with_mm = history(tmp_path / "h", Field("level", units="mm"))
    with_mm.append(as_batch("tl", T0 + np.arange(100.0), {"level": 1000.0 + np.arange(100.0)}))
    with_mm.close()
    with_m = history(tmp_path / "h", Field("level", units="m"))
    with_m.append(as_batch("tl", T0 + 100 + np.arange(100.0), {"level": 1.0 + np.arange(100.0) / 1000}))
    yield with_m
    with_m.close()


@pytest.mark.parametrize("method", ["mean", "min", "max", "minmax"])
@pytest.mark.parametrize(("stride", "points"), [(1024.0, None), (0.0, 8), (0.0, 20)])
def test_bin_in_which_units_change_is_two(tank, method, stride, points):
    samples = tank.downsampled(["level"], EVER, method, stride, points).timelines["tl"]
    before = samples.t < T0 + 100
    assert samples.columns["level"][before].min() >= 1000.0
    assert samples.columns["level"][~before].max() <= 1.099
    assert 0 < before.sum() < len(before)
    assert points is None or len(samples.t) <= points
    if points:
        assert (samples.t[-1], samples.columns["level"][-1]) == (T0 + 199, 1.099) or method != "minmax"


def test_samples_state_the_units_of_their_time(tank):
    past = tank.read(["level"], Interval(T0, T0 + 50)).timelines["tl"]
    now = tank.read(["level"], Interval(T0 + 150, T0 + 160)).timelines["tl"]
    assert (past.units, past.epochs) == ({"level": "mm"}, {})
    assert (now.units, now.epochs) == ({"level": "m"}, {})
    both = tank.read(["level"], EVER).timelines["tl"]
    assert both.units == {"level": "m"}
    assert [(since, then.units) for since, then in both.epochs["level"]] == [(T0, "mm"), (T0 + 100, "m")]
    assert tank.epochs(EVER) == {"tl": both.epochs}
    assert tank.epochs(Interval(T0, T0 + 50)) == {"tl": {}}


def test_quantities_of_a_field_are_by_units_and_separate_from_texts():
    epochs = [
        (T0, Field("x", "bool", "mm")),
        (T0 + 2, Field("x", "number", "m")),
        (T0 + 3, Field("x", "number", "mm")),
        (T0 + 4, Field("x", "string", "mm")),
    ]
    values = np.array([True, False, 2.5, None, "open"], object)
    samples = Samples(T0 + np.arange(5.0), {"x": values}, epochs={"x": epochs})
    found = samples.quantities("x")
    assert [each.label for each in found] == ["x [mm, number]", "x [m]", "x [mm, string]"]
    assert [each.field.type for each in found] == ["number", "number", "string"]
    np.testing.assert_array_equal(found[0].spread(), [1, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(found[1].spread(), [np.nan, np.nan, 2.5, np.nan, np.nan])
    assert found[2].spread().tolist() == [None] * 4 + ["open"]
    assert [each.label for each in Samples(samples.t[:1], {"x": values[:1]}, epochs={"x": epochs}).quantities("x")] == [
        "x"
    ]


@pytest.mark.parametrize(
    ("units", "labels"),
    [
        (("1", "m"), ["x", "x [m]"]),
        ((None, "m"), ["x", "x [m]"]),
        ((None, "1"), ["x", "x [1]"]),
    ],
)
def test_pure_numbers_are_labelled_without_units_where_that_is_unambiguous(units, labels):
    epochs = [(T0 + i, Field("x", units=each)) for i, each in enumerate(units)]
    samples = Samples(T0 + np.arange(2.0), {"x": np.arange(2.0)}, epochs={"x": epochs})
    assert [part.label for part in samples.quantities("x")] == labels


class FromHistory:
    """A consumer of one node that is a history."""

    def __init__(self, history):
        self.history = history

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        pass

    def fields(self, _node, start=1.0, end=1e11):
        interval = Interval(start, end)
        return {
            f.name: FieldInfo(f.name, f.type, f.units, None, tl.name, 1.0, tuple(known.get(f.name, ())))
            for tl in self.history.within(interval)
            for known in (self.history.epochs(interval)[tl.name],)
            for f in tl.fields
        }

    def data(self, node, fields, start, end, min_stride=None, *, downsample="first", max_points=None, exact=False):
        reply = self.history.downsampled(fields, Interval(start, end), downsample, min_stride or 0.0, max_points)
        reply = decode(encode(reply))
        known = self.fields(node)
        return Data(node, reply.timelines, reply.empty, {name: known[name] for name in fields})


@pytest.fixture
def data(tank):
    return FromHistory(tank).data("tank", ["level"], T0, T0 + 200, 50.0)


def test_dataframe_and_dataset_have_a_column_for_each_units(data):
    frame = data.to_pandas()
    assert frame.attrs["units"] == {"level [mm]": "mm", "level [m]": "m"}
    np.testing.assert_array_equal(frame["level [mm]"], [1000, 1050, np.nan, np.nan])
    np.testing.assert_array_equal(frame["level [m]"], [np.nan, np.nan, 1.0, 1.05])
    dataset = data.to_xarray()
    assert {name: variable.attrs["units"] for name, variable in dataset.data_vars.items()} == frame.attrs["units"]
    np.testing.assert_array_equal(dataset["level [m]"], frame["level [m]"])
    assert "level [mm]: [1000. 1050.]" in repr(data)
    assert "level [m]: [1.   1.05]" in repr(data)
    with pytest.raises(BadRequest, match="several units in this interval, mm and m"):
        data.units("level")


def test_table_and_plot_of_the_command_line_have_each_units(data):
    out = io.StringIO()
    show.as_table(Console(file=out), data, most=None)
    lines = [line.split("\t") for line in out.getvalue().splitlines()]
    assert lines[0][1:] == ["level [mm]", "level [m]"]
    assert [line[1:] for line in lines[1:5]] == [["1000", ""], ["1050", ""], ["", "1"], ["", "1.05"]]
    out = io.StringIO()
    show.as_plot(Console(file=out, width=80), data)
    panels = [line.strip() for line in out.getvalue().splitlines() if "level" in line]
    assert panels == ["level [mm]", "level [m]"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "h5"])
def test_export_has_a_field_for_each_units_and_is_read_back(tank, tmp_path, monkeypatch, capsys, ending):
    monkeypatch.setattr("sisock.consumer.BlockingConsumer", lambda _access: FromHistory(tank))
    monkeypatch.setattr(files, "find_access", lambda _site: None)
    path = tmp_path / f"level.{ending}"
    files.export("tank", str(path), start=str(T0 + 98), end=str(T0 + 102))
    assert "false" not in capsys.readouterr().err
    with open_recording(path) as recording:
        (timeline,) = recording.timelines
        assert {field.name: field.units for field in timeline.fields} == {"level [mm]": "mm", "level [m]": "m"}
        (batch,) = recording.batches("tl")
        np.testing.assert_array_equal(batch["level [mm]"], [1098, 1099, np.nan, np.nan])
        np.testing.assert_array_equal(batch["level [m]"], [np.nan, np.nan, 1.0, 1.001])
    # A node serves the file as it is.
    (source,) = make_sources(FileSettings(type="file", path=path), None)
    assert {field.name: field.units for field in source.timelines[0].fields} == {"level [mm]": "mm", "level [m]": "m"}
    # Of the past alone, it has the units of the past.
    past = tmp_path / f"past.{ending}"
    files.export("tank", str(past), start=str(T0), end=str(T0 + 2))
    with open_recording(past) as recording:
        assert [(field.name, field.units) for field in recording.timelines[0].fields] == [("level", "mm")]
