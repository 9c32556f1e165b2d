"""Polling: functions that are called at intervals, any number of them in a bounded number of threads."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable

from sisock.errors import BadRequest
from sisock.executor import Executor
from sisock.metrics import Counters
from sisock.timers import Timers
from sisock.times import Clock

_WORKERS, _WAITING = 64, 1_000_000
# The first calls are spread over so many seconds, by the fractions of the multiples of the golden ratio.
_SPREAD_S, _GOLDEN = 1.0, 0.6180339887498949
# They are due at multiples of this, in seconds of the monotonic clock: one wake of a thread serves all that are due.
_RASTER_S = 0.005

log = logging.getLogger(__name__)


class Poll:
    """A function that is polled; made by `Poller.add`.

    Attributes
    ----------
    name : str
    interval_s : float
        Seconds between calls, unless it fails.
    due : float
        When it is called next, in seconds of the monotonic clock.
    failures : int
        Calls that failed since the last one that did not.
    late_s : float
        Seconds by which the last call began after it was due.
    is_stopped : bool
    """

    def __init__(
        self, poller: "Poller", name: str, call: Callable[[], object], interval_s: float, longest_s: float | None
    ) -> None:
        self.name, self.interval_s, self.due = name, interval_s, 0.0
        self.failures, self.late_s = 0, 0.0
        self._poller, self._call, self._longest_s = poller, call, longest_s
        self._idle = threading.Event()
        self._idle.set()
        self._lock = threading.Lock()
        self._revoke: Callable[[], None] = lambda: None
        self.is_stopped = False

    def set_interval(self, interval_s: float) -> None:
        """Change the interval, from now on.

        Raises
        ------
        BadRequest
            If it is not above 0.
        """
        _check_interval(self.name, interval_s)
        with self._lock:
            self.interval_s = interval_s
            if self._idle.is_set():
                self._schedule(self._poller.clock.monotonic() + interval_s)

    def stop(self, patience_s: float | None = None) -> bool:
        """Call it no more; wait for a call under way, at most `patience_s` seconds, and return whether it has ended."""
        with self._lock:
            is_new, self.is_stopped = not self.is_stopped, True
            self._revoke()
        if is_new:
            self._poller.remove()
        return self._idle.wait(patience_s)

    def start(self, due: float) -> None:
        """Have it called at a time of the monotonic clock for the first time; called by the poller."""
        with self._lock:
            self._schedule(due)

    def _schedule(self, due: float) -> None:
        """Have it called at a time of the monotonic clock; the lock is held."""
        self._revoke()
        if not self.is_stopped:
            self.due = due
            self._revoke = self._poller.timers.after(due - self._poller.clock.monotonic(), self._begin)

    def _begin(self) -> None:
        with self._lock:
            if self.is_stopped or not self._idle.is_set():
                return
            self._idle.clear()
        self._poller.submit(self, self._poller.clock.hold())

    def run(self, release: Callable[[], None] | None) -> None:
        """Call the function, and have it called again; called by the poller, in a thread of its own."""
        self.late_s = self._poller.clock.monotonic() - self.due
        self._poller.counters.add("calls")
        try:
            self._call()
        except Exception:
            self._poller.counters.add("failures")
            self.failures += 1
            if self.failures == 1:
                log.exception("polling %s failed; further failures are counted and not logged", self.name)
        else:
            if self.failures:
                log.warning("polling %s: recovered after %d failures", self.name, self.failures)
            self.failures = 0
        with self._lock:
            self._schedule(self._next())
            self._idle.set()
        if release is not None:
            self._poller.timers.after(0.0, release)  # once the timers know of the next call

    def _next(self) -> float:
        """Return when the next call is due: on the grid of the calls so far, later after failures."""
        interval = self.interval_s
        if self.failures and self._longest_s is not None:
            interval = min(interval * 2.0 ** min(self.failures, 30), max(interval, self._longest_s))
        # Times that a slow call overran are left out.
        overrun = max(0.0, (self._poller.clock.monotonic() - self.due) // interval)
        self._poller.counters.add("skipped", int(overrun))
        return self.due + interval * (overrun + 1.0)


class Poller:
    """Calls functions at intervals of their own, in at most `workers` threads; used from any thread.

    A slow call delays no other one as long as fewer than `workers` are under way. Times are those of the monotonic
    clock, and stay on the grid of the first call.

    Parameters
    ----------
    name : str
        Names the threads.
    clock : Clock
    workers : int
        Most threads; each is started when it is needed.
    on_empty : callable, optional
        Called when the last poll was stopped.

    Attributes
    ----------
    counters : Counters
        ``calls``, ``failures``, and ``skipped``: calls that were left out, since an earlier one of the same function
        took too long.
    """

    def __init__(
        self, name: str, clock: Clock, workers: int = _WORKERS, on_empty: Callable[[], object] | None = None
    ) -> None:
        self.clock = clock
        self.timers = Timers(name, clock)
        self.executor = Executor(name, workers, _WAITING)
        self.counters = Counters("calls", "failures", "skipped")
        self._on_empty, self._lock = on_empty, threading.Lock()
        self._added = self._polls = 0
        self._due: deque[tuple[Poll, Callable[[], None] | None]] = deque()  # they wait for a thread
        self._is_thread_asked = self._is_stopped = False

    def add(
        self,
        name: str,
        call: Callable[[], object],
        interval_s: float,
        *,
        first_s: float | None = None,
        longest_s: float | None = None,
    ) -> Poll:
        """Have a function called at an interval.

        Parameters
        ----------
        name : str
            Name of the polled thing, for the log.
        call : callable
            Its errors are logged once per outage, and counted.
        interval_s : float
        first_s : float, optional
            Seconds until the first call; when not given, within a second, such that many are spread evenly.
        longest_s : float, optional
            After failures the interval is doubled each time, up to this. Without it, failures change nothing.

        Raises
        ------
        BadRequest
            If the interval is not above 0.
        """
        _check_interval(name, interval_s)
        with self._lock:
            spread_s = self._added * _GOLDEN % 1.0 * min(interval_s, _SPREAD_S)
            self._added += 1
            self._polls += 1
        poll, now = Poll(self, name, call, interval_s, longest_s), self.clock.monotonic()
        poll.start(math.ceil((now + spread_s) / _RASTER_S) * _RASTER_S if first_s is None else now + first_s)
        return poll

    def submit(self, poll: Poll, release: Callable[[], None] | None) -> None:
        """Have a poll that is due run in a thread; called by it.

        A thread takes one after the other, and each time asks for another thread if more are waiting, so that none
        waits for a slow one.
        """
        self._due.append((poll, release))
        self._ask_for_thread()

    def _ask_for_thread(self) -> None:
        with self._lock:
            if not (self._is_thread_asked or self._is_stopped):
                self._is_thread_asked = True
                self.executor.submit(self._run_due)

    def _run_due(self) -> None:
        with self._lock:
            self._is_thread_asked = False
        while not self._is_stopped:
            try:
                poll, release = self._due.popleft()
            except IndexError:
                return
            if self._due:
                self._ask_for_thread()
            poll.run(release)

    def remove(self) -> None:
        """Take note that a poll was stopped; called by it."""
        with self._lock:
            self._polls -= 1
        if self.is_empty and self._on_empty is not None:
            self._on_empty()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is polled."""
        return self._polls == 0

    def stop(self) -> None:
        """Call nothing any more; calls under way are not waited for."""
        with self._lock:
            self._is_stopped = True
        self.timers.stop()
        self.executor.close()


def _check_interval(name: str, interval_s: float) -> None:
    if not interval_s > 0:
        raise BadRequest(f"the interval of {name} is {interval_s}; give seconds above 0")


_shared: dict[int, Poller] = {}
_sharing = threading.Lock()


def poll_shared(clock: Clock, name: str, call: Callable[[], object], interval_s: float) -> Poll:
    """Have a function called at an interval, by the poller that a process has for a clock; see `Poller.add`.

    The poller ends when nothing is left to poll.
    """
    with _sharing:
        poller = _shared.get(id(clock))
        if poller is None:
            poller = _shared[id(clock)] = Poller("poll", clock, on_empty=lambda: _forget(clock))
        return poller.add(name, call, interval_s)


def _forget(clock: Clock) -> None:
    with _sharing:
        poller = _shared.get(id(clock))
        if poller is not None and poller.is_empty:
            del _shared[id(clock)]
            poller.stop()
