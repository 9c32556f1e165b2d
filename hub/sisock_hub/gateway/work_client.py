"""Calls of the queries, commands and operations of nodes, for the person or program that has logged in."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from sisock.access import GATEWAY
from sisock.consumer import Consumer, RunHandle, TablePage
from sisock.consumer.tables import page_of, table_arguments
from sisock.errors import BadAnswer, BadRequest, NoSuchProcedure, NotAllowed, SisockError
from sisock.event import EventPage
from sisock.patterns import did_you_mean
from sisock.procedure import RESERVED, Kind
from sisock_hub.gateway.auth import Principal
from sisock_hub.gateway.query_client import check

GATEWAY_ITSELF = Principal("gateway", operator=False)
"""Reads for all clients together."""
_ROUTES: Mapping[str, str] = {"query": "queries", "command": "commands", "operation": "operations"}
_KEYS = frozenset(("time", "kind", "subject", "text", "severity", "data"))
# Keys of unknown values of a run that was started and could not be read.
_UNREAD = ("state", "progress", "message", "error", "started", "ended")


class WorkClient:
    """Calls the procedures of nodes.

    Parameters
    ----------
    consumer : Consumer
        For queries.
    operator : Consumer or None
        For commands and operations; None where the gateway may not call them.
    """

    def __init__(self, consumer: Consumer, operator: Consumer | None) -> None:
        self._consumer, self._operator = consumer, operator

    async def procedures(self, node: str) -> list[dict[str, Any]]:
        """Return the procedures of a node; all that nodes of older versions list are commands.

        Raises
        ------
        SisockError
            NoRouter, and the errors of `Consumer.procedures`.
        """
        check(self._consumer)
        unreported = {"kind": "command", "uri": None, "destructive": None, "result": None}
        return [{**unreported, **each} for each in await self._consumer.procedures(node)]

    async def query(self, node: str, name: str, arguments: Mapping[str, Any], principal: Principal) -> Any:
        """Call a query.

        Raises
        ------
        NoSuchProcedure
            If the node does not offer it; with the names that are most like it.
        SisockError
            The errors of `Consumer.query`.
        """
        try:
            return await self._ask(node, name, arguments, principal)
        except (BadRequest, NoSuchProcedure):
            await self._find(node, name, "query")  # raises where it is none, with the path for its kind
            raise

    async def query_in_url(
        self, node: str, name: str, arguments: Sequence[tuple[str, str]], principal: Principal
    ) -> Any:
        """Call a query with arguments as a URL has them: names and texts, which the node converts.

        Raises
        ------
        SisockError
            Those of `query`.
        """
        described = await self._find(node, name, "query")
        return await self._ask(node, name, _grouped(arguments, described), principal)

    async def command(self, node: str, name: str, arguments: Mapping[str, Any], principal: Principal) -> Any:
        """Call a command.

        Raises
        ------
        NotAllowed
            If the person may not, or the gateway may not.
        NoSuchProcedure
            If the node does not offer it; with the names that are most like it.
        SisockError
            The errors of `Consumer.call`.
        """
        operator = self._operator_for(principal)
        described = await self._find(node, name, "command")
        return await self._call(operator, node, name, arguments, _taken(principal, name, described))

    async def call(self, node: str, name: str, arguments: Mapping[str, Any], principal: Principal) -> tuple[Any, bool]:
        """Call a query or a command, whether the node lists it or not, or start a run of an operation.

        Returns
        -------
        result : any
            Its result, or the run.
        is_run : bool

        Raises
        ------
        NotAllowed
            If the person may not, or the gateway may not.
        SisockError
            The errors of `Consumer.call`.
        """
        operator = self._operator_for(principal)
        described = next((each for each in await self.procedures(node) if each["name"] == name), {})
        if described.get("kind") == "operation":
            return await self._start(node, name, arguments, principal), True
        return await self._call(operator, node, name, arguments, _taken(principal, name, described)), False

    async def start(self, node: str, name: str, arguments: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
        """Start a run of an operation, and return it; nothing that happens to the client cancels it.

        Raises
        ------
        NotAllowed
            If the person may not, or the gateway may not.
        NoSuchProcedure
            If the node does not offer it; with the names that are most like it.
        SisockError
            The errors of `Consumer.call`.
        """
        self._operator_for(principal)
        await self._find(node, name, "operation")
        return await self._start(node, name, arguments, principal)

    async def _start(self, node: str, name: str, arguments: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
        """Start a run of an operation that the node offers, and return it."""
        operator = self._operator_for(principal)
        number: str = await self._call(operator, node, name, arguments, principal, _wait=False)
        try:
            return await self.run(node, number, principal)
        except SisockError:  # the run was started all the same; an error would have the client start another one
            return {"id": number, "name": name, **dict.fromkeys(_UNREAD)}

    async def run(self, node: str, number: str, principal: Principal, after: int | None = None) -> dict[str, Any]:
        """Return a run, with its changes after a number if one is given.

        Raises
        ------
        NoSuchRun
            If the node does not know it.
        SisockError
            The errors of `Consumer.query`.
        """
        given = {"id": number} if after is None else {"id": number, "after": after}
        run: dict[str, Any] = await self._ask(node, "operation", given, principal)
        return run

    async def followed(self, node: str, number: str) -> RunHandle:
        """Return a run that is followed from now on, for all clients together.

        Raises
        ------
        NoSuchRun
            If the node does not know it.
        SisockError
            The errors of `Consumer.run`.
        """
        check(self._consumer)
        return await self._consumer.run(node, number, **self._given({}, GATEWAY_ITSELF))

    async def events(self, node: str, principal: Principal, **which: Any) -> dict[str, Any]:
        """Return events of a node.

        Parameters
        ----------
        node : str
        principal : Principal
        **which
            Parameters of the query `events`: start, end, severity, kind, subject, after, before, limit.

        Returns
        -------
        dict
            ``events``, ``cursor`` and ``oldest``.

        Raises
        ------
        BadAnswer
            If the answer has another form.
        SisockError
            The errors of `Consumer.query`.
        """
        page = await self._ask(node, "events", which, principal)
        if not isinstance(page, dict) or not _is_page(page):
            raise BadAnswer(f"query.events of node {node!r} answered something else than a page of events")
        return page

    def follow_events(self, node: str, after: int) -> AsyncIterator[EventPage]:
        """Yield the events of a node as they come, for all clients together; see `Consumer.follow_events`."""
        check(self._consumer)
        return self._consumer.follow_events(node, after=after, **self._given({}, GATEWAY_ITSELF))

    async def table(self, node: str, name: str, principal: Principal, **which: Any) -> TablePage:
        """Return rows of a table of a node, as many as one answer of the node has.

        Parameters
        ----------
        node, name : str
        principal : Principal
        **which
            Parameters of the query `table`: columns, conditions, after, before, limit, order.

        Raises
        ------
        BadAnswer
            If the answer has another form.
        SisockError
            The errors of `Consumer.table`.
        """
        given = table_arguments({**which, "name": name, "encoding": "packed"})
        return page_of(node, name, await self._ask(node, "table", given, principal))

    async def cancel(self, node: str, number: str, principal: Principal, *, hard: bool) -> dict[str, Any]:
        """Ask a run to end, and return it.

        Raises
        ------
        NotAllowed
            If the person may not, or the gateway may not.
        NoSuchRun
            If the node does not know it.
        NotSupported
            If `hard`, and its code cannot be ended by force.
        SisockError
            The errors of `Consumer.call`.
        """
        operator = self._operator_for(principal)
        given = {"id": number, "hard": hard}
        run: dict[str, Any] = await self._call(operator, node, "cancel_operation", given, principal)
        return run

    async def _find(self, node: str, name: str, kind: Kind) -> Mapping[str, Any]:
        """Return the description of a procedure; empty for those that every node has."""
        if name in RESERVED:
            return {}
        offered = {each["name"]: each for each in await self.procedures(node)}
        if name in offered and (found := offered[name]["kind"]) != kind:
            at = f"nodes/{node}/{_ROUTES.get(found, 'procedures')}/{name}"
            raise NoSuchProcedure(
                f"{name!r} of node {node!r} has the kind {found}, not {kind}; send the request to {at}"
            )
        if name not in offered:
            names = [each for each in offered if offered[each]["kind"] == kind]
            hint = f"{meant} " if (meant := did_you_mean(name, names)) else ""
            raise NoSuchProcedure(f"node {node!r} has no {kind} {name!r}; {hint}it has: {', '.join(names) or 'none'}")
        return offered[name]

    def _operator_for(self, principal: Principal) -> Consumer:
        if self._operator is None:
            raise NotAllowed(
                "the gateway may not call commands and operations; set `operator: true` below `gateway:` in the site "
                "file"
            )
        if not principal.operator:
            raise NotAllowed("only operators may call commands and operations; log in as a user who is one")
        return self._operator

    async def _ask(self, node: str, name: str, arguments: Mapping[str, Any], principal: Principal) -> Any:
        check(self._consumer)
        return await self._consumer.query(node, name, **self._given(arguments, principal))

    async def _call(
        self,
        operator: Consumer,
        node: str,
        name: str,
        arguments: Mapping[str, Any],
        principal: Principal | None,
        **more: Any,
    ) -> Any:
        check(operator)
        return await operator.call(node, name, **self._given(arguments, principal), **more)

    def _given(self, arguments: Mapping[str, Any], principal: Principal | None) -> Mapping[str, Any]:
        """Return the arguments of a call, with the principal if there is one; clients give none that begin with ``_``.

        Only the gateway's own account may name the principal; older sites lack it.
        """
        if reserved := sorted(name for name in arguments if name.startswith("_")):
            raise BadRequest(f"{', '.join(reserved)}: is not known; no parameter has a name that begins with _")
        if principal is None or self._consumer.access.user != GATEWAY:
            return arguments
        return {**arguments, "_principal": principal.as_argument()}


def _taken(principal: Principal, name: str, described: Mapping[str, Any]) -> Principal | None:
    """Return the principal where a procedure takes it; what older nodes list has no URI, and they list not all."""
    return principal if name in RESERVED or described.get("uri") is not None else None


def _is_page(page: Mapping[str, Any]) -> bool:
    events = page.get("events")
    return (
        isinstance(events, list)
        and all(isinstance(page.get(key), int) for key in ("cursor", "oldest"))
        and all(isinstance(each, dict) and isinstance(each.get("seq"), int) and each.keys() >= _KEYS for each in events)
    )


def _grouped(arguments: Sequence[tuple[str, str]], described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a URL by name: lists where one is repeated, or where its parameter is a list."""
    known = described.get("parameters", {}).get("properties", {})
    texts: dict[str, list[str]] = {}
    for name, text in arguments:
        texts.setdefault(name, []).append(text)
    is_list = {name for name, about in known.items() if isinstance(about, dict) and about.get("type") == "array"}
    return {name: each if name in is_list or len(each) > 1 else each[0] for name, each in texts.items()}
