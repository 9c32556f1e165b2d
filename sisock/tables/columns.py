"""Columns of a table: their types, as arrays, as JSON and back."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sisock.errors import BadData
from sisock.fields import Column
from sisock.jsontext import as_encodable, as_json

ColumnType = Literal["time", "number", "integer", "bool", "text", "json"]
"""UNIX seconds, float64, int64, bool, text or None, and any value of JSON."""
Columns = Mapping[str, ColumnType]
Arrays = dict[str, Column]
"""Columns by name, of equal length: ndarray of float64, int64, bool or, for text and JSON, object holding str."""

DTYPES: Mapping[ColumnType, Any] = {
    "time": np.float64, "number": np.float64, "integer": np.int64, "bool": np.bool_, "text": object, "json": object,
}  # fmt: skip
_MISSING: Mapping[ColumnType, Any] = {
    "time": math.nan, "number": math.nan, "integer": 0, "bool": False, "text": None, "json": "null",
}  # fmt: skip
_KINDS = {"time": "iuf", "number": "iuf", "integer": "iu", "bool": "b"}
# Bytes of a text in memory beside its characters.
_TEXT_SIZE = 56


def as_arrays(columns: Columns, rows: Mapping[str, Sequence[Any]]) -> tuple[int, Arrays]:
    """Return how many rows there are, and their values as arrays; values of a JSON column are encoded.

    Raises
    ------
    BadData
        If a column is missing or unknown, has another length than the others, or values of another type.
    """
    if columns.keys() != rows.keys():
        missing, unknown = sorted(columns.keys() - rows.keys()), sorted(rows.keys() - columns.keys())
        raise BadData(f"rows lack the columns {missing}, and have the unknown {unknown}; the columns are {[*columns]}")
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        raise BadData(f"columns of rows have different lengths: {lengths}")
    return next(iter(lengths.values())), {name: _array(name, kind, rows[name]) for name, kind in columns.items()}


def _array(name: str, kind: ColumnType, values: Sequence[Any]) -> Column:
    if kind == "json":
        return _objects([str(as_json(value)) for value in values])
    if kind == "text":
        return _objects(_texts(name, values))
    array = np.asarray(values)
    if array.dtype.kind == "O" and kind in ("time", "number"):  # None is a missing number
        array = np.asarray([math.nan if value is None else value for value in values])
    if array.shape != (len(values),) or (len(values) and array.dtype.kind not in _KINDS[kind]):
        raise BadData(f"column {name!r} is of type {kind}, and has values such as {values[0]!r}")
    return array.astype(DTYPES[kind])


def _texts(name: str, values: Sequence[Any]) -> list[str | None]:
    kinds = set(map(type, values)) - {str, type(None)}
    if kinds:
        raise BadData(f"column {name!r} is of type text, and has values of type {min(k.__name__ for k in kinds)}")
    return [text and as_encodable(text) for text in values]


def _objects(values: Sequence[Any]) -> Column:
    return np.fromiter(values, object, len(values))


def typed(kind: ColumnType, values: Sequence[Any]) -> Column:
    """Return values as an array of the type of their column.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there is no such type, or they are of another one.
    """
    return _objects(values) if DTYPES[kind] is object else np.asarray(values).astype(DTYPES[kind])


def decoded(columns: Columns, arrays: Arrays) -> Arrays:
    """Return arrays whose JSON columns have values."""
    return {
        name: _objects([json.loads(text) for text in values.tolist()]) if columns[name] == "json" else values
        for name, values in arrays.items()
    }


def sizes(arrays: Arrays) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return about how many bytes each row takes in memory."""
    total: Any = 0
    for values in arrays.values():
        if values.dtype.kind == "O":
            total = total + np.fromiter((len(text or "") + _TEXT_SIZE for text in values.tolist()), np.int64)
        else:
            total = total + np.full(len(values), values.itemsize, np.int64)
    return total  # type: ignore[no-any-return]


def to_content(arrays: Arrays) -> dict[str, list[Any]]:
    """Return arrays as values of JSON."""
    return {name: values.tolist() for name, values in arrays.items()}


def from_content(columns: Columns, content: Mapping[str, Sequence[Any]]) -> tuple[int, Arrays]:
    """Return how many rows there are, and their arrays; columns that these rows lack are filled.

    Raises
    ------
    ValueError, TypeError, AttributeError
        If the content is not of the format.
    """
    lengths = {len(values) for values in content.values()}
    (n,) = lengths
    arrays = {}
    for name, kind in columns.items():
        values = content.get(name, [_MISSING[kind]] * n)
        arrays[name] = _objects(values) if DTYPES[kind] is object else np.array(values, DTYPES[kind])
    return n, arrays
