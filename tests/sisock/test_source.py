"""Polled sources, with a clock that is stepped."""

import math
import queue

import pytest

from sisock import Field, Polled, Timeline
from sisock.testing import StepClock

TIMELINE = Timeline("tl", [Field("x")], interval_s=2.0)


@pytest.fixture
def clock():
    return StepClock(1000.0)


def polled(clock, read):
    source, batches = Polled(TIMELINE, read, clock), queue.Queue()
    source.start(batches.put)
    return source, batches


def test_read_at_once_and_then_at_every_interval(clock):
    source, batches = polled(clock, lambda: {"x": clock.now()})
    seen = []
    for _ in range(3):
        seen.append(batches.get(timeout=5.0).t.tolist())
        clock.wait_for_sleepers()
        clock.step(2.0)
    source.stop()
    assert seen == [[1000.0], [1002.0], [1004.0]]


def test_intervals_that_a_slow_reading_overran_are_left_out(clock):
    def read():
        if clock.now() == 1000.0:
            clock.step(5.0)
        return {"x": 0.0}

    source, batches = polled(clock, read)
    assert batches.get(timeout=5.0).t.tolist() == [1005.0]
    clock.wait_for_sleepers()
    clock.step(1.0)  # the next place on the grid is 1006
    assert batches.get(timeout=5.0).t.tolist() == [1006.0]
    source.stop()


def test_failed_reading_is_counted_opens_a_gap_and_is_said_once(clock, caplog):
    answers = iter([1.0, OSError("gone"), OSError("gone"), 2.0, 3.0])

    def read():
        answer = next(answers, math.nan)
        if isinstance(answer, Exception):
            raise answer
        return {"x": answer}

    source, batches = polled(clock, read)
    for _ in range(4):
        clock.wait_for_sleepers()
        clock.step(2.0)
    got = [batches.get(timeout=5.0) for _ in range(3)]
    source.stop()
    assert [batch.t[0] for batch in got] == [1000.0, 1006.0, 1008.0]
    assert [batch.gap_from for batch in got] == [None, 1002.0, None]
    assert source.counters["failures"] == 2
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]  # once on loss, once on return


def test_timeline_without_interval_cannot_be_polled():
    with pytest.raises(ValueError, match="needs an interval"):
        Polled(Timeline("tl", [Field("x")]), dict)


def test_clock_that_is_set_back_stops_no_readings(clock):
    jumps = [3e8, -3e8, 0.0]

    def read():
        clock.jump(jumps.pop(0))
        return {"x": 1.0}

    source, batches = polled(clock, read)
    try:
        seen = []
        for _ in range(3):
            seen.append(batches.get(timeout=10.0).t.tolist())
            clock.wait_for_sleepers()
            clock.step(2.0)
        assert seen == [[3e8 + 1000.0], [1002.0], [1004.0]]
    finally:
        jumps += [0.0] * 10
        source.stop()
