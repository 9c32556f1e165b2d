"""Events of a history: samples that were lost, damaged files, jumps of the clock; from its counters."""

import math
import threading
from collections.abc import Callable

from sisock.event import Report
from sisock.history import History

# Counters of samples that are not stored.
_LOSSES = ("dropped", "late", "refused")
# Seconds between events about the losses of one timeline.
_EVERY_S = 60.0


class Incidents:
    """Reports what a history has counted since the last look, in place of an event for every sample.

    Parameters
    ----------
    history : History
    report : Report
    monotonic : callable
        Returns seconds.
    """

    def __init__(self, history: History, report: Report, monotonic: Callable[[], float]) -> None:
        self._history, self._report, self._monotonic = history, report, monotonic
        self._looking, self._next_look = threading.Lock(), -math.inf
        self._losses: dict[str, dict[str, int]] = {}
        self._reported_at: dict[str, float] = {}
        # An earlier run has reported its own.
        self._jumps, self._quarantined = history.clock_jumps(), 0

    def look_now_and_then(self) -> None:
        """Report what is new, if the last look was a second ago; quick, for the way of every batch."""
        if self._monotonic() >= self._next_look:
            self._next_look = self._monotonic() + 1.0
            self.look()

    def look(self) -> None:
        """Report what is new; from any thread."""
        if self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()

    def _look(self) -> None:
        jumps = self._history.clock_jumps()
        for at, seconds in jumps:
            if (at, seconds) not in self._jumps:
                self._report(
                    "clock", "clock", f"the clock jumped by {seconds:+.1f} s", "warning", at=at, seconds=seconds
                )
        self._jumps = jumps
        quarantined = self._history.quarantined_segments
        if quarantined > self._quarantined:
            n = quarantined - self._quarantined
            self._report("damage", "history", f"damaged segments were quarantined: {n}", "error", segments=n)
        self._quarantined = quarantined
        for timeline, counts in self._history.counts().items():
            self._look_at(timeline, {name: counts.get(name, 0) for name in _LOSSES})

    def _look_at(self, timeline: str, counts: dict[str, int]) -> None:
        known = self._losses.get(timeline, dict.fromkeys(_LOSSES, 0))
        new = {name: n - known[name] for name, n in counts.items() if n > known[name]}
        now = self._monotonic()
        if new and now - self._reported_at.get(timeline, -_EVERY_S) >= _EVERY_S:
            self._losses[timeline], self._reported_at[timeline] = counts, now
            shown = ", ".join(f"{n} {name}" for name, n in new.items())
            self._report("loss", timeline, f"samples of {timeline} are not stored: {shown}", "warning", **new)
