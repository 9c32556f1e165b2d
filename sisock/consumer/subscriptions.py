"""The topics that a consumer follows."""

import logging
from collections.abc import Callable
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, inlineCallbacks
from twisted.python.failure import Failure

from sisock.errors import SisockError
from sisock.outage import LimitedLog
from sisock.wamp.session import Session

# Errors of pending requests when the session is closed or its transport is lost.
LOST = (ApplicationError.CANCELED, "wamp.close.transport_lost", "wamp.close.goodbye_and_out")

Handler = Callable[[Any], None]

log = logging.getLogger(__name__)
_refused = LimitedLog(log)


class _Topic:
    def __init__(self, name: str) -> None:
        self.name = name
        self.handlers: list[Handler] = []
        self.lock = DeferredLock()  # held while the router is asked for a change
        self.subscription: Any = None
        self.session: Session | None = None  # of the subscription

    def deliver(self, event: Any = None, *_args: Any, **_kwargs: Any) -> None:
        for handler in tuple(self.handlers):
            try:
                handler(event)
            except SisockError as error:  # one that is not of the contract must not keep other handlers from it
                _refused.warning(self.name, "an event on %s is not valid: %s", self.name, error.message)


class Subscriptions:
    """Handlers by topic, and one subscription for all handlers of a topic; used in the reactor's thread only.

    The router is asked for one change of a topic at a time: a topic that is left while its subscription is not
    confirmed yet would otherwise stay subscribed.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._session: Session | None = None

    def __len__(self) -> int:
        """Return the number of topics that are subscribed, or about to be."""
        return len(self._topics)

    def move_to(self, session: Session) -> "Deferred[Any]":
        """Subscribe to all topics again in a session that has just joined; return a Deferred of when that is done."""
        self._session = session

        def refused(failure: Failure, name: str) -> None:
            failure.trap(ApplicationError)
            log.warning("subscription to %s lost: the router refused it: %s", name, failure.value.error_message())

        settling = [self._settled(topic).addErrback(refused, topic.name) for topic in tuple(self._topics.values())]
        return DeferredList(settling, fireOnOneErrback=True, consumeErrors=True)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def add(self, name: str, handler: Handler) -> Any:
        """Call `handler` with every event on a topic, in this session and those that follow it.

        Raises
        ------
        ApplicationError
            If the router refuses the subscription.
        """
        topic = self._topics.setdefault(name, _Topic(name))
        topic.handlers.append(handler)
        try:
            yield self._settled(topic)
        except BaseException:  # also a caller who does not wait any longer
            self.remove(name, handler)
            raise

    def remove(self, name: str, handler: Handler) -> "Deferred[Any] | None":
        """Call `handler` no more; return a Deferred of when the router has confirmed the end of the subscription."""
        topic = self._topics.get(name)
        if topic is None or handler not in topic.handlers:
            return None
        topic.handlers.remove(handler)
        return self._settled(topic) if not topic.handlers else None

    def _settled(self, topic: _Topic) -> "Deferred[None]":
        """Return a Deferred of when the router has confirmed what a topic needs; cancelling it cancels no change."""
        settled: Deferred[None] = Deferred()
        topic.lock.run(self._settle, topic).chainDeferred(settled)
        return settled

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _settle(self, topic: _Topic) -> Any:
        session = self._session
        is_subscribed = topic.subscription is not None and topic.session is session
        try:
            if session is not None and session.is_attached() and bool(topic.handlers) != is_subscribed:
                if is_subscribed:
                    subscription, topic.subscription = topic.subscription, None
                    yield subscription.unsubscribe()
                else:
                    topic.subscription = yield session.subscribe(topic.deliver, session.uri(topic.name))
                    topic.session = session
        except TransportLost:
            pass  # the next session subscribes
        except ApplicationError as error:
            if error.error not in LOST or session is None or session.is_attached():
                raise
        finally:
            if not topic.handlers and not topic.lock.waiting:
                self._topics.pop(topic.name, None)
