"""The histories of a node on disk: one writer, any number of readers.

On a disk that is full, read-only or broken a store begins with what can be read, and opens for writing when it can.

Every timeline has a folder of segments. What is appended goes to an open segment; when enough has gathered and is
final, it is sealed, in the background. The catalogue is a cache of what the segments
say of themselves; a segment that it does not know is adopted.
"""

import errno
import fcntl
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sisock.errors import BadData, BadHistory, SisockError
from sisock.fields import Batch, Column, Field, FloatArray, Timeline
from sisock.files import make_folder, sync_folder
from sisock.history.catalogue import Catalogue, Entry, Reset, refuse_older_versions
from sisock.history.marks import read_mark
from sisock.history.pieces import Rows, concatenated
from sisock.history.quarantine import keep_aside
from sisock.history.recovery import Damage, adopt, check, modernize, quarantine, salvageable, span_lost, straighten
from sisock.history.sealed import Sealed, footer_checksum, pyramid_path, write_sealed
from sisock.history.segment import Unreadable, words_path
from sisock.history.shelf import SMALLEST, Shelf
from sisock.history.stored import Opened, StoredTimeline
from sisock.metrics import Counters
from sisock.outage import PASSING, OutageLog
from sisock.site import HistorySettings
from sisock.times import FARTHEST_S, Clock, Interval, SystemClock

log = logging.getLogger(__name__)

# Open segments that are gathered at the most, and for how long, before they are sealed; at a kill each time a node
# writes, there would be many small ones.
_MOST_OPEN, _LONGEST_OPEN_S = 24, 86400.0
# Seconds for which the files of what was replaced or removed stay, for those who are reading them.
_GRACE_S = 60.0
_TICK_S = 0.5
# Seconds before what of the upkeep has failed is tried again.
_RETRY_S = 1.0
# Part of `keep` that retention removes in a day of running on account of a clock that nothing confirms.
_SHARE, _DAY_S = 0.1, 86400.0
# Seconds of running after which a clock that is synchronised is believed by retention.
_SYNCHRONISED_S = 3600.0
_EVER = Interval(-math.inf, math.inf)
# Seconds after which an open segment that the disk does not read is given up, so that others can be written.
_PATIENCE_S = 60.0
# Seconds between attempts to open a history for writing.
_REOPEN_S = 0.5


class Store:
    """Writes a node's histories to disk.

    Parameters
    ----------
    settings : HistorySettings
        With a `path`.
    timelines : sequence of Timeline
        Those that will be written to; what else is there is read only.
    clock : Clock, optional
        One that a jump forward does not move: it must not make everything too old.
    outages : OutageLog, optional
        Where a disk that does not take what is to be written is reported, and a retention that waits for the clock to
        be confirmed.

    Raises
    ------
    BadHistory
        If the folder may not be written to, another process writes to it, or it is of a newer format.
    """

    def __init__(
        self,
        settings: HistorySettings,
        timelines: Sequence[Timeline],
        clock: Clock | None = None,
        outages: OutageLog | None = None,
    ) -> None:
        assert settings.path is not None  # noqa: S101 - who makes a store has a path
        self.settings, self.path, self._clock = settings, settings.path, clock or SystemClock()
        self._began, self._confirmed = self._clock.monotonic(), False
        self._outages = outages or OutageLog(self._clock, log)
        self.counters = Counters("sealed", "expired", "quarantined", "failures")
        self._opened = Opened()
        # A history that may take little is made of small segments, or there would be nothing to remove.
        self._segment = min(settings.segment, max(2**16, settings.max_size // 8))
        self._removed: list[tuple[float, Path]] = []  # and when
        self._upkeep = threading.RLock()  # one seals or removes
        self._stop = threading.Event()
        self._wake = threading.Event()
        self.on_upkeep: Callable[[], None] | None = None
        """Called again and again in the background while the disk takes what is written."""
        self._unread: set[Path] = set()  # sealed segments that could not be read
        self._failing: set[str] = set()  # what cannot be written at present
        self._given = list(timelines)
        self._shelves: dict[str, Shelf] = {}
        self._lock_file: TextIO | None = None
        self._waits_for: Exception | None = None  # why it is not open for writing
        self._continuous_until = math.inf
        try:
            self._lock_file = self._lock()
            self.catalogue = Catalogue(self.path)
            self._open()
        except BaseException:
            if self._lock_file is not None:
                self._lock_file.close()
            raise
        self._thread = threading.Thread(target=self._run, name=f"history {self.path}", daemon=True)
        self._thread.start()

    def _lock(self) -> TextIO | None:
        """Lock the folder; None if the disk does not allow that now."""
        try:
            return _locked(self.path)
        except OSError as error:
            if error.errno in PASSING:
                self._waits_for = error
                return None
            raise BadHistory(
                f"{self.path} cannot be written to ({error.strerror}); set history.path to a folder of your own"
            ) from error

    def _open(self) -> None:
        """Open for writing; where the disk does not take that now, serve what there is until it does.

        Raises
        ------
        BadHistory
            If that will never do.
        """
        try:
            if self.catalogue.unreadable is not None:
                raise self.catalogue.unreadable
            if self._lock_file is not None:
                self._begin()
                self._waits_for = None
        except (OSError, BadHistory) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            if not isinstance(cause, OSError) or cause.errno not in PASSING:
                if isinstance(error, BadHistory):
                    raise
                raise BadHistory(f"the history in {self.path} cannot be used: {error}") from error
            self._waits_for = error
        if self._waits_for is not None:
            self._serve_only()
            self.failed("opening it", f"{self._waits_for}; samples are in memory only, and not final")

    def _begin(self) -> None:
        """Begin to write; may be repeated from the start when something fails."""
        rebuilt = [] if self.catalogue.begun else self.catalogue.rebuilt
        if not self.catalogue.begun:
            quarantine(self.path, [self.path / name for name in rebuilt if (self.path / name).exists()])
            self.catalogue.begin()
        refuse_older_versions(self.path)
        found = adopt(self.path, self.catalogue)
        if found.adopted:
            self.catalogue.rewrite()
        quarantine(self.path, found.strangers)
        self._finish_removing(found.leftovers)
        self._make_shelves()
        for number, entry in found.unreadable:
            self._unreadable(number, entry)
        for shelf in self._shelves.values():
            self._recover(shelf)
        self._continuous_until = self._newest_continuous()
        if rebuilt or found.adopted or found.strangers:
            log.warning(
                "the history in %s was not as it was left; rebuilt: %s; segments adopted: %s; quarantined: %s",
                *(self.path, ", ".join(rebuilt) or "nothing", _names(found.adopted), _names(found.strangers)),
            )

    def _serve_only(self) -> None:
        """Serve what can be read; what is damaged is left out until it can be corrected."""
        if self.catalogue.rebuilt:
            adopt(self.path, self.catalogue, writable=False)
        self._make_shelves()
        for shelf in self._shelves.values():
            self._hide(shelf, shelf.damaged())
            shelf.resume()

    def _hide(self, shelf: Shelf, entries: Iterable[Entry]) -> None:
        """Leave out segments until they are corrected."""
        for entry in entries:
            shelf.hidden[entry.id] = span_lost(shelf.stored, entry, self._clock.now())
        shelf.show()

    def _make_shelves(self) -> None:
        for timeline in self._known(self._given):
            if timeline.name not in self._shelves:
                self._shelves[timeline.name] = self._shelf(timeline)

    def _reopen(self) -> None:
        """Open for writing if it can be done now."""
        if self._lock_file is None:
            self._lock_file = self._lock()
            if self._lock_file is None:
                self.check_open()
            if self.catalogue.changed():
                raise BadHistory(f"another process has written to {self.path} meanwhile; restart the node")
        with self._upkeep:
            if self.catalogue.unreadable is not None:
                self.catalogue.reload()
            self._begin()
            self._waits_for = None

    def check_open(self) -> None:
        """Raise BadHistory while the history is not open for writing."""
        if self._waits_for is not None:
            raise BadHistory(f"the history in {self.path} cannot be written to: {self._waits_for}")

    def failed(self, what: str, error: object) -> None:
        """Report that something cannot be written; what cannot be at present is one outage."""
        self._failing.add(what)
        self._outages.failed(self._outage, f"{what}: {error}")

    def works(self, what: str) -> None:
        """Report that something can be written."""
        if what in self._failing:
            self._failing.discard(what)
            if not self._failing:
                self._outages.recovered(self._outage)

    @property
    def _outage(self) -> str:
        return f"the disk of the history in {self.path}"

    def timelines(self) -> list[tuple[str, float | None]]:
        """Return name and interval, in seconds, of all timelines that are stored here."""
        return [(name, interval) for _, name, interval in self.catalogue.timelines()]

    def add(self, timeline: Timeline) -> None:
        """Write `timeline` from now on, which is new, or of an earlier run, or has other fields than so far.

        Raises
        ------
        OSError, BadHistory
            If the catalogue or its folder cannot be written.
        """
        shelf = self._shelves.get(timeline.name)
        if shelf is None:
            self._shelves = {**self._shelves, timeline.name: self._shelf(timeline)}
            return
        self.catalogue.timeline(timeline)  # its interval may be another
        if self._waits_for is not None:
            shelf.fields = tuple(timeline.fields)  # an epoch begins when it is opened
        elif shelf.fields != timeline.fields:
            self._begin_epoch(shelf, timeline.fields)

    def stored(self, timeline: str) -> StoredTimeline:
        """Return what is stored of a timeline at this moment."""
        return self._shelves[timeline].stored

    def finalized_until(self, timeline: str) -> float:
        """Return what of a timeline is final; minus infinity while nothing is."""
        return self._shelves[timeline].final

    def append(self, timeline: str, t: FloatArray, columns: Mapping[str, Column], finalized_until: float) -> None:
        """Append samples; when it returns they are acknowledged, as the `sync` mode means it.

        Raises
        ------
        PartlyWritten
            If only the first of them could be written.
        OSError, BadHistory
            If they cannot be written.
        """
        self.check_open()
        shelf = self._shelves[timeline]
        shelf.append(t, columns, finalized_until)
        if shelf.unsealed >= self._segment:
            self._wake.set()

    def finalize(self, timeline: str, until: float) -> bool:
        """Write down what of a timeline is final, before a reader may see it; see `Shelf.finalize`."""
        self.check_open()
        return self._shelves[timeline].finalize(until)

    def set_back(self, timeline: str, reset: Reset) -> int:
        """Have a watermark stand at an earlier time, and quarantine samples; return how many.

        They are written, as recordings, to the folder `quarantine` before they leave the history. Nothing else may be
        appended to the timeline meanwhile.

        Parameters
        ----------
        timeline : str
        reset : Reset
            Where the watermark goes stays behind samples whose fields were others.

        Raises
        ------
        OSError, SisockError
            If that cannot be written; the history is as it was then.
        """
        self.check_open()
        shelf = self._shelves[timeline]
        with self._upkeep, shelf.lock:
            shelf.rotate()
            shelf.show()
            before, stored = shelf.final, shelf.stored
            until = min(before, max(reset.finalized_until, self.settled_before(timeline, reset.removed_from)))
            gone, moved = stored.passed(min(until, reset.removed_from)), 0
            kept: list[Entry] = []
            shelf.final = until
            try:
                for entry in gone:
                    names = [field.name for field in entry.fields]
                    t, columns = concatenated(list(stored.of(entry).rows(names, _EVER)))
                    i, j = np.searchsorted(t, [until if entry.state == "sealed" else -math.inf, reset.removed_from])
                    # The last one stands for the whole segment if a kill comes now: then it is quarantined already.
                    for which, part in ((2, slice(j, None)), (1, slice(i, j)), (0, slice(0, min(i, j)))):
                        if len(t[part]):
                            rows = t[part], {name: values[part] for name, values in columns.items()}
                            moved += self._part(shelf, entry, which, rows, kept)
                self.catalogue.set_back(shelf.number, replace(reset, finalized_until=until), kept, [e.id for e in gone])
            except BaseException:
                shelf.final = before
                for entry in kept:
                    _unlink(stored.path(entry))
                raise
            shelf.set_back(until)
        self._drop(stored, gone)
        return moved

    def _part(self, shelf: Shelf, entry: Entry, which: int, rows: Rows, kept: list[Entry]) -> int:
        """Write what of a segment stays final, is final no more, or is quarantined; return how many of the last."""
        if which == 0:
            kept.append(self._write_sealed(shelf, entry.fields, *rows, [entry.id]))
        elif which == 1:
            kept.append(shelf.copy(entry.fields, *rows, shelf.final))
        else:
            timeline = Timeline(shelf.stored.name, entry.fields)
            keep_aside(self.path, shelf.stored.path(entry), timeline, *rows)
            return len(rows[0])
        return 0

    def confirm_clock(self) -> None:
        """Have retention go by the clock as it is."""
        self._confirmed = True

    def settled_before(self, timeline: str, t: float) -> float:
        """Return until when samples before `t` have other fields than those that are written now, and stay final."""
        shelf = self._shelves[timeline]
        others = [shelf.stored.of(e).newest_before(t) for e in shelf.stored.entries if e.fields != shelf.fields]
        newest = max(others, default=-math.inf)
        return math.nextafter(newest, math.inf) if math.isfinite(newest) else newest

    def summary(self) -> dict[str, Any]:
        """Return where this is, the bytes that it takes, and the counters."""
        return {"path": str(self.path), "bytes": self._size(), **self.counters.as_dict()}

    def _size(self) -> int:
        return sum(entry.bytes for shelf in self._shelves.values() for entry in shelf.stored.entries)

    def status(self, timeline: str) -> dict[str, Any]:
        """Return how many segments of a timeline there are, and the bytes that they take."""
        return self._shelves[timeline].stored.status()

    def maintain(self) -> None:
        """Seal what has gathered and is final, and remove what is too old or too much; done again and again anyway."""
        now, failed = self._clock.now(), []
        for shelf in tuple(self._shelves.values()):
            try:
                self._seal_all(shelf, now)
            except Exception as error:  # noqa: BLE001 - raised below; the others go on
                failed.append(error)
        with self._upkeep:
            self._expire(now)
        if failed:
            raise failed[0]

    def insert(self, timeline: Timeline, batches: Iterable[Batch]) -> int:
        """Store samples of the past as sealed segments, all of them or none, and return how many.

        For a folder that nothing else is appended to meanwhile: a `History` would not see them.

        Parameters
        ----------
        timeline : Timeline
        batches : iterable of Batch
            In order of time, each time once, not overlapping with what is stored of the timeline; their gaps are
            written down as well.

        Raises
        ------
        BadData
            If they are out of order, or overlap with what is there.
        BadHistory, OSError
            If they cannot be written.
        """
        self.check_open()
        shelf = self._shelves.get(timeline.name) or self._shelves.setdefault(timeline.name, self._shelf(timeline))
        make_folder(shelf.folder, sync=True)
        taken = [span for _, span in shelf.stored.spans()]
        entries: list[Entry] = []
        gaps = []
        try:
            for piece in _gathered(batches, max(SMALLEST, self._segment // (8 * (len(timeline.fields) + 1)))):
                t, columns = concatenated([(batch.t, dict(batch.columns)) for batch in piece])
                _check_past(timeline.name, t, entries[-1].last if entries else None, taken)
                entries.append(self._write_sealed(shelf, timeline.fields, t, columns))
                gaps += [(b.gap_from, float(b.t[0])) for b in piece if b.gap_from is not None and b.gap_from < b.t[0]]
            with shelf.lock:
                self.catalogue.replace(shelf.number, entries)
                for start, end in gaps:
                    self.catalogue.add_gap(shelf.number, start, end)
                if entries and entries[-1].last is not None:
                    shelf.final = max(shelf.final, math.nextafter(entries[-1].last, math.inf))
                    self.catalogue.finalize(shelf.number, shelf.final)
                shelf.show()
        except BaseException:
            for entry in entries:
                _unlink(shelf.folder / f"{entry.id:08d}.parquet")
            raise
        return sum(entry.rows for entry in entries)

    def close(self) -> None:
        """Write down everything, and let others write here."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._wake.set()
        self._thread.join()
        try:
            if self._waits_for is None:
                for shelf in self._shelves.values():
                    shelf.sync()
                    if math.isfinite(shelf.final):
                        self.catalogue.finalize(shelf.number, shelf.final)
                self._unlink_removed(math.inf)
        except (OSError, BadHistory) as error:
            log.error("the history in %s could not be completed: %s", self.path, error)
        finally:
            for shelf in self._shelves.values():
                shelf.close()
            self.catalogue.close()
            if self._lock_file is not None:
                self._lock_file.close()

    def _known(self, timelines: Sequence[Timeline]) -> list[Timeline]:
        """Return the timelines to be written, and after them those that are only on the disk."""
        given = {timeline.name for timeline in timelines}
        stored = [Timeline(name, (), interval) for _, name, interval in self.catalogue.timelines() if name not in given]
        return [*timelines, *stored]

    def _shelf(self, timeline: Timeline) -> Shelf:
        number = self.catalogue.timeline(timeline)
        folder = self.path / f"{number:04d}"
        how = (self.catalogue, self._opened, self._damaged, self._segment, self.settings.sync)
        return Shelf(number, folder, timeline, *how)

    def _recover(self, shelf: Shelf) -> None:
        """Put right what an earlier writer left, which may have been killed."""
        shelf.hidden.clear()
        shelf.patient = self._clock.monotonic() - self._began < _PATIENCE_S
        shelf.show()
        is_removed = not shelf.folder.exists()
        for entry in shelf.stored.entries:
            damage = check(shelf, entry, self.catalogue, self._clock.now())
            if damage and is_removed:
                damage = replace(damage, finalized_until=-math.inf)  # only the catalogue is left to know what was final
            if damage:
                self._put_aside(shelf, entry, damage)
        try:
            modernize(shelf, self.catalogue)
        except (OSError, BadHistory) as error:
            log.warning("open segments of %s stay in format 1: %s", shelf.folder, error)
        shelf.resume()
        self.catalogue.finalize(shelf.number, shelf.final)  # what says so now may be sealed or removed
        begun = {entry.id for entry, _ in shelf.stored.spans()}
        self._remove(shelf, [entry for entry in shelf.stored.entries if entry.id not in begun])
        if shelf.fields:
            self._begin_epoch(shelf, shelf.fields)

    def _finish_removing(self, leftovers: Sequence[Path]) -> None:
        """Remove the files of what was replaced or has expired, or was never completed."""
        for path in leftovers:
            path.unlink(missing_ok=True)
        self.catalogue.gone(self.catalogue.removed())

    def _unreadable(self, number: int, entry: Entry) -> None:
        """Quarantine a segment that only its file knew of, and that cannot be read."""
        names = {n: name for n, name, _ in self.catalogue.timelines()}
        if number in names:
            shelf = self._shelves[names[number]]
            damage = check(shelf, entry, self.catalogue, self._clock.now())
            damage = damage or Damage(f"{shelf.stored.path(entry)} is not needed", [], 0)
            mark = read_mark(shelf.folder)
            if mark is not None and mark.number < entry.id:
                damage = Damage(damage.message, [], 0)  # it never had a sample: the newest one is in another segment
            elif mark is not None and mark.number > entry.id:
                damage = replace(damage, finalized_until=-math.inf)  # the segments after it know what is final
            self._put_aside(shelf, entry, damage)
        else:
            files = list((self.path / f"{number:04d}").glob(f"{entry.id:08d}.*"))
            log.error("%s cannot be read; they are quarantined", _names(files))
            self.counters.add("quarantined")
            quarantine(self.path, files)

    def _begin_epoch(self, shelf: Shelf, fields: Sequence[Field]) -> None:
        """Write these fields from now on, and seal what has others."""
        with self._upkeep:  # which who finds damage takes, before the lock of the shelf
            shelf.begin_epoch(fields)
        if any(entry.state == "open" and entry.fields != shelf.fields for entry in shelf.stored.entries):
            try:
                self._seal_all(shelf, math.inf)
            except (OSError, SisockError) as error:  # the epoch has begun all the same
                log.warning("what has other fields in %s is sealed later: %s", shelf.folder, error)

    def _damaged(self, timeline: str, entry: Entry, error: BadHistory) -> None:
        """Quarantine a segment that a reader found to be damaged; what is whole of it stays."""
        shelf = self._shelves[timeline]
        with self._upkeep:
            known = {other.id: other for other in shelf.stored.entries}
            if entry.id not in known:
                return  # removed meanwhile
            if isinstance(error, Unreadable):
                self._unread.add(shelf.stored.path(entry))
                self.failed("reading it", error)
                raise error
            if self._waits_for is not None:
                log.error("%s; it is not served until it can be corrected", error.message)
                self._hide(shelf, [entry])
                return
            if straighten(self.path, self.catalogue):
                return  # exchanged with another
            if entry.state == "open":
                with shelf.lock:
                    self._damaged_open(shelf, known[entry.id])
                return
            whole, gaps = salvageable(shelf.stored.path(entry), entry, error)
            instead = []
            for span in whole:
                interval = Interval(span.start, math.nextafter(span.end, math.inf))
                rows = Sealed(shelf.stored.path(entry), entry).rows(interval, [field.name for field in entry.fields])
                instead.append(self._write_sealed(shelf, entry.fields, *rows, [entry.id]))
            lost = entry.rows - sum(other.rows for other in instead)
            self._put_aside(shelf, entry, Damage(error.message, gaps, lost), instead)
            with shelf.lock:
                shelf.show()

    def _damaged_open(self, shelf: Shelf, entry: Entry) -> None:
        if shelf.writing == entry.id:
            shelf.rotate()
            shelf.show()
            entry = next(other for other in shelf.stored.entries if other.id == entry.id)
        damage = check(shelf, entry, self.catalogue, self._clock.now())
        if damage is None:
            return  # whole by now, since files that were exchanged have their names back; the reader looks again
        self._put_aside(shelf, entry, damage)
        shelf.resume()

    def _put_aside(self, shelf: Shelf, entry: Entry, damage: Damage, instead: Sequence[Entry] = ()) -> None:
        """Move a damaged segment away, and write down the gaps that it leaves."""
        log.error("%s; it is quarantined", damage.message)
        self.counters.add("quarantined")
        self.catalogue.finalize(shelf.number, damage.finalized_until)
        for start, end in damage.gaps:
            if (start < end or len(damage.gaps) == 1) and math.isfinite(end - start):
                self.catalogue.add_gap(shelf.number, start, end)
        if damage.lost:
            at = next((start for start, _ in damage.gaps if math.isfinite(start)), self._clock.now())
            self.catalogue.add_losses(shelf.number, at, dropped=damage.lost)
        self.catalogue.replace(shelf.number, instead, [entry.id])
        quarantine(self.path, shelf.folder.glob(f"{entry.id:08d}.*"))
        self.catalogue.gone([entry.id])

    # Sealing and removing, in the background

    def _run(self) -> None:
        synced = maintained = -math.inf
        while not self._stop.is_set():
            if self._waits_for is not None:
                self._stop.wait(_REOPEN_S)
                self._attempt("opening it", self._reopen)
                continue
            self._wake.wait(min(_TICK_S, self.settings.sync_interval))
            self._wake.clear()
            now = time.monotonic()
            if now - synced >= self.settings.sync_interval:
                synced = now
                self._attempt("syncing", self._sync)
            if now >= maintained:
                done = self._attempt("its upkeep", self._maintain)
                # What fails takes a tenth of the time at the most, and is done soon after the disk takes it again.
                maintained = now if done else now + max(_RETRY_S, 10 * (time.monotonic() - now))
            if self._unread:
                self._attempt("reading it", self._read_again)
            if self.on_upkeep is not None:
                self._attempt("writing what is in memory", self.on_upkeep)

    def _attempt(self, what: str, work: Callable[[], None]) -> bool:
        """Do some of the upkeep; report when it fails, and whether it did not."""
        try:
            work()
        except Exception as error:
            self.counters.add("failures")
            if what not in self._failing and not isinstance(error, OSError | SisockError):
                log.exception("the history in %s: %s failed", self.path, what)
            self.failed(what, error)
            return False
        self.works(what)
        return True

    def _sync(self) -> None:
        """Force onto the disk what was appended, of all timelines."""
        failed: list[Exception] = []
        for shelf in tuple(self._shelves.values()):
            try:
                shelf.sync()
            except (OSError, BadHistory) as error:
                failed.append(error)
            while shelf.replaced:
                self._drop(shelf.stored, [shelf.replaced.pop()])
        self.catalogue.complete()
        if failed:
            raise failed[0]

    def _read_again(self) -> None:
        """Look whether what could not be read can be."""
        there = {shelf.stored.path(entry) for shelf in self._shelves.values() for entry in shelf.stored.entries}
        for path in tuple(self._unread):
            for file in (path, words_path(path), pyramid_path(path)) if path in there else ():
                with suppress(FileNotFoundError), file.open("rb", buffering=0) as opened:  # a matter of damage
                    while opened.read(1 << 20):
                        continue
            self._unread.discard(path)

    def _maintain(self) -> None:
        self.maintain()
        self._unlink_removed(time.monotonic())

    def _seal_all(self, shelf: Shelf, now: float) -> None:
        """Seal what of a timeline it is time for."""
        with self._upkeep:
            while not self._stop.is_set() and self._seal(shelf, now):
                pass

    def _seal(self, shelf: Shelf, now: float) -> bool:
        """Seal the oldest full segments of a timeline if it is time; whether that was done."""
        with shelf.lock:
            stored, final = shelf.stored, shelf.final
            writing = shelf.writing
        full = [(e, span) for e, span in stored.spans() if e.state == "open" and e.id != writing]
        if not full:
            return False
        old = min(span.start for _, span in full) < now - min(_LONGEST_OPEN_S, self.settings.keep_s / 8)
        if sum(entry.bytes for entry, _ in full) < self._segment and len(full) < _MOST_OPEN and not old:
            return False
        fields, size, end = full[0][0].fields, 0, -math.inf
        taken: list[Entry] = []
        for entry, span in full:
            if entry.fields != fields or size >= self._segment:
                break
            taken.append(entry)
            size, end = size + entry.bytes, max(end, math.nextafter(span.end, math.inf))
        if end > final:
            return False  # something may still be sorted in
        t, columns = concatenated(list(stored.open_rows([f.name for f in fields], Interval(_EVER.start, end))))
        replaced = [entry.id for entry in taken]
        self.catalogue.finalize(shelf.number, final)  # so far the open segments say so
        if len(t):
            sealed = self._write_sealed(shelf, fields, t, columns, replaced)
            try:
                self.catalogue.replace(shelf.number, [sealed], replaced)
            except BaseException:
                _unlink(stored.path(sealed))  # it would be adopted, also after a reset
                raise
        else:  # all of it was in sealed segments already
            self.catalogue.remove(replaced)
        with shelf.lock:
            shelf.unsealed -= size
            shelf.show()
        self._drop(stored, taken)
        return True

    def _write_sealed(
        self,
        shelf: Shelf,
        fields: Sequence[Field],
        t: FloatArray,
        columns: Mapping[str, Column],
        replaces: Sequence[int] = (),
    ) -> Entry:
        """Write a sealed segment, which the catalogue does not name yet."""
        number = self.catalogue.next_segment()
        path = shelf.folder / f"{number:08d}.parquet"
        try:
            # Also what lies between the segment before and this one.
            before = max((e.last for e in shelf.stored.entries if e.last is not None and e.last < t[0]), default=-1e300)
            span = Interval(before, math.nextafter(t[-1], math.inf))
            more = {
                "number": number,
                "replaces": replaces,
                "finalized_until": max(shelf.final, -1e300),
                "gaps": self.catalogue.gaps(shelf.number, span),
                "losses": self.catalogue.spans_of_losses(shelf.number, span),
                "resets": [astuple(reset) for reset in self.catalogue.resets(shelf.number)],
            }
            levels = write_sealed(path, shelf.stored.name, fields, t, columns, more)
            sync_folder(shelf.folder)
        except BaseException:
            _unlink(path)
            raise
        size = path.stat().st_size + pyramid_path(path).stat().st_size
        self.counters.add("sealed")
        return Entry(
            number, "sealed", tuple(fields), float(t[0]), float(t[-1]), len(t), size, levels, footer_checksum(path)
        )

    def _newest_continuous(self) -> float:
        """Return the time of the last sample before the first hole longer than a tenth of `keep`; infinity if none."""
        spans = sorted(span for shelf in self._shelves.values() for _, span in shelf.stored.spans())
        until = spans[0].end if spans else math.inf
        for span in spans:
            if span.start - until > _SHARE * self.settings.keep_s:
                break
            until = max(until, span.end)
        return until

    def _retention_time(self, now: float) -> float:
        """Return the time that retention by age goes by.

        Until the clock is confirmed, it is at most a tenth of `keep` for each day begun ahead of the samples.
        """
        ran = self._clock.monotonic() - self._began
        self._confirmed = self._confirmed or (ran >= _SYNCHRONISED_S and self._clock.synchronised() is True)
        share = _SHARE * self.settings.keep_s * (1 + ran // _DAY_S)
        return now if self._confirmed else min(now, self._continuous_until + share + ran)

    def _report_retention(self, oldest: float, now: float, trusted: float) -> None:
        """Report that retention waits, if there is something that it would remove by the clock alone."""
        key = f"the retention of {self.path}"
        if trusted < now and oldest < now - self.settings.keep_s:
            if not self._outages.failing(key):
                ahead = (now - self._continuous_until) / 86400.0
                self._outages.failed(
                    key,
                    f"the clock is {ahead:.1f} days ahead of the samples; a tenth of `keep` a day is removed on its "
                    "account until it is synchronised. If the clock is wrong, set it and restart the node; if it is "
                    "right, confirm it: sisock call NODE confirm_clock",
                )
        else:
            self._outages.recovered(key)

    def _expire(self, now: float) -> None:
        """Remove segments that are too old, and the oldest ones while all take too much."""
        spans = [
            (span.end, name, entry)
            for name, shelf in tuple(self._shelves.items())
            for entry, span in shelf.stored.spans()
            if entry.id != shelf.writing
        ]
        size = self._size()
        trusted = self._retention_time(now)
        self._report_retention(min((end for end, _, _ in spans), default=math.inf), now, trusted)
        now = trusted
        doomed: dict[str, list[Entry]] = {}
        for end, name, entry in sorted(spans, key=lambda each: each[0]):
            if end >= now - self.settings.keep_s and size <= self.settings.max_size:
                break
            size -= entry.bytes
            doomed.setdefault(name, []).append(entry)
        for name, entries in doomed.items():
            shelf = self._shelves[name]
            self.counters.add("expired", sum(shelf.stored.of(entry).count(_EVER) for entry in entries))
            self._remove(shelf, entries, deferrable=True)  # or a disk that is full would stay so
            if span := shelf.stored.span():
                self.catalogue.expire(shelf.number, span.start)

    def _remove(self, shelf: Shelf, entries: Sequence[Entry], *, deferrable: bool = False) -> None:
        stored = shelf.stored
        self.catalogue.finalize(shelf.number, shelf.final, deferrable=deferrable)
        self.catalogue.remove([entry.id for entry in entries], deferrable=deferrable)
        with shelf.lock:
            shelf.unsealed -= sum(entry.bytes for entry in entries if entry.state == "open")
            shelf.show()
        self._drop(stored, entries)

    def _drop(self, stored: StoredTimeline, entries: Iterable[Entry]) -> None:
        """Have the files of segments removed, once nobody reads them any more."""
        now = time.monotonic()
        self._removed += [(now, stored.path(entry)) for entry in entries]

    def _unlink_removed(self, now: float) -> None:
        while self._removed and self._removed[0][0] < now - _GRACE_S:
            _, path = self._removed.pop(0)
            self._opened.forget(path)
            _unlink(path)
            self.catalogue.gone([int(path.stem)])


def _names(paths: Sequence[Path]) -> str:
    """Return the names of files for a line of the log."""
    shown = ", ".join(f"{path.parent.name}/{path.name}" for path in paths[:20])
    return f"{shown} and {len(paths) - 20} more" if len(paths) > 20 else shown or "none"


def _gathered(batches: Iterable[Batch], rows: int) -> Iterator[list[Batch]]:
    """Yield batches that have about so many rows together."""
    piece: list[Batch] = []
    for batch in batches:
        if len(batch):
            piece.append(batch)
        if sum(map(len, piece)) >= rows:
            yield piece
            piece = []
    if piece:
        yield piece


def _check_past(timeline: str, t: FloatArray, after: float | None, taken: Sequence[Interval]) -> None:
    if not np.all(np.abs(t) <= FARTHEST_S) or not np.all(t[1:] > t[:-1]) or (after is not None and t[0] <= after):
        raise BadData(f"timeline {timeline!r}: the samples are not in order of time, or have times that cannot be")
    for span in taken:
        if t[0] <= span.end and span.start <= t[-1]:
            raise BadData(
                f"timeline {timeline!r}: there are samples from {span.start} to {span.end} already, and these are from "
                f"{t[0]} to {t[-1]}; put them into another folder"
            )


def _unlink(path: Path) -> None:
    """Remove the files of a segment."""
    for each in (path, words_path(path), pyramid_path(path)):
        each.unlink(missing_ok=True)


def _locked(path: Path) -> TextIO:
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
