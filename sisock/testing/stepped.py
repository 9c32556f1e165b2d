"""A whole site in one process, whose time is stepped."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred

from sisock.consumer import BlockingConsumer, in_reactor
from sisock.consumer.router_thread import the_reactor
from sisock.node import Node
from sisock.service_node import ServiceNode
from sisock.testing.clock import StepClock
from sisock.testing.router import MemoryRouter
from sisock.testing.serving import Serving
from sisock.wamp.connection import Connection

_PATIENCE_S = 10.0


class SteppedSite:
    """A hub, nodes and consumers in this process, whose nodes go by a clock that is stepped.

    They speak through a `MemoryRouter` and a UNIX socket, in real time; the time of sources, histories, sinks and of
    what is stale is that of `clock`. Real are also the time-outs of calls, and the durations of writes to the disk.

    Parameters
    ----------
    folder : Path
        Where the socket is made.

    Attributes
    ----------
    clock : StepClock
        To be given to the nodes.
    router : MemoryRouter
    """

    def __init__(self, folder: Path) -> None:
        self.clock, self.router = StepClock(), MemoryRouter({"server": "s", "consumer": "c", "operator": "o"})
        self._url = f"unix:{folder / 'router.sock'}"
        self._serving, self._hub = Serving(self.access("server")), Serving(self.access("server"))
        self._port: Any = None

    def access(self, user: str) -> Any:
        """Return how a role reaches the router."""
        return self.router.access(user, self._url)

    def start(self) -> None:
        """Start the router and the hub."""

        def listen() -> Any:
            return the_reactor().listenUNIX(self._url.removeprefix("unix:"), self.router.factory)

        self._port = in_reactor(listen).result(_PATIENCE_S)
        # The extra `testing` has it; sisock does not depend on it.
        self._hub.serve(import_module("sisock_hub.hub").Hub)

    def serve(self, what: Node | ServiceNode | Callable[..., Any]) -> Connection:
        """Serve a node, or what makes a session, until the site is stopped; see `sisock.testing.serving.Serving`."""
        return self._serving.serve(what)

    def consumer(self, role: str = "consumer") -> BlockingConsumer:
        """Return a consumer; open it with ``with``."""
        return BlockingConsumer(self.access(role))

    def run(self, seconds: float) -> None:
        """Let time pass; see `StepClock.run`."""
        self.clock.run(seconds)

    def stop(self) -> None:
        """Stop the nodes, the hub and the router."""
        self._serving.stop()
        self._hub.stop()
        if self._port is not None:
            in_reactor(lambda: maybeDeferred(self._port.stopListening)).result(_PATIENCE_S)
