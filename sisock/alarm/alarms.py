"""The alarms of a node: evaluated in the node itself, so that they work while the router is unreachable."""

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sisock.alarm.bindings import Bindings
from sisock.alarm.notify import Notifier
from sisock.alarm.record import Alarm
from sisock.alarm.register import Register
from sisock.alarm.reports import Reports
from sisock.alarm.rules import Change, Rules
from sisock.alarm.settings import AlarmSettings, phrase, shown
from sisock.alarm.state import Action, why_unchanged
from sisock.errors import BadRequest
from sisock.event import Reporter
from sisock.fields import Batch, Timeline
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.patterns import matching
from sisock.times import Clock, iso
from sisock.worker import Worker

log = logging.getLogger(__name__)

_TICK_S = 1.0
# Seconds for which an alarm may be shelved: what is longer is a mistake, or an alarm to be deleted.
_LONGEST_S = 366 * 86_400.0


class Outcome(BaseModel):
    """The changes that a command has made."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    changed: list[str]
    """Names of the alarms that have changed."""
    unchanged: dict[str, str]
    """The others that match, each with the reason for which it stays as it is."""
    saved: bool
    """Whether that is on the disk; false where the disk fails, or the node has no folder."""


class Alarms:
    """The alarms of a node; a listener of its batches. May be used from any thread.

    Parameters
    ----------
    node : str
    definitions : mapping of str to AlarmSettings
        Those of the site file, which take precedence over those by command.
    clock : Clock
    events : Reporter
        Where each change of state is reported.
    outages : OutageLog, optional
        Where definitions with errors and a disk that fails are reported.
    path : Path, optional
        File for states, and for definitions by command; without it they end with the node.
    notifiers : sequence of Notifier

    Attributes
    ----------
    counters : Counters
        ``transitions``; ``suppressed``, those that were not reported one by one; ``missing``, values that are NaN;
        ``out_of_order``, samples that came after newer ones; ``errors`` of evaluation.
    """

    def __init__(
        self,
        node: str,
        definitions: Mapping[str, AlarmSettings],
        clock: Clock,
        events: Reporter,
        outages: OutageLog | None = None,
        path: Path | None = None,
        notifiers: Sequence[Notifier] = (),
    ) -> None:
        self._clock, self._outages = clock, outages or OutageLog(clock, log)
        self.counters = Counters("transitions", "suppressed", "missing", "out_of_order", "errors")
        self._notifiers = tuple(notifiers)
        self._reports = Reports(node, clock, events, self._notifiers, self.counters)
        self._lock = threading.RLock()
        self._register = Register(definitions, clock, self._outages, self._reports, path, self._lock)
        self._alarms = self._register.alarms
        self._bindings = Bindings(self._alarms.values(), clock, self._outages, self._reports, self.counters)
        self._failed: set[str] = set()  # timelines
        self._worker = Worker("alarms", self._run)
        self._is_started = False

    def start(self) -> None:
        """Begin to look for what does not come, to write the file, and to notify; once more does nothing."""
        with self._lock:
            self._is_started = True
            if not self._alarms or self._worker.is_alive:
                return
            self._worker.start()
            self._register.start()
            for notifier in self._notifiers:
                notifier.start()
            for alarm in self._alarms.values():  # the node may have been killed between an alarm and its notification
                if alarm.state.state == "unacknowledged":
                    self._reports.notify(alarm, alarm.raised or alarm.since, f"{alarm.text} (since before a restart)")

    def stop(self) -> None:
        """End that; what has changed is written first."""
        self._is_started = False
        self._worker.stop()
        for notifier in self._notifiers:
            notifier.stop()
        self._register.stop()

    def _run(self) -> None:
        while not self._clock.wait(self._worker.stopping, _TICK_S):
            self.tick()

    def add(self, timeline: Timeline) -> None:
        """Take a timeline, before its first batch, or a known one with other fields."""
        with self._lock:
            if self._bindings.add(timeline):
                self._register.changed()

    def on_batch(self, batch: Batch) -> None:
        """Evaluate the alarms on a batch that was stored."""
        rules = self._bindings.rules.get(batch.timeline)
        if rules is None or not len(batch):
            return
        try:
            self._evaluate(rules, batch)
        except Exception as error:  # noqa: BLE001 - feeds and sinks come after it; it is counted and logged
            self.counters.add("errors")
            self._outages.failed(_evaluating(batch.timeline), error)
            self._failed.add(batch.timeline)
        else:
            if batch.timeline in self._failed:
                self._failed.discard(batch.timeline)
                self._outages.recovered(_evaluating(batch.timeline))

    def _evaluate(self, rules: Rules, batch: Batch) -> None:
        monotonic, now = self._clock.monotonic(), self._clock.now()
        if rules.are_quiet(batch, monotonic, now):
            return
        with self._lock:
            current = self._bindings.rules.get(batch.timeline)  # which may have been replaced meanwhile
            for change in current.evaluate(batch, monotonic, now) if current is not None else ():
                self._on_change(change)

    def _on_change(self, change: Change) -> None:
        alarm = self._alarms[change.watch.name]
        value = change.value
        # JSON has no infinite numbers.
        alarm.value = shown(value) if isinstance(value, float) and math.isinf(value) else value
        if change.active:
            alarm.raised = change.t
        self._register.changed()
        self._act(alarm, "raise" if change.active else "clear", change.t, skipped=change.skipped)

    def _act(
        self,
        alarm: Alarm,
        action: Action,
        t: float,
        *,
        by: str | None = None,
        comment: str | None = None,
        until: float | None = None,
        skipped: int = 0,
    ) -> bool:
        """Change the state of an alarm as an action does, report that, and return whether it has changed."""
        before = alarm.act(action, until)
        if alarm.state == before:
            self.counters.add("transitions", skipped)
            return False
        alarm.since, alarm.by, alarm.comment = t, by, comment
        self._register.changed()
        self._reports.changed(alarm, before, action, t, skipped)
        return True

    def tick(self) -> None:
        """Look for what does not come: values, the ends of delays, and of shelving; and for missing fields."""
        with self._lock:
            monotonic, now = self._clock.monotonic(), self._clock.now()
            for rules in self._bindings.rules.values():
                for change in rules.silent(monotonic, now):
                    self._on_change(change)
            for alarm in self._alarms.values():
                if (until := alarm.state.until) is not None and until <= now:
                    self._act(alarm, "unshelve", until)
            self._reports.tick()
            self._bindings.tick()
        for notifier in self._notifiers:
            notifier.tick()

    def acknowledge(self, pattern: str, comment: str | None, by: str) -> Outcome:
        """Acknowledge alarms: somebody knows of them.

        Parameters
        ----------
        pattern : str
            Name of an alarm, or a pattern such as ``room/*``.
        comment : str or None
        by : str
            Name of the person.

        Raises
        ------
        NoSuchAlarm
            If no alarm has that name, or one that matches.
        """
        return self._do("acknowledge", pattern, comment, by)

    def reset(self, pattern: str, comment: str | None, by: str) -> Outcome:
        """Reset latched alarms that are acknowledged and whose conditions have cleared; as `acknowledge`."""
        return self._do("reset", pattern, comment, by)

    def shelve(self, pattern: str, until: float, comment: str | None, by: str) -> Outcome:
        """Shelve alarms until a time, UNIX seconds; as `acknowledge`, and BadRequest for an end that is not valid."""
        return self._do("shelve", pattern, comment, by, until)

    def suppress(self, pattern: str, until: float, comment: str | None, by: str) -> Outcome:
        """Suppress alarms until a time, as those of equipment that is out of service; as `shelve`."""
        return self._do("suppress", pattern, comment, by, until)

    def unshelve(self, pattern: str, comment: str | None, by: str) -> Outcome:
        """End the shelving or suppression of alarms; as `acknowledge`."""
        return self._do("unshelve", pattern, comment, by)

    def _do(self, action: Action, pattern: str, comment: str | None, by: str, until: float | None = None) -> Outcome:
        now, changed, unchanged = self._clock.now(), list[str](), dict[str, str]()
        if until is not None and not now < until <= now + _LONGEST_S:
            raise BadRequest(f"the end is {iso(until)}; give a time after now, {iso(now)}, and within a year")
        with self._lock:
            for name in self._register.named(pattern):
                alarm = self._alarms[name]
                if self._act(alarm, action, now, by=by, comment=comment, until=until):
                    changed.append(name)
                else:
                    unchanged[name] = why_unchanged(alarm.state, action, active=alarm.watch.active)
        return Outcome(changed=changed, unchanged=unchanged, saved=self._register.save())

    def set(self, name: str, settings: AlarmSettings, by: str) -> Outcome:
        """Define an alarm, or replace its definition; it keeps its state.

        Raises
        ------
        BadRequest
            If it is defined in the site file, or there are too many.
        """
        with self._lock:
            self._register.check_origin(name)
            self._register.check_room(name)
            before = self._alarms.get(name)
            alarm = self._register.define(name, settings, "command")
            self._bindings.bind([alarm])
            if before is not None:
                self._bindings.renew([before.timeline])
            self._register.changed()
            self._reports.note(name, f"is defined by {by}: {settings.field} {phrase(settings)}")
        if self._is_started:
            self.start()
        return Outcome(changed=[name], unchanged={}, saved=self._register.save())

    def delete(self, name: str, by: str) -> Outcome:
        """Delete an alarm that was set by command.

        Raises
        ------
        NoSuchAlarm
            If there is none of that name.
        BadRequest
            If it is defined in the site file.
        """
        with self._lock:
            if name not in self._alarms:
                raise self._register.unknown(name)
            self._register.check_origin(name)
            timeline = self._alarms.pop(name).timeline
            self._bindings.renew([timeline])
            self._register.changed()
            self._reports.note(name, f"is deleted by {by}")
        return Outcome(changed=[name], unchanged={}, saved=self._register.save())

    def list(self, pattern: str = "*") -> list[dict[str, Any]]:
        """Return the alarms of a name or pattern as plain values, in the order of their definition."""
        with self._lock:
            return [self._alarms[name].as_dict() for name in matching(pattern, self._alarms)]

    def status(self) -> dict[str, Any]:
        """Return how many alarms there are, by severity and state, and the counters."""
        with self._lock:
            counts = self._register.counts()
        return {
            **counts,
            "counters": {**self.counters.as_dict(), **self._register.counters()},
            "notifications": [notifier.status() for notifier in self._notifiers],
        }


def _evaluating(timeline: str) -> str:
    return f"evaluating the alarms on timeline {timeline}"
