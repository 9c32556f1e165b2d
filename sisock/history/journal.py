"""The journal of a manifest: its changes as lines with checksums, in two copies that complete each other."""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sisock.errors import BadHistory
from sisock.files import checked_line, read_checked_line, sync_folder

log = logging.getLogger(__name__)

FILES = ("catalogue.log", "catalogue.copy")
FORMAT = 2
Change = tuple[str, Sequence[Any]]
"""The name of a statement of the manifest, and its values."""


class Line(NamedTuple):
    """A line that was appended: the journal's generation, its sequence number, and where it begins in each copy."""

    generation: int
    sequence: int
    starts: tuple[int, ...]


class Journal:
    """Changes of a manifest in the order in which they were made.

    A line is the CRC-32 of its rest in hexadecimal, its sequence number, and a JSON list of changes that are made
    together. What is damaged in one copy is read from the other.

    Parameters
    ----------
    folder : Path
    files : sequence of str
        The names of the copies.
    """

    def __init__(self, folder: Path, files: Sequence[str] = FILES) -> None:
        self._paths = [folder / name for name in files]
        self._fds = [-1] * len(files)
        self._ends = [0] * len(files)
        self._sequence = 0
        self._seen: tuple[Any, ...] = ()
        self.size = 0
        """Bytes of a copy when it was written as a whole, then of what was appended."""
        self.damaged: list[Path] = []
        """Copies that were not whole when they were read last."""
        self.unreadable: OSError | None = None
        """The error with which neither copy could be read; their contents may be intact."""
        self.doubtful = False
        """Whether lines may not be on the disk although they can be read, so that all are to be written again."""
        self.generation = 0
        """How often the journal was written as a whole."""

    def exists(self) -> bool:
        """Return whether there is a copy."""
        return any(path.exists() for path in self._paths)

    def changed(self) -> bool:
        """Return whether the copies are others than those that were read last, or have grown."""
        return self._seen != self._state()

    def read(self) -> list[Change]:
        """Return the changes since the last compaction, from all copies together.

        Raises
        ------
        BadHistory
            If the journal is of a newer format.
        """
        self._seen = self._state()
        copies, self.unreadable = [], None
        failed: list[OSError] = []
        for path in self._paths:
            try:
                copies.append(_lines(path))
            except OSError as error:
                copies.append(({}, False))
                failed.append(error)
        if len(failed) == len(copies):
            self.unreadable = failed[0]
        self.damaged = [path for path, (_, whole) in zip(self._paths, copies, strict=True) if not whole]
        lines: dict[int, list[Change]] = {}
        for own, _ in copies:
            lines |= own
        starts = [n for n, changes in lines.items() if changes and changes[0][0] == "format"]
        start = max(starts, default=0)
        for n in starts:
            version = lines[n][0][1][0]
            if n == start and version > FORMAT:
                raise BadHistory(
                    f"{self._paths[0].parent} has format {version}; this sisock reads up to {FORMAT}, so update it"
                )
        kept = {n: changes for n, changes in lines.items() if n >= start}
        for path, (own, _) in zip(self._paths, copies, strict=True):
            if path not in self.damaged and kept.keys() - own.keys():
                self.damaged.append(path)
        self._sequence = max(lines, default=0)
        if not starts or len(kept) != self._sequence - start + 1:
            self.damaged = [path for path in self._paths if path.exists()]  # something is missing in both
        return [change for n in sorted(kept) for change in kept[n] if change[0] != "format"]

    def rewrite(self, changes: Iterable[Change], *, durable: bool = True) -> None:
        """Write these changes in place of all so far, one copy after the other; when `durable`, onto the disk.

        Raises
        ------
        OSError
            If that cannot be done; the copies so far stay.
        """
        start = self._sequence + 1
        lines = [_line(start, [("format", [FORMAT])])]
        lines += [_line(start + i, [change]) for i, change in enumerate(changes, 1)]
        data = b"".join(lines)
        self.generation += 1
        for i, path in enumerate(self._paths):
            new = path.with_name(path.name + ".new")
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            new.rename(path)
            self._open(i, path)
            # From here on one copy has these numbers, also if the other one cannot be written.
            self._sequence, self.size = start + len(lines) - 1, len(data)
        if durable:
            # Until then a loss of power may bring back the copies so far, without what is appended from now on.
            self.doubtful = True
            sync_folder(self._paths[0].parent)
        self.doubtful = False

    def resume(self) -> None:
        """Append to the copies as they are."""
        for i, path in enumerate(self._paths):
            self._open(i, path)
        self.size = max(self._ends)

    def _open(self, i: int, path: Path) -> None:
        if self._fds[i] >= 0:
            os.close(self._fds[i])
        self._fds[i] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # A last line that a kill cut short is written over.
        size = os.fstat(self._fds[i]).st_size
        tail = os.pread(self._fds[i], size, 0)
        self._ends[i] = tail.rfind(b"\n") + 1
        if self._ends[i] < size:
            os.ftruncate(self._fds[i], self._ends[i])

    def append(self, changes: Sequence[Change]) -> "Line":
        """Append changes that are made together, and return their line.

        Raises
        ------
        OSError
            If neither copy takes them.
        """
        data, errors, ends = _line(self._sequence + 1, changes), [], tuple(self._ends)
        for i, fd in enumerate(self._fds):
            try:
                _write(fd, data, self._ends[i])
                self._ends[i] += len(data)
            except OSError as error:
                errors.append(error)
        if len(errors) == len(self._fds):
            self._cut(ends)
            raise errors[0]
        self._sequence += 1
        self.size += len(data)
        return Line(self.generation, self._sequence, ends)

    def take_back(self, line: "Line") -> bool:
        """Remove a line, by which a reader would make its changes; return whether that was possible.

        It is not if other lines follow it; then the journal has to be written as a whole.
        """
        if self.generation == line.generation:
            if self._sequence != line.sequence:
                return False
            self._sequence -= 1
            self._ends = list(line.starts)
            self._cut(line.starts)
        return True

    def _cut(self, ends: Sequence[int]) -> None:
        for fd, end in zip(self._fds, ends, strict=True):
            with suppress(OSError):
                os.ftruncate(fd, end)

    @contextmanager
    def files(self) -> Iterator[list[int]]:
        """Give file descriptors of the copies as they are now, which stay valid when the journal is rewritten."""
        fds = [os.dup(fd) for fd in self._fds]
        try:
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    def sync(self, fds: Sequence[int]) -> None:
        """Force copies onto the disk; other threads may append meanwhile.

        Raises
        ------
        OSError
            If that fails for all of them.
        """
        errors = []
        for fd in fds:
            try:
                os.fdatasync(fd)
            except OSError as error:
                # Earlier lines may be lost as well: the next sync of the file succeeds without them.
                self.doubtful = True
                errors.append(error)
        if len(errors) == len(fds):
            raise errors[0]

    def close(self) -> None:
        """Close the copies."""
        for i, fd in enumerate(self._fds):
            if fd >= 0:
                os.close(fd)
            self._fds[i] = -1

    def _state(self) -> tuple[Any, ...]:
        def of(path: Path) -> Any:
            try:
                about = path.stat()
            except OSError:
                return None
            return about.st_ino, about.st_size, about.st_mtime_ns

        return tuple(map(of, self._paths))


def _line(sequence: int, changes: Sequence[Change]) -> bytes:
    return checked_line(f"{sequence} {json.dumps(changes)}".encode())


def _lines(path: Path) -> tuple[dict[int, list[Change]], bool]:
    """Return the lines of a copy by sequence number, and whether all were whole but for a last one cut short."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, False
    found: dict[int, list[Change]] = {}
    end = data.rfind(b"\n") + 1
    whole = end > 0
    for line in data[:end].split(b"\n")[:-1]:
        text = read_checked_line(line)
        if text is None:
            whole = False
            continue
        sequence, _, changes = text.partition(b" ")
        found[int(sequence)] = [(name, values) for name, values in json.loads(changes)]
    return found, whole


def _write(fd: int, line: bytes, at: int) -> None:
    while line:
        done = os.pwrite(fd, line, at)
        line, at = line[done:], at + done
