"""Reading a timeline's samples from disk: sealed segments, their pyramids, and open segments."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from sisock.bins import Bins, binned, regrouped
from sisock.downsample import METHODS, Method
from sisock.errors import BadHistory
from sisock.fields import Column, Epochs, Field, FloatArray
from sisock.history.catalogue import Entry
from sisock.history.layout import Commit
from sisock.history.pieces import Rows, concatenated
from sisock.history.sealed import Sealed, files_of
from sisock.history.segment import Segment
from sisock.times import Interval

Damaged = Callable[[str, Entry, BadHistory], "StoredTimeline"]
"""Called with a timeline, the entry of a segment that is damaged or missing, and the error.

Returns the timeline as it is stored from then on, from which the reader takes what the segment was to give.
"""

_MOST_OPENED = 128
# How often a reader continues with other segments, since those that it had are damaged or missing.
_MOST_REPLACED = 50

_T = TypeVar("_T")


class Opened:
    """The files of segments that are open for reading; the ones used longest ago are closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segments: OrderedDict[Path, Segment | Sealed] = OrderedDict()

    def segment(self, path: Path, timeline: str, number: int) -> Segment:
        """Return an open segment.

        Raises
        ------
        BadHistory
            If the file is another segment, or cannot be read.
        """
        found = self._get(path, lambda: Segment(path))
        assert isinstance(found, Segment)  # noqa: S101 - by the ending of its name
        if not found.layout.belongs_to(timeline, number):
            raise BadHistory(f"{path} is segment {found.layout.number} of timeline {found.layout.timeline!r}")
        return found

    def sealed(self, path: Path, entry: Entry) -> Sealed:
        """Return a sealed segment; it is opened again if its files were replaced or written to."""
        found = self._get(path, lambda: Sealed(path, entry))
        assert isinstance(found, Sealed)  # noqa: S101 - by the ending of its name
        if found.files == files_of(path):
            return found
        self.forget(path)
        return Sealed(path, entry)

    def forget(self, path: Path) -> None:
        """Close a segment."""
        with self._lock:
            self._segments.pop(path, None)

    def _get(self, path: Path, make: Callable[[], Segment | Sealed]) -> Segment | Sealed:
        with self._lock:
            if path in self._segments:
                self._segments.move_to_end(path)
                return self._segments[path]
        made = make()
        with self._lock:
            self._segments[path] = made
            if len(self._segments) > _MOST_OPENED:
                self._segments.popitem(last=False)
        return made


class StoredTimeline:
    """A timeline's samples on disk, as they are at one moment.

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

    def of(self, entry: Entry) -> "StoredTimeline":
        """Return one segment only; see `exactly`."""
        return self.exactly([entry])

    def exactly(self, entries: Sequence[Entry] | None = None) -> "StoredTimeline":
        """Return these segments, for callers that write in place of them: one that is damaged is an error."""
        entries = self.entries if entries is None else entries
        return StoredTimeline(self.name, self.folder, entries, self._opened, self._damaged, (), _MOST_REPLACED)

    def span(self) -> Interval | None:
        """Return the times of the oldest and the newest sample; None while there is none."""
        spans = [span for _, span in self.spans()]
        return Interval(min(s.start for s in spans), max(s.end for s in spans)) if spans else None

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
        except _Replaced as replaced:
            return replaced.stored.spans()
        return iter(found)

    def names(self) -> set[str]:
        """Return the names of all fields that were measured at any time."""
        return {field.name for entry in self.entries for field in entry.fields}

    def at_most(self, interval: Interval) -> int:
        """Return an upper bound of the samples in an interval, at once."""
        try:
            in_open = sum(found[1] for entry in self._open if (found := self._committed(entry)))
        except _Replaced as replaced:
            return replaced.stored.at_most(interval)
        return sum(entry.rows for entry in self._overlapping(interval)) + in_open

    def at_least(self, interval: Interval) -> int:
        """Return a lower bound of the samples in an interval, without reading any."""
        return sum(
            self._read(
                entry,
                lambda sealed: sealed.at_least(interval),
                lambda stored: stored.at_least(within),  # noqa: B023 - it is called at once
            )
            for entry, within in self._cut(interval)
        )

    def fields(self, interval: Interval) -> list[Field]:
        """Return the fields that were measured in an interval, each as it was last."""
        found: dict[str, Field] = {}
        for entry, span in self.spans():
            if _overlap(span, interval) and self._holds(entry, span, interval):
                found |= {field.name: field for field in entry.fields}
        return list(found.values())

    def epochs(self, interval: Interval, names: Sequence[str]) -> Epochs:
        """Return, for fields that were measured in an interval, since when their type and units were what."""
        found: Epochs = {name: [] for name in names}
        before: tuple[Field, ...] = ()
        for entry, span in self.spans():
            if entry.fields is before or not _overlap(span, interval):
                continue
            before = entry.fields
            for field in before:
                epochs = found.get(field.name)
                if epochs is not None and (not epochs or _quantity(epochs[-1][1]) != _quantity(field)):
                    epochs.append((max(span.start, interval.start), field))
        return {name: epochs for name, epochs in found.items() if epochs}

    def count(self, interval: Interval) -> int:
        """Return how many samples are in an interval."""
        total = sum(len(t) for t, _ in self.open_rows([], interval))
        for entry, within in self._cut(interval):
            if entry.first is not None and entry.last is not None:
                whole = interval.start <= entry.first and entry.last < interval.end
                total += entry.rows if whole else self._count(entry, within)
        return total

    def _count(self, entry: Entry, interval: Interval) -> int:
        return self._read(entry, lambda sealed: sealed.count(interval), lambda stored: stored.count(interval))

    def rows(self, names: Sequence[str], interval: Interval) -> Iterator[Rows]:
        """Yield the samples in an interval, in pieces that follow each other in time."""
        for entry, within in self._cut(interval):
            pieces = self._read(
                entry,
                lambda sealed: [sealed.rows(interval, names)],
                lambda stored: list(stored.rows(names, within)),  # noqa: B023 - it is called at once
            )
            yield from (rows for rows in pieces if len(rows[0]))
        yield from self.open_rows(names, interval)

    def bins(self, names: Sequence[str], interval: Interval, stride: float, method: Method) -> Iterator[Bins]:
        """Yield the samples in an interval, summarized by bins, in pieces that follow each other in time.

        Two pieces may have parts of one bin.
        """
        for entry, within in self._cut(interval):
            yield from self._read(
                entry,
                lambda sealed: list(_sealed_bins(sealed, names, interval, stride, method)),
                lambda stored: list(stored.bins(names, within, stride, method)),  # noqa: B023 - it is called at once
            )
        for t, columns in self.open_rows(names, interval):
            yield binned(t, columns, stride, METHODS[method].statistics)

    def open_rows(self, names: Sequence[str], interval: Interval) -> Iterator[Rows]:
        """Yield the samples of the open segments: as views where they came in order, else merged."""
        start = max(interval.start, math.nextafter(self.sealed_end, math.inf))
        try:
            for piece in self._open_pieces(names, start, interval.end):
                yield piece
                start = math.nextafter(piece[0][-1], math.inf)
        except _Replaced as replaced:
            if start < interval.end:
                yield from replaced.stored.rows(names, Interval(start, interval.end))

    def _open_pieces(self, names: Sequence[str], start: float, end: float) -> Iterator[Rows]:
        pieces: list[tuple[Entry, Segment, int]] = []
        in_order, newest = True, -math.inf
        for entry in self._open:
            if found := self._committed(entry):
                segment, rows = found
                ordered, first, last = segment.order(rows)
                if last >= start and first < end:
                    self._whole(entry, names)
                    in_order = in_order and ordered and first > newest
                    newest = max(newest, last)
                    pieces.append((entry, segment, rows))
        if not in_order:
            yield from _merged([self._within(*piece, names, start, end) for piece in pieces])
            return
        for entry, segment, rows in pieces:
            i, j = np.searchsorted(segment.times(0, rows), (start, end)).tolist()
            if i < j:
                yield segment.times(i, j), self._values(entry, segment, names, i, j)

    def newest_before(self, t: float) -> float:
        """Return the time of the newest sample before `t`; minus infinity if there is none."""
        newest = -math.inf
        for _, span in self.spans():
            if span.end < t:
                newest = max(newest, span.end)
            elif span.start < t:
                for times, _ in self.rows([], Interval(span.start, t)):
                    newest = max(newest, float(times[-1]))
        return newest

    def newest_times(self, most: int) -> FloatArray:
        """Return the times of the newest samples, `most` at the most, as far as the newest segment reaches."""
        span = max((span for _, span in self.spans()), key=lambda each: each.end, default=None)
        if span is None:
            return np.empty(0)
        pieces = [t for t, _ in self.rows([], Interval(span.start, math.inf))]
        return pieces[-1][-most:].copy() if pieces else np.empty(0)

    def passed(self, until: float) -> list[Entry]:
        """Return the segments that have a sample at `until` or later, or by which more than that is final."""
        spans = {entry.id: span for entry, span in self.spans()}
        return [
            entry
            for entry in self.entries
            if (entry.id in spans and spans[entry.id].end >= until)
            or (entry.state == "open" and self.of(entry).finalized_until() > until)
        ]

    def finalized_until(self) -> float:
        """Return what was final when the open segments were last written to; minus infinity if there are none."""
        try:
            return max((self._whole(entry)[1].finalized_until for entry in self._open), default=-math.inf)
        except _Replaced as replaced:
            return replaced.stored.finalized_until()

    def _overlapping(self, interval: Interval) -> list[Entry]:
        """Return the sealed segments that reach into an interval."""
        return [e for e in self._sealed if _overlap(Interval(e.first or 0.0, e.last or 0.0), interval)]

    def _cut(self, interval: Interval) -> Iterator[tuple[Entry, Interval]]:
        """Yield the sealed segments that reach into an interval, each with the part of it that it covers."""
        for entry in self._overlapping(interval):
            first, last = entry.first or 0.0, entry.last or 0.0
            yield (
                entry,
                Interval(max(interval.start, first), min(interval.end, math.nextafter(last, math.inf))),
            )

    def _holds(self, entry: Entry, span: Interval, interval: Interval) -> bool:
        """Whether a segment whose span overlaps an interval has a sample in it."""
        if interval.start <= span.start or span.end < interval.end:
            return True
        if entry.state == "sealed":
            return bool(self._count(entry, interval))
        try:
            found = self._committed(entry)
            return bool(found and len(self._within(entry, *found, (), *interval)[0]))
        except _Replaced as replaced:
            return bool(replaced.stored.count(interval))

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
            self._report(entry, error)
        return segment, commit

    def _values(self, entry: Entry, segment: Segment, names: Sequence[str], start: int, end: int) -> dict[str, Column]:
        try:
            found = ((name, segment.values(name, start, end)) for name in names)
            return {name: values for name, values in found if values is not None}
        except BadHistory as error:  # its words are in a file of their own
            self._report(entry, error)

    def _within(
        self, entry: Entry, segment: Segment, rows: int, names: Sequence[str], start: float, end: float
    ) -> Rows:
        t = segment.times(0, rows)
        inside = (t >= start) & (t < end)
        columns = self._values(entry, segment, names, 0, rows)
        return t[inside], {name: values[inside] for name, values in columns.items()}

    def _read(self, entry: Entry, work: Callable[[Sealed], _T], instead: Callable[["StoredTimeline"], _T]) -> _T:
        """Read a sealed segment; where it is damaged or missing, read `instead` the timeline as it is stored now."""
        try:
            return work(self._opened.sealed(self.path(entry), entry))
        except (BadHistory, FileNotFoundError) as error:
            return instead(self._now(entry, error))

    def _report(self, entry: Entry, error: BadHistory | FileNotFoundError) -> NoReturn:
        """Report that an open segment is damaged or missing.

        Raises
        ------
        _Replaced
            The open segments are read from the timeline as it is stored now.
        """
        raise _Replaced(self._now(entry, error)) from error

    def _now(self, entry: Entry, error: BadHistory | FileNotFoundError) -> "StoredTimeline":
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
        return StoredTimeline(
            self.name, self.folder, now.entries, self._opened, self._damaged, now.missing, self._replaced + 1
        )


class _Replaced(Exception):
    """An open segment is damaged or missing; what all of them have is read from `stored`."""

    def __init__(self, stored: StoredTimeline) -> None:
        super().__init__()
        self.stored = stored


def _overlap(span: Interval, interval: Interval) -> bool:
    """Whether samples from `span.start` to `span.end`, both included, reach into an interval."""
    return span.end >= interval.start and span.start < interval.end


def _quantity(field: Field) -> tuple[str, str | None]:
    return field.type, field.units


def _merged(pieces: Sequence[Rows]) -> Iterator[Rows]:
    """Yield rows that came in any order as one piece in order of time; of one time, the last to come stays."""
    t, columns = concatenated([rows for rows in pieces if len(rows[0])])
    if len(t):
        order = np.argsort(t, kind="stable")
        order = order[np.append(t[order][1:] != t[order][:-1], True)]
        yield t[order], {name: values[order] for name, values in columns.items()}


def _sealed_bins(
    sealed: Sealed, names: Sequence[str], interval: Interval, stride: float, method: Method
) -> Iterator[Bins]:
    """Yield bins of `stride` from the widest level that they consist of; what the interval cuts, from finer ones."""
    usable = [e for e in sealed.exponents() if math.isinf(stride) or (stride / 2.0**e).is_integer()]
    low, high = interval
    if usable:
        # Beyond the segment's own samples the interval cuts nothing.
        width = 2.0 ** usable[-1]
        low = math.floor(sealed.first / width) * width if low <= sealed.first else low
        high = (math.floor(sealed.last / width) + 1) * width if high > sealed.last else high
    for piece in _from_levels(sealed, names, low, high, usable[::-1], method):
        bins = piece if isinstance(piece, Bins) else binned(*piece, stride, METHODS[method].statistics)
        yield regrouped(bins, stride)


def _from_levels(
    sealed: Sealed, names: Sequence[str], low: float, high: float, exponents: Sequence[int], method: Method
) -> Iterator[Bins | Rows]:
    """Yield what lies in ``[low, high)``: whole bins of the first level, and what is left from the ones after it."""
    if not exponents:
        rows = sealed.rows(Interval(low, high), names)
        if len(rows[0]):
            yield rows
        return
    width, finer = 2.0 ** exponents[0], exponents[1:]
    start, end = math.ceil(low / width) * width, math.floor(high / width) * width
    if start >= end:
        yield from _from_levels(sealed, names, low, high, finer, method)
        return
    if low < start:
        yield from _from_levels(sealed, names, low, start, finer, method)
    if bins := sealed.bins(
        exponents[0], (start / width, end / width), names, ("first", "last", *METHODS[method].statistics)
    ):
        yield bins
    if end < high:
        yield from _from_levels(sealed, names, end, high, finer, method)
