"""Files of segments that the manifest does not name, or that have each other's names."""

import json
import logging
import math
from collections.abc import Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sisock.errors import BadHistory
from sisock.history.entry import Entry, Reset
from sisock.history.layout import NewerFormat, Unreadable, words_number
from sisock.history.losses import LOSSES, timeline_files
from sisock.history.manifest import Manifest
from sisock.history.sealed import described, footer_checksum
from sisock.history.segment import Segment

log = logging.getLogger(__name__)


class Copied(BadHistory):
    """A segment that is a copy of another, or of another history's."""

    name = "copied"


def _misplaced(file: Path, number: int) -> BadHistory:
    """Return the error of a segment whose own number is another."""
    is_copy = file.with_name(f"{number:08d}{file.suffix}").exists()
    return (Copied if is_copy else BadHistory)(f"it is segment {number}")


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a history that its manifest does not name.

    Attributes
    ----------
    adopted : list of Path
        Segments that the manifest did not know and knows now.
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


def adopt(path: Path, manifest: Manifest, *, writable: bool = True) -> Found:
    """Add to the manifest all segments that are in the folder and that it does not know.

    Raises
    ------
    NewerFormat
        If a segment is of a newer format.
    """
    if writable:
        straighten(path, manifest)
    found = Found([], [], [], [])
    names = {number: name for number, name, _ in manifest.timelines()}
    entries = {number: {entry.id: entry for entry in manifest.entries(number)} for number in names}
    known = {number for of_one in entries.values() for number in of_one}
    removed = manifest.removed()
    manifest.used(max((n for file in path.glob("*/*") if (n := _number(file, quarantined=True))), default=0))
    replaced: set[int] = set()
    for file in sorted(timeline_files(path), key=lambda file: (file.parent.name, file.suffix != ".parquet", file.name)):
        number = _number(file)
        if file.suffix == ".new" or (number in removed and number not in known):
            found.leftovers.append(file)
        elif file.name in ("marks", LOSSES) or number in known:
            continue
        elif number is None:
            found.strangers.append(file)
        elif file.suffix == ".seg" and number in replaced:
            found.leftovers.append(file)  # a sealed segment lists it as replaced
        elif file.suffix in (".parquet", ".seg"):
            try:
                gone = _adopt_one(file, number, manifest, names, entries)
                found.adopted.append(file)
                replaced |= gone
                known.difference_update(gone)
                known.add(number)
            except NewerFormat:
                raise
            except Unreadable as error:
                log.error("%s", error.message)
                known.add(number)
            except Copied as error:
                log.error("%s: %s", file, error.message)
                found.strangers.append(file)
            except (BadHistory, ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("%s: %s", file, error)
                state: Any = "open" if file.suffix == ".seg" else "sealed"
                unknown = Entry(number, state, (), None, None, 0, file.stat().st_size)
                found.unreadable.append((int(file.parent.name), unknown))
    known |= {entry.id for _, entry in found.unreadable}
    beside = [file for file in timeline_files(path) if file.suffix in (".words", ".pyramid")]
    found.leftovers.extend(file for file in beside if _number(file) in replaced - known)
    found.strangers.extend(file for file in beside if file not in found.leftovers and _number(file) not in known)
    return found


def _adopt_one(
    file: Path, number: int, manifest: Manifest, names: dict[int, str], entries: dict[int, dict[int, Entry]]
) -> set[int]:
    """Add one segment to the manifest, and to what it has of each timeline; return the segments that it replaces."""
    about: dict[str, Any] = {}
    if file.suffix == ".seg":
        layout = Segment(file).layout
        if layout.number not in (None, number):
            raise _misplaced(file, layout.number)
        name, extra = layout.timeline, json.dumps({"layout": layout.description.decode()})
        entry = Entry(number, "open", layout.fields, None, None, 0, layout.size, extra=extra)
    else:
        name, entry, about = described(file, number)
        if about.get("number", number) != number:
            raise _misplaced(file, about["number"])
    timeline = int(file.parent.name)
    if name in names.values() and names.get(timeline) != name:
        raise Copied(f"it is of timeline {name!r}, which has another folder")
    if timeline not in names:
        manifest.restore_timeline(timeline, name)
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
    # Not forced onto the disk one by one: who adopts has the manifest written as a whole afterwards.
    manifest.replace(timeline, [entry], gone & here.keys(), durable=False)
    entries[timeline] = {other.id: other for other in here.values() if other.id not in gone} if gone else here
    entries[timeline][number] = entry
    final, known = float(about.get("finalized_until", -math.inf)), {each.number for each in manifest.resets(timeline)}
    newer = [Reset(*each) for each in about.get("resets", ()) if each[0] > max(known, default=0)]
    for reset in newer:  # watermarks of segments from before it are too late
        manifest.set_back(timeline, replace(reset, finalized_until=min(reset.finalized_until, final)))
    manifest.finalize(timeline, final)
    for start, end in about.get("gaps", ()):
        manifest.add_gap(timeline, start, end)
    manifest.restore_losses(timeline, about.get("losses", ()))
    return gone


def straighten(path: Path, manifest: Manifest) -> bool:
    """Give files of segments that were exchanged their names back, and return whether there were any."""
    places: dict[tuple[int, str], Path] = {}  # by number and suffix
    right: set[Path] = set()
    for timeline, _, _ in manifest.timelines():
        for entry in manifest.entries(timeline):
            for suffix in (".parquet",) if entry.state == "sealed" else (".seg", ".words"):
                places[entry.id, suffix] = path / f"{timeline:04d}" / f"{entry.id:08d}{suffix}"
            with suppress(OSError):
                file = places.get((entry.id, ".parquet"))
                if file and entry.extra and footer_checksum(file) == entry.extra:
                    right.add(file)
    numbers = {number for number, suffix in places if suffix == ".words"}
    moved: dict[Path, Path] = {}  # by where it goes
    for file in sorted(timeline_files(path), key=lambda file: file not in places.values()):
        own = None if file in right else _own_number(file, numbers)
        place = None if own is None else places.get((own, file.suffix))
        if place is not None and place != file and place not in right:
            moved.setdefault(place, file)
    for place, file in list(moved.items()):
        if place.exists() and place not in moved.values():
            other = _own_number(place, numbers)
            if other == _number(place) or (other is None and place.suffix != ".words"):
                del moved[place]  # the file is a copy
            else:
                moved[file] = place
    for file in moved.values():
        file.rename(file.with_name(file.name + ".moved"))
    for place, file in moved.items():
        log.warning("%s is %s; it gets its name back", file, place)
        file.with_name(file.name + ".moved").rename(place)
    return bool(moved)


def _own_number(file: Path, of_words: Set[int]) -> int | None:
    """Return the number that the file of a segment gives itself, whatever its name is; of words, one of some."""
    number: int | None = None
    with suppress(OSError, BadHistory, ValueError, KeyError, TypeError, AttributeError):
        if file.suffix == ".words":
            number = words_number(file, sorted(of_words, key=lambda each: each != _number(file)))
        elif file.suffix == ".parquet":
            number = described(file, 0)[2].get("number")
        elif file.suffix == ".seg":
            number = Segment(file).layout.number
    return number


def _number(file: Path, *, quarantined: bool = False) -> int | None:
    """Return the number of the segment that a file belongs to by its name."""
    stem = file.name.split(".")[0]
    stem = stem.rpartition("-")[2] if quarantined else stem
    return int(stem) if stem.isascii() and stem.isdigit() else None
