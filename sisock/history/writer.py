"""Writing one timeline to disk: open segments, one after the other."""

import errno
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Column, Field, FloatArray
from sisock.files import sync_folder
from sisock.history.appender import SegmentAppender
from sisock.history.entry import Entry
from sisock.history.layout import Layout, stored_dtype
from sisock.history.segment_writer import SegmentWriter

log = logging.getLogger(__name__)

# Seconds before a disk whose sync failed is tried again.
_PROBE_S = 1.0


class TimelineWriter(SegmentAppender):
    """Writes a timeline, and has the segments that are stored.

    Parameters are those of `SegmentAppender`.
    """

    def damaged(self) -> list[Entry]:
        """Return the segments that are not whole, or cannot be read, as far as that is known without reading all."""
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
        """Continue from the segments on the disk."""
        self.show()
        known = self._manifest.finalized_until(self.number)
        self.final = max(self.final, self.stored.finalized_until(), -math.inf if known is None else known)
        self.unsealed = sum(entry.bytes for entry in self.stored.entries if entry.state == "open")

    def begin_epoch(self, fields: Sequence[Field]) -> None:
        """Write these fields from now on; everything becomes final if the open segments have others."""
        with self.lock:
            self.rotate()
            span, fields = self.stored.span(), tuple(fields)
            if span is not None and any(e.state == "open" and e.fields != fields for e in self.stored.entries):
                final = max(self.final, math.nextafter(span.end, math.inf))
                self._manifest.finalize(self.number, final)
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

    def copy(
        self, fields: Sequence[Field], t: FloatArray, columns: Mapping[str, Column], finalized_until: float
    ) -> Entry:
        """Write samples as an open segment of their own, forced onto the disk; the manifest does not name it yet."""
        number = self._manifest.next_segment()
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
        """Have the watermark stand at an earlier time, once the manifest has it."""
        with self.lock:
            self.final = until
            self.show()
            self.unsealed = sum(entry.bytes for entry in self.stored.entries if entry.state == "open")

    def sync(self) -> None:
        """Force onto the disk what was appended, and close the segments that are full; appends continue meanwhile.

        Raises
        ------
        OSError
            If that cannot be done; samples that may not be on the disk are written again at the next call.
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
                # Those behind it as well, so that all are written again in the same order.
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
        """Append no more to a segment that could not be synced; all of it is written again."""
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
                self._manifest.remove([number])
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
            self._manifest.add_gap(self.number, about["first"], math.nextafter(about["last"], math.inf))
            self._manifest.add_losses(self.number, about["first"], dropped=rows - copied)


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
