"""Recordings as Parquet: times in the first column, and of several timelines which one in the second.

Each row group is of one timeline. Other Parquet files can be read, too.

Times are UNIX seconds as float64 rather than timestamps, so that they come back as they were.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sisock.errors import BadData
from sisock.fields import Batch, Column, Field, FieldType, FloatArray, Timeline
from sisock.recording.contents import (
    KEY,
    Origin,
    RecordedTimeline,
    origin_head,
    read_origin,
    read_timeline,
    spelled,
    time_name,
    timeline_head,
)
from sisock.recording.several import Layout, read_layout

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Rows that are read at once when a file is rewritten.
_ROWS = 1 << 16


class ParquetWriter:
    """Writes timelines, row groups for each `put`; several are joined at the end, from files of their own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, _Part] = {}

    def begin(self, recorded: RecordedTimeline) -> None:
        """Open the file of a timeline; the first is the recording itself, if there is no other."""
        hidden = self._path.with_name(f".{self._path.name}.{len(self._parts)}")
        self._parts[recorded.timeline.name] = _Part(hidden if self._parts else self._path, recorded)

    def put(self, recorded: RecordedTimeline, batch: Batch) -> None:
        """Write samples."""
        self._parts[recorded.timeline.name].put(recorded, batch)

    def widen(self, recorded: RecordedTimeline) -> None:
        """Rewrite the file: its types are at its end, but apply from its beginning."""
        self._parts[recorded.timeline.name].widen(recorded)

    def finish(self, origin: Origin, contents: list[RecordedTimeline]) -> None:
        """Write the metadata, after joining the timelines to one file if they are several."""
        if len(contents) == 1:
            (part,) = self._parts.values()
            part.finish({**origin_head(origin), **timeline_head(contents[0]), "time": part.schema.names[0]})
            return
        layout = Layout.of(contents)
        for part in self._parts.values():
            part.close()
        whole = self._path.with_name(f".{self._path.name}.whole")
        try:
            self._join(whole, layout, {KEY: spelled(layout.head(origin, contents))})
            whole.replace(self._path)
        finally:
            whole.unlink(missing_ok=True)
            self.close()

    def _join(self, whole: Path, layout: Layout, metadata: dict[str, str]) -> None:
        """Write the row groups of all parts, each with the columns of all, and one that names the timeline."""
        columns = {
            column: part.schema.field(1 + i).with_name(column).with_nullable(True)
            for timeline, part in self._parts.items()
            for i, column in enumerate(layout.columns[timeline].values())
        }
        time = next(iter(self._parts.values())).schema.field(0).with_name(layout.time)
        schema = pa.schema([time, pa.field(layout.timeline, pa.string(), False), *columns.values()])
        with pq.ParquetWriter(whole, schema, compression="zstd", write_page_checksum=True) as out:
            for timeline, part in self._parts.items():
                names = [layout.time, *layout.columns[timeline].values()]
                with _opened(part.path) as file:
                    for i in range(file.num_row_groups):
                        table = file.read_row_group(i).rename_columns(names)
                        out.write_table(_widened(table, {layout.timeline: timeline}, schema))
            out.add_key_value_metadata(metadata)

    def close(self) -> None:
        """Let go of the files, and remove those that are not the recording."""
        for part in self._parts.values():
            part.close()
            if part.path != self._path:
                part.path.unlink(missing_ok=True)


class _Part:
    """A file with one timeline."""

    def __init__(self, path: Path, recorded: RecordedTimeline) -> None:
        self.path = path
        self._begin(recorded)

    def _begin(self, recorded: RecordedTimeline) -> None:
        names = list(recorded.dtypes)
        columns = [pa.field(time_name(names), pa.float64(), False, {"units": "s", "description": "UNIX time, UTC"})]
        for field in recorded.timeline.fields:
            about = {"type": field.type, "units": field.units, "description": field.description}
            about = {key: value for key, value in about.items() if value is not None}
            columns.append(pa.field(field.name, arrow_type(recorded.dtypes[field.name]), False, about))
        self.schema = pa.schema(columns)
        self._out = pq.ParquetWriter(self.path, self.schema, compression="zstd", write_page_checksum=True)

    def put(self, recorded: RecordedTimeline, batch: Batch) -> None:
        self._out.write_table(arrow_table(recorded, batch, self.schema))

    def widen(self, recorded: RecordedTimeline) -> None:
        self._out.close()
        with _opened(self.path) as narrow:
            self.path.unlink()  # still open, so that it can be read
            self._begin(recorded)
            for batch in narrow.iter_batches(_ROWS):
                self._out.write_table(pa.Table.from_batches([batch]).cast(self.schema, safe=False))

    def finish(self, head: dict[str, Any]) -> None:
        self._out.add_key_value_metadata({KEY: spelled(head)})
        self._out.close()

    def close(self) -> None:
        if self._out.is_open:
            self._out.close()


def _widened(table: Any, constants: dict[str, str], schema: Any) -> Any:
    """Return a table with all columns of a schema: constant ones, and missing values where it has none."""
    n = len(table)
    columns = [
        pa.repeat(constants[field.name], n)
        if field.name in constants
        else table.column(field.name)
        if field.name in table.column_names
        else pa.nulls(n, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def arrow_type(dtype: np.dtype[Any]) -> Any:
    """Return Arrow's type for a column of that dtype."""
    return pa.string() if dtype.kind == "O" else pa.from_numpy_dtype(dtype)


def arrow_table(recorded: RecordedTimeline, batch: Batch, schema: Any) -> Any:
    """Return samples as an Arrow table, times first."""
    arrays = [pa.array(batch.t, pa.float64(), from_pandas=False)]
    for name, dtype in recorded.dtypes.items():
        arrays.append(pa.array(batch[name], arrow_type(dtype), from_pandas=False))
    return pa.Table.from_arrays(arrays, schema=schema)


class ParquetReader:
    """Reads a file of ours, or another one that has a column of times."""

    def __init__(self, path: Path) -> None:
        self.filled = 0
        self.left_out: list[str] = []
        self._file = _opened(path)
        try:
            self._read_schema(path)
        except BaseException:
            self.close()
            raise

    def _read_schema(self, path: Path) -> None:
        schema = self._file.schema_arrow
        text = (self._file.metadata.metadata or {}).get(KEY.encode())
        self.origin, head = read_origin(text) if text is not None else (Origin(), {})
        self._time = _time_column(schema, head.get("time"))
        self._layout: Layout | None = None
        fields, dtypes, self._at = [], {}, {}
        for i, column in enumerate(schema):
            kind = _kind(column.type)
            if i == self._time or ("timelines" in head and column.name == head["timeline"]):
                continue
            if kind is None:
                self.left_out.append(column.name)
                continue
            about = {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}
            fields.append(Field(column.name, kind, about.get("units"), about.get("description")))
            dtypes[column.name] = _dtype(column.type)
            self._at[column.name] = i
        if not fields:
            raise BadData("has no column of numbers, bools or strings beside its times")
        rows = self._file.metadata.num_rows
        if "timelines" in head:
            described = {field.name: field for field in fields}
            self._layout, self.contents = read_layout(head, described, dtypes)
            self._count()
        elif head:
            # Counted again: another tool may have cut the file and kept its metadata.
            self.contents = [read_timeline({**head, "samples": rows}, fields, dtypes)]
        else:
            self.contents = [
                RecordedTimeline(Timeline(path.stem, fields, lateness_s=0.0, follows_clock=False), dtypes, rows)
            ]

    def _count(self) -> None:
        """Count the samples of each timeline again, if another tool has cut the file and kept its metadata."""
        assert self._layout is not None  # noqa: S101 - of a file with several timelines
        if self._layout.timeline not in self._file.schema_arrow.names:
            raise BadData(f"has several timelines, but no column {self._layout.timeline!r} that tells them apart")
        if sum(recorded.samples for recorded in self.contents) == self._file.metadata.num_rows:
            return
        names = self._file.read([self._layout.timeline]).column(0)
        counts = {each["values"]: each["counts"] for each in pc.value_counts(names).to_pylist()}
        for recorded in self.contents:
            recorded.samples = counts.get(recorded.timeline.name, 0)

    def _batches(self, recorded: RecordedTimeline, rows: int) -> Iterator[Any]:
        """Yield the rows of a timeline."""
        if self._layout is None:
            yield from self._file.iter_batches(rows)
            return
        name, at = recorded.timeline.name, self._file.schema_arrow.names.index(self._layout.timeline)
        for i in range(self._file.num_row_groups):
            known = self._file.metadata.row_group(i).column(at).statistics
            if known is not None and known.has_min_max and not known.min <= name <= known.max:
                continue
            for batch in self._file.iter_batches(rows, row_groups=[i]):
                own = batch.filter(pc.equal(batch.column(at), name))
                if len(own):
                    yield own

    def read(self, recorded: RecordedTimeline, rows: int) -> Iterator[Batch]:
        """Yield the samples."""
        columns_of = self._layout.columns[recorded.timeline.name] if self._layout else {}
        for batch in self._batches(recorded, rows):
            columns = {
                field.name: self._column(batch.column(self._at[columns_of.get(field.name, field.name)]))
                for field in recorded.timeline.fields
            }
            yield Batch(recorded.timeline.name, _seconds(batch.column(self._time)), columns)

    def _column(self, array: Any) -> Column:
        kind = _kind(array.type)
        if kind == "number":
            if array.null_count or _dtype(array.type) == np.float64:
                array = array.cast(pa.float64())
            values = array.to_numpy(zero_copy_only=False)
            return values.astype(np.float32) if values.dtype == np.float16 else values  # type: ignore[no-any-return]
        self.filled += array.null_count
        if kind == "bool":
            return array.fill_null(False).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        return array.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _opened(path: Path) -> Any:
    # Buffered, so that memory stays small however large a row group from elsewhere is.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)


def _time_column(schema: Any, name: str | None) -> int:
    wanted = ("t", "time") if name is None else (name,)
    for candidate in wanted:
        if candidate not in schema.names:
            continue
        at: int = schema.names.index(candidate)
        kind = schema.field(at).type
        if pa.types.is_floating(kind) or pa.types.is_timestamp(kind):
            return at
        raise BadData(f"its column {candidate!r} holds {kind}; times are timestamps, or UNIX seconds as floats")
    raise BadData(
        f"has no column {' or '.join(map(repr, wanted))} of times; it has: {', '.join(map(repr, schema.names))}"
    )


def _kind(arrow: Any) -> FieldType | None:
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
        return "string" if _kind(arrow) == "string" else None
    if pa.types.is_boolean(arrow):
        return "bool"
    if pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow):
        return "number"
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow):
        return "string"
    return None


def _dtype(arrow: Any) -> np.dtype[Any]:
    match _kind(arrow):
        case "bool":
            return np.dtype(np.bool_)
        case "number" if not pa.types.is_decimal(arrow):
            return np.dtype(np.float32 if pa.types.is_float16(arrow) else arrow.to_pandas_dtype())
        case "number":
            return np.dtype(np.float64)
    return np.dtype(object)


def _seconds(array: Any) -> FloatArray:
    """Return UNIX seconds, shape (n,); NaN where there is none."""
    if pa.types.is_floating(array.type):
        return array.cast(pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    ticks = _TICKS[array.type.unit]
    whole, part = np.divmod(array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False), ticks)
    seconds = whole + part / ticks  # rounded once, unlike the quotient of ticks beyond 2**53
    return np.where(pc.is_null(array).to_numpy(zero_copy_only=False), np.nan, seconds)


open_writer = ParquetWriter
open_reader = ParquetReader
