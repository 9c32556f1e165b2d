"""What the instrument has sent, what of it was acknowledged, and what a history must have of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.numbered import texts, times


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Samples that a node has acknowledged.

    Attributes
    ----------
    numbers : ndarray of int64, shape (n,)
    t : ndarray of float64, shape (n,)
        UNIX seconds.
    """

    numbers: np.ndarray
    t: np.ndarray


class Journal:
    """The instrument's list for one node, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._numbers: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self.sent = 0
        """All numbers that were sent lie below this, but for those that were not answered."""
        self.final = -np.inf
        """What the node has reported as final, UNIX seconds."""
        self.newest = -np.inf
        """Time of the sample that was acknowledged last, UNIX seconds."""

    def read(self) -> None:
        """Read what was added."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        for line in map(json.loads, data.splitlines()):
            self.sent = line["first"] + line["count"]
            if line.get("late"):
                continue
            t = times(line["start"], line["count"])
            self._numbers.append(np.arange(line["first"], self.sent))
            self._times.append(t)
            self.newest = float(t[-1])
            if (final := line.get("final")) is not None:
                self.final = final

    def acknowledged(self, before: float = np.inf) -> Acknowledged:
        """Return all that was acknowledged, with times before `before`."""
        if not self._numbers:
            return Acknowledged(np.empty(0, np.int64), np.empty(0))
        numbers, t = np.concatenate(self._numbers), np.concatenate(self._times)
        return Acknowledged(numbers[t < before], t[t < before])


@dataclass(frozen=True, slots=True)
class Audit:
    """What a history has of what was acknowledged."""

    lost: np.ndarray
    """Numbers that were acknowledged and are not served."""
    in_gaps: int
    """How many of those lie in recorded gaps."""
    doubled: int
    wrong: int
    """Samples that were never sent, or have another text or time."""


def audit(
    acknowledged: Acknowledged,
    t: np.ndarray,
    numbers: np.ndarray,
    served_texts: np.ndarray | None,
    gaps: list[tuple[float, float]],
) -> Audit:
    """Compare what is served with what was acknowledged.

    Parameters
    ----------
    acknowledged : Acknowledged
    t, numbers : ndarray of float64, shape (n,)
        What is served.
    served_texts : ndarray of object, shape (n,), or None
    gaps : list of (float, float)
    """
    finite = np.isfinite(numbers)
    served = numbers[finite].astype(np.int64)
    lost = ~np.isin(acknowledged.numbers, served)
    wrong = int(np.sum(~finite)) + int(np.sum(served != numbers[finite]))
    if served_texts is not None:
        wrong += int(np.sum(served_texts[finite] != texts(served)))
    # Where a number was acknowledged and is served, its time must be the one that was acknowledged.
    order = np.argsort(acknowledged.numbers, kind="stable")
    known = acknowledged.numbers[order]
    if len(known) and len(served):
        at = np.minimum(np.searchsorted(known, served), len(known) - 1)
        is_known = known[at] == served
        wrong += int(np.sum(acknowledged.t[order][at][is_known] != t[finite][is_known]))
    gap_of = np.zeros(int(lost.sum()), bool)
    for start, end in gaps:
        gap_of |= (acknowledged.t[lost] >= start) & (acknowledged.t[lost] <= end)
    return Audit(acknowledged.numbers[lost], int(gap_of.sum()), len(served) - len(np.unique(served)), wrong)
