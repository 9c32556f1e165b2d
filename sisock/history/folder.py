"""The folder of a history: locking it for one writer, and the files of its segments."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sisock.errors import BadHistory
from sisock.files import make_folder
from sisock.history.layout import words_path
from sisock.history.sealed import pyramid_path


def lock_folder(path: Path) -> TextIO:
    """Make the folder of a history and lock it for one writer.

    Raises
    ------
    OSError
        If that cannot be done.
    BadHistory
        If somebody else writes there.
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
        raise BadHistory(
            f"{path} is in use by the process with pid {pid}; stop that one, or set another history.path for this node"
        ) from None
    with suppress(OSError):  # it is locked; the pid is for the message above
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), str(os.getpid()).encode())
    return file


def remove_segment(path: Path) -> None:
    """Remove the files of a segment."""
    for each in (path, words_path(path), pyramid_path(path)):
        each.unlink(missing_ok=True)
