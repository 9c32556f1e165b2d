"""Data as frames, resampled and plotted."""

import concurrent.futures
import io
import sys
import threading

import matplotlib
import matplotlib.pyplot
import numpy as np
import pandas
import pytest

from sisock.consumer import Data, FieldInfo
from sisock.consumer.progress import waited_for
from sisock.errors import BadRequest, MissingExtra
from sisock.fields import Field, Samples

matplotlib.use("Agg")
T0 = 1.7e9


def info(name, type="number", units=None, timeline="fast", interval=1.0):
    return FieldInfo(name, type, units, None, timeline, interval)


@pytest.fixture
def data():
    """Ten samples a second apart with a gap after the sixth, and three at other times, ten seconds apart."""
    t = T0 + np.array([0.0, 1, 2, 3, 4, 5, 20, 21, 22, 23])
    fast = Samples(
        t, {"x": np.arange(10.0), "on": np.arange(10) % 2 == 0, "s": np.array(list("abcdefghij"), object)},
        gaps=[(T0 + 5, T0 + 20)],
    )  # fmt: skip
    slow = Samples(
        T0 + np.array([0.5, 10.5, 20.5]), {"v": np.array([1.0, 2.0, 3.0]), "open": np.array([True, False, True])}
    )
    infos = [info("x", units="V"), info("on", "bool"), info("s", "string")]
    infos += [info("v", units="K", timeline="slow", interval=10.0), info("open", "bool", None, "slow", 10.0)]
    return Data("rig", {"fast": fast, "slow": slow}, (), {each.name: each for each in infos})


def seconds(frame):
    return ((frame.index - pandas.Timestamp(T0, unit="s", tz="UTC")) / pandas.Timedelta("1s")).tolist()


def test_frames_are_one_for_each_timeline_as_it_is(data):
    frames = data.frames()
    assert list(frames) == ["fast", "slow"]
    assert seconds(frames["slow"]) == [0.5, 10.5, 20.5]
    assert (frames["slow"]["open"].dtype, frames["fast"]["on"].dtype) == (bool, bool)
    assert frames["fast"].attrs["units"] == {"x": "V", "on": None, "s": None}
    assert str(frames["fast"].index.tz) == "UTC"


@pytest.mark.parametrize("align", ["ffill", "nearest", "outer"])
def test_samples_of_one_timeline_are_as_they_are_also_of_the_same_times(align):
    times = Samples(T0 + np.array([1.0, 1.0, 2.0]), {"x": np.arange(3.0)}, gaps=[(T0, T0 + 9)])
    frame = Data("rig", {"fast": times}, (), {"x": info("x")}).to_pandas(align)
    assert (seconds(frame), frame["x"].tolist()) == ([1, 1, 2], [0, 1, 2])


def test_gaps_of_any_number_are_those_in_which_nothing_is_known():
    random = np.random.default_rng(3)
    edges = np.sort(random.integers(0, 1000, 200).astype(float)).reshape(-1, 2)
    fast = Samples(np.arange(0.0, 1000.0), {"x": np.arange(1000.0)}, gaps=list(map(tuple, edges.tolist())))
    slow = Samples(np.arange(0.0, 1000.0, 0.25), {"y": np.zeros(4000)})
    data = Data("rig", {"fast": fast, "slow": slow}, (), {})
    frame = data.to_pandas("ffill")
    t = np.unique([*fast.t, *slow.t])
    within = np.any([(t > start) & (t < end) for start, end in edges], axis=0)
    assert frame["x"].isna().tolist() == within.tolist()


def test_several_timelines_become_one_frame_of_last_values_that_plots(data):
    frame = data.to_pandas()
    assert seconds(frame) == [0, 0.5, 1, 2, 3, 4, 5, 10.5, 20, 20.5, 21, 22, 23]
    assert frame["v"].tolist()[1:] == [1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3]
    # Within the gap nothing is known of x, and before its first sample nothing of v.
    assert np.isnan(frame["x"].tolist()[7])
    assert np.isnan(frame["v"].tolist()[0])
    assert frame["x"].tolist()[8] == 6
    assert frame["on"].dtype == "boolean"
    assert frame["open"].dtype == "boolean"
    assert frame["on"].isna().tolist() == [i == 7 for i in range(13)]
    assert frame["s"].isna().tolist() == [i == 7 for i in range(13)]
    lines = frame[["x", "v"]].plot().lines
    assert len(lines) == 2


def test_value_stands_for_three_intervals_at_the_most():
    fast = Samples(T0 + np.arange(100.0), {"x": np.zeros(100)})
    slow = Samples(np.array([T0]), {"v": np.ones(1)})
    infos = {"x": info("x"), "v": info("v", timeline="slow", interval=10.0)}
    data = Data("rig", {"fast": fast, "slow": slow}, (), infos)
    assert data.to_pandas()["v"].notna().sum() == 31
    assert data.to_pandas("nearest")["v"].notna().sum() == 16


def test_nearest_is_at_the_times_of_the_densest_timeline(data):
    frame = data.to_pandas("nearest")
    assert seconds(frame) == [0, 1, 2, 3, 4, 5, 20, 21, 22, 23]
    assert frame["v"].tolist() == [1, 1, 1, 1, 1, 1, 3, 3, 3, 3]
    assert frame["x"].tolist() == list(range(10))
    assert frame["on"].dtype == bool


def test_outer_has_what_was_measured_just_then(data):
    frame = data.to_pandas("outer")
    assert len(frame) == 13
    assert frame["v"].notna().sum() == 3
    assert frame["x"].notna().sum() == 10
    assert frame["open"].dtype == "boolean"
    with pytest.raises(BadRequest, match="align is 'inner'; give nearest, ffill or outer"):
        data.to_pandas("inner")


def test_field_without_samples_is_a_column_of_nan(data):
    with_empty = Data("rig", data.timelines, ("z",), {**data.fields, "z": info("z", units="m")})
    frame = with_empty.to_pandas()
    assert frame["z"].isna().all()
    assert frame.attrs["units"]["z"] == "m"


def test_resampled_timelines_share_their_times(data):
    even = data.resample("10s")
    assert even.t("x").tolist() == [T0, T0 + 20]
    assert even["x"].tolist() == [2.5, 7.5]
    assert even["on"].tolist() == [False, False]
    assert even["s"].tolist() == ["f", "j"]
    assert even["v"].tolist() == [1.0, 2.0, 3.0]
    assert even.units("x") == "V"
    frame = even.to_pandas("outer")
    assert seconds(frame) == [0, 10, 20]
    assert data.resample(10, "max")["x"].tolist() == [5, 9]
    assert data.resample(10, "min")["x"].tolist() == [0, 6]
    assert data.resample(10, "first")["s"].tolist() == ["a", "g"]
    assert data.resample(10, "last")["x"].tolist() == [5, 9]


def test_nan_does_not_count_unless_a_bin_has_nothing_else():
    samples = Samples(T0 + np.arange(4.0), {"x": np.array([1.0, np.nan, np.nan, np.nan])})
    data = Data("n", {"fast": samples}, (), {"x": info("x")})
    for how in ("mean", "min", "max"):
        np.testing.assert_array_equal(data.resample(2, how)["x"], [1.0, np.nan])


def test_units_that_changed_have_no_mean_together():
    epochs = {"x": [(T0, Field("x", units="mm")), (T0 + 2, Field("x", units="m"))]}
    samples = Samples(T0 + np.arange(4.0), {"x": np.array([1.0, 3.0, 5.0, 7.0])}, epochs=epochs)
    even = Data("n", {"fast": samples}, (), {"x": info("x")}).resample(4)
    assert (even["x [mm]"].tolist(), even["x [m]"].tolist()) == ([2.0], [6.0])
    assert even.units("x [m]") == "m"


@pytest.mark.parametrize(
    ("every", "how", "said"),
    [(0, "mean", "every is 0"), ("x", "mean", "duration"), (1, "sum", "how is 'sum'; give mean")],
)
def test_what_cannot_be_resampled_is_named(data, every, how, said):
    with pytest.raises(BadRequest, match=said):
        data.resample(every, how)


def test_timeline_of_which_all_is_lost_is_empty_in_every_form():
    lost = Samples(np.empty(0), {}, gaps=[(T0, T0 + 1)])
    data = Data("n", {"fast": lost}, ("x", "s"), {"x": info("x"), "s": info("s", "string")})
    assert len(data.resample(1, "last").resample(1)["x"]) == 0
    assert list(data.to_pandas()) == ["x", "s"]
    assert len(data.frames()["fast"]) == 0
    assert "0 samples" in data._repr_html_()


def test_no_data_resample_to_none():
    assert list(Data("n", {}, ("x",), {"x": info("x")}).resample(1)) == ["x"]


def test_plot_has_a_panel_for_each_units_and_breaks_at_gaps(data):
    axes = data.plot()
    assert [each.get_ylabel() for each in axes] == ["V", "true or false", "K"]
    (line,) = axes[0].lines
    assert np.isnan(line.get_ydata()).tolist() == [i == 6 for i in range(11)]
    assert [each.get_label() for each in axes[1].lines] == ["on", "open"]
    assert axes[-1].get_xlabel() == "UTC"
    matplotlib.pyplot.close("all")


def test_plot_takes_axes(data):
    _, axes = matplotlib.pyplot.subplots(3)
    assert data.plot(axes, color="red")[0] is axes[0]
    with pytest.raises(BadRequest, match="3 axes are needed, one for each units, and 1 were given"):
        data.plot(axes[0])
    only = Data("rig", {"slow": Samples(data.timelines["slow"].t, {"v": data["v"]})}, (), data.fields)
    assert only.plot(ax=axes[2]) is axes[2]
    assert only.plot().get_ylabel() == "K"
    with pytest.raises(BadRequest, match="nothing to plot: no numbers or bools among s"):
        Data("n", {}, ("s",), {}).plot()
    matplotlib.pyplot.close("all")


def test_missing_matplotlib_is_named_with_its_extra(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sisock\[plot\]'"):
        data.plot()


def test_tables_of_data_are_bounded():
    t = T0 + np.arange(100_000.0)
    wide = Data("n", {"w": Samples(t, {f"x{i}": t for i in range(100)})}, (), {})
    html = wide._repr_html_()
    assert html.count("<tr>") == 13
    assert html.count("<td") == 12 * 21
    assert "80 more fields" in html
    assert Data("n", {}, ("<x>",), {})._repr_html_() == "<p>no samples: &lt;x&gt;</p>"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_bar_is_shown_on_a_terminal_only_and_only_for_what_takes_long(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr("sisock.consumer.progress._PATIENCE_S", 0.01)
    done, shown = concurrent.futures.Future(), threading.Event()

    def ask(progress):
        progress(50, 100)
        threading.Timer(1.0, lambda: (done.set_result("all"), shown.set())).start()
        return done

    assert waited_for("rig", ask).result(5.0) == "all"
    text = sys.stderr.getvalue()
    assert ("asking rig" in text and "50.0/100" in text) == (stream is Terminal)
    quick = concurrent.futures.Future()
    quick.set_result("all")
    monkeypatch.setattr(sys, "stderr", stream())
    assert waited_for("rig", lambda _progress: quick).result() == "all"
    assert sys.stderr.getvalue() == ""
