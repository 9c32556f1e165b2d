"""Having a watermark stand at an earlier time, and quarantining the samples that must not be there."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from sisock.fields import Timeline
from sisock.history.blocks import Block, concatenated
from sisock.history.entry import Entry, Reset
from sisock.history.folder import remove_segment
from sisock.history.manifest import Manifest
from sisock.history.quarantine import quarantine_samples
from sisock.history.sealer import Sealer
from sisock.history.writer import TimelineWriter
from sisock.times import Interval

_EVER = Interval(-math.inf, math.inf)


def set_back(
    path: Path, manifest: Manifest, sealer: Sealer, writer: TimelineWriter, reset: Reset
) -> tuple[int, list[Entry]]:
    """Set back the watermark of a timeline; return how many samples are quarantined, and the segments given up.

    They are written, as recordings, to the folder `quarantine` before they leave the history. The caller holds the
    locks of the upkeep and of the writer, and has rotated it.

    Parameters
    ----------
    path : Path
        The folder of the history.
    manifest : Manifest
    sealer : Sealer
    writer : TimelineWriter
    reset : Reset
        Where the watermark goes stays behind samples whose fields were others.

    Raises
    ------
    OSError, SisockError
        If that cannot be written; the history is as it was then.
    """
    before, stored = writer.final, writer.stored
    until = min(before, max(reset.finalized_until, settled_before(writer, reset.removed_from)))
    gone, moved = stored.passed(min(until, reset.removed_from)), 0
    kept: list[Entry] = []
    writer.final = until
    try:
        for entry in gone:
            names = [field.name for field in entry.fields]
            t, columns = concatenated(list(stored.of(entry).rows(names, _EVER)))
            i, j = np.searchsorted(t, [until if entry.state == "sealed" else -math.inf, reset.removed_from])
            # The last one stands for the whole segment if a kill comes now: then it is quarantined already.
            for which, part in ((2, slice(j, None)), (1, slice(i, j)), (0, slice(0, min(i, j)))):
                if len(t[part]):
                    rows = t[part], {name: values[part] for name, values in columns.items()}
                    moved += _part(path, sealer, writer, entry, which, rows, kept)
        manifest.set_back(writer.number, replace(reset, finalized_until=until), kept, [each.id for each in gone])
    except BaseException:
        writer.final = before
        for entry in kept:
            remove_segment(stored.path(entry))
        raise
    writer.set_back(until)
    return moved, gone


def settled_before(writer: TimelineWriter, t: float) -> float:
    """Return until when samples before `t` have other fields than those that are written now, and stay final."""
    others = [writer.stored.of(e).newest_before(t) for e in writer.stored.entries if e.fields != writer.fields]
    newest = max(others, default=-math.inf)
    return math.nextafter(newest, math.inf) if math.isfinite(newest) else newest


def _part(
    path: Path, sealer: Sealer, writer: TimelineWriter, entry: Entry, which: int, rows: Block, kept: list[Entry]
) -> int:
    """Write what of a segment stays final, is final no more, or is quarantined; return how many of the last."""
    if which == 0:
        kept.append(sealer.write(writer, entry.fields, *rows, [entry.id]))
    elif which == 1:
        kept.append(writer.copy(entry.fields, *rows, writer.final))
    else:
        quarantine_samples(path, writer.stored.path(entry), Timeline(writer.stored.name, entry.fields), *rows)
        return len(rows[0])
    return 0
