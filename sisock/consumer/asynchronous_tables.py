"""Tables of nodes, for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sisock.consumer.asynchronous_work import AsyncWork
from sisock.consumer.lists import TableList
from sisock.consumer.tables import Condition, Order, TablePage, TableReading, TableRequest, table_arguments


class AsyncTables(AsyncWork):
    """The methods of `Consumer` that read tables."""

    async def tables(self, node: str) -> TableList:
        """Return the tables of a node.

        Parameters
        ----------
        node : str

        Returns
        -------
        list of dict
            Each with ``name``, ``columns`` (types by name), the numbers of its ``oldest`` and of its ``next`` row, and
            the ``bytes`` that it takes on disk.

        Raises
        ------
        NoSuchNode, NoSuchProcedure
            If there is no such node, or it has no tables.
        NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> [table["name"] for table in await c.tables("rig")]  # doctest: +SKIP
        ['events', 'operations', 'shots']
        """
        return TableList(await asyncio.wrap_future(self._request("query", self._timeout_s, node, "tables", {})))

    async def table(
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
        **more: Any,
    ) -> TablePage:
        """Return rows of a table of a node.

        Parameters
        ----------
        node, name : str
            The node, and its table; see `tables`.
        conditions : sequence of [column, op, value] or of str
            All of which hold: ``["energy", ">", 2.5]``, or as a text ``"energy > 2.5"``. The ops are ``==``, ``!=``,
            ``<``, ``<=``, ``>``, ``>=``, ``in`` (a list), ``contains`` (a part of a text, an element of JSON) and
            ``like`` (a shell pattern, or alternatives ``{a,b}``).
        columns : sequence of str, optional
            All if not given.
        after, before : int, optional
            The `cursor` of an earlier page; the number below which the rows are.
        limit : int, optional
            Most rows; None for all.
        order : {"ascending", "descending"}
            By the numbers of the rows; with a limit, the oldest or the newest are returned.
        **more : Any
            Arguments of the query `table`; the gateway has some.

        Returns
        -------
        TablePage
            A mapping of column name to ndarray, with `numbers`, `cursor`, `more` and `to_pandas()`.

        Raises
        ------
        NoSuchNode, NoSuchTable
            If there is no such node or table; with the names that are most like it.
        BadRequest
            If a condition or a column is not valid.
        BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> page = await c.table("rig", "shots", ["energy > 2.5"], limit=10)  # doctest: +SKIP
        >>> page["energy"].mean(), page.cursor  # doctest: +SKIP
        """
        which = {"columns": columns, "conditions": conditions, "after": after, "before": before, **more}
        asked = TableRequest(node, name, limit, order, which)
        while not asked.is_done:
            arguments = asked.arguments()
            asked.answered(await asyncio.wrap_future(self._request("query", self._timeout_s, node, "table", arguments)))
        return asked.result()

    async def follow_table(
        self,
        node: str,
        name: str,
        conditions: Sequence[Condition] = (),
        *,
        columns: Sequence[str] | None = None,
        after: int | None = None,
    ) -> AsyncIterator[TablePage]:
        """Yield the rows of a table as they are appended, without end, through losses of the router and of the node.

        Parameters
        ----------
        node, name : str
        conditions : sequence of [column, op, value] or of str
            As for `table`.
        columns : sequence of str, optional
        after : int, optional
            The `cursor` of an earlier page, to begin there; with what is appended next if not given.

        Yields
        ------
        TablePage
            Some rows, none twice; where `oldest` is above the cursor before, the node no longer has those between.

        Raises
        ------
        NoSuchNode, NoSuchTable, BadRequest, NotAllowed, BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> async for page in c.follow_table("rig", "shots", ["energy > 2.5"]):  # doctest: +SKIP
        ...     print(page.rows)
        """
        which = table_arguments({"name": name, "columns": columns, "conditions": conditions, "encoding": "packed"})
        async for page in self._following(node, TableReading(node, which, after)):
            yield page
