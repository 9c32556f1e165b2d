"""A key-value tree on disk: SQLite, with batched commits."""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sisock.errors import BadHistory, Busy, NodeFailed, SisockError
from sisock.files import make_folder
from sisock.keyvalue import Entry, Snapshot, Tree
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.times import Clock
from sisock.worker import Worker

_VERSION = 1
# Changes that may wait for the disk, and that one commit has.
_MOST_WAITING, _MOST_AT_ONCE = 10_000, 2000
_RETRY_S = 1.0
_TABLES = """
CREATE TABLE IF NOT EXISTS entries (
    path TEXT PRIMARY KEY, value TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL, expires REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (seq INTEGER NOT NULL);
"""

log = logging.getLogger(__name__)

Make = Callable[[Tree, float], Entry | None]
"""Makes a change of the tree at a time, in UNIX seconds."""


class Store:
    """A tree whose changes are on the disk before they are confirmed or seen.

    All that arrives while a commit is under way goes into the next one.

    Parameters
    ----------
    path : Path
        The file.
    clock : Clock
    on_changes : callable
        Called with the changes of each commit, in order, in the thread of the store.
    outages : OutageLog
        Where a disk that fails is reported.
    keep : int, optional
        Most changes that are kept for `changes`.

    Raises
    ------
    BadHistory
        If the file is damaged, of a later version, or cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_changes: Callable[[Sequence[Entry]], object],
        outages: OutageLog,
        keep: int = 100_000,
    ) -> None:
        self._path, self._clock, self._on_changes, self._outages = path, clock, on_changes, outages
        self.counters = Counters("changes", "commits", "refused", "expired")
        self._outage, self._keep = f"the disk of {path}", keep
        self._lock = threading.Lock()  # held while the tree is read or changed
        self._waiting: list[tuple[Make, Future[Entry | None]]] = []
        self._arrived, self._arriving = threading.Event(), threading.Lock()
        self._tree = self._open()
        self._worker = Worker(f"store {path.name}", self._run, wake=lambda: clock.wake(self._arrived))

    def _open(self) -> Tree:
        try:
            make_folder(self._path.parent, sync=True)
            self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            version = self._database.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise BadHistory(f"{self._path} is of version {version}, written by a later sisock")
            for pragma in ("journal_mode = WAL", "synchronous = FULL"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(f"{_TABLES} PRAGMA user_version = {_VERSION};")
            rows = self._database.execute("SELECT path, value, seq, time, expires FROM entries").fetchall()
            state = self._database.execute("SELECT seq FROM state").fetchone()
            entries = tuple(Entry(path, json.loads(value), *more) for path, value, *more in rows)
            if state is None:
                self._database.execute("INSERT INTO state VALUES (0)")
        except (sqlite3.Error, OSError, ValueError) as error:
            raise BadHistory(
                f"{self._path} cannot be opened: {error}; move it away to start without it, nothing was removed"
            ) from error
        return Tree(entries, 0 if state is None else state[0], self._keep)

    def start(self) -> None:
        """Write changes from now on."""
        self._worker.start()

    def stop(self) -> None:
        """Write what waits, and close the file; what the disk does not take is refused."""
        self._worker.stop()
        while taken := self._taken():
            self._commit(taken)
        self._database.close()

    def change(self, make: Make) -> "Future[Entry | None]":
        """Change the tree, and return the future of the change: done when it is on the disk.

        Raises
        ------
        Busy
            If too many changes wait for the disk.
        """
        future: Future[Entry | None] = Future()
        with self._arriving:
            if len(self._waiting) >= _MOST_WAITING:
                self.counters.add("refused")
                raise Busy(f"{_MOST_WAITING} changes wait for the disk; try again later")
            self._waiting.append((make, future))
        self._clock.wake(self._arrived)
        return future

    def get(self, path: str) -> Entry | None:
        """Return the value at a path; None if there is none."""
        with self._lock:
            return self._tree.get(path)

    def snapshot(self, subtree: str) -> Snapshot:
        """Return all values at and below a path."""
        with self._lock:
            return self._tree.snapshot(subtree)

    def changes(self, subtree: str, after: int) -> tuple[list[Entry] | None, int]:
        """Return the changes at and below a path after a number (None: some are not kept), and the newest number."""
        with self._lock:
            return self._tree.changes(subtree, after), self._tree.seq

    def status(self) -> dict[str, Any]:
        """Return how many values there are, the number of the newest change, and the counters."""
        # Without the lock, which is held while the disk writes.
        return {
            "values": len(self._tree),
            "seq": self._tree.seq,
            "waiting": len(self._waiting),
            "counters": self.counters.as_dict(),
        }

    def _taken(self) -> "list[tuple[Make, Future[Entry | None]]]":
        with self._arriving:
            taken, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            return taken

    def _run(self) -> None:
        while not self._worker.stopping.is_set():
            self._arrived.clear()
            expiry = self._tree.next_expiry()
            taken = self._taken()
            if taken or (expiry is not None and expiry <= self._clock.now()):
                if not self._commit(taken):
                    self._clock.wait(self._arrived, _RETRY_S)
                continue
            wait_s = 3600.0 if expiry is None else min(3600.0, max(0.0, expiry - self._clock.now()))
            self._clock.wait(self._arrived, wait_s)

    def _commit(self, taken: "list[tuple[Make, Future[Entry | None]]]") -> bool:
        """Make the changes in one transaction; return False where the disk does not take it: then none was made."""
        now = self._clock.now()
        outcomes: list[tuple[Future[Entry | None], Entry | SisockError | None]] = []
        with self._lock:
            mark = self._tree.mark()
            changes = self._tree.expire(now)
            self.counters.add("expired", len(changes))
            for make, future in taken:
                try:
                    change = make(self._tree, now)
                except SisockError as error:
                    outcomes.append((future, error))
                except Exception as error:
                    log.exception("a change of %s cannot be made", self._path)
                    outcomes.append((future, NodeFailed(f"the change cannot be made: {error!r}")))
                else:
                    outcomes.append((future, change))
                    changes += [change] if change is not None else []
            try:
                self._write(changes)
            except Exception as error:
                if not isinstance(error, sqlite3.Error):
                    log.exception("changes of %s cannot be written", self._path)
                self._tree.revert(mark)
                changes = []
                self._outages.failed(self._outage, str(error), "outage")
                failed = Busy(f"the disk takes nothing ({error}); nothing was changed, try again later")
                outcomes = [(future, failed) for _, future in taken]
            else:
                self._tree.forget_mark()
                self._outages.recovered(self._outage)
        self.counters.add("commits")
        self.counters.add("changes", len(changes))
        if changes:
            try:
                self._on_changes(changes)
            except Exception:  # they are on the disk, and readers find them there
                log.exception("changes of %s cannot be published", self._path)
        for future, outcome in outcomes:
            if not future.set_running_or_notify_cancel():
                continue  # nobody waits for it any more
            if isinstance(outcome, SisockError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        return not self._outages.failing(self._outage)

    def _write(self, changes: Sequence[Entry]) -> None:
        if not changes:
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            newest = {change.path: change for change in changes}  # of several changes of a value, the last one counts
            self._database.executemany(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
                [(e.path, json.dumps(e.value), e.seq, e.time, e.expires) for e in newest.values() if not e.is_deleted],
            )
            self._database.executemany(
                "DELETE FROM entries WHERE path = ?", [(e.path,) for e in newest.values() if e.is_deleted]
            )
            self._database.execute("UPDATE state SET seq = ?", (changes[-1].seq,))
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
