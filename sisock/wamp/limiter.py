"""Limits on answers: a number at a time for each caller, and a number of bytes for all callers together."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, inlineCallbacks

from sisock.errors import Busy


class CallerLimiter:
    """Gives each caller at most `at_once` turns at a time; used in the reactor's thread only.

    Parameters
    ----------
    at_once : int
    waiting : int
        How many more of a caller may wait.
    what : str
        What a turn is for, for people.
    """

    def __init__(self, at_once: int, waiting: int, what: str) -> None:
        self._at_once, self._waiting, self._what = at_once, waiting, what
        self._semaphores: dict[Any, DeferredSemaphore] = {}

    @property
    def is_used(self) -> bool:
        """Whether any caller has a turn."""
        return bool(self._semaphores)

    def take_now(self, caller: Any) -> Callable[[], None] | None:
        """Return a function that ends a turn; None where the caller has to wait for it, see `take`."""
        semaphore = self._semaphores.get(caller)
        if semaphore is None:
            semaphore = self._semaphores[caller] = DeferredSemaphore(self._at_once)
        if not semaphore.tokens:
            return None
        semaphore.tokens -= 1
        return self._end(caller, semaphore)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def take(self, caller: Any) -> Any:
        """Wait for a turn; the result is a function that ends it.

        Raises
        ------
        Busy
            If too many of this caller wait already.
        """
        semaphore = self._semaphores.setdefault(caller, DeferredSemaphore(self._at_once))
        if len(semaphore.waiting) >= self._waiting:
            raise Busy(
                f"{self._at_once} {self._what} are on their way to you and {self._waiting} more are waiting; "
                "ask again when one has come, or for less"
            )
        yield semaphore.acquire()
        return self._end(caller, semaphore)

    def _end(self, caller: Any, semaphore: DeferredSemaphore) -> Callable[[], None]:
        def end() -> None:
            semaphore.release()
            if semaphore.tokens == semaphore.limit and self._semaphores.get(caller) is semaphore:
                del self._semaphores[caller]

        return end


class MemoryBudget:
    """Grants bytes to the answers of all callers together, in order; used in the reactor's thread only.

    Parameters
    ----------
    size : int
        Bytes that may be granted at a time. A single request for more is granted when nothing else is.
    waiting : int
        How many requests may wait.
    """

    def __init__(self, size: int, waiting: int) -> None:
        self.size, self._most_waiting = size, waiting
        self.used = 0
        """Bytes that are granted at present."""
        self.peak = 0
        """Most bytes that were granted at a time."""
        self._waiting: OrderedDict[Deferred[Callable[[], None]], int] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def take(self, cost: int) -> Deferred[Callable[[], None]]:
        """Wait until `cost` bytes are granted; the result is a function that returns them.

        A request that is cancelled does not wait any more.

        Raises
        ------
        Busy
            If too many requests wait already.
        """
        if self.waiting >= self._most_waiting:
            raise Busy(f"{self.waiting} large answers wait for memory; ask again later, or for less")
        granted: Deferred[Callable[[], None]] = Deferred(lambda request: self._waiting.pop(request, None))
        self._waiting[granted] = min(cost, self.size)
        self._grant()
        return granted

    def _grant(self) -> None:
        while self._waiting:
            granted, cost = next(iter(self._waiting.items()))
            if self.used + cost > self.size:
                return
            del self._waiting[granted]
            self.used += cost
            self.peak = max(self.peak, self.used)
            granted.callback(lambda cost=cost: self._end(cost))

    def _end(self, cost: int) -> None:
        self.used -= cost
        self._grant()
