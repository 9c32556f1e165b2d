"""Which topics have subscribers, so that nothing is published in vain."""

import logging
from collections.abc import Callable
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import inlineCallbacks

from sisock.wamp.session import Session

# Stands for subscriptions that we cannot know of, or not yet; the router's own ids begin at 1.
_UNKNOWN = 0

log = logging.getLogger(__name__)


class Interest:
    """Knows which of some topics have subscribers: exact, by prefix or by wildcard.

    Parameters
    ----------
    session : Session
        Joined; what is known ends with it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._subscriptions: dict[str, set[int]] = {}  # ids of those that match a topic
        self._to_call: dict[str, Callable[[], object]] = {}  # by topic, when it may have gained a subscriber
        self._opened = False

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def open(self) -> Any:
        """Learn who is subscribed, now and from now on; until then, every topic may have subscribers."""
        yield self._session.subscribe(self._on_create, "wamp.subscription.on_create")
        yield self._session.subscribe(self._on_delete, "wamp.subscription.on_delete")
        self._opened = True
        for topic in tuple(self._subscriptions):
            yield self._look(topic)

    def add(self, topic: str, on_subscribed: Callable[[], object] | None = None) -> None:
        """Watch a topic; `on_subscribed` is called, in the reactor's thread, when it may have a new subscriber."""
        if topic not in self._subscriptions:
            self._subscriptions[topic] = {_UNKNOWN}
            if on_subscribed is not None:
                self._to_call[topic] = on_subscribed
                on_subscribed()
            if self._opened:
                self._look(topic)

    def remove(self, topic: str) -> None:
        """Watch a topic no more."""
        self._subscriptions.pop(topic, None)
        self._to_call.pop(topic, None)

    def has_subscribers(self, topic: str) -> bool | None:
        """Whether a topic that is watched has subscribers; None while that is not known."""
        ids = self._subscriptions.get(topic, {_UNKNOWN})
        return None if _UNKNOWN in ids else bool(ids)

    def wants(self, topic: str) -> bool:
        """Whether a topic that is watched has subscribers, or may have some."""
        return bool(self._subscriptions[topic])

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _look(self, topic: str) -> Any:
        before = set(self._subscriptions[topic])
        try:
            matching = yield self._session.call("wamp.subscription.match", topic)
        except ApplicationError as error:
            log.warning("cannot list the subscribers of %s (%s); publishing to all", topic, error.error)
            matching = [_UNKNOWN]
        except TransportLost:
            return  # the next session begins again
        if topic in self._subscriptions:
            # Subscriptions that were made since it was asked may not be in the answer.
            self._subscriptions[topic] = set(matching or ()) | self._subscriptions[topic] - before

    def _on_create(self, _session: int, subscription: dict[str, Any], *_more: Any) -> None:
        for topic, ids in self._subscriptions.items():
            if _matches(topic, subscription["uri"], subscription.get("match", "exact")):
                ids.add(subscription["id"])
                if topic in self._to_call:
                    self._to_call[topic]()

    def _on_delete(self, _session: int, subscription: int, *_more: Any) -> None:
        for ids in self._subscriptions.values():
            ids.discard(subscription)


def _matches(topic: str, pattern: str, match: str) -> bool:
    if match == "prefix":
        return topic.startswith(pattern)
    if match == "wildcard":
        ours, theirs = topic.split("."), pattern.split(".")
        return len(ours) == len(theirs) and all(t in ("", o) for o, t in zip(ours, theirs, strict=True))
    return topic == pattern
