"""Rows of tables as Arrow, and as Parquet or CSV files. Needs pyarrow (``sisock[parquet]``)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from sisock.fields import Column
from sisock.tables import Columns, ColumnType

ROW = "row"
_ARROW: Mapping[ColumnType, Any] = {
    "time": pa.timestamp("us", "UTC"), "number": pa.float64(), "integer": pa.int64(), "bool": pa.bool_(),
    "text": pa.string(), "json": pa.string(),
}  # fmt: skip


def schema_of(types: Columns) -> pa.Schema:
    """Return the Arrow schema of a table: its rows' numbers as ``row``, then its columns.

    Parameters
    ----------
    types : mapping of str to ColumnType
    """
    columns = [pa.field(name, _ARROW[kind], metadata={"type": kind}) for name, kind in types.items()]
    return pa.schema([pa.field(ROW, pa.int64()), *columns])


def record_batch(types: Columns, numbers: NDArray[np.int64], columns: Mapping[str, Column]) -> pa.RecordBatch:
    """Return rows as an Arrow record batch; times that are missing are null, and values of JSON are texts.

    Parameters
    ----------
    types : mapping of str to ColumnType
    numbers : ndarray of int64, shape (n,)
    columns : mapping of str to ndarray, each of shape (n,)
    """
    arrays = [_array(kind, columns[name]) for name, kind in types.items()]
    return pa.record_batch([pa.array(numbers), *arrays], schema=schema_of(types))


def _array(kind: ColumnType, values: Column) -> pa.Array:
    if kind == "json":
        return pa.array([json.dumps(value) for value in values.tolist()], pa.string())
    if kind == "time":
        known = np.isfinite(values)
        microseconds = np.round(np.where(known, values, 0.0) * 1e6).astype(np.int64)
        return pa.array(microseconds, mask=~known).cast(_ARROW[kind])
    return pa.array(values, _ARROW[kind])


class RowFile:
    """Writes rows of a table to a file, in pieces.

    Parameters
    ----------
    path : Path
    format : {"parquet", "csv"}
    types : mapping of str to ColumnType
    """

    def __init__(self, path: Path, format: str, types: Columns) -> None:
        self._types, schema = types, schema_of(types)
        is_csv = format == "csv"
        self._writer = csv.CSVWriter(path, schema) if is_csv else pq.ParquetWriter(path, schema, compression="zstd")

    def append(self, numbers: NDArray[np.int64], columns: Mapping[str, Column]) -> None:
        """Write rows."""
        self._writer.write_batch(record_batch(self._types, numbers, columns))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._writer.close()
