"""Recordings as HDF5: a group for each timeline, in it a dataset ``t`` and one for each field.

JSON in attributes is for sisock; `units`, `description` and `type` beside it are for everybody. HDF5
takes ``/`` in a name for a path, so names of groups and datasets are percent-encoded where they must be.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sisock.errors import BadData
from sisock.fields import Batch, Field
from sisock.recording.contents import (
    KEY,
    Origin,
    RecordedTimeline,
    origin_head,
    read_origin,
    read_timeline,
    spelled,
    spelled_out,
    timeline_head,
)

_TIMELINE, _FIELD = "sisock.timeline", "sisock.field"
# Samples in a chunk: 128 KiB of float64.
_CHUNK = 16_384
# Samples that are copied at once when a dataset gets another type.
_ROWS = 1 << 17


class Hdf5Writer:
    """Writes any number of timelines."""

    def __init__(self, path: Path) -> None:
        # Since 1.10 HDF5 has checksums of its metadata; without them, damage can hang the library.
        self._file = h5py.File(path, "x", libver=("v110", "v110"), track_order=True)

    def begin(self, recorded: RecordedTimeline) -> None:
        """Make the group and its datasets."""
        group = self._file.create_group(link_name(recorded.timeline.name), track_order=True)
        times = _dataset(group, "t", np.dtype(np.float64))
        times.attrs.update({"units": "s", "description": "UNIX time, UTC"})
        for i, field in enumerate(recorded.timeline.fields):
            _describe(_dataset(group, link_name(field.name), recorded.dtypes[field.name]), field, i)

    def put(self, recorded: RecordedTimeline, batch: Batch) -> None:
        """Write samples."""
        group = self._group(recorded)
        n = len(group["t"])
        for name, values in (("t", batch.t), *((link_name(name), values) for name, values in batch.columns.items())):
            group[name].resize((n + len(values),))
            try:
                group[name][n:] = values
            except ValueError as error:
                # Texts in HDF5 end at a NUL.
                raise BadData(f"HDF5 cannot hold the values of {name!r}: {error}; write Parquet or CSV") from error

    def widen(self, recorded: RecordedTimeline) -> None:
        """Copy the datasets whose type is too narrow now."""
        group = self._group(recorded)
        for i, field in enumerate(recorded.timeline.fields):
            name, dtype = link_name(field.name), recorded.dtypes[field.name]
            narrow = group[name]
            if dtype.kind == "O" or narrow.dtype == dtype:
                continue
            del group[name]  # still open, so that it can be copied
            wide = _dataset(group, name, dtype)
            wide.resize(narrow.shape)
            for start in range(0, len(narrow), _ROWS):
                wide[start : start + _ROWS] = narrow[start : start + _ROWS].astype(dtype)
            _describe(wide, field, i)

    def finish(self, origin: Origin, contents: list[RecordedTimeline]) -> None:
        """Write what the file and its groups say of themselves."""
        for recorded in contents:
            _say(self._group(recorded), _TIMELINE, timeline_head(recorded))
        _say(self._file, KEY, origin_head(origin))
        self._file.close()

    def _group(self, recorded: RecordedTimeline) -> Any:
        return self._file[link_name(recorded.timeline.name)]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def link_name(name: str) -> str:
    """Return `name` as one that HDF5 takes for no path and that differs from ``t``, the times."""
    if name in (".", "t"):
        return f"%{ord(name):02X}"
    return name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def _dataset(group: Any, name: str, dtype: np.dtype[Any]) -> Any:
    # Of texts a chunk holds only where they are, and HDF5 makes no checksum of that.
    text = dtype.kind == "O"
    return group.create_dataset(
        name,
        (0,),
        h5py.string_dtype() if text else dtype,
        maxshape=(None,),
        chunks=(_CHUNK,),
        compression="gzip",
        shuffle=True,
        fletcher32=not text,
    )


def _say(what: Any, key: str, head: dict[str, Any]) -> None:
    # Of fixed length: others lie on a heap that has no checksum.
    text = spelled(head).encode()
    what.attrs.create(key, text, dtype=h5py.string_dtype(length=len(text)))


def _describe(dataset: Any, field: Field, place: int) -> None:
    about = {"name": field.name, "type": field.type, "units": field.units, "description": field.description}
    _say(dataset, _FIELD, {**about, "place": place})
    for key in ("type", "units", "description"):
        if (text := about[key]) is not None:
            dataset.attrs[key] = text.replace("\0", "")


class Hdf5Reader:
    """Reads what `Hdf5Writer` wrote."""

    def __init__(self, path: Path) -> None:
        self.filled = 0
        self.left_out: list[str] = []
        self._file = h5py.File(path, "r")
        self._groups: dict[str, Any] = {}
        self._datasets: dict[str, dict[str, Any]] = {}
        try:
            self._read_root()
        except BaseException:
            self.close()
            raise

    def _read_root(self) -> None:
        if KEY not in self._file.attrs:
            raise BadData("is not a recording of sisock's; other HDF5 files are not supported")
        self.origin, _ = read_origin(self._file.attrs[KEY])
        self.contents = [self._timeline(group) for group in self._file.values() if _TIMELINE in group.attrs]

    def _timeline(self, group: Any) -> RecordedTimeline:
        datasets = []
        for dataset in group.values():
            if _FIELD in dataset.attrs:
                about = spelled_out(dataset.attrs[_FIELD])
                field = Field(about["name"], about["type"], about["units"], about["description"])
                datasets.append((about["place"], field, dataset))
        datasets.sort(key=lambda each: each[0])
        fields = [field for _, field, _ in datasets]
        recorded = read_timeline(
            spelled_out(group.attrs[_TIMELINE]), fields, {field.name: dataset.dtype for _, field, dataset in datasets}
        )
        for dataset in (group["t"], *(dataset for _, _, dataset in datasets)):
            if dataset.shape != (recorded.samples,):
                raise BadData(
                    f"dataset {dataset.name} has shape {dataset.shape}, where {recorded.samples} are promised"
                )
        self._groups[recorded.timeline.name] = group
        self._datasets[recorded.timeline.name] = {field.name: dataset for _, field, dataset in datasets}
        return recorded

    def read(self, recorded: RecordedTimeline, rows: int) -> Iterator[Batch]:
        """Yield the samples of a timeline."""
        name = recorded.timeline.name
        times, datasets = self._groups[name]["t"], self._datasets[name]
        for start in range(0, recorded.samples, rows):
            part = slice(start, start + rows)
            columns = {
                field: dataset.asstr()[part] if dataset.dtype.kind == "O" else dataset[part]
                for field, dataset in datasets.items()
            }
            yield Batch(name, times[part], columns)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


open_writer = Hdf5Writer
open_reader = Hdf5Reader
