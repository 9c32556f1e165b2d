"""Delivering what waits in a spool, a round at a time."""

from collections.abc import Iterator
from typing import Any

from sisock.spool import Place, Spool
from sisock.times import Clock

# Seconds until what failed is tried again: at first, and at the most.
_RETRY_S, _LONGEST_S = 1.0, 30.0
# Bytes of a round.
_AT_ONCE = 8_000_000


class Delivery:
    """Rounds of what waits in a spool; what is done with is forgotten up to the first frame that is not.

    Parameters
    ----------
    spool : Spool
    clock : Clock
    topic : str, optional
        What all of it is for, if that is one topic, which has refused something: a single frame is tried first then.

    Attributes
    ----------
    failed : dict of Place to object
        Why frames of the round were not delivered.
    sent : dict of Place to bytes
        The frames of the round.
    """

    def __init__(self, spool: Spool, clock: Clock, topic: str | None = None) -> None:
        self.spool, self.topic, self._clock = spool, topic, clock
        self.sent: dict[Place, bytes] = {}
        self.failed: dict[Place, Any] = {}
        self._done: set[Place] = set()  # behind something that is not
        self._outstanding: set[Place] = set()
        self._pause_s, self._due = 0.0, 0.0

    @property
    def is_due(self) -> bool:
        """Whether a round may begin: none is under way, and it is not too soon after one that failed."""
        return not self.sent and self._clock.monotonic() >= self._due and self.spool.frames > 0

    @property
    def is_over(self) -> bool:
        """Whether all is known of the round that was begun."""
        return bool(self.sent) and not self._outstanding

    def round(self) -> Iterator[tuple[Place, bytes]]:
        """Start a round: yield its frames; `on_result` is to be called for each of them."""
        self._done = {place for place in self._done if place > self.spool.done}  # or it was dropped
        most = 1 if self.topic is not None and self._pause_s else _AT_ONCE
        for place, frame in self.spool.waiting(most, self._done):
            self.sent[place] = frame
            self._outstanding.add(place)
            yield place, frame

    def on_result(self, place: Place, error: Any = None) -> None:
        """Record that a frame was delivered or given up, or the error that kept it from delivery."""
        self._outstanding.discard(place)
        if error is None:
            self._done.add(place)
            self.failed.pop(place, None)
        else:
            self.failed[place] = error

    def end(self) -> None:
        """End the round: forget what is done with; what failed is tried again after a while."""
        first, last = min(self.failed, default=None), max(self.sent)
        over = sorted(place for place in self._done if (place < first if first else place <= last))
        if over:
            self.spool.delivered(over[-1], len(over))
            self._done.difference_update(over)
        self._pause_s = min(2.0 * self._pause_s or _RETRY_S, _LONGEST_S) if first else 0.0
        self._due = self._clock.monotonic() + self._pause_s
        self.sent, self.failed = {}, {}
