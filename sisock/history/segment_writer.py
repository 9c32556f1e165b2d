"""Appending to an open segment; see `segment`."""

import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from sisock.fields import Column, FloatArray
from sisock.history.layout import (
    BLOCK,
    COMMIT,
    FORMAT,
    HEAD,
    MAGIC,
    Layout,
    words_checksum,
    words_path,
)
from sisock.history.string_dictionary import StringDictionary


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
        self._words = {i: StringDictionary() for i, field in enumerate(layout.fields) if field.type == "string"}
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
            raise FileExistsError(f"{path} exists already")
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._words_fd = -1
        try:
            self._offsets = layout.offsets
            os.posix_fallocate(self._fd, 0, layout.size)
            head = HEAD.pack(MAGIC, FORMAT, len(layout.description), zlib.crc32(layout.description, FORMAT), 0)
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
            The watermark from now on.
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
        self._write_record(2, record)  # reaches the disk at some time after the rows

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
        return line + words_checksum(line, self.layout.number or 0)

    def record(self) -> bytes:
        """Return the commit record of what was appended."""
        record = COMMIT.pack(self.rows, self._final) + struct.pack(f"<{len(self._running)}I", *self._running)
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
