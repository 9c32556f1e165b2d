"""What a history consists of: timelines, segments, gaps and losses.

The tables are in memory; on disk every change is a line of a journal, from which, and from the segments, they are
built when a history is opened.
"""

import errno
import json
import logging
import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from sisock.errors import BadHistory, SisockError
from sisock.fields import Field, Timeline
from sisock.history.clock import ClockEpoch
from sisock.history.journal import FILES as JOURNALS
from sisock.history.journal import FORMAT as JOURNAL_FORMAT
from sisock.history.journal import Change, Journal, Line
from sisock.times import SYSTEM_CLOCK, Interval

log = logging.getLogger(__name__)

FORMAT = 1
FILE = "catalogue.sqlite"
"""What format 1 had in place of the journal; older versions of sisock refuse a folder by it."""
# Bytes that a journal may grow by before it is compacted.
_GROWTH = 4 << 20
PATIENCE_S = 0.01
"""Seconds that the reactor may wait for whoever writes, which takes as long as the disk does."""
# Seconds before a journal that could not be written as a whole is tried again.
_RETRY_S = 1.0
_EVER = Interval(-math.inf, math.inf)
# Losses are counted by spans of so many seconds.
_SPAN_S = 60.0
_MOST_GAPS = 10_000
_MOST_CLOCK_EPOCHS, _MOST_RESETS = 100, 10

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

State = Literal["open", "sealed"]
Level = tuple[int, int]
"""A level of a pyramid: the width of its bins in seconds, as a power of two, and its checksum."""


LOSSES = "losses"
"""The file, beside the segments of a timeline, that repeats its gaps and losses."""
_REPEATED = ("gap", "losses", "known_losses", "cut_gaps", "expire_gaps", "expire_losses")

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
# Which statement makes the rows of which table.
_ROWS = {
    "timeline": "timelines", "epoch": "epochs", "segment": "segments", "remove": "removed", "number": "numbers",
    "gap": "gaps", "losses": "losses", "jump": "clock_jumps", "clock_epoch": "clock_epochs", "reset": "resets",
}  # fmt: skip


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
    extra : str
        Of an open one, the description of its layout, as the file has it; of a sealed one, the CRC-32 of its footer
        in hexadecimal, empty when it is not known.
    """

    id: int
    state: State
    fields: tuple[Field, ...]
    first: float | None
    last: float | None
    rows: int
    bytes: int
    levels: tuple[Level, ...] = ()
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """A watermark that went back.

    Attributes
    ----------
    number : int
        Counts the resets of a timeline, from 1 on.
    finalized_until : float
        Where the watermark went, UNIX seconds.
    removed_from : float
        From when on samples were quarantined, UNIX seconds; infinity if none were.
    """

    number: int
    finalized_until: float
    removed_from: float


class Catalogue:
    """The catalogue of a node's history; in memory only when it has no folder.

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
        loaded: "Callable[[Catalogue], None] | None" = None,
    ) -> None:
        # A writer takes `_changing` before `_lock`, so that readers do not wait for the disk; and one that has to wait
        # until its changes are on the disk takes `_syncing` before both, so that other writers do not wait for that.
        self._syncing, self._changing, self._lock = threading.Lock(), threading.RLock(), threading.RLock()
        self._path, self._writable = folder, writable
        self._clock_jumps: list[tuple[float, float]] | None = None
        self._compacted = 0
        self._begun = self._lacking = False
        self._failed: tuple[float, OSError] | None = None  # when the journal could not be written as a whole, and why
        self._journal = Journal(folder) if folder else None
        self._repeated: dict[int, Journal] = {}
        self.rebuilt: list[str] = []
        """What was not whole and had to be rebuilt."""
        self._loaded, self._loading = loaded, False
        self._load()

    def _load(self) -> None:
        """Build the tables from the journal, or from the catalogue of format 1."""
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.executescript(_TABLES)
        self._clock_jumps = None
        self._newest_resets: dict[int, int] = {}  # looked at with each append
        if self._path is None or self._journal is None:
            return
        exists = self._journal.exists()
        changes = self._journal.read()
        if exists:
            for name, values in changes:
                if name in _STATEMENTS:
                    self._db.execute(_STATEMENTS[name], values)
            self.rebuilt = [path.name for path in self._journal.damaged]
        elif (self._path / FILE).exists():
            self._read_format_1(self._path / FILE)
        elif any(timeline_files(self._path)):
            self.rebuilt = [FILE]
        self._drop_unusable()
        self._newest_resets = dict(self._db.execute("SELECT timeline, max(number) FROM resets GROUP BY timeline"))
        if self.rebuilt or self._writable:
            self._read_repeated(self._path)
        if self._loaded is not None:
            self._loading = True
            try:
                self._loaded(self)
            finally:
                self._loading = False

    def _read_repeated(self, folder: Path) -> None:
        """Add the gaps and losses that are beside the segments and that the journal lacks."""
        for path in timeline_files(folder, LOSSES):
            spans: dict[tuple[int, int], list[int]] = {}
            gaps: dict[tuple[int, float, float], None] = {}
            for name, values in Journal(path.parent, (LOSSES,)).read():
                if values[0] != int(path.parent.name):  # the folder is another timeline's, copied from elsewhere
                    continue
                if name == "gap":
                    gaps[values[0], values[1], values[2]] = None
                elif name == "cut_gaps":
                    gaps = {gap: None for gap in gaps if gap[2] < values[1]}
                elif name == "expire_gaps":
                    gaps = {gap: None for gap in gaps if gap[2] >= values[1]}
                elif name == "expire_losses":
                    spans = {key: counts for key, counts in spans.items() if key[1] >= values[1]}
                else:
                    timeline, span, *counts = values
                    known, add = spans.setdefault((timeline, span), [0, 0]), name == "losses"
                    known[:] = [a + b if add else max(a, b) for a, b in zip(known, counts, strict=True)]
            self._db.executemany(_STATEMENTS["gap"], list(gaps))
            self._db.executemany(_STATEMENTS["known_losses"], [(*key, *counts) for key, counts in spans.items()])

    def _repeat(self, changes: Sequence[Change]) -> None:
        """Write gaps and losses beside the segments, too, where they outlive both copies of the journal."""
        assert self._path is not None  # noqa: S101 - of a catalogue on disk
        for name, values in changes:
            if name not in _REPEATED or not (folder := self._path / f"{values[0]:04d}").exists():
                continue
            journal = self._repeated.get(values[0])
            if journal is None:
                journal = self._repeated[values[0]] = Journal(folder, (LOSSES,))
                journal.read()
                journal.resume()
                if journal.damaged:
                    journal.rewrite(self._losses_of(values[0]), durable=False)
            journal.append([(name, values)])

    def _losses_of(self, timeline: int) -> list[Change]:
        """Return the gaps and losses of a timeline, as changes."""
        tables = (("gap", "gaps"), ("losses", "losses"))
        return [
            (name, list(row))
            for name, table in tables
            for row in self._all(f"SELECT * FROM {table} WHERE timeline = ?", timeline)  # noqa: S608 - of these two
        ]

    def _drop_unusable(self) -> None:
        """Forget segments whose rows make no sense; their files are looked at instead."""
        for number, fields, state, levels, rows, size in self._db.execute(
            "SELECT s.id, e.fields, s.state, s.levels, s.rows, s.bytes FROM segments s "
            "LEFT JOIN epochs e ON e.id = s.epoch"
        ).fetchall():
            try:
                _fields(fields)
                _levels(levels)
                good = state in ("open", "sealed") and rows >= 0 and size >= 0
            except (SisockError, ValueError, TypeError):
                good = False
            if not good:
                self._db.execute(_STATEMENTS["forget"], (number,))
                self.rebuilt = self.rebuilt or [FILE]

    def _read_format_1(self, path: Path) -> None:
        """Read what is whole of a catalogue of format 1; the segments have the rest."""
        tables = ("timelines", "epochs", "segments", "numbers", "gaps", "losses", "clock_jumps")
        statement = {table: name for name, table in _ROWS.items()}
        try:
            with closing(_format_1(path)) as db:
                version = int(db.execute("PRAGMA user_version").fetchone()[0])
                if version != FORMAT or db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                    self.rebuilt = [path.name]
                for table in tables:
                    for row in db.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608 - of the list above
                        self._db.execute(_STATEMENTS[statement[table]], (*row, "") if table == "segments" else row)
        except (sqlite3.Error, OSError, UnicodeError, OverflowError, TypeError) as error:
            log.warning("%s cannot be read to its end: %s; the rest is rebuilt from the segments", path, error)
            self.rebuilt = [path.name]

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
                self._begun = True

    def rewrite(self) -> None:
        """Write the journal as a whole, forced onto the disk.

        Raises
        ------
        BadHistory
            If that cannot be done.
        """
        if self._journal is not None:
            with self._writing():
                self._compact()

    def _compact(self, *, durable: bool = True) -> None:
        assert self._journal is not None and self._path is not None  # noqa: S101, PT018 - of a catalogue on disk
        with self._lock:
            rows = [
                (name, list(row))
                for name, table in _ROWS.items()
                for row in self._db.execute(f"SELECT * FROM {table}")  # noqa: S608 - of the list above
            ]
        self._journal.rewrite(rows, durable=durable)
        found = {row[0] for row in self._db.execute("SELECT timeline FROM gaps UNION SELECT timeline FROM losses")}
        for timeline in found | self._repeated.keys():
            if (folder := self._path / f"{timeline:04d}").exists():
                journal = self._repeated.setdefault(timeline, Journal(folder, (LOSSES,)))
                journal.rewrite(self._losses_of(timeline), durable=False)
        self._compacted, self._lacking, self._failed = self._journal.size, False, None

    @property
    def begun(self) -> bool:
        """Whether the journal is written."""
        return self._begun

    @property
    def unreadable(self) -> OSError | None:
        """Why the journal could not be read; None if it could."""
        return self._journal.unreadable if self._journal is not None else None

    def reload(self) -> None:
        """Read the journal once more, and add the gaps and losses that were only in memory.

        Raises
        ------
        BadHistory
            If it still cannot be read, or has other numbers for the timelines.
        """
        if self._journal is None:
            return
        with self._writing():
            self._journal.read()
            if self._journal.unreadable is not None:
                raise self._journal.unreadable
            timelines, jumps = self.timelines(), self._all("SELECT * FROM clock_jumps")
            kept = {n: (self.gaps(n, _EVER), self.spans_of_losses(n, _EVER)) for n, _, _ in timelines}
            with self._lock:
                self._load()
            known = {name: number for number, name, _ in self.timelines()}
            for number, name, interval_s in timelines:
                if known.get(name, number) != number or (name not in known and number in known.values()):
                    raise BadHistory(
                        f"what is in memory does not go with the history in {self._path}; restart the node"
                    )
                if name not in known:
                    self._change([("timeline", [number, name, interval_s, None])], deferrable=True)
                for gap in kept[number][0]:
                    self.add_gap(number, *gap)
                self.restore_losses(number, kept[number][1])
            for jump in jumps:
                self.add_clock_jump(*jump)

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
        if not self._begun or not self.lacking:
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
                    log.error("the catalogue of %s lacks what happened last: %s", self._path, error)
                for journal in (self._journal, *self._repeated.values()):
                    journal.close()
            with self._lock:
                self._db.close()

    def timeline(self, timeline: Timeline) -> int:
        """Return the number of a timeline, which is written down when it is new."""
        with self._writing():
            known = self._all("SELECT id, interval_s FROM timelines WHERE name = ?", timeline.name)
            if known and known[0][1] == timeline.interval_s:
                return int(known[0][0])
            number = known[0][0] if known else 1 + (self._one("SELECT max(id) FROM timelines") or 0)
            self._change([("timeline", [number, timeline.name, timeline.interval_s, None])], deferrable=True)
            return int(number)

    def restore_timeline(self, number: int, name: str) -> None:
        """Write down a timeline that only its segments know."""
        self._change([("timeline", [number, name, None, None])], deferrable=True)

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

    def finalize(self, timeline: int, until: float, *, deferrable: bool = False, patience_s: float = -1) -> bool:
        """Write down what of a timeline is final; it never goes back, and what is not finite changes nothing.

        When it is `deferrable`, which is where a segment says it as well, it may be written later. Returns whether it
        was done, which it is not if somebody else writes for longer than `patience_s`; by default it waits.
        """
        known = self.finalized_until(timeline)
        if not math.isfinite(until) or (known is not None and until <= known):
            return True
        if not self._changing.acquire(timeout=patience_s):
            return False
        try:
            self._change([("final", [until, timeline])], deferrable=deferrable)
        finally:
            self._changing.release()
        return True

    def epoch(self, timeline: int, fields: Sequence[Field]) -> int:
        """Return the number of the epoch in which a timeline has these fields; a new one when it never had them."""
        text = json.dumps([[f.name, f.type, f.units, f.description] for f in fields])
        with self._writing():
            known = self._one("SELECT id FROM epochs WHERE timeline = ? AND fields = ?", timeline, text)
            if known is not None:
                return int(known)
            number = 1 + (self._one("SELECT max(id) FROM epochs") or 0)
            self._change([("epoch", [number, timeline, text])], deferrable=True)
            return int(number)

    def entries(self, timeline: int) -> list[Entry]:
        """Return the segments of a timeline: the sealed ones in order of time, then the open ones as they came."""
        rows = self._all(
            "SELECT s.id, s.state, e.fields, s.first, s.last, s.rows, s.bytes, s.levels, s.extra FROM segments s "
            "JOIN epochs e ON e.id = s.epoch WHERE s.timeline = ? ORDER BY s.state DESC, s.first, s.id",
            timeline,
        )
        return [
            Entry(number, state, _fields(fields), first, last, count, size, _levels(levels), extra or "")
            for number, state, fields, first, last, count, size, levels, extra in rows
        ]

    def next_segment(self) -> int:
        """Return a number that no segment has had."""
        # It is written down with the segment; one that has none yet has files, at the most, that are looked at then.
        return int(self._one("UPDATE numbers SET last = last + 1 RETURNING last"))

    def used(self, number: int) -> None:
        """Give no number again up to this one."""
        self._all(_STATEMENTS["number"], number)

    def replace(
        self, timeline: int, entries: Sequence[Entry], instead_of: Iterable[int] = (), *, durable: bool = True
    ) -> None:
        """Write down segments, in place of others, in one step; when `durable`, it outlives a loss of power.

        Otherwise it may be written later: the segments say it as well.
        """
        self._change(self._replacement(timeline, entries, instead_of), durable=durable, deferrable=not durable)

    def _replacement(self, timeline: int, entries: Sequence[Entry], instead_of: Iterable[int]) -> list[Change]:
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
                e.extra,
            )
            for e in entries
        ]
        gone = [change for number in instead_of for change in _removal(number)]
        new: list[Change] = [("segment", row) for row in rows]
        new += [("number", [row[0]]) for row in rows]
        return [*gone, *new]

    def set_back(
        self, timeline: int, reset: "Reset", entries: Sequence[Entry] = (), instead_of: Iterable[int] = ()
    ) -> None:
        """Write down that a watermark goes back, with the segments that stand for others from then on, in one step."""
        removed_from = reset.removed_from if math.isfinite(reset.removed_from) else None
        changes: list[Change] = [
            *self._replacement(timeline, entries, instead_of),
            ("set_back", [reset.finalized_until, timeline]),
            ("reset", [timeline, reset.number, reset.finalized_until, removed_from]),
            ("expire_resets", [timeline, reset.number - _MOST_RESETS]),
        ]
        if removed_from is not None:
            changes.append(("cut_gaps", [timeline, removed_from]))
        self._change(changes, durable=True)
        self._newest_resets[timeline] = max(reset.number, self._newest_resets.get(timeline, 0))

    def resets(self, timeline: int) -> "list[Reset]":
        """Return when the watermark of a timeline was set back, the newest 10 at most."""
        rows = self._all(
            "SELECT number, finalized_until, removed_from FROM resets WHERE timeline = ? ORDER BY number", timeline
        )
        return [Reset(number, until, math.inf if removed is None else removed) for number, until, removed in rows]

    def reset(self, timeline: int) -> int:
        """Return the number of the newest reset of a timeline; 0 if there was none."""
        if not self._writable:
            return max((reset.number for reset in self.resets(timeline)), default=0)
        return self._newest_resets.get(timeline, 0)

    def clock_epochs(self) -> list[ClockEpoch]:
        """Return how the clock ran, the newest 100 epochs at most, in the order in which they began."""
        rows = self._all("SELECT * FROM clock_epochs ORDER BY id")
        return [
            ClockEpoch(number, wall, monotonic, boot, None if known is None else bool(known), ahead_until)
            for number, wall, monotonic, boot, known, ahead_until in rows
        ]

    def write_clock_epoch(self, epoch: ClockEpoch) -> None:
        """Write down a clock epoch, or what is known of it now."""
        known = None if epoch.synchronised is None else int(epoch.synchronised)
        row = [epoch.id, epoch.wall, epoch.monotonic, epoch.boot, known, epoch.ahead_until]
        self._change([("clock_epoch", row), ("expire_clock_epochs", [epoch.id - _MOST_CLOCK_EPOCHS])], deferrable=True)

    def remove(self, numbers: Iterable[int], *, deferrable: bool = False) -> None:
        """Forget segments, whose files are to be removed; when it is `deferrable`, it may be written later."""
        self._change([change for number in numbers for change in _removal(number)], deferrable=deferrable)

    def removed(self) -> set[int]:
        """Return the segments whose files are still to be removed."""
        return {number for (number,) in self._all("SELECT id FROM removed")}

    def gone(self, numbers: Iterable[int]) -> None:
        """Write down that the files of removed segments are gone."""
        known = self.removed()
        self._change([("gone", [number]) for number in numbers if number in known], deferrable=True)

    def add_gap(self, timeline: int, start: float, end: float) -> None:
        """Write down, once, that a source was silent or lossy; a gap of one sample ends right behind it."""
        end = end if end > start else math.nextafter(start, math.inf)
        self._change([("gap", [timeline, start, end])], deferrable=True)

    def gaps(self, timeline: int, interval: Interval) -> list[tuple[float, float]]:
        """Return the gaps that reach into an interval, both ends included, the newest 10,000 at most."""
        return self._all(
            "SELECT start, end FROM (SELECT rowid, start, end FROM gaps WHERE timeline = ? AND end >= ? AND start < ? "
            "ORDER BY rowid DESC LIMIT ?) ORDER BY start",
            *(timeline, interval.start, interval.end, _MOST_GAPS),
        )

    def add_losses(self, timeline: int, at: float, dropped: int = 0, late: int = 0) -> None:
        """Count samples that are lost, at about that time."""
        self._change([("losses", [timeline, _span(at), dropped, late])], deferrable=True)

    def spans_of_losses(self, timeline: int, interval: Interval) -> list[tuple[int, int, int]]:
        """Return minute, dropped and late of an interval."""
        return self._all(
            "SELECT span, dropped, late FROM losses WHERE timeline = ? AND span BETWEEN ? AND ?",
            *(timeline, *map(_span, interval)),
        )

    def restore_losses(self, timeline: int, spans: Iterable[Sequence[int]]) -> None:
        """Count what a segment knows of lost samples, unless it is counted already."""
        self._change([("known_losses", [timeline, *span]) for span in spans], deferrable=True)

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
        self._change([("jump", [at, seconds])], deferrable=True)
        self._clock_jumps = None

    def clock_jumps(self) -> list[tuple[float, float]]:
        """Return when the clock jumped and by how many seconds, the newest 100 at most."""
        newest = "SELECT at, seconds FROM (SELECT * FROM clock_jumps ORDER BY at DESC LIMIT 100) ORDER BY at"
        if self._clock_jumps is None or not self._writable:  # then another process may write them
            self._clock_jumps = self._all(newest)
        return self._clock_jumps

    def expire(self, timeline: int, oldest: float) -> None:
        """Forget the gaps and losses of a timeline that lie before `oldest`."""
        self._change(
            [("expire_gaps", [timeline, oldest]), ("expire_losses", [timeline, _span(oldest)])]
            if self._one("SELECT 1 FROM gaps WHERE timeline = ? AND end < ?", timeline, oldest)
            or self._one("SELECT 1 FROM losses WHERE timeline = ? AND span < ?", timeline, _span(oldest))
            else [],
            deferrable=True,
        )

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
                    # It was written as a whole meanwhile, from tables that do not have these changes.

    def _take_back(self, journal: Journal, line: Line) -> None:
        """Remove a line from the journal whose changes are not made."""
        with self._changing:
            if not journal.take_back(line):
                with suppress(OSError):
                    self._compact(durable=False)
                journal.doubtful = True

    def _apply(self, changes: Sequence[Change]) -> None:
        with self._lock:
            for name, values in changes:
                self._db.execute(_STATEMENTS[name], values)

    def _write(self, journal: Journal, changes: Sequence[Change]) -> Line:
        """Append changes to the journal."""
        if not self._begun:
            raise OSError(errno.EROFS, "it is not open for writing")
        self._complete()
        if journal.size > 4 * self._compacted + _GROWTH:
            try:
                self._compact()
            except OSError as error:
                log.warning("the catalogue of %s cannot be compacted: %s; it grows", self._path, error)
                self._compacted = journal.size // 4  # which is when it is tried again
        return journal.append(changes)

    def _write_beside(self, changes: Sequence[Change]) -> None:
        try:
            self._repeat(changes)
        except OSError:
            self._lacking = True  # it is in the journal; the rest is written with the next whole journal

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._using():
            if not (self._writable or self._loading) and self._journal is not None and self._journal.changed():
                self._load()
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Hold the lock, and raise what fails as BadHistory."""
        with self._lock, self._errors():
            yield

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
            raise BadHistory(f"the catalogue of {self._path or 'the history'} cannot be used: {error}") from error

    def _one(self, statement: str, *values: Any) -> Any:
        row = self._all(statement, *values)
        return row[0][0] if row else None


def _removal(number: int) -> list[Change]:
    return [("forget", [number]), ("remove", [number])]


@lru_cache(256)
def _fields(text: str) -> tuple[Field, ...]:
    return tuple(Field(*field) for field in json.loads(text))


def _span(at: float) -> int:
    """Return the span of losses that a time lies in."""
    return int(max(-1e17, min(at, 1e17)) // _SPAN_S)


def _levels(text: str | None) -> tuple[Level, ...]:
    return tuple((exponent, checksum) for exponent, checksum in json.loads(text or "[]"))


def is_history(folder: Path) -> bool:
    """Return whether there is a history in a folder, whole or not."""
    names = (*JOURNALS, FILE, *(f"{'[0-9]' * 4}/{'[0-9]' * 8}.{suffix}" for suffix in ("parquet", "seg")))
    return any(any(folder.glob(name)) for name in names)


def timeline_files(folder: Path, name: str = "*") -> Iterator[Path]:
    """Yield the files in the folders of timelines; what else is in the folder of a history is nobody's concern."""
    return (
        path
        for path in folder.glob(f"[0-9]*/{name}")
        if (number := path.parent.name).isascii() and number.isdigit() and number == f"{int(number):04d}"
    )


def refuse_older_versions(folder: Path) -> None:
    """Have versions of sisock that know format 1 only refuse a folder; they would remove what they do not know."""
    path = folder / FILE
    for _ in range(2):
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                if db.execute("PRAGMA user_version").fetchone()[0] != JOURNAL_FORMAT:
                    db.execute(f"PRAGMA user_version={JOURNAL_FORMAT}")
        except sqlite3.OperationalError as error:
            raise OSError(errno.EIO, f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged (%s); it is made anew, nothing was read from it", path, error)
            path.unlink(missing_ok=True)
        else:
            return


def _format_1(path: Path) -> sqlite3.Connection:
    """Return a connection to a catalogue of format 1 that changes nothing."""
    for how in ("mode=ro", "mode=ro&immutable=1"):  # others may read; the folder may be closed to us
        db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
        try:
            db.execute("PRAGMA user_version").fetchone()
        except sqlite3.OperationalError:
            db.close()
        else:
            return db
    raise sqlite3.OperationalError("unable to open it")
