"""Reading a timeline: from an archive, the disk and memory, which follow each other in time."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sisock.downsample import METHODS, Method, stride_between
from sisock.errors import BadHistory
from sisock.fields import Batch, Downsampled, Epochs, Field, Samples, Timeline
from sisock.history.archive_cache import ArchiveCache
from sisock.history.blocks import Block, alike, as_answered, concatenated
from sisock.history.downsampling import changes, check_number, downsample_snapshot
from sisock.history.entry import Reset
from sisock.history.manifest import Manifest
from sisock.history.ring import Ring, View
from sisock.history.snapshot import Snapshot
from sisock.metrics import Counters
from sisock.times import Interval

if TYPE_CHECKING:  # it takes pyarrow, which a history in memory does without
    from sisock.history.segment_set import SegmentSet

# Samples that are compared at the most, to find those of a batch that are stored already.
_MOST_COMPARED = 5_000_000


class Disk(Protocol):
    """The disk from which a timeline is read, besides memory."""

    def stored(self, timeline: str) -> "SegmentSet":
        """Return the segments of a timeline at this moment."""

    def finalized_until(self, timeline: str) -> float:
        """Return the watermark of a timeline; minus infinity while it has none."""

    def status(self, timeline: str) -> dict[str, Any]:
        """Return how many segments of a timeline there are, and the bytes that they take."""


class ReadableTimeline(ABC):
    """A timeline as its readers see it; whether it grows is up to the subclass.

    Parameters
    ----------
    timeline : Timeline
    ring : Ring
        Its newest samples.
    manifest : Manifest
        Where its gaps and losses are written down.
    number : int
        By which the manifest knows it.
    disk : Disk, optional
        Where the samples are that are older than those in memory.
    past : ArchiveCache, optional
        Where samples are that are older than all those.
    """

    def __init__(
        self,
        timeline: Timeline,
        ring: Ring,
        manifest: Manifest,
        number: int,
        disk: Disk | None = None,
        past: ArchiveCache | None = None,
    ) -> None:
        self.name, self.timeline, self.ring = timeline.name, timeline, ring
        self.counters: Counters = ring.counters
        self._names = [field.name for field in timeline.fields]
        self._manifest, self._number, self._disk, self._past = manifest, number, disk, past

    @abstractmethod
    def finalized_until(self, now: float) -> float | None:
        """Return the time before which nothing will change any more; None while nothing is known."""

    @abstractmethod
    def _newest_reset(self) -> int:
        """Return the number of the newest reset; read before the watermark, it is never too great for that."""

    @abstractmethod
    def shown_watermark(self, now: float) -> tuple[float | None, int]:
        """Return the watermark, and the number of the reset since which it holds."""

    @abstractmethod
    def _final(self, view: View) -> float:
        """Return the watermark of a view; minus infinity while there is none."""

    def _unwritten_gaps(self) -> list[tuple[float, float]]:
        """Return where samples are lost that no gap names yet."""
        return []

    def read(self, names: Sequence[str], interval: Interval, now: float) -> Samples | None:
        """Return the samples of fields in an interval, as views; None when there are none, and none that were lost.

        Raises
        ------
        TooLarge
            If there are more than can be brought together in memory.
        """
        snapshot = self._snapshot(names, interval, now)
        return self._samples(snapshot, list(snapshot.pieces()))

    def downsampled(
        self,
        names: Sequence[str],
        interval: Interval,
        method: Method,
        min_stride: float,
        max_points: int | None,
        now: float,
        most: int | None = None,
    ) -> Samples | None:
        """Return fewer samples of fields in an interval, see `sisock.downsample`; None as `read` does.

        Raises
        ------
        TooLarge
            If that needs more samples than can be brought together in memory, or has more than `most` values.
        """
        most_rows = math.inf if most is None else most / self.values_per_sample(names)
        stride, span = min_stride, self._reach(interval)
        if span is None:
            return None
        too_many = max_points is not None and self._has_more_than(max_points, interval)
        if not (stride or too_many):
            check_number(self.count(interval) if most is not None else 0, most_rows)
            samples = self.read(names, interval, now)
            return samples and replace(samples, downsample=Downsampled(method, 0.0))
        snapshot = self._snapshot(names, interval, now)
        if max_points is not None and too_many:
            low, high = max(interval.start, span.start), min(interval.end, span.end)
            # A bin in which units change becomes two.
            points = max(2, max_points - 2 * len(changes(snapshot.epochs)))
            stride = max(stride, stride_between(low, high, points, method))
        has_numbers = any(
            f.type == "number" and (not f.shape or "total" in METHODS[method].statistics)
            for f in self.fields(interval)
            if f.name in names
        )
        pieces, fell_back = downsample_snapshot(
            snapshot, stride, method, max_points, most_rows, has_numbers=has_numbers
        )
        found = self._samples(snapshot, pieces)
        if found is None:
            return None
        there = tuple(name for name in fell_back if name in found.columns)
        return replace(found, downsample=Downsampled(method, stride, there))

    def values_per_sample(self, names: Sequence[str]) -> int:
        """Return how many values a sample of some fields has, its time included."""
        sizes = {field.name: field.size for field in self.timeline.fields}
        return 1 + sum(sizes.get(name, 1) for name in names)

    def count(self, interval: Interval) -> int:
        """Return how many samples are in an interval."""
        return self._count(interval, lambda stored, older: stored.count(older))

    def at_most(self, interval: Interval) -> int:
        """Return an upper bound of `count`, without reading samples."""
        return self._count(interval, lambda stored, older: stored.at_most(older))

    def _count(self, interval: Interval, on_disk: "Callable[[SegmentSet, Interval], int]") -> int:
        count, floor, stored = self.ring.count(interval), self.ring.floor, self._stored()
        if stored and interval.start < floor:
            count += on_disk(stored, Interval(interval.start, min(interval.end, floor)))
        return count + len(self._past_rows(interval, floor)[0])

    def fields(self, interval: Interval) -> list[Field]:
        """Return the fields that have a sample in an interval."""
        found: dict[str, Field] = {}
        floor, stored = self.ring.floor, self._stored()
        if stored and interval.start < floor:
            found = {field.name: field for field in stored.fields(Interval(interval.start, min(interval.end, floor)))}
        if self.ring.count(interval) or self._had_before(interval, floor):
            found |= {field.name: field for field in self.timeline.fields}
        return list(found.values())

    def epochs(self, names: Sequence[str], interval: Interval) -> Epochs:
        """Return the types and units that measured fields have had in an interval; in memory they do not change."""
        stored = self._stored()
        return stored.epochs(interval, names) if stored else {}

    def knows(self, name: str) -> bool:
        """Whether a field of that name was measured at any time."""
        stored = self._stored()
        return name in self._names or bool(stored and name in stored.names())

    def span(self) -> Interval | None:
        """Return the times of the oldest and the newest sample; None while there is none."""
        stored = self._stored()
        spans = [span for span in (stored.span() if stored else None, self.ring.span()) if span]
        return Interval(min(s.start for s in spans), max(s.end for s in spans)) if spans else None

    def newest_before(self, t: float) -> float:
        """Return the time of the newest sample before `t`; minus infinity if there is none."""
        stored = self._stored()
        return max(self.ring.newest_before(t), stored.newest_before(t) if stored else -math.inf)

    def resets(self) -> list[Reset]:
        """Return when the watermark was set back, the newest 10 at most."""
        return self._manifest.resets(self._number)

    def status(self, now: float) -> dict[str, Any]:
        """Return oldest and newest sample, watermark, resets, segments on the disk, and the counters."""
        try:
            span = self.span()
        except BadHistory:  # the disk does not read, which is in the node's health
            span = self.ring.span()
        final, number = self.shown_watermark(now)
        return {
            "oldest": span.start if span else None,
            "newest": span.end if span else None,
            "finalized_until": final,
            "reset": number,
            "resets": [_content(each) for each in self.resets() if each.number <= number],
            **(self._disk.status(self.name) if self._disk else {}),
            **self.counters.as_dict(),
        }

    def _snapshot(self, names: Sequence[str], interval: Interval, now: float, *, past: bool = True) -> Snapshot:
        """Look at fields in an interval; in this order, since samples become final and are forgotten meanwhile."""
        reset = self._newest_reset()
        view = self.ring.read(names, interval, now)
        final, stored = self._final(view), self._stored()
        epochs = stored.epochs(interval, names) if stored else {}
        rows = self._past_rows(interval, view.floor) if past else (np.empty(0), {})
        return Snapshot(self.name, names, interval, reset, final, view, stored, rows, epochs)

    def _repeated(self, batch: Batch, late: NDArray[np.intp], now: float) -> NDArray[np.bool_]:
        """Return which samples of a batch that come too late are stored just as they are."""
        if not len(late):
            return np.empty(0, bool)
        t = batch.t[late]
        interval = Interval(float(t.min()), math.nextafter(t.max(), math.inf))
        if self.count(interval) > _MOST_COMPARED:
            return np.zeros(len(t), bool)  # not worth it
        stored_t, stored = concatenated(list(self._snapshot(self._names, interval, now, past=False).pieces()))
        if not len(stored_t):
            return np.zeros(len(t), bool)
        at = np.minimum(np.searchsorted(stored_t, t), len(stored_t) - 1)
        repeated: NDArray[np.bool_] = stored_t[at] == t
        for name in self._names:
            if name not in stored:
                return np.zeros(len(t), bool)
            repeated &= alike(stored[name][at], batch.columns[name][late])
        return repeated

    def _stored(self) -> "SegmentSet | None":
        return self._disk.stored(self.name) if self._disk else None

    def _has_more_than(self, n: int, interval: Interval) -> bool:
        stored, floor = self._stored(), self.ring.floor
        if stored and stored.at_least(Interval(interval.start, min(interval.end, floor))) > n:
            return True  # counting exactly reads the samples that the interval cuts
        return self.count(interval) > n

    def _reach(self, interval: Interval) -> Interval | None:
        """Return the times of the oldest and the newest sample, those in the past of an interval included."""
        t, _ = self._past_rows(interval, self.ring.floor)
        spans = [span for span in (Interval(float(t[0]), float(t[-1])) if len(t) else None, self.span()) if span]
        return Interval(spans[0].start, spans[-1].end) if spans else None

    def _before(self, interval: Interval, floor: float) -> Interval | None:
        """Return the part of an interval that lies before all samples here; None if there is no such part."""
        span = self.span()
        # Those in memory may have been forgotten since the ring was looked at, which was when `floor` held.
        begin = math.inf if span is None else span.start if self._disk else max(span.start, floor)
        before = Interval(interval.start, min(interval.end, begin))
        return before if before.start < before.end else None

    def _had_before(self, interval: Interval, floor: float) -> bool:
        before = self._before(interval, floor) if self._past else None
        return bool(self._past and before and self._past.has(before))

    def _past_rows(self, interval: Interval, floor: float) -> Block:
        """Return the samples of an interval that the source has from before all samples here."""
        before = self._before(interval, floor) if self._past else None
        if not self._past or not before:
            return np.empty(0), {}
        return self._past.rows(before, self.ring.finalized_until(-math.inf) or -math.inf)

    def _samples(self, snapshot: Snapshot, pieces: Sequence[Block]) -> Samples | None:
        """Return pieces with what is known of the interval; None if there is no sample, and none was lost."""
        there = [rows for rows in pieces if rows[1]]
        t, columns = concatenated(there)
        columns = as_answered(columns)
        final, interval, stored = snapshot.final, snapshot.interval, self._stored()
        until = None if interval.end <= final or not math.isfinite(final) else final
        gaps = self._manifest.gaps(self._number, interval)
        dropped, late = self._manifest.losses(self._number, interval)
        missing = [*(stored.missing if stored else ()), *self._unwritten_gaps()]  # at present
        if missing:
            gaps = sorted([*gaps, *(gap for gap in missing if gap[0] < interval.end and gap[1] >= interval.start)])
        if not (there or gaps or dropped or late):
            return None
        units = {field.name: field.units for field in self.timeline.fields if field.name in columns}
        units |= {name: known[-1][1].units for name, known in snapshot.epochs.items() if name in columns}
        changed = {name: known for name, known in snapshot.epochs.items() if len(known) > 1}
        return Samples(t, columns, until, gaps, dropped, late, epochs=changed, units=units, reset=snapshot.reset)


def _content(reset: Reset) -> dict[str, Any]:
    times = {"finalized_until": reset.finalized_until, "removed_from": reset.removed_from}
    return {"number": reset.number, **{key: t if math.isfinite(t) else None for key, t in times.items()}}
