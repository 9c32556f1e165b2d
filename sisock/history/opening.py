"""Opening a history on disk for writing: at the start, or when the disk allows it."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from sisock.errors import BadHistory, SisockError
from sisock.fields import Field, Timeline
from sisock.files import quarantine
from sisock.history.adoption import adopt
from sisock.history.entry import Entry
from sisock.history.folder import lock_history
from sisock.history.keeper import Keeper
from sisock.history.manifest import Manifest, refuse_older_versions
from sisock.history.mender import Mender, names
from sisock.history.opened import Opened
from sisock.history.sealer import Sealer
from sisock.history.segment_set import SegmentSet
from sisock.history.upkeep import Upkeep, Work
from sisock.history.writer import TimelineWriter
from sisock.metrics import Counters
from sisock.outage import PASSING, DiskOutage, OutageLog
from sisock.settings import HistorySettings
from sisock.times import Clock, SystemClock

log = logging.getLogger(__name__)


class Opening(Work):
    """Opens the folder of a history: one writer, what an earlier run left, and what is damaged.

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
    in_background : bool, optional
        Whether a thread syncs, seals, removes and retries; otherwise only `sync`, `maintain` and `close` do.

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
        *,
        in_background: bool = True,
    ) -> None:
        assert settings.path is not None  # noqa: S101 - who makes a store has a path
        self.settings, self.path, self._clock = settings, settings.path, clock or SystemClock()
        outages = outages or OutageLog(self._clock, log)
        self.counters = Counters("sealed", "expired", "quarantined", "failures")
        self.outage = DiskOutage(f"the disk of the history in {self.path}", outages)
        """The outage of the disk."""
        self._opened = Opened()
        # A history that may take little is made of small segments, or there would be nothing to remove.
        self._segment = min(settings.segment, max(2**16, settings.max_size // 8))
        self._locked = threading.RLock()  # one seals or removes
        self._stopping = threading.Event()
        self._closed = False
        self.on_upkeep: Callable[[], None] | None = None
        """Called again and again in the background while the disk takes what is written."""
        self._given = list(timelines)
        self.writers: dict[str, TimelineWriter] = {}
        """By timeline; replaced as a whole."""
        self._lock_file: TextIO | None = None
        self._waits_for: Exception | None = None  # the reason for which it is not open for writing
        self.upkeep = Upkeep(
            self.path, self, settings.sync_interval, self.outage, self.counters, self._clock, self._stopping
        )
        try:
            self._lock_file = self._lock()
            self.manifest = Manifest(self.path)
            self.keeper = Keeper(self.path, settings, self.manifest, self._opened, self._clock, outages, self.counters)
            self.sealer = Sealer(
                self.manifest,
                self.keeper,
                self._segment,
                settings.keep_s,
                self._locked,
                self._stopping,
                self.counters,
            )
            self._mender = Mender(
                self.path,
                self.manifest,
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
        if in_background:
            self.upkeep.start()

    def _lock(self) -> TextIO | None:
        """Lock the folder; None if the disk does not allow that now."""
        try:
            return lock_history(self.path)
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
            if self.manifest.unreadable is not None:
                raise self.manifest.unreadable
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
        rebuilt = [] if self.manifest.begun else self.manifest.rebuilt
        if not self.manifest.begun:
            quarantine(self.path, [self.path / name for name in rebuilt if (self.path / name).exists()])
            self.manifest.begin()
        refuse_older_versions(self.path)
        found = adopt(self.path, self.manifest)
        if found.adopted:
            self.manifest.rewrite()
        quarantine(self.path, found.strangers)
        self._finish_removing(found.leftovers)
        self._make_writers()
        by_number = {writer.number: writer for writer in self.writers.values()}
        for number, entry in found.unreadable:
            self._mender.unreadable(by_number.get(number), number, entry)
        for writer in self.writers.values():
            self._mender.recover(writer)
            if writer.fields:
                self._begin_epoch(writer, writer.fields)
        self.keeper.begin(self.writers.values())
        if rebuilt or found.adopted or found.strangers:
            log.warning(
                "the history in %s was not as it was left; rebuilt: %s; segments adopted: %s; quarantined: %s",
                *(self.path, ", ".join(rebuilt) or "nothing", names(found.adopted), names(found.strangers)),
            )

    def _serve_only(self) -> None:
        """Serve what can be read; what is damaged is left out until it can be corrected."""
        if self.manifest.rebuilt:
            adopt(self.path, self.manifest, writable=False)
        self._make_writers()
        for writer in self.writers.values():
            self._mender.hide(writer, writer.damaged())
            writer.resume()

    def _make_writers(self) -> None:
        for timeline in self._known(self._given):
            if timeline.name not in self.writers:
                self._add_writer(timeline)

    def _known(self, timelines: Sequence[Timeline]) -> list[Timeline]:
        """Return the timelines to be written, and after them those that are only on the disk."""
        given = {timeline.name for timeline in timelines}
        stored = [Timeline(name, (), interval) for _, name, interval in self.manifest.timelines() if name not in given]
        return [*timelines, *stored]

    def _add_writer(self, timeline: Timeline) -> None:
        number = self.manifest.timeline(timeline)
        folder = self.path / f"{number:04d}"
        how = (self.manifest, self._opened, self._damaged, self._segment, self.settings.sync, self._clock)
        self.writers = {**self.writers, timeline.name: TimelineWriter(number, folder, timeline, *how)}

    def _finish_removing(self, leftovers: Sequence[Path]) -> None:
        """Remove the files of what was replaced or has expired, or was never completed."""
        for path in leftovers:
            path.unlink(missing_ok=True)
        self.manifest.gone(self.manifest.removed())

    def _begin_epoch(self, writer: TimelineWriter, fields: Sequence[Field]) -> None:
        """Write these fields from now on, and seal what has others."""
        with self._locked:  # which who finds damage takes, before the lock of the writer
            writer.begin_epoch(fields)
        if any(entry.state == "open" and entry.fields != writer.fields for entry in writer.stored.entries):
            try:
                self.sealer.seal_all(writer, math.inf)
            except (OSError, SisockError) as error:  # the epoch has begun all the same
                log.warning("segments with other fields in %s are sealed later: %s", writer.folder, error)

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
            if self.manifest.changed():
                raise BadHistory(f"another process has written to {self.path} meanwhile; restart the node")
        with self._locked:
            if self.manifest.unreadable is not None:
                self.manifest.reload()
            self._begin()
            self._waits_for = None

    def check_open(self) -> None:
        """Raise BadHistory while the history is not open for writing."""
        if self._waits_for is not None:
            raise BadHistory(f"the history in {self.path} cannot be written to: {self._waits_for}")

    def _damaged(self, timeline: str, entry: Entry, error: BadHistory) -> SegmentSet:
        writer = self.writers[timeline]
        self._mender.damaged(writer, entry, error, is_open=self.is_open)
        return writer.stored
