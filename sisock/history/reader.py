"""Reading a history on disk beside the process that writes it."""

import logging
import math
from pathlib import Path
from typing import Any

from sisock.errors import BadHistory
from sisock.history.catalogue import FILE, Catalogue, Entry
from sisock.history.recovery import salvageable
from sisock.history.stored import Opened, StoredTimeline

log = logging.getLogger(__name__)


class StoreReader:
    """What is stored in the folder of a history; nothing is written.

    Parameters
    ----------
    path : Path

    Raises
    ------
    BadHistory
        If there is no history, or it is of a newer format.
    """

    def __init__(self, path: Path) -> None:
        if not (path / FILE).exists():
            raise BadHistory(f"{path} is no history: it has no {FILE}")
        self.path = path
        self.catalogue = Catalogue(path / FILE, writable=False)
        self._opened = Opened()
        self._damaged: set[int] = set()

    def timelines(self) -> list[tuple[str, float | None]]:
        """Return name and interval, in seconds, of all timelines that are stored here."""
        return [(name, interval) for _, name, interval in self.catalogue.timelines()]

    def stored(self, timeline: str) -> StoredTimeline:
        """Return what is stored of a timeline at this moment."""
        number = self.catalogue.number(timeline)
        entries = [entry for entry in self.catalogue.entries(number) if entry.id not in self._damaged]
        return StoredTimeline(timeline, self.path / f"{number:04d}", entries, self._opened, self._put_aside)

    def finalized_until(self, timeline: str) -> float:
        """Return what of a timeline is final; minus infinity while nothing is."""
        written = self.catalogue.finalized_until(self.catalogue.number(timeline))
        return max(self.stored(timeline).finalized_until(), -math.inf if written is None else written)

    def status(self, timeline: str) -> dict[str, Any]:
        """Return how many segments of a timeline there are, and the bytes that they take."""
        return self.stored(timeline).status()

    def summary(self) -> dict[str, Any]:
        """Return where this is and the bytes that it takes."""
        size = sum(self.status(name)["bytes"] for name, _ in self.timelines())
        return {"path": str(self.path), "bytes": size, "damaged": len(self._damaged)}

    def close(self) -> None:
        """Close the catalogue."""
        self.catalogue.close()

    def _put_aside(self, timeline: str, entry: Entry, error: BadHistory) -> None:
        """Go on without a segment that is damaged; who writes here puts it aside, and keeps what is whole of it."""
        stored = self.stored(timeline)
        if entry.id not in {other.id for other in stored.entries}:
            return  # replaced, or said, meanwhile
        salvageable(stored.path(entry), entry, error)
        log.error("%s; answers of timeline %s lack it", error.message, timeline)
        self._damaged.add(entry.id)
