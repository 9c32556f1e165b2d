"""One open segment on disk: samples in the order in which they came, as columns of fixed places in one file.

The layout is written down in docs/history-format.md. Space is reserved when the file is made, so that writing to it
does not meet a full disk, and a column can be read through mmap as one array. An append writes the values, then the
times, then a commit record; what is behind the committed rows does not count. Two places take the commit records in
turns, so that one that is cut short by a kill leaves the one before it; a third has the newest that is known to be on
the disk.
"""

import json
import math
import mmap
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Column, Field, FloatArray
from sisock.files import fetch
from sisock.history.marks import read_mark
from sisock.history.pieces import Rows
from sisock.history.words import Words, spelled

FORMAT = 2
MAGIC = b"sisocksg"
BLOCK = 1 << 16
"""Rows of a block; each column's part of it has a checksum."""
_PAGE = 4096
_HEAD = struct.Struct("<8sIIII")  # magic, format, length of the description, its CRC-32, zero
_COMMIT = struct.Struct("<Qd")  # rows, finalized_until; then a running CRC-32 per column, then one of the record
_CODES = "<i4"
# Of the columns, the one that has the times.
_TIMES = -1
# Seconds for which a verification holds while no other process writes to the file.
_TRUSTED_S = 60.0


class NewerFormat(BadHistory):
    """A file of a format that a later version of sisock has written; it is left as it is."""

    name = "newer_format"


class Unreadable(BadHistory):
    """A file that the disk does not read at present, which says nothing of its contents."""

    name = "unreadable"
    retriable = True


class PartlyWritten(BadHistory):
    """Only the first `rows` samples could be written."""

    name = "partly_written"

    def __init__(self, message: str, rows: int = 0) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True)
class Layout:
    """Where in the file of a segment what is.

    Attributes
    ----------
    timeline : str
    fields : tuple of Field
    dtypes : tuple of str
        NumPy's type string of each field's values, little-endian; of strings, that of their codes.
    capacity : int
        Most rows.
    number : int or None
        Of the segment; None in format 1.
    """

    timeline: str
    fields: tuple[Field, ...]
    dtypes: tuple[str, ...]
    capacity: int
    number: int | None = None

    @cached_property
    def description(self) -> bytes:
        """What the file says of itself."""
        fields = [
            {"name": f.name, "type": f.type, "units": f.units, "description": f.description, "dtype": dtype}
            for f, dtype in zip(self.fields, self.dtypes, strict=True)
        ]
        about = {"timeline": self.timeline, "capacity": self.capacity, "fields": fields}
        return json.dumps(about if self.number is None else {**about, "number": self.number}).encode()

    @cached_property
    def records(self) -> int:
        """Where the commit records begin: two that are written in turns, then the newest known to be on the disk."""
        return _aligned(_HEAD.size + len(self.description), 64)

    @cached_property
    def record_size(self) -> int:
        """Bytes of a commit record."""
        return _COMMIT.size + 4 * (len(self.fields) + 1) + 4

    @cached_property
    def checksums(self) -> int:
        """Where the table of the whole blocks' checksums begins: a CRC-32 per block and column, times last."""
        return _aligned(self.records + 3 * self.record_size, 64)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each column begins, times last."""
        blocks = -(-self.capacity // BLOCK)
        offsets = [_aligned(self.checksums + 4 * blocks * (len(self.fields) + 1), _PAGE)]
        for dtype in self.dtypes:
            offsets.append(_aligned(offsets[-1] + self.capacity * np.dtype(dtype).itemsize, 64))
        return tuple(offsets)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.offsets[-1] + 8 * self.capacity

    def belongs_to(self, timeline: str, number: int) -> bool:
        """Whether this is the segment of that number; of format 1 only the timeline is known."""
        return self.timeline == timeline and self.number in (None, number)

    @classmethod
    def of(cls, description: bytes) -> "Layout":
        """Return the layout that a file's description stands for."""
        about = json.loads(description)
        fields = tuple(Field(f["name"], f["type"], f["units"], f["description"]) for f in about["fields"])
        dtypes = tuple(f["dtype"] for f in about["fields"])
        return cls(about["timeline"], fields, dtypes, about["capacity"], about.get("number"))


def row_size(dtypes: Sequence[str]) -> int:
    """Return the bytes of a row whose values have these types, its time included."""
    return 8 + sum(np.dtype(dtype).itemsize for dtype in dtypes)


def _aligned(at: int, step: int) -> int:
    return -(-at // step) * step


def stored_dtype(field: Field, values: Column) -> str:
    """Return how the values of a field are stored."""
    if field.type == "string":
        return _CODES
    # Half and extended precision are known to few readers.
    dtype = np.dtype(np.float64) if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8) else values.dtype
    return dtype.newbyteorder("<").str


@dataclass(frozen=True, slots=True)
class Commit:
    """The content of a commit record."""

    rows: int
    finalized_until: float
    running: tuple[int, ...]
    """CRC-32 of each column's part in the last block, which is not whole, times last."""

    @classmethod
    def of(cls, record: bytes, layout: Layout) -> "Commit | None":
        """Return the content of a record of a segment; None if it is not whole."""
        if len(record) != layout.record_size or zlib.crc32(record[:-4]) != int.from_bytes(record[-4:], "little"):
            return None
        rows, final = _COMMIT.unpack_from(record)
        if rows > layout.capacity:
            return None
        return cls(rows, final, struct.unpack_from(f"<{len(layout.fields) + 1}I", record, _COMMIT.size))


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
        """Why the file is damaged as a whole; its checksums decide which rows can be read."""
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
        self._words: list[list[str | None]] = [[] for _ in self.layout.fields]
        self._words_read = 0
        self._lock = threading.Lock()  # for what is remembered of the file, below
        self._records, self._newest, self._modified = b"", Commit(0, -math.inf, ()), 0
        self._held = [(0, 0)] * (len(self.layout.fields) + 1)  # rows of each column that are whole, CRC-32 in the block
        self._held_since = 0.0
        self._seen = 0  # rows that were looked at for their order
        self._ordered, self._first, self._last = True, math.inf, -math.inf

    def _described(self) -> Layout:
        if len(self._map) < _HEAD.size:
            raise BadHistory(f"{self.path} is not a segment of a history")
        magic, version, length, checksum, _ = _HEAD.unpack_from(self._map)
        if magic != MAGIC:
            raise BadHistory(f"{self.path} is not a segment of a history")
        description = self._map[_HEAD.size : _HEAD.size + length]
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
                    self._hold_nothing()  # what has damaged a record may have damaged rows as well
            elif about.st_mtime_ns != self._modified or time.monotonic() - self._held_since > _TRUSTED_S:
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
        self._held_since = time.monotonic()

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
            raise BadHistory(f"{self.path} is damaged where it says how many rows it has")
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
            self._verify_column(_TIMES, commit)

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
                return self._spelled(i, raw) if field.type == "string" else raw
        return None

    def _spelled(self, column: int, codes: Column) -> Column:
        if not self._spelled_whole(column, codes):
            raise BadHistory(f"{words_path(self.path)} is damaged in words that {self.path} uses")
        return spelled(codes, self._words[column])

    def rows(self, start: int, end: int) -> Rows:
        """Return the times of rows, and the values of all fields, as views of the file where they are no strings."""
        found = {field.name: self.values(field.name, start, end) for field in self.layout.fields}
        return self.times(start, end), {name: values for name, values in found.items() if values is not None}

    def order(self, rows: int) -> tuple[bool, float, float]:
        """Return whether the times of the first `rows` rows ascend, and the least and the greatest of them."""
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
            if not (self._column_holds(_TIMES, block, commit) if times_only else self._block_holds(block, commit)):
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
                self._spelled_whole(i, np.frombuffer(self._raw(i, start, end), _CODES))
                for i, field in enumerate(self.layout.fields)
                if field.type == "string"
            )
        except Unreadable:
            raise
        except BadHistory:
            return False

    def _take_word(self, line: bytes) -> None:
        """Add a line of the file of words; the word of a damaged line is None."""
        try:
            column, *code, word = json.loads(line[:-9] if self._version > 1 else line)
            words = self._words[column]
            if self._version > 1:
                if line[-9:] + b"\n" != _checksum(line[:-9], self.layout.number or 0) or not isinstance(word, str):
                    return
                words += [None] * (code[0] - len(words))
                words[code[0] :] = [word, *words[code[0] + 1 :]]
            else:
                words.append(word if isinstance(word, str) else None)
        except (ValueError, IndexError, TypeError):
            return

    def _spelled_whole(self, column: int, codes: Column) -> bool:
        """Whether the words of all codes are known."""
        if not len(codes):
            return True
        with self._lock:
            words = self._words[column]
            if codes.max() >= len(words):
                self._read_words()
        if codes.min() < 0 or codes.max() >= len(words):
            return False
        return None not in words or all(words[code] is not None for code in np.unique(codes).tolist())

    def _read_words(self) -> None:
        """Read what was added to the file of words; a last line that is not whole yet is left for the next time."""
        try:
            with words_path(self.path).open("rb") as file:
                file.seek(self._words_read)
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            for line in data.splitlines():
                self._take_word(line)
        except FileNotFoundError as error:
            raise BadHistory(f"{words_path(self.path)} is missing") from error
        except OSError as error:
            text = f"{words_path(self.path)} cannot be read: {error}; it is left as it is, ask again later"
            raise Unreadable(text) from error
        self._words_read += len(data)


def _progress(commit: Commit) -> tuple[int, float]:
    return commit.rows, commit.finalized_until


def _state(fd: int) -> tuple[int, int]:
    """Return by what it is seen that a file was replaced or cut."""
    about = os.fstat(fd)
    return about.st_ino, about.st_size


def words_path(path: Path) -> Path:
    """Return the file of a segment's words: a line of JSON ``[column, code, word]`` and its checksum for each."""
    return path.with_suffix(".words")


def words_number(path: Path, numbers: Iterable[int]) -> int | None:
    """Return the one of some segments that the words in a file belong to; None if no line is whole."""
    with path.open("rb") as file:
        for line in file:
            for number in numbers:
                if line[-10:] == _checksum(line[:-10], number):
                    return number
    return None


def _checksum(line: bytes, number: int) -> bytes:
    """Return how a line of words ends; of no two segments alike."""
    return b" %08x\n" % zlib.crc32(line, number)


class SegmentWriter:
    """Appends to a segment that it makes.

    Parameters
    ----------
    path : Path
        Must not be there yet.
    layout : Layout

    Raises
    ------
    OSError
        If the file cannot be made, such as when the disk is full; nothing is left behind then.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.layout, self.rows = layout, 0
        self._words = {i: Words() for i, field in enumerate(layout.fields) if field.type == "string"}
        self.words_size = 0
        """Bytes of the words written."""
        self._broken = False
        self._turn = 0
        self._final = -math.inf
        self._running = [0] * (len(layout.fields) + 1)
        self._last_synced = self.newest = self.record()
        # Under another name until it describes itself: what a kill leaves of it before that was never acknowledged.
        self._path = path.with_name(path.name + ".new")
        if path.exists():
            raise FileExistsError(f"{path} is there already")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._words_fd = -1
        try:
            self._offsets = layout.offsets
            os.posix_fallocate(self._fd, 0, layout.size)
            head = _HEAD.pack(MAGIC, FORMAT, len(layout.description), zlib.crc32(layout.description, FORMAT), 0)
            _write(self._fd, head + layout.description, 0)
            for which in range(3):
                self._write_record(which, self.record())
            if self._words:
                self._words_fd = os.open(words_path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            os.rename(self._path, path)
            self._path = path
        except BaseException:
            self.close()
            self.remove()
            raise

    @property
    def room(self) -> int:
        """How many rows may still be appended."""
        return 0 if self._broken else self.layout.capacity - self.rows

    def append(self, t: FloatArray, columns: Mapping[str, Column], finalized_until: float) -> None:
        """Append rows; when it returns, they outlive this process.

        Parameters
        ----------
        t : ndarray of float64, shape (n,)
            n at most `room`.
        columns : mapping of str to ndarray, each of shape (n,)
        finalized_until : float
            What is final from now on.
        """
        stored = self._stored(columns)
        for part in self._parts(len(t)):
            # Nothing is final on account of samples that are not here yet.
            final = finalized_until if part.stop == len(t) else self._final
            running = list(self._running)
            for i, (values, dtype) in enumerate(zip(stored, self.layout.dtypes, strict=True)):
                piece = np.ascontiguousarray(values[part], dtype)
                _write(self._fd, piece.data, self._offsets[i] + self.rows * piece.itemsize)
                running[i] = zlib.crc32(piece.data, running[i])
            times = np.ascontiguousarray(t[part], "<f8")
            _write(self._fd, times.data, self._offsets[-1] + self.rows * 8)
            running[-1] = zlib.crc32(times.data, running[-1])
            rows = self.rows + len(times)
            if rows % BLOCK == 0:
                table = struct.pack(f"<{len(running)}I", *running)
                _write(self._fd, table, self.layout.checksums + len(table) * (rows // BLOCK - 1))
                running = [0] * len(running)
            self.rows, self._running, self._final = rows, running, max(self._final, final)
            self._commit()

    def finalize(self, finalized_until: float) -> None:
        """Write down that what lies before `finalized_until` is final."""
        self._final = max(self._final, finalized_until)
        self._commit()

    def sync(self, record: bytes | None = None) -> None:
        """Force onto the disk what was appended; until `record` was made, if it is given."""
        record = record or self.record()
        if record == self._last_synced:
            return
        if self._words_fd >= 0:
            os.fdatasync(self._words_fd)
        os.fdatasync(self._fd)
        self._last_synced = record
        self._write_record(2, record)  # reaches the disk at some time after what it tells of

    def close(self) -> None:
        """Close the files, with the newest commit record in both places; they are not forced onto the disk."""
        if self._fd >= 0 and self.rows:
            with suppress(OSError):  # it is in one place already
                self._write_record(1 - self._turn, self.newest)
        for fd in (self._fd, self._words_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._words_fd = -1

    def remove(self) -> None:
        """Remove the files."""
        self._path.unlink(missing_ok=True)
        words_path(self._path.with_suffix("") if self._path.suffix == ".new" else self._path).unlink(missing_ok=True)

    def _parts(self, n: int) -> Iterator[slice]:
        """Yield the parts of n rows that lie in one block each."""
        done = 0
        while done < n:
            end = min(n, done + BLOCK - self.rows % BLOCK)
            yield slice(done, end)
            done = end

    def _stored(self, columns: Mapping[str, Column]) -> list[Column]:
        """Return the columns as they are stored, their new words being written first."""
        stored: list[Column] = []
        known = {i: len(words.words) for i, words in self._words.items()}
        for i, field in enumerate(self.layout.fields):
            values = columns[field.name]
            stored.append(self._words[i].encode(values) if i in self._words else values)
        lines = [
            self._word_line(i, code, words.words[code])
            for i, words in self._words.items()
            for code in range(known[i], len(words.words))
        ]
        if lines:
            data = b"".join(lines)
            try:
                _write(self._words_fd, data, self.words_size)
            except OSError:
                # A part of them may be there, and may have been read: no others may get their codes.
                self._broken = True
                raise
            self.words_size += len(data)
        return stored

    def _word_line(self, column: int, code: int, word: str) -> bytes:
        line = json.dumps([column, code, word]).encode()
        return line + _checksum(line, self.layout.number or 0)

    def record(self) -> bytes:
        """Return the commit record of what was appended."""
        record = _COMMIT.pack(self.rows, self._final) + struct.pack(f"<{len(self._running)}I", *self._running)
        return record + zlib.crc32(record).to_bytes(4, "little")

    def _commit(self) -> None:
        self._turn = 1 - self._turn
        self.newest = self.record()
        self._write_record(self._turn, self.newest)

    def _write_record(self, which: int, record: bytes) -> None:
        _write(self._fd, record, self.layout.records + which * len(record))


def _write(fd: int, data: bytes | memoryview, at: int) -> None:
    """Write all of `data` at an offset."""
    done = os.pwrite(fd, data, at)
    size = len(data) if isinstance(data, bytes) else data.nbytes
    while done < size:  # which is rare
        done += os.pwrite(fd, np.frombuffer(data, np.uint8)[done:].data, at + done)
