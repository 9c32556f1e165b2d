"""Times and durations in the types of Python programs, as seconds."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from sisock.errors import BadRequest
from sisock.times import FARTHEST_S, in_range, parse_span, parse_start, parse_time

if TYPE_CHECKING:
    import numpy

Time: TypeAlias = Union[float, str, date, timedelta, "numpy.datetime64", "numpy.timedelta64"]
"""A time as Python programs have it, see `as_time`; pandas' Timestamp and Timedelta are a datetime and a timedelta."""
Span: TypeAlias = Union[float, str, timedelta, "numpy.timedelta64"]
"""A duration of a Python program, see `as_span`."""
_TIMES = (
    "give UNIX seconds, minus seconds before now, a string ('now', '-1h30m', '2026-03-01T12:00', in UTC if it names no "
    "zone), a datetime, date, pandas Timestamp or NumPy datetime64 (the same), or a negative timedelta"
)


def as_time(value: Time, name: str = "the time") -> float:
    """Return a time, in any of the forms that Python programs have, as a sisock time.

    Parameters
    ----------
    value : float, str, datetime, date, timedelta, numpy.datetime64 or numpy.timedelta64
        Numbers are UNIX seconds if positive, otherwise seconds relative to now. Strings are read by `parse_time`. A
        datetime, pandas Timestamp or datetime64 without a zone is in UTC, as strings are; before 1970 it is 1970,
        after 5138 it is 5138. A timedelta is relative to now, and negative.
    name : str
        What the time is, for the error.

    Returns
    -------
    float
        UNIX seconds when positive, seconds relative to now when zero or negative.

    Raises
    ------
    BadRequest
        If it is none of these, not finite, or not in seconds.
    """
    if type(value) is float or type(value) is int:  # the usual, and the quick way
        return _plausible(_as_float(value), value, name)
    if isinstance(value, str):
        try:
            return _plausible(parse_time(value), value, name)
        except BadRequest as error:
            raise BadRequest(f"{name}: {error.message}") from None
    if isinstance(value, datetime) and value == value:  # noqa: PLR0124 - pandas' NaT is a datetime, too
        return in_range((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, date) and not isinstance(value, datetime):
        return in_range(datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp())
    if (span := _timedelta_seconds(value)) is not None:
        if span > 0:
            raise BadRequest(f"{name} is {value!r}, a positive span; give a negative one for that long ago")
        return span
    return _numpy_time(value, name)


def as_start(value: Time) -> float:
    """Return the start of an interval: a time, see `as_time`, or ``"all"`` for the first sample.

    Raises
    ------
    BadRequest
        If it is none of these.
    """
    if not isinstance(value, str):
        return as_time(value, "start")
    try:
        return _plausible(parse_start(value), value, "start")
    except BadRequest as error:
        raise BadRequest(f"start: {error.message}") from None


def _plausible(t: float, value: object, name: str) -> float:
    """Return a time that is finite and in seconds."""
    if not math.isfinite(t):
        raise BadRequest(f"{name} is {value!r}, not a time; {_TIMES}")
    if abs(t) > FARTHEST_S:
        raise BadRequest(f"{name} is {value!r}; times are in seconds, not in milliseconds or less")
    return t


def _as_float(value: float) -> float:
    """Return a number as a float64, infinite where it has no room for it."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _as_number(value: Any) -> float | None:
    """Return a number, be it Python's or NumPy's, as a float64; None if it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _as_float(value)
    if type(value).__module__ != "numpy" or type(value).__name__ == "timedelta64":  # which is an integer to NumPy
        return None
    import numpy as np

    return float(value) if isinstance(value, np.integer | np.floating) else None


def _numpy_time(value: Any, name: str) -> float:
    import numpy as np

    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.datetime64) and not np.isnat(value):
        try:
            whole = value.astype("datetime64[s]")  # nanoseconds since 1970 are more than a float64 has digits for
            return in_range(int(whole.astype(np.int64)) + float((value - whole) / np.timedelta64(1, "s")))
        except OverflowError as error:  # attoseconds
            raise BadRequest(f"{name} is {value!r}; give datetime64 in picoseconds or coarser") from error
    if (number := _as_number(value)) is not None:
        return _plausible(number, value, name)
    raise BadRequest(f"{name} is {value!r}, not a time; {_TIMES}")


def _timedelta_seconds(value: Any) -> float | None:
    """Return the seconds of a timedelta, be it Python's, pandas' or NumPy's; None if it is none, or not a time."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return seconds if math.isfinite(seconds) else None
    if type(value).__name__ != "timedelta64":
        return None
    import numpy as np

    # Months and years have no fixed number of seconds; a number without a unit is not a duration.
    fits = isinstance(value, np.timedelta64) and np.datetime_data(value.dtype)[0] not in ("Y", "M", "generic")
    return float(value / np.timedelta64(1, "s")) if fits and not np.isnat(value) else None


def as_span(value: Span, name: str = "the duration") -> float:
    """Return a duration, in any of the types of Python programs, as seconds above 0.

    Parameters
    ----------
    value : float, str, timedelta or numpy.timedelta64
        Numbers are seconds; strings are read by `parse_span`, such as ``"500ms"``.
    name : str
        Name of the value in the error.

    Raises
    ------
    BadRequest
        If it is none of these, or not above 0.
    """
    seconds = _timedelta_seconds(value)
    if isinstance(value, str):
        seconds = parse_span(value)
    elif seconds is None:
        seconds = _as_number(value)
    if seconds is None or not 0 < seconds < math.inf:
        raise BadRequest(f"{name} is {value!r}; give a duration above 0: seconds, text such as '10s', or a timedelta")
    return seconds
