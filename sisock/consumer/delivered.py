"""The samples of a followed timeline that were delivered, and a position from which to continue."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadRequest
from sisock.fields import Batch, FloatArray

_VERSION = 1
# Times of samples that are not final, which are kept in memory to recognize those that come twice.
_MOST_TIMES = 2_000_000
_FIRST_COMPACTION = 50_000
# Times of final samples that are kept as well: a reset may make them open again.
_RECENT = 1_000
# Resets by which one is recognized; a node lists its newest 10.
_MOST_RESETS = 20


Chosen = slice | NDArray[np.bool_]
"""Some samples: all of them, or those where a mask is true."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a timeline was followed; kept with the results, following continues there.

    Attributes
    ----------
    node, timeline : str
    until : float
        UNIX seconds. All samples before it were delivered.
    delivered : ndarray of float64, shape (n,)
        Times of samples from then on that were delivered, too, ascending.
    resets : tuple of float
        The resets that were followed, by the times from which on they removed samples.
    """

    node: str
    timeline: str
    until: float
    delivered: FloatArray = field(default_factory=lambda: np.empty(0))
    resets: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has: 11 bytes for each sample that is delivered and not final."""
        times = base64.b64encode(self.delivered.astype("<f8").tobytes()).decode()
        return {
            "version": _VERSION,
            "node": self.node,
            "timeline": self.timeline,
            "until": self.until if math.isfinite(self.until) else None,
            "delivered": times,
            "resets": list(self.resets),
        }

    @classmethod
    def from_dict(cls, content: Any) -> "Position":
        """Return the position that a dictionary stands for.

        Raises
        ------
        BadRequest
            If it is not one of a position, or of a later version.
        """
        if not isinstance(content, Mapping) or "version" not in content:
            raise BadRequest(f"a position is what Position.as_dict returns, and this is not: {str(content)[:100]}")
        if content["version"] != _VERSION:
            raise BadRequest(
                f"this position has version {content['version']!r}, and {_VERSION} is known; use the version of sisock "
                "that wrote it, or follow without a position"
            )
        try:
            until = -math.inf if content["until"] is None else float(content["until"])
            times = np.frombuffer(base64.b64decode(content["delivered"], validate=True), "<f8").astype(np.float64)
            resets = tuple(float(each) for each in content["resets"])
            node, timeline = str(content["node"]), str(content["timeline"])
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise BadRequest(f"this position cannot be read: {error!r}") from error
        if math.isnan(until) or not np.all(np.diff(times) >= 0):
            raise BadRequest("this position cannot be read: its times are not ascending")
        return cls(node, timeline, until, times, resets)


class Delivered:
    """Which samples of a timeline were delivered: all before a time, and some of those after it.

    Parameters
    ----------
    until : float
        UNIX seconds; all samples before it count as delivered.
    times : ndarray, optional
        Of samples from then on, ascending.
    resets : sequence of float, optional
    """

    def __init__(self, until: float = -math.inf, times: FloatArray | None = None, resets: Sequence[float] = ()) -> None:
        self.until = until
        self.forgotten = 0
        """Samples that would not be recognized if they came again."""
        self.resets = list(resets)
        self._parts = [] if times is None or not len(times) else [times]
        self._count = sum(map(len, self._parts))
        self._compact_at = _FIRST_COMPACTION

    def add(self, t: FloatArray) -> None:
        """Count samples as delivered."""
        self._parts.append(t)
        self._count += len(t)
        if self._count > self._compact_at:
            self._known()

    def advance(self, until: float) -> None:
        """Count all samples before a time as delivered."""
        self.until = max(self.until, until)

    def is_known(self, removed_from: float) -> bool:
        """Whether a reset was followed already; if not, it is from now on."""
        if removed_from in self.resets:
            return True
        self.resets = [*self.resets[1 - _MOST_RESETS :], removed_from]
        return False

    def set_back(self, until: float, removed_from: float) -> int:
        """Move the time back; samples from `removed_from` on may come again. Return how many those are."""
        times = self._known()
        kept = int(np.searchsorted(times, removed_from))
        self._parts, self._count = [times[:kept]], kept
        self.until = min(self.until, until, removed_from)
        return len(times) - kept

    def new(self, t: FloatArray) -> Chosen:
        """Return which of some samples, ascending in time, were not delivered yet.

        Of several samples of one time as many are new as were not delivered, the last ones.
        """
        times = self._known()
        if not len(t) or (t[0] >= self.until and (not len(times) or t[0] > times[-1])):
            return slice(None)
        known = np.searchsorted(times, t, "right") - np.searchsorted(times, t, "left")
        nth = np.arange(len(t)) - np.searchsorted(t, t, "left")
        return (t >= self.until) & (nth >= known)

    def times(self) -> FloatArray:
        """Return the times of samples that were delivered and are not before `until`, ascending."""
        times = self._known()
        return times[np.searchsorted(times, self.until) :]

    def _known(self) -> FloatArray:
        """Return the times of samples that would be recognized, ascending, after forgetting those that are final."""
        times = np.sort(np.concatenate(self._parts)) if self._parts else np.empty(0)
        first_open = int(np.searchsorted(times, self.until))
        first = max(0, first_open - _RECENT, len(times) - _MOST_TIMES)
        self.forgotten += max(0, first - first_open)
        self._parts, self._count = [times[first:]], len(times) - first
        self._compact_at = max(_FIRST_COMPACTION, 2 * self._count)
        return self._parts[0]


def chosen(batch: Batch, which: Chosen) -> Batch:
    """Return some samples of a batch, with its other attributes."""
    if isinstance(which, slice):
        return batch
    columns = {name: values[which] for name, values in batch.columns.items()}
    more = (batch.gap_from, batch.dropped, batch.seq, batch.finalized_until, batch.missed, batch.reset, batch.since)
    return Batch(batch.timeline, batch.t[which], columns, *more)
