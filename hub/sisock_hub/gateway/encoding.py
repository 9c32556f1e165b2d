"""Encoding of samples as JSON, CSV and Arrow, from arrays."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow
from pyarrow import csv as arrow_csv
from pyarrow import ipc

from sisock.consumer import Data, FieldInfo
from sisock.errors import BadAnswer, BadRequest
from sisock.fields import Column, Field, FieldType, Samples
from sisock.wamp.wire import axis_content, epoch_content
from sisock_hub.gateway.array_values import ArrayLimit

# Values, times included, of a part of a table: large enough for speed, small enough to be sent while the next one is
# written, and to be kept for each of hundreds of clients; as CSV about 0.6 MB.
_VALUES = 32_768
_NANOSECONDS_END_S = 9.2e9  # in the year 2261
# Columns of a table in which each value of an array has one.
_MOST_COLUMNS = 10_000
_KINDS: Mapping[FieldType, str] = {"number": "iufb", "bool": "b", "string": "U"}
_ARROW: Mapping[FieldType, pyarrow.DataType] = {
    "number": pyarrow.float64(),
    "string": pyarrow.string(),
    "bool": pyarrow.bool_(),
}


def json_bytes(content: Any) -> bytes:
    """Return JSON; arrays become lists, and NaN and infinity become null.

    Raises
    ------
    BadAnswer
        If a value has no form in JSON, or is nested too deeply.
    """
    try:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=_plain)
    except orjson.JSONEncodeError as error:
        raise BadAnswer(f"the answer of the node cannot be written as JSON: {error.__cause__ or error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):  # of objects, or not contiguous
        return value.tolist() if value.dtype.kind == "O" else np.ascontiguousarray(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def data_content(data: Data, limit: ArrayLimit | None = None) -> dict[str, Any]:
    """Return the answer of a node as the content of JSON; `limit` is that of the values of its arrays."""
    return {
        "timelines": {name: _timeline_content(samples, limit) for name, samples in data.timelines.items()},
        "empty": [name for name in data if not len(data[name])],
        "fields": {name: field_content(info) for name, info in data.fields.items()},
    }


def _timeline_content(samples: Samples, limit: ArrayLimit | None) -> dict[str, Any]:
    how = samples.downsample
    columns, reduced = limit.apply(samples.columns) if limit else (samples.columns, {})
    return {
        "t": samples.t,
        "data": columns,
        "reduced": reduced,
        "finalized_until": samples.finalized_until,
        "gaps": samples.gaps,
        "dropped": samples.dropped,
        "late": samples.late,
        "reset": samples.reset,
        "epochs": {name: [epoch_content(*each) for each in epochs] for name, epochs in samples.epochs.items()},
        "downsample": None if how is None else {"method": how.method, "stride": how.stride, "first": how.first},
    }


def field_content(info: FieldInfo) -> dict[str, Any]:
    """Return a field as the content of JSON."""
    return {
        "name": info.name,
        "type": info.type,
        "units": info.units,
        "description": info.description,
        "timeline": info.timeline,
        "interval": info.interval_s,
        "shape": info.shape,
        "axis": axis_content(info.axis) if info.axis else None,
        "epochs": [epoch_content(*each) for each in info.epochs],
    }


class Tables:
    """Samples of a timeline as Arrow tables.

    Parameters
    ----------
    fields : iterable of FieldInfo
        Their columns, after the column ``time``; several of a field whose units changed.
    end : float
        End of the interval, UNIX seconds; times have nanoseconds if it lies before 2261, else microseconds.
    finite : bool
        Whether the infinities are missing values, as NaN is.
    flat : bool
        Whether each value of an array has a column of its own, such as ``spectrum.0``; otherwise arrays are fixed-size
        lists.

    Raises
    ------
    BadRequest
        If these are more columns than a table may have.
    """

    def __init__(self, fields: Iterable[FieldInfo], end: float, *, finite: bool = False, flat: bool = False) -> None:
        self._fields, self._finite = list(fields), finite
        self._columns = [
            _TableColumn(label, then, info.shape, flat) for info in self._fields for label, then in info.columns.items()
        ]
        count = sum(len(column.names) for column in self._columns)
        if flat and count > _MOST_COLUMNS:
            raise BadRequest(f"the arrays of these fields have {count:,} values; request Arrow or JSON")
        self._row = 1 + sum(math.prod(column.shape) for column in self._columns)
        self._per_second = 10**9 if end < _NANOSECONDS_END_S else 10**6
        times = pyarrow.timestamp("ns" if end < _NANOSECONDS_END_S else "us", "UTC")
        columns = [
            pyarrow.field(name, column.type, metadata={"units": column.units} if column.units else None)
            for column in self._columns
            for name in column.names
        ]
        self.schema = pyarrow.schema([pyarrow.field("time", times, nullable=False), *columns])

    def batches(self, samples: Samples) -> Iterator[pyarrow.RecordBatch]:
        """Yield samples as record batches of some ten thousand values.

        Raises
        ------
        BadRequest
            If some have units without a column, since they changed while the table was being written.
        """
        values = {label: each for info in self._fields for label, each in info.values_in(samples).items()}
        rows = max(1, _VALUES // self._row)
        for start in range(0, len(samples.t), rows):
            part = slice(start, start + rows)
            whole = np.floor(samples.t[part])
            # Seconds and their fraction separately, so that no two times become the same.
            rest = np.round((samples.t[part] - whole) * self._per_second).astype(np.int64)
            times = pyarrow.array(whole.astype(np.int64) * self._per_second + rest).cast(self.schema.field(0).type)
            columns = [
                each
                for column in self._columns
                for each in column.arrays(self._cut(values.get(column.label), part), len(times))
            ]
            yield pyarrow.record_batch([times, *columns], schema=self.schema)

    def _cut(self, values: Column | None, part: slice) -> Column | None:
        if self._finite and values is not None and values.dtype.kind == "f":
            return np.where(np.isfinite(values[part]), values[part], np.nan)
        return None if values is None else values[part]


class _TableColumn:
    """The columns of a table for a field: one, or if arrays are flat, one for each of their values."""

    def __init__(self, label: str, then: Field, shape: tuple[int, ...], flat: bool) -> None:
        self.label, self.kind, self.units = label, then.type, then.units
        self.shape = shape if then.type == "number" else ()
        self._is_flat = flat and bool(self.shape)
        self.names, self.type = [label], _ARROW[then.type]
        if self._is_flat:
            self.names = [".".join([label, *map(str, place)]) for place in np.ndindex(self.shape)]
        else:
            for length in reversed(self.shape):
                self.type = pyarrow.list_(self.type, length)

    def arrays(self, values: Column | None, count: int) -> Iterator[pyarrow.Array]:
        """Yield the columns of some samples; `values` is None if none of them has a value."""
        if values is None:
            yield from (pyarrow.nulls(count, self.type) for _ in self.names)
        elif values.shape[1:] != self.shape:
            raise BadAnswer(
                f"field {self.label!r} had the shape {values.shape[1:]} then, not {self.shape}; request JSON"
            )
        elif self._is_flat:
            yield from (_arrow(each, self.kind) for each in values.reshape(count, -1).T)
        else:
            array = _arrow(values.reshape(-1), self.kind)
            for length in reversed(self.shape):
                array = pyarrow.FixedSizeListArray.from_arrays(array, length)
            yield array


def _arrow(values: Column, kind: FieldType) -> pyarrow.Array:
    if values.dtype.kind == "O":
        wanted = {"number": (int, float), "bool": (bool,), "string": (str,)}[kind]
        present = values.tolist()
        if not all(value is None or isinstance(value, wanted) for value in present):
            raise BadAnswer(f"a field of type {kind} has values of other types; request JSON")
        return pyarrow.array(present, _ARROW[kind])
    if values.dtype.kind not in _KINDS[kind]:
        raise BadAnswer(f"a field of type {kind} has values of {values.dtype}; request JSON")
    # Integers beyond 2**53 become the nearest float64.
    return pyarrow.array(np.ascontiguousarray(values), from_pandas=True).cast(_ARROW[kind], safe=False)


class _Sink:
    """The file that Arrow writes to, emptied after each part."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class TableWriter:
    """Writes samples as one table, in parts: an Arrow IPC stream, or CSV with a header and times as ISO 8601.

    Parameters
    ----------
    make : callable
        `ipc.new_stream` or `csv.CSVWriter` of pyarrow.
    tables : Tables
    """

    def __init__(self, make: Callable[[Any, pyarrow.Schema], Any], tables: Tables) -> None:
        self._tables, self._sink = tables, _Sink()
        self._writer = make(pyarrow.PythonFile(self._sink, "w"), tables.schema)

    def write(self, samples: Samples) -> Iterator[bytes]:
        """Yield samples as encoded parts."""
        for batch in self._tables.batches(samples):
            self._writer.write_batch(batch)
            yield self._sink.taken()

    def close(self) -> bytes:
        """Return the end of the table."""
        self._writer.close()
        return self._sink.taken()


def arrow_writer(tables: Tables) -> TableWriter:
    """Return a writer of an Arrow IPC stream."""
    return TableWriter(ipc.new_stream, tables)


def csv_writer(tables: Tables) -> TableWriter:
    """Return a writer of CSV."""
    return TableWriter(arrow_csv.CSVWriter, tables)
