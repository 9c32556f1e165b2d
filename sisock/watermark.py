"""How far a timeline of a node is final: its watermark, and how that moved back."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from sisock.errors import BadAnswer


@dataclass(frozen=True, slots=True)
class Watermark:
    """The watermark of a timeline, between two of its batches.

    All samples before `finalized_until` are in the batches up to `seq`, or are missing in the node's history as well.

    Attributes
    ----------
    seq : int
        Number of the newest batch; 0 before the first one.
    finalized_until : float or None
        The watermark: samples before it, in UNIX seconds, do not change; None while nothing is known.
    since : float or None
        Start of the node in UNIX seconds; each run counts `seq` from the start. None in the status of older nodes.
    reset : int
        Number of the timeline's newest reset, by which alone a watermark moves back; 0 if there was none.
    """

    seq: int
    finalized_until: float | None
    since: float | None
    reset: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as the one argument of its event."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SetBack:
    """A timeline whose watermark went back, since the clock of its node had been ahead.

    Attributes
    ----------
    number : int
        Number of the reset.
    finalized_until : float
        Where the watermark went, UNIX seconds; minus infinity if there is none since.
    removed_from : float
        Samples from this time on were removed, and may come again; infinite if none were.
    """

    number: int
    finalized_until: float
    removed_from: float


def set_backs_of(resets: Any) -> list[SetBack]:
    """Return the resets that the ``status`` of a node lists for a timeline, oldest first.

    Raises
    ------
    BadAnswer
        If they are not of the contract.
    """
    try:
        return [
            SetBack(
                int(each["number"]),
                -math.inf if each["finalized_until"] is None else float(each["finalized_until"]),
                math.inf if each["removed_from"] is None else float(each["removed_from"]),
            )
            for each in resets or ()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"a reset has number, finalized_until and removed_from: {error!r}") from error


def watermark_of(content: Any) -> Watermark:
    """Return the watermark that an event stands for.

    Raises
    ------
    BadAnswer
        If it is not of the contract.
    """
    try:
        found = Watermark(content["seq"], content["finalized_until"], content["since"], content["reset"])
    except (KeyError, TypeError) as error:
        raise _not_a_watermark(content) from error
    times = (found.since,) if found.finalized_until is None else (found.since, found.finalized_until)
    if all(type(count) is int and count >= 0 for count in (found.seq, found.reset)) and all(map(_is_time, times)):
        return found
    raise _not_a_watermark(content)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _not_a_watermark(content: Any) -> BadAnswer:
    return BadAnswer(f"a watermark has seq, finalized_until, since and reset, and this has not: {str(content)[:200]}")
