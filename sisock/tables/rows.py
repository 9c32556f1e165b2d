"""Files of rows that are not sealed: lines with checksums, which need no package to be written and read.

Each line is a CRC-32 and an object of JSON, see `sisock.files.checked_line`: the first line has ``format``, ``table``
and ``columns`` (types by name), each other one ``first`` (the number of its first row) and ``columns`` (lists by name).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadHistory
from sisock.files import checked_line, read_checked_line
from sisock.tables.columns import Arrays, Columns, from_content, to_content

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a file.

    Attributes
    ----------
    numbers : ndarray of int64, shape (n,)
        Ascending.
    arrays : dict of str to ndarray, each of shape (n,)
    """

    numbers: NDArray[np.int64]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class RowFile:
    """The content of a file of rows.

    Attributes
    ----------
    rows : Rows
    columns : dict or None
        Types of the columns by name, as its first line has them; None if that is damaged.
    damaged : int
        Lines that are damaged.
    end : int
        Bytes up to the end of its last whole line.
    size : int
    """

    rows: Rows
    columns: Columns | None
    damaged: int
    end: int
    size: int


def head(table: str, columns: Columns) -> bytes:
    """Return the first line of a file."""
    return checked_line(json.dumps({"format": FORMAT, "table": table, "columns": dict(columns)}).encode())


def line(first: int, arrays: Arrays) -> bytes:
    """Return a line of rows."""
    return checked_line(json.dumps({"first": first, "columns": to_content(arrays)}).encode())


def types_of_rows(first_line: bytes) -> Columns:
    """Return the types of the columns by the first line of a file; empty if it is damaged."""
    content = read_checked_line(first_line.rstrip(b"\n"))
    try:
        return dict(json.loads(content)["columns"]) if content is not None else {}
    except (ValueError, TypeError, KeyError):
        return {}


def read_row_file(path: Path, columns: Columns) -> RowFile:
    """Return the rows of a file, with the given columns; damaged lines are counted and left out.

    Raises
    ------
    BadHistory
        If the file is of a newer format.
    OSError
        If it cannot be read.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    own, damaged, numbers, parts = None, 0, [], []
    for text in data[:end].split(b"\n")[:-1]:
        content = read_checked_line(text)
        try:
            about = json.loads(content) if content is not None else {}
            if "format" in about:
                _check_format(path, about["format"])
                own = about["columns"]
                continue
            rows, arrays = from_content(columns, {k: v for k, v in about["columns"].items() if k in columns})
            numbers.append(np.arange(about["first"], about["first"] + rows))
            parts.append(arrays)
        except (ValueError, TypeError, KeyError, AttributeError):
            damaged += 1
    return RowFile(joined(columns, numbers, parts), own, damaged, end, len(data))


def _check_format(path: Path, version: int) -> None:
    if version > FORMAT:
        raise BadHistory(f"{path} has format {version}; this sisock reads up to {FORMAT}, so update it")


def joined(columns: Columns, numbers: list[NDArray[np.int64]], parts: list[Arrays]) -> Rows:
    """Return several rows as one."""
    if not parts:
        return Rows(np.empty(0, np.int64), from_content(columns, {name: [] for name in columns})[1])
    return Rows(np.concatenate(numbers), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
