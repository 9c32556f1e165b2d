"""What a history on disk consists of, in a small SQLite file: timelines, segments, gaps and losses."""

import json
import math
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sisock.errors import BadHistory
from sisock.fields import Field, Timeline
from sisock.times import Interval

FORMAT = 1
FILE = "catalogue.sqlite"
# Losses are counted by spans of so many seconds.
_SPAN_S = 60.0
_MOST_GAPS = 10_000

_TABLES = """
CREATE TABLE timelines(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, interval_s REAL, finalized_until REAL);
CREATE TABLE epochs(id INTEGER PRIMARY KEY, timeline INTEGER NOT NULL REFERENCES timelines, fields TEXT NOT NULL);
CREATE TABLE segments(
    id INTEGER PRIMARY KEY, timeline INTEGER NOT NULL REFERENCES timelines,
    epoch INTEGER NOT NULL REFERENCES epochs, state TEXT NOT NULL,
    first REAL, last REAL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, levels TEXT);
CREATE TABLE numbers(last INTEGER NOT NULL);
INSERT INTO numbers VALUES(0);
CREATE INDEX segments_by_time ON segments(timeline, first);
CREATE TABLE gaps(timeline INTEGER NOT NULL REFERENCES timelines, start REAL NOT NULL, end REAL NOT NULL);
CREATE INDEX gaps_by_time ON gaps(timeline, end);
CREATE TABLE losses(
    timeline INTEGER NOT NULL REFERENCES timelines, span INTEGER NOT NULL, dropped INTEGER NOT NULL,
    late INTEGER NOT NULL, PRIMARY KEY(timeline, span)) WITHOUT ROWID;
CREATE TABLE clock_jumps(at REAL NOT NULL, seconds REAL NOT NULL);
"""

State = Literal["open", "sealed"]
Level = tuple[int, int]
"""A level of a pyramid: the width of its bins in seconds, as a power of two, and its checksum."""


def _connected(where: str) -> tuple[sqlite3.Connection, int | None]:
    """Return a connection, and the format of the catalogue; None where the folder is closed to us, which forbids it."""
    db = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        return db, int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "readonly" in str(error) or "unable to open" in str(error):
            db.close()
            return db, None
        raise


@dataclass(frozen=True, slots=True)
class Entry:
    """A segment, as the catalogue knows it.

    Attributes
    ----------
    id : int
        Also the name of its files; a later segment has a greater one.
    state : {"open", "sealed"}
    fields : tuple of Field
        As they were when it was written.
    first, last : float or None
        Times of its first and last sample; None while it is open.
    rows, bytes : int
    levels : tuple of Level
        Of its pyramid, from fine to coarse.
    """

    id: int
    state: State
    fields: tuple[Field, ...]
    first: float | None
    last: float | None
    rows: int
    bytes: int
    levels: tuple[Level, ...] = ()


class Catalogue:
    """The catalogue of a node's history; in memory when it has no path.

    Parameters
    ----------
    path : Path, optional
        Its file; made when it is not there, unless `writable` is false.
    writable : bool

    Raises
    ------
    BadHistory
        If the file is not a catalogue, is damaged, or is of a newer format.
    """

    def __init__(self, path: Path | None = None, *, writable: bool = True) -> None:
        self._lock, self._path, self._writable = threading.RLock(), path, writable
        self._clock_jumps: list[tuple[float, float]] | None = None
        where = f"{path.absolute().as_uri()}?mode={'rwc' if writable else 'ro'}" if path else ":memory:"
        try:
            self._db, version = _connected(where)
            if not writable and version is None:
                # Reading with others needs files beside it; without them nobody writes.
                self._db, version = _connected(where + "&immutable=1")
            if version is None:
                raise BadHistory(f"{path} cannot be used: its folder cannot be written to")
            if version > FORMAT:
                raise BadHistory(f"{path} has format {version}; this sisock reads up to {FORMAT}, so update it")
            if writable:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                if version == 0:
                    self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={FORMAT}; COMMIT;")
                damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if damage != "ok":
                    raise BadHistory(f"{path} is damaged ({damage}); restore it, or move the folder away to begin anew")
        except sqlite3.Error as error:
            raise BadHistory(f"{path} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def timeline(self, timeline: Timeline) -> int:
        """Return the number of a timeline, which is written down when it is new."""
        with self._using():
            self._db.execute(
                "INSERT INTO timelines(name, interval_s) VALUES(?, ?) "
                "ON CONFLICT(name) DO UPDATE SET interval_s = excluded.interval_s",
                (timeline.name, timeline.interval_s),
            )
            return self.number(timeline.name)

    def number(self, timeline: str) -> int:
        """Return the number of a timeline that is written down."""
        return int(self._one("SELECT id FROM timelines WHERE name = ?", timeline))

    def timelines(self) -> list[tuple[int, str, float | None]]:
        """Return number, name and interval in seconds of all timelines."""
        return self._all("SELECT id, name, interval_s FROM timelines ORDER BY id")

    def finalized_until(self, timeline: int) -> float | None:
        """Return what of a timeline was final when it was last written down."""
        value: float | None = self._one("SELECT finalized_until FROM timelines WHERE id = ?", timeline)
        return value

    def finalize(self, timeline: int, until: float) -> None:
        """Write down what of a timeline is final; it never goes back, and what is not finite changes nothing."""
        if not math.isfinite(until):
            return
        self._do(
            "UPDATE timelines SET finalized_until = max(?1, coalesce(finalized_until, ?1)) WHERE id = ?2",
            *(until, timeline),
        )

    def epoch(self, timeline: int, fields: Sequence[Field]) -> int:
        """Return the number of the epoch in which a timeline has these fields; a new one when it never had them."""
        text = json.dumps([[f.name, f.type, f.units, f.description] for f in fields])
        with self._using():
            known = self._one("SELECT id FROM epochs WHERE timeline = ? AND fields = ?", timeline, text)
            if known is not None:
                return int(known)
            cursor = self._db.execute("INSERT INTO epochs(timeline, fields) VALUES(?, ?)", (timeline, text))
            return int(cursor.lastrowid or 0)

    def entries(self, timeline: int) -> list[Entry]:
        """Return the segments of a timeline: the sealed ones in order of time, then the open ones as they came."""
        rows = self._all(
            "SELECT s.id, s.state, e.fields, s.first, s.last, s.rows, s.bytes, s.levels FROM segments s "
            "JOIN epochs e ON e.id = s.epoch WHERE s.timeline = ? ORDER BY s.state DESC, s.first, s.id",
            timeline,
        )
        return [
            Entry(number, state, _fields(fields), first, last, count, size, _levels(levels))
            for number, state, fields, first, last, count, size, levels in rows
        ]

    def next_segment(self) -> int:
        """Return a number that no segment has had."""
        return int(self._one("UPDATE numbers SET last = last + 1 RETURNING last"))

    def replace(
        self, timeline: int, entries: Sequence[Entry], instead_of: Iterable[int] = (), *, durable: bool = True
    ) -> None:
        """Write down segments, in place of others, in one step; when `durable`, it outlives a loss of power."""
        rows = [
            (
                e.id,
                timeline,
                self.epoch(timeline, e.fields),
                e.state,
                e.first,
                e.last,
                e.rows,
                e.bytes,
                json.dumps(e.levels),
            )
            for e in entries
        ]
        with self._using():
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with self._db:  # commits, or rolls back
                self._db.execute("BEGIN")
                self._db.executemany("DELETE FROM segments WHERE id = ?", [(number,) for number in instead_of])
                self._db.executemany("INSERT INTO segments VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget segments."""
        with self._using():
            self._db.executemany("DELETE FROM segments WHERE id = ?", [(number,) for number in numbers])

    def add_gap(self, timeline: int, start: float, end: float) -> None:
        """Write down, once, that a source was silent or lossy."""
        there = "SELECT 1 FROM gaps WHERE timeline = ?1 AND end = ?3 AND start = ?2"
        self._do(f"INSERT INTO gaps SELECT ?1, ?2, ?3 WHERE NOT EXISTS ({there})", timeline, start, end)

    def gaps(self, timeline: int, interval: Interval) -> list[tuple[float, float]]:
        """Return the gaps that reach into an interval, the newest 10,000 at most."""
        return self._all(
            "SELECT start, end FROM (SELECT rowid, start, end FROM gaps WHERE timeline = ? AND end > ? AND start < ? "
            "ORDER BY rowid DESC LIMIT ?) ORDER BY start",
            *(timeline, interval.start, interval.end, _MOST_GAPS),
        )

    def add_losses(self, timeline: int, at: float, dropped: int = 0, late: int = 0) -> None:
        """Count samples that are lost, at about that time."""
        self._do(
            "INSERT INTO losses VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "dropped = dropped + excluded.dropped, late = late + excluded.late",
            *(timeline, _span(at), dropped, late),
        )

    def losses(self, timeline: int, interval: Interval) -> tuple[int, int]:
        """Return how many samples were dropped and how many late, in an interval, to the minute."""
        row = self._all(
            "SELECT coalesce(sum(dropped), 0), coalesce(sum(late), 0) FROM losses "
            "WHERE timeline = ? AND span BETWEEN ? AND ?",
            *(timeline, *map(_span, interval)),
        )[0]
        return int(row[0]), int(row[1])

    def add_clock_jump(self, at: float, seconds: float) -> None:
        """Write down that the clock jumped."""
        self._do("INSERT INTO clock_jumps VALUES(?, ?)", at, seconds)
        self._clock_jumps = None

    def clock_jumps(self) -> list[tuple[float, float]]:
        """Return when the clock jumped and by how many seconds, the newest 100 at most."""
        newest = "SELECT at, seconds FROM (SELECT * FROM clock_jumps ORDER BY at DESC LIMIT 100) ORDER BY at"
        if self._clock_jumps is None or not self._writable:  # then another process may write them
            self._clock_jumps = self._all(newest)
        return self._clock_jumps

    def expire(self, timeline: int, oldest: float) -> None:
        """Forget the gaps and losses of a timeline that lie before `oldest`."""
        self._do("DELETE FROM gaps WHERE timeline = ? AND end < ?", timeline, oldest)
        self._do("DELETE FROM losses WHERE timeline = ? AND span < ?", timeline, _span(oldest))

    def _do(self, statement: str, *values: Any) -> None:
        self._all(statement, *values)

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._using():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Hold the lock, and say what SQLite's errors mean."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise BadHistory(f"the catalogue of {self._path or 'the history'} cannot be used: {error}") from error

    def _one(self, statement: str, *values: Any) -> Any:
        row = self._all(statement, *values)
        return row[0][0] if row else None


def _fields(text: str) -> tuple[Field, ...]:
    return tuple(Field(*field) for field in json.loads(text))


def _span(at: float) -> int:
    """Return the span of losses that a time lies in."""
    return int(max(-1e17, min(at, 1e17)) // _SPAN_S)


def _levels(text: str | None) -> tuple[Level, ...]:
    return tuple((exponent, checksum) for exponent, checksum in json.loads(text or "[]"))
