"""Reading files into the page cache before they are used through a map.

Where a disk fails, a read raises OSError; a map raises SIGBUS, which ends the process.
"""

from typing import BinaryIO

_AT_ONCE = 1 << 20


def fetch(file: BinaryIO, start: int, size: int) -> None:
    """Read a part of a file, or up to its end.

    Raises
    ------
    OSError
        If the disk does not read it.
    """
    file.seek(start)
    while size > 0 and (data := file.read(min(size, _AT_ONCE))):
        size -= len(data)
