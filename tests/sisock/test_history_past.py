"""What a source still has of the time before the history of its node."""

import numpy as np
import pytest

from sisock.errors import NodeFailed
from sisock.fields import Batch, Field, Timeline
from sisock.history import History
from sisock.history.archive_cache import ArchiveCache
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval

TIMELINE = Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False)


class Archive(ManualSource):
    """A log with a sample at every second since 1000 s, until `end`."""

    def __init__(self):
        super().__init__(TIMELINE)
        self.end, self.asked, self.fails = 2000, [], False

    def past(self, timeline, interval):
        if self.fails:
            raise NodeFailed("the log is away")
        self.asked.append((interval.start, interval.end))
        start, end = max(1000, int(interval.start) - 7), min(self.end, int(interval.end) + 9)
        t = np.arange(float(start), float(max(start, end)))[::-1]  # in any order, and more than was asked for
        return [Batch(timeline, part, {"x": part * 2}) for part in np.array_split(t, 3)]

    def has_past(self, timeline, interval):
        return interval.start < self.end and interval.end > 1000


@pytest.fixture(params=["memory", "disk"])
def place(request, tmp_path):
    """An archive, and a history that begins at 1900 s."""
    archive, clock = Archive(), StepClock(2000.0)
    path = tmp_path if request.param == "disk" else None
    node = Node("n", None, [archive], HistorySettings(keep=100.0, path=path), clock)
    node.start()
    t = np.arange(1900.0, 2000.0)
    archive.emit("tl", t, {"x": t * 2})
    yield archive, node.history, clock
    node.stop()


def check(history, start, end, expected=None):
    expected = np.arange(start, end) if expected is None else expected
    samples = history.read(["x"], Interval(start, end)).timelines["tl"]
    np.testing.assert_array_equal(samples.t, expected)
    np.testing.assert_array_equal(samples.columns["x"], expected * 2)
    assert history.count(["x"], Interval(start, end)) == 2 * len(expected)


def test_past_is_read_where_the_history_has_nothing(place):
    archive, history, _ = place
    check(history, 1950.0, 2000.0)
    assert archive.asked == []
    check(history, 1500.0, 2000.0)
    check(history, 1500.0, 1600.0)
    check(history, 500.0, 1100.0, np.arange(1000.0, 1100.0))
    check(history, 1200.0, 1901.0)
    assert [field.name for tl in history.within(Interval(1200.0, 1300.0)) for field in tl.fields] == ["x"]
    assert history.within(Interval(100.0, 200.0)) == []


def test_window_that_moves_on_reads_only_what_is_new(place):
    archive, history, clock = place
    for step in range(5):
        check(history, 1500.0 + 10 * step, 2000.0 + 10 * step)
        clock.step(10.0)
        archive.end += 10
        t = np.arange(2000.0 + 10 * step, 2010.0 + 10 * step)
        archive.emit("tl", t, {"x": t * 2})
    assert sum(end - start for start, end in archive.asked) < 500


def test_what_is_not_final_is_read_again_and_is_there_once():
    archive = Archive()
    past = ArchiveCache(archive, "tl")
    for end, final in ((1500.0, 1200.0), (1700.0, 1200.0), (1700.0, 1700.0), (1800.0, 1750.0), (1800.0, 1750.0)):
        t, columns = past.rows(Interval(1000.0, end), final)
        np.testing.assert_array_equal(t, np.arange(1000.0, end))
        np.testing.assert_array_equal(columns["x"], t * 2)


def test_thinning_joins_past_and_present(place):
    _, history, _ = place
    interval = Interval(1000.0, 2000.0)
    for method in ("first", "mean", "min", "max", "minmax", "lttb"):
        thin = history.downsampled(["x"], interval, method, max_points=40).timelines["tl"]
        assert 10 <= len(thin.t) <= 40
        assert np.all(np.diff(thin.t) > 0)
        assert thin.t[0] < 1100.0
        assert thin.t[-1] > 1900.0
        np.testing.assert_allclose(thin.columns["x"], thin.t * 2, atol=110.0)


def test_past_is_there_before_anything_has_come():
    archive = Archive()
    node = Node("n", None, [archive], HistorySettings(keep=100.0), StepClock(2000.0))
    check(node.history, 1500.0, 1600.0)
    archive.end = 2100  # nothing was final, so nothing is kept
    check(node.history, 1500.0, 2100.0)
    assert node.history.downsampled(["x"], Interval(0.0, 500.0), "mean", max_points=10).timelines == {}
    node.stop()


def test_past_that_cannot_be_read_is_an_error_and_the_present_is_served(place):
    archive, history, _ = place
    archive.fails = True
    with pytest.raises(NodeFailed, match="the log is away"):
        history.read(["x"], Interval(1500.0, 2000.0))
    check(history, 1950.0, 2000.0)


def test_history_without_an_archive_asks_nobody():
    history = History([TIMELINE])
    assert history.read(["x"], Interval(0.0, 1e9)).empty == ("x",)
