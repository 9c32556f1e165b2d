"""The context of an operation's code: what it may know of its run, and how it reports."""

import threading
from collections.abc import Callable
from typing import Any, Literal, Protocol

from sisock.errors import RunCancelled
from sisock.procedure import Caller
from sisock.timers import Timers
from sisock.times import Clock

RunState = Literal["queued", "running", "cancelling", "done", "failed", "cancelled"]


class Cancelled:
    """Whether a run is to end; to wait on in a thread by `wait`, in a coroutine by ``await``."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._event, self._lock = clock, threading.Event(), threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Whether the run is to end."""
        return self._event.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block the calling thread until the run is to end, at most `timeout_s`; return whether it is to end."""
        return self._event.wait() if timeout_s is None else self._clock.wait(self._event, timeout_s)

    def set(self) -> None:
        """Have the run end."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_set(self, callback: Callable[[], object]) -> None:
        """Have a function called when the run is to end: in the thread that cancels it, or at once."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def __await__(self) -> Any:
        deferred, fire = waiting()
        self.when_set(fire)
        return deferred.__await__()


def waiting() -> tuple[Any, Callable[[], None]]:
    """Return a Deferred, and a function that fires it from any thread."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    deferred: Deferred[None] = Deferred()

    def fire() -> None:
        reactor.callFromThread(lambda: deferred.called or deferred.callback(None))

    return deferred, fire


class ReportsTo(Protocol):
    """A run as far as its context needs it: in this process, or in the one that has started this one."""

    id: str
    caller: Caller
    cancelled: Cancelled
    reason: str | None

    @property
    def state(self) -> RunState:
        """The state of the run."""
        ...

    def report_update(self, value: Any) -> None:
        """Report an update."""
        ...

    def report_progress(self, fraction: float | None, message: str | None = None) -> None:
        """Report progress."""
        ...


class RunContext:
    """The context of the code of an operation: its run, and ways to report; used from any thread.

    Parameters
    ----------
    run : Run
    timers : Timers

    Attributes
    ----------
    caller : Caller
    cancelled : Cancelled
        Set when the run is to end; to be waited on by threads and coroutines.
    """

    def __init__(self, run: ReportsTo, timers: Timers) -> None:
        self._run, self._timers = run, timers
        self.caller, self.cancelled = run.caller, run.cancelled

    @property
    def id(self) -> str:
        """The id of the run."""
        return self._run.id

    @property
    def state(self) -> RunState:
        """The state of the run."""
        return self._run.state

    def update(self, value: Any) -> None:
        """Report an update; see `Run.report_update`."""
        self._run.report_update(value)

    def progress(self, fraction: float | None, message: str | None = None) -> None:
        """Report progress, 0 to 1 or None, with a text; see `Run.report_progress`."""
        self._run.report_progress(fraction, message)

    def checkpoint(self) -> None:
        """Do nothing, or raise RunCancelled if the run is to end."""
        if self.cancelled.is_set():
            raise RunCancelled(self._run.reason or f"run {self.id} was cancelled")

    def wait(self, seconds: float) -> None:
        """Block the calling thread for some seconds; raise RunCancelled as soon as the run is to end."""
        self.cancelled.wait(seconds)
        self.checkpoint()

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling coroutine for some seconds; raise RunCancelled as soon as the run is to end."""
        deferred, fire = waiting()
        revoke = self._timers.after(seconds, fire)
        self.cancelled.when_set(fire)
        await deferred
        revoke()
        self.checkpoint()
