"""Writing one timeline to disk: open segments, one after the other."""

import errno
import json
import logging
import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Column, Field, FloatArray, Timeline
from sisock.files import make_folder, sync_folder
from sisock.history.catalogue import PATIENCE_S, Catalogue, Entry
from sisock.history.layout import Layout, PartlyWritten, row_size, stored_dtype
from sisock.history.marks import Mark, marks_path
from sisock.history.segment_writer import SegmentWriter
from sisock.history.stored import Damaged, Opened, StoredTimeline
from sisock.times import Clock

log = logging.getLogger(__name__)

SMALLEST = 1024
"""Rows of the first open segment; each next one has twice as many, up to its size in bytes."""
# Seconds before a disk whose sync failed is tried again.
_PROBE_S = 1.0


class Shelf:
    """Where a timeline is written, and what is there.

    Parameters
    ----------
    number : int
        By which the catalogue knows the timeline.
    folder : Path
        Made when it is needed.
    timeline : Timeline
    catalogue : Catalogue
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
        catalogue: Catalogue,
        opened: Opened,
        damaged: Damaged,
        segment: int,
        sync: Literal["none", "interval", "always"],
        clock: Clock,
    ) -> None:
        self.number, self.folder, self.fields = number, folder, tuple(timeline.fields)
        self.lock = threading.RLock()
        """Held while samples are appended or `stored` is replaced."""
        self._name, self._catalogue, self._opened, self._damaged = timeline.name, catalogue, opened, damaged
        self._segment, self._sync, self._clock = segment, sync, clock
        final = catalogue.finalized_until(number)
        self.final = -math.inf if final is None else final
        """What is final, in UNIX seconds."""
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
        self.stored: StoredTimeline
        """What readers see; replaced as a whole."""
        self.show()

    @property
    def writing(self) -> int | None:
        """The number of the segment that is appended to."""
        return self._writing.id if self._writing is not None else None

    def show(self) -> None:
        """Show readers the segments as the catalogue has them now."""
        entries = [entry for entry in self._catalogue.entries(self.number) if entry.id not in self.hidden]
        missing = tuple(self.hidden.values())
        self.stored = StoredTimeline(self._name, self.folder, entries, self._opened, self._damaged, missing)

    def damaged(self) -> list[Entry]:
        """Return the segments that are not whole, or cannot be read, as far as can be told without reading all."""
        found = []
        for entry in self.stored.entries:
            try:
                if entry.state == "open":
                    segment = self._opened.segment(self.stored.path(entry), self._name, entry.id)
                    commit = segment.commit()
                    whole = segment.damage is None and commit is not None and commit.rows >= entry.rows
                    if whole and commit and segment.good(commit) == ([(0, commit.rows)] if commit.rows else []):
                        continue
                elif self.stored.path(entry).exists():
                    continue
            except (BadHistory, OSError) as error:
                log.warning("%s is not served: %s", self.stored.path(entry), error)
            found.append(entry)
        return found

    def resume(self) -> None:
        """Go on from what is there."""
        self.show()
        known = self._catalogue.finalized_until(self.number)
        self.final = max(self.final, self.stored.finalized_until(), -math.inf if known is None else known)
        self.unsealed = sum(entry.bytes for entry in self.stored.entries if entry.state == "open")

    def begin_epoch(self, fields: Sequence[Field]) -> None:
        """Write these fields from now on; everything becomes final if the open segments have others."""
        with self.lock:
            self.rotate()
            span, fields = self.stored.span(), tuple(fields)
            if span is not None and any(e.state == "open" and e.fields != fields for e in self.stored.entries):
                final = max(self.final, math.nextafter(span.end, math.inf))
                self._catalogue.finalize(self.number, final)
                self.final = final
            self.fields = fields

    def append(self, t: FloatArray, columns: Mapping[str, Column], finalized_until: float) -> None:
        """Append samples, in order of time, and force them onto the disk if `sync` is ``always``.

        Raises
        ------
        PartlyWritten
            If only the first of them could be written.
        OSError, BadHistory
            If they cannot be written.
        """
        with self.lock:
            if self._doubtful:
                self.sync()
            self._append(t, columns, finalized_until)
            if self._sync == "always":
                self.sync()

    def _append(self, t: FloatArray, columns: Mapping[str, Column], finalized_until: float) -> None:
        done = 0
        with self.lock:
            while done < len(t):
                try:
                    writer = self._writer_for(columns, len(t) - done)
                    part = slice(done, done + min(writer.room, len(t) - done))
                    # Nothing is final on account of samples that are not here yet.
                    final = finalized_until if part.stop == len(t) else self.final
                    writer.append(t[part], {name: values[part] for name, values in columns.items()}, final)
                    self._first, self._last = min(self._first, float(t[done])), max(self._last, float(t[part.stop - 1]))
                    self._mark(writer)
                except (OSError, BadHistory) as error:
                    if done and self._sync != "always":  # then they are not synced
                        raise PartlyWritten(str(error), done) from error
                    raise
                done = part.stop
            self.final = max(self.final, finalized_until)

    def finalize(self, until: float) -> bool:
        """Write down what is final; return whether that was done, which it is not while the disk is waited for."""
        if not self.lock.acquire(timeout=PATIENCE_S):
            return False
        try:
            if until <= self.final:
                return True
            if self._writer is not None:
                self._writer.finalize(until)
                self._mark(self._writer)
            elif not self._catalogue.finalize(self.number, until, patience_s=PATIENCE_S):
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
                    self._catalogue.replace(self.number, [known], durable=False)
                    # The segment says so as well.
                    self._catalogue.finalize(self.number, self.final, deferrable=True)
            self._writer = self._writing = None

    def copy(
        self, fields: Sequence[Field], t: FloatArray, columns: Mapping[str, Column], finalized_until: float
    ) -> Entry:
        """Write samples as an open segment of their own, forced onto the disk; the catalogue does not name it yet."""
        number = self._catalogue.next_segment()
        dtypes = tuple(stored_dtype(field, columns[field.name]) for field in fields)
        layout = Layout(self._name, tuple(fields), dtypes, len(t), number)
        about = {"layout": layout.description.decode(), "first": float(t.min()), "last": float(t.max())}
        entry = Entry(number, "open", layout.fields, None, None, len(t), layout.size, extra=json.dumps(about))
        writer = SegmentWriter(self.stored.path(entry), layout)
        try:
            writer.append(t, columns, finalized_until)
            writer.sync()
            sync_folder(self.folder)
        except BaseException:
            writer.remove()
            raise
        finally:
            writer.close()
        return entry

    def set_back(self, until: float) -> None:
        """Have the watermark stand at an earlier time, once the catalogue says so."""
        with self.lock:
            self.final = until
            self.show()
            self.unsealed = sum(entry.bytes for entry in self.stored.entries if entry.state == "open")

    def sync(self) -> None:
        """Force onto the disk what was appended, and close the segments that are full; appends go on meanwhile.

        Raises
        ------
        OSError
            If that cannot be done; what may not be on the disk is written anew at the next call.
        """
        with self.lock:
            if self._doubtful:
                self._write_anew()
            full, self._full = self._full, []
            new_files, self._new_files = self._new_files, False
            records = [(writer, writer.record()) for writer in (*full, self._writer) if writer is not None]
        failed: OSError | None = None
        try:
            for writer, record in records if self._sync != "none" else ():
                try:
                    if failed is None:
                        writer.sync(record)
                        continue
                except OSError as error:
                    if error.errno == errno.EBADF:
                        continue  # another thread has synced and closed it
                    failed = error
                # Those behind it as well, so that all are written anew in their order.
                self._distrust(writer, failed)
            if new_files and self._sync != "none":
                self._sync_folder()
        finally:
            for writer in full:
                writer.close()
        if failed is not None:
            raise failed

    def _sync_folder(self) -> None:
        try:
            sync_folder(self.folder)
        except OSError:
            self._new_files = True
            raise

    def _distrust(self, writer: SegmentWriter, error: OSError) -> None:
        """Append no more to a segment that could not be synced; all of it is written anew."""
        with self.lock:
            if writer is self._writer:
                self.rotate()
                self._full.remove(writer)
                writer.close()
            self._doubtful.append((writer.layout.number or 0, writer.record()))
            self._unsynced = error
            self._probe_at = self._clock.monotonic() + _PROBE_S

    def _write_anew(self) -> None:
        """Write to new segments what is in segments whose sync failed, and give those up.

        A failed fsync is reported once: the kernel then takes the pages for clean, although they are not on the disk,
        and the next fsync of the file succeeds. So it must be written again, to another file.

        References
        ----------
        Rebello et al., Can Applications Recover from fsync Failures?, USENIX ATC 2020; PostgreSQL wiki, Fsync Errors.

        Raises
        ------
        OSError
            If that cannot be done yet.
        """
        if self._clock.monotonic() < self._probe_at and self._unsynced is not None:
            raise OSError(self._unsynced.errno, self._unsynced.strerror)
        self._probe_at = self._clock.monotonic() + _PROBE_S
        _probe(self.folder)
        while self._doubtful:
            number, record = self._doubtful[0]
            for entry in [entry for entry in self.stored.entries if entry.id == number]:  # it may be sealed by now
                self._copy(entry, record)
                if self._writer is not None:
                    self._writer.sync()
                self._catalogue.remove([number])
                self.replaced.append(entry)
                self.unsealed -= entry.bytes
            self._doubtful.pop(0)
            self.show()
        self._unsynced = None

    def _copy(self, entry: Entry, record: bytes) -> None:
        """Append what is in a segment, as it was when `record` was written; count what cannot be read any more."""
        segment = self._opened.segment(self.stored.path(entry), self._name, entry.id)
        commit = segment.parse(record)
        rows, copied = commit.rows if commit else 0, 0
        for start, end in segment.good(commit) if commit else ():
            t, columns = segment.rows(start, end)
            order = np.argsort(t, kind="stable")
            self._append(t[order], {name: column[order] for name, column in columns.items()}, self.final)
            copied += end - start
        if copied < rows:
            about = json.loads(entry.extra)
            self._catalogue.add_gap(self.number, about["first"], math.nextafter(about["last"], math.inf))
            self._catalogue.add_losses(self.number, about["first"], dropped=rows - copied)

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
        self._writer = self._writing = None
        if self._mark_fd >= 0:
            os.close(self._mark_fd)
        self._mark_fd = -1

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
        self._given = given
        capacity = SMALLEST
        if writer is not None:
            known = writer.layout.dtypes
            dtypes = tuple(np.result_type(a, b).newbyteorder("<").str for a, b in zip(dtypes, known, strict=True))
            if has_room and dtypes == known:
                return writer
            capacity = 2 * writer.layout.capacity
        capacity = min(max(capacity, more), max(SMALLEST, self._segment // row_size(dtypes)))
        new = self._begin(Layout(self._name, self.fields, dtypes, capacity, self._catalogue.next_segment()))
        self.show()
        return new

    def _begin(self, layout: Layout) -> SegmentWriter:
        """Begin a new segment."""
        extra = json.dumps({"layout": layout.description.decode(), "since": self.final})
        assert layout.number is not None  # noqa: S101 - given by the caller
        entry = Entry(layout.number, "open", self.fields, None, None, 0, layout.size, extra=extra)
        make_folder(self.folder, sync=self._sync != "none")
        new = SegmentWriter(self.stored.path(entry), layout)
        try:
            self._catalogue.replace(self.number, [entry], durable=self._sync != "none")
        except BaseException:
            new.close()
            new.remove()
            raise
        self.rotate()
        self._writer, self._writing, self._new_files = new, entry, True
        self._first, self._last = math.inf, -math.inf
        return new


def _probe(folder: Path) -> None:
    """Write and sync a file.

    Raises
    ------
    OSError
        If the disk does not take it.
    """
    path = folder / "probe.new"
    try:
        with path.open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
