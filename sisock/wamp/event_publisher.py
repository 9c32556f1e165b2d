"""Publication of a node's events, in lists, only while somebody is subscribed."""

import logging
from collections import deque
from collections.abc import Sequence

from autobahn.wamp.exception import TransportLost

from sisock.event import Event
from sisock.metrics import Counters
from sisock.outage import LimitedLog
from sisock.serializable import to_serializable
from sisock.wamp.interest import Interest
from sisock.wamp.outbox import NextTurn, publish
from sisock.wamp.session import Session

# Events that may wait for the reactor, and their bytes; clients read those that are missing from the node.
_MOST_WAITING, _MOST_BYTES = 20_000, 32 << 20
# Events, and about how many of their bytes, that are published in one turn of the reactor, as one list.
_MOST_IN_LIST, _LIST_SIZE = 500, 256 << 10

log = logging.getLogger(__name__)


def events_topic(node: str) -> str:
    """Return the end of the URI on which a node publishes its events."""
    return f"consumer.{node}.events"


class EventPublisher:
    """Publishes events while a session is joined.

    Parameters
    ----------
    session : Session
    node : str
        Name of the node.
    counters : Counters
        ``published_events`` and ``unpublished_events`` are counted there; a client sees those in ``seq``.
    interest : Interest
    """

    def __init__(self, session: Session, node: str, counters: Counters, interest: Interest) -> None:
        self._session, self._counters, self._interest = session, counters, interest
        self._topic = session.uri(events_topic(node))
        self._waiting: deque[Event] = deque()
        self._bytes_added = self._bytes_sent = 0  # each is written by one thread
        self._schedule = NextTurn(self._flush)
        self._log = LimitedLog(log)
        interest.add(self._topic)

    def on_events(self, events: Sequence[Event]) -> None:
        """Publish events in the reactor's next turns; may be called from any thread, by one at a time."""
        if not self._interest.wants(self._topic):
            return
        for event in events:
            if len(self._waiting) >= _MOST_WAITING or self._bytes_added - self._bytes_sent > _MOST_BYTES:
                self._counters.add("unpublished_events")
                continue
            self._bytes_added += event.size
            self._waiting.append(event)
        self._schedule()

    def _flush(self) -> None:
        events: list[Event] = []
        end = self._bytes_sent + _LIST_SIZE
        while self._waiting and len(events) < _MOST_IN_LIST and self._bytes_sent < end:
            events.append(event := self._waiting.popleft())
            self._bytes_sent += event.size
        if events:
            self._publish(events)
        if self._waiting:
            self._schedule()

    def _publish(self, events: Sequence[Event]) -> None:
        content = [{**event.as_dict(), "data": to_serializable(event.data)} for event in events]
        error = publish(self._session, self._topic, content)
        if error is None:
            self._counters.add("published_events", len(events))
        elif len(events) > 1 and not isinstance(error, TransportLost):
            for event in events:  # one that cannot be published must not keep the others
                self._publish([event])
        else:
            self._counters.add("unpublished_events", len(events))
            if not isinstance(error, TransportLost):
                self._log.warning(events[0].kind, "event %d cannot be published: %s", events[0].seq, error)
