"""Samples that were taken out of a history: recordings in its folder `quarantine`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sisock.errors import SisockError
from sisock.fields import Batch, Column, FloatArray, Timeline
from sisock.files import QUARANTINE, make_folder, sync_folder
from sisock.recording import create_recording, open_recording
from sisock.times import Interval


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file in the quarantine of a history.

    Attributes
    ----------
    path : Path
    timeline : str or None
        Of a recording; None for what was damaged.
    samples : int
    span : Interval or None
        Times of the first and the last sample.
    bytes : int
    """

    path: Path
    timeline: str | None
    samples: int
    span: Interval | None
    bytes: int


def quarantine_samples(
    folder: Path, segment: Path, timeline: Timeline, t: FloatArray, columns: dict[str, Column]
) -> Path:
    """Write samples of a segment to the quarantine of the history in `folder`, forced onto the disk; return the file.

    Parameters
    ----------
    folder, segment : Path
    timeline : Timeline
    t : ndarray of float64, shape (n,)
        Ascending.
    columns : dict of str to ndarray, each of shape (n,)
    """
    quarantine = folder / QUARANTINE
    make_folder(quarantine, sync=True)
    # The number of the segment is the end of the name, by which it is not used again.
    path = quarantine / f"{segment.parent.name}-samples-{segment.stem}.parquet"
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with create_recording(new, "parquet") as recording:
        recording.append(timeline, Batch(timeline.name, t, columns))
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.rename(path)
    sync_folder(quarantine)
    return path


def list_quarantined(folder: Path) -> Iterator[Quarantined]:
    """Yield the files in the quarantine of the history in `folder`."""
    for path in sorted((folder / QUARANTINE).glob("*")):
        size = path.stat().st_size
        try:
            with open_recording(path, "parquet" if path.suffix == ".parquet" else None) as recording:
                name = recording.timelines[0].name
                t = [batch.t for batch in recording.batches(name)]
                span = Interval(float(t[0][0]), float(t[-1][-1])) if t else None
                yield Quarantined(path, name, recording.samples(name), span, size)
        except SisockError:
            yield Quarantined(path, None, 0, None, size)  # a damaged file, as it was
