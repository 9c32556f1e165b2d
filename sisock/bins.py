"""Samples summarized by bins whose edges are multiples of the stride. Pure functions of arrays.

Bins stay where they are while the interval of a plot moves, and those of adjacent intervals can be joined.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sisock.dtypes import together
from sisock.fields import Column, FloatArray

Statistic = Literal["first", "last", "least", "greatest", "total", "count"]
"""Statistic of a field's values in a bin: the first and the last value; of numbers also minimum (`least`), maximum
(`greatest`), sum (`total`) and the number of values that are not NaN. Histories on disk use these names."""
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

Indices = NDArray[np.intp]

# Samples that a second pass finds still in the cache: 512 KiB of float64.
_CACHED = 1 << 16
# Statistics of a number that was not measured.
_MISSING: dict[Statistic, Any] = {
    **dict.fromkeys(("first", "last", "least", "greatest"), math.nan),
    "total": 0.0,
    "count": 0,
}


def bin_numbers(t: FloatArray, stride: float) -> FloatArray:
    """Return, for each time, the number of its bin: the largest n with ``n * stride <= t``, as float64."""
    if math.isinf(stride):
        return np.zeros(len(t))
    numbers = np.floor(t / stride)
    # The quotient is rounded; the edges decide.
    numbers -= numbers * stride > t
    numbers += (numbers + 1) * stride <= t
    return numbers


def bin_starts(t: FloatArray, stride: float) -> Indices:
    """Return the index of the first sample of each bin that has one.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds, n above 0.
    stride : float
        Width of the bins in seconds, above 0; edges are its multiples.
    """
    low, high = bin_numbers(t[[0, -1]], stride)
    if high - low > len(t):  # more bins than samples: number the samples instead
        numbers = bin_numbers(t, stride)
        return np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])).astype(np.intp)
    edges = np.arange(low + 1, high + 1, dtype=np.float64) * stride
    inner = np.searchsorted(t, edges, side="left")
    return np.unique(np.append(0, inner[inner < len(t)])).astype(np.intp)


@dataclass(frozen=True, slots=True)
class Bins:
    """Samples of a timeline, summarized by bins of one width; bins without samples are left out.

    Attributes
    ----------
    stride : float
        Width of the bins in seconds.
    numbers : ndarray of float64, shape (n,)
        Ascending; bin i is ``[i * stride, (i + 1) * stride)``.
    first_t, last_t : ndarray of float64, shape (n,)
        Times of each bin's first and last sample.
    rows : ndarray of int64, shape (n,)
        Number of samples in each bin.
    columns : mapping of str to mapping of Statistic to ndarray, each of shape (n,)
    """

    stride: float
    numbers: FloatArray
    first_t: FloatArray
    last_t: FloatArray
    rows: NDArray[np.int64]
    columns: Mapping[str, Mapping[Statistic, Column]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, kept: slice) -> "Bins":
        columns = {name: {key: v[kept] for key, v in summary.items()} for name, summary in self.columns.items()}
        return Bins(self.stride, self.numbers[kept], self.first_t[kept], self.last_t[kept], self.rows[kept], columns)


def is_number(values: Column) -> bool:
    """Whether a column holds numbers, which have means and extremes."""
    return values.dtype.kind in "iuf" and values.ndim == 1


def is_reduced(values: Column, statistics: Sequence[Statistic]) -> bool:
    """Whether some statistics are made of a column: of numbers all, of arrays of numbers the mean only."""
    return is_number(values) or (values.ndim > 1 and "total" in statistics)


def binned(
    t: FloatArray, columns: Mapping[str, Column], stride: float, statistics: Sequence[Statistic] = STATISTICS
) -> Bins:
    """Return samples summarized by bins whose edges are multiples of the stride.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds, n above 0.
    columns : mapping of str to ndarray, each of shape (n,)
    stride : float
        Seconds, above 0.
    statistics : sequence of Statistic, optional
        Statistics that are computed besides the first and the last value; by default all.
    """
    starts = bin_starts(t, stride)
    ends = np.append(starts[1:], len(t)) - 1
    summaries: dict[str, dict[Statistic, Column]] = {}
    for name, values in columns.items():
        if is_reduced(values, statistics):
            wanted = statistics if values.ndim == 1 else ("total", "count")
            summaries[name] = _summary(values, starts, ends, wanted)
        else:
            summaries[name] = {"first": values[starts], "last": values[ends]}
    return Bins(stride, bin_numbers(t[starts], stride), t[starts], t[ends], ends - starts + 1, summaries)


def _summary(values: Column, starts: Indices, ends: Indices, wanted: Sequence[Statistic]) -> dict[Statistic, Column]:
    summary: dict[Statistic, Column] = {"first": values[starts], "last": values[ends]}
    if "least" in wanted and "greatest" in wanted:
        summary["least"], summary["greatest"] = _minimum_and_maximum(values, starts)
    elif "least" in wanted:
        summary["least"] = _minimum(values, starts)
    elif "greatest" in wanted:
        summary["greatest"] = _maximum(values, starts)
    if "total" in wanted:
        floats = values.astype(np.float64, copy=False)
        is_known = ~np.isnan(floats)
        summary["total"] = np.add.reduceat(np.where(is_known, floats, 0.0), starts)
        summary["count"] = np.add.reduceat(is_known, starts, dtype=np.int64)
    return summary


def regrouped(bins: Bins, stride: float, edges: Sequence[float] = ()) -> Bins:
    """Return wider bins; adjacent bins of the same number are joined.

    Parameters
    ----------
    bins : Bins
        At least one; numbers may repeat where adjacent blocks share a bin.
    stride : float
        A multiple of the stride of `bins`.
    edges : sequence of float
        Times in seconds, ascending; bins on both sides of one are not joined.
    """
    ratio = stride / bins.stride if stride != bins.stride else 1.0
    numbers = np.floor(bins.numbers / ratio) if ratio != 1.0 else bins.numbers
    differ = numbers[1:] != numbers[:-1]
    if len(edges):
        differ |= np.diff(np.searchsorted(edges, bins.first_t, side="right")) > 0
    starts = np.flatnonzero(np.append(True, differ)).astype(np.intp)
    ends = np.append(starts[1:], len(numbers)) - 1
    columns: dict[str, dict[Statistic, Column]] = {}
    for name, summary in bins.columns.items():
        columns[name] = {key: _reduce(key, values, starts, ends) for key, values in summary.items()}
    rows = np.add.reduceat(bins.rows, starts)
    return Bins(stride, numbers[starts], bins.first_t[starts], bins.last_t[ends], rows, columns)


def _reduce(statistic: Statistic, values: Column, starts: Indices, ends: Indices) -> Column:
    match statistic:
        case "first":
            return values[starts]
        case "last":
            return values[ends]
        case "least":
            return _minimum(values, starts)
        case "greatest":
            return _maximum(values, starts)
    sums: Column = np.add.reduceat(values, starts)
    return sums


def joined(blocks: Sequence[Bins], edges: Sequence[float] = ()) -> Bins:
    """Return the bins of one or more blocks, which follow each other in time and have the same stride, as one.

    Where a block lacks a field, its values are NaN if other blocks have numbers, else None; `edges` as in `regrouped`.
    """
    if len(blocks) == 1:
        return blocks[0]
    columns: dict[str, dict[Statistic, Column]] = {}
    for name in dict.fromkeys(name for block in blocks for name in block.columns):
        known = [block.columns[name] for block in blocks if name in block.columns]
        # A field that is a number in one block and a text in another has only the statistics of both.
        common = [key for key in known[0] if all(key in summary for summary in known)]
        missing = _MISSING if set(common) - {"first", "last"} else dict.fromkeys(common)
        columns[name] = {
            key: together([_part(block, name, key, known[0][key], missing) for block in blocks]) for key in common
        }
    one = Bins(
        blocks[0].stride,
        np.concatenate([block.numbers for block in blocks]),
        np.concatenate([block.first_t for block in blocks]),
        np.concatenate([block.last_t for block in blocks]),
        np.concatenate([block.rows for block in blocks]),
        columns,
    )
    return regrouped(one, one.stride, edges)


def _part(block: Bins, name: str, key: Statistic, like: Column, missing: Mapping[Statistic, Any]) -> Column:
    """Return a statistic of a field in a block; where that lacks the field, values that are missing, shaped alike."""
    if name in block.columns:
        return block.columns[name][key]
    return np.full((len(block), *like.shape[1:]), missing[key])


def _minimum(values: Column, starts: Indices) -> Column:
    return _extreme(np.minimum, np.fmin, values, starts)


def _maximum(values: Column, starts: Indices) -> Column:
    return _extreme(np.maximum, np.fmax, values, starts)


def _minimum_and_maximum(values: Column, starts: Indices) -> tuple[Column, Column]:
    """Return minimum and maximum of each bin, one block of the size of the processor's cache at a time."""
    low, high = np.empty(len(starts), values.dtype), np.empty(len(starts), values.dtype)
    step = max(1, _CACHED * len(starts) // len(values))
    for i in range(0, len(starts), step):
        j = min(i + step, len(starts))
        block = values[starts[i] : starts[j] if j < len(starts) else len(values)]
        inner = starts[i:j] - starts[i]
        low[i:j], high[i:j] = _minimum(block, inner), _maximum(block, inner)
    return low, high


def _extreme(fast: np.ufunc, ignoring_nan: np.ufunc, values: Column, starts: Indices) -> Column:
    result: Column = fast.reduceat(values, starts)
    # The fast function propagates NaN; only then the one that ignores NaN is needed.
    if result.dtype.kind == "f" and np.isnan(result).any():
        result = ignoring_nan.reduceat(values, starts)
    return result
