"""Times and durations in the notations of Prometheus' HTTP API."""

import math
import re
from datetime import datetime

import numpy as np

from sisock.errors import BadRequest
from sisock.fields import FloatArray
from sisock.times import FARTHEST_S

MOST_STEPS = 11_000
"""Most steps of a query over a range."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_SPAN = re.compile("".join(rf"(?:(\d{{1,15}}){unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms")))
_UNITS_MS = (365 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000, 1000, 1)


def moment(name: str, text: str) -> float:
    """Read a time: UNIX seconds or RFC 3339, to the millisecond.

    Parameters
    ----------
    name : str
        Name of the parameter, for the message.
    text : str

    Raises
    ------
    BadRequest
        If it is neither, or farther than 10¹¹ seconds from 1970.
    """
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped):
        seconds = float(stripped)
    elif _RFC_3339.fullmatch(stripped):
        try:
            seconds = datetime.fromisoformat(stripped.upper()).timestamp()
        except ValueError as error:
            raise BadRequest(f"{name} is {text!r}, which is not in the calendar: {error}") from error
    else:
        raise BadRequest(f"{name} is {text!r}; give UNIX seconds, or RFC 3339 such as 2026-03-01T12:00:00Z")
    if not abs(seconds) <= FARTHEST_S:
        raise BadRequest(f"{name} is {text!r}, too far from 1970; give seconds, not milliseconds")
    return round(seconds * 1000) / 1000


def length(name: str, text: str) -> float:
    """Read a duration above 0, in seconds, to the millisecond: a number of seconds, or ``1m30s``.

    Raises
    ------
    BadRequest
        If it is neither, less than a millisecond, or more than 10¹¹ seconds.
    """
    stripped = text.strip()
    if _NUMBER.fullmatch(stripped):
        milliseconds = float(stripped) * 1000
    elif stripped and (match := _SPAN.fullmatch(stripped)):
        milliseconds = float(sum(int(n or 0) * unit for n, unit in zip(match.groups(), _UNITS_MS, strict=True)))
    else:
        raise BadRequest(f"{name} is {text!r}; give seconds, or a duration such as 15s or 1h30m")
    if not 1 <= milliseconds <= FARTHEST_S * 1000:
        raise BadRequest(f"{name} is {text!r}; it must be a millisecond or more, and no more than 10^11 s")
    return round(milliseconds) / 1000


def steps(start: float, end: float, step_s: float) -> FloatArray:
    """Return the times of a query over a range, both ends included: ndarray of float64, shape (m,), UNIX seconds.

    Raises
    ------
    BadRequest
        If `end` lies before `start`, or there are more than `MOST_STEPS` steps.
    """
    if end < start:
        raise BadRequest(f"end ({end:.15g}) lies before start ({start:.15g})")
    first, last, step = (round(seconds * 1000) for seconds in (start, end, step_s))
    number = (last - first) // step
    # Prometheus counts steps, not the points at their ends.
    if number > MOST_STEPS:
        least = math.ceil((last - first) / MOST_STEPS) / 1000
        raise BadRequest(
            f"a step of {step_s:g} s makes {number:,} steps from start to end; at most {MOST_STEPS:,} are allowed: "
            f"choose {least:g} s or more"
        )
    return (first + step * np.arange(number + 1, dtype=np.float64)) / 1000
