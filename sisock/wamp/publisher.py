"""Live feeds: the batches of a node, published only while somebody is subscribed."""

import logging
import re
from collections import deque
from typing import Any
from urllib.parse import quote

from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import PublishOptions
from twisted.internet.defer import inlineCallbacks

from sisock.fields import Batch, Timeline
from sisock.metrics import Counters
from sisock.wamp.session import Session
from sisock.wamp.wire import Encoding, event_of

# Batches that may wait for the reactor's next turn; more than this means that it is stalled.
_MOST_WAITING = 1000
# Stands for subscriptions that we cannot know of, or not yet; the router's own ids begin at 1.
_UNKNOWN = 0

log = logging.getLogger(__name__)


def feed_topic(node: str, timeline: str, *, packed: bool = False) -> str:
    """Return the end of the URI of a timeline's feed: ``consumer.<node>.feed.<timeline>``.

    Blanks and ``#``, which a URI may not have, are percent-encoded; so are dots at the ends and double dots.
    """
    part = re.sub(r"[\s#%]", lambda m: quote(m[0]), timeline)
    if "" in part.split("."):
        part = part.replace(".", "%2E")
    return f"consumer.{node}.{'feed_packed' if packed else 'feed'}.{part}"


class Publisher:
    """Publishes the batches of some timelines while a session is joined.

    Parameters
    ----------
    session : Session
        Joined; the feed ends with it.
    node : str
        Name of the node.
    counters : Counters
        ``published`` and ``feed_dropped`` are counted there.
    """

    def __init__(self, session: Session, node: str, counters: Counters) -> None:
        from twisted.internet import reactor  # the one that runs the session; importing it installs it

        self._session, self._node, self._counters, self._reactor = session, node, counters, reactor
        self._topics: dict[str, tuple[tuple[str, Encoding], ...]] = {}  # by timeline
        # topic -> ids of the subscriptions (exact, prefix or wildcard) that match it
        self._wanted: dict[str, set[int]] = {}
        self._waiting: deque[Batch | Timeline] = deque()
        self._scheduled = self._opened = False

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def open(self) -> Any:
        """Learn who is subscribed, now and from now on."""
        yield self._session.subscribe(self._on_create, "wamp.subscription.on_create")
        yield self._session.subscribe(self._on_delete, "wamp.subscription.on_delete")
        self._opened = True
        for topic in tuple(self._wanted):
            yield self._look(topic)

    def add(self, timeline: Timeline) -> None:
        """Publish the batches of `timeline`, too; may be called from any thread."""
        self._waiting.append(timeline)
        self._schedule()

    def on_batch(self, batch: Batch) -> None:
        """Publish `batch` at the reactor's next turn; may be called from any thread."""
        # deque.append is atomic; a reactor that is stalled must not make the queue grow for ever.
        if len(self._waiting) >= _MOST_WAITING:
            self._counters.add("feed_dropped")
            return
        self._waiting.append(batch)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callFromThread(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, Timeline):
                self._begin(item.name)
                continue
            for topic, encoding in self._topics[item.timeline]:
                if self._wanted[topic]:
                    self._publish(topic, event_of(item, encoding))

    def _begin(self, timeline: str) -> None:
        if timeline in self._topics:
            return
        topic = self._session.uri(feed_topic(self._node, timeline))
        packed = self._session.uri(feed_topic(self._node, timeline, packed=True))
        self._topics[timeline] = ((topic, "list"), (packed, "packed"))
        for each in (topic, packed):
            self._wanted[each] = {_UNKNOWN}
            if self._opened:
                self._look(each)

    def _publish(self, topic: str, event: dict[str, Any]) -> None:
        try:
            self._session.publish(topic, event, options=PublishOptions(acknowledge=False))
            self._counters.add("published")
        except TransportLost:
            self._counters.add("feed_dropped")  # the history keeps it; a consumer sees the gap in `seq`
        except Exception as error:  # noqa: BLE001 - one event that is too large must not end the feed
            self._counters.add("feed_dropped")
            log.error("event on %s cannot be published: %s", topic, error)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _look(self, topic: str) -> Any:
        before = set(self._wanted[topic])
        try:
            matching = yield self._session.call("wamp.subscription.match", topic)
        except ApplicationError as error:
            log.warning("cannot list the subscribers of %s (%s); publishing to all", topic, error.error)
            matching = [_UNKNOWN]
        except TransportLost:
            return  # the next session begins again
        # Who came since it was asked may not be in the answer.
        self._wanted[topic] = set(matching or ()) | self._wanted[topic] - before

    def _on_create(self, _session: int, subscription: dict[str, Any], *_more: Any) -> None:
        for topic in self._wanted:
            if _matches(topic, subscription["uri"], subscription.get("match", "exact")):
                self._wanted[topic].add(subscription["id"])

    def _on_delete(self, _session: int, subscription: int, *_more: Any) -> None:
        for ids in self._wanted.values():
            ids.discard(subscription)


def _matches(topic: str, pattern: str, match: str) -> bool:
    if match == "prefix":
        return topic.startswith(pattern)
    if match == "wildcard":
        ours, theirs = topic.split("."), pattern.split(".")
        return len(ours) == len(theirs) and all(t in ("", o) for o, t in zip(ours, theirs, strict=True))
    return topic == pattern
