"""Sending no faster than the transport and the router take it."""

import logging
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from sisock.wamp.session import Session

log = logging.getLogger(__name__)


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

    @property
    def is_used(self) -> bool:
        """Whether something is being sent."""
        return self._users > 0

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


class RouterBackpressure:
    """Asks the router when it takes more for a caller; other routers than ours take all at once.

    Parameters
    ----------
    session : Session
        Of the node that answers.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_pacing = True

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def room(self, caller: int | None) -> Any:
        """Wait until the router takes one more chunk for a caller."""
        if not self._is_pacing or caller is None:
            return
        try:
            yield _not_cancelled(self._session.call(self._session.uri("router.room"), caller))
        except TransportLost:
            return
        except ApplicationError as error:
            if self._session.is_attached():
                log.info("the router does not pace large answers (%s)", error.error)
                self._is_pacing = False


def _not_cancelled(call: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred that fires as a call does, and does not cancel it when it is cancelled itself.

    A session in Crossbar's own process cannot take an INTERRUPT, which Crossbar logs as an unhandled message.
    """
    ended: Deferred[Any] = Deferred()
    call.addBoth(lambda result: None if ended.called else ended.callback(result))
    return ended
