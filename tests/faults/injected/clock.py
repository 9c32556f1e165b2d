"""Faults of the clock of a node's machine."""

import json
import socket
import time
from typing import Any

import numpy as np

from sisock.history.quarantine import list_quarantined
from sisock.recording import open_recording
from tests.faults.journal import Journal
from tests.faults.registry import Fault, fault

_HOUR, _DECADE = 3600, 3653 * 86400


class ClockJump(Fault):
    """The clock jumps while the node runs, and back."""

    part, hold_s = "clock", 5.0
    offset: int

    def prepare(self) -> None:
        self._resets, self._ahead = self._status()["reset"], len(self._acknowledged_ahead())

    def inject(self) -> None:
        self.site.shim("always").set(clock_offset_s=self.offset)

    def heal(self) -> None:
        self.site.shim("always").set()

    def violations(self) -> list[str]:
        """Return what was acknowledged ahead and not quarantined, and resets by a clock that was behind."""
        resets = self._status()["reset"] - self._resets
        if self.offset < 0:
            return [f"the watermark was set back {resets} times by a clock that was behind"] if resets else []
        ahead = self._acknowledged_ahead()
        missing = np.setdiff1d(ahead, self._quarantined())
        found = [f"{len(missing)} of {len(ahead)} samples that are ahead were not quarantined"] if len(missing) else []
        new = len(ahead) - self._ahead  # none if the node was not up before the clock was right again
        return found if resets == (new > 0) else [*found, f"{resets} resets for {new} samples that were ahead"]

    def _acknowledged_ahead(self) -> np.ndarray:
        """Return the numbers that were acknowledged with times that are ahead of the clock."""
        journal = Journal(self.site.folder / "always.journal")
        journal.read()
        known = journal.acknowledged()
        return known.numbers[known.t > time.time() + 60.0]

    def _quarantined(self) -> np.ndarray:
        """Return the numbers in the quarantine of the node's history."""
        numbers = [np.empty(0)]
        for file in list_quarantined(self.site.history("always")):
            if file.timeline is not None:
                with open_recording(file.path) as recording:
                    numbers += [batch["number"] for batch in recording.batches(file.timeline)]
        return np.concatenate(numbers).astype(np.int64)

    def _status(self) -> dict[str, Any]:
        with self.site.consumer() as consumer:
            status: dict[str, Any] = consumer.status("always")["timelines"]["numbers"]
        return status


class ClockAtStart(ClockJump):
    """The node starts once with a wrong clock, and is started again with the right one."""

    def inject(self) -> None:
        super().inject()
        self.site.parts["always"].kill()

    def heal(self) -> None:
        super().heal()
        self.site.parts["always"].kill()


for _name, _offset, _said in (
    ("plus-hour", _HOUR, "an hour ahead"),
    ("minus-hour", -_HOUR, "an hour behind"),
    ("plus-decade", _DECADE, "ten years ahead"),
    ("minus-decade", -_DECADE, "ten years behind"),
):
    _doc = f"A node's clock is {_said} for 5 s while it runs."
    fault(type("Jump", (ClockJump,), {"name": f"clock-{_name}", "offset": _offset, "__doc__": _doc}))
    _doc = f"A node starts once with its clock {_said}, and is killed and started with the right one."
    fault(type("Start", (ClockAtStart,), {"name": f"clock-{_name}-at-start", "offset": _offset, "__doc__": _doc}))


@fault
class Duplicates(Fault):
    """The last 100 batches of a node are sent again, with the same times."""

    name, part, short, hold_s = "clock-duplicates", "clock", True, 0.0

    def inject(self) -> None:
        lines = (self.site.folder / "always.journal").read_text().splitlines()[-101:-1]
        with socket.create_connection(("127.0.0.1", self.site.ports["always"]), 5.0) as connection:
            answers = connection.makefile("rb")
            for line in map(json.loads, lines):
                connection.sendall(json.dumps({key: line[key] for key in ("first", "count", "start")}).encode() + b"\n")
                answers.readline()
