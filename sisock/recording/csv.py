"""Recordings as CSV: one timeline, after lines that begin with ``#`` and say what it is.

CSV has no place for units. Put into the names of the columns, they could not be told from them again; so they stand in
comments before the header, one field a line as JSON, where people see them and other readers can be told to skip them
(pandas: ``comment="#"``). Texts are always quoted, so that none can pass for a comment.
"""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as pacsv

from sisock.errors import BadData
from sisock.fields import Batch, Field
from sisock.recording.parquet import arrow_type
from sisock.recording.track import (
    Origin,
    Track,
    origin_head,
    read_origin,
    read_track,
    spelled,
    spelled_out,
    time_name,
    track_head,
)

_HEAD, _FIELD = b"# sisock recording ", b"# field "
# Bytes that are read at once.
_BLOCK = 1 << 22


class CsvWriter:
    """Writes one timeline; rows go to a file without a name first, as what stands before them is known last."""

    several = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed by close()

    def begin(self, track: Track) -> None:
        """Nothing is to be done."""

    def put(self, track: Track, batch: Batch) -> None:
        """Write samples: numbers as short as they can be read back exactly, nothing for NaN."""
        arrays = [pa.array(batch.t, pa.float64())]
        arrays += [
            pa.array(batch[field.name], arrow_type(track.dtypes[field.name]), from_pandas=field.type == "number")
            for field in track.timeline.fields
        ]
        table = pa.Table.from_arrays(arrays, names=[str(i) for i in range(len(arrays))])
        pacsv.write_csv(table, self._rows, pacsv.WriteOptions(include_header=False, quoting_style="needed"))

    def widen(self, track: Track) -> None:
        """Nothing is to be done: what is written is read as whatever the field's line says."""

    def finish(self, origin: Origin, tracks: list[Track]) -> None:
        """Write the comments, the header and then the rows."""
        track = tracks[0]
        with self._path.open("xb") as out:
            head = {**origin_head(origin), **track_head(track)}
            out.write(_HEAD + spelled(head).encode() + b"\n")
            for field in track.timeline.fields:
                about = {
                    "name": field.name,
                    "type": field.type,
                    "units": field.units,
                    "description": field.description,
                    "dtype": track.dtypes[field.name].name,
                }
                out.write(_FIELD + spelled(about).encode() + b"\n")
            out.write(_header(list(track.dtypes)))
            self._rows.seek(0)
            shutil.copyfileobj(self._rows, out, 1 << 20)

    def close(self) -> None:
        """Let go of the file."""
        self._rows.close()


def _header(names: list[str]) -> bytes:
    """Return the line that names the columns."""
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([time_name(names), *names])
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
                raise BadData("is no recording of sisock's; a node of `type: table` serves CSV files from elsewhere")
            self.origin, head = read_origin(file.readline())
            while (line := file.readline()).startswith(_FIELD):
                about = spelled_out(line[len(_FIELD) :])
                fields.append(Field(about["name"], about["type"], about["units"], about["description"]))
                dtypes[about["name"]] = np.dtype(about["dtype"])
            track = read_track(head, fields, dtypes)
            header = _header(list(dtypes))
            if line + file.read(len(header) - len(line)) != header:
                raise BadData("its header does not name the columns that the lines before it describe")
            self._start = file.tell()
        self.tracks = [track]

    def read(self, track: Track, rows: int) -> Iterator[Batch]:
        """Yield the samples; a number of rows that is not the one promised is damage."""
        types = {"t": pa.float64(), **{f"f{i}": arrow_type(dtype) for i, dtype in enumerate(track.dtypes.values())}}
        seen = 0
        for block in self._blocks():
            table = pacsv.read_csv(
                pa.BufferReader(block),
                read_options=pacsv.ReadOptions(
                    column_names=list(types), block_size=max(len(block), _BLOCK), use_threads=False
                ),
                parse_options=pacsv.ParseOptions(newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    null_values=[""], strings_can_be_null=False, quoted_strings_can_be_null=False, column_types=types
                ),
            )
            seen += len(table)
            t, *values = (column.to_numpy() for column in table.columns)
            for i in range(0, len(t), rows):
                columns = {name: column[i : i + rows] for name, column in zip(track.dtypes, values, strict=True)}
                yield Batch(track.timeline.name, t[i : i + rows], columns)
        if seen != track.samples:
            raise BadData(f"has {seen} rows, where its first line promises {track.samples}")

    def _blocks(self) -> Iterator[bytes]:
        """Yield whole rows, some megabytes at a time."""
        # Arrow's own reader of a stream holds dozens of blocks in memory, and no row that is longer than one.
        with self._path.open("rb") as file:
            file.seek(self._start)
            rest = b""
            while more := file.read(_BLOCK):
                rest += more
                if end := _whole_rows(rest):
                    yield rest[:end]
                    rest = rest[end:]
        if rest:
            raise BadData("its last row has no end; it was cut off")

    def close(self) -> None:
        """Nothing is to be done: the file is open only while it is read."""


open_writer = CsvWriter
open_reader = CsvReader
