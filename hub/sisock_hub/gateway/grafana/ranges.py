"""What Grafana says of time and of how many points it can draw, as a question for nodes."""

import math
import re

from sisock.downsample import Method, stride_between
from sisock.errors import BadRequest, TooLarge
from sisock.times import SYSTEM_CLOCK, Interval, parse_time
from sisock_hub.gateway.questions import Question

DEFAULT_POINTS = 2000
"""Most samples of a target where a request does not say how many."""
MOST_POINTS = 100_000
"""Most samples of a target that a request may ask for; no screen has so many columns."""
MOST_VALUES = 5_000_000
"""Most samples of all targets together that a request may ask for."""
LONGEST_S = 200 * 365.25 * 86400
"""Longest range, in seconds."""
_LATEST_S = 7_258_118_400.0  # the year 2200
_MILLISECONDS = re.compile(r"\d+(\.\d*)?$")


def interval(start: str | float, end: str | float) -> Interval:
    """Return the interval between two times as Grafana writes them.

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
        If one of them is no time, they are the wrong way round, or the range is too long.
    """
    now = SYSTEM_CLOCK.now()
    since, until = _moment("from", start, now), _moment("to", end, now)
    if until < since:
        raise BadRequest(f"to ({end}) lies before from ({start})")
    if until - since > LONGEST_S:
        raise BadRequest(f"from {start} to {end} are more than 200 years; ask for a shorter range")
    # On the wire 0 and less are seconds ago.
    return Interval(max(since, 1e-6), max(until, 1e-6))


def _moment(name: str, said: str | float, now: float) -> float:
    text = said.strip() if isinstance(said, str) else said
    if isinstance(text, float | int) or _MILLISECONDS.match(text):
        seconds = float(text) / 1000.0
        if not math.isfinite(seconds) or seconds < 0.0:
            raise BadRequest(f"{name} is {said}; give milliseconds since 1970, or ISO 8601")
    else:
        try:
            moment = parse_time(text.removeprefix("now") if text.startswith("now-") else text)
        except (ValueError, OverflowError) as error:
            raise BadRequest(f"{name}: {error}") from error
        seconds = moment if moment > 0.0 else now + moment
    if not 0.0 <= seconds <= _LATEST_S:
        raise BadRequest(f"{name} is {said}, which is not between 1970 and 2200")
    return seconds


def question(asked: Interval, max_points: int | None, interval_ms: float | None, method: Method) -> Question:
    """Return how samples are to be had: at most `max_points` of each target, at least `interval_ms` apart.

    Grafana's interval is about its range by its points, so that it says nothing new; where it is longer than
    what the points give, somebody has asked for it.
    """
    most, least_s = max_points or DEFAULT_POINTS, (interval_ms or 0.0) / 1000.0
    wider = least_s > stride_between(*asked, most, method)
    return Question(asked, least_s if wider else None, most, method)


def check_size(targets: int, max_points: int | None) -> None:
    """Check that an answer can be had at once.

    Raises
    ------
    TooLarge
        If so many targets with so many points are too much.
    """
    most = max_points or DEFAULT_POINTS
    if targets * most > MOST_VALUES:
        raise TooLarge(
            f"{targets} targets of up to {most:,} points are more than {MOST_VALUES:,} points; ask for fewer of either"
        )
