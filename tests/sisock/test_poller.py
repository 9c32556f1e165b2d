"""Polling in a bounded number of threads, with a clock that is stepped."""

import threading

import pytest

from sisock.errors import BadRequest
from sisock.poller import Poller
from sisock.testing import StepClock
from sisock.times import wait_until


@pytest.fixture
def clock():
    return StepClock()


@pytest.fixture
def poller(clock):
    made = []

    def make(**options):
        made.append(Poller("test", clock, **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def threads():
    return sum(thread.name.startswith("test") for thread in threading.enumerate()) - 1  # that of the timers


def test_calls_stay_on_the_grid_of_the_first(clock, poller):
    at = []
    poller().add("a", lambda: at.append(clock.monotonic()), 2.0, first_s=1.0)
    clock.wait_for_sleepers()
    clock.run(20.0)
    assert at == [1.0 + 2.0 * i for i in range(10)]


def test_a_thousand_polls_need_few_threads_and_none_is_skipped(clock, poller):
    p, calls = poller(), [0] * 1000

    def count(number):
        calls[number] += 1

    for number in range(1000):
        p.add(str(number), lambda number=number: count(number), 1.0)
    clock.wait_for_sleepers()
    clock.run(3.0)
    assert wait_until(lambda: min(calls) >= 3, 20.0)
    assert max(calls) <= 4
    assert p.counters["skipped"] == 0
    assert threads() <= 5


def test_slow_poll_delays_no_other_and_its_overrun_calls_are_counted(clock, poller):
    p, go, fast = poller(), threading.Event(), []
    p.add("slow", lambda: go.wait(20.0), 1.0, first_s=0.0)
    quick = p.add("fast", lambda: fast.append(clock.monotonic()), 1.0, first_s=0.0)
    for second in range(4):
        assert wait_until(lambda second=second: quick.due == second + 1.0, 10.0)
        clock.step(1.0)
    assert fast[:4] == [0.0, 1.0, 2.0, 3.0]
    go.set()
    assert wait_until(lambda: p.counters["skipped"] >= 3, 10.0)


def test_polls_beyond_the_bound_of_threads_wait_for_one(clock, poller):
    p, go, done = poller(workers=2), threading.Event(), []
    for name in "ab":
        p.add(name, lambda: go.wait(20.0), 100.0, first_s=0.0)
    p.add("c", lambda: done.append(1), 100.0, first_s=0.0)
    assert wait_until(lambda: threads() == 2, 10.0)
    assert not done
    go.set()
    assert wait_until(lambda: done, 10.0)


def test_failures_double_the_interval_up_to_a_bound_and_are_logged_once(clock, poller, caplog):
    at, works = [], []

    def read():
        at.append(clock.monotonic())
        if not works:
            raise OSError("no bus")

    poll = poller().add("bus", read, 1.0, first_s=0.0, longest_s=4.0)
    clock.wait_for_sleepers()
    clock.run(11.0)
    assert at == [0.0, 2.0, 6.0, 10.0]
    assert poll.failures == 4
    works.append(True)
    clock.run(6.0)
    assert at[4:] == [14.0, 15.0, 16.0, 17.0]
    assert [record.levelname for record in caplog.records if "polling bus" in record.getMessage()] == [
        "ERROR",
        "WARNING",
    ]


def test_interval_is_changed_and_a_poll_is_stopped_while_others_continue(clock, poller):
    p, at, other = poller(), [], []
    poll = p.add("a", lambda: at.append(clock.monotonic()), 10.0, first_s=10.0)
    p.add("b", lambda: other.append(1), 1.0, first_s=1.0)
    clock.wait_for_sleepers()
    poll.set_interval(3.0)
    clock.run(6.0)
    assert at == [3.0, 6.0]
    assert poll.stop(1.0)
    clock.run(6.0)
    assert at == [3.0, 6.0]
    assert len(other) == 12
    with pytest.raises(BadRequest, match="interval of a is 0"):
        poll.set_interval(0)


def test_first_calls_are_spread_over_a_second_and_due_in_groups_that_one_wake_serves(clock, poller):
    p = poller()
    due = {p.add(str(number), lambda: None, 1.0).due for number in range(1000)}
    assert 150 <= len(due) <= 201
    assert min(due) >= 0.0
    assert max(due) <= 1.0
    assert [p.add("later", lambda: None, 1.0, first_s=0.3333).due] == [0.3333]


def test_nothing_is_called_after_a_stop_though_it_waits_for_a_thread(clock, poller):
    p, go, begun, calls = poller(workers=1), threading.Event(), threading.Event(), []

    def hang():
        begun.set()
        go.wait(20.0)

    p.add("slow", hang, 1.0, first_s=0.0)
    assert begun.wait(10.0)
    waiting = p.add("waiting", lambda: calls.append(1), 1.0, first_s=0.0)
    assert wait_until(lambda: p.executor.waiting == 1, 10.0)
    p.stop()
    go.set()
    assert wait_until(lambda: p.executor.running == 0, 10.0)
    assert not calls
    assert not waiting.failures
