"""Grafana's data sources that speak JSON over HTTP: Infinity, JSON and SimpleJson."""

from fastapi import APIRouter

from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana.annotations import Annotations
from sisock_hub.gateway.grafana.infinity import infinity
from sisock_hub.gateway.grafana.json_source import json_source
from sisock_hub.gateway.grafana.series import TIMEOUT_S
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.watch import Watch
from sisock_hub.gateway.work_client import WorkClient


def grafana(
    client: QueryClient, work: WorkClient, directory: FieldDirectory, watch: Watch, timeout_s: float = TIMEOUT_S
) -> APIRouter:
    """Return the routes for Grafana: ``/v1`` for Infinity, ``/json`` for JSON and SimpleJson.

    Parameters
    ----------
    client : QueryClient
    work : WorkClient
        For the events of nodes.
    directory : FieldDirectory
    watch : Watch
    timeout_s : float
        Seconds within which a node must answer.
    """
    client = client.with_timeout(timeout_s)
    annotations = Annotations(client, work, directory, watch)
    routes = APIRouter()
    routes.include_router(infinity(directory, client, annotations, watch))
    routes.include_router(json_source(directory, client, annotations))
    return routes
