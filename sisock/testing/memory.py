"""Connections in memory, made and timed by a reactor that is stepped."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sisock.consumer import in_reactor
from sisock.testing.router import MemoryRouter


def runs_in_reactor(test: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., None]:
    """Have a test that is a coroutine, and awaits Deferreds, run in the thread of Twisted's reactor.

    It is the thread in which consumers of the process live, so that blocking tests run beside.
    """

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        in_reactor(lambda: ensureDeferred(test(*args, **kwargs))).result(120.0)

    return run


class MemoryReactor(Clock):  # type: ignore[misc]  # Twisted's classes are untyped
    """A reactor for `sisock.wamp.connection.Connection` whose connections are in memory and whose time is stepped.

    All of it belongs into one thread; see `runs_in_reactor`.

    Parameters
    ----------
    router : MemoryRouter
    """

    def __init__(self, router: MemoryRouter) -> None:
        super().__init__()
        self.router, self.refuses = router, False
        self.attempts: list[float] = []
        """When connections were made or refused, in seconds of this clock."""

    def connectUNIX(self, address: str, factory: Any, timeout: float = 30, checkPID: int = 0) -> Any:
        """Connect a client to the router, or refuse it where `refuses` is set."""
        del timeout, checkPID
        self.attempts.append(self.seconds())
        factory.doStart()
        connector = _Connector()
        if self.refuses:
            self.callLater(0, factory.clientConnectionFailed, connector, Failure(ConnectionRefusedError()))
        else:
            ours, theirs = factory.buildProtocol(address), self.router.factory.buildProtocol(address)
            client, server = _Pipe(self, ours), _Pipe(self, theirs)
            client.peer, server.peer = server, client
            theirs.makeConnection(server)
            ours.makeConnection(client)
        return connector

    def settle(self) -> None:
        """Have everything happen that is to happen now."""
        while self.calls and self.calls[0].getTime() <= self.seconds():
            self.advance(0)

    def until(self, deferred: Deferred[Any]) -> Any:
        """Return the result of what needs no time to pass.

        Raises
        ------
        TimeoutError
            If it has none yet.
        """
        outcomes: list[Any] = []
        deferred.addBoth(outcomes.append)
        self.settle()
        if not outcomes:
            raise TimeoutError("it has no result yet, and nothing more happens unless the clock is stepped")
        if isinstance(outcomes[0], Failure):
            outcomes[0].raiseException()
        return outcomes[0]


class _Connector:
    def stopConnecting(self) -> None:
        pass

    def disconnect(self) -> None:
        pass


class _Pipe:
    """One end of a connection in memory: what is written arrives at the reactor's next turn."""

    def __init__(self, reactor: MemoryReactor, protocol: Any) -> None:
        self._reactor, self._protocol = reactor, protocol
        self.peer: _Pipe | None = None
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        if self.peer is not None:
            self._reactor.callLater(0, self.peer.arrive, data)

    def writeSequence(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def arrive(self, data: bytes) -> None:
        if self.peer is not None:
            self._protocol.dataReceived(data)

    def loseConnection(self, _reason: Any = None) -> None:
        self.disconnecting = True
        self._reactor.callLater(0, self.close, ConnectionDone())

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._reactor.callLater(0, self.close, ConnectionAborted())

    def close(self, reason: Exception) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            self._protocol.connectionLost(Failure(reason))
            peer.close(ConnectionDone())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take everything at once, so that no producer is ever paused."""

    def unregisterProducer(self) -> None:
        pass

    def getPeer(self) -> str:
        return "memory"

    def getHost(self) -> str:
        return "memory"
