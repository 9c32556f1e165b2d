"""A signal that something may have changed: events on topics, and the return of the router."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from twisted.internet.defer import inlineCallbacks

from sisock.consumer.router_thread import RouterThread, later_in_reactor


class Signal:
    """Counts the events on some topics and the joins of the router; opened in the reactor's thread, read in any.

    Parameters
    ----------
    link : RouterThread
    topics : sequence of str
        Below the base URI.
    """

    def __init__(self, link: RouterThread, topics: Sequence[str]) -> None:
        self._link, self._topics = link, topics
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []
        self.count = 0
        """Rises with each of them."""

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def open(self) -> Any:
        """Subscribe to the topics; the result is this signal.

        Raises
        ------
        NotAllowed, NoRouter
        """
        self._link.listen(self._set)
        try:
            for topic in self._topics:
                yield self._link.subscribe(topic, self._set)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Subscribe no more; may be called in any thread."""
        self._link.unlisten(self._set)
        for topic in self._topics:
            later_in_reactor(partial(self._link.unsubscribe, topic, self._set))

    def changed(self, count: int) -> "Future[None]":
        """Return a future that is done when `count` is not the present one any more."""
        future: Future[None] = Future()
        with self._lock:
            if self.count != count:
                future.set_result(None)
            else:
                self._waiting = [other for other in self._waiting if not other.done()]
                self._waiting.append(future)
        return future

    def _set(self, _event: Any = None) -> None:
        with self._lock:
            self.count += 1
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
