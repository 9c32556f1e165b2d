"""Tables of nodes, for notebooks and scripts."""

from collections.abc import Iterator, Sequence

from sisock.consumer.asynchronous import Consumer
from sisock.consumer.blocking_work import BlockingWork
from sisock.consumer.connection import documented_as
from sisock.consumer.lists import TableList
from sisock.consumer.tables import Condition, Order, TablePage, TableReading, TableRequest, table_arguments


class BlockingTables(BlockingWork):
    """The methods of `BlockingConsumer` that read tables."""

    @documented_as(Consumer.tables)
    def tables(self, node: str) -> TableList:
        """See `Consumer.tables`."""
        __tracebackhide__ = True
        return TableList(self._result(self._request("query", self._timeout_s, node, "tables", {})))

    @documented_as(Consumer.table)
    def table(
        self,
        node: str,
        name: str,
        conditions: Sequence[Condition] = (),
        *,
        columns: Sequence[str] | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = 1000,
        order: Order = "ascending",
    ) -> TablePage:
        """See `Consumer.table`."""
        __tracebackhide__ = True
        which = {"columns": columns, "conditions": conditions, "after": after, "before": before}
        asked = TableRequest(node, name, limit, order, which)
        while not asked.is_done:
            asked.answered(self._result(self._request("query", self._timeout_s, node, "table", asked.arguments())))
        return asked.result()

    @documented_as(Consumer.follow_table)
    def follow_table(
        self,
        node: str,
        name: str,
        conditions: Sequence[Condition] = (),
        *,
        columns: Sequence[str] | None = None,
        after: int | None = None,
    ) -> Iterator[TablePage]:
        """See `Consumer.follow_table`."""
        __tracebackhide__ = True
        which = table_arguments({"name": name, "columns": columns, "conditions": conditions, "encoding": "packed"})
        yield from self._following(node, TableReading(node, which, after))
