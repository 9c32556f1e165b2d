"""The manifest of a history: its timelines, their segments, epochs, watermarks and resets."""

import errno
import json
import logging
import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from sisock.errors import BadHistory
from sisock.fields import Field, Timeline
from sisock.history.entry import Entry, Reset
from sisock.history.journal import FILES as JOURNALS
from sisock.history.journal import FORMAT as JOURNAL_FORMAT
from sisock.history.journal import Change
from sisock.history.records import Records
from sisock.history.tables import FILE, fields_of, levels_of
from sisock.times import Interval

log = logging.getLogger(__name__)

PATIENCE_S = 0.01
"""Seconds that the reactor may wait for a writer, which takes as long as the disk does."""
_EVER = Interval(-math.inf, math.inf)
_MOST_RESETS = 10


class Manifest(Records):
    """The manifest of a node's history; in memory only when it has no folder.

    Parameters and errors are those of `ChangeLog`.
    """

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
                        f"the samples in memory do not belong to the history in {self._path}; restart the node"
                    )
                if name not in known:
                    self._change([("timeline", [number, name, interval_s, None])], deferrable=True)
                for gap in kept[number][0]:
                    self.add_gap(number, *gap)
                self.restore_losses(number, kept[number][1])
            for jump in jumps:
                self.add_clock_jump(*jump)

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
        """Return the watermark of a timeline as it was last written down."""
        value: float | None = self._one("SELECT finalized_until FROM timelines WHERE id = ?", timeline)
        return value

    def finalize(self, timeline: int, until: float, *, deferrable: bool = False, patience_s: float = -1) -> bool:
        """Write down the watermark of a timeline; it never goes back, and one that is not finite changes nothing.

        When it is `deferrable`, as where a segment has it as well, it may be written later. Returns whether it
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
            Entry(number, state, fields_of(fields), first, last, count, size, levels_of(levels), extra or "")
            for number, state, fields, first, last, count, size, levels, extra in rows
        ]

    def next_segment(self) -> int:
        """Return a number that no segment has had."""
        # It is written down with the segment; one that has none yet has files, at the most, that are looked at then.
        return int(self._one("UPDATE numbers SET last = last + 1 RETURNING last"))

    def used(self, number: int) -> None:
        """Give no number again up to this one."""
        self._apply([("number", [number])])

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
        self, timeline: int, reset: Reset, entries: Sequence[Entry] = (), instead_of: Iterable[int] = ()
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

    def resets(self, timeline: int) -> list[Reset]:
        """Return when the watermark of a timeline was set back, the newest 10 at most."""
        rows = self._all(
            "SELECT number, finalized_until, removed_from FROM resets WHERE timeline = ? ORDER BY number", timeline
        )
        return [Reset(number, until, math.inf if removed is None else removed) for number, until, removed in rows]

    def reset(self, timeline: int) -> int:
        """Return the number of the newest reset of a timeline; 0 if there was none."""
        return int(self._one("SELECT max(number) FROM resets WHERE timeline = ?", timeline) or 0)

    def remove(self, numbers: Iterable[int], *, deferrable: bool = False) -> None:
        """Forget segments, whose files are to be removed; when it is `deferrable`, it may be written later."""
        self._change([change for number in numbers for change in _removal(number)], deferrable=deferrable)

    def removed(self) -> set[int]:
        """Return the segments whose files are still to be removed."""
        return {number for (number,) in self._all("SELECT id FROM removed")}

    def gone(self, numbers: Iterable[int]) -> None:
        """Write down that the files of removed segments no longer exist."""
        known = self.removed()
        self._change([("gone", [number]) for number in numbers if number in known], deferrable=True)


def _removal(number: int) -> list[Change]:
    return [("forget", [number]), ("remove", [number])]


def is_history(folder: Path) -> bool:
    """Return whether there is a history in a folder, whole or not."""
    names = (*JOURNALS, FILE, *(f"{'[0-9]' * 4}/{'[0-9]' * 8}.{suffix}" for suffix in ("parquet", "seg")))
    return any(any(folder.glob(name)) for name in names)


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
            log.warning("%s is damaged (%s); it is written again, nothing was read from it", path, error)
            path.unlink(missing_ok=True)
        else:
            return
