"""Samples that the source of a timeline still has from before the history of its node."""

import threading

import numpy as np

from sisock.history.blocks import Block, concatenated, merged
from sisock.source import Archive
from sisock.times import Interval

# Values, times included, that are kept for the next question.
_MOST_KEPT = 20_000_000
_NOTHING: Block = (np.empty(0), {})


class ArchiveCache:
    """The past of a timeline, read when it is asked for; what was read last is kept.

    Parameters
    ----------
    archive : Archive
    timeline : str
    """

    def __init__(self, archive: Archive, timeline: str) -> None:
        self._archive, self._timeline = archive, timeline
        self._lock = threading.Lock()
        self._known: Interval | None = None
        self._rows = _NOTHING

    def has(self, interval: Interval) -> bool:
        """Whether there is anything in an interval."""
        return self._archive.has_past(self._timeline, interval)

    def rows(self, interval: Interval, final: float) -> Block:
        """Return all samples in an interval, in order of time, each time once.

        Parameters
        ----------
        interval : Interval
        final : float
            UNIX seconds; what lies before it does not change any more, so that it may be kept.

        Raises
        ------
        SisockError
            If the source cannot give them.
        """
        with self._lock:
            known, rows = self._known, self._rows
            if known is None or not known.start <= interval.start <= known.end:
                known, rows = interval, self._read(interval)
            elif interval.end > known.end:  # a window that moves on
                rows = concatenated([_within(rows, interval), self._read(Interval(known.end, interval.end))])
                known = interval
            if len(rows[0]) * (len(rows[1]) + 1) <= _MOST_KEPT and known.start < final:
                self._known = Interval(known.start, min(known.end, final))
                self._rows = _within(rows, self._known)
            return _within(rows, interval)

    def _read(self, interval: Interval) -> Block:
        batches = self._archive.past(self._timeline, interval)
        return _within(merged([(batch.t, dict(batch.columns)) for batch in batches]), interval)


def _within(rows: Block, interval: Interval) -> Block:
    t, columns = rows
    part = slice(*np.searchsorted(t, interval).tolist())
    return t[part], {name: values[part] for name, values in columns.items()}
