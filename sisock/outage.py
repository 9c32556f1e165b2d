"""Health of a node and its parts, and the log of their outages: one line when one starts, one when it ends."""

import errno
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, get_args

from sisock.errors import SisockError
from sisock.jsontext import as_encodable, as_text
from sisock.times import SYSTEM_CLOCK, Clock

log = logging.getLogger(__name__)

PASSING = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT)
)
"""Errors that a disk recovers from, or is replaced for; others are a matter of settings or permissions."""

State = Literal["starting", "ok", "degraded", "outage", "stopped"]

# From the best to the worst; a node is as healthy as the worst of its parts.
_ORDER: tuple[State, ...] = ("ok", "starting", "degraded", "outage", "stopped")


@dataclass(frozen=True, slots=True)
class Health:
    """Condition of a node, or of a part of one.

    Attributes
    ----------
    state : {"starting", "ok", "degraded", "outage", "stopped"}
        `degraded`: it works with a restriction; `outage`: something that it needs is unreachable.
    since : float
        UNIX seconds at which `state` began.
    error : str or None
        Why it is not `ok`.
    details : dict
        Plain values, for people.
    """

    state: State
    since: float
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, as it stands in a node's status."""
        error = None if self.error is None else as_encodable(as_text(self.error))
        return {**asdict(self), "error": error}


def worst(healths: Iterable[Health]) -> Health:
    """Return the health of a whole: the worst state of its parts, with all their errors.

    Parameters
    ----------
    healths : iterable of Health
        At least one.
    """
    ordered = sorted(healths, key=lambda health: (-_ORDER.index(health.state), health.since))
    state = ordered[0].state
    errors = [health.error for health in ordered if health.error]
    details = {key: value for health in reversed(ordered) for key, value in health.details.items()}
    since = max if state == "ok" else min  # all are well since the last one is; not all are since the first one is not
    return Health(
        state, since(health.since for health in ordered if health.state == state), "; ".join(errors) or None, details
    )


def reported_health(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return state, since and error of the health in a node's status; None where it reports none that is valid.

    Parameters
    ----------
    status : mapping
        As it came from the node, which may be of another make.
    """
    reported = status.get("health")
    if not isinstance(reported, Mapping) or reported.get("state") not in get_args(State):
        return None
    since, error = reported.get("since"), reported.get("error")
    return {
        "state": reported["state"],
        "since": float(since) if isinstance(since, int | float) else None,
        "error": None if error is None else str(error),
    }


def reported_age(status: Mapping[str, Any]) -> float | None:
    """Return how old the newest sample in a node's status is, in seconds; None where it reports none that is valid.

    It is below 0 where the newest sample is ahead of the node's clock.

    Parameters
    ----------
    status : mapping
        As it came from the node, which may be of another make.
    """
    timelines = status.get("timelines")
    abouts = timelines.values() if isinstance(timelines, Mapping) else ()
    ages = [age for about in abouts if isinstance(about, Mapping) for age in _ages(about)]
    return min(ages, default=None)


def age_content(age_s: float | None) -> dict[str, float | None]:
    """Return an age as it stands in a status, in seconds: as `age`, or as `ahead` where it is below 0."""
    is_ahead = age_s is not None and age_s < 0.0
    return {"age": None if is_ahead else age_s, "ahead": -age_s if age_s is not None and is_ahead else None}


def _ages(about: Mapping[str, Any]) -> Iterator[float]:
    for key, sign in (("age", 1.0), ("ahead", -1.0)):
        if isinstance(seconds := about.get(key), int | float):
            yield sign * seconds


@dataclass(slots=True)
class _Outage:
    state: State
    since: float
    began: float  # by the monotonic clock
    error: str
    failures: int = 0


@dataclass(frozen=True, slots=True)
class OutageChange:
    """The start or the end of an outage.

    Attributes
    ----------
    key : str
        Its name.
    state : {"degraded", "outage", "ok"}
        ``ok`` at its end.
    error : str
        The newest error.
    failures : int
        How many there were.
    lasted_s : float
        Seconds; 0 at its start.
    """

    key: str
    state: State
    error: str
    failures: int = 1
    lasted_s: float = 0.0


_made: ContextVar["list[OutageLog] | None"] = ContextVar("_made", default=None)


@contextmanager
def outage_logs_made() -> Iterator["list[OutageLog]"]:
    """Provide a list of the outage logs that are made meanwhile in this thread, so that all can be listened to."""
    made: list[OutageLog] = []
    token = _made.set(made)
    try:
        yield made
    finally:
        _made.reset(token)


class Outages(Protocol):
    """Notes outages by name, as `OutageLog` does."""

    def failed(self, key: str, error: SisockError) -> None:
        """Count a failure; the first of an outage is logged."""
        ...

    def recovered(self, key: str) -> None:
        """End an outage."""
        ...


class OutageLog:
    """Outages of what a node or a part of one depends on, by a name for each.

    One warning is logged when an outage starts and one when it ends; every failure is counted. May be used from any
    thread.

    Parameters
    ----------
    clock : Clock
    logger : logging.Logger, optional
        Where outages are logged.
    on_failure : callable, optional
        Called at every failure, to count it in the counters of a part.

    """

    def __init__(
        self, clock: Clock, logger: logging.Logger = log, on_failure: Callable[[], object] | None = None
    ) -> None:
        self._clock, self._log, self._on_failure = clock, logger, on_failure
        self._on_change: Callable[[OutageChange], object] | None = None
        if (made := _made.get()) is not None:
            made.append(self)
        self._lock = threading.Lock()
        self._since = clock.now()
        self._outages: dict[str, _Outage] = {}
        self._failures: dict[str, int] = {}

    def failed(self, key: str, error: object, state: Literal["degraded", "outage"] = "degraded") -> None:
        """Count a failure; the first of an outage is logged.

        Parameters
        ----------
        key : str
            What fails, as it reads at the start of a log line: ``the disk of history/host``.
        error : object
            Why: an exception or a text. The newest is reported by `health`. An exception that is neither a SisockError
            nor an OSError is logged with its traceback.
        state : {"degraded", "outage"}
        """
        is_unexpected = isinstance(error, Exception) and not isinstance(error, SisockError | OSError)
        text = as_encodable(f"{type(error).__name__}: {as_text(error)}" if is_unexpected else as_text(error))
        with self._lock:
            outage = self._outages.get(key)
            new = outage is None
            if outage is None:
                outage = self._outages[key] = _Outage(state, self._clock.now(), self._clock.monotonic(), text)
            outage.state, outage.error = state, text
            outage.failures += 1
            self._failures[key] = self._failures.get(key, 0) + 1
        if self._on_failure is not None:
            self._on_failure()
        if new:
            self._log.warning(
                "%s: %s; further failures are counted and not logged until it recovers",
                *(key, text),
                exc_info=error if isinstance(error, Exception) and is_unexpected else None,
            )
            self._notify(OutageChange(key, state, text))

    def recovered(self, key: str) -> None:
        """End an outage and log that; without one, do nothing."""
        if key not in self._outages:
            return
        with self._lock:
            outage = self._outages.pop(key, None)
            if outage is None:
                return
            self._since = self._clock.now()
        lasted = self._clock.monotonic() - outage.began
        self._log.warning("%s: recovered after %.1f s (%d failures)", key, lasted, outage.failures)
        self._notify(OutageChange(key, "ok", outage.error, outage.failures, lasted))

    def _notify(self, change: OutageChange) -> None:
        if self._on_change is not None:
            self._on_change(change)

    def report_to(self, on_change: Callable[[OutageChange], object]) -> None:
        """Have a function called when an outage starts or ends, and for those at present; it returns soon."""
        self._on_change = on_change
        with self._lock:
            present = [OutageChange(key, each.state, each.error, each.failures) for key, each in self._outages.items()]
        for change in present:
            on_change(change)

    def failing(self, key: str) -> bool:
        """Whether there is an outage of that name now."""
        return key in self._outages

    def since(self, key: str) -> float | None:
        """Return when the present outage of that name started, in UNIX seconds; None without one."""
        outage = self._outages.get(key)
        return None if outage is None else outage.since

    def failures(self) -> dict[str, int]:
        """Return how many failures there were so far, by name, those of ended outages included."""
        with self._lock:
            return dict(self._failures)

    def health(self) -> Health:
        """Return `ok`, or the worst state of the outages at present, with all their errors."""
        with self._lock:
            outages = [Health(each.state, each.since, f"{key}: {each.error}") for key, each in self._outages.items()]
            return worst(outages) if outages else Health("ok", self._since)


class DiskOutage:
    """Reports what cannot be written to a disk at present as one outage, which ends when all of it can be.

    Parameters
    ----------
    key : str
        Its name in the log of outages: ``the disk of the history in /data``.
    outages : OutageLog
    """

    def __init__(self, key: str, outages: OutageLog) -> None:
        self._key, self._outages = key, outages
        self._failing: set[str] = set()

    def failing(self, what: str) -> bool:
        """Whether something cannot be written at present."""
        return what in self._failing

    def failed(self, what: str, error: object) -> None:
        """Report that something cannot be written."""
        self._failing.add(what)
        self._outages.failed(self._key, f"{what}: {error}")

    def works(self, what: str) -> None:
        """Report that something can be written."""
        if what in self._failing:
            self._failing.discard(what)
            if not self._failing:
                self._outages.recovered(self._key)


class LimitedLog:
    """A log of what may happen often: the first messages of each kind are logged, further ones are suppressed.

    Parameters
    ----------
    logger : logging.Logger
    per_kind : int, optional
        Messages of a kind that are logged.
    kinds : int, optional
        Kinds of which messages are logged.
    renew_s : float, optional
        Seconds, by `clock`, after which messages are logged again; never if not given.
    clock : Clock, optional
    """

    def __init__(
        self,
        logger: logging.Logger,
        per_kind: int = 1,
        kinds: int = 100,
        renew_s: float = math.inf,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._log, self._per_kind, self._most_kinds = logger, per_kind, kinds
        self._renew_s, self._clock, self._began = renew_s, clock, clock.monotonic()
        self._counts: Counter[object] = Counter()

    def warning(self, kind: object, text: str, *values: object) -> None:
        """Log a warning, see `log`."""
        self.log(logging.WARNING, kind, text, *values)

    def log(self, level: int, kind: object, text: str, *values: object) -> None:
        """Log a message, unless its kind has been logged often enough.

        Parameters
        ----------
        level : int
            Of `logging`.
        kind : object
            Hashable.
        text : str
            A format for `values`.
        """
        if self._clock.monotonic() - self._began >= self._renew_s:
            self._counts.clear()
            self._began = self._clock.monotonic()
        if self._counts[kind] >= self._per_kind or (kind not in self._counts and len(self._counts) >= self._most_kinds):
            return
        self._counts[kind] += 1
        is_last = self._counts[kind] == self._per_kind
        for_now = "" if math.isinf(self._renew_s) else f" for up to {self._renew_s:g} s"
        self._log.log(level, f"{text}; further occurrences are suppressed{for_now}" if is_last else text, *values)
