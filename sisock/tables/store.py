"""The tables of a node, and the thread that writes them."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sisock.clockwatch import CheckedClock, ClockWatch
from sisock.errors import BadRequest, NoSuchTable, SisockError
from sisock.outage import DiskOutage, OutageLog
from sisock.settings import TableSettings
from sisock.tables.columns import Columns
from sisock.tables.conditions import nearest
from sisock.tables.table import Table
from sisock.times import Clock
from sisock.worker import Worker

log = logging.getLogger(__name__)

# Seconds between attempts to write what a disk did not take, and between syncs.
_TICK_S = 1.0
# Seconds between looks for rows that are too old.
_IDLE_S = 60.0
_MOST = 1000

Listener = Callable[[Table, int], object]


class Tables:
    """Tables by name, which are written by one thread.

    Parameters
    ----------
    folder : Path or None
        The folder of the node; each table has a folder in ``tables`` there. None for tables in memory.
    clock : Clock
    outages : OutageLog
        Where a disk that does not take rows is reported.
    settings : TableSettings, optional
    """

    def __init__(
        self, folder: Path | None, clock: Clock, outages: OutageLog, settings: TableSettings | None = None
    ) -> None:
        self._folder = None if folder is None else folder / "tables"
        # Retention must not follow a jump of the clock.
        self._clock, self._watch = clock, ClockWatch(clock)
        self._checked = CheckedClock(clock, self._watch)
        self._settings = settings or TableSettings()
        self._outage = DiskOutage(f"the disk of the tables in {self._folder}", outages)
        self._tables: dict[str, Table] = {}
        self._opening = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._wake = threading.Event()
        self._worker = Worker("tables", self._run, wake=self._wake.set)
        if folder is not None:
            self._worker.start()

    def open(self, name: str, columns: Columns) -> Table:
        """Return a table that is new, or continues that of an earlier run; the same one if it is open already.

        Raises
        ------
        BadRequest
            If a name is not valid, the table is open with other columns, or a column had another type in an earlier
            run.
        """
        with self._opening:
            if name in self._tables:
                if (there := self._tables[name]).columns != dict(columns):
                    raise BadRequest(f"table {name!r} is open already, with the columns {there.columns}")
                return there
            if len(self._tables) >= _MOST:
                raise BadRequest(f"table {name!r} is one too many; a node has at most {_MOST} tables")
            folder = None if self._folder is None else self._folder / name
            table = Table(name, columns, folder, self._checked, self._settings, self._outage, self._on_append)
            self._tables = {**self._tables, name: table}
            return table

    def get(self, name: str) -> Table:
        """Return an open table.

        Raises
        ------
        NoSuchTable
            If none of that name is open; with the names that are most like it.
        """
        if name not in self._tables:
            raise NoSuchTable(f"there is no table {name!r}; {nearest(name, self._tables)}")
        return self._tables[name]

    def listen(self, listener: Listener) -> None:
        """Have a function called with a table and the number of the first row each time rows were appended.

        It is called in the thread that appends, and must return at once.
        """
        self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Listener) -> None:
        """Call a listener no more."""
        self._listeners = tuple(other for other in self._listeners if other != listener)

    def _on_append(self, table: Table, first: int) -> None:
        self._wake.set()
        for listener in self._listeners:
            listener(table, first)

    def __iter__(self) -> Iterator[Table]:
        return iter(tuple(self._tables.values()))

    def status(self) -> dict[str, Any]:
        """Return the status of each table."""
        return {table.name: table.status() for table in self}

    def close(self) -> None:
        """Write what is in memory only, and let others write here."""
        self._worker.stop()
        for table in self:
            table.close()

    def _run(self) -> None:
        done, is_idle = self._clock.monotonic(), False
        retry_at: dict[str, float] = {}
        while not self._worker.stopping.is_set():
            if is_idle and self._settings.keep is None:
                self._wake.wait()
            else:
                self._clock.wait(self._wake, _IDLE_S if is_idle else _TICK_S)
            is_idle = is_idle and not self._wake.is_set()
            self._wake.clear()
            now = self._clock.monotonic()
            for table in self:
                # A disk that takes nothing is not asked again with every row.
                if now >= retry_at.get(table.name, now) and not self._attempt("writing", table, table.write):
                    retry_at[table.name] = now + _TICK_S
            if now - done >= _TICK_S:
                done, is_idle = now, self._maintain() and not self._wake.is_set()

    def _maintain(self) -> bool:
        """Sync, seal and remove; return whether nothing is left to do."""
        self._watch.jump()
        works = [
            self._attempt(what, table, work)
            for table in self
            for what, work in (("syncing", table.sync), ("the upkeep of", table.maintain))
        ]
        return all(works) and not any(table.status()["unwritten"] for table in self)

    def _attempt(self, what: str, table: Table, work: Callable[[], object]) -> bool:
        """Do some work; report when it fails, and return whether it did not."""
        key = f"{what} table {table.name}"
        try:
            done = work()
        except Exception as error:
            if not self._outage.failing(key) and not isinstance(error, OSError | SisockError):
                log.exception("%s failed", key)
            self._outage.failed(key, error)
            return False
        self._outage.works(key)
        return done is not False
