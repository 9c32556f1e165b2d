"""Calls of functions at later times, by a clock that may be stepped."""

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from sisock.times import Clock
from sisock.worker import Worker

_LONGEST_WAIT_S = 3600.0

log = logging.getLogger(__name__)


class Timers:
    """Calls functions when their time has come, in one thread for all of them; used from any thread.

    The thread runs from the first `after` on until `stop`. A function returns soon, since others wait for it; what it
    raises is logged.

    Parameters
    ----------
    name : str
        Name of the thread.
    clock : Clock
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._lock, self._changed = threading.Lock(), threading.Event()
        self._numbers = itertools.count()
        self._due: list[tuple[float, int]] = []
        self._functions: dict[int, Callable[[], object]] = {}
        self._worker = Worker(name, self._run, wake=self._changed.set, patience_s=2.0)
        self._is_stopped = False

    def after(self, seconds: float, function: Callable[[], object]) -> Callable[[], None]:
        """Have a function called once in `seconds`, and return a function that revokes that."""
        number = next(self._numbers)
        with self._lock:
            self._functions[number] = function
            heapq.heappush(self._due, (self._clock.monotonic() + seconds, number))
            is_first = self._due[0][1] == number
            if not self._worker.is_alive and not self._is_stopped:
                self._worker.start()
        if is_first:
            self._clock.wake(self._changed)
        return lambda: self._revoke(number)

    def every(self, seconds: float, function: Callable[[], object]) -> None:
        """Have a function called again and again, `seconds` after each call has ended."""

        def call() -> None:
            try:
                function()
            finally:
                if not self._is_stopped:
                    self.after(seconds, call)

        self.after(seconds, call)

    def stop(self) -> None:
        """Call no more functions."""
        with self._lock:
            self._is_stopped = True
        self._worker.stop()

    def _revoke(self, number: int) -> None:
        with self._lock:
            self._functions.pop(number, None)

    def _run(self) -> None:
        while not self._worker.stopping.is_set():
            self._changed.clear()
            wait_s = self._call_due()
            self._clock.wait(self._changed, wait_s)

    def _call_due(self) -> float:
        """Call the functions whose time has come, and return the seconds until the next one is due."""
        while not self._worker.stopping.is_set():
            with self._lock:
                now = self._clock.monotonic()
                if not self._due or self._due[0][0] > now:
                    return self._due[0][0] - now if self._due else _LONGEST_WAIT_S
                function = self._functions.pop(heapq.heappop(self._due)[1], None)
            if function is not None:
                try:
                    function()
                except Exception:
                    log.exception("a function that was to be called at this time failed")
        return 0.0
