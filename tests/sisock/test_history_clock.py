"""Histories under a clock that is wrong, and on a disk that takes nothing."""

import errno
import json
import math
import os
import threading

import numpy as np
import pytest
from typer.testing import CliRunner

from sisock.cli.app import build
from sisock.errors import BadHistory, BadRequest
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History, open_history
from sisock.history.clock import ClockEpoch, found_ahead
from sisock.history.guard import ClockGuard
from sisock.history.quarantine import list_quarantined
from sisock.node import Node
from sisock.procedure import Caller
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval
from tests.sisock.histories import StoredHistory

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
    with StoredHistory([live()], HistorySettings(path=path, keep=90 * DAY), clock) as history:
        for _ in range(days):
            history.append(as_batch("tl", clock.now() + np.arange(0.0, DAY, 900.0), {"x": np.arange(96.0)}))
            clock.step(DAY)
            history.finalized_until("tl")
            writer = history.store.writers["tl"]
            writer.rotate()
            history.store.sealer.seal_all(writer, np.inf)


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
        node.history.maintain()
        health = node.health()
        assert health.state == "degraded"
        assert "days ahead of the samples" in health.error
        assert node.history.summary()["expired"] == 0
        node.stop()
    with open_history(tmp_path / "h") as reader:
        samples = reader.read(["x"], Interval(0.0, NOW + 30 * DAY)).timelines["tl"]
    assert len(samples.t) == 20 * 96


def after_200_days(path, **more):
    """Start a node again that was stopped for 200 days; return its source's clock and the node."""
    clock = StepClock(NOW)
    sealed_days(path, 20, clock)
    clock = StepClock(clock.now() + 200 * DAY, **more)
    settings, never = HistorySettings(path=path, keep=90 * DAY), {"*": math.inf}
    node = Node("n", None, [ManualSource(live())], settings, clock, expect_every=never)
    node.start()
    node.history.maintain()
    assert node.history.summary()["expired"] == 0
    return clock, node


def expired(node):
    node.history.maintain()
    return node.history.summary()["expired"] // 96


def test_retention_removes_a_tenth_of_keep_a_day_while_nothing_confirms_the_clock(tmp_path):
    clock, node = after_200_days(tmp_path / "h")
    removed = []
    for _ in range(12):
        clock.step(DAY)
        removed.append(expired(node))
        expired(node)
        assert node.health().state == ("degraded" if removed[-1] < 20 else "ok")
    assert removed[:5] == [0] * 5
    assert max(np.diff(removed)) == 10  # a tenth of 90 d, and the day itself
    assert removed[-1] == 20
    node.stop()


@pytest.mark.parametrize("by", ["synchronised", "operator"])
def test_retention_continues_when_the_clock_is_confirmed(tmp_path, by):
    clock, node = after_200_days(tmp_path / "h", synchronised=by == "synchronised")
    if by == "operator":
        node.work.call(node.work.offers.get("confirm_clock"), {}, Caller()).result(10.0)
    else:
        clock.step(3601.0)
    assert expired(node) == 20
    assert node.health().state == "ok"
    node.stop()


def run(path, clock, n=10, step=9.0, **more):
    """Measure for a while; return the history's status, and its resets, before it is closed."""
    settings = HistorySettings(path=path, keep=90 * DAY)
    with History([live(**more)], settings, clock) as history:
        measure(history, clock, n, step)
        return history.status()["tl"]


def times(path):
    with open_history(path) as reader:
        found = reader.read(["x"], EVER).timelines
        return found["tl"].t.tolist() if found else []


@pytest.mark.parametrize("ahead", [3600.0, 10 * YEAR])
@pytest.mark.parametrize("follows_clock", [False, True])
@pytest.mark.parametrize("same_boot", [False, True])
def test_acquisition_continues_after_a_start_with_a_clock_that_was_ahead(tmp_path, ahead, follows_clock, same_boot):
    path, more = tmp_path / "h", {"follows_clock": follows_clock, "live": True}
    boots = ["a", "a", "a"] if same_boot else ["a", "b", "c"]
    run(path, StepClock(NOW, 100.0, boot=boots[0]), **more)
    run(path, StepClock(NOW + 200.0 + ahead, 300.0 if same_boot else 5.0, boot=boots[1]), **more)
    right = StepClock(NOW + 400.0, 500.0 if same_boot else 5.0, boot=boots[2])
    status = run(path, right, **more)
    assert (status["samples"], status["late"], status["quarantined"]) == (10, 0, 10)
    assert status["finalized_until"] <= right.now()
    assert [reset["number"] for reset in status["resets"]] == [1]
    assert times(path) == [NOW + 9.0 * i for i in range(1, 11)] + [NOW + 400.0 + 9.0 * i for i in range(1, 11)]
    (aside,) = list_quarantined(path)
    assert (aside.timeline, aside.samples) == ("tl", 10)
    assert aside.span == (NOW + 209.0 + ahead, NOW + 290.0 + ahead)
    # It is so for ever.
    assert run(path, right)["late"] == 0
    assert len(times(path)) == 30


def test_a_first_start_ten_years_ahead_is_recognised_without_anything_before(tmp_path):
    run(tmp_path / "h", StepClock(NOW + 10 * YEAR))
    status = run(tmp_path / "h", StepClock(NOW + 100.0))
    assert (status["samples"], status["late"], status["quarantined"]) == (10, 0, 10)


# Within 1060 s lies, of three starts, the last one, which took longer than the time since the one before.
@pytest.mark.parametrize("behind", [1060.0, 3600.0, 10 * YEAR])
@pytest.mark.parametrize("starts", [1, 3])
@pytest.mark.parametrize("boot", [None, "a"])
def test_a_start_with_a_clock_that_is_behind_quarantines_nothing(tmp_path, behind, starts, boot):
    path = tmp_path / "h"
    for i in range(starts):
        run(path, StepClock(NOW + 1000.0 * i, 1000.0 * i, boot=boot), n=100)
    end = NOW + 1000.0 * starts
    before = times(path)
    source = ManualSource(live())
    wrong = StepClock(end - behind, 1000.0 * starts, boot=boot)
    node = Node("n", None, [source], HistorySettings(path=path, keep=90 * DAY), wrong)
    node.start()
    assert node.health().state == "degraded"
    assert f"{behind - 101.0:.1f} s behind the watermark" in node.health().error
    node.stop()
    assert times(path) == before
    status = run(path, StepClock(end + 10.0, 1000.0 * starts + 10.0, boot=boot))
    assert (status["samples"], status["late"], status["resets"]) == (10, 0, [])


@pytest.mark.parametrize("behind", [3600.0, 10 * YEAR])
def test_a_clock_that_is_behind_by_the_same_once_more_quarantines_nothing(tmp_path, behind):
    path = tmp_path / "h"
    for start, wrong in ((500.0, 0.0), (1000.0, behind), (2000.0, 0.0)):
        run(path, StepClock(NOW + start - wrong, start, boot="a"))
    before = times(path)
    status = run(path, StepClock(NOW + 3000.0 - behind, 3000.0, boot="a"))
    assert status["resets"] == []
    assert times(path) == before
    status = run(path, StepClock(NOW + 4000.0, 4000.0, boot="a"))
    assert (status["samples"], status["late"], status["resets"]) == (10, 0, [])


def test_a_clock_that_runs_evenly_until_now_was_not_ahead_when_one_sample_was():
    earlier = ClockEpoch(1, NOW - 1000.0, 5.0, "a", None)
    even, jumped = ClockEpoch(2, NOW, 0.0, "b", None), ClockEpoch(3, NOW + 160.0, 100.0, "b", None)
    present = ClockEpoch(4, NOW + 110.0, 110.0, "b", None)
    measured = np.array([NOW - 10.0, NOW + 125.0, NOW + 165.0])

    def newest_before(t):
        return max(measured[measured < t], default=-np.inf)

    assert found_ahead([earlier, even, jumped], present, NOW + 110.0, 0.0, newest_before, "likely") == []


@pytest.mark.parametrize("synchronised", [False, True])
def test_of_a_history_that_has_nothing_else_the_kernel_decides_whether_the_clock_was_an_hour_ahead(
    tmp_path, synchronised
):
    run(tmp_path / "h", StepClock(NOW + 3600.0, synchronised=False))
    status = run(tmp_path / "h", StepClock(NOW + 100.0, synchronised=synchronised))
    assert (status["late"], status["quarantined"]) == ((0, 10) if synchronised else (10, 0))


def test_a_clock_that_is_synchronised_later_decides_then(tmp_path):
    path = tmp_path / "h"
    run(path, StepClock(NOW + 3600.0, synchronised=False))
    clock = StepClock(NOW + 100.0, synchronised=False)
    with History([live()], HistorySettings(path=path), clock) as history:
        measure(history, clock, 5)
        clock.is_synchronised = True
        measure(history, clock, 5)
        status = history.status()["tl"]
        assert (status["late"], status["samples"], status["quarantined"]) == (5, 5, 10)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("ahead", [3600.0, 10 * YEAR])
def test_acquisition_continues_when_a_clock_that_was_ahead_since_the_start_is_set_back(tmp_path, on_disk, ahead):
    path = tmp_path / "h" if on_disk else None
    if on_disk:
        run(path, StepClock(NOW))
    clock = StepClock(NOW + 200.0 + ahead, synchronised=False)
    source = ManualSource(live())
    node = Node("n", None, [source], HistorySettings(path=path, keep=90 * DAY), clock)
    node.start()

    def emit(n):
        for _ in range(n):
            clock.wait_for_sleepers(int(on_disk))  # the upkeep has taken its turn
            clock.step(9.0)
            source.emit("tl", [clock.now()], {"x": [1.0]})

    emit(20)
    clock.jump(-ahead)
    clock.is_synchronised = True
    emit(20)
    clock.wait_for_sleepers(int(on_disk))
    status = node.history.status()["tl"]
    assert (status["samples"], status["late"], status["quarantined"]) == (40, 0, 20)
    assert node.health().state == "ok"
    samples = node.history.read(["x"], EVER).timelines["tl"]
    assert samples.t[-20:].tolist() == [NOW + 200.0 + 180.0 + 9.0 * i for i in range(1, 21)]
    assert samples.reset == 1
    # A gap of what was measured meanwhile, and none of ten years.
    assert all(end < NOW + 1000.0 for _, end in samples.gaps)
    node.stop()


def test_an_operator_who_confirms_the_clock_decides(tmp_path):
    run(tmp_path / "h", StepClock(NOW + 3600.0))
    clock = StepClock(NOW + 100.0)
    source = ManualSource(live())
    node = Node("n", None, [source], HistorySettings(path=tmp_path / "h", keep=90 * DAY), clock)
    node.start()
    assert "confirm it: sisock call NODE confirm_clock" in node.health().error
    node.work.call(node.work.offers.get("confirm_clock"), {}, Caller()).result(10.0)
    assert node.health().state == "ok"
    clock.step(1.0)
    source.emit("tl", [clock.now()], {"x": [1.0]})
    status = node.history.status()["tl"]
    assert (status["samples"], status["late"], status["quarantined"]) == (1, 0, 10)
    node.stop()


def test_a_clock_behind_is_known_as_such_also_when_it_was_once_ahead(tmp_path):
    path = tmp_path / "h"
    run(path, StepClock(NOW))
    run(path, StepClock(NOW + 200.0 + 10 * YEAR))
    run(path, StepClock(NOW + 400.0))
    before = times(path)
    assert run(path, StepClock(NOW + 500.0 - 3600.0))["late"] == 10
    assert times(path) == before
    assert run(path, StepClock(NOW + 600.0))["late"] == 0


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("jump", [3600.0, 10 * YEAR])
def test_what_was_measured_an_hour_ahead_is_quarantined_when_the_clock_is_set_back(tmp_path, on_disk, jump):
    clock = StepClock(NOW)
    settings = HistorySettings(path=tmp_path / "h" if on_disk else None, keep=90 * DAY)
    with History([live()], settings, clock) as history:
        measure(history, clock, 300)
        clock.jump(jump)
        measure(history, clock, 300)
        clock.step(9.0, wall=9.0 - jump)  # an uneven step
        measure(history, clock, 400)
        status = history.status()["tl"]
        assert (status["samples"], status["late"], status["quarantined"]) == (1000, 0, 300)
        t = history.read(["x"], EVER).timelines["tl"].t
        assert len(t) == 700
        assert t[-1] == clock.now()


@pytest.mark.parametrize("asked", ["read", "status", "append"])
def test_a_question_from_before_the_clock_was_set_back_makes_nothing_final_after_it(monkeypatch, asked):
    clock = StepClock(NOW + 10 * YEAR, synchronised=False)
    with History([live()], HistorySettings(keep=90 * DAY), clock) as history:
        measure(history, clock, 10)
        look = ClockGuard.now

        def now(guard):  # before the clock is set back, which another thread notices first
            before = look(guard)
            clock.jump(-10 * YEAR)
            clock.is_synchronised = True
            look(guard)
            return before

        monkeypatch.setattr(ClockGuard, "now", now)
        ask = {
            "read": lambda: history.read(["x"], EVER),
            "status": history.status,
            "append": lambda: history.append(as_batch("tl", [NOW + 95.0], {"x": [1.0]})),
        }
        ask[asked]()
        monkeypatch.undo()
        status = history.status()["tl"]
        assert (status["quarantined"], status["reset"]) == (10, 1)
        assert status["finalized_until"] <= clock.now()


def test_a_clock_that_is_set_back_by_mistake_quarantines_nothing(tmp_path):
    clock = StepClock(NOW)
    with History([live()], HistorySettings(path=tmp_path / "h"), clock) as history:
        measure(history, clock, 100)
        clock.jump(-3600.0)
        measure(history, clock, 10)
        clock.jump(3600.0)
        measure(history, clock, 100)
        status = history.status()["tl"]
        assert (status["samples"], status["late"], status["quarantined"], status["resets"]) == (200, 10, 0, [])


def test_after_a_clock_was_ahead_one_that_jumps_back_and_forth_is_trusted_again(tmp_path):
    path = tmp_path / "h"
    run(path, StepClock(NOW))
    run(path, StepClock(NOW + 200.0 + 10 * YEAR))
    clock = StepClock(NOW + 400.0)
    source = ManualSource(live())
    node = Node("n", None, [source], HistorySettings(path=path, keep=90 * DAY), clock)
    node.start()

    def emit():
        clock.step(5.0)
        source.emit("tl", [clock.now()], {"x": [1.0]})

    emit()
    clock.jump(-3600.0)
    emit()
    assert node.health().state == "degraded"
    clock.jump(3600.0)
    emit()
    assert node.health().state == "ok"
    node.stop()


@pytest.mark.parametrize("behind", [3600.0, 10 * YEAR])
def test_a_clock_that_jumps_back_long_after_it_was_ahead_quarantines_nothing(tmp_path, behind):
    clock = StepClock(NOW)
    with History([live()], HistorySettings(path=tmp_path / "h", keep=90 * DAY), clock) as history:
        measure(history, clock, 10)
        clock.jump(3600.0)
        measure(history, clock, 10)
        clock.jump(-3600.0)
        measure(history, clock, 300, 30.0)  # beyond the times that were ahead
        before = history.status()["tl"]
        clock.jump(-behind)
        measure(history, clock, 10)
        clock.jump(behind)
        measure(history, clock, 10)
        status = history.status()["tl"]
        assert (before["quarantined"], status["quarantined"]) == (10, 10)
        assert status["late"] + status["repeated"] == 10
        assert (before["reset"], status["reset"]) == (1, 1)


def test_a_sample_that_is_ahead_by_itself_is_no_matter_of_the_clock(tmp_path):
    path = tmp_path / "h"
    clock = StepClock(NOW, boot="a")
    with History([live(follows_clock=False, live=True)], HistorySettings(path=path), clock) as history:
        measure(history, clock, 10)
        history.append(as_batch("tl", [clock.now() + 5.0], {"x": [2.0]}))
    with History([live(follows_clock=False, live=True)], HistorySettings(path=path), clock) as history:
        measure(history, clock, 10)
        assert history.status()["tl"]["quarantined"] == 0
    assert len(times(path)) == 21


def test_duplicates_after_a_reset_are_repeated_and_not_stored_twice(tmp_path):
    path = tmp_path / "h"
    run(path, StepClock(NOW))
    run(path, StepClock(NOW + 200.0 + YEAR))
    clock = StepClock(NOW + 400.0)
    with History([live()], HistorySettings(path=path), clock) as history:
        measure(history, clock, 3)
        for t in (*(NOW + 9.0 * i for i in range(1, 11)), clock.now()):
            history.append(as_batch("tl", [t], {"x": [1.0]}))
        status = history.status()["tl"]
        assert (status["repeated"], status["late"]) == (11, 0)
    assert len(times(path)) == 13


@pytest.mark.parametrize("lost", [(), ("catalogue.log", "catalogue.copy")])
def test_a_reset_outlives_its_catalogue_and_sealed_segments(tmp_path, lost):
    path, clock = tmp_path / "h", StepClock(NOW)
    sealed_days(path, 3, clock)
    sealed_days(path, 2, StepClock(NOW + 4 * DAY + YEAR))
    right = StepClock(NOW + 10 * DAY)
    sealed_days(path, 1, right)
    for name in lost:
        (path / name).unlink()
    before = times(path)
    assert len(before) == 4 * 96
    status = run(path, right)
    assert (status["samples"], status["late"]) == (10, 0)
    assert [reset["number"] for reset in status["resets"]] == [1]
    assert sum(aside.samples for aside in list_quarantined(path)) == 2 * 96
    assert times(path)[:-10] == before


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


def test_a_disk_that_takes_no_quarantine_is_reported_and_it_is_done_later(tmp_path, monkeypatch):
    path = tmp_path / "h"
    run(path, StepClock(NOW))
    run(path, StepClock(NOW + 200.0 + YEAR))

    def refuse(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sisock.history.resetting.quarantine_samples", refuse)
    clock = StepClock(NOW + 400.0)
    node = Node("n", None, [ManualSource(live())], HistorySettings(path=path, keep=90 * DAY), clock)
    node.start()
    assert node.health().state == "degraded"
    assert "cannot be quarantined" in node.health().error
    assert node.history.status()["tl"]["reset"] == 0
    assert len(times(path)) == 20
    monkeypatch.undo()
    clock.step(2.0)
    status = node.history.status()["tl"]
    assert (status["reset"], status["quarantined"]) == (1, 10)
    assert node.health().state == "ok"
    node.stop()
    assert len(times(path)) == 10


@pytest.mark.parametrize("follows_clock", [False, True])
def test_the_watermark_does_not_pass_what_is_on_the_disk(tmp_path, broken, follows_clock):
    clock = StepClock(NOW)
    source = ManualSource(live(follows_clock=follows_clock))
    node = Node("n", None, [source], HistorySettings(path=tmp_path / "h"), clock)
    node.start()

    def emit(n):
        for _ in range(n):
            clock.wait_for_sleepers()  # the upkeep has taken its turn
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
    clock.wait_for_sleepers()
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


def sisock(*arguments):
    return CliRunner().invoke(build(), [str(each) for each in arguments])


def test_samples_after_a_time_are_quarantined_by_hand(tmp_path):
    path = tmp_path / "h"
    clock = StepClock(NOW)
    run(path, clock)
    run(path, StepClock(NOW + 3600.0))
    preview = json.loads(sisock("history", path, "--drop-after", NOW + 3000.0, "--dry-run", "--json").stdout)
    assert preview["timelines"] == {
        "tl": {"samples": 10, "oldest": NOW + 3609.0, "newest": NOW + 3690.0, "quarantined": 0}
    }
    assert len(times(path)) == 20
    refused = sisock("history", path, "--drop-after", NOW + 3000.0, "--json")
    assert isinstance(refused.exception, BadRequest)
    asked = sisock("history", path, "--drop-after", NOW + 3000.0)  # nobody answers
    assert asked.exit_code == 1
    assert len(times(path)) == 20
    done = json.loads(sisock("history", path, "--drop-after", NOW + 3000.0, "--yes", "--json").stdout)
    assert done["timelines"]["tl"]["quarantined"] == 10
    assert times(path) == [NOW + 9.0 * i for i in range(1, 11)]
    (aside,) = json.loads(sisock("history", path, "--quarantined", "--json").stdout)
    assert (aside["timeline"], aside["samples"]) == ("tl", 10)
    assert "tl\t10\t2023-11-14T23:13:29.000Z" in sisock("history", path, "--quarantined").stdout
    status = run(path, clock)
    assert (status["samples"], status["late"]) == (10, 0)
    # What was quarantined can be had again.
    assert sisock("import", aside["path"], "--into", tmp_path / "again").exit_code == 0
    assert times(tmp_path / "again") == [NOW + 3600.0 + 9.0 * i for i in range(1, 11)]
    epochs = json.loads(sisock("history", path, "--clock", "--json").stdout)
    assert [epoch["wall"] for epoch in epochs] == [NOW, NOW + 3600.0, NOW + 90.0]
    assert "2023-11-14T23:13:20.000Z\t0.0" in sisock("history", path, "--clock").stdout


def test_a_history_that_a_node_writes_to_is_not_changed_by_hand(tmp_path):
    clock = StepClock(NOW)
    with History([live()], HistorySettings(path=tmp_path / "h"), clock) as history:
        measure(history, clock, 3)
        refused = sisock("history", tmp_path / "h", "--drop-after", NOW, "--yes")
        assert isinstance(refused.exception, BadHistory)
        assert "in use by the process" in str(refused.exception)
        asked = sisock("history", tmp_path / "h", "--drop-after", NOW)  # nothing is asked that cannot be done
        assert isinstance(asked.exception, BadHistory)
        assert "Quarantine these samples" not in asked.output
    assert len(times(tmp_path / "h")) == 3
