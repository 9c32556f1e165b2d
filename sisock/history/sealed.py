"""Sealed segments: samples that are final, in order, as Parquet; beside each a pyramid of summaries.

A pyramid holds bins of widths that are powers of two seconds. Since such bins consist of whole narrower ones, a wide
interval is thinned from the summaries alone, with the same result as from the samples. The layout is written down in
docs/history-format.md.
"""

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sisock.downsample import PARTS, Bins, Part, binned, regrouped
from sisock.errors import BadHistory, MissingExtra
from sisock.fields import Column, Field, FloatArray
from sisock.times import Interval

try:
    import pyarrow as pa
    from pyarrow import ipc
    from pyarrow import parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtra("a history on disk needs pyarrow; run: pip install 'sisock[parquet]'") from error

FORMAT = 1
# Samples per row group: what is decompressed at least, to read one.
_GROUP = 1 << 15
# Samples per bin of the finest level, on the average.
_PER_BIN = 64
_KEY = b"sisock"


@dataclass(frozen=True, slots=True)
class Level:
    """A level of a pyramid: how wide its bins are, as a power of two in seconds, and the CRC-32 of its columns."""

    exponent: int
    checksum: int


def write_sealed(
    path: Path, timeline: str, fields: Sequence[Field], t: FloatArray, columns: Mapping[str, Column]
) -> list[Level]:
    """Write samples as a sealed segment with its pyramid; both are on the disk when it returns.

    Parameters
    ----------
    path : Path
        The Parquet file; the pyramid is put beside it.
    timeline : str
    fields : sequence of Field
    t : ndarray of float64, shape (n,)
        Ascending, n above 0.
    columns : mapping of str to ndarray, each of shape (n,)

    Returns
    -------
    list of Level
        From fine to coarse.
    """
    about = {"format": FORMAT, "timeline": timeline}
    schema = [pa.field("", pa.float64(), metadata={"units": "s", "description": "UNIX time, UTC"})]
    arrays = [pa.array(t)]
    for field in fields:
        array = pa.array(columns[field.name], pa.string() if field.type == "string" else None)
        told = {"type": field.type, "units": field.units, "description": field.description}
        schema.append(pa.field(field.name, array.type, metadata={k: v for k, v in told.items() if v is not None}))
        arrays.append(array)
    table = pa.Table.from_arrays(arrays, schema=pa.schema(schema, metadata={_KEY: json.dumps(about)}))
    with _durable(path) as file:
        pq.write_table(
            table,
            file,
            row_group_size=_GROUP,
            compression="zstd",
            compression_level=1,
            use_dictionary=[f.name for f in fields if f.type == "string"],
            # The bytes of equal significance together: neighbours in time share the high ones.
            use_byte_stream_split=[
                f.name for f in schema if pa.types.is_float32(f.type) or pa.types.is_float64(f.type)
            ],
            write_page_checksum=True,
        )
    levels = []
    with _durable(pyramid_path(path)) as file:
        writer = None
        for bins in pyramid(t, columns):
            batch = _batch(bins, fields)
            writer = writer or ipc.new_file(file, batch.schema)
            writer.write_batch(batch)
            levels.append(Level(round(math.log2(bins.stride)), _checksum(batch)))
        if writer is not None:
            writer.close()
    return levels


def pyramid_path(path: Path) -> Path:
    """Return the file of a sealed segment's pyramid."""
    return path.with_suffix(".pyramid")


def pyramid(t: FloatArray, columns: Mapping[str, Column]) -> list[Bins]:
    """Return the levels of the pyramid of samples, from fine to coarse; the coarsest has two bins at most."""
    span = max(float(t[-1] - t[0]), 1e-6)
    levels = [binned(t, columns, 2.0 ** math.ceil(math.log2(span * _PER_BIN / len(t))))]
    while len(levels[-1]) > 2:
        levels.append(regrouped(levels[-1], 2 * levels[-1].stride))
    return levels


class _durable:  # noqa: N801 - used like a function
    """Open a file for writing that gets its name only when it is whole and on the disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._new = path, path.with_name(path.name + ".new")

    def __enter__(self) -> Any:
        self._file = self._new.open("wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        if kind is None:
            self._new.rename(self._path)
        else:
            self._new.unlink()


def _batch(bins: Bins, fields: Sequence[Field]) -> Any:
    columns = {"number": bins.numbers, "first_t": bins.first_t, "last_t": bins.last_t, "rows": bins.rows}
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for i, field in enumerate(fields):
        for part, values in bins.columns[field.name].items():
            text = pa.string() if field.type == "string" else None
            arrays[f"{i}.{part}"] = pa.array(values, text)
    return pa.record_batch(arrays)


def _checksum(batch: Any) -> int:
    checksum = 0
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None:
                checksum = zlib.crc32(buffer, checksum)
    return checksum


class Sealed:
    """A sealed segment, read through mmap.

    Parameters
    ----------
    path : Path
        The Parquet file.
    levels : sequence of Level
        Of its pyramid, from fine to coarse.

    Raises
    ------
    BadHistory
        From here and from all methods, if it is damaged or of a newer format.
    """

    def __init__(self, path: Path, levels: Sequence[Level]) -> None:
        self._path, self._levels = path, {level.exponent: (i, level) for i, level in enumerate(levels)}
        self._verified: set[int] = set()
        try:
            self._file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
            self._pyramid: Any = ipc.open_file(pa.memory_map(os.fspath(pyramid_path(path))))
            schema = self._file.schema_arrow
            about = json.loads(schema.metadata[_KEY])
            bounds = [self._file.metadata.row_group(i) for i in range(self._file.metadata.num_row_groups)]
            statistics = [group.column(0).statistics for group in bounds]
            self._firsts = np.array([s.min for s in statistics])
            self._lasts = np.array([s.max for s in statistics])
            self._sizes = np.array([group.num_rows for group in bounds])
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadHistory(f"{path} cannot be read: {error}") from error
        if about["format"] > FORMAT:
            raise BadHistory(f"{path} has format {about['format']}; this sisock reads up to {FORMAT}, so update it")
        self._names = schema.names[1:]
        self.first, self.last = float(self._firsts[0]), float(self._lasts[-1])
        """Times of the first and the last sample."""

    def exponents(self) -> list[int]:
        """Return the levels of the pyramid, from fine to coarse."""
        return list(self._levels)

    def rows(self, interval: Interval, names: Sequence[str]) -> tuple[FloatArray, dict[str, Column]]:
        """Return the samples in `interval`; fields that this segment lacks are left out."""
        groups = np.flatnonzero((self._lasts >= interval.start) & (self._firsts < interval.end)).tolist()
        known = [name for name in names if name in self._names]
        if not groups:
            return np.empty(0), {}
        try:
            columns = ["", *known]
            table = self._file.read_row_groups(groups, columns=columns)
            t = table.column("").to_numpy()
            kept = slice(*np.searchsorted(t, interval))
            return t[kept], {name: table.column(name).to_numpy()[kept] for name in known}
        except (OSError, pa.ArrowException) as error:
            raise BadHistory(f"{self._path} cannot be read: {error}") from error

    def count(self, interval: Interval) -> int:
        """Return how many samples are in `interval`."""
        inside = (self._firsts >= interval.start) & (self._lasts < interval.end)
        cut = ~inside & (self._lasts >= interval.start) & (self._firsts < interval.end)
        number = int(self._sizes[inside].sum())
        for group in np.flatnonzero(cut):
            end = math.nextafter(self._lasts[group], math.inf)
            part = Interval(max(interval.start, self._firsts[group]), min(interval.end, end))
            number += len(self.rows(part, [])[0])
        return number

    def bins(
        self, exponent: int, numbers: tuple[float, float], names: Sequence[str], parts: Sequence[Part] = PARTS
    ) -> Bins | None:
        """Return the bins of a level whose numbers are in ``[numbers[0], numbers[1])``; None where there are none.

        Fields that this segment lacks are left out, as are parts that a field does not have.
        """
        index, level = self._levels[exponent]
        try:
            batch = self._pyramid.get_batch(index)
            if exponent not in self._verified:
                if _checksum(batch) != level.checksum:
                    raise BadHistory(f"{pyramid_path(self._path)} is damaged; its checksum does not hold")
                self._verified.add(exponent)
            number = batch.column("number").to_numpy()
            kept = slice(*np.searchsorted(number, numbers).tolist())
            if kept.start == kept.stop:
                return None
            columns: dict[str, dict[Part, Column]] = {}
            for name in names:
                if name in self._names:
                    i = self._names.index(name)
                    there = [part for part in parts if batch.schema.get_field_index(f"{i}.{part}") >= 0]
                    columns[name] = {part: _numpy(batch.column(f"{i}.{part}"), kept) for part in there}
            first_t, last_t, rows = (_numpy(batch.column(name), kept) for name in ("first_t", "last_t", "rows"))
        except (OSError, pa.ArrowException, IndexError, AttributeError) as error:
            raise BadHistory(f"{pyramid_path(self._path)} cannot be read: {error}") from error
        return Bins(2.0**exponent, number[kept], first_t, last_t, rows, columns)


def _numpy(array: Any, kept: slice) -> Column:
    return array[kept].to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
