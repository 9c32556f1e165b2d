"""Grafana's range and number of points as a query to nodes."""

import math
import re

from sisock.downsample import Method, stride_between
from sisock.errors import BadRequest, TooLarge
from sisock.times import SYSTEM_CLOCK, Interval, parse_time
from sisock_hub.gateway.questions import Question

DEFAULT_POINTS = 2000
"""Most samples of a target where the request has no number."""
MOST_POINTS = 100_000
"""Most samples of a target in one request; no screen has so many columns."""
MOST_VALUES = 5_000_000
"""Most samples of all targets together in one request."""
LONGEST_S = 200 * 365.25 * 86400
"""Longest range, in seconds."""
_LATEST_S = 7_258_118_400.0  # the year 2200
_MILLISECONDS = re.compile(r"\d+(\.\d*)?$")


def interval(start: str | float, end: str | float) -> Interval:
    """Return the interval between two times in the notations of Grafana.

    Parameters
    ----------
    start, end : str or float
        Milliseconds since 1970, ISO 8601, ``now`` or a span before it (``now-6h``, ``-6h``).

    Returns
    -------
    Interval
        UNIX seconds, above 0.

    Raises
    ------
    BadRequest
        If one of them is not a time, the end lies before the start, or the range is too long.
    """
    now = SYSTEM_CLOCK.now()
    since, until = _moment("from", start, now), _moment("to", end, now)
    if until < since:
        raise BadRequest(f"to ({end}) lies before from ({start})")
    if until - since > LONGEST_S:
        raise BadRequest(f"from {start} to {end} are more than 200 years; choose a shorter range")
    # On the wire 0 and less are seconds ago.
    return Interval(max(since, 1e-6), max(until, 1e-6))


def _moment(name: str, value: str | float, now: float) -> float:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, float | int) or _MILLISECONDS.match(text):
        seconds = float(text) / 1000.0
        if not math.isfinite(seconds) or seconds < 0.0:
            raise BadRequest(f"{name} is {value}; give milliseconds since 1970, or ISO 8601")
    else:
        try:
            moment = parse_time(text.removeprefix("now") if text.startswith("now-") else text)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"{name}: {error}") from error
        seconds = moment if moment > 0.0 else now + moment
    if not 0.0 <= seconds <= _LATEST_S:
        raise BadRequest(f"{name} is {value}, which is not between 1970 and 2200")
    return seconds


def question(asked: Interval, max_points: int | None, interval_ms: float | None, method: Method) -> Question:
    """Return a query for at most `max_points` samples of each target, at least `interval_ms` apart.

    By default Grafana's interval is about its range divided by its points; if it is longer, the user has set it.
    """
    most, least_s = max_points or DEFAULT_POINTS, (interval_ms or 0.0) / 1000.0
    wider = least_s > stride_between(*asked, most, method)
    return Question(asked, least_s if wider else None, most, method)


def check_size(targets: int, max_points: int | None) -> None:
    """Check the size of an answer.

    Raises
    ------
    TooLarge
        If the targets may have too many points together.
    """
    most = max_points or DEFAULT_POINTS
    if targets * most > MOST_VALUES:
        raise TooLarge(
            f"{targets} targets of up to {most:,} points are more than {MOST_VALUES:,} points; ask for fewer of either"
        )
