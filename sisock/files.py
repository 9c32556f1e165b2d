"""File operations: reading into the page cache, syncing names to the disk."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

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
