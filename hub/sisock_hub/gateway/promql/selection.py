"""The samples that a selector needs, and their downsampling in long intervals."""

import math
from dataclasses import dataclass
from typing import Literal

from sisock.downsample import Method
from sisock.errors import TooLarge
from sisock.times import Interval
from sisock_hub.gateway.promql.matching import Selector

Use = Literal[
    "instant",
    "rate",
    "increase",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "last_over_time",
    "count_over_time",
]
"""The use of the samples."""

LOOKBACK_S = 300.0
"""Seconds by which the newest sample may be older than the time of an instant selector."""
MOST_SAMPLES = 1_000_000
"""Most samples of one series, by default."""

# sisock takes 0 and less as relative to now.
_EARLIEST_S = 1e-6
# Downsampling methods by use; a count needs all samples.
_METHODS: dict[Use, Method] = {
    "instant": "first",
    "rate": "first",
    "increase": "first",
    "last_over_time": "first",
    "avg_over_time": "mean",
    "min_over_time": "min",
    "max_over_time": "max",
}
# Samples per step or window of a downsampled answer, where the limit permits.
_PER_WINDOW = 16
# Minimum samples of a meaningful window.
_LEAST_PER_WINDOW = 4


@dataclass(frozen=True, slots=True)
class Need:
    """The query to a node.

    Attributes
    ----------
    start, end : float
        UNIX seconds, half-open as sisock's intervals are.
    min_stride : float or None
        Seconds; None for all samples.
    downsample : {"first", "mean", "min", "max"}
        Downsampling method.
    max_points : int or None
        Most samples per timeline, where their number is unknown.
    expected : int
        Expected maximum of samples per series.
    """

    start: float
    end: float
    min_stride: float | None
    downsample: Method
    max_points: int | None
    expected: int


@dataclass(frozen=True, slots=True)
class Selection:
    """A selector in a query.

    Attributes
    ----------
    selector : Selector
        Selects the series.
    use : str
        The use of the samples: ``instant``, or the name of a function.
    span_s : float
        Seconds before each time in which samples matter.
    offset_s : float
        Seconds by which each time is shifted to the past; negative for the future.
    """

    selector: Selector
    use: Use
    span_s: float = LOOKBACK_S
    offset_s: float = 0.0

    def interval(self, start: float, end: float) -> Interval:
        """Return the samples that matter for times from `start` to `end`, both included, in UNIX seconds.

        Half-open, as sisock's intervals are; not before 1970, since sisock takes such bounds as relative to now.
        """
        first, last = start - self.offset_s - self.span_s, end - self.offset_s
        return Interval(max(first, _EARLIEST_S), max(math.nextafter(last, math.inf), _EARLIEST_S))

    def need(self, start: float, end: float, step_s: float, interval_s: float | None, most: int = MOST_SAMPLES) -> Need:
        """Return the query to a node.

        Parameters
        ----------
        start, end : float
            First and last time at which the query is evaluated, in UNIX seconds.
        step_s : float
            Seconds between these times; 0 if there is one.
        interval_s : float or None
            Mean seconds between samples; None if they are aperiodic.
        most : int
            Maximum number of samples.

        Raises
        ------
        TooLarge
            If there are more samples than `most`, and downsampling would change the result.
        """
        low, high = self.interval(start, end)
        if not interval_s:
            return Need(low, high, None, _METHODS.get(self.use, "first"), most, most)
        expected = math.ceil((high - low) / interval_s)
        if expected <= most:
            return Need(low, high, None, "first", None, expected)
        # Finer is better, up to the limit; some samples per step and window are enough.
        stride = max(min(step_s or math.inf, self.span_s) / _PER_WINDOW, (high - low) / most)
        self.check_stride(stride, most)
        return Need(low, high, stride, _METHODS[self.use], None, math.ceil((high - low) / stride))

    def check_stride(self, stride_s: float, most: int, *, method_holds: bool = True) -> None:
        """Check that samples downsampled by `stride_s` are sufficient for the use.

        Parameters
        ----------
        stride_s : float
            Seconds.
        most : int
            Maximum number of samples, for the message.
        method_holds : bool
            Whether the node applies the method to this field; bools have no mean and extremes.

        Raises
        ------
        TooLarge
            If they are not sufficient.
        """
        too_many = f"{self.use} of {self.selector} has more than {most:,} samples per series"
        if self.use not in _METHODS:
            raise TooLarge(f"{too_many}, and fewer cannot be counted; choose a shorter range or fewer series")
        if not method_holds:
            raise TooLarge(f"{too_many}, and a bool field has no mean or extremes; choose a shorter range")
        # For downsampled samples an instant selector looks back farther; see `evaluation.look_back`.
        if self.use != "instant" and stride_s * _LEAST_PER_WINDOW > self.span_s:
            raise TooLarge(
                f"{too_many}; downsampled to one in {stride_s:.4g} s, they are too few for windows of "
                f"{self.span_s:g} s; choose a shorter range, longer windows or fewer series"
            )
