"""Times on the wire: float64 UNIX seconds, UTC; 0 or negative means that many seconds ago."""

import ctypes
import math
import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

from sisock.errors import BadRequest

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGES = ((31_557_600.0, "year"), (86400.0, "d"), (3600.0, "h"), (60.0, "min"))
FARTHEST_S = 1e11
"""Times farther than this from 1970, in seconds, are refused: they are milliseconds, or noise."""
EARLIEST = 1e-6
"""The first time that is not relative, UNIX seconds."""
# Guesses of a unit assume that samples are not older than this, in seconds.
_PLAUSIBLE_S = 20 * 31_557_600.0
_UNIT_NAMES = {0: "seconds", -3: "milliseconds", -6: "microseconds", -9: "nanoseconds"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The digits beyond a microsecond of a time of day.
_FINER = re.compile(r"[T ]\d\d:?\d\d:?\d\d[.,]\d{6}(\d{1,20})", re.IGNORECASE)
# Of adjtimex(2).
_TIME_ERROR, _UNSYNCHRONISED, _NANOSECONDS = 5, 0x40, 0x2000
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
# Either seconds without a unit, or a number for each of some units, the largest first.
_SPAN_UNITS = ("", "w", "d", "h", "m", "s", "ms")
_PARTS = "".join(rf"(?:{_NUMBER}\s*{unit}(?![a-z])\s*)?" for unit in _SPAN_UNITS[1:])
_SPAN = re.compile(rf"([+-]?)(?:{_NUMBER}|(?=[\d.]){_PARTS})")


class Interval(NamedTuple):
    """A half-open span of time, ``[start, end)``, in UNIX seconds."""

    start: float
    end: float


class Clock(Protocol):
    """A source of time, with ways to wait; passed in, so that a test can step it."""

    def now(self) -> float:
        """Return UNIX seconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment, not affected when `now` is set or jumps."""
        ...

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Block the calling thread until `event` is set, for at most `timeout_s`; return whether it is set."""
        ...

    def wake(self, event: threading.Event) -> None:
        """Set an event that a thread waits for by `wait`; with a stepped clock, sooner than the event alone."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling coroutine of asyncio."""
        ...

    def hold(self) -> Callable[[], None] | None:
        """Have time stand still until the returned function is called; None for a clock that nobody steps.

        For a thread that this clock has woken and that passes its work to another one.
        """
        ...

    def synchronised(self) -> bool | None:
        """Return whether `now` is kept by a time server or another reference; None if that is unknown."""
        ...

    def boot(self) -> str | None:
        """Return an identifier of the span over which `monotonic` counts; None if that is unknown."""
        ...


class SystemClock:
    """The machine's clock."""

    # Without a function of Python's around them: a batch reads the clock ten times on its way.
    now = staticmethod(time.time)
    """Return UNIX seconds."""
    monotonic = staticmethod(time.monotonic)
    """Return seconds since the machine was started."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Block the calling thread until `event` is set, for at most `timeout_s`; return whether it is set."""
        return event.wait(timeout_s)

    def wake(self, event: threading.Event) -> None:
        """Set an event that a thread waits for."""
        event.set()

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling coroutine of asyncio."""
        import asyncio

        await asyncio.sleep(seconds)

    def hold(self) -> None:
        """Return None: nobody steps this clock."""

    def synchronised(self) -> bool | None:
        """Return whether the kernel calls its clock synchronised; None if it does not report that."""
        state = kernel_clock()
        return state.synchronised if state else None

    def boot(self) -> str | None:
        """Return the kernel's boot id; None where there is none."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
        except OSError:
            return None


SYSTEM_CLOCK = SystemClock()
"""The default clock."""


def wait_until(
    condition: Callable[[], object], timeout_s: float = math.inf, *, every_s: float = 0.02, clock: Clock = SYSTEM_CLOCK
) -> bool:
    """Block the calling thread until a condition holds, for at most `timeout_s`; return whether it holds."""
    deadline, never = clock.monotonic() + timeout_s, threading.Event()
    while not condition():
        if clock.monotonic() >= deadline:
            return False
        clock.wait(never, every_s)
    return True


class KernelClock(NamedTuple):
    """State of the kernel's clock.

    Attributes
    ----------
    synchronised : bool
    offset_s : float
        Seconds that are still to be added to the clock; NaN while it is not synchronised.
    """

    synchronised: bool
    offset_s: float


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, and more room than the rest of it needs."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 64),
    )


def kernel_clock() -> KernelClock | None:
    """Return the state of the kernel's clock; None where the system does not report it.

    References
    ----------
    adjtimex(2)
    """
    timex = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    synchronised = state != _TIME_ERROR and not timex.status & _UNSYNCHRONISED
    unit = 1e-9 if timex.status & _NANOSECONDS else 1e-6
    return KernelClock(synchronised, timex.offset * unit if synchronised else math.nan)


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
    """Return `t` as UNIX seconds: unchanged if positive, else relative to now.

    The published docstring gives ``time.time() - t`` for t <= 0; the published code returned ``time.time() + t``,
    and clients rely on that.
    """
    return t if t > 0 else SYSTEM_CLOCK.now() + t


def iso(t: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond; a time outside the calendar in seconds."""
    try:
        moment = datetime.fromtimestamp(round(t, 3), UTC)
    except (ValueError, OverflowError, OSError):
        return f"{t:g} s"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(age_s: float) -> str:
    """Return an age as text, such as ``13 h ago``; a negative age is ``ahead of the clock``."""
    length = abs(age_s)
    size, unit = next((each for each in _AGES if length >= each[0]), (1.0, "s"))
    number = f"{length:.1f}" if length < 1.0 else f"{int(length / size)}"
    text = f"{number} {unit}{'s' if unit == 'year' and length >= 2 * size else ''}"
    return f"{text} ago" if age_s >= 0 else f"{text} ahead of the clock"


class UnitGuess(NamedTuple):
    """A possible unit of times: its name, and its length in seconds."""

    name: str
    scale: float


def guess_unit(t: float, now: float, scale: float = 1.0) -> UnitGuess | None:
    """Return the unit that brings a time close to now; None if none does.

    Parameters
    ----------
    t : float
        UNIX seconds, if the unit had `scale` seconds.
    now, scale : float
    """
    for exponent in (-3, -6, -9, 3, 6, 9):
        if -_PLAUSIBLE_S <= t * 10.0**exponent - now <= _UNITS["d"]:
            unit = math.log10(scale) + exponent
            if round(unit) in _UNIT_NAMES and abs(unit - round(unit)) < 1e-6:
                return UnitGuess(_UNIT_NAMES[round(unit)], 10.0 ** round(unit))
    return None


def refusal(t: Iterable[float], now: float, scale: float, setting: Callable[[UnitGuess], str]) -> str:
    """Return the reason for which samples with such times are all refused, with a guess of their unit.

    Parameters
    ----------
    t : iterable of float
        UNIX seconds, if their unit has `scale` seconds; NaN where there is none.
    now, scale : float
    setting : callable
        Returns the setting to change if they are in a unit.
    """
    known = sorted(each for each in t if not math.isnan(each))
    if not known:
        return "all samples are refused: they have no time that can be read"
    middle = known[len(known) // 2]
    apart = middle - now
    by = f"{abs(apart) / _UNITS['d']:,.0f} days" if abs(apart) < 3e9 else f"{abs(apart) / 31_557_600.0:,.0f} years"
    where = f"{by} {'ahead of' if apart > 0 else 'behind'} the clock"
    text = f"all samples are refused: a time among them is {middle:g} s, {where}"
    guess = guess_unit(middle, now, scale)
    return f"{text}. Are these {guess.name}? {setting(guess)}" if guess else text


def parse_time(text: str) -> float:
    """Parse a time of a command line, a site file or a request.

    Parameters
    ----------
    text : str
        Seconds (``1700000000.5``, ``-600``), a span before now with units (``-10m``, ``-1.5h``, ``-1h30m``; units
        w, d, h, m, s, ms), ``now``, or ISO 8601 (``2026-03-01``, ``2026-03-01T12:00:00+01:00``; UTC when no
        zone is given; clamped to the years 1970 to 5138).

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
    if match := _SPAN.fullmatch(text):
        sign, value = match[1], _seconds(match)
        if match[2] is None and sign != "-" and value:
            raise BadRequest(f"{text!r} is a span; write -{text.lstrip('+')} for that long ago")
        return -value if sign == "-" else value
    try:
        seconds, _ = read_iso(text)
    except ValueError:
        raise BadRequest(
            f"{text!r} is not a valid time; give seconds since 1970, a span such as -10m, "
            "or ISO 8601 such as 2026-03-01T12:00"
        ) from None
    return in_range(seconds)


def in_range(t: float) -> float:
    """Return a time of a calendar, UNIX seconds, clamped to the years of requests: 1970 to 5138."""
    # Zero and negative times are relative to now.
    return min(max(t, EARLIEST), FARTHEST_S)


def read_iso(text: str) -> tuple[float, bool]:
    """Return the UNIX seconds of an ISO 8601 text, in UTC if it names no zone, and whether it names one.

    They are the nearest float64; `datetime` would truncate to microseconds.

    Raises
    ------
    ValueError
        If `text` is not ISO 8601.
    OverflowError
        If the time is outside the calendar.
    """
    named = datetime.fromisoformat(text)
    moment = named if named.tzinfo else named.replace(tzinfo=UTC)
    finer = _FINER.search(text)
    if finer is None:
        return moment.timestamp(), named.tzinfo is not None
    digits = finer[1]
    microseconds = (moment - _EPOCH) // timedelta(microseconds=1)
    return float(
        Fraction(microseconds * 10 ** len(digits) + int(digits), 10 ** (6 + len(digits)))
    ), named.tzinfo is not None


def parse_start(text: str) -> float:
    """Parse the start of an interval: a time, see `parse_time`, or ``all`` for the first sample.

    Raises
    ------
    BadRequest
        If `text` is none of these.
    """
    if text.strip() == "all":
        return EARLIEST
    try:
        return parse_time(text)
    except BadRequest as error:
        raise BadRequest(f"{error.message}, or all for the first sample") from None


def _seconds(match: re.Match[str]) -> float:
    """Return the seconds of a span, without its sign."""
    numbers = zip(_SPAN_UNITS, match.groups()[1:], strict=True)
    return sum(float(number) * _UNITS[unit] for unit, number in numbers if number is not None)


def parse_span(text: str) -> float:
    """Parse a duration such as ``10``, ``500ms``, ``5m`` or ``1h30m`` as seconds, zero or more.

    Raises
    ------
    BadRequest
        If `text` is not a duration.
    """
    match = _SPAN.fullmatch(text.strip())
    if not match or match[1] == "-":
        raise BadRequest(f"{text!r} is not a valid duration; give seconds, or numbers with w, d, h, m, s or ms: 1h30m")
    return _seconds(match)
