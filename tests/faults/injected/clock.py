"""Faults of the clock of a node's machine."""

import json
import socket

from tests.faults.registry import Fault, fault

_HOUR, _DECADE = 3600, 3653 * 86400


class ClockJump(Fault):
    """The clock jumps while the node runs, and back."""

    part, hold_s = "clock", 5.0
    offset: int

    def inject(self) -> None:
        self.site.shim("always").set(clock_offset_s=self.offset)

    def heal(self) -> None:
        self.site.shim("always").set()


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
