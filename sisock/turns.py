"""Turns: at most so many at a time for each caller, and few that wait."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import DeferredSemaphore, inlineCallbacks

from sisock.errors import Busy


class Turns:
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
