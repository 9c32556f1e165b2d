"""Values of a field whose units changed are never under other units than their own, and never taken together."""

import numpy as np
import pytest

from sisock.fields import Field, Samples, Timeline, as_batch
from sisock.history import History
from sisock.site import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval

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
    samples = tank.thinned(["level"], EVER, method, stride, points).timelines["tl"]
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
