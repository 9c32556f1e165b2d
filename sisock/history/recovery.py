"""Correcting what a killed writer, a failing disk or a lost catalogue left behind."""

import json
import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sisock.errors import BadHistory
from sisock.history.catalogue import Catalogue, Entry
from sisock.history.sealed import Sealed, described, footer_checksum
from sisock.history.segment import Commit, Layout, NewerFormat, Segment, SegmentWriter
from sisock.history.shelf import Mark, Shelf, read_mark
from sisock.times import Interval

log = logging.getLogger(__name__)

QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a segment, the gaps that it leaves, and how many samples are lost at the most."""

    message: str
    gaps: Sequence[tuple[float, float]]
    lost: int
    finalized_until: float = -math.inf


@dataclass(frozen=True, slots=True)
class Found:
    """What the files of a history are, beside what its catalogue knows.

    Attributes
    ----------
    adopted : list of Path
        Segments that the catalogue did not know and knows now.
    unreadable : list of (int, Entry)
        Segments that it does not know, and that are damaged where they describe themselves, by timeline.
    strangers : list of Path
        Files that belong to no segment.
    leftovers : list of Path
        Files of segments that were replaced or have expired, and such as were never completed.
    """

    adopted: list[Path]
    unreadable: list[tuple[int, Entry]]
    strangers: list[Path]
    leftovers: list[Path]


def adopt(path: Path, catalogue: Catalogue, *, writable: bool = True) -> Found:
    """Add to the catalogue all segments that are in the folder and that it does not know.

    Raises
    ------
    NewerFormat
        If a segment is of a newer format.
    """
    if writable:
        _straighten(path, catalogue)
    found = Found([], [], [], [])
    names = {number: name for number, name, _ in catalogue.timelines()}
    entries = {number: {entry.id: entry for entry in catalogue.entries(number)} for number in names}
    known = {number for of_one in entries.values() for number in of_one}
    removed = catalogue.removed()
    catalogue.used(max((n for file in path.glob("*/*") if (n := _number(file, quarantined=True))), default=0))
    replaced: set[int] = set()
    for file in sorted(path.glob("[0-9]*/*"), key=lambda file: (file.suffix != ".parquet", file.name)):
        number = _number(file)
        if file.suffix == ".new" or (number in removed and number not in known):
            found.leftovers.append(file)
        elif file.name == "marks" or number in known:
            continue
        elif number is None:
            found.strangers.append(file)
        elif file.suffix == ".seg" and number in replaced:
            found.leftovers.append(file)  # a sealed segment says that it has all of it
        elif file.suffix in (".parquet", ".seg"):
            try:
                gone = _adopt_one(file, number, catalogue, names, entries)
                found.adopted.append(file)
                replaced |= gone
                known.difference_update(gone)
                known.add(number)
            except NewerFormat:
                raise
            except (BadHistory, ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("%s: %s", file, error)
                state: Any = "open" if file.suffix == ".seg" else "sealed"
                unknown = Entry(number, state, (), None, None, 0, file.stat().st_size)
                found.unreadable.append((int(file.parent.name), unknown))
    known |= {entry.id for _, entry in found.unreadable}
    beside = [file for file in path.glob("[0-9]*/*") if file.suffix in (".words", ".pyramid")]
    found.leftovers.extend(file for file in beside if _number(file) in replaced - known)
    found.strangers.extend(file for file in beside if file not in found.leftovers and _number(file) not in known)
    return found


def _adopt_one(
    file: Path, number: int, catalogue: Catalogue, names: dict[int, str], entries: dict[int, dict[int, Entry]]
) -> set[int]:
    """Add one segment to the catalogue, and to what it has of each timeline; return the segments that it replaces."""
    about: dict[str, Any] = {}
    if file.suffix == ".seg":
        layout = Segment(file).layout
        if layout.number not in (None, number):
            raise BadHistory(f"it is segment {layout.number}")
        name, extra = layout.timeline, json.dumps({"layout": layout.description.decode()})
        entry = Entry(number, "open", layout.fields, None, None, 0, layout.size, extra=extra)
    else:
        name, entry, about = described(file, number)
        if about.get("number", number) != number:
            raise BadHistory(f"it is segment {about['number']}")
    timeline = int(file.parent.name)
    if timeline not in names:
        catalogue.restore_timeline(timeline, name)
        names[timeline], entries[timeline] = name, {}
    elif names[timeline] != name:
        raise BadHistory(f"it is of timeline {name!r}, not {names[timeline]!r}")
    here, gone = entries[timeline], set(map(int, about.get("replaces", ())))
    if entry.first is not None and entry.last is not None:
        for other in here.values():
            if other.first is None or other.last is None or other.id in gone:
                continue
            if other.first <= entry.last and entry.first <= other.last:
                raise BadHistory(f"it overlaps with segment {other.id}")
    # Not forced onto the disk one by one: who adopts has the catalogue written as a whole afterwards.
    catalogue.replace(timeline, [entry], gone & here.keys(), durable=False)
    entries[timeline] = {other.id: other for other in here.values() if other.id not in gone} if gone else here
    entries[timeline][number] = entry
    catalogue.finalize(timeline, float(about.get("finalized_until", -math.inf)))
    for start, end in about.get("gaps", ()):
        catalogue.add_gap(timeline, start, end)
    catalogue.restore_losses(timeline, about.get("losses", ()))
    return gone


def _straighten(path: Path, catalogue: Catalogue) -> None:
    """Give files of segments that were exchanged their names back; the segments know their numbers."""
    known = {entry.id: (number, entry) for number, _, _ in catalogue.timelines() for entry in catalogue.entries(number)}
    moved: list[tuple[Path, Path]] = []
    for number, (timeline, entry) in known.items():
        file = path / f"{timeline:04d}" / f"{number:08d}.{'parquet' if entry.state == 'sealed' else 'seg'}"
        with suppress(OSError, BadHistory, ValueError, KeyError, TypeError, AttributeError):
            if entry.state == "sealed" and entry.extra and footer_checksum(file) == entry.extra:
                continue
            own = _own_number(file)
            if own is not None and own != number and own in known:
                to, other = known[own]
                suffix = "parquet" if other.state == "sealed" else "seg"
                moved.append((file, path / f"{to:04d}" / f"{own:08d}.{suffix}"))
    sources = {source for source, _ in moved}
    moved = [(source, to) for source, to in moved if to in sources or not to.exists()]
    for source, _ in moved:
        source.rename(source.with_name(source.name + ".moved"))
    for source, target in moved:
        log.warning("%s is %s; it gets its name back", source, target)
        source.with_name(source.name + ".moved").rename(target)


def _own_number(file: Path) -> int | None:
    """Return the number that a segment gives itself, whatever its name is."""
    with file.open("rb") as opened:
        sealed = opened.read(4) == b"PAR1"
    if not sealed:
        return Segment(file).layout.number
    number: int | None = described(file, 0)[2].get("number")
    return number


def _number(file: Path, *, quarantined: bool = False) -> int | None:
    """Return the number of the segment that a file belongs to by its name."""
    stem = file.name.split(".")[0]
    stem = stem.rpartition("-")[2] if quarantined else stem
    return int(stem) if stem.isascii() and stem.isdigit() else None


def check(shelf: Shelf, entry: Entry, catalogue: Catalogue, now: float) -> Damage | None:
    """Look whether a segment is there and whole; of an open one that is not, what its checksums hold for is kept.

    Of a sealed one only the footer is read; the rest is checked when it is read.
    """
    path = shelf.stored.path(entry)
    if entry.state == "sealed":
        return _check_sealed(shelf, entry)
    about = _about(entry)
    mark = read_mark(shelf.folder)
    mark = mark if mark is not None and mark.number == entry.id else None
    described_by = about["layout"].encode() if "layout" in about else None
    try:
        segment = Segment(path, described_by)
    except (BadHistory, OSError) as error:
        message = error.message if isinstance(error, BadHistory) else f"{path} is missing"
        return _all_lost(shelf, entry, mark, message, now)
    commits = segment.commits()
    marked = segment.parse(mark.record) if mark else None
    commits = sorted([*commits, *([marked] if marked else [])], key=lambda c: (c.rows, c.finalized_until), reverse=True)
    if not commits:
        return _all_lost(shelf, entry, mark, f"{path} is damaged where it says how many rows it has", now)
    rows, good, final = max(commits[0].rows, entry.rows), _good(segment, commits), commits[0].finalized_until
    final = max(final, *(commit.finalized_until for commit in commits))
    catalogue.finalize(shelf.number, final)  # never goes back, whatever is lost
    own = segment.commit()
    if segment.damage is None and (good == [(0, rows)] or not rows) and own is not None and own.rows == rows:
        return None
    before, after = _bounds(shelf, entry, mark, final, now)
    t = segment.times(0, rows)
    if rows == commits[0].rows and segment.times_hold(commits[0]) and rows:
        # Then it is known what is lost, also where there are no neighbours.
        before, after = float(t.min()), float(t.max())
    edges = [before]
    for start, end in good:
        part = t[start:end]
        edges += [float(part.min()), float(part.max())]
        _salvage(shelf, entry, catalogue, segment, (start, end), final)
    edges.append(after)
    lost = rows - sum(end - start for start, end in good)
    gaps = _ordered(edges) if lost else []
    return Damage(f"{path} is damaged; {lost} of {rows} samples are lost", gaps, lost, final)


def _check_sealed(shelf: Shelf, entry: Entry) -> Damage | None:
    path = shelf.stored.path(entry)
    try:
        if (footer_checksum(path) == entry.extra) if entry.extra else path.stat().st_size:
            return None
        message = f"{path} is damaged in its footer"
    except OSError:
        message = f"{path} is missing"
    return Damage(message, [around(shelf, entry)], entry.rows)


def _ordered(edges: Sequence[float]) -> list[tuple[float, float]]:
    """Return the gaps between edges; where the rows did not come in order of time, everything is one gap."""
    if all(a <= b for a, b in pairwise(edges)):
        return list(zip(edges[::2], edges[1::2], strict=True))
    return [(min(edges), max(edges))]


def _about(entry: Entry) -> dict[str, Any]:
    try:
        about = json.loads(entry.extra) if entry.extra else {}
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _all_lost(shelf: Shelf, entry: Entry, mark: Mark | None, message: str, now: float) -> Damage:
    """Return the damage of an open segment of which nothing can be read."""
    about, lost, final = _about(entry), entry.rows, -math.inf
    layout = Layout.of(about["layout"].encode()) if "layout" in about else None
    if mark is not None:
        known = layout and Commit.of(mark.record, layout)
        lost, final = (known.rows, known.finalized_until) if known else (lost, final)
    if not lost and mark is None:
        lost = layout.capacity if layout else entry.bytes // 16
    before, after = _bounds(shelf, entry, mark, final, now)
    # Nothing of it is known to have been final; what was lies before the end of the gap.
    return Damage(message, [(before, after)] if lost else [], lost, final if mark else min(after, now))


def _bounds(shelf: Shelf, entry: Entry, mark: Mark | None, final: float, now: float) -> tuple[float, float]:
    """Return the span of an open segment, or the least one known that has it."""
    about = _about(entry)
    if mark is not None and mark.first <= mark.last:
        return mark.first, mark.last
    if "first" in about and "last" in about:
        return float(about["first"]), float(about["last"])
    before, after = around(shelf, entry)
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


def quarantine(path: Path, files: Iterable[Path]) -> None:
    """Move files into the quarantine of the history in `path`."""
    folder = path / QUARANTINE
    for file in files:
        folder.mkdir(exist_ok=True)
        name = file.name if file.parent == path else f"{file.parent.name}-{file.name}"
        to, n = folder / name, 1
        while to.exists():
            to, n = folder / f"{name}.{n}", n + 1
        file.rename(to)


def _good(segment: Segment, commits: Sequence[Commit]) -> list[tuple[int, int]]:
    """Return the rows, as ranges, for which the checksums hold, by the commit record for which most do."""
    return max((segment.good(commit) for commit in commits), key=lambda ranges: sum(b - a for a, b in ranges))


def _salvage(
    shelf: Shelf, entry: Entry, catalogue: Catalogue, segment: Segment, rows: tuple[int, int], finalized_until: float
) -> None:
    """Copy rows of a damaged segment into a new one; only for times that came twice does their order matter."""
    fields = segment.layout.fields
    values = {field.name: segment.values(field.name, *rows) for field in fields}
    columns = {name: column for name, column in values.items() if column is not None}
    number = catalogue.next_segment()
    layout = Layout(shelf.stored.name, fields, segment.layout.dtypes, rows[1] - rows[0], number)
    t = segment.times(*rows)
    about = {"layout": layout.description.decode(), "first": float(t.min()), "last": float(t.max())}
    new = Entry(number, "open", fields, None, None, rows[1] - rows[0], layout.size, extra=json.dumps(about))
    writer = SegmentWriter(shelf.stored.path(new), layout)
    writer.append(t, columns, finalized_until)
    writer.sync()
    writer.close()
    catalogue.replace(shelf.number, [new])
