"""The samples of one timeline in memory, bounded by age and by number."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, Column, FloatArray, Timeline
from sisock.history.columns import Texts, Values
from sisock.history.fitting import as_overwritten, fitting
from sisock.history.pieces import Rows, alike
from sisock.metrics import Counters
from sisock.times import FARTHEST_S, Interval

_SMALLEST = 1024


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of a batch is to be stored, in order of time, each time once.

    Attributes
    ----------
    t : ndarray of float64, shape (n,)
    columns : dict of str to ndarray, each of shape (n,)
    finalized_until : float
        What is final once it is stored; minus infinity while nothing is.
    late : ndarray of intp, shape (m,)
        Which of the batch are not, because what lies then is final.
    """

    t: FloatArray
    columns: dict[str, Column]
    finalized_until: float
    late: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class View:
    """Samples of an interval, as they are at one moment.

    Attributes
    ----------
    pieces : list of Rows
        What is final, as views; then what is not, as copies.
    floor : float
        From this time on, nothing that was stored is missing here.
    finalized_until : float
        Minus infinity while nothing is final.
    """

    pieces: list[Rows]
    floor: float
    finalized_until: float


class Ring:
    """The samples of one timeline, in order of time.

    Columns grow in place. What is final is read as views, since nothing of it is written again: an append writes
    behind it, and a move to drop old samples goes into new arrays. What is not final yet is read as copies.

    Parameters
    ----------
    timeline : Timeline
    keep_s : float
        Samples older than this, in seconds before the newest moment known, may be forgotten.
    max_samples : int
        Most samples kept.
    finalized : callable, optional
        Called with the next watermark before a reader may see it; returns how far it may move, which is less while
        samples are not on the disk.
    is_all : bool
        Whether what is forgotten here is gone, and counted.
    clock : callable, optional
        Returns UNIX seconds. Moments that are given are taken for no later than it shows when they are used: while one
        is on its way here, the clock may have been found to be ahead, and be set back.
    """

    def __init__(
        self,
        timeline: Timeline,
        keep_s: float,
        max_samples: int,
        finalized: Callable[[float], float] = lambda until: until,
        *,
        is_all: bool = True,
        clock: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.timeline = timeline
        self.counters = Counters(
            "samples", "late", "refused", "repeated", "overwritten", "expired", "dropped", "quarantined"
        )
        self.floor = -math.inf
        """From this time on, all samples that were stored are here; before it, some have been forgotten."""
        self.overwritten: str | None = None
        """The first sample that was replaced by another one of its time, for a line of the log; None if none was."""
        self.unwritten_from = math.inf
        """From this time on, samples may be in memory only."""
        self.lost = 0
        """How many of those were forgotten; set to 0 by who counts them."""
        self._most_words = math.inf  # bytes
        self._keep_s, self._max, self._finalized, self._is_all = keep_s, max_samples, finalized, is_all
        self._clock = clock
        self._lock = threading.Lock()
        self._t = np.empty(min(_SMALLEST, max_samples), np.float64)
        self._columns: dict[str, Values | Texts] = {}
        self._start = self._end = 0  # live samples are [start, end) of the arrays
        self._final = -math.inf
        self._choosing = False

    def choose(self, batch: Batch, now: float) -> Chosen:
        """Return what of a batch is to be stored; finality stands still until `store` or `leave` is called, as must be.

        Parameters
        ----------
        batch : Batch
            Any order; times that are not finite, or beyond `FARTHEST_S`, are refused and counted, times that are
            already final are late; of samples with one time the last stays, and the others are counted.
        now : float
            UNIX seconds.

        Raises
        ------
        BadData
            If the fields or types are not those of the timeline.
        """
        columns = fitting(batch, self.timeline)
        with self._lock:
            now = self._advance(now)
            self._choosing = True
            t, index, late = self._wanted(batch.t, columns)
            if index is not None:
                columns = {name: values[index] for name, values in columns.items()}
            final = self._final if batch.finalized_until is None else max(self._final, batch.finalized_until)
            if len(t) and not self.timeline.follows_clock:
                # What is ahead of the clock, perhaps by mistake, does not make late what comes at its time.
                final = max(final, min(float(t[-1]), now) - self.timeline.lateness_s)
            return Chosen(t, columns, final, late)

    def store(self, chosen: Chosen, now: float) -> None:
        """Store what was chosen, and forget what is too old or too much."""
        with self._lock:
            # What was forgotten already is not all here again with these.
            kept = slice(int(np.searchsorted(chosen.t, self.floor)), None)
            self.lost += int((chosen.t[: kept.start] >= self.unwritten_from).sum())
            if len(t := chosen.t[kept]):
                self._put(t, {name: values[kept] for name, values in chosen.columns.items()})
            self._forget(len(chosen.t) - len(t))
            self.counters.add("samples", len(chosen.t))
            if chosen.finalized_until > self._final:
                # With samples it was written with them.
                until = chosen.finalized_until if len(chosen.t) else self._finalized(chosen.finalized_until)
                self._final = max(self._final, until)
            self._expire(now)
            self._choosing = False

    def leave(self) -> None:
        """Store nothing of what was chosen."""
        with self._lock:
            self._choosing = False

    def load(self, t: FloatArray, columns: dict[str, Column], floor: float, finalized_until: float) -> None:
        """Begin with samples that were stored before, which are all from `floor` on."""
        with self._lock:
            self._load(t, columns, floor, finalized_until)

    def _load(self, t: FloatArray, columns: dict[str, Column], floor: float, finalized_until: float) -> None:
        self.floor, self._final = floor, finalized_until
        if len(t):
            self._put(t, columns)

    def set_back(self, until: float, removed_from: float) -> int:
        """Forget the samples from a time on, and set the watermark back; return how many samples they were."""
        with self._lock:
            end = self._within(Interval(-math.inf, removed_from))[1]
            removed, self._end = self._end - end, end
            self._move(0)  # readers may have views of what is written from now on
            self._final = until
            if self._start == self._end:
                self.floor = min(self.floor, until)
            return removed

    def put(self, t: FloatArray, columns: dict[str, Column]) -> None:
        """Have more samples, in order of time, none of which is final."""
        with self._lock:
            self._put(t, columns)

    def reload(
        self, t: FloatArray, columns: dict[str, Column], floor: float, finalized_until: float
    ) -> Callable[[], None]:
        """Have these samples in place of all that are here, see `load`; return what undoes that, if none are stored."""
        with self._lock:
            before = self._t, self._columns, self._start, self._end, self.floor, self._final
            self._t, self._columns = np.empty(min(_SMALLEST, self._max), np.float64), {}
            self._start = self._end = 0
            self._load(t, columns, floor, finalized_until)

        def undo() -> None:
            with self._lock:
                self._t, self._columns, self._start, self._end, self.floor, self._final = before

        return undo

    def raise_floor(self, floor: float) -> None:
        """Have what lies before `floor` looked for elsewhere."""
        with self._lock:
            self.floor = max(self.floor, floor)
            self._start += int(np.searchsorted(self._t[self._start : self._end], floor))

    @property
    def size(self) -> int:
        """Bytes that the samples take here."""
        with self._lock:
            return (self._end - self._start) * _row_size(self.timeline) + self._words_size()

    def _words_size(self) -> int:
        return sum(column.size for column in self._columns.values() if isinstance(column, Texts))

    def limit(self, size: int, max_samples: int) -> None:
        """Keep no more than `size` bytes, and no more than `max_samples` samples, from the next append on."""
        with self._lock:
            # Half of it is for the words of strings.
            has_words = any(field.type == "string" for field in self.timeline.fields)
            self._most_words = size // 2 if has_words else math.inf
            rows = size // 2 if has_words else size
            self._max = max(1, min(max_samples, rows // _row_size(self.timeline)))

    def read(self, names: Sequence[str], interval: Interval, now: float) -> View:
        """Return the samples of the fields `names` in `interval`."""
        with self._lock:
            self._advance(now)
            i, j = self._within(interval)
            final = self._start + int(np.searchsorted(self._t[self._start : self._end], self._final))
            k = min(max(i, final), j)
            columns = {name: self._columns[name] for name in names if name in self._columns}
            views = [(self._t[i:k], {name: column.view(i, k) for name, column in columns.items()})]
            views.append((self._t[k:j].copy(), {name: column.copy(k, j) for name, column in columns.items()}))
            floor, until = self.floor, self._final
        # Words are spelled out here, where no append waits for it.
        pieces = [(t, {name: values() for name, values in column.items()}) for t, column in views if len(t)]
        return View(pieces, floor, until)

    def copy(self, start: float, most: int) -> Rows:
        """Return the first samples from `start` on, `most` of them at the most, in all fields, as copies."""
        with self._lock:
            i, _ = self._within(Interval(start, math.inf))
            j = min(i + most, self._end)
            t, columns = self._t[i:j].copy(), {name: column.copy(i, j) for name, column in self._columns.items()}
        return t, {name: values() for name, values in columns.items()}

    def count(self, interval: Interval) -> int:
        """Return how many samples are in `interval`."""
        with self._lock:
            i, j = self._within(interval)
            return j - i

    def finalized_until(self, now: float) -> float | None:
        """Return the time before which nothing will change any more; None while nothing is known."""
        with self._lock:
            self._advance(now)
            return self._final if math.isfinite(self._final) else None

    def span(self) -> Interval | None:
        """Return the times of the oldest and the newest sample; None while there is none."""
        with self._lock:
            if self._start == self._end:
                return None
            return Interval(float(self._t[self._start]), float(self._t[self._end - 1]))

    def newest_before(self, t: float) -> float:
        """Return the time of the newest sample before `t`; minus infinity if there is none."""
        with self._lock:
            end = self._within(Interval(-math.inf, t))[1]
            return float(self._t[end - 1]) if end > self._start else -math.inf

    def _within(self, interval: Interval) -> tuple[int, int]:
        i, j = np.searchsorted(self._t[self._start : self._end], interval)
        return self._start + int(i), self._start + int(j)

    def _advance(self, now: float) -> float:
        """Move the watermark to what is final at a moment, and return that moment, by the clock as it is now."""
        now = min(now, self._clock())
        until = now - self.timeline.lateness_s
        if self.timeline.follows_clock and not self._choosing and until > self._final:
            self._final = max(self._final, self._finalized(until))
        return now

    def _wanted(
        self, t: FloatArray, columns: dict[str, Column]
    ) -> tuple[FloatArray, NDArray[np.intp] | None, NDArray[np.intp]]:
        """Return the times to store, ascending and unique, their indices (None: as they are), and those of the late."""
        # NaN compares false, so one pass finds a batch that is in order, finite and not late.
        if len(t) and max(self._final, -FARTHEST_S) <= t[0] and np.all(t[1:] > t[:-1]) and t[-1] <= FARTHEST_S:
            return t, None, np.empty(0, np.intp)
        finite = np.abs(t) <= FARTHEST_S
        late = finite & (t < self._final)
        index = np.flatnonzero(finite & ~late)
        if not finite.all():
            self.counters.add("refused", int((~finite).sum()))
        index = self._last(t, columns, index[np.argsort(t[index], kind="stable")])
        return t[index], index, np.flatnonzero(late)

    def _last(self, t: FloatArray, columns: dict[str, Column], order: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return, of samples in an order of their times, the last one of each time; the others are counted."""
        sorted_t = t[order]
        equal = sorted_t[1:] == sorted_t[:-1]
        if not equal.any():
            return order
        before, after = order[:-1][equal], order[1:][equal]
        differs = np.zeros(len(before), bool)
        for name, values in columns.items():
            other = ~alike(values[before], values[after])
            if self.overwritten is None and other.any():
                i = int(np.argmax(other))
                self.overwritten = as_overwritten(float(t[before[i]]), name, values[before[i]], values[after[i]])
            differs |= other
        overwritten = int(differs.sum())
        self.counters.add("overwritten", overwritten)
        self.counters.add("repeated", len(before) - overwritten)
        last: NDArray[np.intp] = order[np.append(~equal, True)]
        return last

    def _put(self, t: FloatArray, columns: dict[str, Column]) -> None:
        if not self._columns:
            for field in self.timeline.fields:
                values = columns[field.name]
                room = len(self._t)
                self._columns[field.name] = (
                    Texts(field, room) if field.type == "string" else Values(field, values.dtype, room)
                )
        if self._end > self._start and t[0] <= self._t[self._end - 1]:
            t, columns = self._merged(t, columns)
        if self._end + len(t) > len(self._t):
            self._move(len(t))
        self._t[self._end : self._end + len(t)] = t
        for name, column in self._columns.items():
            column.put(self._end, columns[name])
        self._end += len(t)

    def _merged(self, t: FloatArray, columns: dict[str, Column]) -> tuple[FloatArray, dict[str, Column]]:
        """Take the samples that lie behind the first new one out of the arrays, and return them with the new."""
        i = self._start + int(np.searchsorted(self._t[self._start : self._end], t[0]))
        both = np.concatenate([self._t[i : self._end], t])
        merged = {
            name: np.concatenate([column.copy(i, self._end)(), columns[name]]) for name, column in self._columns.items()
        }
        order = self._last(both, merged, np.argsort(both, kind="stable"))
        self._end = i  # what lies behind is not final, so no reader holds a view of it
        return both[order], {name: values[order] for name, values in merged.items()}

    def _move(self, more: int) -> None:
        """Move the live samples to the front of new arrays with room for `more` and for growth."""
        live = self._end - self._start
        # A quarter of slack makes each sample move four times at most in a full ring, and memory stays
        # within 1.25 of what is kept; while the ring still grows, doubling is cheaper.
        capacity = max(_SMALLEST, live + more + max((live + more) // 4, min(live, 65536)))
        index = slice(self._start, self._end)
        t = np.empty(capacity, np.float64)
        t[:live] = self._t[index]
        self._t = t
        for column in self._columns.values():
            column.move(index, capacity)
        self._start, self._end = 0, live

    def _expire(self, now: float) -> None:
        """Forget what is too old or too much; the room is taken back when the arrays are full."""
        oldest = now - self._keep_s
        start = max(self._start, self._end - self._max)
        too_many_words = self._words_size() > self._most_words
        if too_many_words:
            start = max(start, self._end - (self._end - self._start) // 2)
        if start < self._end and self._t[start] < oldest:
            start += int(np.searchsorted(self._t[start : self._end], oldest))
        if start > self._start:
            self._forget(start - self._start)
            if self._t[start - 1] >= self.unwritten_from:
                self.lost += start - self._start
                self.lost -= int(np.searchsorted(self._t[self._start : start], self.unwritten_from))
            self.floor = float(self._t[start]) if start < self._end else math.nextafter(self._t[start - 1], math.inf)
            self._start = start
        if too_many_words:
            self._move(0)  # which forgets words that no sample has

    def _forget(self, n: int) -> None:
        if self._is_all:
            self.counters.add("expired", n)


def _row_size(timeline: Timeline) -> int:
    """Return the bytes that a sample takes at the most: texts are kept as numbers of words."""
    return 8 + sum(4 if field.type == "string" else 8 for field in timeline.fields)
