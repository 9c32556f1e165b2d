"""Recordings as CSV: samples, after lines that begin with ``#`` and describe them.

The first column is the time; of several timelines, whose rows follow each other, the second names which one it is.

CSV has no place for units. Put into the names of the columns, they could not be told from them again; so they stand in
comments before the header, one field a line as JSON, where people see them and other readers can skip them
(pandas: ``comment="#"``). Texts are always quoted, so that none can pass for a comment.
"""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv

from sisock.errors import BadData
from sisock.fields import Batch, Field
from sisock.recording.contents import (
    Origin,
    RecordedTimeline,
    origin_head,
    read_origin,
    read_timeline,
    spelled,
    spelled_out,
    time_name,
    timeline_head,
)
from sisock.recording.parquet import arrow_type
from sisock.recording.several import Layout, read_layout

_HEAD, _FIELD = b"# sisock recording ", b"# field "
# Bytes that are read at once.
_BLOCK = 1 << 22


class CsvWriter:
    """Writes timelines; rows go to files without a name first, as what stands before them is known last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, IO[bytes]] = {}

    def begin(self, recorded: RecordedTimeline) -> None:
        """Make a file for the rows of a timeline."""
        self._rows[recorded.timeline.name] = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - see close()

    def put(self, recorded: RecordedTimeline, batch: Batch) -> None:
        """Write samples: numbers as short as they can be read back exactly, nothing for NaN."""
        arrays = [pa.array(batch.t, pa.float64())]
        arrays += [
            pa.array(batch[field.name], arrow_type(recorded.dtypes[field.name]), from_pandas=field.type == "number")
            for field in recorded.timeline.fields
        ]
        _write_rows(
            pa.Table.from_arrays(arrays, [str(i) for i in range(len(arrays))]), self._rows[recorded.timeline.name]
        )

    def widen(self, recorded: RecordedTimeline) -> None:
        """Do nothing: written values are read with the type in the line of the field."""

    def finish(self, origin: Origin, contents: list[RecordedTimeline]) -> None:
        """Write the comments, the header and then the rows."""
        layout = Layout.of(contents) if len(contents) > 1 else None
        with self._path.open("xb") as out:
            head = layout.head(origin, contents) if layout else {**origin_head(origin), **timeline_head(contents[0])}
            out.write(_HEAD + spelled(head).encode() + b"\n")
            for recorded in contents:
                for field in recorded.timeline.fields:
                    about = {
                        "name": layout.columns[recorded.timeline.name][field.name] if layout else field.name,
                        "type": field.type,
                        "units": field.units,
                        "description": field.description,
                        "dtype": recorded.dtypes[field.name].name,
                    }
                    out.write(_FIELD + spelled(about).encode() + b"\n")
            if layout is None:
                out.write(_header([time_name(list(contents[0].dtypes)), *contents[0].dtypes]))
                (rows,) = self._rows.values()
                rows.seek(0)
                shutil.copyfileobj(rows, out, 1 << 20)
            else:
                columns = [column for own in layout.columns.values() for column in own.values()]
                out.write(_header([layout.time, layout.timeline, *columns]))
                for recorded in contents:
                    self._join(recorded, layout, out)

    def _join(self, recorded: RecordedTimeline, layout: Layout, out: IO[bytes]) -> None:
        """Write the rows of one of several timelines: its name, and nothing for the fields of the others."""
        rows = self._rows[recorded.timeline.name]
        rows.seek(0)
        types = [arrow_type(dtype) for dtype in recorded.dtypes.values()]
        for table in _tables(_blocks(rows), types):
            t, *own = table.columns
            arrays = [t, pa.repeat(recorded.timeline.name, len(table))]
            for timeline, columns in layout.columns.items():
                is_own = timeline == recorded.timeline.name
                arrays += own if is_own else [pa.nulls(len(table), pa.string())] * len(columns)
            _write_rows(pa.Table.from_arrays(arrays, [str(i) for i in range(len(arrays))]), out)

    def close(self) -> None:
        """Let go of the files."""
        for rows in self._rows.values():
            rows.close()


def _write_rows(table: Any, out: IO[bytes]) -> None:
    pacsv.write_csv(table, out, pacsv.WriteOptions(include_header=False, quoting_style="needed"))


def _tables(blocks: Iterator[bytes], types: Sequence[Any]) -> Iterator[Any]:
    """Yield rows as tables: times, and columns of some types. Nothing stands for NaN, which a text cannot be."""
    known = {"t": pa.float64(), **{f"f{i}": kind for i, kind in enumerate(types)}}
    for block in blocks:
        yield pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(
                column_names=list(known), block_size=max(len(block), _BLOCK), use_threads=False
            ),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                null_values=[""], strings_can_be_null=False, quoted_strings_can_be_null=False, column_types=known
            ),
        )


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield whole rows, some megabytes at a time."""
    # Arrow's own reader of a stream holds dozens of blocks in memory, and no row that is longer than one.
    rest = b""
    while more := file.read(_BLOCK):
        rest += more
        if end := _whole_rows(rest):
            yield rest[:end]
            rest = rest[end:]
    if rest:
        raise BadData("its last row has no end; it was cut off")


def _header(names: list[str]) -> bytes:
    """Return the line that names the columns."""
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(names)
    return out.getvalue().encode()


def _whole_rows(data: bytes) -> int:
    """Return how many bytes are whole rows: up to the last line break that is not within quotes."""
    end, quotes = len(data), data.count(b'"')
    while (start := data.rfind(b"\n", 0, end)) >= 0:
        quotes -= data.count(b'"', start, end)
        if quotes % 2 == 0:
            return start + 1
        end = start
    return 0


class CsvReader:
    """Reads what `CsvWriter` wrote."""

    def __init__(self, path: Path) -> None:
        self.filled = 0
        self.left_out: list[str] = []
        self._path = path
        fields: list[Field] = []
        dtypes: dict[str, np.dtype[Any]] = {}
        with path.open("rb") as file:
            if file.read(len(_HEAD)) != _HEAD:
                raise BadData("is not a recording of sisock's; a node of `type: table` serves CSV files from elsewhere")
            self.origin, head = read_origin(file.readline())
            while (line := file.readline()).startswith(_FIELD):
                about = spelled_out(line[len(_FIELD) :])
                fields.append(Field(about["name"], about["type"], about["units"], about["description"]))
                dtypes[about["name"]] = np.dtype(about["dtype"])
            self._dtypes = dtypes
            self._layout: Layout | None = None
            if "timelines" in head:
                described = {field.name: field for field in fields}
                self._layout, self.contents = read_layout(head, described, dtypes)
                header = _header([self._layout.time, self._layout.timeline, *dtypes])
            else:
                self.contents = [read_timeline(head, fields, dtypes)]
                header = _header([time_name(list(dtypes)), *dtypes])
            if line + file.read(len(header) - len(line)) != header:
                raise BadData("its header does not name the columns that the lines before it describe")
            self._start = file.tell()

    def read(self, recorded: RecordedTimeline, rows: int) -> Iterator[Batch]:
        """Yield the samples; a number of rows that is not the one promised is damage."""
        seen = 0
        for table in self._rows_of(recorded):
            seen += len(table)
            t, *values = (column.to_numpy() for column in table.columns)
            for i in range(0, len(t), rows):
                columns = {name: column[i : i + rows] for name, column in zip(recorded.dtypes, values, strict=True)}
                yield Batch(recorded.timeline.name, t[i : i + rows], columns)
        if seen != recorded.samples:
            raise BadData(f"has {seen} rows, where its first line promises {recorded.samples}")

    def _rows_of(self, recorded: RecordedTimeline) -> Iterator[Any]:
        """Yield the times and the columns of a timeline."""
        types = [arrow_type(dtype) for dtype in self._dtypes.values()]
        with self._path.open("rb") as file:
            file.seek(self._start)
            if self._layout is None:
                yield from _tables(_blocks(file), types)
                return
            own = self._layout.columns[recorded.timeline.name]
            at = [0, *(2 + list(self._dtypes).index(own[field]) for field in recorded.dtypes)]
            for table in _tables(_blocks(file), [pa.string(), *types]):
                yield table.filter(pc.equal(table.column(1), recorded.timeline.name)).select(at)

    def close(self) -> None:
        """Nothing is to be done: the file is open only while it is read."""


open_writer = CsvWriter
open_reader = CsvReader
