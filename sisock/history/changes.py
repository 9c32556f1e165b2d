"""Making changes of a manifest: first in its journal, then in its tables.

The tables are in memory; on disk every change is a line of a journal, from which, and from the segments, they are
built when a history is opened.
"""

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sisock.errors import BadHistory
from sisock.history.journal import Change, Journal, Line
from sisock.history.losses import LossFiles, timeline_files
from sisock.history.tables import FILE, Tables
from sisock.times import SYSTEM_CLOCK

log = logging.getLogger(__name__)

# Bytes that a journal may grow by before it is compacted.
_GROWTH = 4 << 20
# Seconds before a journal that could not be written as a whole is tried again.
_RETRY_S = 1.0


class ChangeLog:
    """Tables in memory, and the journal of their changes; without a folder, the tables only.

    Parameters
    ----------
    folder : Path, optional
    writable : bool
        Otherwise it follows what another process writes, and changes nothing on disk.
    loaded : callable, optional
        Called with this object each time the tables were built.

    Raises
    ------
    BadHistory
        If the journal is of a newer format.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        writable: bool = True,
        loaded: Callable[[Any], None] | None = None,
    ) -> None:
        # A writer takes `_changing` before `_lock`, so that readers do not wait for the disk; and one that has to wait
        # until its changes are on the disk takes `_syncing` before both, so that other writers do not wait for that.
        self._syncing, self._changing, self._lock = threading.Lock(), threading.RLock(), threading.RLock()
        self._path, self._writable = folder, writable
        self._compacted = 0
        self.begun = self._lacking = False
        """Whether the journal is written."""
        self._failed: tuple[float, OSError] | None = None  # when the journal could not be written as a whole, and why
        self._journal = Journal(folder) if folder else None
        self._losses = LossFiles(folder, self._losses_of) if folder else None
        self.rebuilt: list[str] = []
        """Files that were not whole, whose content is rebuilt."""
        self._loaded, self._loading = loaded, False
        self._load()

    def _losses_of(self, timeline: int) -> list[Change]:
        return self._tables.losses_of(timeline)  # by the tables as they are now: they are replaced

    def _load(self) -> None:
        """Build the tables from the journal, or from the manifest of format 1."""
        self._tables = Tables()
        if self._path is None or self._journal is None:
            return
        exists = self._journal.exists()
        changes = self._journal.read()
        if exists:
            self._tables.apply(changes)
            self.rebuilt = [path.name for path in self._journal.damaged]
        elif (self._path / FILE).exists():
            self.rebuilt = [] if self._tables.read_format_1(self._path / FILE) else [FILE]
        elif any(timeline_files(self._path)):
            self.rebuilt = [FILE]
        if self._tables.drop_unusable():
            self.rebuilt = self.rebuilt or [FILE]
        if self._losses is not None and (self.rebuilt or self._writable):
            self._tables.apply(self._losses.read())
        if self._loaded is not None:
            self._loading = True
            try:
                self._loaded(self)
            finally:
                self._loading = False

    def begin(self) -> None:
        """Write the journal from now on, as a whole first if it is new, not whole, or lacks something.

        Raises
        ------
        BadHistory
            If that cannot be done.
        """
        if self._journal is not None:
            with self._writing():
                if self.rebuilt or self._lacking or not self._journal.exists():
                    self._compact()
                else:
                    self._journal.resume()
                self.begun = True

    def rewrite(self) -> None:
        """Write the journal as a whole, forced onto the disk; BadHistory if that cannot be done."""
        if self._journal is not None:
            with self._writing():
                self._compact()

    def _compact(self, *, durable: bool = True) -> None:
        assert self._journal is not None and self._losses is not None  # noqa: S101, PT018 - of a manifest on disk
        with self._lock:
            rows = self._tables.rows()
            lossy = self._tables.all("SELECT timeline FROM gaps UNION SELECT timeline FROM losses")
        self._journal.rewrite(rows, durable=durable)
        self._losses.rewrite(timeline for (timeline,) in lossy)
        self._compacted, self._lacking, self._failed = self._journal.size, False, None

    @property
    def unreadable(self) -> OSError | None:
        """The error with which the journal could not be read; None if it could."""
        return self._journal.unreadable if self._journal is not None else None

    def changed(self) -> bool:
        """Return whether somebody else has written to the journal since it was read."""
        return self._journal is not None and self._journal.changed()

    @property
    def lacking(self) -> bool:
        """Whether the journal lacks changes, which are in memory only, or lines that may not be on the disk."""
        return self._lacking or (self._journal is not None and self._journal.doubtful)

    def complete(self, *, at_once: bool = False) -> None:
        """Write what the journal lacks; `at_once` where there is no later.

        Raises
        ------
        BadHistory
            If that cannot be done.
        """
        with self._writing():
            if at_once:
                self._failed = None
            self._complete()

    def _complete(self) -> None:
        if not self.begun or not self.lacking:
            return
        now = SYSTEM_CLOCK.monotonic()
        if self._failed is not None and now - self._failed[0] < _RETRY_S:
            raise OSError(self._failed[1].errno, self._failed[1].strerror)
        try:
            self._compact()
        except OSError as error:
            self._failed = now, error
            raise

    def close(self) -> None:
        """Close the journal."""
        with self._changing:
            if self._journal is not None:
                try:
                    self.complete(at_once=True)
                except BadHistory as error:
                    log.error("the manifest of %s lacks what happened last: %s", self._path, error)
                self._journal.close()
            if self._losses is not None:
                self._losses.close()
            with self._lock:
                self._tables.close()

    def _change(self, changes: Sequence[Change], *, durable: bool = False, deferrable: bool = False) -> None:
        """Make changes together, first in the journal; where they are deferrable and it cannot be, in memory.

        Raises
        ------
        BadHistory
            If they cannot be made.
        """
        if not changes:
            return
        if durable and self._journal is not None and self._writable:
            self._change_durably(self._journal, changes)
            return
        with self._writing():
            if self._journal is not None and self._writable:
                try:
                    self._write(self._journal, changes)
                    self._write_beside(changes)
                except OSError:
                    if not deferrable:
                        raise
                    self._lacking = True
            self._apply(changes)

    def _change_durably(self, journal: Journal, changes: Sequence[Change]) -> None:
        """Make changes once their line is on the disk; other threads make changes in the meantime.

        The order of both does not matter: the caller keeps others from changing the same rows.
        """
        with self._syncing, self._errors():
            while True:
                with ExitStack() as stack:
                    with self._changing:
                        line = self._write(journal, changes)
                        fds = stack.enter_context(journal.files())
                    try:
                        journal.sync(fds)
                    except OSError:
                        self._take_back(journal, line)
                        raise
                with self._changing:
                    if journal.generation == line.generation:
                        self._write_beside(changes)
                        self._apply(changes)
                        return

    def _take_back(self, journal: Journal, line: Line) -> None:
        """Remove a line from the journal whose changes are not made."""
        with self._changing:
            if not journal.take_back(line):
                with suppress(OSError):
                    self._compact(durable=False)
                journal.doubtful = True

    def _apply(self, changes: Sequence[Change]) -> None:
        with self._lock:
            self._tables.apply(changes)

    def _write(self, journal: Journal, changes: Sequence[Change]) -> Line:
        """Append changes to the journal."""
        if not self.begun:
            raise OSError(errno.EROFS, "it is not open for writing")
        self._complete()
        if journal.size > 4 * self._compacted + _GROWTH:
            try:
                self._compact()
            except OSError as error:
                log.warning("the manifest of %s cannot be compacted: %s; it grows", self._path, error)
                self._compacted = journal.size // 4  # which is when it is tried again
        return journal.append(changes)

    def _write_beside(self, changes: Sequence[Change]) -> None:
        try:
            if self._losses is not None:
                self._losses.append(changes)
        except OSError:
            self._lacking = True  # it is in the journal; the rest is written with the next whole journal

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._lock, self._errors():
            if not (self._writable or self._loading) and self._journal is not None and self._journal.changed():
                self._load()
            return self._tables.all(statement, *values)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keep others from writing, and raise what fails as BadHistory."""
        with self._changing, self._errors():
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise BadHistory(f"the manifest of {self._path or 'the history'} cannot be used: {error}") from error

    def _one(self, statement: str, *values: Any) -> Any:
        row = self._all(statement, *values)
        return row[0][0] if row else None
