"""Where the code of procedures runs: threads, and coroutines in the reactor's thread; without a router."""

import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar

import pytest
from twisted.internet.defer import Deferred, maybeDeferred

from sisock.consumer import in_reactor
from sisock.errors import BadRequest, Busy
from sisock.executor import Executor, ReactorCall

asked_by = ContextVar("asked_by", default="nobody")


def in_reactor_thread(function):
    return in_reactor(lambda: maybeDeferred(function)).result(20.0)


async def nothing_to_wait_for():
    return threading.current_thread().name


async def fails():
    raise BadRequest("the shutter is stuck")


def test_a_coroutine_that_waits_for_nothing_has_its_result_at_once():
    call = in_reactor_thread(lambda: ReactorCall(nothing_to_wait_for))
    assert call.done()
    assert call.result() == in_reactor_thread(lambda: threading.current_thread().name)


def test_a_coroutine_that_waits_continues_with_what_it_waited_for_and_in_its_own_context():
    first, second, told = Deferred(), Deferred(), []

    async def waits():
        asked_by.set("alice")
        told.append(await first)
        try:
            await second
        except BadRequest as error:
            told.append(str(error))
        return [*told, asked_by.get()]

    call = in_reactor_thread(lambda: ReactorCall(waits))
    assert not call.done()
    assert in_reactor_thread(asked_by.get) == "nobody"
    in_reactor_thread(lambda: first.callback(7))
    in_reactor_thread(lambda: second.errback(BadRequest("gone")))
    assert call.result(20.0) == [7, "gone", "alice"]


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_of_a_coroutine_is_that_of_its_call(waits):
    before = Deferred()

    async def later():
        await before
        await fails()

    call = in_reactor_thread(lambda: ReactorCall(later if waits else fails))
    in_reactor_thread(lambda: before.callback(None))
    with pytest.raises(BadRequest, match="stuck"):
        call.result(20.0)


def test_a_coroutine_is_cancelled_where_it_waits_and_may_clean_up():
    never, told = Deferred(), []

    async def waits():
        try:
            await never
        finally:
            told.append("cleaned up")

    call = in_reactor_thread(lambda: ReactorCall(waits))
    call.abort()
    with pytest.raises(Exception) as raised:  # noqa: PT011 - Twisted's error, or that of concurrent.futures
        call.result(20.0)
    assert type(raised.value).__name__ == CancelledError.__name__
    assert told == ["cleaned up"]


def test_a_full_executor_refuses_and_those_that_wait_can_be_cancelled():
    gate, executor = threading.Event(), Executor("commands", threads=1, waiting=2)
    running = executor.submit(gate.wait, 20.0)
    waiting = [executor.submit(threading.current_thread) for _ in range(2)]
    with pytest.raises(Busy, match="1 commands are running and 2 more are waiting"):
        executor.submit(gate.wait)
    assert waiting[0].cancel()
    gate.set()
    assert running.result(20.0) is True
    assert waiting[1].result(20.0).name.startswith("commands")
    executor.close()
    with pytest.raises(Busy, match="the node is stopping"):
        executor.submit(gate.wait)
