"""The samples of one timeline in memory, bounded by age and by number."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, Column, FloatArray, Timeline
from sisock.history.arrays import Arrays
from sisock.history.blocks import Block
from sisock.history.fitting import fitting
from sisock.times import FARTHEST_S, Interval

_NONE = np.empty(0, np.intp)


class Prepared(NamedTuple):
    """The samples of a batch that are to be stored, in order of time, each time once.

    Attributes
    ----------
    t : ndarray of float64, shape (n,)
    columns : dict of str to ndarray, each of shape (n,)
    finalized_until : float
        The watermark once they are stored; minus infinity while there is none.
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
    pieces : list of Block
        Finalized samples, as views; then those that are not final, as copies.
    floor : float
        From this time on, nothing that was stored is missing here.
    finalized_until : float
        Minus infinity while nothing is final.
    """

    pieces: list[Block]
    floor: float
    finalized_until: float


class Ring(Arrays):
    """The samples of one timeline, in order of time.

    Finalized samples are read as views, since they are not written again: an append writes behind them, and a move to
    drop old samples goes into new arrays. Samples that are not final yet are read as copies. Parameters besides these
    are those of `Arrays`.

    Parameters
    ----------
    finalized : callable, optional
        Called with the next watermark before a reader may see it; returns how far it may move, which is less while
        samples are not on the disk.
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
        super().__init__(timeline, keep_s, max_samples, is_all=is_all)
        self._finalized, self._clock = finalized, clock
        self._final = -math.inf
        self._preparing = False

    def prepare(self, batch: Batch, now: float) -> Prepared:
        """Return the samples of a batch that are to be stored; the watermark stands still until `commit` or `rollback`.

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
            self._preparing = True
            t, index, late = self._wanted(batch.t, columns)
            if index is not None:
                columns = {name: values[index] for name, values in columns.items()}
            final = self._final if batch.finalized_until is None else max(self._final, batch.finalized_until)
            if len(t) and not self.timeline.follows_clock:
                # A sample ahead of the clock, perhaps by mistake, does not make later ones late.
                final = max(final, min(t.item(-1), now) - self.timeline.lateness_s)
            return Prepared(t, columns, final, late)

    def commit(self, prepared: Prepared, now: float) -> None:
        """Store what was prepared, and forget what is too old or too much."""
        with self._lock:
            t, columns = prepared.t, prepared.columns
            # Times of which samples were forgotten are not complete with these.
            if len(t) and t.item(0) < self.floor and (n := int(t.searchsorted(self.floor))):
                self.lost += int((t[:n] >= self.unwritten_from).sum())
                self._forget(n)
                t, columns = t[n:], {name: values[n:] for name, values in columns.items()}
            if len(t):
                self._put(t, columns)
            self.counters.add("samples", len(prepared.t))
            if prepared.finalized_until > self._final:
                # With samples it was written with them.
                until = prepared.finalized_until if len(prepared.t) else self._finalized(prepared.finalized_until)
                self._final = max(self._final, until)
            self._expire(now)
            self._preparing = False

    def rollback(self) -> None:
        """Store nothing of what was prepared."""
        with self._lock:
            self._preparing = False

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

    def reload(
        self, t: FloatArray, columns: dict[str, Column], floor: float, finalized_until: float
    ) -> Callable[[], None]:
        """Have these samples in place of all that are here, see `load`; return what undoes that, if none are stored."""
        with self._lock:
            before = self._t, self._columns, self._start, self._end, self.floor, self._final
            self._t, self._columns = np.empty(self._smallest, np.float64), {}
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
        # Texts are decoded here, where no append waits for it.
        pieces = [(t, {name: values() for name, values in column.items()}) for t, column in views if len(t)]
        return View(pieces, floor, until)

    def finalized_until(self, now: float) -> float | None:
        """Return the time before which nothing will change any more; None while nothing is known."""
        with self._lock:
            self._advance(now)
            return self._final if math.isfinite(self._final) else None

    def _advance(self, now: float) -> float:
        """Move the watermark on to a moment, and return that moment, by the clock as it is now."""
        now = min(now, self._clock())
        until = now - self.timeline.lateness_s
        if self.timeline.follows_clock and not self._preparing and until > self._final:
            self._final = max(self._final, self._finalized(until))
        return now

    def _wanted(
        self, t: FloatArray, columns: dict[str, Column]
    ) -> tuple[FloatArray, NDArray[np.intp] | None, NDArray[np.intp]]:
        """Return the times to store, ascending and unique, their indices (None: as they are), and those of the late."""
        # NaN compares false, so one pass finds a batch that is in order, finite and not late.
        n = len(t)
        is_between = n > 0 and max(self._final, -FARTHEST_S) <= t.item(0) and t.item(n - 1) <= FARTHEST_S
        if is_between and (n == 1 or (t[1:] > t[:-1]).all()):
            return t, None, _NONE
        finite = np.abs(t) <= FARTHEST_S
        late = finite & (t < self._final)
        index = np.flatnonzero(finite & ~late)
        if not finite.all():
            self.counters.add("refused", int((~finite).sum()))
        index = self._last(t, columns, index[np.argsort(t[index], kind="stable")])
        return t[index], index, np.flatnonzero(late)
