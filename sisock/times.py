"""Times on the wire: float64 UNIX seconds, UTC; 0 or negative means that many seconds ago."""

import math
import re
import threading
import time
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from sisock.errors import BadRequest

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
FARTHEST_S = 1e11
"""Times farther than this from 1970, in seconds, are refused: they are milliseconds, or noise."""
# The first time that is not relative, UNIX seconds.
_EARLIEST = 1e-6
_SPAN = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d|w|)$")


class Interval(NamedTuple):
    """A half-open span of time, ``[start, end)``, in UNIX seconds."""

    start: float
    end: float


class Clock(Protocol):
    """Where the time comes from; handed in, so that a test can step it."""

    def now(self) -> float:
        """Return UNIX seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds from some moment on, which go on evenly when `now` is set or jumps."""
        ...

    def wait(self, until: float, stop: threading.Event) -> bool:
        """Block the calling thread until `until` (UNIX seconds); True when `stop` was set meanwhile."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return UNIX seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since the machine was started."""
        return time.monotonic()

    def wait(self, until: float, stop: threading.Event) -> bool:
        """Block the calling thread until `until` (UNIX seconds); True when `stop` was set meanwhile."""
        return stop.wait(max(0.0, until - time.time()))


def resolve(start: float, end: float, now: float) -> Interval:
    """Turn a request's bounds into UNIX seconds.

    Parameters
    ----------
    start, end : float
        UNIX seconds if positive; otherwise seconds relative to `now`.
    now : float
        UNIX seconds, read once per request.

    Returns
    -------
    Interval
        Half-open, absolute, both bounds finite.

    Raises
    ------
    BadRequest
        If a bound is not a finite number, or `end` lies before `start`.
    """
    absolute = []
    for bound, value in (("start", start), ("end", end)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(f"{bound} is {value!r}, not a number; give seconds since 1970, or minus seconds ago")
        if not math.isfinite(value):
            raise BadRequest(f"{bound} is {value}; give seconds since 1970, or minus seconds ago")
        absolute.append(float(value) if value > 0 else now + value)
    if absolute[1] < absolute[0]:
        raise BadRequest(f"end ({end}) lies before start ({start})")
    return Interval(*absolute)


def sisock_to_unix_time(t: float) -> float:
    """Return `t` as UNIX seconds: as it is when positive, else that many seconds before now.

    The published docstring says ``time.time() - t`` for t <= 0; what is meant, what the published code did
    and what clients rely on is ``time.time() + t``.
    """
    return t if t > 0 else time.time() + t


def iso(t: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond; a time that no calendar has in seconds."""
    try:
        moment = datetime.fromtimestamp(round(t, 3), UTC)
    except (ValueError, OverflowError, OSError):
        return f"{t:g} s"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> float:
    """Read a time as people type it.

    Parameters
    ----------
    text : str
        Seconds (``1700000000.5``, ``-600``), a span before now with a unit (``-10m``, ``-1.5h``; units ms,
        s, m, h, d, w), ``now``, or ISO 8601 (``2026-03-01``, ``2026-03-01T12:00:00+01:00``; UTC when no
        zone is given; 1970 for what was before).

    Returns
    -------
    float
        A sisock time: UNIX seconds when positive, seconds relative to now when zero or negative.

    Raises
    ------
    BadRequest
        If `text` is none of these.
    """
    text = text.strip()
    if text == "now":
        return 0.0
    if match := _SPAN.match(text):
        sign, number, unit = match.groups()
        value = float(number) * _UNITS[unit]
        if unit and sign != "-" and value:
            raise BadRequest(f"{text!r} is a span; write -{text.lstrip('+')} for that long ago")
        return -value if sign == "-" else value
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(
            f"{text!r} is no time; give seconds since 1970, a span such as -10m, or ISO 8601 such as 2026-03-01T12:00"
        ) from None
    # What is not positive would mean seconds ago.
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), _EARLIEST)


def parse_span(text: str) -> float:
    """Read a length of time such as ``10``, ``500ms``, ``1s`` or ``5m`` as seconds, zero or more.

    Raises
    ------
    BadRequest
        If `text` is not a length of time.
    """
    match = _SPAN.match(text.strip())
    if not match or match[1] == "-":
        raise BadRequest(f"{text!r} is no length of time; give seconds, or a number with ms, s, m, h, d or w")
    return float(match[2]) * _UNITS[match[3]]
