"""Having a watermark stand at an earlier time, and quarantining the samples that must not be there."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from sisock.fields import Timeline
from sisock.history.entry import Entry, Reset
from sisock.history.folder import remove_segment
from sisock.history.manifest import Manifest
from sisock.history.pieces import Rows, concatenated
from sisock.history.quarantine import keep_aside
from sisock.history.sealer import Sealer
from sisock.history.shelf import Shelf
from sisock.times import Interval

_EVER = Interval(-math.inf, math.inf)


def set_back(path: Path, manifest: Manifest, sealer: Sealer, shelf: Shelf, reset: Reset) -> tuple[int, list[Entry]]:
    """Set back the watermark of a timeline; return how many samples are quarantined, and the segments given up.

    They are written, as recordings, to the folder `quarantine` before they leave the history. The caller holds the
    locks of the upkeep and of the shelf, and has rotated it.

    Parameters
    ----------
    path : Path
        The folder of the history.
    manifest : Manifest
    sealer : Sealer
    shelf : Shelf
    reset : Reset
        Where the watermark goes stays behind samples whose fields were others.

    Raises
    ------
    OSError, SisockError
        If that cannot be written; the history is as it was then.
    """
    before, stored = shelf.final, shelf.stored
    until = min(before, max(reset.finalized_until, settled_before(shelf, reset.removed_from)))
    gone, moved = stored.passed(min(until, reset.removed_from)), 0
    kept: list[Entry] = []
    shelf.final = until
    try:
        for entry in gone:
            names = [field.name for field in entry.fields]
            t, columns = concatenated(list(stored.of(entry).rows(names, _EVER)))
            i, j = np.searchsorted(t, [until if entry.state == "sealed" else -math.inf, reset.removed_from])
            # The last one stands for the whole segment if a kill comes now: then it is quarantined already.
            for which, part in ((2, slice(j, None)), (1, slice(i, j)), (0, slice(0, min(i, j)))):
                if len(t[part]):
                    rows = t[part], {name: values[part] for name, values in columns.items()}
                    moved += _part(path, sealer, shelf, entry, which, rows, kept)
        manifest.set_back(shelf.number, replace(reset, finalized_until=until), kept, [each.id for each in gone])
    except BaseException:
        shelf.final = before
        for entry in kept:
            remove_segment(stored.path(entry))
        raise
    shelf.set_back(until)
    return moved, gone


def settled_before(shelf: Shelf, t: float) -> float:
    """Return until when samples before `t` have other fields than those that are written now, and stay final."""
    others = [shelf.stored.of(e).newest_before(t) for e in shelf.stored.entries if e.fields != shelf.fields]
    newest = max(others, default=-math.inf)
    return math.nextafter(newest, math.inf) if math.isfinite(newest) else newest


def _part(path: Path, sealer: Sealer, shelf: Shelf, entry: Entry, which: int, rows: Rows, kept: list[Entry]) -> int:
    """Write what of a segment stays final, is final no more, or is quarantined; return how many of the last."""
    if which == 0:
        kept.append(sealer.write(shelf, entry.fields, *rows, [entry.id]))
    elif which == 1:
        kept.append(shelf.copy(entry.fields, *rows, shelf.final))
    else:
        keep_aside(path, shelf.stored.path(entry), Timeline(shelf.stored.name, entry.fields), *rows)
        return len(rows[0])
    return 0
