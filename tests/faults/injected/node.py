"""Faults of nodes: kills in the middle of appends, and damaged files."""

import time

from tests.faults.registry import Fault, fault
from tests.faults.site import NUMBERED

_BURST_S = 2.0


class NodeKill(Fault):
    """A node is killed in the middle of an append."""

    part, hold_s, repeats = "node", 0.0, 3

    def inject(self) -> None:
        node = self.name.removeprefix("node-kill-")
        self.site.send(node, count=self.chance.choice((1, 10, 500, 5000)), period=0.0)
        time.sleep(self.chance.uniform(0.2, _BURST_S))
        self.site.parts[node].kill()

    def heal(self) -> None:
        self.site.send_as_usual()


for _mode in NUMBERED:
    _doc = f"The node with `sync: {_mode}` is killed (-9) in the middle of an append, under load."
    fault(
        type(
            f"NodeKill{_mode}", (NodeKill,), {"name": f"node-kill-{_mode}", "short": _mode == "always", "__doc__": _doc}
        )
    )
