"""Frames of bytes that wait on disk until they are delivered, oldest first; without room the oldest are dropped.

A spool is a folder of files, each with frames one after the other: their length and their CRC-32 (two 32-bit numbers,
little-endian), then the bytes. The file ``delivered`` has the file and the place in it where the next frame begins.
"""

import logging
import shutil
import struct
import threading
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sisock.errors import BadRequest
from sisock.files import AppendedFile
from sisock.metrics import Counters
from sisock.outage import PASSING

log = logging.getLogger(__name__)

_FRAME = struct.Struct("<II")
_DONE = struct.Struct("<QQ")  # then its CRC-32
_FILE_SIZE = 8 << 20


class Place(NamedTuple):
    """Where a frame begins, or ends: the number of its file, and the bytes before it there."""

    file: int
    at: int


class Spool:
    """Frames that wait; one process writes, and what it has written outlives its kill.

    Parameters
    ----------
    folder : Path
        Made when it is not there; on a disk that is full or broken at the start, when that takes it.
    limit : int
        Most bytes on disk; beyond it the oldest file is dropped.

    Attributes
    ----------
    counters : Counters
        ``spooled`` and ``dropped`` frames; ``damaged``, files of which the rest could not be read; ``unmarked``, how
        often it could not be written down what is delivered, which would be delivered again after a kill.

    Raises
    ------
    BadRequest
        If the folder cannot be used.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.counters = Counters("spooled", "dropped", "damaged", "unmarked")
        self._folder, self._limit, self._lock = folder, limit, threading.Lock()
        self._files: dict[int, int] = {}  # bytes, by number
        self._done, self._last, self._frames = Place(0, 0), 1, 0
        self._writing: AppendedFile | None = None
        try:
            self._begin_writing()
        except OSError as error:
            if error.errno not in PASSING:
                raise BadRequest(
                    f"{folder} cannot be used to hold what is to be delivered: {error.strerror}"
                ) from error
            log.warning("%s cannot be written to now: %s", folder, error.strerror)

    def _begin_writing(self) -> AppendedFile:
        """Count the frames that wait, and begin a file; retried with the next frame if the disk fails."""
        self._files = {int(path.stem): path.stat().st_size for path in self._folder.glob("*.spool")}
        self._done = max(self._done, self._read_done())
        self._frames = sum(self._count(number) for number in self._files if number >= self._done.file)
        # A file that a kill has cut short is not appended to.
        self._last = max([*self._files, self._done.file], default=0) + 1
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writing = self._begin(self._last)
        return self._writing

    def append(self, frame: bytes) -> None:
        """Append a frame.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        data = _FRAME.pack(len(frame), zlib.crc32(frame)) + frame
        with self._lock:
            writing = self._writing or self._begin_writing()
            if self._files[self._last] + len(data) > _FILE_SIZE and self._files[self._last]:
                fresh = self._begin(self._last + 1)
                writing.close()
                self._last, self._writing = self._last + 1, fresh
                writing = fresh
            writing.write(data)
            self._files[self._last] += len(data)
            self._frames += 1
            self.counters.add("spooled")
            while sum(self._files.values()) > self._limit and min(self._files) < self._last:
                self._drop(min(self._files))

    def waiting(self, most: int, known: Container[Place] = ()) -> Iterator[tuple[Place, bytes]]:
        """Yield the oldest frames that wait, each with the place after it, until they have `most` bytes.

        Those with `known` places are left out.
        """
        with self._lock:
            place = self._done
            ends = {number: size for number, size in self._files.items() if number >= place.file}
        size = 0
        for number, end in sorted(ends.items()):
            at = place.at if number == place.file else 0
            try:
                file = self._path(number).open("rb")
            except FileNotFoundError:
                continue  # dropped meanwhile
            with file:
                for begin, length, checksum in _heads(file, at, end):
                    after = Place(number, begin + _FRAME.size + length)
                    if after in known:
                        at = after.at
                        continue
                    frame = file.read(length)
                    if zlib.crc32(frame) != checksum:
                        break
                    at = after.at
                    size += length
                    yield after, frame
                    if size >= most:
                        return
            if at < end:
                self._cut(number, at)

    def delivered(self, until: Place, frames: int) -> None:
        """Forget the frames before a place, of which there are so many."""
        with self._lock:
            if until <= self._done:
                return  # dropped meanwhile
            self._done = until
            self._frames -= frames
            data = _DONE.pack(*until)
            fresh = self._folder / "delivered.new"
            try:
                # First, since that makes room: what is not there is not delivered again either.
                for number in [n for n in self._files if n < until.file]:
                    self._path(number).unlink(missing_ok=True)
                    del self._files[number]
                fresh.write_bytes(data + zlib.crc32(data).to_bytes(4, "little"))
                fresh.replace(self._folder / "delivered")
            except OSError as error:
                self.counters.add("unmarked")
                log.debug("%s: %s", fresh, error)

    @property
    def done(self) -> Place:
        """The place before which nothing waits."""
        return self._done

    @property
    def frames(self) -> int:
        """How many frames wait."""
        return self._frames

    @property
    def size(self) -> int:
        """How many bytes are on disk."""
        with self._lock:
            return sum(self._files.values())

    def drop_oldest(self) -> bool:
        """Drop the oldest file, as beyond the limit; False if there is only the one that is written."""
        with self._lock:
            if min(self._files, default=self._last) == self._last:
                return False
            self._drop(min(self._files))
            return True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._writing is not None:
                self._writing.close()

    def remove(self) -> None:
        """Close the file, and remove the folder with all that waits."""
        self.close()
        shutil.rmtree(self._folder)

    def _begin(self, number: int) -> AppendedFile:
        begun = AppendedFile(self._path(number))
        self._files[number] = 0
        return begun

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:010d}.spool"

    def _read_done(self) -> Place:
        try:
            data = (self._folder / "delivered").read_bytes()
        except FileNotFoundError:
            return Place(0, 0)
        if len(data) != _DONE.size + 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            return Place(0, 0)  # all of it once more
        return Place(*_DONE.unpack_from(data))

    def _count(self, number: int, at: int | None = None) -> int:
        """Return how many frames a file has from `at` on, by default those that wait."""
        if at is None:
            at = self._done.at if self._done.file == number else 0
        with self._path(number).open("rb") as file:
            return sum(1 for _ in _heads(file, at, self._files[number]))

    def _drop(self, number: int) -> None:
        """Drop the oldest file."""
        lost = self._count(number)
        self._path(number).unlink(missing_ok=True)
        del self._files[number]
        self._done = max(self._done, Place(number + 1, 0))
        self._frames -= lost
        self.counters.add("dropped", lost)

    def _cut(self, number: int, at: int) -> None:
        """Count what follows in a file as damaged; a kill leaves half a frame, which was not acknowledged."""
        with self._lock:
            if at < self._files.get(number, 0):
                self.counters.add("damaged")
                self._frames -= self._count(number, at)
                self._files[number] = at


def _heads(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield where the frames of a file begin, their lengths and checksums; the file is then at the frame's bytes."""
    while at + _FRAME.size <= end:
        file.seek(at)
        length, checksum = _FRAME.unpack(file.read(_FRAME.size))
        if at + _FRAME.size + length > end:
            return
        yield at, length, checksum
        at += _FRAME.size + length
