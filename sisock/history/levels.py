"""Summaries of a sealed segment from the levels of its pyramid, and from its samples where the interval cuts bins."""

import math
from collections.abc import Iterator, Sequence

from sisock.bins import Bins, binned, regrouped
from sisock.downsample import METHODS, Method
from sisock.history.blocks import Block
from sisock.history.sealed import Sealed
from sisock.times import Interval


def sealed_bins(
    sealed: Sealed, names: Sequence[str], interval: Interval, stride: float, method: Method
) -> Iterator[Bins]:
    """Yield bins of `stride` from the widest level that they consist of; what the interval cuts, from finer ones."""
    usable = [e for e in sealed.exponents() if math.isinf(stride) or (stride / 2.0**e).is_integer()]
    low, high = interval
    if usable:
        # Beyond the segment's own samples the interval cuts nothing.
        width = 2.0 ** usable[-1]
        low = math.floor(sealed.first / width) * width if low <= sealed.first else low
        high = (math.floor(sealed.last / width) + 1) * width if high > sealed.last else high
    for piece in _from_levels(sealed, names, low, high, usable[::-1], method):
        bins = piece if isinstance(piece, Bins) else binned(*piece, stride, METHODS[method].statistics)
        yield regrouped(bins, stride)


def _from_levels(
    sealed: Sealed, names: Sequence[str], low: float, high: float, exponents: Sequence[int], method: Method
) -> Iterator[Bins | Block]:
    """Yield the samples in ``[low, high)``: whole bins of the first level, and the rest from the levels after it."""
    if not exponents:
        rows = sealed.rows(Interval(low, high), names)
        if len(rows[0]):
            yield rows
        return
    width, finer = 2.0 ** exponents[0], exponents[1:]
    start, end = math.ceil(low / width) * width, math.floor(high / width) * width
    if start >= end:
        yield from _from_levels(sealed, names, low, high, finer, method)
        return
    if low < start:
        yield from _from_levels(sealed, names, low, start, finer, method)
    if bins := sealed.bins(
        exponents[0], (start / width, end / width), names, ("first", "last", *METHODS[method].statistics)
    ):
        yield bins
    if end < high:
        yield from _from_levels(sealed, names, end, high, finer, method)
