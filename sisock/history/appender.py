"""Appending one timeline to open segments, one after the other."""

import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sisock.dtypes import continued
from sisock.errors import BadHistory
from sisock.fields import Column, Field, FloatArray, Timeline
from sisock.files import make_folder
from sisock.history.blocks import Block, typed
from sisock.history.entry import Entry
from sisock.history.layout import Layout, PartlyWritten, row_size, stored_dtype
from sisock.history.manifest import PATIENCE_S, Manifest
from sisock.history.marks import Mark, marks_path
from sisock.history.opened import Opened
from sisock.history.segment_access import Damaged
from sisock.history.segment_set import SegmentSet
from sisock.history.segment_writer import SegmentWriter
from sisock.times import Clock

log = logging.getLogger(__name__)

SMALLEST = 1024
"""Rows of the first open segment; each next one has twice as many, up to its size in bytes."""


class SegmentAppender:
    """Appends a timeline to open segments; nothing is forced onto the disk.

    Parameters
    ----------
    number : int
        By which the manifest knows the timeline.
    folder : Path
        Made when it is needed.
    timeline : Timeline
    manifest : Manifest
    opened : Opened
    damaged : callable
    segment : int
        Bytes that an open segment has at the most.
    sync : {"none", "interval", "always"}
    clock : Clock
    """

    def __init__(
        self,
        number: int,
        folder: Path,
        timeline: Timeline,
        manifest: Manifest,
        opened: Opened,
        damaged: Damaged,
        segment: int,
        sync: Literal["none", "interval", "always"],
        clock: Clock,
    ) -> None:
        self.number, self.folder, self.fields = number, folder, tuple(timeline.fields)
        self.lock = threading.RLock()
        """Held while samples are appended or `stored` is replaced."""
        self._name, self._manifest, self._opened, self._damaged = timeline.name, manifest, opened, damaged
        self._segment, self._sync, self._clock = segment, sync, clock
        final = manifest.finalized_until(number)
        self.final = -math.inf if final is None else final
        """The watermark, in UNIX seconds."""
        self.unsealed = 0
        """Bytes of the open segments that are full."""
        self._writer: SegmentWriter | None = None
        self._writing: Entry | None = None
        self._first, self._last = math.inf, -math.inf  # times of its oldest and its newest row
        self._given: list[np.dtype[Any]] = []  # types of the columns that the writer is known to take
        self._full: list[SegmentWriter] = []
        self._new_files = False
        self._doubtful: list[tuple[int, bytes]] = []  # segments whose sync failed, and their newest commit records
        self._unsynced: OSError | None = None
        self.replaced: list[Entry] = []
        """Segments whose files are not needed any more."""
        self._probe_at = -math.inf  # when a disk that failed may be tried again, by the monotonic clock
        self._mark_fd = -1
        self.hidden: dict[int, tuple[float, float]] = {}
        """Segments that are not served until they are corrected, and where they have samples, about."""
        self.patient = True
        """Whether segments that the disk does not read are waited for."""
        self.stored: SegmentSet
        """The segments that readers get; replaced as a whole."""
        self.show()

    @property
    def writing(self) -> int | None:
        """The number of the segment that is appended to."""
        return self._writing.id if self._writing is not None else None

    def show(self) -> None:
        """Show readers the segments as the manifest has them now."""
        entries = [entry for entry in self._manifest.entries(self.number) if entry.id not in self.hidden]
        missing = tuple(self.hidden.values())
        self.stored = SegmentSet(self._name, self.folder, entries, self._opened, self._damaged, missing)

    def finalize(self, until: float) -> bool:
        """Write down the watermark; return whether that was done, which it is not while the disk is waited for."""
        if not self.lock.acquire(timeout=PATIENCE_S):
            return False
        try:
            if until <= self.final:
                return True
            if self._writer is not None:
                self._writer.finalize(until)
                self._mark(self._writer)
            elif not self._manifest.finalize(self.number, until, patience_s=PATIENCE_S):
                return False
            self.final = until
            return True
        finally:
            self.lock.release()

    def rotate(self) -> None:
        """Append to the present segment no more."""
        with self.lock:
            if self._writer is not None and self._writing is not None:
                writer, self.unsealed = self._writer, self.unsealed + self._writing.bytes
                self._full.append(writer)
                told = {**json.loads(self._writing.extra), "first": self._first, "last": self._last}
                known = replace(self._writing, rows=writer.rows, extra=json.dumps(told))
                if writer.rows:
                    self._manifest.replace(self.number, [known], durable=False)
                    # The segment has it as well.
                    self._manifest.finalize(self.number, self.final, deferrable=True)
            self._writer = self._writing = None

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
        self._writer = self._writing = None
        if self._mark_fd >= 0:
            os.close(self._mark_fd)
        self._mark_fd = -1

    def _append(self, t: FloatArray, columns: Mapping[str, Column], finalized_until: float) -> None:
        done = 0
        with self.lock:
            for rows in typed((t, dict(columns))):
                # Nothing is final on account of samples that are not here yet.
                final = finalized_until if done + len(rows[0]) == len(t) else self.final
                done = self._append_typed(rows, final, done)
            self.final = max(self.final, finalized_until)

    def _append_typed(self, rows: Block, finalized_until: float, before: int) -> int:
        """Append rows whose columns have a dtype each, after `before` others; return how many both are."""
        (t, columns), done = rows, 0
        while done < len(t):
            try:
                writer = self._writer_for(columns, len(t) - done)
                part = slice(done, done + min(writer.room, len(t) - done))
                final = finalized_until if part.stop == len(t) else self.final
                writer.append(t[part], {name: values[part] for name, values in columns.items()}, final)
                self._first, self._last = min(self._first, float(t[done])), max(self._last, float(t[part.stop - 1]))
                self._mark(writer)
            except (OSError, BadHistory) as error:
                if before + done and self._sync != "always":  # then they are not synced
                    raise PartlyWritten(str(error), before + done) from error
                raise
            done = part.stop
        return before + done

    def _mark(self, writer: SegmentWriter) -> None:
        """Write a copy of the segment's newest commit record to another file, which outlives the segment."""
        if self._mark_fd < 0:
            self._mark_fd = os.open(marks_path(self.folder), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        mark = Mark(writer.layout.number or 0, writer.newest, self._first, self._last)
        os.pwrite(self._mark_fd, mark.packed(), 0)

    def _writer_for(self, columns: Mapping[str, Column], more: int) -> SegmentWriter:
        """Return the writer that takes these columns next; a new one when there is none or it is full."""
        writer, given = self._writer, [columns[field.name].dtype for field in self.fields]
        has_room = writer is not None and writer.room and writer.words_size < self._segment
        if writer is not None and has_room and given == self._given:
            return writer
        dtypes = tuple(stored_dtype(f, columns[f.name]) for f in self.fields)
        capacity = SMALLEST
        if writer is not None:
            known = writer.layout.dtypes
            dtypes = tuple(_continued(f, d, columns[f.name]) for f, d in zip(self.fields, known, strict=True))
            if has_room and dtypes == known:
                self._given = given if _is_taken(given, dtypes) else []
                return writer
            # Types that come in turns do not reserve much for each segment.
            capacity = SMALLEST if has_room else 2 * writer.layout.capacity
        new = self._begin(dtypes, min(max(capacity, more), max(SMALLEST, self._segment // row_size(dtypes))))
        self._given = given if _is_taken(given, dtypes) else []
        self.show()
        return new

    def _begin(self, dtypes: tuple[str, ...], capacity: int) -> SegmentWriter:
        """Begin a new segment."""
        number = self._manifest.next_segment()
        layout = Layout(self._name, self.fields, dtypes, capacity, number)
        extra = json.dumps({"layout": layout.description.decode(), "since": self.final})
        entry = Entry(number, "open", self.fields, None, None, 0, layout.size, extra=extra)
        make_folder(self.folder, sync=self._sync != "none")
        new = SegmentWriter(self.stored.path(entry), layout)
        try:
            self._manifest.replace(self.number, [entry], durable=self._sync != "none")
        except BaseException:
            new.close()
            new.remove()
            raise
        self.rotate()
        self._writer, self._writing, self._new_files = new, entry, True
        self._first, self._last = math.inf, -math.inf
        return new


def _continued(field: Field, known: str, values: Column) -> str:
    """Return the dtype in which the column of a segment is continued by values; another one than it has begins one."""
    if field.type != "number":
        return known
    return stored_dtype(field, np.empty(0, continued(np.dtype(known), values)))


def _is_taken(given: list[np.dtype[Any]], dtypes: tuple[str, ...]) -> bool:
    """Whether a segment of some dtypes takes all values of the given ones; else it is up to the values."""
    return all(each.kind in ("O", np.dtype(dtype).kind) for each, dtype in zip(given, dtypes, strict=True))
