"""Reports of what happens to alarms: events, bounded in an alarm storm, and notifications."""

import math
from collections.abc import Mapping, Sequence

from sisock.alarm.notify import Notice, Notifier
from sisock.alarm.record import Alarm
from sisock.alarm.settings import Severity, shown
from sisock.alarm.state import Action, AlarmState
from sisock.event import Reporter
from sisock.metrics import Counters
from sisock.times import Clock, iso

# Changes that are reported one by one: so many at once, and so many a second.
_BURST, _PER_S = 1000.0, 100.0
# Seconds without a change too many after which an alarm storm is over.
_CALM_S = 10.0


class Reports:
    """Reports each change of an alarm's state, and counts those that are too many.

    Parameters
    ----------
    node : str
    clock : Clock
    events : Reporter
    notifiers : sequence of Notifier
    counters : Counters
        Counts ``transitions`` and, of these, ``suppressed``, which were not reported one by one.
    """

    def __init__(
        self, node: str, clock: Clock, events: Reporter, notifiers: Sequence[Notifier], counters: Counters
    ) -> None:
        self._node, self._clock, self._events, self._notifiers = node, clock, events, tuple(notifiers)
        self._counters = counters
        self._room, self._since = _BURST, clock.monotonic()
        self._left_out, self._newest = 0, -math.inf

    def note(self, alarm: str, text: str, severity: Severity = "info") -> None:
        """Report something else about an alarm than a change of its state."""
        self._events.report("alarm", alarm, f"{alarm} {text}", severity)

    def damage(self, text: str) -> None:
        """Report that states of alarms were lost."""
        self._events.report("damage", "alarms", text, "error")

    def changed(self, alarm: Alarm, before: AlarmState, action: Action, t: float, skipped: int = 0) -> None:
        """Report that the state of an alarm has changed.

        Parameters
        ----------
        alarm : Alarm
        before : AlarmState
        action : Action
            What has changed it.
        t : float
            When, UNIX seconds.
        skipped : int
            Changes of the same alarm just before that are not reported.
        """
        self._counters.add("transitions", 1 + skipped)
        is_raised = alarm.state.state == "unacknowledged"
        is_reported = self._has_room(1 + skipped)
        is_notified = bool(self._notifiers) and (is_raised or action == "clear")
        if not is_reported and not is_notified:
            return
        text = alarm.text if is_raised else _text(alarm, before, action)
        if is_reported:
            severity = alarm.settings.severity if is_raised else "info"
            about = {key: value for key, value in alarm.stored().items() if key not in ("since", "raised")}
            about |= {"t": t, "field": alarm.settings.field, "action": action, "before": before.state}
            named = f"{alarm.name}{':' if is_raised else ''} {text}"
            self._events.report("alarm", alarm.name, named, severity, **about)
        if is_notified:
            self.notify(alarm, t, text)

    def notify(self, alarm: Alarm, t: float, text: str) -> None:
        """Have the targets of notifications notified of an alarm."""
        notice = Notice(t, self._node, alarm.name, alarm.settings.severity, alarm.state.state, text)
        for notifier in self._notifiers:
            notifier.put(notice)

    def _has_room(self, changes: int) -> bool:
        """Whether a change may be reported, and with it others that are counted only."""
        monotonic = self._clock.monotonic()
        self._room = min(_BURST, self._room + _PER_S * (monotonic - self._since))
        self._since = monotonic
        is_reported = self._room >= 1.0
        self._room -= is_reported
        if left_out := changes - is_reported:
            if not self._left_out and not is_reported:
                text = f"alarm storm: more than {_PER_S:g} changes of alarms a second; further ones are counted"
                self._events.report("alarm", "alarm storm", text, "error")
            self._left_out += left_out
            self._newest = monotonic
            self._counters.add("suppressed", left_out)
        return is_reported

    def tick(self) -> None:
        """Report that an alarm storm is over, if it is."""
        if self._left_out and self._clock.monotonic() - self._newest > _CALM_S:
            left_out, self._left_out = self._left_out, 0
            text = f"alarm storm is over: {left_out} changes of alarms were counted and not reported one by one"
            self._events.report("alarm", "alarm storm", text, changes=left_out)


_DONE: Mapping[Action, str] = {
    "acknowledge": "is acknowledged",
    "reset": "is reset",
    "shelve": "is shelved",
    "suppress": "is suppressed",
}


def _text(alarm: Alarm, before: AlarmState, action: Action) -> str:
    """Return the text of a change that does not raise an alarm."""
    if action == "clear":
        return f"has cleared: {alarm.settings.field} is {shown(alarm.value)}"
    ends = f" until {iso(alarm.state.until)}" if alarm.state.until is not None else ""
    done = _DONE.get(action, f"is no longer {before.state}")
    by = f" by {alarm.by}" if alarm.by is not None else ""
    return f"{done}{by}{ends}{f': {alarm.comment}' if alarm.comment else ''}"
