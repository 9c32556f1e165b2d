"""Gaps and losses of a timeline: counted, and written down beside its samples."""

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, FloatArray, Timeline
from sisock.history.manifest import Manifest
from sisock.history.ring import Prepared
from sisock.metrics import Counters


class Ledger:
    """Counts and writes down gaps, samples that were dropped, and such as came too late.

    Parameters
    ----------
    timeline : Timeline
    manifest : Manifest
    number : int
        By which the manifest knows the timeline.
    counters : Counters
    """

    def __init__(self, timeline: Timeline, manifest: Manifest, number: int, counters: Counters) -> None:
        self._timeline, self._manifest, self._number, self._counters = timeline, manifest, number, counters
        self.resumed: float | None = None
        """Time of the newest sample of an earlier run, until this one has its first; None if there is none."""

    def record_losses(self, batch: Batch, prepared: Prepared, repeated: NDArray[np.bool_], now: float) -> float | None:
        """Note what a batch lacks; return since when nothing came before it, None if nothing is missing.

        Parameters
        ----------
        batch : Batch
        prepared : Prepared
            What of it is stored.
        repeated : ndarray of bool, shape (m,)
            Which of those that came too late are stored already just as they are.
        now : float
            UNIX seconds.
        """
        if len(prepared.late):
            self._counters.add("repeated", int(repeated.sum()))
            self._late(batch.t[prepared.late][~repeated])
        gap_from = batch.gap_from
        if len(prepared.t):
            gap_from = self._silent_since(float(prepared.t[0])) if gap_from is None else gap_from
            self.resumed = None
        if gap_from is not None and len(prepared.t) and gap_from < prepared.t[0]:
            self.gap(gap_from, float(prepared.t[0]))
        if batch.dropped:
            at = next((at for at in (batch.gap_from, *prepared.t[:1].tolist()) if at is not None), now)
            self.dropped(at, batch.dropped)
        return gap_from

    def late(self, at: float, n: int) -> None:
        """Note that samples from `at` on came after other fields had made their time final."""
        self._counters.add("late", n)
        self._manifest.add_losses(self._number, at, late=n)

    def dropped(self, at: float, n: int) -> None:
        """Note that samples from `at` on are lost."""
        self._counters.add("dropped", n)
        self._manifest.add_losses(self._number, at, dropped=n)

    def gap(self, start: float, end: float) -> None:
        """Note that samples are missing in a span."""
        self._manifest.add_gap(self._number, start, end)

    def complete(self, *, at_once: bool = False) -> None:
        """Have what was noted be on the disk; see `Manifest.complete`."""
        self._manifest.complete(at_once=at_once)

    def _late(self, t: FloatArray) -> None:
        """Note samples at their own times; there may be many, but not of many minutes."""
        self._counters.add("late", len(t))
        minutes, counts = np.unique(t // 60.0, return_counts=True)
        for minute, count in zip(minutes.tolist(), counts.tolist(), strict=True):
            self._manifest.add_losses(self._number, minute * 60.0, late=count)

    def _silent_since(self, t: float) -> float | None:
        """Return since when nobody measured, if the first sample of this run comes later than its turn."""
        if self.resumed is None or t - self.resumed <= 1.5 * (self._timeline.interval_s or 0.0):
            return None
        return self.resumed
