"""Downsampling: the methods, and the functions that apply them. Pure functions of arrays.

`METHODS` is the one list of methods: options, schemas, documentation and errors are made from it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sisock.bins import Bins, Indices, Statistic, bin_starts, binned, is_reduced
from sisock.errors import BadRequest
from sisock.fields import Column, FloatArray

Method = Literal["first", "mean", "min", "max", "minmax", "lttb"]

# Exponent of the widest stride: 2**50 s are 35 million years.
_COARSEST = 50


@dataclass(frozen=True, slots=True)
class DownsamplingMethod:
    """How the samples of a timeline are downsampled.

    A method has either `reduce` or `choose`.

    Attributes
    ----------
    description : str
        For help texts and documentation.
    needs_stride : bool
        Whether it divides time into bins; ``first`` does not, and keeps all samples without a stride.
    points_per_bin : {1, 2}
        Samples that represent a bin: one at the time of its first sample, or two at the times of its first and last.
        Where there is room, a method with two keeps the last sample of the interval, too.
    statistics : tuple of Statistic
        Statistics that `reduce` needs besides the first and the last value.
    reduce : callable, optional
        Returns the values of a field from the statistics of n bins, `points_per_bin` * n of them. Such a method is
        applied to the summaries of a history.
    choose : callable, optional
        Returns the indices of the samples to keep from times, columns of numbers and the stride.
    """

    description: str
    needs_stride: bool = True
    points_per_bin: int = 1
    statistics: tuple[Statistic, ...] = ()
    reduce: Callable[[Mapping[Statistic, Column]], Column] | None = None
    choose: Callable[[FloatArray, Sequence[Column], float], Indices] | None = None

    @property
    def needs_all_samples(self) -> bool:
        """Whether it needs all samples of the interval in memory at once."""
        return self.needs_stride and self.reduce is None

    @property
    def keeps_last(self) -> bool:
        """Whether the last sample of the interval is kept where there is room for it."""
        return self.points_per_bin > 1


def method_named(name: object, option: str = "downsample") -> Method:
    """Return the name of a method after checking it.

    Parameters
    ----------
    name : object
        As the client wrote it.
    option : str
        Where the client wrote it; named in the error.

    Raises
    ------
    BadRequest
        If there is no such method.
    """
    for known in METHODS:
        if known == name:
            return known
    raise BadRequest(f"{option} is {name!r}; give one of {', '.join(METHODS)}")


def methods_help() -> str:
    """Return the methods with their descriptions, for help texts and schemas."""
    return "; ".join(f"{name}: {method.description}" for name, method in METHODS.items())


def first(t: FloatArray, min_stride: float, after: float = -math.inf) -> Indices:
    """Return the indices of the first sample, then of each next one at least `min_stride` later.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds.
    min_stride : float
        Seconds, 0 or more.
    after : float
        Time of the last chosen sample of the preceding block, if any.

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
    if most * 8 < n:  # few samples are kept: look each of them up
        while (nxt := _at_least(t, float(t[kept[-1]]), min_stride)) < n:
            kept.append(nxt)
    else:  # many are kept: find every sample's successor in one pass, then follow them
        successors = np.searchsorted(t, t + min_stride, side="left")
        # t + stride is rounded; a successor may be an ulp too near.
        inside = successors < n
        near = np.flatnonzero(inside)[t[successors[inside]] - t[inside] < min_stride]
        successors[near] += 1
        following = successors.tolist()
        index = following[0]
        while index < n:
            kept.append(index)
            index = following[index]
    return np.asarray(kept, dtype=np.intp)


def _at_least(t: FloatArray, after: float, min_stride: float) -> int:
    """Return the index of the first time at least `min_stride` after `after`."""
    j = int(np.searchsorted(t, after + min_stride, side="left"))
    while j < len(t) and t[j] - after < min_stride:  # the sum is rounded
        j += 1
    return j


def stride_for(t: FloatArray, max_points: int, method: Method) -> float:
    """Return the stride, in seconds, that leaves at most `max_points` samples; 0 where no more than that exist."""
    return stride_between(float(t[0]), float(t[-1]), max_points, method) if len(t) > max_points else 0.0


def stride_between(low: float, high: float, max_points: int, method: Method) -> float:
    """Return the stride, in seconds, that leaves at most `max_points` samples between two times.

    It is a power of two, so that it stays the same while a live interval grows a little, and so that bins consist
    of whole bins of the strides below it. It depends on the length of the span alone: panning does not change it.
    """
    per_bin = METHODS[method].points_per_bin
    bins = max(1, (max_points - 1) // per_bin) if per_bin > 1 else max_points  # with room for the last sample
    # A span as long as n strides may overlap n + 1 bins.
    exponent = math.ceil(math.log2(max(high - low, 1e-9) / bins))
    while exponent < _COARSEST and int((high - low) / 2.0**exponent) + 2 > bins:
        exponent += 1
    return 2.0**exponent if exponent < _COARSEST else math.inf


def keeps_last(max_points: int | None) -> bool:
    """Whether the last sample is kept, too: where there is room for it besides two samples of a bin."""
    return max_points is not None and max_points > 2


def downsampled(
    t: FloatArray, columns: Mapping[str, Column], stride: float, method: Method, *, keep_last: bool = False
) -> tuple[FloatArray, dict[str, Column], list[str]]:
    """Return fewer samples of a timeline.

    Parameters
    ----------
    t : ndarray of float64, shape (n,)
        Ascending times in seconds.
    columns : mapping of str to ndarray, each of shape (n,)
    stride : float
        Seconds; the smallest distance for ``first``, the width of the bins for other methods.
    method : Method
        A key of `METHODS`. NaN counts only where a bin has nothing else.
    keep_last : bool
        Whether a method with two samples per bin keeps the last sample, too: the last bin has up to three then.

    Returns
    -------
    t : ndarray of float64, shape (m,)
    columns : dict of str to ndarray, each of shape (m,)
    fell_back : list of str
        Fields that are not numbers and, unless the method is ``mean``, arrays; they have their values at the times
        of `t`.
    """
    if not len(t) or stride <= 0:
        return t, dict(columns), []
    how = METHODS[method]
    fell_back = [name for name, values in columns.items() if not is_reduced(values, how.statistics)]
    numbers = [values for name, values in columns.items() if name not in fell_back]
    fell_back = fell_back if how.needs_stride else []
    if how.choose is not None or not numbers:
        choose = how.choose if how.choose is not None and numbers else _choose_first
        kept = choose(t, numbers, stride)
        if not numbers and keep_last and how.keeps_last and kept[-1] != len(t) - 1:
            kept = np.append(kept, len(t) - 1)
        return t[kept], {name: values[kept] for name, values in columns.items()}, fell_back
    return samples_of(binned(t, columns, stride, how.statistics), method, keep_last=keep_last)


def samples_of(
    bins: Bins, method: Method, *, keep_last: bool = False
) -> tuple[FloatArray, dict[str, Column], list[str]]:
    """Return the samples that represent bins, for a method that has `reduce`; see `downsampled`."""
    how = METHODS[method]
    if how.reduce is None:
        raise ValueError(f"method {method} is not applied to bins")
    fell_back = [
        name for name, known in bins.columns.items() if known.keys().isdisjoint(("least", "greatest", "total"))
    ]
    if how.points_per_bin == 1:
        reduced = {name: s["first"] if name in fell_back else how.reduce(s) for name, s in bins.columns.items()}
        return bins.first_t, reduced, fell_back
    pairs = {
        name: _interleaved(s["first"], s["last"]) if name in fell_back else how.reduce(s)
        for name, s in bins.columns.items()
    }
    # A bin with one sample is represented by one.
    kept = _interleaved(np.ones(len(bins), bool), bins.rows > 1)
    t, columns = _interleaved(bins.first_t, bins.last_t)[kept], {name: pairs[name][kept] for name in pairs}
    return *(_with_last(t, columns, bins) if keep_last else (t, columns)), fell_back


def _with_last(t: FloatArray, columns: dict[str, Column], bins: Bins) -> tuple[FloatArray, dict[str, Column]]:
    """Return the samples with the last of all as the last one, where another one represented it.

    The replaced sample moves to the middle of the last bin: a display takes the last value for the newest.
    """
    middle = (bins.first_t[-1] + bins.last_t[-1]) / 2.0
    last = {name: summary["last"][-1:] for name, summary in bins.columns.items()}
    is_kept = all(_same(columns[name][-1], value[0]) for name, value in last.items())
    if is_kept or not bins.first_t[-1] < middle < bins.last_t[-1]:
        return t, columns
    is_extreme = {name: "least" in summary for name, summary in bins.columns.items()}
    moved = {name: columns[name][-1:] if is_extreme[name] else columns[name][-2:-1] for name in columns}
    t = np.concatenate([t[:-1], [middle, bins.last_t[-1]]])
    return t, {name: np.concatenate([values[:-1], moved[name], last[name]]) for name, values in columns.items()}


def _same(a: Any, b: Any) -> bool:
    return bool(np.all((a == b) | ((a != a) & (b != b))))  # noqa: PLR0124 - NaN


def _interleaved(a: Column, b: Column) -> Column:
    return np.stack([a, b], axis=1).reshape(-1, *a.shape[1:])


def _choose_first(t: FloatArray, _: Sequence[Column], stride: float) -> Indices:
    return first(t, stride)


def _mean(summary: Mapping[Statistic, Column]) -> Column:
    total, count = summary["total"], summary["count"]
    means: Column = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return means


def _extremes(summary: Mapping[Statistic, Column]) -> Column:
    """Return minimum and maximum of each bin, the minimum first where the bin rises."""
    falls = summary["last"] < summary["first"]
    low, high = summary["least"], summary["greatest"]
    return _interleaved(np.where(falls, high, low), np.where(falls, low, high))


def _largest_triangles(t: FloatArray, columns: Sequence[Column], stride: float) -> Indices:
    """Return, per bin, the sample that spans the largest triangle with the preceding choice and the next bin's mean.

    With several columns the areas are added, each scaled by the range of its column.

    References
    ----------
    S. Steinarsson, Downsampling Time Series for Visual Representation, University of Iceland, 2013.
    """
    starts = bin_starts(t, stride)
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


METHODS: dict[Method, DownsamplingMethod] = {
    "first": DownsamplingMethod(
        "the first sample, then the next at least a stride later", needs_stride=False, choose=_choose_first
    ),
    "mean": DownsamplingMethod("the mean of each bin", statistics=("total", "count"), reduce=_mean),
    "min": DownsamplingMethod("the minimum of each bin", statistics=("least",), reduce=lambda each: each["least"]),
    "max": DownsamplingMethod(
        "the maximum of each bin", statistics=("greatest",), reduce=lambda each: each["greatest"]
    ),
    "minmax": DownsamplingMethod(
        "minimum and maximum of each bin, so that no spike is lost",
        points_per_bin=2,
        statistics=("least", "greatest"),
        reduce=_extremes,
    ),
    "lttb": DownsamplingMethod("one sample of each bin, chosen for the eye", choose=_largest_triangles),
}
"""The downsampling methods by their names, the default of the wire first."""
