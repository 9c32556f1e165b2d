"""How fresh the data of a timeline are: when samples arrive, how often they are expected, and when that is overdue.

The rule is stated in docs/site-file.md.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from sisock.fields import FloatArray, Timeline
from sisock.outage import age_content
from sisock.times import Clock

# A timeline is stale when nothing has come for so many times what is expected; by default, for 10 s at least.
_TIMES, _LEAST_S = 3.0, 10.0
# Seconds for which a timeline of which nothing is expected is live after a sample, and for which a node that has just
# started is not judged by samples of earlier runs.
CURRENT_S = 60.0
# Distances between arrivals that are remembered; about one a second at the most, and longer ones always.
_DISTANCES, _MARK_S = 100, 1.0
# A past is regular if it has so many distances and seconds, and nearly all of its distances are below so many medians.
_FEWEST, _SHORTEST_S, _SPREAD, _NEARLY_ALL = 20, 600.0, 2.0, 0.95
# So many silences that ended by themselves within a week belong to a timeline, as nights and weekends do.
_SILENCES, _WEEK_S = 3, 604_800.0

State = Literal["live", "stale", "idle"]


class Arrivals:
    """When samples of a timeline arrived, by the monotonic clock; cheap enough for every batch.

    Parameters
    ----------
    since : float
        When the wait for them began.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.last: float | None = None
        """When the newest batch arrived; None if none has since then."""
        self._marked = -math.inf
        self._distances: deque[float] = deque(maxlen=_DISTANCES)
        self._silences: deque[tuple[float, float]] = deque(maxlen=_SILENCES)  # when they ended, how long they were

    def add(self, now: float) -> None:
        """Note that a batch arrived."""
        last, self.last = self.last, now
        if last is None:
            self._marked = now
        elif now - self._marked >= _MARK_S:
            self._mark(now, now - last)

    def _mark(self, now: float, distance: float) -> None:
        self._marked = now
        if distance > _LEAST_S and (expected := self.learned()) is not None and distance > _limit(expected):
            self._silences.append((now, distance))
        self._distances.append(distance)

    def seed(self, t: FloatArray) -> None:
        """Begin with how far apart samples of an earlier run were; `t` in order of time, shape (n,)."""
        self._distances.extend(distance for distance in (t[1:] - t[:-1]).tolist() if distance >= _MARK_S)

    def usual(self) -> float:
        """Return a distance between arrivals that few exceed, in seconds; 0 while none is known."""
        known = sorted(self._distances)
        return known[int(_NEARLY_ALL * (len(known) - 1))] if known else 0.0

    def learned(self) -> float | None:
        """Return how often samples are expected, in seconds, going by a past that is regular; None if it is not."""
        known = sorted(self._distances)
        covers = max(sum(known), 0.0 if self.last is None else self.last - self.since)
        if len(known) < _FEWEST or covers < _SHORTEST_S:
            return None
        usual, median = known[int(_NEARLY_ALL * (len(known) - 1))], known[len(known) // 2]
        if usual > _SPREAD * max(median, _MARK_S):
            return None
        silences = tuple(self._silences)
        if len(silences) == _SILENCES and silences[-1][0] - silences[0][0] < _WEEK_S:
            return max(usual, *(length for _, length in silences))
        return usual


@dataclass(frozen=True, slots=True)
class Freshness:
    """How fresh the data of a timeline are.

    Attributes
    ----------
    state : {"live", "stale", "idle"}
        `live`: samples arrive; `stale`: they do not, though they are expected; `idle`: they do not, and need not.
    age : float or None
        Seconds since the time of the newest sample, below 0 where that time is in the future; None while there is none.
    expected_every : float or None
        Seconds; None where nothing is expected.
    stale_after : float or None
        Seconds without a sample after which the timeline is stale.
    silent_since : float
        When the newest sample came, or the wait for one began, UNIX seconds.
    """

    state: State
    age: float | None
    expected_every: float | None
    stale_after: float | None
    silent_since: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, as it stands in a node's status."""
        names = ("state", "expected_every", "stale_after", "silent_since")
        return {**{name: getattr(self, name) for name in names}, **age_content(self.age)}


def freshness(
    arrivals: Arrivals,
    newest: float | None,
    expect_every: float | None,
    interval_s: float | None,
    now: float,
    monotonic: float,
    *,
    measures_now: bool = True,
) -> Freshness:
    """Return how fresh the data of a timeline are.

    Parameters
    ----------
    arrivals : Arrivals
    newest : float or None
        Time of the newest sample, UNIX seconds.
    expect_every : float or None
        How often a sample is expected, in seconds, as set; infinite for never, None where it is not set.
    interval_s : float or None
        Mean seconds between samples, as the source declares.
    now, monotonic : float
        UNIX seconds, and the monotonic clock's.
    measures_now : bool
        Whether samples are measured when they arrive. Otherwise, as of files, old ones may be delivered at any time.
    """
    if expect_every is None:
        is_declared = interval_s and measures_now
        every = max(interval_s or 0.0, arrivals.usual()) if is_declared else arrivals.learned()
        limit = None if every is None else _limit(every)
    else:
        every = expect_every if math.isfinite(expect_every) else None
        limit = None if every is None else _TIMES * every
    silence, is_judged = monotonic - (arrivals.since if arrivals.last is None else arrivals.last), limit is not None
    comes = arrivals.last is not None
    if expect_every is not None and limit is not None and newest is not None and not measures_now:
        # Of a file that was read just now, the newest row counts, and not when it was read.
        silence, comes = now - newest, True
        is_judged = monotonic - arrivals.since >= min(limit, CURRENT_S)
    is_over = silence > (CURRENT_S if limit is None else limit)
    state: State = "stale" if is_over and is_judged else "live" if comes and not is_over else "idle"
    age = None if newest is None else now - newest
    return Freshness(state, age, every, limit, now - max(0.0, silence))


def expected(expect_every: Mapping[str, float], timeline: str) -> float | None:
    """Return how often a sample of a timeline is expected, in seconds; None if that is not set.

    Parameters
    ----------
    expect_every : mapping of str to float
        By name, which goes first, or by pattern such as ``camera.*``, of which the first goes that fits.
    timeline : str
    """
    if timeline in expect_every:
        return expect_every[timeline]
    return next((seconds for name, seconds in expect_every.items() if fnmatchcase(timeline, name)), None)


def is_pattern(name: str) -> bool:
    """Whether what stands for timelines is a pattern, and not the name of one."""
    return any(character in name for character in "*?[")


class Expectations:
    """The samples that are expected of timelines, and how fresh these are.

    Parameters
    ----------
    expect_every : mapping of str to float
        See `expected`.
    clock : Clock
    """

    def __init__(self, expect_every: Mapping[str, float], clock: Clock) -> None:
        self._expect_every, self._clock, self._since = expect_every, clock, clock.monotonic()

    def names(self) -> list[str]:
        """Return the timelines that are named as ones of which samples are expected."""
        return [name for name, every in self._expect_every.items() if not is_pattern(name) and math.isfinite(every)]

    def freshness(
        self,
        name: str,
        growing: tuple[Timeline, Arrivals, bool] | None,
        newest: float | None,
        now: float,
        *,
        ended: bool,
    ) -> dict[str, Any]:
        """Return how fresh the data of a timeline are, as plain values.

        Parameters
        ----------
        name : str
        growing : tuple of (Timeline, Arrivals, bool) or None
            Of a timeline that is appended to; the last is whether its samples are measured when they arrive.
        newest : float or None
            Time of the newest sample, UNIX seconds.
        now : float
            UNIX seconds.
        ended : bool
            Whether the timeline is of an earlier run only.
        """
        expect_every, monotonic = expected(self._expect_every, name), self._clock.monotonic()
        if growing is None:  # it has ended, or is in the future
            expect_every = math.inf if ended or expect_every is None else expect_every
            return freshness(Arrivals(self._since), newest, expect_every, None, now, monotonic).as_dict()
        timeline, arrivals, measures_now = growing
        if expect_every is None:
            expect_every = timeline.expect_every
        found = freshness(
            arrivals, newest, expect_every, timeline.interval_s, now, monotonic, measures_now=measures_now
        )
        return found.as_dict()


def _limit(expected: float) -> float:
    return max(_LEAST_S, _TIMES * expected)
