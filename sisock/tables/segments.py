"""The files of a table: one that grows, closed ones, and sealed ones; see docs/events.md for the format.

A file is named by the numbers of its first row and of the row after its last: ``0.open`` (it grows; its last row is not
in its name), ``0-4096.rows`` (closed), ``0-4096.parquet`` (sealed), each number with twelve digits or more.
"""

import logging
import math
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from sisock.errors import BadHistory, BadRequest
from sisock.files import QUARANTINE, AppendedFile, lock_folder, quarantine, sync_folder
from sisock.metrics import Counters
from sisock.tables.columns import Arrays, Columns
from sisock.tables.rows import Rows, head, joined, line, read_row_file
from sisock.tables.sealed import Damaged, can_seal, write_sealed
from sisock.tables.segment import SegmentFile, SegmentReader, types_in

log = logging.getLogger(__name__)

# Row numbers that are left out after a kill or a loss of power: what had them may be known to clients.
SKIPPED = 100_000
_NAME = re.compile(r"(\d{12,})(?:\.open|-(\d{12,})\.(?:rows|parquet))")
_LEFTOVER = re.compile(r"\d{12,}-\d{12,}\.parquet\.new")


class TableFiles:
    """Writes and reads the files of a table. One process writes.

    Parameters
    ----------
    folder : Path
    name : str
        Of the table.
    columns : mapping of str to ColumnType
    segment : int
        Bytes of a file beyond which it is closed, and sealed.
    counters : Counters
        ``cut`` lines that a kill or a full disk left half-written, ``damaged`` lines and files, ``quarantined`` files,
        ``sealed`` and ``expired`` segments.
    """

    def __init__(self, folder: Path, name: str, columns: Columns, segment: int, counters: Counters) -> None:
        self._folder, self._name, self._columns = folder, name, columns
        self._segment, self._counters = segment, counters
        self.reader = SegmentReader(columns)
        self._file: AppendedFile | None = None
        self._lock_file: TextIO | None = None
        self._lock = threading.RLock()  # one writes, seals or removes
        self.segments: tuple[SegmentFile, ...] = ()
        """The oldest first; replaced as a whole."""
        self.is_open = False
        """Whether `open` has succeeded."""

    def open(self) -> tuple[Rows, int]:
        """Open the folder for writing; return rows of the newest file, if it is not sealed, and the next number.

        Raises
        ------
        OSError
            If the disk does not allow it, or another process writes there.
        BadHistory
            If there are files of a newer format.
        BadRequest
            If a column has another type in the newest file.
        """
        with self._lock:
            self._lock_file = self._lock_file or lock_folder(self._folder)
            found, strangers = _listed(self._folder)
            if strangers:
                self._quarantine(strangers, "is not a file of a table")
            self._check_types(found)
            self.segments = tuple(found)
            rows, after = joined(self._columns, [], []), max((each.next for each in found), default=0)
            for segment in found:
                is_newest = segment is found[-1]
                if segment.state == "open" or (is_newest and segment.state == "rows" and segment.size < self._segment):
                    rows, end = self._recover(segment, resume=is_newest)
                    after = max(after, end)
            self.is_open = True
            return rows, after

    def _check_types(self, found: Sequence[SegmentFile]) -> None:
        types = types_in(found[-1]) if found else {}
        for name, kind in self._columns.items():
            if (was := types.get(name, kind)) != kind:
                if self._lock_file is not None:
                    self._lock_file.close()
                    self._lock_file = None
                raise BadRequest(
                    f"column {name!r} of table {self._name} is of type {kind}, and of type {was} in {self._folder}; "
                    "give the column another name, or move that folder away"
                )

    def _recover(self, segment: SegmentFile, *, resume: bool) -> tuple[Rows, int]:
        """Return the rows of a file and the number of the next one; resume it if it is whole and of these columns."""
        content, was_open = read_row_file(segment.path, self._columns), segment.state == "open"
        numbers = content.rows.numbers
        after = max(segment.next, int(numbers[-1]) + 1 if len(numbers) else 0)
        if content.end < content.size:
            self._counters.add("cut")
        if content.damaged:
            self._counters.add("damaged", content.damaged)
            log.error("%s: %d lines are damaged; it is quarantined once it is sealed", segment.path, content.damaged)
        whole = replace(segment, next=after, size=content.end)
        self._replace(segment, whole)
        if content.damaged and not len(numbers):
            self._drop(segment)
            self._quarantine([segment.path], "has no line that is whole")
        elif resume and not content.damaged and dict(content.columns or {}) == dict(self._columns):
            growing = replace(whole, path=self._path(segment.first))
            if not was_open:
                segment.path.rename(growing.path)
            self._file = AppendedFile(growing.path, content.end)
            self._replace(whole, growing)
        elif was_open:
            self._close_as(whole)
        return content.rows, after + SKIPPED if was_open else after

    def write(self, first: int, rows: int, arrays: Arrays) -> None:
        """Append rows.

        Raises
        ------
        OSError
            If the disk does not take them; then none is written.
        """
        data = line(first, arrays)
        with self._lock:
            has_rows = self._file is not None and self.segments[-1].next > self.segments[-1].first
            if self._file is not None and has_rows and self._file.size + len(data) > self._segment:
                self._end_file()
            file = self._file or self._begin_file(first)
            file.write(data)
            self._replace(self.segments[-1], replace(self.segments[-1], next=first + rows, size=file.size))

    def _begin_file(self, first: int) -> AppendedFile:
        path = self._path(first)
        file = AppendedFile(path)
        try:
            file.write(head(self._name, self._columns))
        except OSError:
            file.close()
            path.unlink()
            raise
        self._file = file
        self.segments = (*self.segments, SegmentFile(path, first, first, file.size))
        return file

    def _end_file(self) -> None:
        """Close the file that grows, and give it the name of a closed one."""
        if self._file is not None:
            self._file.sync()
            self._file.close()
            self._file = None
            self._close_as(self.segments[-1])

    def _close_as(self, segment: SegmentFile) -> None:
        if segment.next == segment.first:
            segment.path.unlink()
            self._drop(segment)
            return
        closed = replace(segment, path=self._path(segment.first, segment.next, "rows"))
        segment.path.rename(closed.path)
        sync_folder(self._folder)
        self._replace(segment, closed)

    def sync(self) -> None:
        """Force onto the disk what was written.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        with self._lock:
            if self._file is not None:
                self._file.sync()

    def seal(self) -> None:
        """Seal the closed files, where pyarrow is installed; without it, they stay as they are.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        for segment in [each for each in self.segments if each.state == "rows"] if can_seal() else ():
            content = read_row_file(segment.path, self._columns)
            sealed = replace(segment, path=self._path(segment.first, segment.next, "parquet"))
            if len(content.rows.numbers):
                write_sealed(sealed.path, self._name, self._columns, content.rows)
            with self._lock:
                if len(content.rows.numbers):
                    self._replace(segment, replace(sealed, size=sealed.path.stat().st_size))
                else:
                    self._drop(segment)
                if content.damaged:
                    self._quarantine([segment.path], f"has {content.damaged} damaged lines")
                else:
                    segment.path.unlink()
            self._counters.add("sealed")

    def expire(self, most: int, oldest: float) -> None:
        """Remove the oldest files while all have more than `most` bytes, and those whose rows are all before `oldest`.

        Raises
        ------
        OSError
            If the disk does not allow it.
        """
        with self._lock:
            while len(self.segments) > 1:
                segment = self.segments[0]
                if sum(each.size for each in self.segments) <= most and not self._is_older(segment, oldest):
                    return
                self._drop(segment)
                segment.path.unlink(missing_ok=True)
                self._counters.add("expired")

    def _is_older(self, segment: SegmentFile, oldest: float) -> bool:
        return math.isfinite(oldest) and self.reader.span(segment)[1] < oldest

    def read(self, segment: SegmentFile, names: Sequence[str]) -> Rows | None:
        """Return some columns of the rows of a segment; None if it was removed meanwhile, or is damaged.

        Raises
        ------
        BadHistory
            If it cannot be read now.
        MissingExtra
            If it is sealed, and pyarrow is not installed.
        """
        for attempt in (segment, next((each for each in self.segments if each.first == segment.first), None)):
            if attempt is None:
                return None
            try:
                return self.reader.read(attempt, names)
            except FileNotFoundError:
                continue  # it was sealed meanwhile, or has expired
            except Damaged as error:
                with self._lock:
                    if attempt in self.segments:
                        self._drop(attempt)
                        self._counters.add("damaged")
                        self._quarantine([attempt.path], error.message)
                return None
            except OSError as error:
                raise BadHistory(
                    f"{attempt.path} cannot be read: {error}; it is left as it is, ask again later"
                ) from error
        return None

    def close(self) -> None:
        """Close the file that grows.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        with self._lock:
            try:
                self._end_file()
            finally:
                self.is_open = False
                if self._lock_file is not None:
                    self._lock_file.close()
                    self._lock_file = None

    def _path(self, first: int, after: int | None = None, suffix: str = "open") -> Path:
        return self._folder / (f"{first:012d}.{suffix}" if after is None else f"{first:012d}-{after:012d}.{suffix}")

    def _replace(self, before: SegmentFile, after: SegmentFile) -> None:
        self.segments = tuple(after if each.first == before.first else each for each in self.segments)

    def _drop(self, segment: SegmentFile) -> None:
        self.segments = tuple(each for each in self.segments if each.first != segment.first)

    def _quarantine(self, paths: Sequence[Path], why: str) -> None:
        for path in paths:
            log.error("table %s: %s %s; it is quarantined", self._name, path, why)
        self._counters.add("quarantined", len(paths))
        quarantine(self._folder, paths)


def _listed(folder: Path) -> tuple[list[SegmentFile], list[Path]]:
    """Return the segments in a folder, and the files that are none; remove duplicates, and files that are not whole."""
    found: dict[int, SegmentFile] = {}
    strangers = []
    for path in sorted(folder.iterdir()):  # open, parquet, rows
        named = _NAME.fullmatch(path.name)
        if path.name == "lock" or (path.name == QUARANTINE and path.is_dir()):
            continue
        if _LEFTOVER.fullmatch(path.name):
            path.unlink()
        elif named is None or not path.is_file():
            strangers.append(path)
        else:
            first = int(named[1])
            segment = SegmentFile(path, first, int(named[2] or first), path.stat().st_size)
            if first in found and found[first].state == "parquet":
                path.unlink()  # it was sealed as a whole
            else:
                found[first] = segment
    return [segment for _, segment in sorted(found.items())], strangers
