"""Liveness and readiness of the gateway."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from sisock.errors import NoHub, SisockError, TimedOut
from sisock_hub.gateway.watch import Watch


class Health(BaseModel):
    """The state of the gateway."""

    status: Literal["ok", "unavailable"]
    reason: Annotated[str | None, Field(description="Error because of which nothing can be served.")] = None
    unwell: Annotated[int, Field(description="Number of nodes that are stale, or whose health is not `ok`.")] = 0
    nodes: Annotated[
        dict[str, str], Field(description="Those nodes with the reason; for clients that may read data.")
    ] = Field(default_factory=dict)


def health(watch: Watch) -> APIRouter:
    """Return the routes for monitoring of the process."""
    routes = APIRouter(tags=["health"])
    unavailable: dict[int | str, dict[str, Any]] = {503: {"model": Health}}

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Return 200 while the process runs, also while the router is unreachable."""
        return Health(status="ok")

    @routes.get("/readyz", responses=unavailable)
    async def readyz(request: Request, response: Response) -> Health:
        """Return whether nodes can be queried: 503 with the reason while the router or the hub is unreachable."""
        if (trouble := watch.trouble) is None:
            nodes = _unwell(watch)
            return Health(status="ok", unwell=len(nodes), nodes=nodes if request.scope["principal"].may_ask else {})
        response.status_code = 503
        return Health(status="unavailable", reason=_reason(trouble, request))

    # Clients of Prometheus request these before anything else.
    @routes.get("/prometheus/-/healthy", include_in_schema=False, response_class=PlainTextResponse)
    async def healthy() -> str:
        return "The gateway is healthy.\n"

    @routes.get("/prometheus/-/ready", include_in_schema=False, response_class=PlainTextResponse)
    async def ready(request: Request, response: Response) -> str:
        if (trouble := watch.trouble) is None:
            return "The gateway is ready.\n"
        response.status_code = 503
        return f"The gateway is not ready: {_reason(trouble, request)}\n"

    return routes


def _reason(trouble: SisockError, request: Request) -> str:
    """Return the reason why nothing can be served, without addresses if the client may not read data."""
    if request.scope["principal"].may_ask:
        return trouble.message
    if isinstance(trouble, NoHub):
        return "the hub cannot be reached"
    return "the hub does not answer" if isinstance(trouble, TimedOut) else "the router cannot be reached"


def _unwell(watch: Watch) -> dict[str, str]:
    """Return the nodes that are stale, or report a health that is not `ok`, with the reason."""
    found = {}
    for node in watch.nodes:
        health = node.health or {"state": "ok", "error": None}
        if node.state == "stale":
            found[node.name] = f"stale: {node.reason}"
        elif node.state in ("live", "online") and health["state"] != "ok":
            found[node.name] = f"{health['state']}: {health['error'] or 'no reason given'}"
    return found
