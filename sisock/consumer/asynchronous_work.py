"""Queries, commands and operations, for asyncio."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from sisock.consumer.connection import Connected
from sisock.consumer.events import GATHER_S, EventReading
from sisock.consumer.keyvalue import TreeReading, TreeUpdate
from sisock.consumer.lists import AlarmList, RunList
from sisock.consumer.runs import RunHandle
from sisock.consumer.signal import Signal
from sisock.errors import NotOpen, SisockError
from sisock.event import EventPage, Severity
from sisock.times import SYSTEM_CLOCK


class AsyncWork(Connected):
    """The methods of `Consumer` that have nodes do something."""

    async def procedures(self, node: str) -> list[dict[str, Any]]:
        """Return the queries, commands and operations of a node; empty if the node has no `procedures`.

        Parameters
        ----------
        node : str

        Returns
        -------
        list of dict
            Each with ``name``, ``kind``, ``description``, and ``parameters`` and ``result`` as JSON schemas; nodes of
            older versions list no ``kind``, and have commands only.

        Raises
        ------
        NoSuchNode
            If there is no such node; with the names that are most like it.
        BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> [each["name"] for each in await c.procedures("udp")]  # doctest: +SKIP
        ['create_source', 'remove_source', 'sources']
        """
        return await asyncio.wrap_future(self._request("procedures", node, self._timeout_s))

    async def call(self, node: str, procedure: str, /, **arguments: Any) -> Any:
        """Call a procedure of a node, whatever its kind; for the operator's role, or a node's.

        `query`, `command` and `operation` are more exact. A call of an operation waits for the end of its run, and
        cancels the run where it is cancelled itself, or takes longer than the time-out.

        Parameters
        ----------
        node, procedure : str
        **arguments : Any
            By the names that the procedure gives them.

        Returns
        -------
        Any
            What the procedure returns.

        Raises
        ------
        NotAllowed
            If the role of this consumer may not call it.
        BadRequest
            If there is no such procedure, or its arguments are invalid.
        NoSuchNode, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> async with Consumer(role="operator") as c:  # doctest: +SKIP
        ...     await c.call("host", "confirm_clock")
        """
        return await asyncio.wrap_future(self._request("call", self._timeout_s, node, procedure, arguments))

    async def query(self, node: str, name: str, /, **arguments: Any) -> Any:
        """Call a query of a node, which changes nothing.

        Parameters
        ----------
        node, name : str
            The node, and its query; see `procedures`.
        **arguments : Any
            By the names that the query gives them.

        Returns
        -------
        Any
            The result of the query.

        Raises
        ------
        NoSuchNode, NoSuchProcedure
            If there is no such node or query; with the names that are most like it.
        BadRequest
            If the arguments are invalid, each named, or it is not a query.
        NodeFailed, Busy, NoRouter, TimedOut

        Examples
        --------
        >>> await c.query("stage", "position")  # doctest: +SKIP
        """
        return await asyncio.wrap_future(self._request("query", self._timeout_s, node, name, arguments))

    async def command(self, node: str, name: str, /, **arguments: Any) -> Any:
        """Call a command of a node, for the operator's role, or any procedure of a node that lists no kinds.

        Parameters
        ----------
        node, name : str
            The node, and its command; see `procedures`.
        **arguments : Any
            By the names that the command gives them.

        Returns
        -------
        Any
            The result of the command.

        Raises
        ------
        NotAllowed
            If the role of this consumer may not call it.
        NoSuchNode, NoSuchProcedure
            If there is no such node or command; with the names that are most like it.
        BadRequest
            If the arguments are invalid, each named, or it is not a command.
        NodeFailed, Busy, NoRouter, TimedOut

        Examples
        --------
        >>> async with Consumer(role="operator") as c:  # doctest: +SKIP
        ...     await c.command("stage", "move", to=3.5)
        """
        return await asyncio.wrap_future(self._request("command", self._timeout_s, node, name, arguments))

    async def operation(self, node: str, name: str, /, **arguments: Any) -> RunHandle:
        """Start a run of an operation of a node, for the operator's role, and return it at once.

        The run continues whatever happens to this consumer; only its `cancel` ends it before its time. `run` returns it
        again, also in another program.

        Parameters
        ----------
        node, name : str
            The node, and its operation; see `procedures`.
        **arguments : Any
            By the names that the operation gives them.

        Returns
        -------
        RunHandle
            With `state`, `progress` and `result`; its changes are iterated over.

        Raises
        ------
        NotAllowed
            If the role of this consumer may not call it.
        NoSuchNode, NoSuchProcedure
            If there is no such node or operation; with the names that are most like it.
        BadRequest
            If the arguments are invalid, each named, or it is not an operation.
        Busy
            If what it needs is in use, or too many runs are active.
        NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> run = await c.operation("stage", "scan", start=0.0, stop=5.0)  # doctest: +SKIP
        >>> async for change in run:  # doctest: +SKIP
        ...     print(change.progress, change.message, change.update)
        >>> await run.result()  # doctest: +SKIP
        """
        follower = await asyncio.wrap_future(self._request("start", self._timeout_s, node, name, arguments))
        return RunHandle(self, follower)

    async def run(self, node: str, id: str, **more: Any) -> RunHandle:
        """Return a run of an operation by its id, and follow it from now on.

        Parameters
        ----------
        node, id : str
            As `operations` lists it.
        **more : Any
            Arguments of the query `operation`, with which the run is read; the gateway has some.

        Returns
        -------
        RunHandle

        Raises
        ------
        NoSuchNode, NoSuchRun
            If there is no such node, or it knows no such run.
        NoSuchProcedure
            If the node has no operations.
        NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> run = await c.run("stage", "0199d0a1c3f2-5be01c")  # doctest: +SKIP
        """
        return RunHandle(self, await asyncio.wrap_future(self._request("follow", self._timeout_s, node, id, more)))

    async def operations(self, node: str, active: bool | None = None, limit: int = 100) -> RunList:
        """Return the newest runs of a node's operations, newest first, without their updates and results.

        Parameters
        ----------
        node : str
        active : bool, optional
            Only those that are active, or only those that have ended.
        limit : int
            Most runs, up to 1000.

        Returns
        -------
        list of dict
            Each with ``id``, ``name``, ``state``, ``progress``, ``caller``, ``arguments``, ``error`` and its times.

        Raises
        ------
        NoSuchNode, NoSuchProcedure
            If there is no such node, or it has no operations.
        BadRequest, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> [run["state"] for run in await c.operations("stage", active=True)]  # doctest: +SKIP
        ['running', 'queued']
        """
        which = {"active": active, "limit": limit}
        return RunList(await asyncio.wrap_future(self._request("query", self._timeout_s, node, "operations", which)))

    async def alarms(self, node: str, name: str = "*") -> AlarmList:
        """Return the alarms of a node, with their states.

        Parameters
        ----------
        node : str
        name : str
            Name of an alarm, a shell pattern (``room/*``), or alternatives (``{door,lamp}``).

        Returns
        -------
        list of dict
            Each with ``name``, ``field``, ``condition``, ``severity``, ``state``, ``since``, ``value`` and others, see
            ``docs/wire-contract.md``.

        Raises
        ------
        NoSuchNode, NoSuchProcedure
            If there is no such node, or it has no alarms.
        BadRequest, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> [each["name"] for each in await c.alarms("rig") if each["state"] == "unacknowledged"]  # doctest: +SKIP
        """
        which = {"name": name}
        return AlarmList(await asyncio.wrap_future(self._request("query", self._timeout_s, node, "alarms", which)))

    async def follow_events(
        self,
        node: str,
        *,
        severity: Severity | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: int | None = None,
        **more: Any,
    ) -> AsyncIterator[EventPage]:
        """Yield the events of a node as they come, without end, through losses of the router and of the node.

        Parameters
        ----------
        node : str
        severity, kind, subject : str, optional
            As for `events`.
        after : int, optional
            The `cursor` of an earlier page, to begin there; with what happens next if not given.
        **more : Any
            Arguments of the query `events`, with which they are read; the gateway has some.

        Yields
        ------
        EventPage
            Some events, none twice; where `oldest` is above the cursor before, the node no longer has those between.

        Raises
        ------
        NoSuchNode, BadRequest, NotAllowed, BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> async for page in c.follow_events("rig", severity="warning"):  # doctest: +SKIP
        ...     print([event.text for event in page.events])
        """
        reading = EventReading(node, {"severity": severity, "kind": kind, "subject": subject, **more}, after)
        async for page in self._following(node, reading):
            yield page

    async def watch(self, node: str, path: str = "", *, after: int | None = None) -> AsyncIterator[TreeUpdate]:
        """Yield the values of a subtree of a key-value node, then its changes in order, none twice, without end.

        It continues through losses of the router and of the node. Where a node does not keep the changes that were
        missed, a snapshot comes again.

        Parameters
        ----------
        node : str
            One of ``type: keyvalue``.
        path : str
            Names joined by ``/``; by default the whole tree.
        after : int, optional
            The `seq` of an earlier update, to continue from there instead of beginning with a snapshot.

        Yields
        ------
        TreeUpdate
            Some values, and whether they are all of the subtree.

        Raises
        ------
        NoSuchNode, NoSuchProcedure, BadRequest, NotAllowed, BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> async for update in c.watch("settings", "hall"):  # doctest: +SKIP
        ...     print(update.is_snapshot, {entry.path: entry.value for entry in update.entries})
        """
        async for update in self._following(node, TreeReading(node, path, after)):
            yield update

    async def _following(self, node: str, reading: EventReading) -> AsyncIterator[Any]:
        """Yield the pages of a reading, without end."""
        signal: Signal = await asyncio.wrap_future(self._request("signal", reading.topics, self._timeout_s))
        try:
            while True:
                count = signal.count
                try:
                    answer = await asyncio.wrap_future(
                        self._request("query", self._timeout_s, node, reading.query, reading.request())
                    )
                    if page := reading.answered(answer):
                        yield page
                except NotOpen:
                    return
                except SisockError as error:
                    reading.failed(error)
                if reading.wait_s:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.wrap_future(signal.changed(count)), reading.wait_s)
                    await SYSTEM_CLOCK.sleep(GATHER_S)
        finally:
            signal.close()
