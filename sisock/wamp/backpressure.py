"""Sending no faster than a transport takes it."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Backpressure:
    """Reports when a transport takes more; used in the reactor's thread only.

    Parameters
    ----------
    transport : twisted.internet.interfaces.IConsumer
        Nobody else may be its producer.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._users = 0
        self._paused = False
        self._waiting: list[Deferred[None]] = []

    def begin(self) -> None:
        """Have the transport report when it is full."""
        self._users += 1
        if self._users == 1:
            self._transport.registerProducer(self, True)

    def end(self) -> None:
        """Stop that; called as often as `begin`. A TLS transport cannot be closed before."""
        self._users -= 1
        if self._users == 0:
            self._transport.unregisterProducer()
            self.resumeProducing()

    def room(self) -> Deferred[None]:
        """Return a Deferred that fires when the transport takes more, or is lost."""
        if not self._paused:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def pauseProducing(self) -> None:
        """Pause, since the transport is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Resume, since the transport takes more."""
        self._paused = False
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def stopProducing(self) -> None:
        """Resume, since the transport is lost."""
        self.resumeProducing()
