"""Records to samples: their times, what is not believed, what is missing between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, Column, FloatArray, as_text
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock_nodes.records.learned import as_objects
from sisock_nodes.records.refusals import Refusals
from sisock_nodes.records.settings import RecordSettings, scales_of
from sisock_nodes.records.values import TEXT, BoolTexts, MissingMarks

# Losses that one batch is cut at; more are taken together.
_MOST_CUTS = 16
_COUNTER = 2**32
# Numbers by which Catman's counter goes back at most where records were swapped or repeated; else it was reset.
_BACK = 256
# Seconds by which a time that counts from the start of its source goes back where that was restarted.
_ANEW_S = 10.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that are missing by a counter: between which ones, and how many."""

    after: int
    before: int
    lost: int


class RecordReader:
    """CallerLimiter the records of one source, as they come, into samples.

    Parameters
    ----------
    settings : RecordSettings
    timeline : str
        What the samples are on; fields are called ``<timeline>.<name>``.
    max_ahead_s : float
        Records whose times are farther ahead of the clock than this are refused.
    counters : Counters, optional
        Where others are counted as well.
    outages : OutageLog, optional
        Where it is reported that all records are refused.
    setting : str
        The name of the setting that has the seconds in the unit of their times.

    Attributes
    ----------
    counters : Counters
        ``decoded``, the records that were read; ``ahead``, refused; ``non_finite``, values that are NaN or infinite;
        ``bad_bytes``, bytes of texts that are not UTF-8; ``bad_values``, values that should be bools and are not;
        ``filled``, bools that are missing;
        ``lost`` and ``disordered`` (behind one that came before), by Catman's counter; ``restarts``, of that counter or
        of a time that counts from the start; ``malformed``, of Catman with another number of channels.
    """

    def __init__(
        self,
        settings: RecordSettings,
        timeline: str,
        max_ahead_s: float,
        counters: Counters | None = None,
        outages: OutageLog | None = None,
        setting: str = "time.scale",
    ) -> None:
        scales = scales_of(settings.time.scale, len(settings.timed_by), "time_index")
        self._refusals = outages and Refusals(outages, f"source {timeline}", scales, setting)
        self.counters = counters or Counters()
        for count in (
            *("decoded", "ahead", "non_finite", "bad_bytes", "bad_values", "filled"),
            *("malformed", "lost", "disordered", "restarts"),
        ):
            self.counters.add(count, 0)
        self.layout = settings.layout
        self._settings, self._timeline, self._max_ahead_s = settings, timeline, max_ahead_s
        self._timed_by = list(zip(settings.timed_by, scales, strict=False))
        self._kept = [(f"{timeline}.{self.layout.values[index].name}", index) for index in settings.kept]
        self._bools = {f"{timeline}.{name}": texts for name, texts in settings.bools.items()}
        self._marks = MissingMarks(settings.missing)
        self._is_marked = bool(settings.missing)
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
            With the dtype of the layout.
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
        columns = self._columns(records)
        believed = ~(t > now + self._max_ahead_s)
        if self._refusals:
            self._refusals.saw(t, believed & np.isfinite(t), now)
        if not believed.all():
            self.counters.add("ahead", int((~believed).sum()))
            # The number of each among the kept ones; the last represents the record before the first.
            kept: NDArray[np.int64] = np.r_[np.cumsum(believed) - believed, -1]
            losses = [Loss(int(kept[loss.after]), int(kept[loss.before]), loss.lost) for loss in losses]
            t, columns = t[believed], {name: values[believed] for name, values in columns.items()}
        yield from self._cut(t, columns, losses)

    def _times(self, records: NDArray[np.void], arrival: FloatArray) -> FloatArray:
        time = self._settings.time
        if not self._timed_by:
            return arrival
        t = np.zeros(len(records))
        for index, scale in self._timed_by:
            t += self.layout.column(records, index).astype(np.float64) * scale
        if time.origin == "start":
            t = self._since_start(t, arrival)
        return t + time.offset

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

    def _columns(self, records: NDArray[np.void]) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        non_finite = 0
        for name, index in self._kept:
            values = self.layout.column(records, index, self.counters)
            if name in self._bools:
                values, columns[f"{name}{TEXT}"] = self._flags(values, self._bools[name])
            elif self._is_marked:
                values = self._marked(values)
            if values.dtype.kind == "f":
                non_finite += len(values) - int(np.count_nonzero(np.isfinite(values)))
            columns[name] = values
        if non_finite:
            self.counters.add("non_finite", non_finite)
        return columns

    def _marked(self, values: Column) -> Column:
        """Return values with NaN and empty texts where a mark means that there is none."""
        if values.dtype.kind == "O":
            return as_objects(["" if self._marks.is_missing(text, "string") else text for text in values.tolist()])
        if values.dtype.kind == "b" or not (missing := np.isin(values, self._marks.numbers)).any():
            return values
        return np.where(missing, np.nan, values)

    def _flags(self, values: Column, bools: BoolTexts) -> tuple[Column, Column]:
        """Return bools, and the texts of what is none, of texts or numbers."""
        different, which = np.unique(values, return_inverse=True)
        flags, texts, missing = [], [], []
        for value in different.tolist():
            missing.append(self._marks.is_missing(value, "bool"))
            flag = None if missing[-1] else bools.read(value)
            flags.append(flag is True)
            texts.append("" if flag is not None or missing[-1] else as_text(value))
        self.counters.add("filled", int(np.array(missing)[which].sum()))
        column = as_objects(texts)[which]
        self.counters.add("bad_values", int((column != "").sum()))
        return np.array(flags)[which], column

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
