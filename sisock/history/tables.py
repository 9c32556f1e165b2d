"""The tables of a manifest, in memory: built from the changes of its journal."""

import json
import logging
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from sisock.errors import SisockError
from sisock.fields import Field
from sisock.history.entry import Level
from sisock.history.journal import Change

log = logging.getLogger(__name__)

FORMAT = 1
FILE = "catalogue.sqlite"
"""The place of the journal in format 1; older versions of sisock refuse a folder by it."""

_TABLES = """
CREATE TABLE timelines(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, interval_s REAL, finalized_until REAL);
CREATE TABLE epochs(id INTEGER PRIMARY KEY, timeline INTEGER NOT NULL REFERENCES timelines, fields TEXT NOT NULL);
CREATE TABLE segments(
    id INTEGER PRIMARY KEY, timeline INTEGER NOT NULL REFERENCES timelines,
    epoch INTEGER NOT NULL REFERENCES epochs, state TEXT NOT NULL,
    first REAL, last REAL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, levels TEXT, extra TEXT);
CREATE TABLE removed(id INTEGER PRIMARY KEY);
CREATE TABLE numbers(last INTEGER NOT NULL);
INSERT INTO numbers VALUES(0);
CREATE INDEX segments_by_time ON segments(timeline, first);
CREATE TABLE gaps(timeline INTEGER NOT NULL REFERENCES timelines, start REAL NOT NULL, end REAL NOT NULL);
CREATE INDEX gaps_by_time ON gaps(timeline, end);
CREATE TABLE losses(
    timeline INTEGER NOT NULL REFERENCES timelines, span INTEGER NOT NULL, dropped INTEGER NOT NULL,
    late INTEGER NOT NULL, PRIMARY KEY(timeline, span)) WITHOUT ROWID;
CREATE TABLE clock_jumps(at REAL NOT NULL, seconds REAL NOT NULL);
CREATE TABLE clock_epochs(
    id INTEGER PRIMARY KEY, wall REAL NOT NULL, monotonic REAL NOT NULL, boot TEXT, synchronised INTEGER,
    ahead_until REAL);
CREATE TABLE resets(
    timeline INTEGER NOT NULL REFERENCES timelines, number INTEGER NOT NULL, finalized_until REAL NOT NULL,
    removed_from REAL, PRIMARY KEY(timeline, number)) WITHOUT ROWID;
"""

_STATEMENTS = {
    "timeline": "INSERT INTO timelines VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET interval_s = ?3, "
    "finalized_until = max(coalesce(finalized_until, ?4), coalesce(?4, finalized_until))",
    "final": "UPDATE timelines SET finalized_until = max(?1, coalesce(finalized_until, ?1)) WHERE id = ?2",
    "epoch": "INSERT OR REPLACE INTO epochs VALUES(?, ?, ?)",
    "segment": "INSERT OR REPLACE INTO segments VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "forget": "DELETE FROM segments WHERE id = ?",
    "remove": "INSERT OR REPLACE INTO removed VALUES(?)",
    "gone": "DELETE FROM removed WHERE id = ?",
    "number": "UPDATE numbers SET last = max(last, ?)",
    "gap": "INSERT INTO gaps SELECT ?1, ?2, ?3 WHERE NOT EXISTS "
    "(SELECT 1 FROM gaps WHERE timeline = ?1 AND end = ?3 AND start = ?2)",
    "losses": "INSERT INTO losses VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "dropped = dropped + excluded.dropped, late = late + excluded.late",
    "known_losses": "INSERT INTO losses VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "dropped = max(dropped, excluded.dropped), late = max(late, excluded.late)",
    "jump": "INSERT INTO clock_jumps VALUES(?, ?)",
    "clock_epoch": "INSERT OR REPLACE INTO clock_epochs VALUES(?, ?, ?, ?, ?, ?)",
    "expire_clock_epochs": "DELETE FROM clock_epochs WHERE id <= ?",
    "reset": "INSERT OR REPLACE INTO resets VALUES(?, ?, ?, ?)",
    "expire_resets": "DELETE FROM resets WHERE timeline = ? AND number <= ?",
    "set_back": "UPDATE timelines SET finalized_until = min(?1, coalesce(finalized_until, ?1)) WHERE id = ?2",
    "cut_gaps": "DELETE FROM gaps WHERE timeline = ? AND end >= ?",
    "expire_gaps": "DELETE FROM gaps WHERE timeline = ? AND end < ?",
    "expire_losses": "DELETE FROM losses WHERE timeline = ? AND span < ?",
}
# The statement that makes the rows of a table.
_ROWS = {
    "timeline": "timelines", "epoch": "epochs", "segment": "segments", "remove": "removed", "number": "numbers",
    "gap": "gaps", "losses": "losses", "jump": "clock_jumps", "clock_epoch": "clock_epochs", "reset": "resets",
}  # fmt: skip


class Tables:
    """The tables of a manifest.

    Not for several threads at once: the caller holds a lock.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.executescript(_TABLES)

    def apply(self, changes: Iterable[Change]) -> None:
        """Make changes; those that a later version of sisock has written are left out."""
        for name, values in changes:
            if name in _STATEMENTS:
                self._db.execute(_STATEMENTS[name], values)

    def all(self, statement: str, *values: Any) -> list[Any]:
        """Return the rows that a statement selects."""
        return self._db.execute(statement, values).fetchall()

    def rows(self) -> list[Change]:
        """Return all rows, as the changes that make them."""
        return [
            (name, list(row))
            for name, table in _ROWS.items()
            for row in self._db.execute(f"SELECT * FROM {table}")  # noqa: S608 - of the list above
        ]

    def losses_of(self, timeline: int) -> list[Change]:
        """Return the gaps and losses of a timeline, as changes."""
        tables = (("gap", "gaps"), ("losses", "losses"))
        return [
            (name, list(row))
            for name, table in tables
            for row in self.all(f"SELECT * FROM {table} WHERE timeline = ?", timeline)  # noqa: S608 - of these two
        ]

    def drop_unusable(self) -> bool:
        """Remove segments whose rows are invalid, and return whether there were any; their files are read instead."""
        dropped = False
        for number, fields, state, levels, rows, size in self._db.execute(
            "SELECT s.id, e.fields, s.state, s.levels, s.rows, s.bytes FROM segments s "
            "LEFT JOIN epochs e ON e.id = s.epoch"
        ).fetchall():
            try:
                fields_of(fields)
                levels_of(levels)
                good = state in ("open", "sealed") and rows >= 0 and size >= 0
            except (SisockError, ValueError, TypeError):
                good = False
            if not good:
                self.apply([("forget", [number])])
                dropped = True
        return dropped

    def read_format_1(self, path: Path) -> bool:
        """Read the intact part of a manifest of format 1, and return whether that is all; segments have the rest."""
        tables, whole = ("timelines", "epochs", "segments", "numbers", "gaps", "losses", "clock_jumps"), True
        statement = {table: name for name, table in _ROWS.items()}
        try:
            with closing(_format_1(path)) as db:
                version = int(db.execute("PRAGMA user_version").fetchone()[0])
                whole = version == FORMAT and db.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
                for table in tables:
                    for row in db.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608 - of the list above
                        self.apply([(statement[table], (*row, "") if table == "segments" else row)])
        except (sqlite3.Error, OSError, UnicodeError, OverflowError, TypeError) as error:
            log.warning("%s cannot be read to its end: %s; the rest is rebuilt from the segments", path, error)
            return False
        return whole

    def close(self) -> None:
        """Free the tables."""
        self._db.close()


@lru_cache(256)
def fields_of(text: str) -> tuple[Field, ...]:
    """Return the fields that a row of `epochs` has."""
    return tuple(Field(*field) for field in json.loads(text))


def levels_of(text: str | None) -> tuple[Level, ...]:
    """Return the levels that a row of `segments` has."""
    return tuple((exponent, checksum) for exponent, checksum in json.loads(text or "[]"))


def _format_1(path: Path) -> sqlite3.Connection:
    """Return a connection to a manifest of format 1 that changes nothing."""
    for how in ("mode=ro", "mode=ro&immutable=1"):  # others may read; the folder may be closed to us
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
        try:
            db.execute("PRAGMA user_version").fetchone()
        except sqlite3.OperationalError:
            db.close()
        else:
            return db
    raise sqlite3.OperationalError("unable to open it")
