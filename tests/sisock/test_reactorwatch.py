"""A coroutine that blocks the reactor's thread is reported once, with its place, and counted."""

import asyncio
import logging
import queue
import threading

import pytest

from sisock.procedure import Operation
from sisock.reactorwatch import ReactorWatch
from sisock.testing import StepClock
from sisock.times import wait_until
from sisock.work import Work


class Reactor:
    """A thread that calls one function after the other, as a reactor does."""

    def __init__(self):
        self._calls = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def call(self, function):
        self._calls.put(function)

    def settle(self):
        settled = threading.Event()
        self.call(settled.set)
        assert settled.wait(30.0)

    def stop(self):
        self.call(None)
        self._thread.join(30.0)

    def _run(self):
        while (function := self._calls.get()) is not None:
            function()


@pytest.fixture
def clock():
    return StepClock()


@pytest.fixture
def work(clock):
    work = Work(clock)
    yield work
    work.close()


@pytest.fixture
def reactor():
    reactor = Reactor()
    yield reactor
    reactor.stop()


def blocked(work):
    return work.status()["work"]["blocked_reactor"]


def test_coroutine_that_blocks_the_reactor_is_reported_once(clock, work, reactor, caplog):
    caplog.set_level(logging.INFO)
    entered, release = threading.Event(), threading.Event()

    async def centre():
        entered.set()
        release.wait(30.0)

    work.offers.add(Operation("centre", "Block.", None, None, centre))
    ReactorWatch("rig", work, clock, reactor.call).start()
    for _ in range(10):
        clock.wait_for_sleepers()
        clock.step(0.5)
        reactor.settle()
    assert blocked(work) == 0

    reactor.call(lambda: asyncio.run(centre()))
    assert entered.wait(30.0)
    for _ in range(10):
        clock.wait_for_sleepers()
        clock.step(0.5)
    assert wait_until(lambda: blocked(work) == 1)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "operation centre blocks the reactor's thread" in warnings[0]
    assert "centre (test_reactorwatch.py:" in warnings[0]

    release.set()
    reactor.settle()
    for _ in range(10):
        clock.wait_for_sleepers()
        clock.step(0.5)
        reactor.settle()
    assert blocked(work) == 1
