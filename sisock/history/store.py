"""The histories of a node on disk: one writer, any number of readers.

On a disk that is full, read-only or broken a store begins with what can be read, and opens for writing when it can.

Every timeline has a folder of segments. What is appended goes to an open segment (`writer`); when enough has gathered
and is final, it is sealed (`sealer`), and removed when it is too old (`keeper`), both in the background (`upkeep`). The
manifest is a cache of what the segments say of themselves; a segment that it does not know is adopted, and what is
damaged is mended (`mender`).
"""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from sisock.errors import BadHistory
from sisock.fields import Batch, Column, FloatArray, Timeline
from sisock.history.entry import Reset
from sisock.history.opening import Opening
from sisock.history.resetting import set_back, settled_before
from sisock.history.segment_set import SegmentSet

log = logging.getLogger(__name__)


class Store(Opening):
    """Writes a node's histories to disk; parameters and errors are those of `Opening`."""

    def timelines(self) -> list[tuple[str, float | None]]:
        """Return name and interval, in seconds, of all timelines that are stored here."""
        return [(name, interval) for _, name, interval in self.manifest.timelines()]

    def add(self, timeline: Timeline) -> None:
        """Write `timeline` from now on, which is new, or of an earlier run, or has other fields than so far.

        Raises
        ------
        OSError, BadHistory
            If the manifest or its folder cannot be written.
        """
        writer = self.writers.get(timeline.name)
        if writer is None:
            self._add_writer(timeline)
            return
        self.manifest.timeline(timeline)  # its interval may be another
        if self._waits_for is not None:
            writer.fields = tuple(timeline.fields)  # an epoch begins when it is opened
        elif writer.fields != timeline.fields:
            self._begin_epoch(writer, timeline.fields)

    def stored(self, timeline: str) -> SegmentSet:
        """Return the segments of a timeline at this moment."""
        return self.writers[timeline].stored

    def finalized_until(self, timeline: str) -> float:
        """Return the watermark of a timeline; minus infinity while it has none."""
        return self.writers[timeline].final

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
        writer = self.writers[timeline]
        writer.append(t, columns, finalized_until)
        if writer.unsealed >= self._segment:
            self.upkeep.wake()

    def finalize(self, timeline: str, until: float) -> bool:
        """Write down what of a timeline is final, before a reader may see it; see `TimelineWriter.finalize`."""
        self.check_open()
        return self.writers[timeline].finalize(until)

    def set_back(self, timeline: str, reset: Reset) -> int:
        """Have a watermark stand at an earlier time, and quarantine samples; return how many, see `resetting.set_back`.

        Nothing else may be appended to the timeline meanwhile.

        Raises
        ------
        OSError, SisockError
            If that cannot be written; the history is as it was then.
        """
        self.check_open()
        writer = self.writers[timeline]
        with self._locked, writer.lock:
            writer.rotate()
            writer.show()
            stored = writer.stored
            moved, gone = set_back(self.path, self.manifest, self.sealer, writer, reset)
        self.keeper.drop(stored, gone)
        return moved

    def settled_before(self, timeline: str, t: float) -> float:
        """Return until when samples before `t` have other fields than those that are written now, and stay final."""
        return settled_before(self.writers[timeline], t)

    def confirm_clock(self) -> None:
        """Have retention go by the clock as it is."""
        self.keeper.confirm_clock()

    def insert(self, timeline: Timeline, batches: Iterable[Batch]) -> int:
        """Store samples of the past, see `Sealer.insert`, and return how many.

        For a folder that nothing else is appended to meanwhile: a `History` would not see them.
        """
        self.check_open()
        if timeline.name not in self.writers:
            self._add_writer(timeline)
        return self.sealer.insert(self.writers[timeline.name], timeline, batches)

    def summary(self) -> dict[str, Any]:
        """Return where this is, the bytes that it takes, and the counters."""
        return {"path": str(self.path), "bytes": self._size(), **self.counters.as_dict()}

    def _size(self) -> int:
        return sum(entry.bytes for writer in self.writers.values() for entry in writer.stored.entries)

    def status(self, timeline: str) -> dict[str, Any]:
        """Return how many segments of a timeline there are, and the bytes that they take."""
        return self.writers[timeline].stored.status()

    def sync(self) -> None:
        """Force onto the disk what was appended, of all timelines."""
        failed: list[Exception] = []
        for writer in tuple(self.writers.values()):
            try:
                writer.sync()
            except (OSError, BadHistory) as error:
                failed.append(error)
            while writer.replaced:
                self.keeper.drop(writer.stored, [writer.replaced.pop()])
        self.manifest.complete()
        if failed:
            raise failed[0]

    def maintain(self) -> None:
        """Seal what has gathered and is final, and remove what is too old or too much; done again and again anyway."""
        now, failed = self._clock.now(), []
        for writer in tuple(self.writers.values()):
            try:
                self.sealer.seal_all(writer, now)
            except Exception as error:  # noqa: BLE001 - raised below; the others continue
                failed.append(error)
        with self._locked:
            self.keeper.expire(self.writers, now)
        self.keeper.unlink(self._clock.monotonic())
        if failed:
            raise failed[0]

    def look_again(self) -> None:
        """Look whether what could not be read can be."""
        self._mender.read_again(self.writers.values())

    def write_behind(self) -> None:
        """Have what is in memory only written."""
        if self.on_upkeep is not None:
            self.on_upkeep()

    def close(self) -> None:
        """Write down everything, and let others write here."""
        if self._closed:
            return
        self._closed = True
        self.upkeep.stop()
        try:
            if self._waits_for is None:
                for writer in self.writers.values():
                    writer.sync()
                    if math.isfinite(writer.final):
                        self.manifest.finalize(writer.number, writer.final)
                self.keeper.unlink(math.inf)
        except (OSError, BadHistory) as error:
            log.error("the history in %s could not be completed: %s", self.path, error)
        finally:
            for writer in self.writers.values():
                writer.close()
            self.manifest.close()
            if self._lock_file is not None:
                self._lock_file.close()
