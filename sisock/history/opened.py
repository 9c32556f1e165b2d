"""The files of segments that are open for reading."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from sisock.errors import BadHistory
from sisock.history.entry import Entry
from sisock.history.sealed import Sealed, files_of
from sisock.history.segment import Segment

_MOST_OPENED = 128


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
