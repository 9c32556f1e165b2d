"""Samples of a timeline in pieces that follow each other in time, and bringing them together."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sisock.dtypes import as_numbers, is_mixed, rounded, runs, together
from sisock.fields import Column, FloatArray

Block = tuple[FloatArray, dict[str, Column]]
"""Times, and values by field; a field that was not measured then is left out."""


def concatenated(pieces: Sequence[Block]) -> Block:
    """Return pieces as one; where a field was not measured, numbers are NaN and other values None.

    Numbers that no dtype has room for without rounding are Python's numbers; `as_answered` rounds them.
    """
    if len(pieces) == 1:
        return pieces[0]
    names = dict.fromkeys(name for _, columns in pieces for name in columns)
    lengths = [len(t) for t, _ in pieces]
    columns = {name: _column([columns.get(name) for _, columns in pieces], lengths) for name in names}
    return np.concatenate([np.empty(0), *(t for t, _ in pieces)]), columns


def as_answered(columns: dict[str, Column]) -> dict[str, Column]:
    """Return columns with Python's numbers as arrays of numbers: rounded to float64 where no dtype holds all of one."""
    if not any(map(is_mixed, columns.values())):
        return columns
    return {
        name: (exact if (exact := as_numbers(values)) is not None else rounded(values)) if is_mixed(values) else values
        for name, values in columns.items()
    }


def typed(rows: Block) -> list[Block]:
    """Return samples in parts whose numbers have a dtype each, without rounding."""
    t, columns = rows
    mixed = [values for values in columns.values() if is_mixed(values)]
    if not mixed:
        return [rows]
    bounds = [0, *sorted({at for values in mixed for at in runs(values)}), len(t)]
    return [(t[i:j], as_answered({name: values[i:j] for name, values in columns.items()})) for i, j in pairwise(bounds)]


def merged(pieces: Sequence[Block]) -> Block:
    """Return pieces that overlap as one, in order of time; of samples with one time, the last one stays."""
    t, columns = concatenated(pieces)
    order = np.argsort(t, kind="stable")
    order = order[np.append(t[order][1:] != t[order][:-1], True)[: len(order)]]
    return t[order], {name: values[order] for name, values in columns.items()}


def cut(rows: Block, edges: Sequence[float]) -> list[Block]:
    """Return samples in parts that end before each of some times, ascending; without parts that are empty."""
    t, columns = rows
    bounds = [0, *np.searchsorted(t, edges).tolist(), len(t)]
    return [(t[i:j], {name: values[i:j] for name, values in columns.items()}) for i, j in pairwise(bounds) if i < j]


def alike(a: Column, b: Column) -> NDArray[np.bool_]:
    """Return where two columns have the same value, NaN being the same as NaN: ndarray of bool, shape (n,)."""
    same: NDArray[np.bool_] = (a == b) | ((a != a) & (b != b))  # noqa: PLR0124 - NaN
    if same.ndim > 1:
        same = np.all(same, axis=tuple(range(1, same.ndim)))
    return same


def _column(parts: Sequence[Column | None], lengths: Sequence[int]) -> Column:
    there = [part for part in parts if part is not None]
    if all(part.dtype.kind in "iuf" for part in there):
        shape = there[0].shape[1:]
        whole = [np.full((n, *shape), np.nan) if part is None else part for part, n in zip(parts, lengths, strict=True)]
    elif len(there) == len(parts) and len({part.dtype.kind for part in there}) == 1:
        whole = there
    else:  # a field that was a number and became a text: each value stays what it was
        empty = [np.full(n, None, object) for n in lengths]
        whole = [e if part is None else part.astype(object) for part, e in zip(parts, empty, strict=True)]
    return together(whole, object)
