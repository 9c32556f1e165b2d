"""Decimation: fewer samples that say the same. Pure functions of arrays.

``first`` keeps samples as they are. The others put the samples into bins whose edges are multiples of the stride, so
that the bins, and with them a plot, stay where they are while the interval moves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Column, FloatArray

Method = Literal["first", "mean", "min", "max", "minmax", "lttb"]
METHODS: tuple[Method, ...] = get_args(Method)

Part = Literal["first", "last", "least", "greatest", "total", "count"]
"""What is known of a field's values in a bin: the first and the last; of numbers also the extremes, the sum and the
number of those that are not NaN."""
PARTS: tuple[Part, ...] = get_args(Part)

Indices = NDArray[np.intp]

# Samples that a second pass finds still in the cache: 512 KiB of float64.
_CACHED = 1 << 16
# Of a number that was not measured.
_NOTHING: dict[Part, Any] = {
    **dict.fromkeys(("first", "last", "least", "greatest"), math.nan),
    "total": 0.0,
    "count": 0,
}
# Exponent of the widest stride: 2**50 s are 35 million years.
_COARSEST = 50


def first(t: FloatArray, min_stride: float, after: float = -math.inf) -> Indices:
    """Return the indices of the first sample, then of each next one at least `min_stride` later.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds.
    min_stride : float
        Seconds, 0 or more.
    after : float
        Time of the sample that was chosen last from what comes before, where there is any.

    Returns
    -------
    ndarray of intp, shape (m,)
        Ascending indices into `t`; successive chosen times are at least `min_stride` apart.
    """
    if math.isfinite(after) and len(t):
        begin = _at_least(t, after, min_stride)
        return begin + first(t[begin:], min_stride)
    n = len(t)
    if n == 0 or min_stride <= 0 or np.all(np.diff(t) >= min_stride):
        return np.arange(n, dtype=np.intp)
    most = int((t[-1] - t[0]) / min_stride) + 1
    kept = [0]
    if most * 8 < n:  # few samples stay: look each of them up
        while (nxt := _at_least(t, float(t[kept[-1]]), min_stride)) < n:
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


def _at_least(t: FloatArray, after: float, min_stride: float) -> int:
    """Return the index of the first time at least `min_stride` after `after`."""
    j = int(np.searchsorted(t, after + min_stride, side="left"))
    while j < len(t) and t[j] - after < min_stride:  # the sum is rounded
        j += 1
    return j


def stride_for(t: FloatArray, max_points: int, method: Method) -> float:
    """Return the stride, in seconds, with which at most `max_points` samples are left; 0 when none need to go."""
    return stride_between(float(t[0]), float(t[-1]), max_points, method) if len(t) > max_points else 0.0


def stride_between(low: float, high: float, max_points: int, method: Method) -> float:
    """Return the stride, in seconds, that leaves at most `max_points` samples between two times.

    It is a power of two, so that it stays the same while a live interval grows a little, and so that bins consist
    of whole bins of the strides below it. It depends on the length of the span alone: panning does not change it.
    """
    bins = max(1, (max_points - 1) // 2) if method == "minmax" else max_points  # with room for the last sample
    # Of a span as long as n strides, n + 1 bins may have a part.
    exponent = math.ceil(math.log2(max(high - low, 1e-9) / bins))
    while exponent < _COARSEST and int((high - low) / 2.0**exponent) + 2 > bins:
        exponent += 1
    return 2.0**exponent if exponent < _COARSEST else math.inf


def keeps_last(max_points: int | None) -> bool:
    """Whether ``minmax`` keeps the last sample, too: where there is room for it besides both extremes of a bin."""
    return max_points is not None and max_points > 2


def bin_numbers(t: FloatArray, stride: float) -> FloatArray:
    """Return, for each time, the number of its bin: the greatest n with ``n * stride <= t``, as float64."""
    if math.isinf(stride):
        return np.zeros(len(t))
    numbers = np.floor(t / stride)
    # The quotient is rounded; what counts are the edges.
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


_NEEDED: dict[Method, tuple[Part, ...]] = {
    "mean": ("first", "last", "total", "count"),
    "min": ("first", "last", "least"),
    "max": ("first", "last", "greatest"),
    "minmax": ("first", "last", "least", "greatest"),
}


def needed(method: Method) -> tuple[Part, ...]:
    """Return what must be known of the bins for ``mean``, ``min``, ``max`` or ``minmax``."""
    return _NEEDED[method]


@dataclass(frozen=True, slots=True)
class Bins:
    """Samples of a timeline, summarized by bins of one width; only bins with samples are there.

    Attributes
    ----------
    stride : float
        Width of the bins in seconds.
    numbers : ndarray of float64, shape (n,)
        Ascending; bin i is ``[i * stride, (i + 1) * stride)``.
    first_t, last_t : ndarray of float64, shape (n,)
        Times of each bin's first and last sample.
    rows : ndarray of int64, shape (n,)
        How many samples each bin has.
    columns : mapping of str to mapping of Part to ndarray, each of shape (n,)
    """

    stride: float
    numbers: FloatArray
    first_t: FloatArray
    last_t: FloatArray
    rows: NDArray[np.int64]
    columns: Mapping[str, Mapping[Part, Column]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, wanted: slice) -> "Bins":
        columns = {name: {part: v[wanted] for part, v in parts.items()} for name, parts in self.columns.items()}
        return Bins(
            self.stride, self.numbers[wanted], self.first_t[wanted], self.last_t[wanted], self.rows[wanted], columns
        )


def is_number(values: Column) -> bool:
    """Whether a column holds numbers, of which there are means and extremes."""
    return values.dtype.kind in "iuf"


def binned(t: FloatArray, columns: Mapping[str, Column], stride: float, method: Method | None = None) -> Bins:
    """Return samples summarized by bins whose edges are multiples of the stride.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds, n above 0.
    columns : mapping of str to ndarray, each of shape (n,)
    stride : float
        Seconds, above 0.
    method : {"mean", "min", "max", "minmax"}, optional
        Only what it needs is found; everything when not given.
    """
    starts = bin_starts(t, stride)
    ends = np.append(starts[1:], len(t)) - 1
    parts = needed(method) if method else PARTS
    summaries = {}
    for name, values in columns.items():
        if is_number(values):
            summaries[name] = _summary(values, starts, ends, parts)
        else:
            summaries[name] = {"first": values[starts], "last": values[ends]}
    return Bins(stride, bin_numbers(t[starts], stride), t[starts], t[ends], ends - starts + 1, summaries)


def _summary(values: Column, starts: Indices, ends: Indices, wanted: Sequence[Part]) -> dict[Part, Column]:
    parts: dict[Part, Column] = {"first": values[starts], "last": values[ends]}
    if "least" in wanted and "greatest" in wanted:
        parts["least"], parts["greatest"] = _least_and_greatest(values, starts)
    elif "least" in wanted:
        parts["least"] = _least(values, starts)
    elif "greatest" in wanted:
        parts["greatest"] = _greatest(values, starts)
    if "total" in wanted:
        floats = values.astype(np.float64, copy=False)
        there = ~np.isnan(floats)
        parts["total"] = np.add.reduceat(np.where(there, floats, 0.0), starts)
        parts["count"] = np.add.reduceat(there, starts, dtype=np.int64)
    return parts


def regrouped(bins: Bins, stride: float, edges: Sequence[float] = ()) -> Bins:
    """Return bins as wider ones; bins of one number that follow each other become one.

    Parameters
    ----------
    bins : Bins
        Not empty; numbers may repeat, where they come from pieces that share a bin.
    stride : float
        A whole multiple of the stride of `bins`.
    edges : sequence of float
        Times in seconds, ascending; what lies on both sides of one never becomes one.
    """
    ratio = stride / bins.stride if stride != bins.stride else 1.0
    numbers = np.floor(bins.numbers / ratio) if ratio != 1.0 else bins.numbers
    differ = numbers[1:] != numbers[:-1]
    if len(edges):
        differ |= np.diff(np.searchsorted(edges, bins.first_t, side="right")) > 0
    starts = np.flatnonzero(np.append(True, differ)).astype(np.intp)
    ends = np.append(starts[1:], len(numbers)) - 1
    columns: dict[str, dict[Part, Column]] = {}
    for name, parts in bins.columns.items():
        columns[name] = {part: _reduce(part, values, starts, ends) for part, values in parts.items()}
    rows = np.add.reduceat(bins.rows, starts)
    return Bins(stride, numbers[starts], bins.first_t[starts], bins.last_t[ends], rows, columns)


def _reduce(part: Part, values: Column, starts: Indices, ends: Indices) -> Column:
    match part:
        case "first":
            return values[starts]
        case "last":
            return values[ends]
        case "least":
            return _least(values, starts)
        case "greatest":
            return _greatest(values, starts)
    sums: Column = np.add.reduceat(values, starts)
    return sums


def joined(pieces: Sequence[Bins], edges: Sequence[float] = ()) -> Bins:
    """Return as one the bins of pieces, one or more, that follow each other in time; their strides are the same.

    Where a piece lacks a field, its values are NaN if it is a number elsewhere, else None. Of `edges` see `regrouped`.
    """
    if len(pieces) == 1:
        return pieces[0]
    columns: dict[str, dict[Part, Column]] = {}
    for name in dict.fromkeys(name for piece in pieces for name in piece.columns):
        there = [piece.columns[name] for piece in pieces if name in piece.columns]
        # A field that is a number in one piece and a text in another has only what both have.
        common = [part for part in there[0] if all(part in parts for parts in there)]
        missing = _NOTHING if set(common) - {"first", "last"} else dict.fromkeys(common)
        columns[name] = {
            part: np.concatenate(
                [
                    piece.columns[name][part] if name in piece.columns else np.full(len(piece), missing[part])
                    for piece in pieces
                ]
            )
            for part in common
        }
    one = Bins(
        pieces[0].stride,
        np.concatenate([piece.numbers for piece in pieces]),
        np.concatenate([piece.first_t for piece in pieces]),
        np.concatenate([piece.last_t for piece in pieces]),
        np.concatenate([piece.rows for piece in pieces]),
        columns,
    )
    return regrouped(one, one.stride, edges)


def shown(bins: Bins, method: Method, *, keep_last: bool = False) -> tuple[FloatArray, dict[str, Column], list[str]]:
    """Return the samples that stand for bins; see `decimate`."""
    numeric = {
        name: not parts.keys().isdisjoint(("least", "greatest", "total")) for name, parts in bins.columns.items()
    }
    fell_back = [name for name, is_numeric in numeric.items() if not is_numeric]
    if method == "minmax":
        pairs = {name: _pair(parts) for name, parts in bins.columns.items()}
        t = np.stack([bins.first_t, bins.last_t], axis=1).ravel()
        # A bin with one sample has one.
        kept = np.stack([np.ones(len(bins), bool), bins.rows > 1], axis=1).ravel()
        t, columns = t[kept], {name: values[kept] for name, values in pairs.items()}
        return *(_with_last(t, columns, bins) if keep_last else (t, columns)), fell_back
    columns = {}
    for name, parts in bins.columns.items():
        if name in fell_back:
            columns[name] = parts["first"]
        elif method == "mean":
            columns[name] = np.divide(
                parts["total"], parts["count"], out=np.full(len(bins), np.nan), where=parts["count"] > 0
            )
        else:
            columns[name] = parts["least" if method == "min" else "greatest"]
    return bins.first_t, columns, fell_back


def _with_last(t: FloatArray, columns: dict[str, Column], bins: Bins) -> tuple[FloatArray, dict[str, Column]]:
    """Return the samples of ``minmax`` with the last sample of all as the last one, where an extreme stood for it.

    The extreme moves to the middle of the last bin: who shows the newest value takes the last one for it.
    """
    middle = (bins.first_t[-1] + bins.last_t[-1]) / 2.0
    last = {name: parts["last"][-1:] for name, parts in bins.columns.items()}
    stands = all(_same(columns[name][-1], value[0]) for name, value in last.items())
    if stands or not bins.first_t[-1] < middle < bins.last_t[-1]:
        return t, columns
    is_extreme = {name: "least" in parts for name, parts in bins.columns.items()}
    moved = {name: columns[name][-1:] if is_extreme[name] else columns[name][-2:-1] for name in columns}
    t = np.concatenate([t[:-1], [middle, bins.last_t[-1]]])
    return t, {name: np.concatenate([values[:-1], moved[name], last[name]]) for name, values in columns.items()}


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))  # noqa: PLR0124 - NaN


def _pair(parts: Mapping[Part, Column]) -> Column:
    """Return two values per bin: the extremes, the smaller first where the bin rises."""
    if "least" in parts:
        falls = parts["last"] < parts["first"]
        low, high = parts["least"], parts["greatest"]
        return np.stack([np.where(falls, high, low), np.where(falls, low, high)], axis=1).ravel()
    return np.stack([parts["first"], parts["last"]], axis=1).ravel()


def decimate(
    t: FloatArray, columns: Mapping[str, Column], stride: float, method: Method, *, keep_last: bool = False
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
    keep_last : bool
        Whether ``minmax`` keeps the last sample of all, too: the last bin has up to three then.

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
    numbers = [values for values in columns.values() if is_number(values)]
    fell_back = [] if method == "first" else [name for name, values in columns.items() if not is_number(values)]
    if method == "first" or not numbers:
        kept = first(t, stride)
        if keep_last and method == "minmax" and kept[-1] != len(t) - 1:
            kept = np.append(kept, len(t) - 1)
        return *_taken(t, columns, kept), fell_back
    if method == "lttb":
        return *_taken(t, columns, _largest_triangles(t, numbers, bin_starts(t, stride))), fell_back
    return shown(binned(t, columns, stride, method), method, keep_last=keep_last)


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
