"""The memory of large answers, of all callers together; and that of a history on disk."""

import numpy as np
import pytest
from twisted.python.failure import Failure

from sisock.errors import Busy, TooLarge
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.node import Node
from sisock.server import HistoryServer
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval
from sisock.wamp.limiter import MemoryBudget
from sisock.wamp.question import Question


def requested(budget, cost):
    got = []
    request = budget.take(cost)
    request.addBoth(got.append)
    return request, got


def test_all_callers_together_are_granted_no_more_than_the_budget():
    budget = MemoryBudget(100, 2)
    (_, first), (_, second), (_, third) = (requested(budget, 60) for _ in range(3))
    assert first
    assert not second
    assert (budget.used, budget.waiting) == (60, 2)
    with pytest.raises(Busy, match="2 large answers wait for memory"):
        budget.take(1)
    first[0]()
    assert second
    assert not third
    assert budget.peak == 60


def test_request_beyond_the_budget_is_granted_when_nothing_else_is():
    budget = MemoryBudget(100, 2)
    _, small = requested(budget, 10)
    _, huge = requested(budget, 10**9)
    assert not huge
    small[0]()
    assert huge
    assert budget.used == 100
    huge[0]()
    assert budget.used == 0


def test_request_that_is_cancelled_leaves_its_place():
    budget = MemoryBudget(100, 2)
    _, first = requested(budget, 100)
    second, cancelled = requested(budget, 100)
    _, third = requested(budget, 100)
    second.cancel()
    assert isinstance(cancelled[0], Failure)
    first[0]()
    assert third
    third[0]()
    assert (budget.used, budget.waiting) == (0, 0)


def test_history_on_disk_keeps_a_stated_number_of_bytes_in_memory(tmp_path):
    """A recorder's timelines are found while it runs, with 20 fields each; an hour of them would be gigabytes."""
    clock = StepClock()
    names = [f"x{i}" for i in range(20)]
    limit = 2 * 10**6
    settings = HistorySettings(path=tmp_path / "history", memory=3600.0, memory_size=limit, sync="none")
    with History([], settings, clock) as history:
        for name in ("a", "b"):
            fields = [Field(f"{name}{each}") for each in names]
            history.add(Timeline(name, fields, lateness_s=0.0, follows_clock=False))
        t = clock.now()
        for i in range(40):
            for name in ("a", "b"):
                times = t - 100.0 + i + np.arange(1000) * 1e-3
                columns = {f"{name}{each}": np.arange(1000.0) + 1000 * i for each in names}
                history.append(as_batch(name, times, columns))
        assert 0 < history.summary()["memory_bytes"] <= limit  # of 13.4 MB
        reply = history.read(["a" + names[3]], Interval(1.0, t + 1.0))
        np.testing.assert_array_equal(reply.timelines["a"].columns["ax3"], np.arange(40_000.0))


def test_texts_that_are_all_different_stay_within_the_bytes_of_a_history_in_memory(tmp_path):
    limit = 2 * 10**6
    settings = HistorySettings(path=tmp_path / "h", memory=1e9, memory_size=limit, sync="none")
    line = Timeline("log", [Field("line", "string")], lateness_s=0.0, follows_clock=False)
    with History([line], settings, StepClock(1e5)) as history:
        for i in range(40):
            t = np.arange(1000.0) + 1000 * i
            history.append(as_batch("log", t, {"line": np.array([f"{each:.0f} {'x' * 200}" for each in t], object)}))
        memory = history.summary()["memory_bytes"]
        # More than 1000 texts of 40,000, each with 160 bytes about it, beside room for 10,000 times and codes.
        assert 1000 * (160 + 206) + 10_000 * 12 < memory <= limit
        found = history.read(["line"], Interval(0.0, 1e9)).timelines["log"]
        assert found.t.tolist() == list(range(40_000))
        assert found.columns["line"][12_345].startswith("12345 ")


def test_thinned_answer_with_more_values_than_are_allowed_is_not_brought_together(tmp_path):
    line = Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False)
    for settings in (HistorySettings(keep=1e12), HistorySettings(path=tmp_path / "h", memory=0.0, sync="none")):
        with History([line], settings, StepClock(1e6)) as history:
            history.append(as_batch("tl", np.arange(100_000.0), {"x": np.arange(100_000.0)}))
            ever = Interval(0.0, 1e9)
            for how in (("minmax", 0.0, 10**9), ("first", 1e-3, None), ("mean", 1.0, None), ("first", 0.0, 10**9)):
                with pytest.raises(TooLarge, match="more than 5000 samples"):
                    history.downsampled(["x"], ever, *how, most=10_000)
            assert len(history.downsampled(["x"], ever, "minmax", 0.0, 1000, most=10_000).timelines["tl"].t) <= 1000


def test_memory_for_an_answer_is_asked_for_whatever_the_question(tmp_path):
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    node = Node("n", None, [source], HistorySettings(keep=1e12), StepClock(1e6), AllowanceSettings(values=500_000))
    node.history.append(as_batch("tl", np.arange(400_000.0), {"x": np.arange(400_000.0)}))
    server = HistoryServer(node)
    whole = 2 * 8 * 400_000
    allowed = 8 * 500_000
    for question, cost in (
        (Question(["x"], Interval(1.0, 1e6), "first", 0.0, None), 0),  # refused before it is read
        (Question(["x"], Interval(1.0, 1e6), "minmax", 0.0, 10**9), allowed),
        (Question(["x"], Interval(1.0, 1e6), "minmax", 0.0, 1000), 0),
        (Question(["x"], Interval(1.0, 1e6), "mean", 1e-6, None), allowed),
        (Question(["x"], Interval(1.0, 1e6), "first", 1e-6, None), allowed),
        (Question(["x"], Interval(1.0, 1e6), "lttb", 0.0, 1000), whole - 16),
    ):
        assert server.cost(question) == cost
