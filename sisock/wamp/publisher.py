"""Live feeds: the batches and watermarks of a node, published only while somebody is subscribed."""

import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from autobahn.wamp.exception import TransportLost

from sisock.fields import Batch, Timeline
from sisock.metrics import Counters
from sisock.wamp.interest import Interest
from sisock.wamp.outbox import NextTurn, publish
from sisock.wamp.session import Session
from sisock.wamp.wire import Encoding, event_of
from sisock.watermark import Watermark

# Batches that may wait for the reactor's next turn; more than this means that it is stalled.
_MOST_WAITING = 1000

log = logging.getLogger(__name__)


def feed_topic(node: str, timeline: str, *, packed: bool = False) -> str:
    """Return the end of the URI of a timeline's feed: ``consumer.<node>.feed.<timeline>``."""
    return _topic(node, "feed_packed" if packed else "feed", timeline)


def watermark_topic(node: str, timeline: str) -> str:
    """Return the end of the URI of a timeline's watermarks: ``consumer.<node>.watermark.<timeline>``."""
    return _topic(node, "watermark", timeline)


def _topic(node: str, kind: str, timeline: str) -> str:
    # Blanks and "#" may not be in a URI; neither may dots at the ends and double dots.
    part = re.sub(r"[\s#%]", lambda m: quote(m[0]), timeline)
    if "" in part.split("."):
        part = part.replace(".", "%2E")
    return f"consumer.{node}.{kind}.{part}"


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
    interest : Interest
    """

    def __init__(self, session: Session, node: str, counters: Counters, interest: Interest) -> None:
        self._session, self._node, self._counters, self._interest = session, node, counters, interest
        self._topics: dict[str, tuple[tuple[str, Encoding], ...]] = {}  # by timeline
        self._watermark_topics: dict[str, str] = {}  # by timeline
        self._on_followed: Callable[[], object] | None = None
        self._waiting: deque[Batch | Timeline | tuple[str, Watermark]] = deque()
        self._schedule = NextTurn(self._flush)

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

    def on_watermark(self, timeline: str, watermark: Watermark) -> None:
        """Publish a watermark after the batches that were taken so far; may be called from any thread.

        None is published while the reactor is stalled: the next one stands for it.
        """
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append((timeline, watermark))
            self._schedule()

    def on_followed(self, function: Callable[[], object]) -> None:
        """Have a function called when watermarks may have a new subscriber; before the first timeline."""
        self._on_followed = function

    def followed(self) -> list[str]:
        """Return the timelines whose watermarks have subscribers, or may have some."""
        return [name for name, topic in tuple(self._watermark_topics.items()) if self._interest.wants(topic)]

    def is_subscribed(self, timeline: str) -> bool | None:
        """Whether the feed of `timeline` has subscribers; None while that is not known."""
        known = {self._interest.has_subscribers(topic) for topic, _ in self._topics.get(timeline, ())} or {None}
        return True if True in known else None if None in known else False

    def _flush(self) -> None:
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, Timeline):
                self._begin(item.name)
                continue
            if isinstance(item, tuple):
                self._publish_watermark(*item)
                continue
            for topic, encoding in self._topics[item.timeline]:
                if self._interest.wants(topic):
                    self._publish(topic, event_of(item, encoding))

    def _begin(self, timeline: str) -> None:
        if timeline in self._topics:
            return
        topic = self._session.uri(feed_topic(self._node, timeline))
        packed = self._session.uri(feed_topic(self._node, timeline, packed=True))
        self._topics[timeline] = ((topic, "list"), (packed, "packed"))
        self._watermark_topics[timeline] = watermarks = self._session.uri(watermark_topic(self._node, timeline))
        self._interest.add(topic)
        self._interest.add(packed)
        self._interest.add(watermarks, self._on_followed)

    def _publish_watermark(self, timeline: str, watermark: Watermark) -> None:
        topic = self._watermark_topics[timeline]
        error = publish(self._session, topic, watermark.as_dict())
        if error is not None and not isinstance(error, TransportLost):
            log.error("watermark on %s cannot be published: %s", topic, error)

    def _publish(self, topic: str, event: dict[str, Any]) -> None:
        error = publish(self._session, topic, event)
        if error is None:
            self._counters.add("published")
            return
        self._counters.add("feed_dropped")  # the history keeps it; a consumer sees the gap in `seq`
        if not isinstance(error, TransportLost):
            log.error("event on %s cannot be published: %s", topic, error)
