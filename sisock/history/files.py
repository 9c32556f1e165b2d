"""What the system does with files and folders: reading into the page cache, forcing names onto the disk."""

import os
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


def write_whole(path: Path, text: str) -> None:
    """Replace the content of a file, onto the disk; after a loss of power it has the new content or the one before.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    make_folder(path.parent, sync=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)
