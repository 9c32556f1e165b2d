"""One open segment on disk: samples in the order in which they came, as columns of fixed places in one file.

The layout is written down in docs/history-format.md. Space is reserved when the file is made, so that writing to it
does not meet a full disk, and a column can be read through mmap as one array. An append writes the values, then the
times, then a commit record; what is behind the committed rows does not count. Two places take the commit records in
turns, so that one that is cut short by a kill leaves the one before it; a third has the newest that is known to be on
the disk.
"""

import math
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Column, FloatArray
from sisock.files import fetch
from sisock.history.blocks import Block
from sisock.history.layout import (
    BLOCK,
    CODES,
    FORMAT,
    HEAD,
    MAGIC,
    TIMES,
    Commit,
    Layout,
    NewerFormat,
    Unreadable,
)
from sisock.history.marks import read_mark
from sisock.history.segment_words import SegmentWords
from sisock.times import SYSTEM_CLOCK

# Seconds for which a verification holds while no other process writes to the file.
_TRUSTED_S = 60.0


class Segment:
    """A segment's file, read through mmap; any number of processes may, while one writes.

    Parameters
    ----------
    path : Path
    description : bytes, optional
        Its description, known from another place, for a file that is damaged there.

    Raises
    ------
    BadHistory
        If it is not a segment, is damaged where it describes itself, or is of a newer format.
    """

    def __init__(self, path: Path, description: bytes | None = None) -> None:
        self.path = path
        self._map: mmap.mmap | bytes
        with path.open("rb", buffering=0) as file:
            self._file_state = _state(file.fileno())
            try:
                fetch(file, 0, path.stat().st_size)
            except OSError as error:
                raise Unreadable(f"{path} cannot be read: {error}; it is left as it is, ask again later") from error
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise BadHistory(f"{path} is empty, so it is not a segment of a history") from error
        self._version = FORMAT
        self.damage: str | None = None
        """The error of a file that is damaged as a whole; its checksums decide which rows can be read."""
        try:
            self.layout = self._described()
        except BadHistory as error:
            if description is None:
                raise
            self.damage, self.layout = error.message, Layout.of(description)
        self._offsets, size = self.layout.offsets, self.layout.size
        if len(self._map) < size:
            self.damage = f"{path} has {len(self._map)} bytes where it describes {size}; it was cut"
            self._map = self._map[:].ljust(size, b"\0")
        self._words = SegmentWords(path, len(self.layout.fields), self.layout.number or 0, self._version)
        self._lock = threading.Lock()  # for what is remembered of the file, below
        self._records, self._newest, self._modified = b"", Commit(0, -math.inf, ()), 0
        self._held = [(0, 0)] * (len(self.layout.fields) + 1)  # rows of each column that are whole, CRC-32 in the block
        self._held_since = 0.0
        self._seen = 0  # rows that were looked at for their order
        self._ordered, self._first, self._last = True, math.inf, -math.inf

    def _described(self) -> Layout:
        if len(self._map) < HEAD.size:
            raise BadHistory(f"{self.path} is not a segment of a history")
        magic, version, length, checksum, _ = HEAD.unpack_from(self._map)
        if magic != MAGIC:
            raise BadHistory(f"{self.path} is not a segment of a history")
        description = self._map[HEAD.size : HEAD.size + length]
        if version > FORMAT and zlib.crc32(description, version) == checksum:
            raise NewerFormat(f"{self.path} has format {version}; this sisock reads up to {FORMAT}, so update it")
        if zlib.crc32(description, version if version > 1 else 0) != checksum:
            raise BadHistory(f"{self.path} is damaged where it describes itself")
        self._version = version
        return Layout.of(description)

    def committed(self, at_least: int = 0) -> Commit:
        """Return the newest commit of the file of this segment as it is now; the times are whole up to it.

        Parameters
        ----------
        at_least : int
            Rows that are known to have been written.

        Raises
        ------
        BadHistory
            If the file is damaged, was replaced, or has fewer rows.
        FileNotFoundError
            If it is missing.
        """
        about = self.path.stat()
        if self.damage or (about.st_ino, about.st_size) != self._file_state:
            raise BadHistory(self.damage or f"{self.path} was replaced or cut while it was in use")
        with self._lock:
            at = self.layout.records
            records = bytes(self._map[at : at + 3 * self.layout.record_size])
            if records != self._records:
                self._newest = self._newest_known()
                if not (self.turns_whole and self._commit(2)):
                    self._hold_nothing()  # the cause of a damaged record may have damaged rows as well
            elif about.st_mtime_ns != self._modified or SYSTEM_CLOCK.monotonic() - self._held_since > _TRUSTED_S:
                # An append changes the records as well, so another process wrote, or the verification has expired.
                self._hold_nothing()
            self._records, self._modified = records, about.st_mtime_ns
            commit = self._newest
        if commit.rows < at_least:
            raise BadHistory(f"{self.path} has {commit.rows} rows where {at_least} were written")
        self.verify(commit, ())
        return commit

    def _hold_nothing(self) -> None:
        """Verify all columns once more when they are read."""
        self._held = [(0, 0)] * len(self._held)
        self._held_since = SYSTEM_CLOCK.monotonic()

    def _newest_known(self) -> Commit:
        """Return the newest commit that is known of, from any place."""
        turns: list[Commit] = []
        for _ in range(10):  # one may be seen half written
            turns = self._turns()
            if len(turns) == 2:
                break
        known = [*turns, *([self._newest] if self._newest.running else [])]
        if len(turns) < 2:
            mark = read_mark(self.path.parent)
            marked = self.parse(mark.record) if mark and mark.number == self.layout.number else None
            known += [commit for commit in (self._commit(2), marked) if commit]
        if not known:
            raise BadHistory(f"{self.path} is damaged where its number of rows is")
        return max(known, key=_progress)

    def verify(self, commit: Commit, names: Sequence[str]) -> None:
        """Verify the times and the values of fields up to a commit.

        Raises
        ------
        BadHistory
            If their checksums do not hold.
        """
        with self._lock:
            for i, field in enumerate(self.layout.fields):
                if field.name in names:
                    self._verify_column(i, commit)
            self._verify_column(TIMES, commit)

    def _verify_column(self, column: int, commit: Commit) -> None:
        rows, checksum = self._held[column]
        while rows < commit.rows:
            block = rows // BLOCK
            end = min((block + 1) * BLOCK, commit.rows)
            checksum = zlib.crc32(self._raw(column, rows, end), checksum)
            if checksum != self._expected(column, block, commit):
                raise BadHistory(f"{self.path} is damaged between the rows {block * BLOCK} and {end}")
            rows, checksum = end, checksum if end % BLOCK else 0
            self._held[column] = rows, checksum

    def _raw(self, column: int, start: int, end: int) -> memoryview:
        at, size = self._offsets[column], np.dtype((*self.layout.dtypes, "<f8")[column]).itemsize
        return memoryview(self._map)[at + start * size : at + end * size]

    def _expected(self, column: int, block: int, commit: Commit) -> int:
        """Return the checksum of a column in a block, as far as it was written with a commit."""
        columns = len(self.layout.fields) + 1
        if (block + 1) * BLOCK > commit.rows:
            return commit.running[column]
        at = self.layout.checksums + 4 * (columns * block + column % columns)
        return int(struct.unpack_from("<I", self._map, at)[0])

    def commit(self) -> Commit | None:
        """Return the newest commit record; None if there is none that is whole."""
        # Both may be seen half written, if the reading of the one takes as long as the writing of the other.
        for _ in range(100):
            if turns := self._turns():
                return turns[0]
        return None

    def commits(self) -> list[Commit]:
        """Return all commit records that are whole, the newest first, that known to be on the disk last."""
        synced = self._commit(2)
        return [*self._turns(), *([synced] if synced else [])]

    @property
    def turns_whole(self) -> bool:
        """Whether both records that are written in turns are whole."""
        return len(self._turns()) == 2

    def _turns(self) -> list[Commit]:
        """Return those of the two records written in turns that are whole, the newest first."""
        turns = [commit for which in (0, 1) if (commit := self._commit(which))]
        return sorted(turns, key=_progress, reverse=True)

    def _commit(self, which: int) -> Commit | None:
        size, at = self.layout.record_size, self.layout.records
        return self.parse(self._map[at + which * size : at + (which + 1) * size])

    def parse(self, record: bytes) -> Commit | None:
        """Return the content of a commit record; None if it is not whole, or not of this segment."""
        return Commit.of(record, self.layout)

    def times(self, start: int, end: int) -> FloatArray:
        """Return the times of rows, as a view of the file: ndarray of float64, shape (end - start,)."""
        return np.frombuffer(self._map, "<f8", end - start, self._offsets[-1] + 8 * start)

    def values(self, name: str, start: int, end: int) -> Column | None:
        """Return the values of a field in rows; None if it is not in this segment."""
        for i, field in enumerate(self.layout.fields):
            if field.name == name:
                dtype = np.dtype(self.layout.dtypes[i])
                raw = np.frombuffer(self._map, dtype, end - start, self._offsets[i] + dtype.itemsize * start)
                return self._words.spelled(i, raw) if field.type == "string" else raw
        return None

    def rows(self, start: int, end: int) -> Block:
        """Return the times of rows, and the values of all fields, as views of the file unless they are strings."""
        found = {field.name: self.values(field.name, start, end) for field in self.layout.fields}
        return self.times(start, end), {name: values for name, values in found.items() if values is not None}

    def order(self, rows: int) -> tuple[bool, float, float]:
        """Return whether the times of the first `rows` rows ascend, and the minimum and maximum of them."""
        with self._lock:
            if rows > self._seen:
                t = self.times(max(0, self._seen - 1), rows)
                self._ordered = self._ordered and bool(np.all(t[1:] > t[:-1]))
                self._first, self._last = min(self._first, float(t.min())), max(self._last, float(t.max()))
                self._seen = rows
            return self._ordered, self._first, self._last

    def good(self, commit: Commit, *, times_only: bool = False) -> list[tuple[int, int]]:
        """Return the rows, as ranges, whose checksums hold, or those of their times; other rows are damaged."""
        ranges: list[tuple[int, int]] = []
        for block in range(-(-commit.rows // BLOCK)):
            if not (self._column_holds(TIMES, block, commit) if times_only else self._block_holds(block, commit)):
                continue
            start, end = block * BLOCK, min((block + 1) * BLOCK, commit.rows)
            if ranges and ranges[-1][1] == start:
                start = ranges.pop()[0]
            ranges.append((start, end))
        return ranges

    def _column_holds(self, column: int, block: int, commit: Commit) -> bool:
        start, end = block * BLOCK, min((block + 1) * BLOCK, commit.rows)
        return zlib.crc32(self._raw(column, start, end)) == self._expected(column, block, commit)

    def _block_holds(self, block: int, commit: Commit) -> bool:
        if not all(self._column_holds(i, block, commit) for i in range(len(self.layout.fields) + 1)):
            return False
        start, end = block * BLOCK, min((block + 1) * BLOCK, commit.rows)
        try:
            return all(
                self._words.are_known(i, np.frombuffer(self._raw(i, start, end), CODES))
                for i, field in enumerate(self.layout.fields)
                if field.type == "string"
            )
        except Unreadable:
            raise
        except BadHistory:
            return False


def _progress(commit: Commit) -> tuple[int, float]:
    return commit.rows, commit.finalized_until


def _state(fd: int) -> tuple[int, int]:
    """Return by what it is seen that a file was replaced or cut."""
    about = os.fstat(fd)
    return about.st_ino, about.st_size
