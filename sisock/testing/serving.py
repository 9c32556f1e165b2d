"""Serving nodes in the process of a test."""

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from sisock.access import Access
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.node import Node
from sisock.server import HistoryServer
from sisock.service_node import ServiceNode, ServiceServer
from sisock.wamp.connection import Connection

_COME_UP_S = 10.0


class Serving:
    """Nodes that are served in this process, through the reactor that consumers use."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connections: list[Connection] = []
        self._nodes: list[Node | ServiceNode] = []

    def serve(self, what: Node | ServiceNode | Callable[..., Any]) -> Connection:
        """Serve a Node or a ServiceNode, or a callable that makes a session, such as a DataNodeServer subclass.

        It returns when the hub has added the node; for a session that is not of a node, when it is ready.

        Raises
        ------
        SisockError
            If the router refuses it, or its name is taken.
        TimeoutError
            If it is not added in time.
        """
        node = what if isinstance(what, Node | ServiceNode) else None
        added = threading.Event()

        def make(config: Any) -> Any:
            session = _session(what, config)
            session.on("ready", lambda *_: added.set() if getattr(session, "added", True) else None)
            return session

        def begin() -> Connection:
            connection = Connection(self._access, make)
            connection.ended.addErrback(ended)
            connection.start()
            return connection

        def ended(failure: Any) -> None:
            failures.append(failure.value)
            added.set()

        failures: list[Exception] = []
        connection: Connection = in_reactor(begin).result(_COME_UP_S)
        self._connections.append(connection)
        if not added.wait(_COME_UP_S):
            raise TimeoutError(f"the node was not added within {_COME_UP_S} s: {connection.trouble}")
        if failures:
            raise failures[0]
        if node is not None:
            self._nodes.append(node)
            node.start()
        return connection

    def consumer(self) -> BlockingConsumer:
        """Return a consumer with the rights of a node; open it with ``with``."""
        return BlockingConsumer(self._access)

    def stop(self) -> None:
        """Stop everything that is served."""

        def end() -> Deferred[Any]:
            return DeferredList([connection.stop() for connection in self._connections])

        in_reactor(end).result(_COME_UP_S)
        for node in self._nodes:
            node.stop()


def _session(what: Node | ServiceNode | Callable[..., Any], config: Any) -> Any:
    if isinstance(what, Node):
        return HistoryServer(what, config)
    return ServiceServer(what, config) if isinstance(what, ServiceNode) else what(config)
