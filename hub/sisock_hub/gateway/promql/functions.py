"""The functions of a range of samples, for all times at once; as Prometheus computes them."""

from collections.abc import Callable, Mapping

import numpy as np

from sisock.fields import FloatArray
from sisock_hub.gateway.promql.selection import Use
from sisock_hub.gateway.promql.windows import Flags, Windows, reduce_over

# Factor for sums that overflow; a power of two, so that it is exact.
_SMALLER = 2.0**-40
# Extrapolation reaches an edge of the window that is nearer than this, in mean distances of samples.
_NEAR = 1.1

RangeFunction = Callable[[FloatArray, FloatArray, Windows], tuple[FloatArray, Flags]]
"""Takes times and values of the samples, each of shape (n,), and m windows; returns values and whether they exist,
each of shape (m,)."""


def last(_t: FloatArray, values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the newest sample of each window."""
    there = over.counts > 0
    result = np.full(len(there), np.nan)
    result[there] = values[over.end[there] - 1]
    return result, there


def count(_t: FloatArray, _values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the number of samples in each window; NaN count as samples."""
    return over.counts.astype(np.float64), over.counts > 0


def mean(_t: FloatArray, values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the mean of each window."""
    there = over.counts > 0
    number = np.maximum(over.counts, 1)
    total = reduce_over(np.add, values, over.begin, over.end, 0.0)
    if not np.isfinite(total).all():
        total = reduce_over(np.add, values * _SMALLER, over.begin, over.end, 0.0)
        return total / number / _SMALLER, there
    return total / number, there


def minimum(_t: FloatArray, values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the smallest value of each window; NaN only if all are NaN."""
    return reduce_over(np.fmin, values, over.begin, over.end, np.nan), over.counts > 0


def maximum(_t: FloatArray, values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the greatest value of each window; NaN only if all are NaN."""
    return reduce_over(np.fmax, values, over.begin, over.end, np.nan), over.counts > 0


def increase(t: FloatArray, values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the increase of a counter in each window, extrapolated to its edges.

    A value that is smaller than the one before it means that the counter restarted at 0. Windows with fewer than two
    samples have no result.

    References
    ----------
    ``extrapolatedRate`` in promql/functions.go of Prometheus 3.
    """
    there = over.counts > 1
    result = np.full(len(there), np.nan)
    # The value that was lost by each restart.
    lost = np.zeros(len(values))
    lost[1:] = np.where(values[1:] < values[:-1], values[:-1], 0.0)
    first, final = over.begin[there], over.end[there] - 1
    rise = values[final] - values[first] + reduce_over(np.add, lost, first + 1, final + 1, 0.0)
    sampled = t[final] - t[first]
    distance = sampled / (final - first)
    before, after = t[first] - over.lower[there], over.upper[there] - t[final]
    before = np.where(before >= distance * _NEAR, distance / 2, before)
    # A counter was never below 0: extrapolation ends where it would be.
    counts_up = (rise > 0) & (values[first] >= 0)
    to_zero = np.full(len(rise), np.inf)
    np.divide(values[first], rise, out=to_zero, where=counts_up)
    before = np.fmin(before, sampled * to_zero)
    after = np.where(after >= distance * _NEAR, distance / 2, after)
    result[there] = rise * ((sampled + before + after) / sampled)
    return result, there


def rate(t: FloatArray, values: FloatArray, over: Windows) -> tuple[FloatArray, Flags]:
    """Return the increase of a counter per second in each window; see `increase`."""
    rise, there = increase(t, values, over)
    return rise / (over.upper - over.lower), there


FUNCTIONS: Mapping[Use, RangeFunction] = {
    "instant": last,
    "rate": rate,
    "increase": increase,
    "avg_over_time": mean,
    "min_over_time": minimum,
    "max_over_time": maximum,
    "last_over_time": last,
    "count_over_time": count,
}
