"""Sealed segments of a table: Parquet files, with the number of each row in the column ``row``.

Needs pyarrow (``sisock[parquet]``); what is called here raises MissingExtra where it is not installed.
"""

import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sisock.errors import BadHistory, MissingExtra
from sisock.fields import Column
from sisock.files import sync_folder
from sisock.tables.columns import DTYPES, Columns, from_content
from sisock.tables.rows import FORMAT, Rows

ROW = "row"
_KEY = b"sisock"
_GROUP = 1 << 15


class Damaged(BadHistory):
    """A sealed segment that cannot be read, as it is damaged."""

    name = "damaged"


@cache
def can_seal() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("older rows of tables are in Parquet files; run: pip install 'sisock[parquet]'") from error
    return pyarrow, parquet


def write_sealed(path: Path, table: str, columns: Columns, rows: Rows) -> None:
    """Write rows as a sealed segment; it is on the disk, as a whole, when this returns.

    Raises
    ------
    OSError
        If the disk does not take it.
    MissingExtra
        If pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    arrays = [pa.array(rows.numbers)]
    fields = [pa.field(ROW, pa.int64())]
    for name, kind in columns.items():
        array = pa.array(rows.arrays[name], pa.string() if DTYPES[kind] is object else None)
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata={"type": kind}))
    about = {"format": FORMAT, "table": table, "columns": dict(columns)}
    content = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={_KEY: json.dumps(about)}))
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            pq.write_table(content, file, compression="zstd", row_group_size=_GROUP, write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def types_of_sealed(path: Path) -> Columns:
    """Return the types of the columns of a sealed segment.

    Raises
    ------
    Damaged, OSError, MissingExtra
        As `read_sealed`.
    """
    pa, pq = _pyarrow()
    try:
        return dict(json.loads(pq.read_schema(path).metadata[_KEY])["columns"])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def read_sealed(path: Path, columns: Columns, names: Sequence[str]) -> Rows:
    """Return some columns of all rows of a sealed segment; columns that it lacks are filled.

    Raises
    ------
    Damaged
        If it is damaged.
    BadHistory
        If it is of a newer format.
    OSError
        If it cannot be read.
    MissingExtra
        If pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            about = json.loads(file.schema_arrow.metadata[_KEY])
            if about["format"] > FORMAT:
                raise BadHistory(f"{path} has format {about['format']}; this sisock reads up to {FORMAT}, so update it")
            known = [name for name in names if name in file.schema_arrow.names]
            content = file.read([ROW, *known])
        found = {name: content.column(name).to_numpy() for name in content.column_names}
    except OSError as error:
        if error.errno is not None:  # of the disk; Arrow's own errors have none
            raise
        raise Damaged(f"{path} is damaged: {error}") from error
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    numbers = found.pop(ROW)
    return Rows(numbers, {name: found.get(name, _missing(columns, name, len(numbers))) for name in names})


def _missing(columns: Columns, name: str, rows: int) -> Column:
    if not rows:
        return np.empty(0, DTYPES[columns[name]])
    return from_content({ROW: "integer", name: columns[name]}, {ROW: [0] * rows})[1][name]


def span_of_sealed(path: Path, column: str) -> tuple[float, float]:
    """Return the minimum and the maximum of a column by the statistics of the file; infinite where unknown.

    Raises
    ------
    Damaged, OSError, MissingExtra
        As `read_sealed`.
    """
    pa, pq = _pyarrow()
    try:
        with pq.ParquetFile(path) as file:
            place = file.schema_arrow.names.index(column)
            groups = [file.metadata.row_group(i).column(place).statistics for i in range(file.metadata.num_row_groups)]
    except (pa.ArrowException, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error
    if not groups or any(each is None or not each.has_min_max for each in groups):
        return -np.inf, np.inf
    return float(min(each.min for each in groups)), float(max(each.max for each in groups))
