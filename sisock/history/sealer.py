"""Sealing: open segments become sealed ones once enough has gathered and is final."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from threading import Event, RLock

import numpy as np

from sisock.errors import BadData
from sisock.fields import Batch, Column, Field, FloatArray, Timeline
from sisock.files import make_folder, sync_folder
from sisock.history.appender import SMALLEST
from sisock.history.blocks import concatenated, typed
from sisock.history.entry import Entry
from sisock.history.folder import remove_segment
from sisock.history.keeper import Keeper
from sisock.history.manifest import Manifest
from sisock.history.sealed import footer_checksum, pyramid_path
from sisock.history.sealed_writer import write_sealed
from sisock.history.writer import TimelineWriter
from sisock.metrics import Counters
from sisock.times import FARTHEST_S, Interval

log = logging.getLogger(__name__)

# Open segments that are gathered at the most, and for how long, before they are sealed; at a kill each time a node
# writes, there would be many small ones.
_MOST_OPEN, _LONGEST_OPEN_S = 24, 86400.0


class Sealer:
    """Writes sealed segments.

    Parameters
    ----------
    manifest : Manifest
    keeper : Keeper
        Who removes the files of what is sealed.
    segment : int
        Bytes of open segments that become a sealed one.
    keep_s : float
        For how long samples are kept, in seconds.
    upkeep : RLock
        Held while segments are sealed or removed.
    stopping : Event
        Set when no more is to be sealed.
    counters : Counters
    """

    def __init__(
        self,
        manifest: Manifest,
        keeper: Keeper,
        segment: int,
        keep_s: float,
        upkeep: RLock,
        stopping: Event,
        counters: Counters,
    ) -> None:
        self._manifest, self._keeper, self._segment, self._keep_s = manifest, keeper, segment, keep_s
        self._upkeep, self._stopping, self._counters = upkeep, stopping, counters

    def seal_all(self, writer: TimelineWriter, now: float) -> None:
        """Seal what of a timeline it is time for."""
        with self._upkeep:
            while not self._stopping.is_set() and self._seal(writer, now):
                pass

    def _seal(self, writer: TimelineWriter, now: float) -> bool:
        """Seal the oldest full segments of a timeline if it is time; whether that was done."""
        with writer.lock:
            stored, final = writer.stored.exactly(), writer.final
            writing = writer.writing
        full = [(e, span) for e, span in stored.spans() if e.state == "open" and e.id != writing]
        if not full:
            return False
        old = min(span.start for _, span in full) < now - min(_LONGEST_OPEN_S, self._keep_s / 8)
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
        t, columns = concatenated(list(stored.open_rows([f.name for f in fields], Interval(-math.inf, end))))
        replaced = [entry.id for entry in taken]
        self._manifest.finalize(writer.number, final)  # so far the open segments say so
        if len(t):
            sealed: list[Entry] = []
            try:
                parts = typed((t, columns))
                for rows in parts:  # the last one names the replaced ones: after a kill between two, these still exist
                    replaces = replaced if rows is parts[-1] else ()
                    sealed.append(self.write(writer, fields, *rows, replaces))
                self._manifest.replace(writer.number, sealed, replaced)
            except BaseException:
                for entry in sealed:
                    remove_segment(stored.path(entry))  # it would be adopted, also after a reset
                raise
        else:  # all of it was in sealed segments already
            self._manifest.remove(replaced)
        with writer.lock:
            writer.unsealed -= size
            writer.show()
        self._keeper.drop(stored, taken)
        return True

    def write(
        self,
        writer: TimelineWriter,
        fields: Sequence[Field],
        t: FloatArray,
        columns: Mapping[str, Column],
        replaces: Sequence[int] = (),
    ) -> Entry:
        """Write a sealed segment, which the manifest does not name yet."""
        number = self._manifest.next_segment()
        path = writer.folder / f"{number:08d}.parquet"
        try:
            # Also what lies between the segment before and this one.
            before = max(
                (e.last for e in writer.stored.entries if e.last is not None and e.last < t[0]), default=-1e300
            )
            span = Interval(before, math.nextafter(t[-1], math.inf))
            more = {
                "number": number,
                "replaces": replaces,
                "finalized_until": max(writer.final, -1e300),
                "gaps": self._manifest.gaps(writer.number, span),
                "losses": self._manifest.spans_of_losses(writer.number, span),
                "resets": [astuple(reset) for reset in self._manifest.resets(writer.number)],
            }
            levels = write_sealed(path, writer.stored.name, fields, t, columns, more)
            sync_folder(writer.folder)
        except BaseException:
            remove_segment(path)
            raise
        size = path.stat().st_size + pyramid_path(path).stat().st_size
        self._counters.add("sealed")
        return Entry(
            number, "sealed", tuple(fields), float(t[0]), float(t[-1]), len(t), size, levels, footer_checksum(path)
        )

    def insert(self, writer: TimelineWriter, timeline: Timeline, batches: Iterable[Batch]) -> int:
        """Store samples of the past as sealed segments, all of them or none, and return how many.

        For a folder that nothing else is appended to meanwhile: a `History` would not see them.

        Parameters
        ----------
        writer : TimelineWriter
        timeline : Timeline
        batches : iterable of Batch
            In order of time, each time once, not overlapping with stored samples of the timeline; their gaps are
            written down as well.

        Raises
        ------
        BadData
            If they are out of order, or overlap with stored ones.
        BadHistory, OSError
            If they cannot be written.
        """
        make_folder(writer.folder, sync=True)
        taken = [span for _, span in writer.stored.spans()]
        entries: list[Entry] = []
        gaps = []
        try:
            for piece in _gathered(batches, max(SMALLEST, self._segment // (8 * (len(timeline.fields) + 1)))):
                t, columns = concatenated([(batch.t, dict(batch.columns)) for batch in piece])
                _check_past(timeline.name, t, entries[-1].last if entries else None, taken)
                for rows in typed((t, columns)):
                    entries.append(self.write(writer, timeline.fields, *rows))  # noqa: PERF401 - kept if one fails
                gaps += [(b.gap_from, float(b.t[0])) for b in piece if b.gap_from is not None and b.gap_from < b.t[0]]
            with writer.lock:
                self._manifest.replace(writer.number, entries)
                for start, end in gaps:
                    self._manifest.add_gap(writer.number, start, end)
                if entries and entries[-1].last is not None:
                    writer.final = max(writer.final, math.nextafter(entries[-1].last, math.inf))
                    self._manifest.finalize(writer.number, writer.final)
                writer.show()
        except BaseException:
            for entry in entries:
                remove_segment(writer.folder / f"{entry.id:08d}.parquet")
            raise
        return sum(entry.rows for entry in entries)


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
