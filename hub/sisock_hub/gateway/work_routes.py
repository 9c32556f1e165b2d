"""The HTTP API of work: procedures, queries, commands, operations with their runs, events and alarms."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Query, Request, Response

from sisock.event import Severity
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.models import AlarmAnswer, EventPageAnswer, ProcedureAnswer, RunAnswer
from sisock_hub.gateway.questions import interval
from sisock_hub.gateway.work_client import WorkClient

_Arguments = Annotated[dict[str, Any], Body(description="The arguments by name, as the procedure describes them.")]
_Name = Annotated[str, Path(description="Name of an operation.")]
_Id = Annotated[str, Path(description="Id of a run.")]
_Start = Annotated[
    str | None, Query(max_length=64, description="UNIX seconds, minus seconds ago, a span (`-10m`), or ISO 8601.")
]
_End = Annotated[str | None, Query(max_length=64, description="As `start`; exclusive.")]
_PATTERN = "a shell pattern (`room/*`), or alternatives (`{a,b}`)."
_JSON = "application/json"
_STARTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": RunAnswer,
        "description": "The run was started or queued; `Location` is its address",
        "headers": {"Location": {"schema": {"type": "string"}}},
    }
}
# The arguments of a query have any names.
_IN_URL = {
    "parameters": [
        {
            "name": "arguments",
            "in": "query",
            "style": "form",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "description": "The arguments by name: texts, which the node converts; a repeated one is a list.",
        }
    ]
}


def work_routes(work: WorkClient) -> APIRouter:
    """Return the routes of work.

    Parameters
    ----------
    work : WorkClient
    """
    routes = APIRouter(tags=["work"])
    _add_procedures(routes, work)
    _add_operations(routes, work)
    _add_events(routes, work)
    return routes


def _add_procedures(routes: APIRouter, work: WorkClient) -> None:
    """Add the routes that list and call procedures."""

    @routes.get("/nodes/{node}/procedures", response_model=list[ProcedureAnswer])
    async def procedures(node: str) -> Response:
        """List the queries, commands and operations of a node."""
        return _json(await work.procedures(node))

    @routes.get("/nodes/{node}/queries/{name}", response_model=Any, openapi_extra=_IN_URL)
    async def query(node: str, name: str, request: Request) -> Response:
        """Call a query of a node, with the arguments in the URL."""
        arguments = request.query_params.multi_items()
        return _json(await work.query_in_url(node, name, arguments, request.scope["principal"]))

    @routes.post("/nodes/{node}/queries/{name}", response_model=Any)
    async def query_with_body(node: str, name: str, request: Request, arguments: _Arguments) -> Response:
        """Call a query of a node, with the arguments in the body."""
        return _json(await work.query(node, name, arguments, request.scope["principal"]))

    @routes.post("/nodes/{node}/commands/{name}", response_model=Any)
    async def command(node: str, name: str, request: Request, arguments: _Arguments) -> Response:
        """Call a command of a node; for operators."""
        return _json(await work.command(node, name, arguments, request.scope["principal"]))

    @routes.post("/nodes/{node}/procedures/{procedure}", response_model=Any, responses=_STARTED)
    async def call(node: str, procedure: str, request: Request, arguments: _Arguments) -> Response:
        """Call a query or a command of a node, or start a run of an operation; for operators."""
        result, is_run = await work.call(node, procedure, arguments, request.scope["principal"])
        return _started(request, node, result) if is_run else _json(result)


def _add_operations(routes: APIRouter, work: WorkClient) -> None:
    """Add the routes of runs."""

    @routes.get("/nodes/{node}/operations", response_model=list[RunAnswer])
    async def runs(
        node: str,
        request: Request,
        active: Annotated[bool | None, Query(description="Only active runs, or only ended ones.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """List the newest runs of a node's operations, newest first, without their updates and results."""
        given = {"limit": limit} if active is None else {"active": active, "limit": limit}
        return _json(await work.query(node, "operations", given, request.scope["principal"]))

    @routes.post("/nodes/{node}/operations/{which}", status_code=202, response_model=RunAnswer, responses=_STARTED)
    async def start(node: str, which: _Name, request: Request, arguments: _Arguments) -> Response:
        """Start a run of an operation, which continues whatever becomes of the client; for operators."""
        return _started(request, node, await work.start(node, which, arguments, request.scope["principal"]))

    @routes.get("/nodes/{node}/operations/{which}", response_model=RunAnswer)
    async def run(
        node: str,
        which: _Id,
        request: Request,
        after: Annotated[int | None, Query(ge=0, le=2**53, description="Add the changes after this number.")] = None,
    ) -> Response:
        """Return a run with its newest update and its result, and its changes after a number."""
        return _json(await work.run(node, which, request.scope["principal"], after))

    @routes.delete(
        "/nodes/{node}/operations/{which}",
        response_model=RunAnswer,
        responses={202: {"model": RunAnswer, "description": "The run is asked to end"}},
    )
    async def cancel(
        node: str,
        which: _Id,
        request: Request,
        hard: Annotated[bool, Query(description="End its code by force, where that is possible.")] = False,
    ) -> Response:
        """Ask a run to end; for operators. The status is 200 where it has ended."""
        found = await work.cancel(node, which, request.scope["principal"], hard=hard)
        return _json(found, 200 if found.get("ended") is not None else 202)


def _add_events(routes: APIRouter, work: WorkClient) -> None:
    """Add the routes of events and alarms."""

    @routes.get("/nodes/{node}/events", response_model=EventPageAnswer)
    async def events(
        node: str,
        request: Request,
        start: _Start = None,
        end: _End = None,
        severity: Annotated[Severity | None, Query(description="This one or worse.")] = None,
        kind: Annotated[str | None, Query(max_length=1000, description=f"A kind, {_PATTERN}")] = None,
        subject: Annotated[str | None, Query(max_length=1000, description=f"A subject, {_PATTERN}")] = None,
        after: Annotated[int | None, Query(ge=0, le=2**53, description="The cursor of an earlier answer.")] = None,
        before: Annotated[int | None, Query(ge=0, le=2**53, description="Only events with a smaller `seq`.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Return events of a node: the newest, or with `after` the oldest that follow."""
        which: dict[str, Any] = {
            "severity": severity,
            "kind": kind,
            "subject": subject,
            "after": after,
            "before": before,
        }
        if start is not None or end is not None:
            asked = interval(start or "0.000001", end or "now")
            which |= {"start": asked.start, "end": asked.end}
        given = {key: value for key, value in which.items() if value is not None}
        return _json(await work.events(node, request.scope["principal"], **given, limit=limit))

    @routes.get("/nodes/{node}/alarms", response_model=list[AlarmAnswer])
    async def alarms(
        node: str,
        request: Request,
        name: Annotated[str, Query(max_length=1000, description=f"A name, {_PATTERN}")] = "*",
    ) -> Response:
        """List the alarms of a node with their states."""
        return _json(await work.query(node, "alarms", {"name": name}, request.scope["principal"]))


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_bytes(content), status, headers, _JSON)


def _started(request: Request, node: str, run: Mapping[str, Any]) -> Response:
    at = request.app.url_path_for("run", node=quote(node, safe=""), which=quote(run["id"], safe=""))
    return _json(run, 202, {"Location": str(at)})
