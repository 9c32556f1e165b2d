"""Samples of one timeline as arrays in order of time, bounded by age, number and size."""

import math
import threading

import numpy as np
from numpy.typing import NDArray

from sisock.dtypes import together
from sisock.fields import Column, FloatArray, Timeline
from sisock.history.blocks import Block, alike
from sisock.history.columns import Texts, Values
from sisock.history.fitting import as_overwritten
from sisock.metrics import Counters
from sisock.times import Interval

SMALLEST = 1024
# Bytes for which there is room at first, at the most.
_SMALLEST_BYTES = 2**23


class Arrays:
    """The samples of one timeline in memory.

    Columns grow in place: an append writes behind the samples so far, and a move that drops old samples goes into
    new arrays.

    Parameters
    ----------
    timeline : Timeline
    keep_s : float
        Samples older than this, in seconds before the newest moment known, may be forgotten.
    max_samples : int
        Most samples kept.
    is_all : bool
        Whether samples that are forgotten here are lost, and counted.
    """

    def __init__(self, timeline: Timeline, keep_s: float, max_samples: int, *, is_all: bool) -> None:
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
        """How many of those were forgotten; the caller that counts them sets it to 0."""
        self._most_words = math.inf  # bytes
        # Of arrays, the values count.
        max_samples = max(1, max_samples // max((field.size for field in timeline.fields), default=1))
        self._smallest = max(1, min(SMALLEST, max_samples, _SMALLEST_BYTES // _row_size(timeline)))
        self._keep_s, self._max, self._is_all = keep_s, max_samples, is_all
        self._lock = threading.Lock()
        self._t = np.empty(self._smallest, np.float64)
        self._columns: dict[str, Values | Texts] = {}
        self._start = self._end = 0  # live samples are [start, end) of the arrays

    def put(self, t: FloatArray, columns: dict[str, Column]) -> None:
        """Have more samples, in order of time, none of which is final."""
        with self._lock:
            self._put(t, columns)

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

    def copy(self, start: float, most: int) -> Block:
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

    def _put(self, t: FloatArray, columns: dict[str, Column]) -> None:
        if not self._columns:
            for field in self.timeline.fields:
                values = columns[field.name]
                room = len(self._t)
                self._columns[field.name] = (
                    Texts(field, room) if field.type == "string" else Values(field, values.dtype, room)
                )
        if self._end > self._start and t.item(0) <= self._t.item(self._end - 1):
            t, columns = self._merged(t, columns)
        end = self._end + len(t)
        if end > len(self._t):
            self._move(len(t))
            end = self._end + len(t)
        self._t[self._end : end] = t
        for name, column in self._columns.items():
            column.put(self._end, columns[name])
        self._end = end

    def _merged(self, t: FloatArray, columns: dict[str, Column]) -> tuple[FloatArray, dict[str, Column]]:
        """Take the samples that lie behind the first new one out of the arrays, and return them with the new."""
        i = self._start + int(np.searchsorted(self._t[self._start : self._end], t[0]))
        both = np.concatenate([self._t[i : self._end], t])
        merged = {
            name: together([column.copy(i, self._end)(), columns[name]], object)
            for name, column in self._columns.items()
        }
        order = self._last(both, merged, np.argsort(both, kind="stable"))
        self._end = i  # later samples are not final, so no reader holds a view of them
        return both[order], {name: values[order] for name, values in merged.items()}

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

    def _move(self, more: int) -> None:
        """Move the live samples to the front of new arrays with room for `more` and for growth."""
        live = self._end - self._start
        # A quarter of slack makes each sample move four times at most in a full ring, and memory stays
        # within 1.25 of the samples kept; while the ring still grows, doubling is cheaper.
        capacity = max(self._smallest, live + more + max((live + more) // 4, min(live, 65536)))
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
        too_many_words = self._most_words < math.inf and self._words_size() > self._most_words
        if too_many_words:
            start = max(start, self._end - (self._end - self._start) // 2)
        if start < self._end and self._t.item(start) < oldest:
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
    return 8 + sum(4 if field.type == "string" else 8 * field.size for field in timeline.fields)
