"""A file that grows, and may be cut, rewritten, renamed or replaced meanwhile: its whole rows, once each."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sisock.metrics import Counters
from sisock.times import Clock
from sisock_nodes.table.rows import as_utf8, whole_rows

# Most bytes that are read at once: so many that an ordinary table, in whatever order, is sorted as a whole.
PIECE = 64 << 20
# Seconds without writing after which a last line is taken without its line break, and a quoted cell without its end.
SETTLED_S = 60.0
# Seconds without writing after which a file that is no longer at its path has been left by its writer; and after which
# it is left in any case.
QUIET_S, LEFT_S = 5.0, 60.0
# Seconds without writing after which a file is closed, and opened again when it changes.
_IDLE_S = 3600.0
# Bytes at the beginning, behind the first line, and before what is yet to be read, by which a file is known again.
_HEAD, _TAIL = 4096, 256

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some whole rows of a file.

    Attributes
    ----------
    data : bytes
        In UTF-8; what is quoted has its end.
    first : bool
        Whether it begins with the first line of the file.
    again : bool
        Whether the file was read before and begins as it did then.
    provisional : bool
        Whether it is a last line that may not have ended yet, and then comes again.
    """

    data: bytes
    first: bool
    again: bool
    provisional: bool = False


class FileFollower:
    """Reads what is in a file, then what is appended.

    A file is known by its device, its inode, and the bytes at its beginning and before what is yet to be read. When
    they differ, it is read from its beginning. When another file is at the path, what is written to the old one is
    read until nobody wrote to it for `QUIET_S`, for `LEFT_S` at the most.

    Parameters
    ----------
    path : Path
    delimiter : str
        Between cells.
    clock : Clock
    counters : Counters
        ``read_anew``, ``bad_bytes``, ``unclosed_quotes``, ``bad_rows`` (lines without end), ``abandoned`` are counted.
    """

    def __init__(self, path: Path, delimiter: str, clock: Clock, counters: Counters) -> None:
        self.path = path
        self._delimiter, self._clock, self._counters = delimiter, clock, counters
        self._file: int | None = None  # its descriptor
        self._identity: tuple[int, int] | None = None
        self._idle: tuple[int, ...] | None = None  # identity of the file when it was closed for being idle
        self._replaced_at: float | None = None
        self._waiting_since: float | None = None  # lines wait for the end of a quoted cell
        self._before: bytes | None = None  # the beginning of what was read before from here
        self._begin()

    def _begin(self) -> None:
        self._offset = 0
        self._head, self._tail, self._provisional = b"", b"", b""
        self._waiting_since = None

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode of the file that is read; None while there is none."""
        return self._identity

    def read_again(self) -> None:
        """Read the file from its beginning at the next look."""
        self._before, self._idle = self._head or self._before, None
        self._begin()

    def close(self) -> None:
        """Close the file; it is opened again when it is looked at."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def chunks(self) -> Iterator[Chunk]:
        """Yield new rows; a chunk is done when the next is requested.

        Raises
        ------
        OSError
            If there is no file, or it cannot be read.
        """
        if self._file is None and not self._open():
            return
        while True:
            is_left = self._is_left()
            yield from self._rows(ended=is_left)
            if not is_left:
                self._close_if_idle()
                return
            self.close()
            self._replaced_at = None
            if not self._open():
                return

    def _open(self) -> bool:
        """Open the file; False if it is as it was when it was closed."""
        if self._idle is not None and self._idle == _looks(os.stat(self.path)):
            return False
        self._file, self._idle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), None
        stat = os.fstat(self._file)
        identity = (stat.st_dev, stat.st_ino)
        if self._identity not in (None, identity):
            self._read_anew("was replaced")
        self._identity = identity
        return True

    def _read_anew(self, why: str) -> None:
        if self._head:  # otherwise nothing of it was taken
            log.warning("%s %s; it is read from its beginning", self.path, why)
            self._counters.add("read_anew")
        self.read_again()

    def _is_left(self) -> bool:
        """Return whether another file, or none, is at the path, and nobody writes to this one any more."""
        try:
            stat = os.stat(self.path)
            is_here = (stat.st_dev, stat.st_ino) == self._identity
        except FileNotFoundError:
            is_here = False
        if is_here:
            self._replaced_at = None
            return False
        now = self._clock.monotonic()
        self._replaced_at = now if self._replaced_at is None else self._replaced_at
        if self._quiet_for() >= QUIET_S:
            return True
        if now - self._replaced_at < LEFT_S:
            return False
        self._counters.add("abandoned")
        log.warning("%s is another file now, and the old one is still written to; it is read no more", self.path)
        return True

    def _quiet_for(self) -> float:
        assert self._file is not None  # noqa: S101 - for mypy
        return self._clock.now() - os.fstat(self._file).st_mtime

    def _close_if_idle(self) -> None:
        # The remaining bytes of an idle file were taken provisionally.
        if self._file is not None and self._quiet_for() > _IDLE_S:
            self._idle = _looks(os.fstat(self._file))
            self.close()

    def _rows(self, *, ended: bool) -> Iterator[Chunk]:
        """Yield the whole rows that are new; all that there is when the file has ended."""
        while (data := self._read()) or self._offset:
            if not self._is_as_before():
                self._read_anew("was cut or rewritten")
                continue
            if self._skip_provisional(data):
                continue
            rows = whole_rows(data, self._delimiter, patient=self._is_patient(), ended=ended and len(data) < PIECE)
            if rows.taken:
                self._provisional = b""
                yield self._chunk(rows.data)
                self._counters.add("unclosed_quotes", rows.unclosed)
                self._took(data, rows.taken)
            elif len(data) == PIECE:
                log.warning("%s has a line of more than %d MB, which is left out", self.path, PIECE >> 20)
                self._counters.add("bad_rows")
                self._took(data, len(data))
            else:
                yield from self._last_line(data)
                return

    def _read(self) -> bytes:
        assert self._file is not None  # noqa: S101 - for mypy
        return os.pread(self._file, PIECE, self._offset)

    def _is_as_before(self) -> bool:
        """Return whether the file still has what was read; looked at after reading, lest it was cut meanwhile."""
        assert self._file is not None  # noqa: S101 - for mypy
        return (
            os.pread(self._file, len(self._head), 0) == self._head
            and os.pread(self._file, len(self._tail), self._offset - len(self._tail)) == self._tail
        )

    def _skip_provisional(self, data: bytes) -> bool:
        """Pass over a last line that was taken, if it has ended as it was."""
        known = self._provisional
        if not known or not data.startswith((known + b"\n", known + b"\r\n")):
            return False
        self._took(data, data.index(b"\n", len(known)) + 1)
        self._provisional = b""
        return True

    def _is_patient(self) -> bool:
        """Return whether lines that wait for the end of a quoted cell have not waited for too long."""
        return self._waiting_since is None or self._clock.monotonic() - self._waiting_since < SETTLED_S

    def _last_line(self, data: bytes) -> Iterator[Chunk]:
        """Yield a line that has not ended, once nobody has written for long."""
        if b"\n" not in data:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()
        if data and data != self._provisional and self._quiet_for() > SETTLED_S:
            rows = whole_rows(data, self._delimiter, ended=True)
            yield self._chunk(rows.data, provisional=True)
            self._provisional = data

    def _chunk(self, data: bytes, *, provisional: bool = False) -> Chunk:
        text, bad = as_utf8(data)
        first = not self._offset
        again = first and self._before is not None and _lines(data, 2) == _lines(self._before, 2)
        if bad and not provisional:
            if not self._counters["bad_bytes"]:
                log.warning("%s has bytes that are not UTF-8; they are read as Windows-1252, and counted", self.path)
            self._counters.add("bad_bytes", bad)
        return Chunk(text, first, again, provisional)

    def _took(self, data: bytes, n: int) -> None:
        """Continue behind the first bytes that were read."""
        if not self._offset:
            self._head = data[: data.find(b"\n", 0, n) + 1]
        most = self._head.find(b"\n") + 1 + _HEAD
        if len(self._head) < most:
            # All bytes that were read so far are the beginning.
            begin = len(self._head) - self._offset
            self._head += data[begin : min(n, begin + most - len(self._head))]
        self._offset += n
        self._tail = (self._tail + data[max(0, n - _TAIL) : n])[-_TAIL:]


def _looks(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _lines(data: bytes, n: int) -> list[bytes]:
    return data.split(b"\n", n)[:n]
