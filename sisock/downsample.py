"""Decimation: fewer samples that say the same. Pure functions of arrays.

``first`` keeps samples as they are. The others put the samples into bins whose edges are multiples of the stride, so
that the bins, and with them a plot, stay where they are while the interval moves.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Column, FloatArray

Method = Literal["first", "mean", "min", "max", "minmax", "lttb"]
METHODS: tuple[Method, ...] = get_args(Method)

Indices = NDArray[np.intp]

# Samples that a second pass finds still in the cache: 512 KiB of float64.
_CACHED = 1 << 16


def first(t: FloatArray, min_stride: float) -> Indices:
    """Return the indices of the first sample, then of each next one at least `min_stride` later.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds.
    min_stride : float
        Seconds, 0 or more.

    Returns
    -------
    ndarray of intp, shape (m,)
        Ascending indices into `t`; successive chosen times are at least `min_stride` apart.
    """
    n = len(t)
    if n == 0 or min_stride <= 0 or np.all(np.diff(t) >= min_stride):
        return np.arange(n, dtype=np.intp)
    most = int((t[-1] - t[0]) / min_stride) + 1
    kept = [0]
    if most * 8 < n:  # few samples stay: look each of them up
        while (nxt := _at_least(t, kept[-1], min_stride)) < n:
            kept.append(nxt)
    else:  # many stay: find every sample's successor in one pass, then follow them
        successors = np.searchsorted(t, t + min_stride, side="left")
        # t + stride is rounded; what it let through may be an ulp too near.
        short = successors < n
        near = np.flatnonzero(short)[t[successors[short]] - t[short] < min_stride]
        successors[near] += 1
        follow = successors.tolist()
        here = follow[0]
        while here < n:
            kept.append(here)
            here = follow[here]
    return np.asarray(kept, dtype=np.intp)


def _at_least(t: FloatArray, i: int, min_stride: float) -> int:
    j = int(np.searchsorted(t, t[i] + min_stride, side="left"))
    while j < len(t) and t[j] - t[i] < min_stride:
        j += 1
    return j


def stride_for(t: FloatArray, max_points: int, method: Method) -> float:
    """Return the stride, in seconds, with which at most `max_points` samples are left; 0 when none need to go.

    It is 1, 2 or 5 times a power of ten, so that it stays the same while a live interval grows a little.
    """
    if len(t) <= max_points:
        return 0.0
    low, high = float(t[0]), float(t[-1])
    power = 10.0 ** math.floor(math.log10((high - low) / max_points or 1e-6))
    while power < 1e15:
        for stride in (power, 2 * power, 5 * power):
            if _left(low, high, stride, method) <= max_points:
                return stride
        power *= 10.0
    return math.inf


def _left(low: float, high: float, stride: float, method: Method) -> int:
    """Return how many samples between two times are left at the most."""
    if method == "first":
        return int((high - low) / stride) + 1
    bins = math.floor(high / stride) - math.floor(low / stride) + 1
    return 2 * bins if method == "minmax" else bins


def bin_starts(t: FloatArray, stride: float) -> Indices:
    """Return the index of the first sample of each bin that has one.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds, n above 0.
    stride : float
        Width of the bins in seconds, above 0; edges are its multiples.
    """
    low, high = math.floor(t[0] / stride), math.floor(t[-1] / stride)
    if high - low > len(t):  # more bins than samples: number the samples instead
        numbers = np.floor(t / stride)
        return np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])).astype(np.intp)
    edges = np.arange(low + 1, high + 1, dtype=np.float64) * stride
    inner = np.searchsorted(t, edges, side="left")
    return np.unique(np.append(0, inner[inner < len(t)])).astype(np.intp)


def decimate(
    t: FloatArray, columns: Mapping[str, Column], stride: float, method: Method
) -> tuple[FloatArray, dict[str, Column], list[str]]:
    """Return fewer samples of a timeline.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds.
    columns : mapping of str to ndarray, each of shape (n,)
    stride : float
        Seconds; the least distance for ``first``, the width of the bins for the others.
    method : {"first", "mean", "min", "max", "minmax", "lttb"}
        ``mean``, ``min`` and ``max`` leave one sample per bin, at the time of its first; ``minmax`` two, at the times
        of its first and last, so that no spike is lost: the smaller value first where the bin rises. NaN counts
        only where a bin has nothing else. ``lttb`` leaves one real sample per bin.

    Returns
    -------
    t : ndarray of float64, shape (m,)
    columns : dict of str to ndarray, each of shape (m,)
    fell_back : list of str
        Fields that are no numbers, of which the value at that time is taken.

    References
    ----------
    S. Steinarsson, Downsampling Time Series for Visual Representation, University of Iceland, 2013 (lttb).
    """
    if not len(t) or stride <= 0:
        return t, dict(columns), []
    numbers = [name for name, values in columns.items() if values.dtype.kind in "iuf"]
    fell_back = [] if method == "first" else [name for name in columns if name not in numbers]
    if method == "first" or not numbers:
        return *_taken(t, columns, first(t, stride)), fell_back
    starts = bin_starts(t, stride)
    if method == "lttb":
        return *_taken(t, columns, _largest_triangles(t, [columns[name] for name in numbers], starts)), fell_back
    if method == "minmax":
        return *_extremes(t, columns, starts), fell_back
    reduce = {"mean": _mean, "min": _least, "max": _greatest}[method]
    reduced = {name: reduce(values, starts) if name in numbers else values[starts] for name, values in columns.items()}
    return t[starts], reduced, fell_back


def _taken(t: FloatArray, columns: Mapping[str, Column], kept: Indices) -> tuple[FloatArray, dict[str, Column]]:
    return t[kept], {name: values[kept] for name, values in columns.items()}


def _least(values: Column, starts: Indices) -> Column:
    return _extreme(np.minimum, np.fmin, values, starts)


def _greatest(values: Column, starts: Indices) -> Column:
    return _extreme(np.maximum, np.fmax, values, starts)


def _least_and_greatest(values: Column, starts: Indices) -> tuple[Column, Column]:
    """Return both extremes of each bin, a piece that fits the processor's cache at a time."""
    low, high = np.empty(len(starts), values.dtype), np.empty(len(starts), values.dtype)
    step = max(1, _CACHED * len(starts) // len(values))
    for i in range(0, len(starts), step):
        j = min(i + step, len(starts))
        piece = values[starts[i] : starts[j] if j < len(starts) else len(values)]
        inner = starts[i:j] - starts[i]
        low[i:j], high[i:j] = _least(piece, inner), _greatest(piece, inner)
    return low, high


def _extreme(quick: np.ufunc, careful: np.ufunc, values: Column, starts: Indices) -> Column:
    result: Column = quick.reduceat(values, starts)
    # The quick one lets NaN win; where that shows, the one that ignores NaN has another look.
    if result.dtype.kind == "f" and np.isnan(result).any():
        result = careful.reduceat(values, starts)
    return result


def _mean(values: Column, starts: Indices) -> Column:
    values = values.astype(np.float64, copy=False)
    there = ~np.isnan(values)
    counts: NDArray[np.int64] = np.add.reduceat(there, starts, dtype=np.int64)
    sums = np.add.reduceat(np.where(there, values, 0.0), starts)
    means: Column = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return means


def _extremes(t: FloatArray, columns: Mapping[str, Column], starts: Indices) -> tuple[FloatArray, dict[str, Column]]:
    """Return two samples per bin, or one where a bin has one: its extremes, at its first and its last time."""
    ends = np.append(starts[1:], len(t)) - 1
    rows = np.stack([starts, ends], axis=1).ravel()
    kept = np.append(True, rows[1:] != rows[:-1])
    reduced = {}
    for name, values in columns.items():
        if values.dtype.kind not in "iuf":
            reduced[name] = values[rows[kept]]
            continue
        low, high = _least_and_greatest(values, starts)
        falls = values[ends] < values[starts]
        pairs = np.stack([np.where(falls, high, low), np.where(falls, low, high)], axis=1).ravel()
        reduced[name] = pairs[kept]
    return t[rows[kept]], reduced


def _largest_triangles(t: FloatArray, columns: Sequence[Column], starts: Indices) -> Indices:
    """Return, per bin, the sample that spans the largest triangle with the one chosen before and the next bin's mean.

    With several columns the areas are added, each in parts of its column's range.
    """
    ends = np.append(starts[1:], len(t))
    scaled = []
    for values in columns:
        values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)  # noqa: PLW2901
        scaled.append(values / (np.ptp(values) or 1.0))
    seconds = t - t[0]
    means = [np.add.reduceat(column, starts) / (ends - starts) for column in scaled]
    mean_t = np.add.reduceat(seconds, starts) / (ends - starts)
    kept = [0]
    for i in range(1, len(starts) - 1):
        a, span = kept[-1], slice(starts[i], ends[i])
        area = np.zeros(ends[i] - starts[i])
        for column, mean in zip(scaled, means, strict=True):
            area += np.abs(
                (seconds[a] - mean_t[i + 1]) * (column[span] - column[a])
                - (seconds[a] - seconds[span]) * (mean[i + 1] - column[a])
            )
        kept.append(int(starts[i]) + int(np.argmax(area)))
    if len(starts) > 1:
        kept.append(len(t) - 1)
    return np.asarray(kept, dtype=np.intp)
