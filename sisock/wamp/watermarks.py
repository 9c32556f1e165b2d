"""Publication of the watermarks of a node's timelines, once a second, only while somebody is subscribed."""

import threading
from collections.abc import Callable
from functools import partial

from sisock.timers import Timers
from sisock.wamp.publisher import Publisher
from sisock.watermark import Watermark

_EVERY_S = 1.0


class WatermarkPublisher:
    """Publishes watermarks in order with the batches of their timelines, while a session is joined.

    Parameters
    ----------
    publisher : Publisher
        Of the feeds of these timelines.
    take : callable
        ``take(timeline, pass_on)`` calls `pass_on` with the watermark between two batches, unless one is being stored.
    timers : Timers
    """

    def __init__(
        self, publisher: Publisher, take: Callable[[str, Callable[[Watermark], object]], object], timers: Timers
    ) -> None:
        self._publisher, self._take, self._timers = publisher, take, timers
        self._lock = threading.Lock()
        self._is_open, self._is_due = True, False
        publisher.on_followed(self._schedule)

    def close(self) -> None:
        """Publish nothing more."""
        self._is_open = False

    def _schedule(self) -> None:
        """Publish in a second, if that is not due already: time does not wake a process that nobody follows."""
        with self._lock:
            if self._is_open and not self._is_due:
                self._is_due = True
                self._timers.after(_EVERY_S, self._publish)

    def _publish(self) -> None:
        self._is_due = False  # first: a subscription made meanwhile schedules the next
        followed = self._publisher.followed() if self._is_open else ()
        if followed:
            self._schedule()
        for timeline in followed:
            self._take(timeline, partial(self._publisher.on_watermark, timeline))
