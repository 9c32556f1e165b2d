"""What a query needs of the nodes, and how a long stretch of it is asked for."""

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
"""What the samples are for."""

LOOKBACK_S = 300.0
"""How old the newest sample may be, in seconds, for an instant selector to take it."""
MOST_SAMPLES = 1_000_000
"""Most samples of one series that are asked for, unless said otherwise."""

# sisock takes 0 and less as relative to now.
_EARLIEST_S = 1e-6
# Of what makes sense of fewer samples; counting does not.
_METHODS: dict[Use, Method] = {
    "instant": "first",
    "rate": "first",
    "increase": "first",
    "last_over_time": "first",
    "avg_over_time": "mean",
    "min_over_time": "min",
    "max_over_time": "max",
}
# A thinned answer has this many samples per step or window, where the limit permits.
_PER_WINDOW = 16
# With fewer, a window has no meaning any more.
_LEAST_PER_WINDOW = 4


@dataclass(frozen=True, slots=True)
class Need:
    """What a node is asked for.

    Attributes
    ----------
    start, end : float
        UNIX seconds, half-open as sisock's intervals are.
    min_stride : float or None
        Seconds; None for all samples.
    downsample : {"first", "mean", "min", "max"}
        How samples are thinned out.
    max_points : int or None
        Most samples per timeline, where it is not known how many there are.
    expected : int
        How many samples per series there will be at most, as far as is known.
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
        Which series.
    use : str
        What the samples are for: ``instant``, or the name of the function that they go into.
    span_s : float
        How far back from each time samples matter, in seconds.
    offset_s : float
        How much earlier than each time to look, in seconds; negative for later.
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
        """Return what to ask a node for.

        Parameters
        ----------
        start, end : float
            First and last time at which the query is evaluated, in UNIX seconds.
        step_s : float
            Seconds between these times; 0 when there is one.
        interval_s : float or None
            Mean seconds between samples; None if they come at any time.
        most : int
            Most samples that there may be.

        Raises
        ------
        TooLarge
            If there are more samples than `most`, and fewer would not say the same.
        """
        low, high = self.interval(start, end)
        if not interval_s:
            return Need(low, high, None, _METHODS.get(self.use, "first"), most, most)
        expected = math.ceil((high - low) / interval_s)
        if expected <= most:
            return Need(low, high, None, "first", None, expected)
        # Below the limit, the finer the better; but a few samples for each step and window are enough.
        stride = max(min(step_s or math.inf, self.span_s) / _PER_WINDOW, (high - low) / most)
        self.check_thinned(stride, most)
        return Need(low, high, stride, _METHODS[self.use], None, math.ceil((high - low) / stride))

    def check_thinned(self, stride_s: float, most: int, *, method_holds: bool = True) -> None:
        """Check that samples which are `stride_s` apart, instead of all, are good for the use.

        Parameters
        ----------
        stride_s : float
            Seconds.
        most : int
            Most samples that there may be; for the message.
        method_holds : bool
            Whether the node thins this field out as it was asked to; bools have no means and extremes.

        Raises
        ------
        TooLarge
            If they are not.
        """
        too_many = f"{self.use} of {self.selector} has more than {most:,} samples per series"
        if self.use not in _METHODS:
            raise TooLarge(f"{too_many}, and fewer cannot be counted; ask for a shorter range or fewer series")
        if not method_holds:
            raise TooLarge(f"{too_many}, and a bool field has no mean or extremes; ask for a shorter range")
        # What an instant selector finds may be older when all is thinned out; see `evaluation.look_back`.
        if self.use != "instant" and stride_s * _LEAST_PER_WINDOW > self.span_s:
            raise TooLarge(
                f"{too_many}; thinned out to one in {stride_s:.4g} s, they are too few for windows of "
                f"{self.span_s:g} s; ask for a shorter range, longer windows or fewer series"
            )
