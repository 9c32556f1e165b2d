"""The segments of a timeline at one moment, and reading one of them, which may turn out to be damaged."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from sisock.errors import BadHistory
from sisock.fields import Column
from sisock.history.blocks import Block
from sisock.history.entry import Entry
from sisock.history.layout import Commit
from sisock.history.opened import Opened
from sisock.history.sealed import Sealed
from sisock.history.segment import Segment
from sisock.times import Interval

Damaged = Callable[[str, Entry, BadHistory], "SegmentAccess"]
"""Called with a timeline, the entry of a segment that is damaged or missing, and the error.

Returns the timeline as it is stored from then on, from which the reader takes what the segment was to give.
"""

# How often a reader continues with other segments, since those that it had are damaged or missing.
_MOST_REPLACED = 50

_T = TypeVar("_T")


class SegmentAccess:
    """The segments of a timeline, as they are at one moment.

    Parameters
    ----------
    name : str
    folder : Path
        Where the files of its segments are.
    entries : sequence of Entry
        Sealed segments in order of time, then open ones in the order in which they were begun.
    opened : Opened
    damaged : callable
    missing : sequence of (float, float)
        Where samples are that are not served now, from start to end.
    replaced : int
        How often a reader has had to continue with other segments before it came to these.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        entries: Sequence[Entry],
        opened: Opened,
        damaged: Damaged,
        missing: Sequence[tuple[float, float]] = (),
        replaced: int = 0,
    ) -> None:
        self.missing, self._replaced = missing, replaced
        self.name, self.folder, self.entries = name, folder, tuple(entries)
        self._opened, self._damaged = opened, damaged
        self._sealed = [entry for entry in self.entries if entry.state == "sealed"]
        self._open = [entry for entry in self.entries if entry.state == "open"]
        self.sealed_end = max((entry.last for entry in self._sealed if entry.last is not None), default=-math.inf)
        """Time of the last sample of the sealed segments; up to it, they are the whole truth."""

    def path(self, entry: Entry) -> Path:
        """Return the file of a segment."""
        return self.folder / f"{entry.id:08d}.{'parquet' if entry.state == 'sealed' else 'seg'}"

    def status(self) -> dict[str, int]:
        """Return how many segments there are, and the bytes that they take."""
        return {
            "segments": len(self.entries),
            "sealed": len(self._sealed),
            "bytes": sum(entry.bytes for entry in self.entries),
        }

    def names(self) -> set[str]:
        """Return the names of all fields that were measured at any time."""
        return {field.name for entry in self.entries for field in entry.fields}

    def of(self, entry: Entry) -> Self:
        """Return one segment only; see `exactly`."""
        return self.exactly([entry])

    def exactly(self, entries: Sequence[Entry] | None = None) -> Self:
        """Return these segments, for callers that write in place of them: one that is damaged is an error."""
        entries = self.entries if entries is None else entries
        return type(self)(self.name, self.folder, entries, self._opened, self._damaged, (), _MOST_REPLACED)

    def spans(self) -> Iterator[tuple[Entry, Interval]]:
        """Yield the segments that have samples, with the times of the first and the last."""
        found: list[tuple[Entry, Interval]] = []
        try:
            for entry in self.entries:
                if entry.first is not None and entry.last is not None:
                    found.append((entry, Interval(entry.first, entry.last)))
                elif committed := self._committed(entry):
                    segment, rows = committed
                    _, first, last = segment.order(rows)
                    found.append((entry, Interval(first, last)))
        except Replaced as replaced:
            return self._now(replaced.entry, replaced.error).spans()
        return iter(found)

    def _overlapping(self, interval: Interval) -> list[Entry]:
        """Return the sealed segments that reach into an interval."""
        return [e for e in self._sealed if overlap(Interval(e.first or 0.0, e.last or 0.0), interval)]

    def _committed(self, entry: Entry) -> tuple[Segment, int] | None:
        """Return an open segment and how many rows it has; None if it has none."""
        segment, commit = self._whole(entry)
        return (segment, commit.rows) if commit.rows else None

    def _whole(self, entry: Entry, names: Sequence[str] = ()) -> tuple[Segment, Commit]:
        """Return an open segment and its newest commit; its times and the values of fields are whole up to it."""
        try:
            segment = self._opened.segment(self.path(entry), self.name, entry.id)
            commit = segment.committed(entry.rows)
            segment.verify(commit, names)
        except (BadHistory, FileNotFoundError) as error:
            raise Replaced(entry, error) from error
        return segment, commit

    def _values(self, entry: Entry, segment: Segment, names: Sequence[str], start: int, end: int) -> dict[str, Column]:
        try:
            found = ((name, segment.values(name, start, end)) for name in names)
            return {name: values for name, values in found if values is not None}
        except BadHistory as error:  # its words are in a file of their own
            raise Replaced(entry, error) from error

    def _within(
        self, entry: Entry, segment: Segment, rows: int, names: Sequence[str], start: float, end: float
    ) -> Block:
        t = segment.times(0, rows)
        inside = (t >= start) & (t < end)
        columns = self._values(entry, segment, names, 0, rows)
        return t[inside], {name: values[inside] for name, values in columns.items()}

    def _read(
        self, entry: Entry, interval: Interval, work: Callable[[Sealed], _T], instead: Callable[[Self, Interval], _T]
    ) -> _T:
        """Read an interval from a sealed segment; `instead` of a damaged or missing one, the timeline as it is now.

        Of the interval, `instead` gets the part that the segment covers.
        """
        try:
            return work(self._opened.sealed(self.path(entry), entry))
        except (BadHistory, FileNotFoundError) as error:
            first, last = entry.first or 0.0, entry.last or 0.0
            covered = Interval(max(interval.start, first), min(interval.end, math.nextafter(last, math.inf)))
            return instead(self._now(entry, error), covered)

    def _now(self, entry: Entry, error: BadHistory | FileNotFoundError) -> Self:
        """Report that a segment is damaged or missing, and return the timeline as it is stored from then on.

        Raises
        ------
        BadHistory
            If that has happened too often.
        """
        self._opened.forget(self.path(entry))
        known = error if isinstance(error, BadHistory) else BadHistory(f"{self.path(entry)} is missing")
        now = self._damaged(self.name, entry, known)
        if self._replaced >= _MOST_REPLACED:
            raise known
        return type(self)(
            self.name, self.folder, now.entries, self._opened, self._damaged, now.missing, self._replaced + 1
        )


class Replaced(Exception):
    """An open segment is damaged or missing; see `SegmentAccess._now`."""

    def __init__(self, entry: Entry, error: BadHistory | FileNotFoundError) -> None:
        super().__init__(str(error))
        self.entry, self.error = entry, error


def overlap(span: Interval, interval: Interval) -> bool:
    """Whether samples from `span.start` to `span.end`, both included, reach into an interval."""
    return span.end >= interval.start and span.start < interval.end
