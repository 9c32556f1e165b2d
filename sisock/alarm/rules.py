"""Evaluation of alarms on batches: one pass over all alarmed fields of a timeline, with arrays of limits."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sisock.alarm.settings import AlarmSettings
from sisock.fields import Batch, Column, FloatArray
from sisock.metrics import Counters

# Most values that are compared at once, which bounds the memory of a pass.
_AT_ONCE = 1_000_000
# Most changes of one alarm in one batch that are reported one by one.
_MOST_CHANGES = 20
_LONGEST_TEXT = 200
# Times are float64 UNIX seconds, whose resolution is 0.24 µs.
_TOLERANCE_S = 1e-6
_NOT_QUIET = (math.inf, -math.inf)

Bools = NDArray[np.bool_]


class Change(NamedTuple):
    """A condition began to hold, or ended."""

    watch: "Watch"
    active: bool
    t: float
    """UNIX seconds, by the time stamps of the samples."""
    value: Any
    """Value of the field; None where it is stale."""
    skipped: int = 0
    """Changes of this alarm just before, in the same batch, that are counted only."""


class Watch:
    """The condition of an alarm, and what is known of it.

    Parameters
    ----------
    name : str
        Of the alarm.
    settings : AlarmSettings
    active : bool
        Whether it holds at the beginning.
    """

    __slots__ = (
        *("name", "settings", "active", "pending", "newest", "value"),
        *("_sign", "_limit", "_clear", "_is_stale"),
    )

    def __init__(self, name: str, settings: AlarmSettings, *, active: bool = False) -> None:
        self.name, self.settings, self.active = name, settings, active
        self.pending: float | None = None
        """Time stamp since which the value has been on the other side without a break; None if it is not."""
        self.newest = math.nan
        """Time stamp of the newest value while something is pending."""
        self.value: Any = None
        """The value at the newest time at which it was looked at one by one."""
        self._is_stale = settings.stale_after is not None
        self._sign, self._limit = 1.0, 0.5  # of comparisons, whose signal is 0 or 1
        if settings.above is not None:
            self._limit = settings.above
        elif settings.below is not None:
            self._sign, self._limit = -1.0, settings.below
        self._clear = self._limit if settings.clear is None else settings.clear

    def signal(self, values: Column) -> Column:
        """Return numbers for the values of its field: themselves, or 1 where a comparison holds; NaN where missing."""
        settings = self.settings
        if settings.condition in ("above", "below"):
            return values
        if self._is_stale:
            return np.zeros(len(values)) if values.dtype.kind != "f" else values
        is_equal = np.equal(values, settings.limit)
        holds: Column = (is_equal if settings.equals is not None else ~is_equal).astype(np.float64)
        if values.dtype.kind == "f":
            holds[np.isnan(values)] = math.nan
        return holds

    def quiet(self) -> tuple[float, float]:
        """Return the minimum and the maximum of the signals that change nothing; NaN changes nothing either."""
        if self.pending is not None:
            return _NOT_QUIET
        if self._is_stale:
            return _NOT_QUIET if self.active else (-math.inf, math.inf)
        if self._sign > 0:
            return (math.nextafter(self._clear, math.inf), math.inf) if self.active else (-math.inf, self._limit)
        return (-math.inf, math.nextafter(self._clear, -math.inf)) if self.active else (self._limit, math.inf)

    def follow(self, t: FloatArray, x: Column) -> tuple[NDArray[np.intp], int]:
        """Take signals, and return at which of them the condition changes, alternating, and how many more there were.

        Parameters
        ----------
        t : ndarray of float64, shape (n,)
            Ascending.
        x : ndarray, shape (n,)
            Without NaN; n is 1 at least.
        """
        if self._is_stale:
            over, under = np.zeros(len(t), bool), np.ones(len(t), bool)
        elif self._sign > 0:
            over, under = x > self._limit, x <= self._clear
        else:
            over, under = x < self._limit, x >= self._clear
        raised, raising = _held(over, t, self.settings.on_delay, None if self.active else self.pending)
        cleared, clearing = _held(under, t, self.settings.clear_for, self.pending if self.active else None)
        code = raised.astype(np.int8) - cleared.astype(np.int8)
        index = code.nonzero()[0]
        is_active = code[index] > 0
        changes = index[is_active != np.concatenate(([self.active], is_active[:-1]))]
        if len(changes):
            self.active = bool(is_active[-1])
        self.pending, self.newest = clearing if self.active else raising, float(t[-1])
        skipped = max(0, len(changes) - _MOST_CHANGES)
        # They alternate, so an even number between the first and the last ones may be left out.
        skipped -= skipped % 2
        return (changes if not skipped else np.concatenate((changes[: -skipped - 1], changes[-1:]))), skipped

    def silent(self, silence: float, now: float) -> "Change | None":
        """Return the change that `silence` seconds without a value make, if any.

        Parameters
        ----------
        silence : float
            Since its newest value came, by a clock that does not jump.
        now : float
            UNIX seconds.
        """
        if self._is_stale and not self.active:
            over = silence - (self.settings.stale_after or 0.0)
            if over < 0.0:
                return None
            self.active = True
            return Change(self, True, now - over, None)
        delay = self.settings.clear_for if self.active else self.settings.on_delay
        if self.pending is None or self.newest - self.pending + silence < delay - _TOLERANCE_S:
            return None
        t, self.pending = self.pending + delay, None
        self.active = not self.active
        return Change(self, self.active, t, self.value)


def _held(holds: Bools, t: FloatArray, seconds: float, since: float | None) -> tuple[Bools, float | None]:
    """Return where a condition has held for `seconds` without a break, and since when it holds at the end.

    Parameters
    ----------
    holds : ndarray of bool, shape (n,)
    t : ndarray of float64, shape (n,)
    seconds : float
    since : float or None
        Since when it held before, in the time of `t`; None if it did not.
    """
    if not seconds:
        return holds, None
    breaks = np.maximum.accumulate(np.where(holds, -1, np.arange(len(t))))
    began = t[np.minimum(breaks + 1, len(t) - 1)]
    if since is not None:
        began[breaks < 0] = min(since, t[0])  # the clock of the samples may have been set back
    return holds & (t - began >= seconds - _TOLERANCE_S), float(began[-1]) if holds[-1] else None


class Rules:
    """All conditions on the fields of one timeline.

    Parameters
    ----------
    watches : sequence of Watch
    monotonic : float
        Since when values are waited for.
    counters : Counters
        Counts ``missing``, values that are NaN, and ``out_of_order``, samples older than one that was evaluated.
    """

    def __init__(self, watches: Sequence[Watch], monotonic: float, counters: Counters) -> None:
        self.watches, self._counters = tuple(watches), counters
        self._fields = [watch.settings.field for watch in self.watches]
        self._converted = [
            (i, watch) for i, watch in enumerate(self.watches) if watch.settings.condition not in ("above", "below")
        ]
        self._lone: tuple[float, float] | None = None
        """Quiet range where there is one condition, on numbers."""
        self._low, self._high = np.empty((len(watches), 1)), np.empty((len(watches), 1))
        for i in range(len(self.watches)):
            self._set_quiet(i)
        self.seen = np.full(len(watches), monotonic)
        """When the newest value of each came, by the monotonic clock; shape (watches,)."""
        self.until, self.reset = -math.inf, 0

    def take_over(self, other: "Rules") -> None:
        """Continue where other rules of the same timeline ended."""
        seen = dict(zip(other.watches, other.seen.tolist(), strict=True))
        self.seen = np.array([seen.get(watch, old) for watch, old in zip(self.watches, self.seen, strict=True)])
        self.until, self.reset = other.until, other.reset

    def _set_quiet(self, i: int) -> None:
        quiet = self.watches[i].quiet()
        # Batches are compared without a lock: no signal is quiet until both limits are new.
        self._low[i, 0] = math.inf
        self._high[i, 0] = quiet[1]
        self._low[i, 0] = quiet[0]
        if len(self.watches) == 1 and not self._converted:
            self._lone = quiet

    def are_quiet(self, batch: Batch, monotonic: float, now: float) -> bool:
        """Whether a batch changes nothing; then it is done, else `evaluate` has to be called.

        Parameters
        ----------
        batch : Batch
            Stored samples, in order of time.
        monotonic : float
            When it came.
        now : float
            UNIX seconds.
        """
        t = batch.t
        if t[0] <= self.until or batch.reset != self.reset or len(self.watches) * len(t) > _AT_ONCE:
            return False
        if self._lone is not None and len(t) == 1:  # as of sensors that have a timeline each
            low, high = self._lone
            if not low <= batch.columns[self._fields[0]].item() <= high:
                return False
        else:
            values = self._matrix(batch.columns)
            if not ((values >= self._low) & (values <= self._high)).all():
                return False
        self.until = max(self.until, min(t.item(-1), now))
        self.seen.fill(monotonic)
        return True

    def evaluate(self, batch: Batch, monotonic: float, now: float) -> Iterator[Change]:
        """Yield the changes that a batch makes, each alarm's in order of time; parameters as of `are_quiet`."""
        if batch.reset != self.reset:
            self.reset, self.until = batch.reset, -math.inf
        start = int(batch.t.searchsorted(self.until, "right"))
        if start:
            self._counters.add("out_of_order", start)
        # A sample ahead of the clock, perhaps by mistake, must not have all before it left out.
        self.until = max(self.until, min(batch.t.item(-1), now))
        step = max(1, _AT_ONCE // max(1, len(self.watches)))
        for i in range(start, len(batch), step):
            rows = slice(i, i + step)
            columns = {name: batch.columns[name][rows] for name in self._fields}
            yield from self._evaluate(batch.t[rows], columns, monotonic)

    def _matrix(self, columns: Any) -> Column:
        """Return the signals, shape (watches, n)."""
        signals = [columns[name] for name in self._fields]
        for i, watch in self._converted:
            signals[i] = watch.signal(signals[i])
        if len(signals) == 1:
            return signals[0][None, :]  # type: ignore[no-any-return]
        return np.concatenate(signals).reshape(len(signals), -1)

    def _evaluate(self, t: FloatArray, columns: Any, monotonic: float) -> Iterator[Change]:
        values = self._matrix(columns)
        missing = np.isnan(values)
        quiet = (values >= self._low) & (values <= self._high) | missing
        has_value = None
        if missing.any():
            self._counters.add("missing", int(missing.sum()))
            has_value = ~missing.all(axis=1)
        self.seen[slice(None) if has_value is None else has_value] = monotonic
        for i in np.flatnonzero(~quiet.all(axis=1)).tolist():
            watch, x = self.watches[i], values[i]
            column = columns[watch.settings.field]
            if has_value is None or not missing[i].any():
                yield from self._follow(i, t, x, column)
            else:
                rows = ~missing[i]
                yield from self._follow(i, t[rows], x[rows], column[rows])

    def _follow(self, i: int, t: FloatArray, x: Column, column: Column) -> Iterator[Change]:
        """Yield the changes of one alarm; `column` has the values of its field, and `x` their signals."""
        watch = self.watches[i]
        active, (at, skipped) = watch.active, watch.follow(t, x)
        watch.value = _plain(column[-1])
        self._set_quiet(i)
        for number, index in enumerate(at.tolist()):
            active = not active
            left_out = skipped if number == len(at) - 1 else 0
            yield Change(watch, active, float(t[index]), _plain(column[index]), left_out)

    def silent(self, monotonic: float, now: float) -> Iterator[Change]:
        """Yield the changes that the silence of fields makes: they are stale, or a delay has passed.

        Parameters
        ----------
        monotonic : float
        now : float
            UNIX seconds.
        """
        for i, (watch, seen) in enumerate(zip(self.watches, self.seen.tolist(), strict=True)):
            if change := watch.silent(monotonic - seen, now):
                self._set_quiet(i)
                yield change


def _plain(value: Any) -> Any:
    """Return a value of a column as a plain one, a long text without its end."""
    return value.item() if isinstance(value, np.generic) else value[:_LONGEST_TEXT]
