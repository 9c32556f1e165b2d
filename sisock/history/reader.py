"""Reading a history on disk beside the process that writes it."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from sisock.errors import BadHistory
from sisock.history.adoption import adopt
from sisock.history.entry import Entry
from sisock.history.layout import Unreadable
from sisock.history.manifest import Manifest, is_history
from sisock.history.opened import Opened
from sisock.history.recovery import salvageable, span_lost
from sisock.history.segment_set import SegmentSet
from sisock.times import SYSTEM_CLOCK, Interval

log = logging.getLogger(__name__)


class StoreReader:
    """Reads the folder of a history; nothing is written.

    Parameters
    ----------
    path : Path

    Raises
    ------
    BadHistory
        If there is no history, or it is of a newer format.
    """

    def __init__(self, path: Path) -> None:
        if not is_history(path):
            raise BadHistory(f"{path} is not a history: it has neither a manifest nor segments")
        self.path = path
        self._opened = Opened()
        self._damaged: dict[int, tuple[int, tuple[float, float], int]] = {}
        """Of segments that are damaged: timeline, the gap that they leave, and their samples."""
        self.manifest = Manifest(path, writable=False, loaded=self._rebuild)
        self._unsummarized: set[int] = set()  # their pyramids are damaged: they are read as samples

    def _rebuild(self, manifest: Manifest) -> None:
        """Complete, in memory, a manifest that is not whole."""
        if manifest.rebuilt:
            found = adopt(self.path, manifest, writable=False)
            if found.adopted:
                log.warning("the manifest of %s is not whole; %d segments were found", self.path, len(found.adopted))
        present = {entry.id for number, _, _ in manifest.timelines() for entry in manifest.entries(number)}
        for number in self._damaged.keys() & present:
            self._record(manifest, *self._damaged[number])

    @staticmethod
    def _record(manifest: Manifest, timeline: int, gap: tuple[float, float], lost: int) -> None:
        """Note, in memory, what answers lack."""
        if math.isfinite(gap[1] - gap[0]):
            manifest.add_gap(timeline, *gap)
        manifest.add_losses(timeline, gap[0], dropped=lost)

    def timelines(self) -> list[tuple[str, float | None]]:
        """Return name and interval, in seconds, of all timelines that are stored here."""
        return [(name, interval) for _, name, interval in self.manifest.timelines()]

    def stored(self, timeline: str) -> SegmentSet:
        """Return the segments of a timeline at this moment."""
        number = self.manifest.number(timeline)
        known = [entry for entry in self.manifest.entries(number) if entry.id not in self._damaged]
        entries = [replace(entry, levels=()) if entry.id in self._unsummarized else entry for entry in known]
        return SegmentSet(timeline, self.path / f"{number:04d}", entries, self._opened, self._quarantine)

    def finalized_until(self, timeline: str) -> float:
        """Return the watermark of a timeline; minus infinity while it has none."""
        written = self.manifest.finalized_until(self.manifest.number(timeline))
        return max(self.stored(timeline).finalized_until(), -math.inf if written is None else written)

    def status(self, timeline: str) -> dict[str, Any]:
        """Return how many segments of a timeline there are, and the bytes that they take."""
        return self.stored(timeline).status()

    def summary(self) -> dict[str, Any]:
        """Return where this is and the bytes that it takes."""
        size = sum(self.status(name)["bytes"] for name, _ in self.timelines())
        return {"path": str(self.path), "bytes": size, "damaged": len(self._damaged)}

    def close(self) -> None:
        """Close the manifest."""
        self.manifest.close()

    def _quarantine(self, timeline: str, entry: Entry, error: BadHistory) -> SegmentSet:
        """Leave out a segment that is damaged, whose intact samples the writing node keeps; return what is served now.

        A segment that the manifest no longer has was replaced, or removed, by that node.
        """
        if isinstance(error, Unreadable):
            raise error
        stored = self.stored(timeline)
        if entry.id in {other.id for other in stored.entries}:
            self._leave_out_damaged(timeline, stored, entry, error)
        return self.stored(timeline)

    def _leave_out_damaged(self, timeline: str, stored: SegmentSet, entry: Entry, error: BadHistory) -> None:
        if entry.state == "open":
            self._leave_out(timeline, entry, error)
            return
        whole, _ = salvageable(stored.path(entry), entry, error)
        if entry.levels and whole == [Interval(entry.first or 0.0, entry.last or 0.0)]:
            log.warning("%s; its segment is read as samples", error.message)
            self._unsummarized.add(entry.id)
            return
        self._leave_out(timeline, entry, error)

    def _leave_out(self, timeline: str, entry: Entry, error: BadHistory) -> None:
        log.error("%s; answers of timeline %s lack it", error.message, timeline)
        number = self.manifest.number(timeline)
        self._damaged[entry.id] = number, span_lost(self.stored(timeline), entry, SYSTEM_CLOCK.now()), entry.rows
        self._record(self.manifest, *self._damaged[entry.id])
