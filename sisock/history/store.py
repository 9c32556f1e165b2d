"""The histories of a node on disk: one writer, any number of readers.

On a disk that is full, read-only or broken a store begins with what can be read, and opens for writing when it can.

Every timeline has a folder of segments. What is appended goes to an open segment (`shelf`); when enough has gathered
and is final, it is sealed (`sealer`), and removed when it is too old (`keeper`), both in the background (`upkeep`). The
catalogue is a cache of what the segments say of themselves; a segment that it does not know is adopted, and what is
damaged is mended (`mender`).
"""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from sisock.errors import BadHistory, SisockError
from sisock.fields import Batch, Column, Field, FloatArray, Timeline
from sisock.history.adoption import adopt
from sisock.history.catalogue import Catalogue, Entry, Reset, refuse_older_versions
from sisock.history.disk import DiskOutage
from sisock.history.folder import lock_folder
from sisock.history.keeper import Keeper
from sisock.history.mender import Mender, names
from sisock.history.recovery import quarantine
from sisock.history.resetting import set_back, settled_before
from sisock.history.sealer import Sealer
from sisock.history.shelf import Shelf
from sisock.history.stored import Opened, StoredTimeline
from sisock.history.upkeep import Upkeep
from sisock.metrics import Counters
from sisock.outage import PASSING, OutageLog
from sisock.settings import HistorySettings
from sisock.times import Clock, SystemClock

log = logging.getLogger(__name__)


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
        outages = outages or OutageLog(self._clock, log)
        self.counters = Counters("sealed", "expired", "quarantined", "failures")
        self.outage = DiskOutage(self.path, outages)
        """What cannot be written at present."""
        self._opened = Opened()
        # A history that may take little is made of small segments, or there would be nothing to remove.
        self._segment = min(settings.segment, max(2**16, settings.max_size // 8))
        self._locked = threading.RLock()  # one seals or removes
        self._stopping = threading.Event()
        self.on_upkeep: Callable[[], None] | None = None
        """Called again and again in the background while the disk takes what is written."""
        self._given = list(timelines)
        self.shelves: dict[str, Shelf] = {}
        """By timeline; replaced as a whole."""
        self._lock_file: TextIO | None = None
        self._waits_for: Exception | None = None  # why it is not open for writing
        self.upkeep = Upkeep(
            self.path, self, settings.sync_interval, self.outage, self.counters, self._clock, self._stopping
        )
        try:
            self._lock_file = self._lock()
            self.catalogue = Catalogue(self.path)
            self.keeper = Keeper(self.path, settings, self.catalogue, self._opened, self._clock, outages, self.counters)
            self.sealer = Sealer(
                self.catalogue,
                self.keeper,
                self._segment,
                settings.keep_s,
                self._locked,
                self._stopping,
                self.counters,
            )
            self._mender = Mender(
                self.path,
                self.catalogue,
                self.sealer,
                self.keeper,
                self._clock,
                self.outage,
                self._locked,
                self.counters,
            )
            self._open()
        except BaseException:
            if self._lock_file is not None:
                self._lock_file.close()
            raise
        self.upkeep.start()

    # Opening

    def _lock(self) -> TextIO | None:
        """Lock the folder; None if the disk does not allow that now."""
        try:
            return lock_folder(self.path)
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
            self.outage.failed("opening it", f"{self._waits_for}; samples are in memory only, and not final")

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
        by_number = {shelf.number: shelf for shelf in self.shelves.values()}
        for number, entry in found.unreadable:
            self._mender.unreadable(by_number.get(number), number, entry)
        for shelf in self.shelves.values():
            self._mender.recover(shelf)
            if shelf.fields:
                self._begin_epoch(shelf, shelf.fields)
        self.keeper.begin(self.shelves.values())
        if rebuilt or found.adopted or found.strangers:
            log.warning(
                "the history in %s was not as it was left; rebuilt: %s; segments adopted: %s; quarantined: %s",
                *(self.path, ", ".join(rebuilt) or "nothing", names(found.adopted), names(found.strangers)),
            )

    def _serve_only(self) -> None:
        """Serve what can be read; what is damaged is left out until it can be corrected."""
        if self.catalogue.rebuilt:
            adopt(self.path, self.catalogue, writable=False)
        self._make_shelves()
        for shelf in self.shelves.values():
            self._mender.hide(shelf, shelf.damaged())
            shelf.resume()

    def _make_shelves(self) -> None:
        for timeline in self._known(self._given):
            if timeline.name not in self.shelves:
                self.shelves[timeline.name] = self._shelf(timeline)

    def _known(self, timelines: Sequence[Timeline]) -> list[Timeline]:
        """Return the timelines to be written, and after them those that are only on the disk."""
        given = {timeline.name for timeline in timelines}
        stored = [Timeline(name, (), interval) for _, name, interval in self.catalogue.timelines() if name not in given]
        return [*timelines, *stored]

    def _shelf(self, timeline: Timeline) -> Shelf:
        number = self.catalogue.timeline(timeline)
        folder = self.path / f"{number:04d}"
        how = (self.catalogue, self._opened, self._damaged, self._segment, self.settings.sync, self._clock)
        return Shelf(number, folder, timeline, *how)

    def _finish_removing(self, leftovers: Sequence[Path]) -> None:
        """Remove the files of what was replaced or has expired, or was never completed."""
        for path in leftovers:
            path.unlink(missing_ok=True)
        self.catalogue.gone(self.catalogue.removed())

    def _begin_epoch(self, shelf: Shelf, fields: Sequence[Field]) -> None:
        """Write these fields from now on, and seal what has others."""
        with self._locked:  # which who finds damage takes, before the lock of the shelf
            shelf.begin_epoch(fields)
        if any(entry.state == "open" and entry.fields != shelf.fields for entry in shelf.stored.entries):
            try:
                self.sealer.seal_all(shelf, math.inf)
            except (OSError, SisockError) as error:  # the epoch has begun all the same
                log.warning("what has other fields in %s is sealed later: %s", shelf.folder, error)

    @property
    def is_open(self) -> bool:
        """Whether the history is open for writing."""
        return self._waits_for is None

    def reopen(self) -> None:
        """Open for writing if it can be done now."""
        if self._lock_file is None:
            self._lock_file = self._lock()
            if self._lock_file is None:
                self.check_open()
            if self.catalogue.changed():
                raise BadHistory(f"another process has written to {self.path} meanwhile; restart the node")
        with self._locked:
            if self.catalogue.unreadable is not None:
                self.catalogue.reload()
            self._begin()
            self._waits_for = None

    def check_open(self) -> None:
        """Raise BadHistory while the history is not open for writing."""
        if self._waits_for is not None:
            raise BadHistory(f"the history in {self.path} cannot be written to: {self._waits_for}")

    # Timelines

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
        shelf = self.shelves.get(timeline.name)
        if shelf is None:
            self.shelves = {**self.shelves, timeline.name: self._shelf(timeline)}
            return
        self.catalogue.timeline(timeline)  # its interval may be another
        if self._waits_for is not None:
            shelf.fields = tuple(timeline.fields)  # an epoch begins when it is opened
        elif shelf.fields != timeline.fields:
            self._begin_epoch(shelf, timeline.fields)

    def stored(self, timeline: str) -> StoredTimeline:
        """Return what is stored of a timeline at this moment."""
        return self.shelves[timeline].stored

    def finalized_until(self, timeline: str) -> float:
        """Return what of a timeline is final; minus infinity while nothing is."""
        return self.shelves[timeline].final

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
        shelf = self.shelves[timeline]
        shelf.append(t, columns, finalized_until)
        if shelf.unsealed >= self._segment:
            self.upkeep.wake()

    def finalize(self, timeline: str, until: float) -> bool:
        """Write down what of a timeline is final, before a reader may see it; see `Shelf.finalize`."""
        self.check_open()
        return self.shelves[timeline].finalize(until)

    def set_back(self, timeline: str, reset: Reset) -> int:
        """Have a watermark stand at an earlier time, and quarantine samples; return how many, see `resetting.set_back`.

        Nothing else may be appended to the timeline meanwhile.

        Raises
        ------
        OSError, SisockError
            If that cannot be written; the history is as it was then.
        """
        self.check_open()
        shelf = self.shelves[timeline]
        with self._locked, shelf.lock:
            shelf.rotate()
            shelf.show()
            stored = shelf.stored
            moved, gone = set_back(self.path, self.catalogue, self.sealer, shelf, reset)
        self.keeper.drop(stored, gone)
        return moved

    def settled_before(self, timeline: str, t: float) -> float:
        """Return until when samples before `t` have other fields than those that are written now, and stay final."""
        return settled_before(self.shelves[timeline], t)

    def confirm_clock(self) -> None:
        """Have retention go by the clock as it is."""
        self.keeper.confirm_clock()

    def insert(self, timeline: Timeline, batches: Iterable[Batch]) -> int:
        """Store samples of the past, see `Sealer.insert`, and return how many.

        For a folder that nothing else is appended to meanwhile: a `History` would not see them.
        """
        self.check_open()
        shelf = self.shelves.get(timeline.name) or self.shelves.setdefault(timeline.name, self._shelf(timeline))
        return self.sealer.insert(shelf, timeline, batches)

    def summary(self) -> dict[str, Any]:
        """Return where this is, the bytes that it takes, and the counters."""
        return {"path": str(self.path), "bytes": self._size(), **self.counters.as_dict()}

    def _size(self) -> int:
        return sum(entry.bytes for shelf in self.shelves.values() for entry in shelf.stored.entries)

    def status(self, timeline: str) -> dict[str, Any]:
        """Return how many segments of a timeline there are, and the bytes that they take."""
        return self.shelves[timeline].stored.status()

    def _damaged(self, timeline: str, entry: Entry, error: BadHistory) -> StoredTimeline:
        shelf = self.shelves[timeline]
        self._mender.damaged(shelf, entry, error, is_open=self.is_open)
        return shelf.stored

    # In the background, see `Upkeep`

    def sync(self) -> None:
        """Force onto the disk what was appended, of all timelines."""
        failed: list[Exception] = []
        for shelf in tuple(self.shelves.values()):
            try:
                shelf.sync()
            except (OSError, BadHistory) as error:
                failed.append(error)
            while shelf.replaced:
                self.keeper.drop(shelf.stored, [shelf.replaced.pop()])
        self.catalogue.complete()
        if failed:
            raise failed[0]

    def maintain(self) -> None:
        """Seal what has gathered and is final, and remove what is too old or too much; done again and again anyway."""
        now, failed = self._clock.now(), []
        for shelf in tuple(self.shelves.values()):
            try:
                self.sealer.seal_all(shelf, now)
            except Exception as error:  # noqa: BLE001 - raised below; the others go on
                failed.append(error)
        with self._locked:
            self.keeper.expire(self.shelves, now)
        self.keeper.unlink(self._clock.monotonic())
        if failed:
            raise failed[0]

    def look_again(self) -> None:
        """Look whether what could not be read can be."""
        self._mender.read_again(self.shelves.values())

    def write_behind(self) -> None:
        """Have what is in memory only written."""
        if self.on_upkeep is not None:
            self.on_upkeep()

    def close(self) -> None:
        """Write down everything, and let others write here."""
        if self._stopping.is_set():
            return
        self.upkeep.stop()
        try:
            if self._waits_for is None:
                for shelf in self.shelves.values():
                    shelf.sync()
                    if math.isfinite(shelf.final):
                        self.catalogue.finalize(shelf.number, shelf.final)
                self.keeper.unlink(math.inf)
        except (OSError, BadHistory) as error:
            log.error("the history in %s could not be completed: %s", self.path, error)
        finally:
            for shelf in self.shelves.values():
                shelf.close()
            self.catalogue.close()
            if self._lock_file is not None:
                self._lock_file.close()
