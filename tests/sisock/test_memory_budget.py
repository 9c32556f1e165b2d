"""The memory of large answers, of all callers together; and that of a history on disk."""

import numpy as np
import pytest
from twisted.python.failure import Failure

from sisock.errors import Busy
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.site import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from sisock.turns import MemoryBudget


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
