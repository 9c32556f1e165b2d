"""Local times to UTC, by the order in which they come; whole columns at a time."""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from sisock.fields import FloatArray

# Clocks that disagree, or writers that share a file, put rows out of order by less than this.
_JITTER_S = 60.0
# Readings that are farther apart than this do not come twice at one time by chance.
_SPARSE_S = 600.0
# Steps forward, as a multiple of those back, from which on rows are taken to be in order.
_IN_ORDER = 9
# No clock is set back by more than this: another series begins, such as that of the next station.
_ANEW_S = 7200.0
# Steps that are remembered, to know how far apart readings usually are.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class _Changes:
    """When the clocks of a zone change.

    Attributes
    ----------
    ends, begins : ndarray of float64, shape (n,)
        Local times, in seconds, at which the time before each change ends, and the time after it begins.
    before, after : ndarray of float64, shape (n,)
        Seconds ahead of UTC.
    """

    ends: FloatArray
    begins: FloatArray
    before: FloatArray
    after: FloatArray


@dataclass(slots=True)
class _Seen:
    """State of the rows so far."""

    last: float = math.nan
    """Local time of the last row."""
    forward: int = 0
    back: int = 0
    series: int = 0
    """Number of steps back that began another series."""
    steps: FloatArray = field(default_factory=lambda: np.empty(0))
    """Seconds between the last rows, without those of an hour that comes twice."""
    hour: tuple[int, float] = (0, math.nan)
    """Which hour that comes twice had a row last: its series, and the local time at which it ends."""
    in_hour: float = math.nan
    """Local time of that row."""
    second: bool = False
    """Whether it was of the second time."""


class LocalTimes:
    """CallerLimiter local times, as they come row by row, into UTC.

    Where clocks are set back, an hour comes twice. Rows in ascending order are of its first time until they step back,
    and of the second from then on; rows in descending order the other way round. A step back of less than a minute, or
    a time that comes twice, counts only where readings are usually ten minutes apart or more. Where rows are in no
    order, that hour is taken for the first. Times that a clock which is set forward leaves out do not exist.

    Parameters
    ----------
    zone : str
        Such as ``Europe/Paris``.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._seen = _Seen()

    def to_utc(self, local: FloatArray, *, provisional: bool = False) -> FloatArray:
        """Return UNIX seconds; NaN for times that do not exist.

        Parameters
        ----------
        local : ndarray of float64, shape (n,)
            What the clock showed, as seconds since it showed 1970; finite.
        provisional : bool
            Whether these rows come again.
        """
        if not len(local) or self._zone.key == "UTC":
            return local
        changes = _changes(self._zone, local)
        ended, begun = np.searchsorted(changes.ends, local, "right"), np.searchsorted(changes.begins, local, "right")
        offset = changes.before[np.minimum(ended, len(changes.ends) - 1)]
        twice, never = begun > ended, begun < ended
        before, seen = self._seen, self._learned(local, twice)
        if twice.any():
            series = before.series + np.cumsum(np.diff(local, prepend=before.last) < -_ANEW_S)
            second = np.zeros(len(local), bool)
            second[twice] = _second(local[twice], series[twice], changes.ends[ended[twice]], seen)
            offset = np.where(second, changes.after[np.maximum(begun, 1) - 1], offset)
        if not provisional:
            self._seen = seen
        return np.where(never, np.nan, local - offset)

    def _learned(self, local: FloatArray, twice: NDArray[np.bool_]) -> _Seen:
        """Return the state after these rows, except for repeated hours."""
        before = self._seen
        inside = np.r_[before.last == before.in_hour, twice]
        every = np.diff(local, prepend=before.last)
        steps = every[~(inside[1:] & inside[:-1]) & np.isfinite(every)]
        return replace(
            before,
            last=float(local[-1]),
            forward=before.forward + int((steps > 0).sum()),
            back=before.back + int((steps < 0).sum()),
            series=before.series + int((every < -_ANEW_S).sum()),
            steps=np.abs(np.r_[before.steps, steps][-_REMEMBERED:]),
        )


def _second(local: FloatArray, series: NDArray[np.intp], ends: FloatArray, seen: _Seen) -> NDArray[np.bool_]:
    """Return which of the times of hours that come twice are of the second time, and note that in `seen`."""
    if seen.back > _IN_ORDER * seen.forward:
        # Read from the other end they are in ascending order; such a table is one batch.
        return _after_step_back(local[::-1], series[::-1], ends[::-1], _Seen(steps=seen.steps))[::-1]
    if seen.back > 1 and seen.forward < _IN_ORDER * seen.back:
        return np.zeros(len(local), bool)
    second = _after_step_back(local, series, ends, seen)
    seen.hour, seen.in_hour, seen.second = (int(series[-1]), float(ends[-1])), float(local[-1]), bool(second[-1])
    return second


def _after_step_back(local: FloatArray, series: NDArray[np.intp], ends: FloatArray, seen: _Seen) -> NDArray[np.bool_]:
    """Return which times lie behind a step back in their hour."""
    usual = float(np.median(seen.steps)) if len(seen.steps) else math.inf
    same = (np.r_[seen.hour[0], series[:-1]] == series) & (np.r_[seen.hour[1], ends[:-1]] == ends)
    back = np.r_[seen.in_hour, local[:-1]] - local
    steps = same & ((back >= _JITTER_S) | ((back >= 0) & (usual >= _SPARSE_S)))
    count = np.cumsum(steps) + (seen.second and same[0])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(local))))
    # Steps in hours before do not count.
    return np.asarray(count > np.where(first > 0, count[np.maximum(first, 1) - 1], 0))


def _changes(zone: ZoneInfo, local: FloatArray) -> _Changes:
    """Return the changes of a zone in the years of some local times, those before and after them."""
    years = np.unique(local.astype("datetime64[s]").astype("datetime64[Y]").astype(int)) + 1970
    years = np.unique(np.clip(np.concatenate([years - 1, years, years + 1]), 2, 9998))
    found = [change for year in years.tolist() for change in _changes_of_year(zone, year)]
    when, before, after = np.array(found).T
    return _Changes(when + before, when + after, before, after)


@lru_cache(maxsize=4096)
def _changes_of_year(zone: ZoneInfo, year: int) -> list[tuple[float, float, float]]:
    """Return when clocks change in a year, UNIX seconds, with seconds ahead of UTC before and after.

    Its beginning and its end are among them, as changes of nothing: the years after it may not be known.
    """
    day = 86400
    first, end = (int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) for each in (year, year + 1))
    offsets = {t: _offset(zone, t) for t in range(first, first + 366 * day + 1, day)}
    changes = [(float(first), offsets[first], offsets[first])]
    for start in range(first, first + 366 * day, day):
        if offsets[start] != offsets[start + day]:
            low, high = start, start + day
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == offsets[start] else (low, middle)
            if high < end:
                changes.append((float(high), offsets[start], offsets[start + day]))
    return [*changes, (float(end), _offset(zone, end), _offset(zone, end))]


def _offset(zone: ZoneInfo, t: int) -> float:
    """Return seconds ahead of UTC at a time, UNIX seconds."""
    moment = datetime.fromtimestamp(t, UTC).astimezone(zone).utcoffset()
    return moment.total_seconds() if moment else 0.0
