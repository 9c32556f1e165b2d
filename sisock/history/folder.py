"""The folder of a history: locking it for one writer, and the files of its segments."""

from pathlib import Path
from typing import TextIO

from sisock.errors import BadHistory
from sisock.files import InUse, lock_folder
from sisock.history.layout import words_path
from sisock.history.sealed import pyramid_path


def lock_history(path: Path) -> TextIO:
    """Make the folder of a history and lock it for one writer.

    Raises
    ------
    OSError
        If that cannot be done.
    BadHistory
        If another process writes to it.
    """
    try:
        return lock_folder(path)
    except InUse as error:
        raise BadHistory(f"{error}; stop that one, or set another history.path for this node") from None


def remove_segment(path: Path) -> None:
    """Remove the files of a segment."""
    for each in (path, words_path(path), pyramid_path(path)):
        each.unlink(missing_ok=True)
