"""Whether the gateway lives, and whether it can serve."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from sisock.errors import NoHub, SisockError, TimedOut
from sisock_hub.gateway.watch import Watch


class Health(BaseModel):
    """How the gateway is."""

    status: Literal["ok", "unavailable"]
    reason: Annotated[str | None, Field(description="Why nothing can be served at the moment.")] = None
    unwell: Annotated[int, Field(description="How many nodes are not well.")] = 0
    nodes: Annotated[
        dict[str, str], Field(description="Nodes that are not well, and why; for those who may read data.")
    ] = Field(default_factory=dict)


def health(watch: Watch) -> APIRouter:
    """Return the routes for who looks after the process."""
    routes = APIRouter(tags=["health"])
    unavailable: dict[int | str, dict[str, Any]] = {503: {"model": Health}}

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Whether the process lives; also while the router is away."""
        return Health(status="ok")

    @routes.get("/readyz", responses=unavailable)
    async def readyz(request: Request, response: Response) -> Health:
        """Whether nodes can be asked: 503 with the reason while the router or the hub is away."""
        if (trouble := watch.trouble) is None:
            nodes = _unwell(watch)
            return Health(status="ok", unwell=len(nodes), nodes=nodes if request.scope["visitor"].may_ask else {})
        response.status_code = 503
        return Health(status="unavailable", reason=_reason(trouble, request))

    # What clients of Prometheus ask before anything else.
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
    """Return why nothing can be served; those who may not read data learn no address of the router, which is a path."""
    if request.scope["visitor"].may_ask:
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
