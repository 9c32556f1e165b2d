"""The record of an alarm: its definition, its state, and what is known of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from sisock.alarm.file import StoredAlarm
from sisock.alarm.rules import Watch
from sisock.alarm.settings import AlarmSettings, phrase, text_of
from sisock.alarm.state import Action, AlarmState, step

Origin = Literal["site file", "command"]
WAITING = "waiting for field"
"""Error of an alarm whose field does not exist, or not yet."""


@dataclass(slots=True, eq=False)
class Alarm:
    """An alarm of a node.

    Attributes
    ----------
    name : str
    settings : AlarmSettings
    origin : {"site file", "command"}
        The place of its definition.
    watch : Watch
    since : float
        Start of its state, UNIX seconds.
    """

    name: str
    settings: AlarmSettings
    origin: Origin
    watch: Watch
    since: float
    state: AlarmState = field(default_factory=AlarmState)
    raised: float | None = None
    """When its condition last began to hold, UNIX seconds by the time stamps of the samples."""
    value: Any = None
    """Value of the field when the condition began to hold, or ended."""
    units: str | None = None
    """Units for which it was set, empty where the field has none; None while that is not known."""
    by: str | None = None
    """Person who changed its state; None where the value of the field did."""
    comment: str | None = None
    timeline: str | None = None
    """Timeline of its field; None where there is no such field."""
    error: str | None = WAITING
    """Reason for which it is not evaluated."""

    def act(self, action: Action, until: float | None = None) -> AlarmState:
        """Change the state as an action does, and return the state before."""
        before, active = self.state, self.watch.active
        self.state = step(before, action, active=active, latch=self.settings.latch, until=until)
        return before

    @property
    def text(self) -> str:
        """Its text for operators, with the value."""
        return text_of(self.name, self.settings, self.value, self.units)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, a row of ``query.alarms``."""
        return {
            "name": self.name,
            "field": self.settings.field,
            "condition": phrase(self.settings),
            "severity": self.settings.severity,
            "text": self.text,
            "origin": self.origin,
            **self.stored(),
            "timeline": self.timeline,
            "error": self.error,
            "definition": self.settings.as_content(),
        }

    def stored(self) -> dict[str, Any]:
        """Return the part that is kept over a restart, see `StoredAlarm`."""
        state = {"state": self.state.state, "latched": self.state.latched, "until": self.state.until}
        about = {key: getattr(self, key) for key in ("since", "raised", "value", "units", "by", "comment")}
        return {**state, "active": self.watch.active, **about}

    def restore(self, known: StoredAlarm) -> None:
        """Continue from what was kept."""
        self.watch.active = known.active
        self.state = AlarmState(known.state, known.latched, known.until)
        self.since, self.raised, self.value, self.units = known.since, known.raised, known.value, known.units
        self.by, self.comment = known.by, known.comment
