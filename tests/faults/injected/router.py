"""Faults of the router, and of what is between it and the nodes."""

import signal

from tests.faults.observer import Seen
from tests.faults.registry import Fault, Moment, fault
from tests.faults.site import machine_of

# Seconds after which a site that does not work must say so.
NOTICED_S = 5.0
# Within which the gateway reports its status, whatever hangs.
PROMPT_S = 1.0


def slow_status(seen: Seen, moment: Moment) -> str | None:
    """Return the complaint that `/healthz` or `/readyz` took longer than `PROMPT_S` in the middle of the fault."""
    took = sorted(took for t, _, took in seen.ready if moment.began < t < moment.ended)
    # One of ten is left to the machine, which does other things, too.
    usual = took[int(len(took) * 0.9)] if took else 0.0
    return f"/healthz and /readyz took {usual:.1f} s" if usual > PROMPT_S else None


def not_ready(seen: Seen, moment: Moment) -> str | None:
    """Return the complaint that `/readyz` was slow, or 200 when the fault was there for longer than `NOTICED_S`."""
    looks = [ready for t, ready, _ in seen.ready if moment.began + NOTICED_S < t < moment.ended - 0.5]
    return "/readyz was 200 all the time" if looks and all(looks) else slow_status(seen, moment)


def stale(node: str, seen: Seen, moment: Moment) -> str | None:
    """Return the complaint that a node was shown as live all the time."""
    states = [state for t, state in seen.states[node] if moment.began < t < moment.ended]
    return f"{node} was shown as live all the time" if states and set(states) <= {"live", "online"} else None


@fault
class RouterKill(Fault):
    """The router's processes are killed and started again; the end is when it accepts connections."""

    name, part, short, hold_s, repeats = "router-kill", "router", True, 1.0, 20

    def inject(self) -> None:
        self.site.parts["router"].kill()

    def heal(self) -> None:
        self.site.wait_for_router()


@fault
class RouterFreeze(Fault):
    """The router's processes are stopped (SIGSTOP) for 15 s."""

    name, part, hold_s = "router-freeze", "router", 15.0

    def inject(self) -> None:
        self.site.parts["router"].signal(signal.SIGSTOP)

    def heal(self) -> None:
        self.site.parts["router"].signal(signal.SIGCONT)

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return not_ready(seen, moment)


@fault
class RouterReset(Fault):
    """All connections between nodes and router are reset, again and again for 3 s."""

    name, part, short = "router-reset", "router", True

    def inject(self) -> None:
        for proxy in self.site.proxies.values():
            proxy.reset()

    def heal(self) -> None:
        self.inject()


@fault
class RouterBlackHole(Fault):
    """Messages between nodes and router are lost for 25 s; no connection is closed."""

    name, part, hold_s = "router-black-hole", "router", 25.0

    def inject(self) -> None:
        for proxy in self.site.proxies.values():
            proxy.swallow(True)

    def heal(self) -> None:
        for proxy in self.site.proxies.values():
            proxy.swallow(False)

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return stale("always", seen, moment) or stale("none", seen, moment)


@fault
class RouterDelay(Fault):
    """Messages between nodes and router arrive half a second late, for 10 s."""

    name, part, hold_s = "router-delay", "router", 10.0

    def inject(self) -> None:
        for proxy in self.site.proxies.values():
            proxy.delay_s = 0.5

    def heal(self) -> None:
        for proxy in self.site.proxies.values():
            proxy.delay_s = 0.0


class HalfOpen(Fault):
    """A node's machine is restarted, and the router sees nothing of it."""

    part, hold_s = "router", 1.0
    node: str

    def inject(self) -> None:
        part = self.site.parts[self.node]
        self.site.proxies[machine_of(self.node)].half_open()
        part.kill()

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        return None


@fault
class HalfOpenWebSocket(HalfOpen):
    """A node is killed behind a half-open WebSocket and comes back as a new process."""

    name, node = "router-half-open-websocket", "always"
    recovery_s = 20.0


@fault
class HalfOpenRawSocket(HalfOpen):
    """A node is killed behind a half-open RawSocket and comes back as a new process."""

    name, node = "router-half-open-rawsocket", "none"
    recovery_s = 20.0
