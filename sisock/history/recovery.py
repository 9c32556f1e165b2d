"""Putting right what a writer left that was killed, or whose disk failed."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sisock.errors import BadHistory
from sisock.history.catalogue import Catalogue, Entry
from sisock.history.sealed import Sealed
from sisock.history.segment import Commit, Layout, Segment, SegmentWriter
from sisock.history.shelf import Shelf
from sisock.times import Interval


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a segment, and the gaps that it leaves."""

    message: str
    gaps: Sequence[tuple[float, float]]


def remove_leftovers(shelf: Shelf) -> None:
    """Remove files that were replaced, or never written down."""
    known = {shelf.stored.path(entry).stem for entry in shelf.stored.entries}
    for path in shelf.folder.iterdir():
        if path.is_file() and (path.stem not in known or path.suffix == ".new"):
            path.unlink()


def check(shelf: Shelf, entry: Entry, catalogue: Catalogue) -> Damage | None:
    """Look whether a segment is there and whole; of an open one that is not, what its checksums hold for is kept.

    A sealed one is looked at when it is read.
    """
    path = shelf.stored.path(entry)
    try:
        if not path.exists():
            return Damage(f"{path} is missing", [around(shelf, entry)])
        if entry.state == "sealed":
            return None
        segment = Segment(path)
    except BadHistory as error:
        return Damage(error.message, [around(shelf, entry)])
    commits = segment.commits()
    if not commits:
        return Damage(f"{path} is damaged where it says how many rows it has", [around(shelf, entry)])
    rows, good = commits[0].rows, _good(segment, commits)
    if good == [(0, rows)] or not rows:
        return None
    catalogue.finalize(shelf.number, commits[0].finalized_until)  # never goes back, whatever is lost
    (before, after), t = around(shelf, entry), segment.times(0, rows)
    if segment.times_hold(commits[0]):  # then it is known what is lost, also where there are no neighbours
        before, after = max(before, float(t.min())), min(after, float(t.max()))
    elif math.isinf(after):
        after = commits[0].finalized_until
    edges = [before]
    for start, end in good:
        edges += [float(t[start]), float(t[end - 1])]
        _salvage(shelf, entry, catalogue, segment, (start, end), commits[0].finalized_until)
    edges.append(after)
    lost = rows - sum(end - start for start, end in good)
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    return Damage(f"{path} is damaged in {lost} of {rows} samples", gaps)


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


def around(shelf: Shelf, entry: Entry) -> tuple[float, float]:
    """Return the span that is lost with a segment: that of a sealed one, else up to its neighbours' samples."""
    if entry.first is not None and entry.last is not None:
        return entry.first, entry.last
    before, after = -math.inf, math.inf
    for other in shelf.stored.entries:
        with suppress(BadHistory, OSError):  # it is looked at in its turn
            for _, span in shelf.stored.of(other).spans():
                if other.state == "sealed" or other.id < entry.id:
                    before = max(before, span.end)
                elif other.id > entry.id:
                    after = min(after, span.start)
    return before, after


def _good(segment: Segment, commits: Sequence[Commit]) -> list[tuple[int, int]]:
    """Return the rows, as ranges, for which the checksums hold, by the commit record for which most do."""
    return max((segment.good(commit) for commit in commits), key=lambda ranges: sum(b - a for a, b in ranges))


def _salvage(
    shelf: Shelf, entry: Entry, catalogue: Catalogue, segment: Segment, rows: tuple[int, int], finalized_until: float
) -> None:
    """Copy rows of a damaged segment into a new one; only for times that came twice does their order matter."""
    values = {field.name: segment.values(field.name, *rows) for field in entry.fields}
    columns = {name: column for name, column in values.items() if column is not None}
    layout = Layout(shelf.stored.name, entry.fields, segment.layout.dtypes, rows[1] - rows[0])
    new = Entry(catalogue.next_segment(), "open", entry.fields, None, None, 0, layout.size)
    writer = SegmentWriter(shelf.stored.path(new), layout)
    writer.append(segment.times(*rows), columns, finalized_until)
    writer.sync()
    writer.close()
    catalogue.replace(shelf.number, [new])
