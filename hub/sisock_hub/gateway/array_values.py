"""Arrays with fewer values: as many as a screen can show."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sisock.fields import Column

MOST_VALUES = 100_000
"""Most values of a dimension that a request may ask for by `max_values`."""

ArrayMethod = Literal["max", "minmax"]


@dataclass(frozen=True, slots=True)
class ArrayLimit:
    """The number of values that the arrays of an answer have at most, in each dimension.

    Longer ones are divided into blocks of equal length, of which the last one may be shorter.

    Attributes
    ----------
    max_values : int
        2 or more.
    method : {"max", "minmax"}
        The maximum of each block; or its minimum and maximum, the minimum first where the block rises, which is for
        arrays of one dimension.
    """

    max_values: int
    method: ArrayMethod = "max"

    def apply(self, columns: Mapping[str, Column]) -> tuple[dict[str, Column], dict[str, dict[str, Any]]]:
        """Return columns with fewer values, and how each of those that changed was reduced.

        Parameters
        ----------
        columns : mapping of str to ndarray, each of shape (samples, ...)

        Returns
        -------
        columns : dict of str to ndarray
        reduced : dict of str to dict
            By field: ``method``, and the length of a ``block`` in each dimension.
        """
        kept, reduced = dict(columns), {}
        for name, values in columns.items():
            method: ArrayMethod = self.method if values.ndim == 2 else "max"
            most = self.max_values // 2 if method == "minmax" else self.max_values
            too_long = any(n > self.max_values for n in values.shape[1:])
            if values.ndim == 1 or not too_long:
                continue
            blocks = [-(-n // most) for n in values.shape[1:]]
            kept[name] = _extremes(values, blocks[0]) if method == "minmax" else _maxima(values, blocks)
            reduced[name] = {"method": method, "block": blocks}
        return kept, reduced


def _maxima(values: Column, blocks: list[int]) -> Column:
    """Return the maximum of each block; NaN counts only where a block has nothing else."""
    for axis, length in enumerate(blocks, start=1):
        if length > 1:
            values = np.fmax.reduceat(values, np.arange(0, values.shape[axis], length), axis=axis)
    return values


def _extremes(values: Column, length: int) -> Column:
    """Return minimum and maximum of each block of the last axis, the minimum first where the block rises."""
    starts = np.arange(0, values.shape[1], length)
    ends = np.append(starts[1:], values.shape[1]) - 1
    low, high = np.fmin.reduceat(values, starts, axis=1), np.fmax.reduceat(values, starts, axis=1)
    falls = values[:, ends] < values[:, starts]
    pairs = np.stack([np.where(falls, high, low), np.where(falls, low, high)], axis=2)
    return pairs.reshape(len(values), -1)
