"""Which alarm is about which field of which timeline, and the rules of each timeline that follow from it."""

from collections.abc import Collection, Iterable

from sisock.alarm.record import WAITING, Alarm
from sisock.alarm.reports import Reports
from sisock.alarm.rules import Rules
from sisock.fields import Field, Timeline
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.times import Clock

# Seconds for which an alarm may wait for its field before that is reported, and most alarms that the report names.
_PATIENCE_S, _MOST_NAMED = 60.0, 5


class Bindings:
    """The fields of a node, and the rules of its alarms by timeline.

    Parameters
    ----------
    alarms : collection of Alarm
        All of the node, as they are at any time.
    clock : Clock
    outages : OutageLog
        Where alarms that are not evaluated are reported.
    reports : Reports
    counters : Counters
        See `Rules`.
    """

    def __init__(
        self, alarms: Collection[Alarm], clock: Clock, outages: OutageLog, reports: Reports, counters: Counters
    ) -> None:
        self._alarms, self._clock, self._outages, self._reports = alarms, clock, outages, reports
        self._counters, self._began = counters, clock.monotonic()
        self.rules: dict[str, Rules] = {}
        """By timeline; replaced and never changed, since batches look theirs up without a lock."""
        self._timelines: dict[str, Timeline] = {}
        self._fields: dict[str, tuple[str, Field]] = {}
        self._faults: list[str] = []

    def add(self, timeline: Timeline) -> bool:
        """Take a new timeline, or a known one with other fields; return whether there are alarms on these."""
        before = self._timelines.get(timeline.name)
        self._timelines[timeline.name] = timeline
        names = {field.name for field in timeline.fields}
        gone = {field.name for field in before.fields} - names if before is not None else set()
        for name in gone:
            del self._fields[name]
        self._fields.update({field.name: (timeline.name, field) for field in timeline.fields})
        alarms = [alarm for alarm in self._alarms if alarm.settings.field in names | gone]
        self.bind(alarms)
        return bool(alarms)

    def bind(self, alarms: Iterable[Alarm]) -> None:
        """Look up the fields of some alarms, and make the rules of their timelines."""
        touched: set[str | None] = set()
        for alarm in alarms:
            touched.add(alarm.timeline)
            self._look_up(alarm)
            touched.add(alarm.timeline)
        self.renew(touched)

    def renew(self, timelines: Iterable[str | None]) -> None:
        """Make the rules of some timelines from the alarms on them."""
        fresh = {name: self._make(name) for name in timelines if name is not None}
        self.rules = {name: rules for name, rules in {**self.rules, **fresh}.items() if rules.watches}

    def _look_up(self, alarm: Alarm) -> None:
        found, before, had_field = self._fields.get(alarm.settings.field), alarm.error, alarm.timeline is not None
        if found is None:
            alarm.timeline, alarm.error = None, WAITING
        else:
            alarm.timeline, alarm.error = found[0], _error(alarm, found[1])
        # At the start an alarm just waits.
        if alarm.error is not None and alarm.error != before and (had_field or alarm.timeline is not None):
            self._reports.note(alarm.name, f"is not evaluated: {alarm.error}", "warning")
        elif before not in (None, WAITING) and alarm.error is None:
            self._reports.note(alarm.name, "is evaluated again")

    def _make(self, timeline: str) -> Rules:
        watches = [each.watch for each in self._alarms if each.timeline == timeline and each.error is None]
        rules = Rules(watches, self._clock.monotonic(), self._counters)
        if (before := self.rules.get(timeline)) is not None:
            rules.take_over(before)
        return rules

    def tick(self) -> None:
        """Report alarms that are not evaluated; those that wait for their fields after a while."""
        is_late = self._clock.monotonic() - self._began >= _PATIENCE_S
        faults = [
            f"{alarm.name}: {f'field {alarm.settings.field!r} does not exist' if no_field else alarm.error}"
            for alarm in self._alarms
            if alarm.error is not None and ((no_field := alarm.timeline is None) <= is_late)
        ]
        if faults == self._faults:
            return
        self._faults, key = faults, "alarms that are not evaluated"
        if not faults:
            self._outages.recovered(key)
            return
        more = f", and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        self._outages.failed(key, f"{'; '.join(faults[:_MOST_NAMED])}{more}")


def _error(alarm: Alarm, field: Field) -> str | None:
    """Return why an alarm does not suit its field; None if it does."""
    if field.shape:
        return f"samples of field {field.name!r} are arrays, and an alarm compares numbers"
    if (error := alarm.settings.mismatch(field)) is not None or alarm.settings.stale_after is not None:
        return error
    units = field.units or ""
    if alarm.settings.units is not None:
        alarm.units = alarm.settings.units
    elif alarm.units is None:
        alarm.units = units
    if alarm.units == units:
        return None
    return (
        f"field {field.name!r} has units {units!r}, and the alarm was set for {alarm.units!r}; check its limits, then "
        f"set it again with units: {units!r}"
    )
