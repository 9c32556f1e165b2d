"""Mending: what a killed writer left, and damage that is found while a history runs."""

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock

from sisock.errors import BadHistory
from sisock.files import quarantine
from sisock.history.adoption import straighten
from sisock.history.entry import Entry
from sisock.history.keeper import Keeper
from sisock.history.layout import Unreadable, words_path
from sisock.history.manifest import Manifest
from sisock.history.marks import read_mark
from sisock.history.recovery import Damage, check, modernize, salvageable, span_lost
from sisock.history.sealed import Sealed, pyramid_path
from sisock.history.sealer import Sealer
from sisock.history.writer import TimelineWriter
from sisock.metrics import Counters
from sisock.outage import DiskOutage
from sisock.times import Clock, Interval

log = logging.getLogger(__name__)

# Seconds after which an open segment that the disk does not read is given up, so that others can be written.
_PATIENCE_S = 60.0


class Mender:
    """Quarantines what is damaged, keeps what is whole of it, and writes down the gap.

    Parameters
    ----------
    path : Path
        The folder of the history.
    manifest : Manifest
    sealer : Sealer
    keeper : Keeper
    clock : Clock
    outage : DiskOutage
    upkeep : RLock
        Held while segments are sealed or removed.
    counters : Counters
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        sealer: Sealer,
        keeper: Keeper,
        clock: Clock,
        outage: DiskOutage,
        upkeep: RLock,
        counters: Counters,
    ) -> None:
        self._path, self._manifest, self._sealer, self._keeper, self._clock = path, manifest, sealer, keeper, clock
        self._outage, self._upkeep, self._counters = outage, upkeep, counters
        self._began = clock.monotonic()
        self._unread: set[Path] = set()  # segments that could not be read

    def recover(self, writer: TimelineWriter) -> None:
        """Put right what an earlier writer left, which may have been killed."""
        writer.hidden.clear()
        writer.patient = self._clock.monotonic() - self._began < _PATIENCE_S
        writer.show()
        is_removed = not writer.folder.exists()
        for entry in writer.stored.entries:
            damage = check(writer, entry, self._manifest, self._clock.now())
            if damage and is_removed:
                damage = replace(damage, finalized_until=-math.inf)  # only the manifest is left to know what was final
            if damage:
                self._quarantine(writer, entry, damage)
        try:
            modernize(writer, self._manifest)
        except (OSError, BadHistory) as error:
            log.warning("open segments of %s stay in format 1: %s", writer.folder, error)
        writer.resume()
        self._manifest.finalize(writer.number, writer.final)  # the segment that has it may be sealed or removed
        begun = {entry.id for entry, _ in writer.stored.spans()}
        self._keeper.remove(writer, [entry for entry in writer.stored.entries if entry.id not in begun])

    def unreadable(self, writer: TimelineWriter | None, number: int, entry: Entry) -> None:
        """Quarantine a segment that only its file knew of, and that cannot be read."""
        if writer is None:
            files = list((self._path / f"{number:04d}").glob(f"{entry.id:08d}.*"))
            log.error("%s cannot be read; they are quarantined", names(files))
            self._counters.add("quarantined")
            quarantine(self._path, files)
            return
        damage = check(writer, entry, self._manifest, self._clock.now())
        damage = damage or Damage(f"{writer.stored.path(entry)} is not needed", [], 0)
        mark = read_mark(writer.folder)
        if mark is not None and mark.number < entry.id:
            damage = Damage(damage.message, [], 0)  # it never had a sample: the newest one is in another segment
        elif mark is not None and mark.number > entry.id:
            damage = replace(damage, finalized_until=-math.inf)  # the segments after it have the watermark
        self._quarantine(writer, entry, damage)

    def hide(self, writer: TimelineWriter, entries: Iterable[Entry]) -> None:
        """Leave out segments until they are corrected."""
        for entry in entries:
            writer.hidden[entry.id] = span_lost(writer.stored, entry, self._clock.now())
        writer.show()

    def damaged(self, writer: TimelineWriter, entry: Entry, error: BadHistory, *, is_open: bool) -> None:
        """Quarantine a segment that a reader found to be damaged; what is whole of it stays.

        Parameters
        ----------
        writer : TimelineWriter
        entry : Entry
        error : BadHistory
        is_open : bool
            Whether the history is open for writing; if not, the segment is left out until it is.
        """
        with self._upkeep:
            known = {other.id: other for other in writer.stored.entries}
            if entry.id not in known:
                return  # removed meanwhile
            if isinstance(error, Unreadable):
                self._unread.add(writer.stored.path(entry))
                self._outage.failed("reading it", error)
                raise error
            if not is_open:
                log.error("%s; it is not served until it can be corrected", error.message)
                self.hide(writer, [entry])
                return
            if straighten(self._path, self._manifest):
                return  # exchanged with another
            if entry.state == "open":
                with writer.lock:
                    self._damaged_open(writer, known[entry.id])
                return
            whole, gaps = salvageable(writer.stored.path(entry), entry, error)
            instead = []
            for span in whole:
                interval = Interval(span.start, math.nextafter(span.end, math.inf))
                rows = Sealed(writer.stored.path(entry), entry).rows(interval, [field.name for field in entry.fields])
                instead.append(self._sealer.write(writer, entry.fields, *rows, [entry.id]))
            lost = entry.rows - sum(other.rows for other in instead)
            self._quarantine(writer, entry, Damage(error.message, gaps, lost), instead)
            with writer.lock:
                writer.show()

    def _damaged_open(self, writer: TimelineWriter, entry: Entry) -> None:
        if writer.writing == entry.id:
            writer.rotate()
            writer.show()
            entry = next(other for other in writer.stored.entries if other.id == entry.id)
        damage = check(writer, entry, self._manifest, self._clock.now())
        if damage is None:
            return  # whole by now, since files that were exchanged have their names back; the reader looks again
        self._quarantine(writer, entry, damage)
        writer.resume()

    def _quarantine(self, writer: TimelineWriter, entry: Entry, damage: Damage, instead: Sequence[Entry] = ()) -> None:
        """Move a damaged segment away, and write down the gaps that it leaves."""
        log.error("%s; it is quarantined", damage.message)
        self._counters.add("quarantined")
        self._manifest.finalize(writer.number, damage.finalized_until)
        for start, end in damage.gaps:
            if (start < end or len(damage.gaps) == 1) and math.isfinite(end - start):
                self._manifest.add_gap(writer.number, start, end)
        if damage.lost:
            at = next((start for start, _ in damage.gaps if math.isfinite(start)), self._clock.now())
            self._manifest.add_losses(writer.number, at, dropped=damage.lost)
        self._manifest.replace(writer.number, instead, [entry.id])
        quarantine(self._path, writer.folder.glob(f"{entry.id:08d}.*"))
        self._manifest.gone([entry.id])

    @property
    def waits(self) -> bool:
        """Whether there is something that could not be read."""
        return bool(self._unread)

    def read_again(self, writers: Iterable[TimelineWriter]) -> None:
        """Look whether what could not be read can be.

        Raises
        ------
        OSError
            If it cannot.
        """
        there = {writer.stored.path(entry) for writer in writers for entry in writer.stored.entries}
        for path in tuple(self._unread):
            for file in (path, words_path(path), pyramid_path(path)) if path in there else ():
                with suppress(FileNotFoundError), file.open("rb", buffering=0) as opened:  # a matter of damage
                    while opened.read(1 << 20):
                        continue
            self._unread.discard(path)


def names(paths: Sequence[Path]) -> str:
    """Return the names of files for a line of the log."""
    shown = ", ".join(f"{path.parent.name}/{path.name}" for path in paths[:20])
    return f"{shown} and {len(paths) - 20} more" if len(paths) > 20 else shown or "none"
