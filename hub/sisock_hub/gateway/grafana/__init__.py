"""Grafana's data sources that speak JSON over HTTP: Infinity, JSON and SimpleJson."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from sisock.consumer import Consumer
from sisock_hub.gateway.grafana.annotations import Annotations
from sisock_hub.gateway.grafana.catalogue import Catalogue
from sisock_hub.gateway.grafana.infinity import infinity
from sisock_hub.gateway.grafana.json_source import json_source
from sisock_hub.gateway.grafana.series import Asking
from sisock_hub.gateway.models import Wrong
from sisock_hub.gateway.watch import Watch

_WRONG: Mapping[int | str, dict[str, Any]] = {
    status: {"model": Wrong, "description": what}
    for status, what in (
        (400, "Something in the request is wrong"),
        (401, "Say who you are"),
        (403, "You may not"),
        (404, "There is no such node or field"),
        (413, "That is too much at once"),
        (422, "A part of the request is wrong or missing"),
        (502, "The node failed"),
        (503, "The router, the hub or the node cannot answer at the moment"),
        (504, "The node did not answer in time"),
    )
}


def grafana(consumer: Consumer, watch: Watch) -> APIRouter:
    """Return the routes for Grafana: ``/v1`` for Infinity, ``/json`` for JSON and SimpleJson.

    Parameters
    ----------
    consumer : Consumer
        Who asks.
    watch : Watch
    """
    catalogue, asking = Catalogue(consumer), Asking(consumer)
    annotations = Annotations(asking, catalogue, watch)
    routes = APIRouter(responses=dict(_WRONG))
    routes.include_router(infinity(catalogue, asking, annotations, watch))
    routes.include_router(json_source(consumer, catalogue, asking, annotations))
    return routes
