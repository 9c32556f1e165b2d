"""The alarms that a node has: from its site file, from commands, and with the states that are kept on disk."""

import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sisock.alarm.file import AlarmFile, StoredAlarm
from sisock.alarm.record import Alarm, Origin
from sisock.alarm.reports import Reports
from sisock.alarm.rules import Watch
from sisock.alarm.settings import SEVERITIES, AlarmSettings, parse_alarm
from sisock.errors import BadRequest, NoSuchAlarm
from sisock.outage import OutageLog
from sisock.patterns import did_you_mean, is_plain, matching
from sisock.times import Clock

_MOST_ALARMS = 10_000


class Register:
    """The alarms of a node by name, and the file in which they are kept.

    Parameters
    ----------
    definitions : mapping of str to AlarmSettings
        Those of the site file, which take precedence.
    clock : Clock
    outages : OutageLog
    reports : Reports
    path : Path or None
        None to keep nothing.
    lock : threading.RLock
        Held while an alarm is changed.
    """

    def __init__(
        self,
        definitions: Mapping[str, AlarmSettings],
        clock: Clock,
        outages: OutageLog,
        reports: Reports,
        path: Path | None,
        lock: threading.RLock,
    ) -> None:
        self.alarms: dict[str, Alarm] = {}
        self._clock, self._reports, self._lock = clock, reports, lock
        self._file = AlarmFile(path, self._content, clock, outages) if path is not None else None
        for name, settings in definitions.items():
            self.define(name, settings, "site file")
        if self._file is not None:
            self._load(self._file)

    def define(self, name: str, settings: AlarmSettings, origin: Origin) -> Alarm:
        """Define an alarm; one that exists keeps its state, and forgets for which units it was set."""
        before = self.alarms.get(name)
        alarm = Alarm(name, settings, origin, Watch(name, settings), self._clock.now())
        if before is not None:
            alarm.restore(StoredAlarm.model_validate({**before.stored(), "units": None}))
        self.alarms[name] = alarm
        return alarm

    def _load(self, file: AlarmFile) -> None:
        stored, error = file.read()
        if error is not None:
            self._reports.damage(error)
        for name, content in stored.definitions.items():
            if name in self.alarms:
                self._reports.note(
                    name, "is defined in the site file, which replaces what a command has set", "warning"
                )
                continue
            try:
                self.define(name, parse_alarm(name, content), "command")
            except (BadRequest, ValidationError) as problem:  # of another version, or edited
                self._reports.damage(f"alarm {name!r}, which a command has set, is left out: {problem}")
        for name, known in stored.alarms.items():
            if name in self.alarms:
                self.alarms[name].restore(known)
            elif known.state != "normal":
                self._reports.note(name, f"is no longer defined; it was {known.state}")

    def _content(self) -> dict[str, Any]:
        with self._lock:
            alarms = list(self.alarms.values())
            return {
                "version": 1,
                "definitions": {each.name: each.settings.as_content() for each in alarms if each.origin == "command"},
                "alarms": {each.name: each.stored() for each in alarms},
            }

    def named(self, pattern: str) -> list[str]:
        """Return the names of the alarms that a name or a pattern means.

        Raises
        ------
        NoSuchAlarm
            If it means none.
        """
        if found := matching(pattern, self.alarms):
            return found
        raise self.unknown(pattern)

    def unknown(self, name: str) -> NoSuchAlarm:
        """Return the error for an alarm that does not exist."""
        hint = did_you_mean(name, self.alarms) if is_plain(name) else ""
        return NoSuchAlarm(f"no alarm {name!r}; {hint or '`sisock alarms` lists them'}")

    def check_origin(self, name: str) -> None:
        """Raise BadRequest if an alarm is defined in the site file."""
        if name in self.alarms and self.alarms[name].origin == "site file":
            raise BadRequest(f"alarm {name!r} is defined in the site file, which takes precedence; change it there")

    def check_room(self, name: str) -> None:
        """Raise BadRequest if there are too many alarms for a new one of that name."""
        if name not in self.alarms and len(self.alarms) >= _MOST_ALARMS:
            raise BadRequest(f"the node has {_MOST_ALARMS:,} alarms, which is the maximum; delete others first")

    def counts(self) -> dict[str, Any]:
        """Return how many alarms there are, how many of them are not evaluated, and their states by severity."""
        states: dict[str, Counter[str]] = {severity: Counter() for severity in SEVERITIES}
        for alarm in self.alarms.values():
            states[alarm.settings.severity][alarm.state.state] += 1
        return {
            "total": len(self.alarms),
            "not_evaluated": sum(alarm.error is not None for alarm in self.alarms.values()),
            "by_severity": {severity: dict(counts) for severity, counts in states.items() if counts},
        }

    def start(self) -> None:
        """Begin to write changes."""
        if self._file is not None:
            self._file.start()

    def stop(self) -> None:
        """Write what has changed, and end that."""
        if self._file is not None:
            self._file.stop()

    def changed(self) -> None:
        """Have the alarms written soon; does not wait."""
        if self._file is not None:
            self._file.changed()

    def save(self) -> bool:
        """Wait until they are on the disk, and return whether they are; without the lock, which the writing needs."""
        return self._file is not None and self._file.save()

    def counters(self) -> dict[str, int]:
        """Return how often the file was written, and how often that failed."""
        return {f"file_{name}": count for name, count in self._file.counters.as_dict().items()} if self._file else {}
