"""Histories under a clock that is wrong, and on a disk that takes nothing."""

import errno
import os
import threading

import numpy as np
import pytest

from sisock.fields import Field, Timeline, as_batch
from sisock.history import History, open_history
from sisock.node import Node
from sisock.site import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval

DAY, YEAR = 86400.0, 365.25 * 86400.0
EVER = Interval(0.0, 1e12)
NOW = 1_700_000_000.0


def live(**more):
    return Timeline("tl", [Field("x")], interval_s=1.0, **({"follows_clock": True} | more))


def measure(history, clock, n, step=9.0):
    for _ in range(n):
        clock.step(step)
        history.append(as_batch("tl", [clock.now()], {"x": [1.0]}))


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("follows_clock", [False, True])
@pytest.mark.parametrize("jump", [3600.0, 10 * YEAR])
def test_a_jump_forward_and_back_makes_none_of_a_thousand_samples_late(tmp_path, on_disk, follows_clock, jump):
    clock = StepClock(NOW)
    settings = HistorySettings(path=tmp_path / "h" if on_disk else None, keep=90 * DAY)
    with History([live(follows_clock=follows_clock)], settings, clock) as history:
        measure(history, clock, 300)
        clock.jump(jump)
        measure(history, clock, 400)
        clock.jump(-jump)
        measure(history, clock, 300)
        status = history.status()["tl"]
        assert (status["samples"], status["late"], status["refused"]) == (1000, 0, 0)
        assert sorted(round(s) for _, s in history.summary()["clock_jumps"]) == [-round(jump), round(jump)]


def test_a_jump_forward_is_believed_after_two_hours():
    clock = StepClock(NOW)
    history = History([live()], HistorySettings(), clock)
    clock.jump(YEAR)
    measure(history, clock, 10)
    assert history.finalized_until("tl") < NOW + 100
    clock.step(7200.0)
    history.finalized_until("tl")
    assert history.finalized_until("tl") == clock.now() - 1.0


def sealed_days(path, days, clock):
    """Write a history of that many days, a sealed segment for each, and close it."""
    with History([live()], HistorySettings(path=path, keep=90 * DAY), clock) as history:
        for _ in range(days):
            history.append(as_batch("tl", clock.now() + np.arange(0.0, DAY, 900.0), {"x": np.arange(96.0)}))
            clock.step(DAY)
            history.finalized_until("tl")
            shelf = history._store._shelves["tl"]
            shelf.rotate()
            history._store._seal_all(shelf, np.inf)


@pytest.mark.parametrize("starts", [1, 2])
def test_a_start_ten_years_ahead_removes_nothing_of_a_history(tmp_path, starts):
    clock = StepClock(NOW)
    sealed_days(tmp_path / "h", 20, clock)
    for _ in range(starts):
        wrong = StepClock(clock.now() + 10 * YEAR)
        source = ManualSource(live())
        node = Node("n", None, [source], HistorySettings(path=tmp_path / "h", keep=90 * DAY), wrong)
        node.start()
        source.emit("tl", [wrong.now()], {"x": [1.0]})
        node.history._store.maintain()
        health = node.health()
        assert health.state == "degraded"
        assert "days ahead of the samples" in health.error
        assert node.history.summary()["expired"] == 0
        node.stop()
    with open_history(tmp_path / "h") as reader:
        samples = reader.read(["x"], Interval(0.0, NOW + 30 * DAY)).timelines["tl"]
    assert len(samples.t) == 20 * 96


def test_retention_continues_when_the_node_has_run_for_a_day(tmp_path):
    clock = StepClock(NOW)
    sealed_days(tmp_path / "h", 20, clock)
    clock.step(200 * DAY)  # it was stopped
    source = ManualSource(live())
    node = Node("n", None, [source], HistorySettings(path=tmp_path / "h", keep=90 * DAY), clock)
    node.start()
    node.history._store.maintain()
    assert node.history.summary()["expired"] == 0
    clock.step(DAY + 1.0)
    node.history._store.maintain()
    assert node.history.summary()["expired"] == 20 * 96
    assert node.health().state == "ok"
    node.stop()


@pytest.fixture(params=[errno.ENOSPC, errno.EROFS, errno.EIO])
def broken(monkeypatch, request):
    """A disk whose segments take no writes while the event is set."""
    event, real = threading.Event(), os.pwrite

    def pwrite(fd, data, at):
        if event.is_set() and os.readlink(f"/proc/self/fd/{fd}").endswith(".seg"):
            raise OSError(request.param, os.strerror(request.param))
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    event.reason = os.strerror(request.param)
    return event


@pytest.mark.parametrize("follows_clock", [False, True])
def test_the_watermark_does_not_pass_what_is_on_the_disk(tmp_path, broken, follows_clock):
    clock = StepClock(NOW)
    source = ManualSource(live(follows_clock=follows_clock))
    node = Node("n", None, [source], HistorySettings(path=tmp_path / "h"), clock)
    node.start()

    def emit(n):
        for _ in range(n):
            clock.step(10.0)
            source.emit("tl", [clock.now()], {"x": [1.0]})

    emit(5)
    on_disk = clock.now()
    broken.set()
    emit(5)
    assert node.history.finalized_until("tl") <= on_disk + 10.0
    samples = node.history.read(["x"], EVER).timelines["tl"]
    assert len(samples.t) == 10
    assert samples.finalized_until <= on_disk + 10.0
    health = node.health()
    assert health.state == "degraded"
    assert broken.reason in health.error
    with open_history(tmp_path / "h") as reader:  # what a kill would leave
        assert reader.read(["x"], EVER).timelines["tl"].t.tolist() == samples.t[:5].tolist()
    broken.clear()
    emit(1)
    assert node.health().state == "ok"
    with open_history(tmp_path / "h") as reader:
        assert len(reader.read(["x"], EVER).timelines["tl"].t) == 11
    node.stop()


def test_what_memory_cannot_hold_while_the_disk_is_broken_is_counted_and_lies_in_a_gap(tmp_path, broken):
    clock = StepClock(NOW)
    history = History([live()], HistorySettings(path=tmp_path / "h", memory=100.0), clock)
    measure(history, clock, 5, 10.0)
    broken.set()
    first = clock.now() + 10.0
    measure(history, clock, 50, 10.0)
    broken.clear()
    measure(history, clock, 1, 10.0)
    samples = history.read(["x"], EVER).timelines["tl"]
    dropped = history.status()["tl"]["dropped"]
    assert dropped > 0
    assert len(samples.t) + dropped == 56
    assert samples.dropped == dropped
    assert any(start <= first and end > first for start, end in samples.gaps)
    history.close()
