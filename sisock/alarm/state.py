"""The states of an alarm, and what leads from one to another.

References
----------
ANSI/ISA-18.2-2016 and IEC 62682, Management of alarm systems for the process industries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from sisock.times import iso

State = Literal["normal", "unacknowledged", "acknowledged", "returned", "shelved", "suppressed"]
"""State of an alarm; `returned`: its condition has cleared, and nobody has acknowledged it."""
STATES: tuple[State, ...] = get_args(State)

Action = Literal["raise", "clear", "acknowledge", "reset", "shelve", "suppress", "unshelve"]
"""A cause of a change of state: the value of the field (`raise`, `clear`), or a person."""

OUT_OF_SERVICE: frozenset[State] = frozenset({"shelved", "suppressed"})
"""States with an end, in which the condition is evaluated and nobody is notified."""


@dataclass(frozen=True, slots=True)
class AlarmState:
    """State of an alarm, apart from whether its condition holds.

    Attributes
    ----------
    state : State
    latched : bool
        Whether it was raised and needs a reset, of an alarm with `latch`.
    until : float or None
        End of shelving or suppression, UNIX seconds.
    """

    state: State = "normal"
    latched: bool = False
    until: float | None = None


_SHELVING: Mapping[Action, State] = {"shelve": "shelved", "suppress": "suppressed"}
_RAISED: Mapping[State, State] = dict.fromkeys(("normal", "returned", "acknowledged"), "unacknowledged")
_MOVES: Mapping[Action, Mapping[State, State]] = {
    "raise": _RAISED,
    "clear": {"unacknowledged": "returned", "acknowledged": "normal"},
    "acknowledge": {"unacknowledged": "acknowledged", "returned": "normal"},
}
_LATCHED_MOVES: Mapping[Action, Mapping[State, State]] = {
    "raise": _RAISED,
    "clear": {"unacknowledged": "returned"},
    "acknowledge": {"unacknowledged": "acknowledged", "returned": "acknowledged"},
}


def step(now: AlarmState, action: Action, *, active: bool, latch: bool, until: float | None = None) -> AlarmState:
    """Return the state of an alarm after an action; the same one where the action changes nothing.

    An alarm that is shelved or suppressed follows its condition without a change of state. When that ends, it is
    unacknowledged if the condition holds, whatever it was before.

    Parameters
    ----------
    now : AlarmState
    action : Action
    active : bool
        Whether the condition holds, after `raise` and `clear` as they leave it.
    latch : bool
        Whether the alarm needs a reset after it was raised.
    until : float, optional
        End of `shelve` and `suppress`, UNIX seconds.
    """
    if action == "unshelve":
        if now.state not in OUT_OF_SERVICE:
            return now
        return AlarmState("unacknowledged" if active else "returned" if now.latched else "normal", now.latched)
    if action in _SHELVING:
        # A suppression is for equipment that is out of service, and lasts whatever an operator shelves.
        keeps = action == "shelve" and now.state == "suppressed"
        return now if keeps else AlarmState(_SHELVING[action], now.latched, until)
    if action == "reset":
        return AlarmState() if now.state == "acknowledged" and now.latched and not active else now
    latched = now.latched or (latch and action == "raise")
    moves = (_LATCHED_MOVES if latched else _MOVES)[action]
    return AlarmState(moves.get(now.state, now.state), latched, now.until)


def why_unchanged(now: AlarmState, action: Action, *, active: bool) -> str:
    """Return why an action of a person changes nothing in a state."""
    if action == "reset" and now.state not in OUT_OF_SERVICE:
        waits = "its condition still holds" if active else "is not acknowledged yet"
        return waits if now.latched else "is not latched"
    if action == "unshelve":
        return "is neither shelved nor suppressed"
    ends = f" until {iso(now.until)}" if now.until is not None else ""
    return f"is {now.state}{ends}"
