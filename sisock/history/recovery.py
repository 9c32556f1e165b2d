"""Correcting what a killed writer, a failing disk or a lost manifest left behind."""

import json
import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import FloatArray
from sisock.files import quarantine
from sisock.history.entry import Entry
from sisock.history.layout import Commit, Layout, Unreadable
from sisock.history.manifest import Manifest
from sisock.history.marks import Mark, read_mark
from sisock.history.sealed import Sealed
from sisock.history.segment import Segment
from sisock.history.segment_set import SegmentSet
from sisock.history.writer import TimelineWriter
from sisock.times import Interval

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Damage:
    """The damage of a segment, the gaps that it leaves, and how many samples are lost at the most."""

    message: str
    gaps: Sequence[tuple[float, float]]
    lost: int
    finalized_until: float = -math.inf


def check(writer: TimelineWriter, entry: Entry, manifest: Manifest, now: float) -> Damage | None:
    """Return the damage of a segment; the rows of an open one whose checksums hold are copied.

    Of a sealed one only the footer is read; the rest is checked when it is read.
    """
    if entry.state == "sealed":
        return _check_sealed(writer, entry)
    mark = read_mark(writer.folder)
    mark = mark if mark is not None and mark.number == entry.id else None
    try:
        return _check_open(writer, entry, manifest, mark, now)
    except Unreadable as error:
        if writer.patient:
            raise
        return _all_lost(writer, entry, mark, error.message, now)


def _check_open(
    writer: TimelineWriter, entry: Entry, manifest: Manifest, mark: Mark | None, now: float
) -> Damage | None:
    path, about = writer.stored.path(entry), _about(entry)
    described_by = about["layout"].encode() if "layout" in about else None
    try:
        segment = Segment(path, described_by)
    except Unreadable:
        raise
    except (BadHistory, FileNotFoundError) as error:
        message = error.message if isinstance(error, BadHistory) else f"{path} is missing"
        return _all_lost(writer, entry, mark, message, now)
    commits = segment.commits()
    marked = segment.parse(mark.record) if mark else None
    commits = sorted([*commits, *([marked] if marked else [])], key=lambda c: (c.rows, c.finalized_until), reverse=True)
    if not commits:
        return _all_lost(writer, entry, mark, f"{path} is damaged where its number of rows is", now)
    if not segment.layout.belongs_to(writer.stored.name, entry.id):
        return _all_lost(writer, entry, mark, f"{path} is another segment", now)
    newest = commits[0]
    rows, final = max(newest.rows, entry.rows), max(commit.finalized_until for commit in commits)
    if marked is None and not segment.turns_whole and (segment.damage or segment.layout.number is None):
        rows = segment.layout.capacity  # the newest record is one that is damaged
    manifest.finalize(writer.number, final)  # never goes back, whatever is lost
    best = max(commits, key=lambda commit: _number_of(segment.good(commit)))
    good, own = segment.good(best), segment.commit()
    if segment.damage is None and (good == [(0, rows)] or not rows) and own is not None and own.rows == rows:
        return None
    t, lost = segment.times(0, rows), rows - _number_of(good)
    lost_times = _rows(segment.good(newest, times_only=True), good, t)
    if len(lost_times) == lost:
        edges = [0, *(row for span in good for row in span), rows]
        gaps = [
            (float(t[i:j].min()), float(t[i:j].max())) for i, j in zip(edges[::2], edges[1::2], strict=True) if i < j
        ]
    else:  # rows may be in any order of time
        gaps = [_bounds(writer.stored, entry, mark, final, now)]
    _supersede(writer, entry, manifest, lost_times)
    _copy(writer, manifest, segment, good, _times_after(writer, entry))
    return Damage(f"{path} is damaged; {lost} of {rows} samples are lost", gaps if lost else [], lost, final)


def span_lost(stored: SegmentSet, entry: Entry, now: float) -> tuple[float, float]:
    """Return the span of a segment that is damaged, or the smallest one known to contain it."""
    if entry.first is not None and entry.last is not None:
        return entry.first, entry.last
    mark = read_mark(stored.folder)
    return _bounds(stored, entry, mark if mark and mark.number == entry.id else None, -math.inf, now)


def modernize(writer: TimelineWriter, manifest: Manifest) -> None:
    """Copy open segments of format 1, whose words have no checksums, into new ones, and remove them.

    Raises
    ------
    OSError, BadHistory
        If that cannot be done; they stay as they are.
    """
    for entry in writer.stored.entries:
        found = _readable(writer.stored, entry)
        if found and found[0].layout.number is None:
            segment, commit = found
            _copy(writer, manifest, segment, [(0, commit.rows)], _times_after(writer, entry), entry)
            for path in writer.folder.glob(f"{entry.id:08d}.*"):
                path.unlink()
            manifest.gone([entry.id])


def _number_of(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in ranges)


def _rows(ranges: Iterable[tuple[int, int]], without: Iterable[tuple[int, int]], t: FloatArray) -> FloatArray:
    """Return the times of rows that are in some ranges and not in others."""
    chosen = np.zeros(len(t), bool)
    for start, end in ranges:
        chosen[start:end] = True
    for start, end in without:
        chosen[start:end] = False
    return t[chosen]


def _readable(stored: SegmentSet, entry: Entry) -> tuple[Segment, Commit] | None:
    """Return an open segment with its newest commit if its times are whole; None if not."""
    if entry.state != "open":
        return None
    with suppress(BadHistory, OSError):  # it is looked at in its turn
        segment = Segment(stored.path(entry))
        return segment, segment.committed()
    return None


def _times_after(writer: TimelineWriter, entry: Entry) -> FloatArray:
    """Return the times that open segments after one have; of those, its own samples do not count."""
    later = [_readable(writer.stored, other) for other in writer.stored.entries if other.id > entry.id]
    return np.concatenate([np.empty(0), *(found[0].times(0, found[1].rows) for found in later if found)])


def _supersede(writer: TimelineWriter, entry: Entry, manifest: Manifest, lost: FloatArray) -> None:
    """Take samples out of earlier open segments that a segment had replaced by ones that are lost."""
    for other in writer.stored.entries:
        found = _readable(writer.stored, other) if other.id < entry.id else None
        if found is None:
            continue
        segment, commit = found
        replaced = np.isin(segment.times(0, commit.rows), lost)
        if replaced.any() and segment.good(commit) == [(0, commit.rows)]:
            _copy(writer, manifest, segment, [(0, commit.rows)], np.append(lost, _times_after(writer, other)), other)
            quarantine(writer.folder.parent, writer.folder.glob(f"{other.id:08d}.*"))
            manifest.gone([other.id])


def _check_sealed(writer: TimelineWriter, entry: Entry) -> Damage | None:
    path = writer.stored.path(entry)
    try:
        Sealed(path, entry).check_footer()
    except Unreadable as error:
        log.error("%s", error.message)
        return None
    except BadHistory as error:
        message = error.message
    except FileNotFoundError:
        message = f"{path} is missing"
    else:
        return None
    return Damage(message, [around(writer.stored, entry)], entry.rows)


def _about(entry: Entry) -> dict[str, Any]:
    try:
        about = json.loads(entry.extra) if entry.extra else {}
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _all_lost(writer: TimelineWriter, entry: Entry, mark: Mark | None, message: str, now: float) -> Damage:
    """Return the damage of an open segment of which nothing can be read."""
    about, lost, final = _about(entry), entry.rows, -math.inf
    layout = Layout.of(about["layout"].encode()) if "layout" in about else None
    if mark is not None:
        known = layout and Commit.of(mark.record, layout)
        lost, final = (known.rows, known.finalized_until) if known else (lost, final)
    if not lost and mark is None:
        lost = layout.capacity if layout else entry.bytes // 16
    before, after = _bounds(writer.stored, entry, mark, final, now)
    # Nothing of it is known to have been final; what was lies before the end of the gap.
    return Damage(message, [(before, after)] if lost else [], lost, final if mark else min(after, now))


def _bounds(stored: SegmentSet, entry: Entry, mark: Mark | None, final: float, now: float) -> tuple[float, float]:
    """Return the span of an open segment, or the least one known that has it."""
    about = _about(entry)
    if mark is not None and mark.first <= mark.last:
        return mark.first, mark.last
    if "first" in about and "last" in about:
        return float(about["first"]), float(about["last"])
    before, after = around(stored, entry)
    since = float(about.get("since", -math.inf))
    if math.isfinite(since):
        before = since
    if math.isinf(after):
        after = max(final, now if math.isinf(before) else max(now, before))
    if math.isinf(before):
        before = min(0.0, after)
    return before, after


def salvageable(path: Path, entry: Entry, error: BadHistory) -> tuple[list[Interval], list[tuple[float, float]]]:
    """Return the spans of a sealed segment that are whole, and the gaps between them.

    Raises
    ------
    BadHistory
        If nothing is wrong with the segment: what failed was the reading.
    """
    sealed = Sealed(path, entry)
    try:
        whole = sealed.intact()
    except (BadHistory, FileNotFoundError):
        whole = []
    span = Interval(entry.first or 0.0, entry.last or 0.0)
    if whole == [span] and sealed.pyramid_holds():
        raise BadHistory(f"{path} could not be read, though it is whole; try again") from error
    edges = [span.start, *(edge for each in whole for edge in each), span.end]
    return whole, [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def around(stored: SegmentSet, entry: Entry) -> tuple[float, float]:
    """Return the span that is lost with a segment: that of a sealed one, else up to its neighbours' samples."""
    if entry.first is not None and entry.last is not None:
        return entry.first, entry.last
    before, after = -math.inf, math.inf
    for other in stored.entries:
        if other.first is not None and other.last is not None:
            before = max(before, other.last)
        elif (found := _readable(stored, other)) and other.id != entry.id and found[1].rows:
            _, first, last = found[0].order(found[1].rows)
            before, after = (max(before, last), after) if other.id < entry.id else (before, min(after, first))
    return before, after


def _copy(
    writer: TimelineWriter,
    manifest: Manifest,
    segment: Segment,
    ranges: Sequence[tuple[int, int]],
    without: FloatArray,
    instead_of: Entry | None = None,
) -> None:
    """Copy rows of an open segment into new ones, but for some times, which later samples have."""
    final = max((commit.finalized_until for commit in segment.commits()), default=-math.inf)
    new = []
    for start, end in ranges:
        t, columns = segment.rows(start, end)
        kept = ~np.isin(t, without)
        if kept.any():
            columns = {name: values[kept] for name, values in columns.items()}
            new.append(writer.copy(segment.layout.fields, t[kept], columns, final))
    manifest.replace(writer.number, new, [instead_of.id] if instead_of else [])
    writer.show()
