"""Which samples were taken while the clock was ahead: the rule, on records of how the clock ran.

The rule is stated in docs/histories.md.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

# A clock that is slewed by the kernel gains or loses so much at the most, of the time that passes.
_SLEW = 500e-6
_TOLERANCE_S = 1.0
# Seconds by which times of different runs may contradict each other: clocks of real machines drift.
_SLACK_S = 60.0
# In a history that has nothing else, samples are farther ahead than this, in seconds, before they are taken for wrong.
_FAR_S = 86400.0
# 2023-01-01: no clock that is right shows an earlier time, since this software is younger.
_EARLIEST_RIGHT = 1_672_531_200.0
Proof = Literal["certain", "likely", "confirmed"]


@dataclass(frozen=True, slots=True)
class ClockEpoch:
    """A span in which the clock ran evenly: from a start of the node, or a jump of the clock, to the next.

    Attributes
    ----------
    id : int
        In the order in which they began.
    wall, monotonic : float
        When it began: UNIX seconds by the clock, and seconds since the machine was started.
    boot : str or None
        What identifies the run of the machine, for which `monotonic` counts.
    synchronised : bool or None
        Whether the kernel called the clock synchronised at any time in it; None where it does not report that.
    ahead_until : float or None
        Where the clock was found to be ahead: the newest time that it gave, UNIX seconds.
    """

    id: int
    wall: float
    monotonic: float
    boot: str | None
    synchronised: bool | None
    ahead_until: float | None = None

    def since(self, before: "ClockEpoch | None") -> float:
        """Return a time after all that was measured before it, and before what was measured in it.

        A jump is noticed only after samples with the new time.
        """
        if before is None or before.boot is None or before.boot != self.boot:
            return self.wall
        apart = self.monotonic - before.monotonic
        jump = self.wall - before.wall - apart
        return self.wall - max(0.0, jump / 2)

    def agrees(self, other: "ClockEpoch") -> bool:
        """Whether the clock ran evenly from the one to the other, in one run of the machine."""
        if self.boot is None or self.boot != other.boot:
            return False
        apart = other.monotonic - self.monotonic
        return abs(other.wall - self.wall - apart) <= _TOLERANCE_S + _SLEW * abs(apart)


def found_ahead(
    before: Sequence[ClockEpoch],
    present: ClockEpoch,
    now: float,
    elapsed: float,
    newest_before: Callable[[float], float],
    proof: Proof,
) -> list[ClockEpoch]:
    """Return the newest clock epochs in which the clock was ahead, going by the present one; none if that is not known.

    Parameters
    ----------
    before : sequence of ClockEpoch
        Those before the present one, in the order in which they began, without those that were found to be ahead.
    present : ClockEpoch
        The clock must show, now, an earlier time than what was measured in them.
    now, elapsed : float
        UNIX seconds, and seconds for which the present epoch has lasted.
    newest_before : callable
        Returns the time of the newest sample that was measured with times before the given one; minus infinity if
        there is none.
    proof : {"certain", "likely", "confirmed"}
        What counts: only what one run of the machine shows, that the clock was set forward and back; also what is
        likely; or an operator has confirmed that the clock is right now.

    Returns
    -------
    list of ClockEpoch
        With their beginnings as `ClockEpoch.since` returns them.
    """
    if now < _EARLIEST_RIGHT:
        return []
    begun = [replace(e, wall=e.since(b)) for b, e in zip((None, *before), before, strict=False)]
    for first in range(len(before) - 1, -1, -1):
        suspects, kept = before[first:], before[:first]
        if proof != "confirmed" and any(epoch.agrees(present) for epoch in suspects):
            return []
        right_until = newest_before(min(epoch.wall for epoch in begun[first:]))
        if right_until > now + _TOLERANCE_S:
            continue  # those before them are ahead, too
        is_ahead = proof == "confirmed" or _shown(kept, suspects, present)
        if is_ahead is None:
            if proof == "likely" and not _is_likely(begun[first:], right_until, present, now, elapsed, newest_before):
                continue
            is_ahead = proof == "likely"
        return begun[first:] if is_ahead else []
    return []


def _shown(kept: Sequence[ClockEpoch], suspects: Sequence[ClockEpoch], present: ClockEpoch) -> bool | None:
    """Whether one run of the machine shows that the clock was ahead in the suspects; None if it shows nothing."""
    if any(epoch.agrees(suspect) for epoch in kept for suspect in suspects):
        return False  # also where it was behind before as it is now
    return any(epoch.agrees(present) for epoch in kept) or None


def _is_likely(
    suspects: Sequence[ClockEpoch],
    right_until: float,
    present: ClockEpoch,
    now: float,
    elapsed: float,
    newest_before: Callable[[float], float],
) -> bool:
    """Whether the clock was ahead rather in all of some epochs than behind now."""
    if present.synchronised is not True and any(epoch.synchronised for epoch in suspects):
        return False
    if present.synchronised and all(epoch.synchronised is False for epoch in suspects):
        return True
    if not math.isfinite(right_until):
        return min(epoch.wall for epoch in suspects) - now > _FAR_S
    # All of them, and the present one so far, must fit between the last right sample and now.
    lasted = elapsed + sum(_lasted(epoch, suspects, newest_before) for epoch in suspects)
    return lasted <= now - right_until + _SLACK_S


def _lasted(epoch: ClockEpoch, among: Sequence[ClockEpoch], newest_before: Callable[[float], float]) -> float:
    """Return for how many seconds an epoch lasted at least, by what was measured in it."""
    until = min((other.wall for other in among if other.wall > epoch.wall), default=math.inf)
    return max(0.0, newest_before(until) - epoch.wall)
