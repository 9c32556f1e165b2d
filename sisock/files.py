"""File operations: reading into the page cache, syncing names to the disk, appending, and moving into quarantine."""

import errno
import fcntl
import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

QUARANTINE = "quarantine"
"""The folder for files that are damaged or unknown."""

_AT_ONCE = 1 << 20


def fetch(file: BinaryIO, start: int, size: int) -> None:
    """Read a part of a file, or up to its end, into the page cache, before it is used through a map.

    Where a disk fails, a read raises OSError; a map raises SIGBUS, which ends the process.

    Raises
    ------
    OSError
        If the disk does not read it.
    """
    file.seek(start)
    while size > 0 and (data := file.read(min(size, _AT_ONCE))):
        size -= len(data)


def make_folder(folder: Path, *, sync: bool) -> None:
    """Make a folder, and those that it is in, where they do not exist; when `sync`, onto the disk."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    if made:
        folder.mkdir(parents=True, exist_ok=True)
    for each in made if sync else ():
        sync_folder(each.parent)


class InUse(BlockingIOError):
    """Another process writes to the folder."""


def lock_folder(path: Path) -> TextIO:
    """Make a folder and lock it for one writer, until the returned file is closed or the process ends.

    Raises
    ------
    OSError
        If that cannot be done.
    InUse
        If another process has locked it.
    """
    make_folder(path, sync=True)
    try:
        file = (path / "lock").open("a+")
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        file = (path / "lock").open("r")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise InUse(f"{path} is in use by the process with pid {pid}") from None
    with suppress(OSError):  # it is locked; the pid is for the message above
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file


def sync_folder(folder: Path) -> None:
    """Force onto the disk which files a folder has, and which names they have.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, text: str, *, mode: int = 0o666, sync: bool = True) -> None:
    """Replace the content of a file by a new one or, if that fails, leave the one before.

    Only one process at a time may do so.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    text : str
    mode : int, optional
        Who may read and write the file, less what the umask takes away.
    sync : bool, optional
        Force it onto the disk; otherwise a loss of power may leave an empty file.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


class AppendedFile:
    """A file that is appended to; what was written outlives a kill of the process.

    Parameters
    ----------
    path : Path
    at : int, optional
        Bytes at its start that stay; the rest is overwritten.

    Raises
    ------
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: Path, at: int = 0) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.size = at
        """Bytes that were written."""
        os.ftruncate(self._fd, at)

    def write(self, data: bytes) -> None:
        """Append, all or nothing.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        if os.pwrite(self._fd, data, self.size) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size += len(data)

    def sync(self) -> None:
        """Force onto the disk what was written.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def checked_line(content: bytes) -> bytes:
    """Return a line of a file: the CRC-32 of its content in hexadecimal, and its content, which has no line break."""
    return b"%08x %s\n" % (zlib.crc32(content), content)


def read_checked_line(line: bytes) -> bytes | None:
    """Return the content of a line without its line break; None if it is damaged."""
    checksum, content = line[:8], line[9:]
    try:
        is_whole = line[8:9] == b" " and int(checksum, 16) == zlib.crc32(content)
    except ValueError:
        return None
    return content if is_whole else None


def quarantine(path: Path, files: Iterable[Path]) -> None:
    """Move files into the quarantine of the folder `path`.

    Raises
    ------
    OSError
        If the disk does not take that.
    """
    folder, changed = path / QUARANTINE, set[Path]()
    for file in files:
        make_folder(folder, sync=True)
        name = file.name if file.parent == path else f"{file.parent.name}-{file.name}"
        to, n = folder / name, 1
        while to.exists():
            to, n = folder / f"{name}.{n}", n + 1
        file.rename(to)
        changed |= {folder, file.parent}
    for each in changed:
        sync_folder(each)
