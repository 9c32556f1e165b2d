"""Reading the timelines of a history."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from sisock.downsample import Method
from sisock.errors import BadHistory, BadRequest
from sisock.fields import Epochs, Reply, Samples, Timeline
from sisock.history.freshness import Expectations
from sisock.history.manifest import Manifest
from sisock.history.reading import ReadableTimeline
from sisock.history.timeline import ReadOnlyTimeline, TimelineHistory
from sisock.times import Interval

if TYPE_CHECKING:
    from sisock.history.reader import StoreReader
    from sisock.history.store import Store


class ReadableHistory(ABC):
    """A history as its readers see it.

    A field belongs to one timeline at a time. Over time it may have belonged to several, which are on the disk.
    """

    _store: "Store | StoreReader | None"
    _manifest: Manifest
    _expectations: Expectations
    # Replaced as wholes when a timeline is added, since others read them meanwhile.
    _growing: dict[str, TimelineHistory]
    _ended: dict[str, ReadOnlyTimeline]
    _of_field: dict[str, TimelineHistory]

    @abstractmethod
    def _now(self) -> float:
        """Return UNIX seconds that a jump forward does not move."""

    @property
    def on_disk(self) -> bool:
        """Whether samples are on disk, so that looking for them takes time."""
        return self._store is not None

    def read(self, fields: Sequence[str], interval: Interval) -> Reply:
        """Return the samples of `fields` in `interval`, as views that nobody changes.

        Raises
        ------
        TooLarge
            If there are more than can be brought together in memory.
        """
        now = self._now()
        return self._reply(fields, interval, lambda timeline, names: timeline.read(names, interval, now))

    def downsampled(
        self,
        fields: Sequence[str],
        interval: Interval,
        method: Method,
        min_stride: float = 0.0,
        max_points: int | None = None,
        most: int | None = None,
    ) -> Reply:
        """Return fewer samples of `fields` in `interval`; from summaries, where they are on disk and many.

        Parameters
        ----------
        fields : sequence of str
        interval : Interval
        method : Method
            See `sisock.downsample.METHODS`.
        min_stride : float
            Seconds, 0 or more.
        max_points : int, optional
            Most samples that each timeline may have, 2 or more; the stride is widened until they are.
        most : int, optional
            Values, times included, above which an answer is not brought together.

        Raises
        ------
        BadRequest
            If `max_points` is below 2.
        TooLarge
            If that needs more samples than can be brought together in memory, or has more than `most` values.
        """
        if max_points is not None and max_points < 2:
            raise BadRequest(f"max_points is {max_points}; give 2 or more")
        now = self._now()
        return self._reply(
            fields,
            interval,
            lambda timeline, names: timeline.downsampled(names, interval, method, min_stride, max_points, now, most),
        )

    def thinned(self, *args: Any, **more: Any) -> Reply:
        """Return the same as `downsampled`, which was named so before."""
        warnings.warn("call History.downsampled", DeprecationWarning, stacklevel=2)
        return self.downsampled(*args, **more)

    def count(self, fields: Sequence[str], interval: Interval) -> int:
        """Return how many values, times included, `read` would return at the most."""
        asked = self._that_have(fields, interval)
        return sum(timeline.count(interval) * timeline.values_per_sample(names) for timeline, names in asked)

    def values_per_sample(self, fields: Sequence[str], interval: Interval) -> int:
        """Return how many values a sample of each of the timelines of some fields has, their times included."""
        return sum(timeline.values_per_sample(names) for timeline, names in self._that_have(fields, interval))

    def at_most(self, fields: Sequence[str], interval: Interval) -> int:
        """Return an upper bound of `count`, without reading samples."""
        asked = self._that_have(fields, interval)
        return sum(timeline.at_most(interval) * timeline.values_per_sample(names) for timeline, names in asked)

    def within(self, interval: Interval) -> list[Timeline]:
        """Return the timelines that have at least one sample in `interval`, with the fields that do."""
        self._check_readable()
        found = [(each.timeline, each.fields(interval)) for each in self._all().values()]
        return [replace(timeline, fields=fields) for timeline, fields in found if fields]

    def epochs(self, interval: Interval) -> dict[str, Epochs]:
        """Return, by timeline, the fields whose type or units changed in `interval`, and since when they were what."""
        known = [(each, [field.name for field in each.fields(interval)]) for each in self._all().values()]
        found = {each.name: each.epochs(fields, interval) for each, fields in known}
        return {
            timeline: {name: known for name, known in epochs.items() if len(known) > 1}
            for timeline, epochs in found.items()
        }

    def finalized_until(self, timeline: str) -> float | None:
        """Return the time before which `timeline` will never change; None while nothing is known."""
        known = self._growing.get(timeline) or self._ended[timeline]
        return known.finalized_until(self._now())

    def watermark(self, timeline: str) -> tuple[float | None, int]:
        """Return the watermark of a timeline, None while there is none, and the number of the newest reset."""
        return (self._growing.get(timeline) or self._ended[timeline]).shown_watermark(self._now())

    def status(self) -> dict[str, Any]:
        """Return, by timeline: oldest and newest sample, freshness, watermark, segments on the disk, counters.

        Timelines of which samples are expected are listed before there are any.
        """
        now = self._now()
        status = {name: each.status(now) for name, each in self._all().items()}
        for name in self._expectations.names():
            status.setdefault(name, {"oldest": None, "newest": None})
        return {name: {**about, **self._freshness(name, about["newest"], now)} for name, about in status.items()}

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counters of each timeline that grows."""
        return {name: each.counters.as_dict() for name, each in tuple(self._growing.items())}

    def clock_jumps(self) -> list[tuple[float, float]]:
        """Return when the clock jumped and by how many seconds, the newest 100 at most."""
        return self._manifest.clock_jumps()

    def summary(self) -> dict[str, Any]:
        """Return where the history is, what it takes, and when the clock jumped, by how many seconds."""
        in_memory = sum(each.ring.size for each in self._growing.values())
        about = {
            "memory_bytes": in_memory,
            "clock_jumps": [list(jump) for jump in self.clock_jumps()],
            "clock_epochs": [asdict(epoch) for epoch in self._manifest.clock_epochs()],
        }
        return {**(self._store.summary() if self._store else {"path": None}), **about}

    def _all(self) -> dict[str, ReadableTimeline]:
        return {**self._growing, **self._ended}

    def _freshness(self, name: str, newest: float | None, now: float) -> dict[str, Any]:
        growing = self._growing.get(name)
        of_growing = None if growing is None else (growing.timeline, growing.arrivals, growing.measures_now)
        return self._expectations.freshness(name, of_growing, newest, now, ended=name in self._ended)

    def _check_readable(self) -> None:
        if self._manifest.unreadable or any(each.blind for each in self._growing.values()):
            why = self._manifest.unreadable or "it has only just become readable"
            raise BadHistory(f"the history cannot be read at present: {why}; ask again later")

    def _reply(
        self, fields: Sequence[str], interval: Interval, ask: Callable[[ReadableTimeline, list[str]], Samples | None]
    ) -> Reply:
        found: dict[str, Samples] = {}
        for timeline, names in self._that_have(fields, interval):
            samples = ask(timeline, names)
            if samples is not None:
                found[timeline.name] = samples
        there = {name for samples in found.values() for name in samples.columns}
        return Reply(found, tuple(name for name in dict.fromkeys(fields) if name not in there))

    def _that_have(self, fields: Sequence[str], interval: Interval) -> Iterator[tuple[ReadableTimeline, list[str]]]:
        """Yield the timelines that have these fields, with those that each has."""
        self._check_readable()
        wanted: dict[ReadableTimeline, list[str]] = {}
        for name in dict.fromkeys(fields):
            if timeline := self._that_has(name, interval):
                wanted.setdefault(timeline, []).append(name)
        yield from wanted.items()

    def _that_has(self, name: str, interval: Interval) -> ReadableTimeline | None:
        """Return the timeline that a field is on; of several that it was on, the one that has it in the interval."""
        now = self._of_field.get(name)
        if self._store is None:
            return now
        known = [each for each in self._all().values() if each.knows(name)]
        if len(known) > 1:
            known = [each for each in known if any(f.name == name for f in each.fields(interval))]
        return now if now in known or not known else known[-1]
