"""Making the timelines that a history appends to."""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sisock.errors import BadHistory
from sisock.fields import Timeline
from sisock.history.archive_cache import ArchiveCache
from sisock.history.fitting import refuse_arrays
from sisock.history.manifest import Manifest
from sisock.history.timeline import TimelineHistory
from sisock.settings import HistorySettings
from sisock.source import Archive
from sisock.times import Clock

if TYPE_CHECKING:
    from sisock.history.store import Store

log = logging.getLogger(__name__)


class TimelineFactory:
    """Makes timelines that are appended to, new ones and ones with other fields.

    Parameters
    ----------
    settings : HistorySettings
    manifest : Manifest
    store : Store or None
        None for a history in memory.
    archive : Archive or None
    clock : Clock
        One that a jump forward does not move.
    """

    def __init__(
        self,
        settings: HistorySettings,
        manifest: Manifest,
        store: "Store | None",
        archive: Archive | None,
        clock: Clock,
    ) -> None:
        self._settings, self._manifest, self._store, self._archive = settings, manifest, store, archive
        self._clock = clock

    def made(self, timeline: Timeline) -> TimelineHistory:
        """Return a timeline that may have samples of an earlier run."""
        past = ArchiveCache(self._archive, timeline.name) if self._archive else None
        since = self._clock.monotonic()
        return TimelineHistory(
            timeline, self._settings, self._manifest, self._store, past, self._clock.now, since=since
        )

    def successor(self, timeline: Timeline, before: TimelineHistory | None, now: float) -> TimelineHistory:
        """Return a timeline that takes the place of one with other fields, or is new.

        Raises
        ------
        BadHistory
            If the history on disk cannot take it.
        """
        try:
            if self._store:
                refuse_arrays(timeline, "`history.path`")
                if before is not None:
                    before.catch_up()
                self._store.add(timeline)
            new = self.made(timeline)
        except OSError as error:
            raise BadHistory(f"timeline {timeline.name!r} cannot be added to the history: {error}") from error
        if before is not None:
            if self._store is not None:
                new.take_over(before)
            elif not new.follow(before, now):
                log.warning("timeline %s has other fields from now on; its samples so far are forgotten", timeline.name)
            for name, count in before.counters.as_dict().items():
                new.counters.add(name, count)
            new.arrivals = before.arrivals
        return new

    def share_memory(self, timelines: Sequence[Timeline], growing: Mapping[str, TimelineHistory]) -> None:
        """Give each timeline of a history on disk the same part of the memory; older samples are read from the disk."""
        if self._store is None or not timelines:
            return
        share = self._settings.memory_size // len(timelines)
        for timeline in timelines:
            growing[timeline.name].ring.limit(share, self._settings.max_samples)
