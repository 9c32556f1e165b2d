"""A file of a table, closed, sealed or growing, and reading it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sisock.errors import BadHistory, MissingExtra
from sisock.fields import FloatArray
from sisock.tables.columns import Columns
from sisock.tables.rows import Rows, read_row_file, types_of_rows
from sisock.tables.sealed import read_sealed, span_of_sealed, types_of_sealed


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of a table.

    Attributes
    ----------
    path : Path
    first, next : int
        Numbers of its first row, and of the row after its last one.
    size : int
        Bytes.
    """

    path: Path
    first: int
    next: int
    size: int

    @property
    def state(self) -> Literal["open", "rows", "parquet"]:
        """Whether it grows, is closed, or is sealed."""
        return self.path.suffix[1:]  # type: ignore[return-value]


def types_in(segment: SegmentFile) -> Columns:
    """Return the types of the columns of a file by name; empty where they cannot be read."""
    try:
        if segment.state == "parquet":
            return types_of_sealed(segment.path)
        with segment.path.open("rb") as file:
            return types_of_rows(file.readline())
    except (OSError, BadHistory, MissingExtra):
        return {}  # the read reports it


class SegmentReader:
    """Reads the files of a table; may be used from any thread.

    Parameters
    ----------
    columns : mapping of str to ColumnType
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.time = next((column for column, kind in columns.items() if kind == "time"), None)
        """The column that `span` is of."""
        self._spans: dict[Path, tuple[float, float]] = {}
        self._newest: tuple[SegmentFile, Rows] | None = None  # that was read, of those that are not sealed

    def read(self, segment: SegmentFile, names: Sequence[str]) -> Rows:
        """Return some columns of the rows of a segment, or more.

        Raises
        ------
        OSError, BadHistory, MissingExtra
            As `read_sealed` and `read_row_file`.
        """
        if segment.state == "parquet":
            return read_sealed(segment.path, self._columns, names)
        newest = self._newest
        if newest is None or newest[0] != segment:
            newest = self._newest = segment, read_row_file(segment.path, self._columns).rows
        return newest[1]

    def span(self, segment: SegmentFile) -> tuple[float, float]:
        """Return the minimum and the maximum of the times in a segment; infinite where it is unknown."""
        unknown = -math.inf, math.inf
        if self.time is None or segment.state == "open":
            return unknown
        if segment.path not in self._spans:
            try:
                if segment.state == "parquet":
                    self._spans[segment.path] = span_of_sealed(segment.path, self.time)
                else:
                    times = self.read(segment, [self.time]).arrays[self.time]
                    self._spans[segment.path] = _range(times)
            except (OSError, BadHistory, MissingExtra):
                return unknown  # the read reports it
        return self._spans[segment.path]


def _range(times: FloatArray) -> tuple[float, float]:
    known = times[~np.isnan(times)]
    return (float(known.min()), float(known.max())) if len(known) else (-math.inf, math.inf)
