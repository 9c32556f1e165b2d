"""Faults of nodes at work: a kill in the middle of runs of an operation."""

import time
from typing import Any

from sisock.consumer import BlockingConsumer
from sisock.times import wait_until
from tests.faults.registry import Fault, fault

_NODE, _RUNS = "always", 3
_PATIENCE_S = 30.0


@fault
class KillInRuns(Fault):
    """A node is killed (-9) in the middle of runs: they have failed, and events and alarms are as they were."""

    name, part, short, hold_s, repeats = "work-kill", "work", True, 0.0, 3

    def prepare(self) -> None:
        """Have an alarm that somebody has acknowledged, and runs that report updates."""
        self.alarm = f"kill-{self.chance.randrange(16**6):06x}"
        with self._operator() as operator:
            operator.call(_NODE, "set_alarm", name=self.alarm, field="number", above=-1.0)
            self._wait(lambda: self._alarm(operator)["state"] == "unacknowledged", "the alarm is not raised")
            operator.call(_NODE, "acknowledge_alarm", name=self.alarm, comment="seen")
            self.runs = [operator.call(_NODE, "count", _wait=False) for _ in range(_RUNS)]
            self._wait(lambda: all(self._run(operator, run)["update"] for run in self.runs), "no run reports an update")
            self.events = self._events(operator)

    def inject(self) -> None:
        """Kill it while the runs report."""
        time.sleep(self.chance.uniform(0.0, 0.5))
        self.site.parts[_NODE].kill()

    def violations(self) -> list[str]:
        """Look at runs, events and the alarm after the return of the node."""
        with self._operator() as operator:
            wrong = []
            for run in (self._run(operator, number) for number in self.runs):
                if (run["state"], run["error"]) != ("failed", "node stopped"):
                    wrong.append(f"run {run['id']} is {run['state']}, error {run['error']!r}")
            events = self._events(operator)
            changed = [seq for seq, event in self.events.items() if events.get(seq) != event]
            if changed:
                wrong.append(
                    f"{len(changed)} events of {len(self.events)} are lost or have changed, such as {changed[0]}"
                )
            failed = {event["data"].get("run") for event in events.values() if "node stopped" in event["text"]}
            if missing := set(self.runs) - failed:
                wrong.append(f"no event reports that runs have failed: {', '.join(sorted(missing))}")
            if (state := self._alarm(operator)["state"]) != "acknowledged":
                wrong.append(f"the alarm was acknowledged, and is {state}")
            operator.call(_NODE, "delete_alarm", name=self.alarm)
        return wrong

    def _operator(self) -> BlockingConsumer:
        return BlockingConsumer(self.site.access("operator"), cache_bytes=0, timeout_s=10.0, patience_s=10.0)

    def _alarm(self, operator: BlockingConsumer) -> Any:
        (alarm,) = operator.call(_NODE, "alarms", name=self.alarm)
        return alarm

    def _run(self, operator: BlockingConsumer, number: str) -> Any:
        return operator.call(_NODE, "operation", id=number)

    def _events(self, operator: BlockingConsumer) -> dict[int, dict[str, Any]]:
        """Return the newest events by number."""
        return {event["seq"]: event for event in operator.call(_NODE, "events", limit=1000)["events"]}

    def _wait(self, condition: Any, complaint: str) -> None:
        if not wait_until(condition, _PATIENCE_S, every_s=0.05):
            raise TimeoutError(complaint)
