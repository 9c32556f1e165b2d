"""Recordings: samples in files, Parquet, CSV or HDF5, with units and gaps; written and read in pieces."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from sisock.dtypes import continued, together
from sisock.errors import BadRequest, MissingExtra, NoSuchTimeline
from sisock.fields import Batch, Column, Timeline
from sisock.recording.contents import Gap, Origin, Reader, RecordedTimeline, Writer, absent, fitted, reading, writing
from sisock.times import Interval

__all__ = [
    "ENDINGS",
    "FORMATS",
    "Recording",
    "RecordingWriter",
    "create_recording",
    "format_of",
    "open_recording",
]

ENDINGS = {".parquet": "parquet", ".csv": "csv", ".h5": "hdf5", ".hdf5": "hdf5"}
"""Formats by the ending of a file's name."""
FORMATS = ("parquet", "csv", "hdf5")
_EXTRAS = {"pyarrow": "parquet", "h5py": "hdf5"}

# Values that are gathered before they are written: 8 MB of float64.
_GATHERED = 1_000_000


def format_of(path: str | os.PathLike[str], format: str | None = None) -> str:
    """Return the format that is named, else that of the file's ending.

    Raises
    ------
    BadRequest
        If it is none that is known.
    """
    if format is not None:
        if format not in FORMATS:
            raise BadRequest(f"{format!r} is not a format of recordings; give one of {', '.join(FORMATS)}")
        return format
    try:
        return ENDINGS[Path(path).suffix.lower()]
    except KeyError:
        raise BadRequest(
            f"{path} has no known format; end its name with {', '.join(ENDINGS)}, or name the format: "
            f"{', '.join(FORMATS)}"
        ) from None


def _module(format: str) -> Any:
    try:
        return import_module(f"sisock.recording.{format}")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise MissingExtra(
            f"{format} files need {error.name}; run: pip install 'sisock[{_EXTRAS[error.name]}]'"
        ) from error


class RecordingWriter:
    """Writes a recording; see `create_recording`.

    Attributes
    ----------
    filled : dict of str to int
        By field: bools and strings that were missing and are written as false and "".
    """

    def __init__(self, path: Path, writer: Writer) -> None:
        self.filled: dict[str, int] = {}
        self._path, self._writer = path, writer
        self._recorded: dict[str, RecordedTimeline] = {}
        self._gathered: dict[str, list[Batch]] = {}

    def append(self, timeline: Timeline, batch: Batch, gaps: Iterable[Gap] = ()) -> None:
        """Write the samples of a batch.

        Parameters
        ----------
        timeline : Timeline
            Whose samples these are; begun when it comes for the first time.
        batch : Batch
            Later than those before; NaN, "" or false stands for a field that it lacks.
        gaps : iterable of (float, float)
            Spans in which the source is known to have been silent or lossy; what comes twice is written once.

        Raises
        ------
        BadRequest
            If the fields of the timeline are not those it began with.
        BadData
            If values are not of their field's type, or the format cannot hold them.
        """
        recorded = self._timeline(timeline)
        columns = {}
        for field in timeline.fields:
            values = batch.columns.get(field.name)
            columns[field.name], missing = absent(field, len(batch)) if values is None else fitted(field, values)
            if missing:
                self.filled[field.name] = self.filled.get(field.name, 0) + missing
        recorded.gaps.update((float(start), float(end)) for start, end in gaps)
        if not len(batch):
            return
        if batch.gap_from is not None:
            recorded.gaps.add((batch.gap_from, float(batch.t[0])))
        recorded.samples += len(batch)
        gathered = self._gathered[timeline.name]
        gathered.append(Batch(timeline.name, batch.t, columns))
        if sum(map(len, gathered)) * (len(columns) + 1) >= _GATHERED:
            self._write(recorded)

    def finish(self, origin: Origin) -> None:
        """Write the remaining samples and the metadata."""
        if not self._recorded:
            raise BadRequest(f"{self._path} would be empty: nothing was recorded")
        for recorded in self._recorded.values():
            self._write(recorded)
        with writing(self._path):
            self._writer.finish(origin, list(self._recorded.values()))

    def _timeline(self, timeline: Timeline) -> RecordedTimeline:
        if recorded := self._recorded.get(timeline.name):
            if recorded.timeline != timeline:
                raise BadRequest(f"timeline {timeline.name!r} was begun with other fields; give it another name")
            return recorded
        if not timeline.fields:
            raise BadRequest(f"timeline {timeline.name!r} has no fields")
        self._recorded[timeline.name] = RecordedTimeline(timeline, {})
        self._gathered[timeline.name] = []
        return self._recorded[timeline.name]

    def _write(self, recorded: RecordedTimeline) -> None:
        """Write what was gathered; a timeline that has nothing is begun at least."""
        name, begun = recorded.timeline.name, bool(recorded.dtypes)
        batches, self._gathered[name] = self._gathered[name], []
        if not batches and begun:
            return
        batches = batches or [recorded.timeline.nothing()]
        columns = {f.name: together([batch[f.name] for batch in batches]) for f in recorded.timeline.fields}
        before = recorded.dtypes
        recorded.dtypes = {n: _widened(before.get(n, v.dtype), v) for n, v in columns.items()}
        with writing(self._path):
            if not begun:
                self._writer.begin(recorded)
            elif recorded.dtypes != before:
                self._writer.widen(recorded)
            columns = {n: v.astype(recorded.dtypes[n], copy=False) for n, v in columns.items()}
            self._writer.put(recorded, Batch(name, np.concatenate([batch.t for batch in batches]), columns))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


@contextmanager
def create_recording(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    node: str | None = None,
    interval: Interval | None = None,
) -> Iterator[RecordingWriter]:
    """Write a new recording: a context manager that returns its RecordingWriter, and completes the file at its end.

    Parameters
    ----------
    path : path-like
        Of a file that does not exist. When an error ends the recording, it is removed.
    format : {"parquet", "csv", "hdf5"}, optional
        By the file's ending when not given. Each holds any number of timelines: HDF5 a group for each; Parquet and CSV
        their rows one after the other, with a column that names the timeline if there are several.
    node : str, optional
        Whose samples these are.
    interval : Interval, optional
        The span that the recording is of.

    Raises
    ------
    BadRequest
        If the format is not known, the file exists or cannot be written, or nothing was recorded.
    MissingExtra
        If the format needs a package that is not installed.

    Examples
    --------
    >>> with create_recording("cpu.parquet") as recording:  # doctest: +SKIP
    ...     recording.append(timeline, batch)
    """
    path = Path(path)
    module = _module(format_of(path, format))
    if path.exists():
        raise BadRequest(f"{path} exists; remove it, or give another name")
    with writing(path):
        recorder = RecordingWriter(path, module.open_writer(path))
    try:
        yield recorder
        recorder.finish(Origin(node, interval))
    except BaseException:
        # The first error is reported; that the file cannot be finished follows from it.
        with suppress(OSError, ValueError, RuntimeError):
            recorder.close()
        path.unlink(missing_ok=True)
        raise
    recorder.close()


class Recording:
    """Reads a recording; see `open_recording`.

    Attributes
    ----------
    path : Path
    timelines : list of Timeline
        With what the file knows of their fields: units, descriptions, types.
    node : str or None
        The node that the samples are of, where the file has it.
    interval : Interval or None
        The span of the recording, where the file has it.
    left_out : list of str
        Columns of another program's file that are not numbers, bools or strings.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self.timelines = [recorded.timeline for recorded in reader.contents]
        self.node, self.interval = reader.origin.node, reader.origin.interval
        self.left_out = reader.left_out
        self._reader = reader
        self._recorded = {recorded.timeline.name: recorded for recorded in reader.contents}

    @property
    def filled(self) -> int:
        """How many bools and strings were missing in what was read so far, and are given as false and ""."""
        return self._reader.filled

    def samples(self, timeline: str) -> int:
        """Return how many samples a timeline has."""
        return self._timeline(timeline).samples

    def gaps(self, timeline: str) -> list[Gap]:
        """Return the spans in which the source is known to have been silent or lossy, in order of time."""
        return sorted(self._timeline(timeline).gaps)

    def batches(self, timeline: str, rows: int = 100_000) -> Iterator[Batch]:
        """Yield the samples of a timeline, at most `rows` at once.

        A batch begins where a gap ends; its `gap_from` is the start of the gap.

        Raises
        ------
        NoSuchTimeline
        BadData
            If the file is damaged; what was before that was yielded.
        """
        recorded = self._timeline(timeline)
        left = sorted(recorded.gaps, key=lambda gap: gap[1], reverse=True)
        batches = self._reader.read(recorded, rows)
        while True:
            with reading(self.path):
                batch = next(batches, None)
            if batch is None:
                return
            ended = []
            while left and left[-1][1] <= batch.t[-1]:
                ended.append(left.pop())
            yield from _cut(batch, ended)

    def _timeline(self, timeline: str) -> RecordedTimeline:
        try:
            return self._recorded[timeline]
        except KeyError:
            raise NoSuchTimeline(
                f"{self.path} has no timeline {timeline!r}; it has: {', '.join(self._recorded)}"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def open_recording(path: str | os.PathLike[str], format: str | None = None) -> Recording:
    """Return a recording to be read; close it, or use it in a ``with`` block.

    Parameters
    ----------
    path : path-like
        A file that `create_recording` made; or a Parquet file from elsewhere that has a column ``t`` or ``time``,
        of UNIX seconds or of timestamps.
    format : {"parquet", "csv", "hdf5"}, optional
        By the file's ending when not given.

    Raises
    ------
    BadRequest
        If the format is not known.
    BadData
        If there is no such file, it is damaged, or it is not a recording.
    MissingExtra
        If the format needs a package that is not installed.
    """
    path = Path(path)
    module = _module(format_of(path, format))
    with reading(path):
        return Recording(path, module.open_reader(path))


def _widened(known: np.dtype[Any], values: Column) -> np.dtype[Any]:
    """Return the dtype of a column of a file with more values; of numbers that none has room for, float64."""
    if known == values.dtype or known.kind not in "iuf" or values.dtype.kind not in "iuf":
        return np.result_type(known, values.dtype)
    dtype = continued(known, values)
    return dtype if dtype == known else np.result_type(known, values.dtype)


def _cut(batch: Batch, ended: Sequence[Gap]) -> Iterator[Batch]:
    """Yield a batch in parts, one of which begins where each of the gaps that ended in it did."""
    if not ended:
        yield batch
        return
    since: dict[int, float] = {}
    for start, end in ended:
        first = int(np.searchsorted(batch.t, end))
        since[first] = min(start, since.get(first, start))
    edges = sorted({0, *since, len(batch)})
    for i, j in pairwise(edges):
        columns = {name: values[i:j] for name, values in batch.columns.items()}
        yield Batch(batch.timeline, batch.t[i:j], columns, gap_from=since.get(i))
