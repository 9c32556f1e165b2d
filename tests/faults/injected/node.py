"""Faults of nodes: kills in the middle of appends, and damaged files."""

import signal
import time

from tests.faults.injected.router import NOTICED_S, slow_status
from tests.faults.observer import Seen
from tests.faults.registry import Fault, Moment, fault
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


@fault
class NodeFreeze(Fault):
    """A node is stopped (SIGSTOP) for 12 s: it is stale within 5 s, and the gateway's status is prompt."""

    name, part, hold_s = "node-freeze", "node", 12.0

    def inject(self) -> None:
        self.site.parts["interval"].signal(signal.SIGSTOP)

    def heal(self) -> None:
        self.site.parts["interval"].signal(signal.SIGCONT)

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        late = moment.began + NOTICED_S + 0.5, moment.ended - 0.5
        states = {state for t, state in seen.states["interval"] if late[0] < t < late[1]}
        if states & {"live", "online"}:
            return f"interval was shown as live after more than {NOTICED_S:g} s"
        return slow_status(seen, moment)


for _mode in NUMBERED:
    _doc = f"The node with `sync: {_mode}` is killed (-9) in the middle of an append, under load."
    fault(
        type(
            f"NodeKill{_mode}", (NodeKill,), {"name": f"node-kill-{_mode}", "short": _mode == "always", "__doc__": _doc}
        )
    )
