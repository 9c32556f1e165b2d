"""Waiting and sleeping by a clock that is stepped, and the rule that our code has no other clock."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sisock.testing import StepClock
from sisock.times import SystemClock, wait_until

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def clock():
    return StepClock(1000.0)


def waiting(clock, event, timeout_s):
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(clock.wait(event, timeout_s)))
    thread.start()
    clock.wait_for_sleepers()
    return thread, outcomes


def test_thread_waits_until_the_clock_is_stepped_so_far(clock):
    thread, outcomes = waiting(clock, threading.Event(), 10.0)
    clock.step(9.0)
    assert thread.is_alive()
    clock.wait_for_sleepers()
    clock.step(1.0)
    thread.join(30.0)
    assert outcomes == [False]


def test_thread_that_waits_is_woken_by_its_event(clock):
    event = threading.Event()
    thread, outcomes = waiting(clock, event, 10.0)
    event.set()
    thread.join(30.0)
    assert outcomes == [True]
    assert clock.monotonic() == 0.0


def test_jump_of_the_wall_clock_wakes_nobody(clock):
    event = threading.Event()
    thread, outcomes = waiting(clock, event, 10.0)
    clock.jump(1e6)
    clock.wait_for_sleepers()
    event.set()
    thread.join(30.0)
    assert outcomes == [True]


def test_coroutines_sleep_until_the_clock_is_stepped_so_far(clock):
    async def story():
        woken = []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append(seconds)

        async with asyncio.TaskGroup() as tasks:
            sleeping = [tasks.create_task(sleeper(seconds)) for seconds in (0.0, 30.0, 3600.0)]
            await sleeping[0]
            await asyncio.to_thread(clock.wait_for_sleepers, 2)
            clock.step(3599.0)
            await sleeping[1]
            assert woken == [0.0, 30.0]
            clock.step(1.0)
        assert woken == [0.0, 30.0, 3600.0]

    asyncio.run(story())


def test_coroutine_that_is_cancelled_sleeps_no_more(clock):
    async def story():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.sleep(10.0), 0.01)

    asyncio.run(story())
    with pytest.raises(TimeoutError, match="0 of 1 sleepers"):
        clock.wait_for_sleepers(timeout_s=0.0)


def test_system_clock_waits_and_sleeps_for_real():
    clock, event = SystemClock(), threading.Event()
    began = clock.monotonic()
    assert not clock.wait(event, 0.01)
    asyncio.run(clock.sleep(0.01))
    assert clock.monotonic() - began >= 0.02
    event.set()
    assert clock.wait(event, 600.0)


def test_condition_is_waited_for_no_longer_than_the_time_out():
    looks = []
    assert wait_until(lambda: looks.append(0) or len(looks) == 3, 60.0, every_s=0.001)
    assert len(looks) == 3
    assert not wait_until(lambda: False, 0.01, every_s=0.001)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import time\nprint(time.monotonic())", "time.monotonic"),
        ("from time import sleep\nsleep(1)", "time.sleep"),
        ("import asyncio\nasyncio.run(asyncio.sleep(1))", "asyncio.sleep"),
        ("from datetime import UTC, datetime\nprint(datetime.now(UTC))", "datetime.datetime.now"),
        ("from twisted.internet import reactor\nreactor.callLater(1, print)", "twisted.internet.reactor.callLater"),
    ],
)
def test_another_clock_in_our_code_is_refused_by_the_linter(line, name):
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", "sisock/node.py", "-"]
    checked = subprocess.run(command, input=line, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert f"`{name}` is banned" in checked.stdout
