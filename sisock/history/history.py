"""The history of a node: its timelines in memory."""

from collections.abc import Iterable, Sequence
from typing import Any

from sisock.errors import BadData
from sisock.fields import Batch, Reply, Samples, Timeline
from sisock.history.ring import Ring
from sisock.site import HistorySettings
from sisock.times import Clock, Interval, SystemClock


class History:
    """What a node has seen, by timeline.

    Parameters
    ----------
    timelines : iterable of Timeline
        Their fields' names are unique over all of them.
    settings : HistorySettings, optional
        How much is kept.
    clock : Clock, optional
        Moves finality on while nothing arrives.

    Raises
    ------
    BadData
        If a timeline or a field is named twice.
    """

    def __init__(
        self, timelines: Iterable[Timeline], settings: HistorySettings | None = None, clock: Clock | None = None
    ) -> None:
        settings = settings or HistorySettings()
        self._clock = clock or SystemClock()
        self._rings: dict[str, Ring] = {}
        self._ring_of: dict[str, Ring] = {}
        for timeline in timelines:
            if timeline.name in self._rings:
                raise BadData(f"timeline {timeline.name!r} is there twice; give each a name of its own")
            ring = self._rings[timeline.name] = Ring(timeline, settings.keep, settings.max_samples)
            for field in timeline.fields:
                if field.name in self._ring_of:
                    raise BadData(f"field {field.name!r} is on two timelines; give each a name of its own")
                self._ring_of[field.name] = ring

    @property
    def timelines(self) -> list[Timeline]:
        """All timelines, in the order given."""
        return [ring.timeline for ring in self._rings.values()]

    def append(self, batch: Batch) -> Batch | None:
        """Store `batch` and return what of it was stored, in order of time; None if nothing was.

        Raises
        ------
        BadData
            If the batch does not fit its timeline; nothing of it is stored then.
        """
        ring = self._rings.get(batch.timeline)
        if ring is None:
            raise BadData(f"there is no timeline {batch.timeline!r}; known: {', '.join(self._rings)}")
        return ring.append(batch, self._clock.now())

    def read(self, fields: Sequence[str], interval: Interval) -> Reply:
        """Return the samples of `fields` in `interval`, as views that nobody changes."""
        now = self._clock.now()
        wanted: dict[str, list[str]] = {}
        for name in dict.fromkeys(fields):
            if ring := self._ring_of.get(name):
                wanted.setdefault(ring.timeline.name, []).append(name)
        found: dict[str, Samples] = {}
        for timeline, names in wanted.items():
            if samples := self._rings[timeline].read(names, interval, now):
                found[timeline] = samples
        there = {name for samples in found.values() for name in samples.columns}
        return Reply(found, tuple(name for name in dict.fromkeys(fields) if name not in there))

    def within(self, interval: Interval) -> list[Timeline]:
        """Return the timelines that have at least one sample in `interval`."""
        return [ring.timeline for ring in self._rings.values() if ring.holds(interval)]

    def finalized_until(self, timeline: str) -> float | None:
        """Return the time before which `timeline` will never change; None while nothing is known."""
        return self._rings[timeline].finalized_until(self._clock.now())

    def status(self) -> dict[str, Any]:
        """Return, by timeline: oldest and newest sample, what is final, and the counters."""
        now = self._clock.now()
        return {
            name: {
                "oldest": span.start if (span := ring.span()) else None,
                "newest": span.end if span else None,
                "finalized_until": ring.finalized_until(now),
                **ring.counters.as_dict(),
            }
            for name, ring in self._rings.items()
        }
