"""Dtypes that hold numbers of several dtypes without rounding."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadData

Numbers = NDArray[Any]
EXACT = 2**53
"""Integers up to this, positive or negative, are exact as float64."""

_INTEGERS = (np.dtype(np.int64), np.dtype(np.uint64))


def holds(dtype: np.dtype[Any], values: Numbers) -> bool:
    """Whether a dtype, of integers of 64 bits or float64, has room for some integers without rounding."""
    if not len(values):
        return True
    low, high = int(values.min()), int(values.max())
    if dtype.kind == "f":
        return low >= -EXACT and high <= EXACT
    bounds = np.iinfo(dtype)
    return bounds.min <= low and high <= bounds.max


def continued(known: np.dtype[Any], values: Numbers) -> np.dtype[Any]:
    """Return the dtype in which a column of a known dtype is continued by more values, without rounding these.

    Integers continue a column of floats, or of integers with another sign, as long as it has room for each of them.
    """
    wide: np.dtype[Any] = np.result_type(known, values.dtype)
    if wide.kind != "f" or values.dtype.kind == "f":
        return wide
    if known.kind != "f":
        wide = known if known.kind == "u" else np.dtype(np.int64)
    return wide if holds(wide, values) else values.dtype


def common_dtype(parts: Sequence[Numbers]) -> np.dtype[Any] | None:
    """Return a dtype that has room for all values of some columns of numbers without rounding; None if none has."""
    wide: np.dtype[Any] = np.result_type(*{part.dtype for part in parts})
    integers = [part for part in parts if part.dtype.kind in "iu"]
    if wide.kind != "f" or not integers:
        return wide
    candidates = _INTEGERS if len(integers) == len(parts) else (wide,)
    return next((dtype for dtype in candidates if all(holds(dtype, part) for part in integers)), None)


def together(parts: Sequence[Numbers], otherwise: type = float) -> Numbers:
    """Return columns as one; numbers that no dtype has room for are `otherwise`: float64, rounded, or objects.

    Arrays are float64 then in any case.
    """
    if len({part.dtype for part in parts}) > 1 and all(part.dtype.kind in "iuf" for part in parts):
        dtype = common_dtype(parts) or np.dtype(otherwise if parts[0].ndim == 1 else float)
        parts = [part.astype(dtype, copy=False) for part in parts]
    return np.concatenate(parts)


def is_mixed(values: Numbers) -> bool:
    """Whether a column consists of Python's numbers, with None for a missing one."""
    if values.dtype.kind != "O" or not len(values) or type(values[0]) not in _NUMBERS:
        return False
    return set(map(type, values.tolist())) <= _NUMBERS


_NUMBERS = {int, float, type(None)}


def as_numbers(mixed: Numbers) -> Numbers | None:
    """Return Python's integers and floats as a column without rounding; None if no dtype has room for them."""
    values = mixed.tolist()
    integers = [value for value in values if type(value) is int]
    if len(integers) < len(values):
        if any(abs(value) > EXACT for value in integers):
            return None
        return rounded(mixed)
    bounds = ((dtype, np.iinfo(dtype)) for dtype in _INTEGERS)
    low, high = min(integers, default=0), max(integers, default=0)
    dtype = next((dtype for dtype, bound in bounds if bound.min <= low and high <= bound.max), None)
    return None if dtype is None else np.array(values, dtype)


def rounded(mixed: Numbers) -> Numbers:
    """Return Python's numbers as float64."""
    return np.array([math.nan if value is None else value for value in mixed.tolist()], np.float64)


def runs(mixed: Numbers) -> list[int]:
    """Return where, in a column of Python's numbers, the dtype of the values changes."""
    kinds = np.array([-1 if type(value) is not int else int(value >= 2**63) for value in mixed.tolist()])
    changes: list[int] = (np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist()
    return changes


def _unsigned(array: Numbers, values: Any) -> Numbers:
    """Return integers beyond int64, of which NumPy makes floats, without rounding where uint64 has room for them.

    Parameters
    ----------
    array : ndarray of float64
        What NumPy makes of `values`.
    values : any
    """
    if not isinstance(values, list) or not values or type(values[0]) is not int or set(map(type, values)) != {int}:
        return array
    exact = as_numbers(np.array(values, object))
    return array if exact is None else exact


def as_column(values: Any) -> Numbers:
    """Turn values into a column: numbers and bools as they are, strings as an object array of str."""
    try:
        array = values if isinstance(values, np.ndarray) and values.ndim == 1 else np.atleast_1d(np.asarray(values))
    except ValueError as error:  # such as rows of several lengths
        raise BadData(f"values are not a column: {error}") from error
    if array.dtype.kind in "UST":
        return array.astype(np.str_).astype(object) if array.dtype.kind == "S" else array.astype(object)
    return _unsigned(array, values) if array.dtype == np.float64 else array
