"""Whether the gateway lives, and whether it can serve."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from sisock_hub.gateway.watch import Watch


class Health(BaseModel):
    """How the gateway is."""

    status: Literal["ok", "unavailable"]
    reason: Annotated[str | None, Field(description="Why nothing can be served at the moment.")] = None


def health(watch: Watch) -> APIRouter:
    """Return the routes for who looks after the process."""
    routes = APIRouter(tags=["health"])
    unavailable: dict[int | str, dict[str, Any]] = {503: {"model": Health}}

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Whether the process lives; also while the router is away."""
        return Health(status="ok")

    @routes.get("/readyz", responses=unavailable)
    async def readyz(response: Response) -> Health:
        """Whether nodes can be asked: 503 with the reason while the router or the hub is away."""
        if (trouble := watch.trouble) is None:
            return Health(status="ok")
        response.status_code = 503
        return Health(status="unavailable", reason=trouble.message)

    return routes
