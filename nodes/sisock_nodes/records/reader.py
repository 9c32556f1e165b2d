"""Records to samples: their times, what is not believed, what is missing between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, Column, FloatArray
from sisock.metrics import Counters
from sisock_nodes.records.settings import RecordSettings

# Losses that one batch is cut at; more are taken together.
_MOST_CUTS = 16
_COUNTER = 2**32
# Numbers by which Catman's counter goes back at most where records were swapped or repeated; else it began anew.
_BACK = 256
# Seconds by which a time that counts from the start of its source goes back where that has started anew.
_ANEW_S = 10.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that a counter says are missing: after which one that came, before which one, and how many."""

    after: int
    before: int
    lost: int


class RecordReader:
    """Turns the records of one source, as they come, into samples.

    Parameters
    ----------
    settings : RecordSettings
    timeline : str
        What the samples are on; fields are called ``<timeline>.<name>``.
    max_ahead_s : float
        Records whose times are farther ahead of the clock than this are refused.

    Attributes
    ----------
    counters : Counters
        ``decoded``, the records that were read; ``ahead``, refused; ``non_finite``, values that are NaN or infinite;
        ``lost`` and ``disordered`` (behind one that came before), by Catman's counter; ``restarts``, of that counter or
        of a time that counts from the start; ``malformed``, of Catman with another number of channels.
    """

    def __init__(self, settings: RecordSettings, timeline: str, max_ahead_s: float) -> None:
        self.counters = Counters("decoded", "ahead", "non_finite", "malformed", "lost", "disordered", "restarts")
        self.layout = settings.layout
        self._settings, self._timeline, self._max_ahead_s = settings, timeline, max_ahead_s
        self._fields = [field.name for field in settings.fields(f"{timeline}.")]
        self._offset = 0.0  # of a time that counts from the start of its source
        self._last: float | None = None  # the last such time
        self._counter: int | None = None  # Catman's, of the last record
        self._ahead = 0  # how much it was higher in one that came before
        self._newest: float | None = None

    def read(self, records: NDArray[np.void], arrival: FloatArray, now: float) -> Iterator[Batch]:
        """Yield the samples of some records, cut where others are missing between them.

        Parameters
        ----------
        records : structured ndarray, shape (n,)
            As the layout says.
        arrival : ndarray of float64, shape (n,)
            When each arrived, UNIX seconds; no two at the same time.
        now : float
            UNIX seconds.
        """
        count = len(records)
        losses: Sequence[Loss] = ()
        if self._settings.catman:
            whole = records["channels"] == len(self.layout.values)
            if not whole.all():
                self.counters.add("malformed", int((~whole).sum()))
                records, arrival = records[whole], arrival[whole]
            losses = self._losses(records["counter"])
        if len(records):
            yield from self._samples(records, arrival, now, losses)
        self.counters.add("decoded", count)  # once they are stored

    def _samples(
        self, records: NDArray[np.void], arrival: FloatArray, now: float, losses: Sequence[Loss]
    ) -> Iterator[Batch]:
        t = self._times(records, arrival)
        columns = {
            name: self.layout.column(records, index)
            for name, index in zip(self._fields, self._settings.kept, strict=True)
        }
        self._count_non_finite(columns)
        believed = ~(t > now + self._max_ahead_s)
        if not believed.all():
            self.counters.add("ahead", int((~believed).sum()))
            # The number of each in what is kept; the last stands for the record before the first.
            kept: NDArray[np.int64] = np.r_[np.cumsum(believed) - believed, -1]
            losses = [Loss(int(kept[loss.after]), int(kept[loss.before]), loss.lost) for loss in losses]
            t, columns = t[believed], {name: values[believed] for name, values in columns.items()}
        yield from self._cut(t, columns, losses)

    def _times(self, records: NDArray[np.void], arrival: FloatArray) -> FloatArray:
        index, time = self._settings.timed_by, self._settings.time
        if index is None:
            return arrival
        t = self.layout.column(records, index).astype(np.float64) * time.scale + time.offset
        if time.origin == "epoch":
            return t
        return self._since_start(t - time.offset, arrival) + time.offset

    def _since_start(self, t: FloatArray, arrival: FloatArray) -> FloatArray:
        """Return UNIX seconds of times since their source started, whose first record is taken to be of its arrival."""
        there = np.flatnonzero(np.isfinite(t))
        if not len(there):
            return t
        before = np.r_[np.inf if self._last is None else self._last, t[there[:-1]]]
        starts = t[there] < before - _ANEW_S
        self.counters.add("restarts", int(starts.sum()) - (self._last is None))
        first = there[starts]
        # Of each record: which start came last before it; 0 is that of an earlier batch.
        which = np.zeros(len(t), np.intp)
        which[first] = 1
        offsets = np.r_[self._offset, arrival[first] - t[first]]
        self._last, self._offset = float(t[there[-1]]), float(offsets[-1])
        return np.asarray(t + offsets[np.cumsum(which)])

    def _losses(self, counter: NDArray[np.uint32]) -> list[Loss]:
        """Return where Catman's counter, which goes up by one, leaves some out."""
        if not len(counter):
            return []
        numbers = counter.astype(np.int64)
        first = numbers[0] - 1 if self._counter is None else self._counter
        steps = (np.diff(numbers, prepend=first) + _COUNTER // 2) % _COUNTER - _COUNTER // 2
        anew = steps < -_BACK
        steps[anew] = 1
        at = np.cumsum(steps)
        highest = np.maximum.accumulate(np.r_[self._ahead, at])
        self._counter, self._ahead = int(numbers[-1]), int(highest[-1] - at[-1])
        steps = at - highest[:-1]
        missing = np.flatnonzero(steps > 1)
        self.counters.add("disordered", int((steps <= 0).sum()))
        self.counters.add("restarts", int(anew.sum()))
        losses = [Loss(int(index) - 1, int(index), int(steps[index]) - 1) for index in missing]
        lost = sum(loss.lost for loss in losses)
        self.counters.add("lost", lost)
        return losses if len(losses) <= _MOST_CUTS else [Loss(losses[0].after, losses[-1].before, lost)]

    def _count_non_finite(self, columns: dict[str, Column]) -> None:
        count = sum(
            len(values) - int(np.isfinite(values).sum()) for values in columns.values() if values.dtype.kind == "f"
        )
        if count:
            self.counters.add("non_finite", count)

    def _cut(self, t: FloatArray, columns: dict[str, Column], losses: Sequence[Loss]) -> Iterator[Batch]:
        if not len(t):
            return
        cuts = {loss.before: loss for loss in losses if loss.before < len(t)}
        for i, j in pairwise(sorted({0, *cuts, len(t)})):
            part = {name: values[i:j] for name, values in columns.items()}
            if (loss := cuts.get(i)) is None:
                yield Batch(self._timeline, t[i:j], part)
            else:
                gap_from = self._newest if loss.after < 0 else float(t[loss.after])
                yield Batch(self._timeline, t[i:j], part, gap_from, loss.lost)
        self._newest = float(t[-1])
