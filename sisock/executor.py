"""Where the code of procedures runs: in a bounded number of threads, or in the reactor's thread."""

import inspect
import threading
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextvars import copy_context
from typing import Any

from sisock.errors import Busy
from sisock.worker import Worker


class Executor:
    """Runs functions in daemon threads, at most `threads` at a time; used from any thread.

    The threads end with the process: a function that never returns does not keep the process from ending.

    Parameters
    ----------
    name : str
        What it runs, in the plural; names the threads, and stands in errors.
    threads : int
        Most functions that run at a time.
    waiting : int
        Most functions that wait for a thread.
    """

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._name, self._most, self._most_waiting = name, threads, waiting
        self._waiting: deque[tuple[Call, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._changed = threading.Condition()
        self._idle = self._threads = self._running = 0
        self._closed = False

    @property
    def running(self) -> int:
        """How many functions run at present."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many functions wait for a thread at present."""
        return len(self._waiting)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Call":
        """Have a function run, and return the future of its result; cancelling that has effect until it starts.

        Raises
        ------
        Busy
            If too many wait already, or the executor is closed.
        """
        future = Call()
        with self._changed:
            if self._closed:
                raise Busy(f"no {self._name} are started any more; the node is stopping")
            if len(self._waiting) + self._running >= self._most_waiting + self._most:
                raise Busy(
                    f"{self._most} {self._name} are running and {self._most_waiting} more are waiting; try again later"
                )
            self._waiting.append((future, function, arguments))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._threads < self._most:
                self._threads += 1
                Worker(f"{self._name} {self._threads}", self._work).start()
            else:
                self._changed.notify()
        return future

    def close(self) -> None:
        """Start no more functions; those that wait are cancelled, and those that run are left alone."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for future, _, _ in waiting:
            future.cancel()

    def _work(self) -> None:
        runs = 0
        while True:
            with self._changed:
                self._running -= runs
                self._idle += 1
                while not self._waiting and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._waiting:
                    self._threads -= 1
                    return
                call, function, arguments = self._waiting.popleft()
                runs = 1
                self._running += runs
            call.run(function, arguments)
            del call, function, arguments  # so that an idle thread keeps nothing of them


class Call(Future[Any]):
    """The future of a function that an `Executor` runs, or of the coroutine or Deferred that it returns."""

    abort: Callable[[], None] | None = None
    """Cancels a coroutine or a Deferred where it waits; None while a thread runs, which cannot be ended by force."""

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Run a function and take over its result, or the exception that it raises; unless this is cancelled."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = function(*arguments)
        except BaseException as error:  # noqa: BLE001 - the future raises it
            self.set_exception(error)
            return
        if inspect.isawaitable(result):
            self._wait_for(result)
        else:
            self.set_result(result)

    def _wait_for(self, awaitable: Any) -> None:
        """Take over the result of a coroutine or a Deferred that the function has returned."""
        awaited = ReactorCall(lambda: awaitable)
        self.abort = awaited.abort
        awaited.add_done_callback(self._take_over)

    def _take_over(self, other: "Future[Any]") -> None:
        error = CancelledError() if other.cancelled() else other.exception()
        if error is None:
            self.set_result(other.result())
        else:
            self.set_exception(error)


class ReactorCall(Call):
    """The future of a function that runs in the reactor's thread, and of the coroutine or Deferred that it returns."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        super().__init__()
        from twisted.internet import reactor
        from twisted.python.threadable import isInIOThread

        self._reactor = reactor
        self._deferred: Any = None
        self.abort = self._abort
        if isInIOThread():
            self.run(function, arguments)
        else:
            reactor.callFromThread(self.run, function, arguments)

    def _abort(self) -> None:
        if not self.cancel():
            self._reactor.callFromThread(lambda: self._deferred is not None and self._deferred.cancel())

    def _wait_for(self, awaitable: Any) -> None:
        from twisted.internet.defer import Deferred

        if inspect.iscoroutine(awaitable):
            context = copy_context()
            # Most have nothing to wait for: a step is an eighth of what a Deferred for it takes.
            try:
                waits_for = context.run(awaitable.send, None)
            except StopIteration as end:
                self.set_result(end.value)
                return
            except BaseException as error:  # noqa: BLE001 - the future raises it
                self.set_exception(error)
                return
            awaitable = context.run(Deferred.fromCoroutine, _resumed(awaitable, waits_for))
        if not isinstance(awaitable, Deferred):
            self.set_result(awaitable)
            return
        self._deferred = awaitable
        awaitable.addCallbacks(self.set_result, lambda failure: self.set_exception(failure.value))


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Continue a coroutine that has run until it waited for something."""
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(value)
    except StopIteration as end:
        return end.value


def deferred_of(future: "Future[Any]") -> Any:
    """Return a Deferred of a future, which a coroutine in the reactor's thread can await."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    deferred: Any = Deferred()

    def fire() -> None:
        error = future.exception()
        if error is None:
            deferred.callback(future.result())
        else:
            deferred.errback(error)

    future.add_done_callback(lambda _: reactor.callFromThread(fire))
    return deferred
