"""The samples of one timeline in memory, bounded by age and by number."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadData
from sisock.fields import Batch, Column, Field, FloatArray, Samples, Timeline
from sisock.metrics import Counters
from sisock.times import Interval

_SMALLEST = 1024
_KINDS = {"number": "iuf", "bool": "b", "string": "O"}


class _Values:
    """The values of a number or bool field; the dtype is that of the data, widened when it must.

    A view is taken under the ring's lock and evaluated after it: nothing that it refers to is written again.
    """

    def __init__(self, field: Field, dtype: np.dtype[np.generic], capacity: int) -> None:
        self.field = field
        self._array = np.empty(capacity, dtype)

    def put(self, at: int, values: Column) -> None:
        if values.dtype != self._array.dtype:
            wide = np.result_type(values.dtype, self._array.dtype)
            if wide != self._array.dtype:
                self._array = self._array.astype(wide)
        self._array[at : at + len(values)] = values

    def view(self, start: int, end: int) -> Callable[[], Column]:
        view = self._array[start:end]
        return lambda: view

    def move(self, index: slice | NDArray[np.intp], capacity: int) -> None:
        kept = self._array[index]
        self._array = np.empty(capacity, self._array.dtype)
        self._array[: len(kept)] = kept


class _Words:
    """The values of a string field: a code for each sample and a dictionary of the words."""

    def __init__(self, field: Field, capacity: int) -> None:
        self.field = field
        self._codes = np.empty(capacity, np.int32)
        self._words: list[str] = []
        self._code_of: dict[str, int] = {}

    def put(self, at: int, values: Column) -> None:
        words, inverse = np.unique(values.astype(np.str_), return_inverse=True)
        self._codes[at : at + len(values)] = np.array([self._code(str(w)) for w in words], np.int32)[inverse]

    def _code(self, word: str) -> int:
        code = self._code_of.get(word)
        if code is None:
            code = self._code_of[word] = len(self._words)
            self._words.append(word)
        return code

    def view(self, start: int, end: int) -> Callable[[], Column]:
        codes, known = self._codes[start:end], self._words

        def spelled() -> Column:
            used, inverse = np.unique(codes, return_inverse=True)
            words = np.empty(len(used), object)
            words[:] = [known[code] for code in used]
            return words[inverse]

        return spelled

    def move(self, index: slice | NDArray[np.intp], capacity: int) -> None:
        used, inverse = np.unique(self._codes[index], return_inverse=True)
        self._words = [self._words[code] for code in used]  # words that nobody says any more are forgotten
        self._code_of = {word: code for code, word in enumerate(self._words)}
        self._codes = np.empty(capacity, np.int32)
        self._codes[: len(inverse)] = inverse


class Ring:
    """The samples of one timeline, in order of time.

    Columns grow in place and are read as views: an append only writes behind what a reader has seen, and
    what must be rewritten (a merge, a move to drop old samples) goes into new arrays.

    Parameters
    ----------
    timeline : Timeline
    keep_s : float
        Samples older than this, in seconds before the newest moment known, may be forgotten.
    max_samples : int
        Most samples kept.
    """

    def __init__(self, timeline: Timeline, keep_s: float, max_samples: int) -> None:
        self.timeline = timeline
        self.counters = Counters("samples", "late", "refused", "repeated", "expired", "dropped")
        self._keep_s, self._max = keep_s, max_samples
        self._lock = threading.Lock()
        self._t = np.empty(min(_SMALLEST, max_samples), np.float64)
        self._columns: dict[str, _Values | _Words] = {}
        self._start = self._end = 0  # live samples are [start, end) of the arrays
        self._final = -np.inf
        # Bounded: 10,000 gaps say enough about a source.
        self._gaps: deque[tuple[float, float]] = deque(maxlen=10_000)

    def append(self, batch: Batch, now: float) -> Batch | None:
        """Store what of `batch` is neither late nor refused, and return that, in order of time; None if nothing is.

        Parameters
        ----------
        batch : Batch
            Any order; times that are not finite are refused, times that are already final are late; of
            samples with one time the last stays. All of it is counted.
        now : float
            UNIX seconds.

        Raises
        ------
        BadData
            If the fields or types are not those of the timeline; nothing of the batch is stored then.
        """
        columns = _fitting(batch, self.timeline)
        with self._lock:
            self._advance(now)
            t, chosen = self._chosen(batch.t)
            if chosen is not None:
                columns = {name: values[chosen] for name, values in columns.items()}
            if len(t):
                self._store(t, columns)
                self.counters.add("samples", len(t))
                if not self.timeline.follows_clock:
                    self._final = max(self._final, float(t[-1]) - self.timeline.lateness_s)
                if batch.gap_from is not None and batch.gap_from < t[0]:
                    self._gaps.append((batch.gap_from, float(t[0])))
            if batch.dropped:
                self.counters.add("dropped", batch.dropped)
            self._expire(now)
            return replace(batch, t=t, columns=columns, finalized_until=self._watermark()) if len(t) else None

    def read(self, names: Sequence[str], interval: Interval, now: float) -> Samples | None:
        """Return the samples of the fields `names` in `interval`, as views; None when there are none."""
        with self._lock:
            self._advance(now)
            live = self._t[self._start : self._end]
            i, j = self._start + np.searchsorted(live, interval)
            if i == j:
                return None
            t, final = self._t[i:j], None if interval.end <= self._final else self._watermark()
            views = {name: self._columns[name].view(int(i), int(j)) for name in names}
            gaps = [gap for gap in self._gaps if gap[0] < interval.end and gap[1] > interval.start]
            dropped, late = self.counters["dropped"], self.counters["late"]
        # Words are spelled out here, where no append waits for it.
        return Samples(t, {name: view() for name, view in views.items()}, final, gaps, dropped, late)

    def holds(self, interval: Interval) -> bool:
        """Whether there is at least one sample in `interval`."""
        with self._lock:
            i, j = np.searchsorted(self._t[self._start : self._end], interval)
            return bool(i < j)

    def finalized_until(self, now: float) -> float | None:
        """Return the time before which nothing will change any more; None while nothing is known."""
        with self._lock:
            self._advance(now)
            return self._watermark()

    def span(self) -> Interval | None:
        """Return the times of the oldest and the newest sample; None while there is none."""
        with self._lock:
            if self._start == self._end:
                return None
            return Interval(float(self._t[self._start]), float(self._t[self._end - 1]))

    def _watermark(self) -> float | None:
        return self._final if np.isfinite(self._final) else None

    def _advance(self, now: float) -> None:
        if self.timeline.follows_clock:
            self._final = max(self._final, now - self.timeline.lateness_s)

    def _chosen(self, t: FloatArray) -> tuple[FloatArray, NDArray[np.intp] | None]:
        """Return the times that are stored, ascending and unique, and their indices (None: all, as they are)."""
        # NaN compares false, so one pass finds a batch that is in order, finite and not late.
        if len(t) and t[0] >= self._final and np.all(t[1:] > t[:-1]) and np.isfinite(t[-1]) and t[0] == t[0]:
            return t, None
        finite = np.isfinite(t)
        late = finite & (t < self._final)
        index = np.flatnonzero(finite & ~late)
        index = index[np.argsort(t[index], kind="stable")]
        last = np.append(t[index][1:] != t[index][:-1], True)[: len(index)]
        for name, count in (("refused", (~finite).sum()), ("late", late.sum()), ("repeated", (~last).sum())):
            if count:
                self.counters.add(name, int(count))
        index = index[last]
        return t[index], index

    def _store(self, t: FloatArray, columns: dict[str, Column]) -> None:
        if not self._columns:
            for field in self.timeline.fields:
                values = columns[field.name]
                room = len(self._t)
                self._columns[field.name] = (
                    _Words(field, room) if field.type == "string" else _Values(field, values.dtype, room)
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
        order = np.argsort(both, kind="stable")
        last = np.append(both[order][1:] != both[order][:-1], True)
        self.counters.add("repeated", int((~last).sum()))
        order = order[last]
        merged = {
            name: np.concatenate([column.view(i, self._end)(), columns[name]])[order]
            for name, column in self._columns.items()
        }
        self._end = i
        self._move(len(order))  # readers may hold views of what is rewritten now
        return both[order], merged

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
        if start < self._end and self._t[start] < oldest:
            start += int(np.searchsorted(self._t[start : self._end], oldest))
        if start > self._start:
            self.counters.add("expired", start - self._start)
            self._start = start
        while self._gaps and self._gaps[0][1] < oldest:
            self._gaps.popleft()


def _fitting(batch: Batch, timeline: Timeline) -> dict[str, Column]:
    """Return the batch's columns in the timeline's order, or raise BadData where they do not fit it."""
    names = [f.name for f in timeline.fields]
    if set(names) != batch.columns.keys():
        missing = sorted(set(names) - batch.columns.keys())
        unknown = sorted(batch.columns.keys() - set(names))
        raise BadData(
            f"timeline {timeline.name!r}: batch "
            + " and ".join(
                f"{what} {', '.join(map(repr, which[:10]))}"
                for what, which in (("lacks", missing), ("has the unknown", unknown))
                if which
            )
        )
    for field in timeline.fields:
        values = batch.columns[field.name]
        if values.dtype.kind not in _KINDS[field.type]:
            raise BadData(f"timeline {timeline.name!r}: field {field.name!r} is a {field.type}, not {values.dtype}")
        if len(values) != len(batch.t):
            raise BadData(
                f"timeline {timeline.name!r}: field {field.name!r} has {len(values)} values for {len(batch.t)} times"
            )
    return {name: batch.columns[name] for name in names}
