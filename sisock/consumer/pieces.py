"""Requesting any interval in pieces that a node allows."""

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import NamedTuple

from sisock.errors import TooLarge
from sisock.fields import Samples
from sisock.times import Interval

Ask = Callable[[float, float], Samples | None]
"""Asks for the samples of a timeline between two times; None when there are none."""

# How much is asked for at first, in seconds; what a node allows is found from there.
_FIRST_SPAN = 3600.0
# Nor is less asked for than this, in seconds, before it is given up.
_LEAST_SPAN = 1e-6
# The span grows until an answer has so many values, 1 MB of float64: large enough for speed, small enough for a caller
# that reads one answer ahead.
_ENOUGH = 131_072
# By what the span is multiplied while nothing is found, and divided while answers are too large; at first it is 2.
_LEAP = 8.0
# After an answer that was too large, so many must be not before more is asked for again.
_CAUTION = 8


class Wanted(NamedTuple):
    """The next interval to request, UNIX seconds."""

    start: float
    end: float


class Piece(NamedTuple):
    """The samples of a timeline up to a time."""

    samples: Samples | None
    """None when there are none."""
    until: float
    """UNIX seconds."""


Plan = Generator[Wanted | Piece, Samples | None, None]
"""Yields requests, for which it gets the answer sent or TooLarge thrown, and pieces, for which it gets None sent."""


def pieces(ask: Ask, interval: Interval, stride: float = 0.0, *, whole_bins: bool = False) -> Iterator[Piece]:
    """Yield the samples of a timeline, in pieces as large as the node allows.

    Parameters
    ----------
    ask : callable
        Requests samples from the node, downsampled by `stride` if that is not 0.
    interval : Interval
        UNIX seconds above 0.
    stride : float
        Seconds; the samples of all pieces together equal those of a single answer.
    whole_bins : bool
        Whether samples are downsampled by bins whose edges are multiples of the stride, or else by their
        distance from each other.

    Raises
    ------
    TooLarge
        If even the shortest piece is more than the node allows.
    """
    plan = plan_requests(interval, stride, whole_bins=whole_bins)
    step = advance(plan)
    while step is not None:
        if isinstance(step, Piece):
            yield step
            step = advance(plan)
            continue
        try:
            answer = ask(*step)
        except TooLarge as error:
            step = advance(plan, error)
        else:
            step = advance(plan, answer)


def advance(plan: Plan, answer: Samples | TooLarge | None = None) -> Wanted | Piece | None:
    """Send a plan the answer to its request, and return its next step; None at the end."""
    try:
        return plan.throw(answer) if isinstance(answer, TooLarge) else plan.send(answer)
    except StopIteration:
        return None


def plan_requests(interval: Interval, stride: float, *, whole_bins: bool, only_gaps: bool = False) -> Plan:
    """Plan the requests for an interval in pieces; the caller sends them, see `pieces`.

    With `only_gaps` the pieces have no samples.
    """
    start, span, caution, was_empty, leap = interval.start, max(_FIRST_SPAN, 1000 * stride), 0, False, 2.0
    while start < interval.end:
        end = _end(start, span, interval, stride if whole_bins else 0.0)
        try:
            # A gap that ends at the very end of an empty piece is only in answers that include the moment before.
            samples = yield Wanted(math.nextafter(start, 0.0) if was_empty else start, end)
        except TooLarge as error:
            # The error has the factor if the node knows it.
            span, caution, leap = (end - start) / error.details.get("times", leap), _CAUTION, _LEAP
            if span < _LEAST_SPAN or _end(start, span, interval, stride if whole_bins else 0.0) >= end:
                raise TooLarge(f"even {end - start:g} s are more than the node allows; ask for fewer fields") from error
            continue
        yield Piece(samples and replace(samples, t=samples.t[:0], columns={}) if only_gaps else samples, end)
        was_empty = samples is None or not len(samples.t)
        leap = _LEAP if was_empty and not caution else 2.0
        if samples is None or (not caution and len(samples.t) * (len(samples.columns) + 1) < _ENOUGH):
            span *= leap
        caution = max(0, caution - 1)
        start = end
        if samples is not None and len(samples.t) and stride and not whole_bins:
            start = max(end, _first_after(float(samples.t[-1]), stride))
            if start > end:
                # No samples are requested from in between, but gaps are; one may end at the very next sample.
                between = Interval(end, min(math.nextafter(start, math.inf), interval.end))
                yield from plan_requests(between, 0.0, whole_bins=False, only_gaps=True)


def _end(start: float, span: float, interval: Interval, bins: float) -> float:
    """Return the end of a piece: after that span, at a bin edge if there are bins."""
    end = start + span
    if bins:
        end = max(math.floor(end / bins), math.floor(start / bins) + 1) * bins
        if end <= start:  # the quotient was rounded down
            end += bins
    return min(end, interval.end)


def _first_after(t: float, stride: float) -> float:
    """Return the first time that is at least `stride` after `t`, as downsampling computes it."""
    after = t + stride
    while after - t < stride:  # the sum was rounded down
        after = math.nextafter(after, math.inf)
    return after
