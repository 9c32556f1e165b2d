"""Publication of the rows that are appended to a node's tables, only while somebody is subscribed."""

import logging
import threading

from autobahn.wamp.exception import TransportLost

from sisock.errors import TooLarge
from sisock.metrics import Counters
from sisock.outage import LimitedLog
from sisock.tables import Table, TableRows, Tables
from sisock.wamp.interest import Interest
from sisock.wamp.outbox import NextTurn, publish
from sisock.wamp.runs import check_size
from sisock.wamp.session import Session
from sisock.wamp.table_queries import encoded_rows, size_of_rows

# Bytes in memory of the rows, about, that are published in one turn of the reactor, as one event.
_EVENT_SIZE = 256 << 10

log = logging.getLogger(__name__)


def table_topic(node: str, table: str) -> str:
    """Return the end of the URI on which a node publishes the rows of a table."""
    return f"consumer.{node}.table.{table}"


class TablePublisher:
    """Publishes rows while a session is joined, from the memory of their tables: it keeps none itself.

    Parameters
    ----------
    session : Session
    node : str
        Name of the node.
    tables : Tables
        All but ``events``, which have a topic of their own.
    interest : Interest
    counters : Counters
        ``published_rows`` and ``unpublished_rows`` are counted there; a client sees those in ``after``.
    """

    def __init__(self, session: Session, node: str, tables: Tables, interest: Interest, counters: Counters) -> None:
        self._session, self._node, self._tables = session, node, tables
        self._interest, self._counters = interest, counters
        self._topics: dict[str, str] = {}  # by table; of those that the interest watches
        self._lock = threading.Lock()
        self._positions: dict[str, int] = {}  # by table; of the next row to be published
        self._schedule = NextTurn(self._flush)
        self._log = LimitedLog(log)

    def open(self) -> None:
        """Publish the rows that are appended from now on."""
        for table in self._tables:
            self._watch(table)
        self._tables.listen(self._on_append)

    def close(self) -> None:
        """Publish nothing more."""
        self._tables.unlisten(self._on_append)

    def _watch(self, table: Table) -> None:
        if table.name != "events":
            self._topics[table.name] = topic = self._session.uri(table_topic(self._node, table.name))
            self._interest.add(topic)

    def _on_append(self, table: Table, first: int) -> None:
        """Publish rows in the reactor's next turns; called in the thread that appends them."""
        if table.name == "events":
            return
        topic = self._topics.get(table.name)
        with self._lock:
            if topic is not None and not self._interest.wants(topic):
                self._positions.pop(table.name, None)
                return
            self._positions.setdefault(table.name, first)
        self._schedule()

    def _flush(self) -> None:
        with self._lock:
            positions, self._positions = self._positions, {}
        if not self._session.is_attached():
            return
        for name, position in positions.items():
            table = self._tables.get(name)
            if name not in self._topics:
                self._watch(table)
            rows = table.newest(position, _EVENT_SIZE)
            with self._lock:  # rows that were appended meanwhile may be among these
                if rows.more or name in self._positions:
                    self._positions[name] = rows.cursor
            self._counters.add("unpublished_rows", max(0, rows.oldest - position))
            if len(rows):
                self._publish(table, max(position, rows.oldest), rows)
        if self._positions:
            self._schedule()

    def _publish(self, table: Table, after: int, rows: TableRows) -> None:
        try:
            check_size(self._session, table.name, size_of_rows(rows))
            content = {"after": after, **encoded_rows(rows, table.columns)}
            error = publish(self._session, self._topics[table.name], content)
        except TooLarge as too_large:
            error = too_large
        self._counters.add("unpublished_rows" if error else "published_rows", len(rows))
        if error is not None and not isinstance(error, TransportLost):
            self._log.warning(table.name, "rows of table %s cannot be published: %s", table.name, error)
