"""Reading a timeline's samples from disk: sealed segments, their pyramids, and open segments."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from sisock.bins import Bins, binned
from sisock.downsample import METHODS, Method
from sisock.fields import Epochs, Field, FloatArray
from sisock.history.blocks import Block, as_answered, merged
from sisock.history.entry import Entry
from sisock.history.levels import sealed_bins
from sisock.history.segment import Segment
from sisock.history.segment_access import Replaced, SegmentAccess, overlap
from sisock.times import Interval


class SegmentSet(SegmentAccess):
    """A timeline's samples on disk, as they are at one moment; parameters are those of `SegmentAccess`.

    A segment that turns out to be damaged or missing is read from the timeline as it is stored from then on: of a
    sealed one the span that it covers, of open ones all that was not read yet.
    """

    def span(self) -> Interval | None:
        """Return the times of the oldest and the newest sample; None while there is none."""
        spans = [span for _, span in self.spans()]
        return Interval(min(s.start for s in spans), max(s.end for s in spans)) if spans else None

    def at_most(self, interval: Interval) -> int:
        """Return an upper bound of the samples in an interval, at once."""
        try:
            in_open = sum(found[1] for entry in self._open if (found := self._committed(entry)))
        except Replaced as replaced:
            return self._now(replaced.entry, replaced.error).at_most(interval)
        return sum(entry.rows for entry in self._overlapping(interval)) + in_open

    def at_least(self, interval: Interval) -> int:
        """Return a lower bound of the samples in an interval, without reading any."""
        return sum(
            self._read(
                entry,
                interval,
                lambda sealed: sealed.at_least(interval),
                lambda stored, covered: stored.at_least(covered),
            )
            for entry in self._overlapping(interval)
        )

    def fields(self, interval: Interval) -> list[Field]:
        """Return the fields that were measured in an interval, each as it was last."""
        found: dict[str, Field] = {}
        for entry, span in self.spans():
            if overlap(span, interval) and self._holds(entry, span, interval):
                found |= {field.name: field for field in entry.fields}
        return list(found.values())

    def epochs(self, interval: Interval, names: Sequence[str]) -> Epochs:
        """Return, for fields that were measured in an interval, since when their type and units were what."""
        found: Epochs = {name: [] for name in names}
        before: tuple[Field, ...] = ()
        for entry, span in self.spans():
            if entry.fields is before or not overlap(span, interval):
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
        for entry in self._overlapping(interval):
            if entry.first is not None and entry.last is not None:
                whole = interval.start <= entry.first and entry.last < interval.end
                total += entry.rows if whole else self._count(entry, interval)
        return total

    def _count(self, entry: Entry, interval: Interval) -> int:
        return self._read(
            entry, interval, lambda sealed: sealed.count(interval), lambda stored, covered: stored.count(covered)
        )

    def rows(self, names: Sequence[str], interval: Interval) -> Iterator[Block]:
        """Yield the samples in an interval, in pieces that follow each other in time."""
        for entry in self._overlapping(interval):
            pieces = self._read(
                entry,
                interval,
                lambda sealed: [sealed.rows(interval, names)],
                lambda stored, covered: list(stored.rows(names, covered)),
            )
            yield from (rows for rows in pieces if len(rows[0]))
        yield from self.open_rows(names, interval)

    def bins(self, names: Sequence[str], interval: Interval, stride: float, method: Method) -> Iterator[Bins]:
        """Yield the samples in an interval, summarized by bins, in pieces that follow each other in time.

        Two pieces may have parts of one bin.
        """
        for entry in self._overlapping(interval):
            yield from self._read(
                entry,
                interval,
                lambda sealed: list(sealed_bins(sealed, names, interval, stride, method)),
                lambda stored, covered: list(stored.bins(names, covered, stride, method)),
            )
        for t, columns in self.open_rows(names, interval):
            yield binned(t, as_answered(columns), stride, METHODS[method].statistics)

    def open_rows(self, names: Sequence[str], interval: Interval) -> Iterator[Block]:
        """Yield the samples of the open segments: as views where they came in order, else merged."""
        start = max(interval.start, math.nextafter(self.sealed_end, math.inf))
        try:
            for piece in self._open_pieces(names, start, interval.end):
                yield piece
                start = math.nextafter(piece[0][-1], math.inf)
        except Replaced as replaced:
            if start < interval.end:
                yield from self._now(replaced.entry, replaced.error).rows(names, Interval(start, interval.end))

    def _open_pieces(self, names: Sequence[str], start: float, end: float) -> Iterator[Block]:
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
            parts = [self._within(*piece, names, start, end) for piece in pieces]
            if parts := [rows for rows in parts if len(rows[0])]:
                yield merged(parts)
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
        """Return the watermark when the open segments were last written to; minus infinity if there are none."""
        try:
            return max((self._whole(entry)[1].finalized_until for entry in self._open), default=-math.inf)
        except Replaced as replaced:
            return self._now(replaced.entry, replaced.error).finalized_until()

    def _holds(self, entry: Entry, span: Interval, interval: Interval) -> bool:
        """Whether a segment whose span overlaps an interval has a sample in it."""
        if interval.start <= span.start or span.end < interval.end:
            return True
        if entry.state == "sealed":
            return bool(self._count(entry, interval))
        try:
            found = self._committed(entry)
            return bool(found and len(self._within(entry, *found, (), *interval)[0]))
        except Replaced as replaced:
            return bool(self._now(replaced.entry, replaced.error).count(interval))


def _quantity(field: Field) -> tuple[str, str | None]:
    return field.type, field.units
