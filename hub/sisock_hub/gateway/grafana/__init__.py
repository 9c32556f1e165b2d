"""Grafana's data sources that speak JSON over HTTP: Infinity, JSON and SimpleJson."""

from fastapi import APIRouter

from sisock.consumer import Consumer
from sisock_hub.gateway.asking import Asking
from sisock_hub.gateway.directory import Directory
from sisock_hub.gateway.grafana.annotations import Annotations
from sisock_hub.gateway.grafana.catalogue import Catalogue
from sisock_hub.gateway.grafana.infinity import infinity
from sisock_hub.gateway.grafana.json_source import json_source
from sisock_hub.gateway.grafana.series import TIMEOUT_S
from sisock_hub.gateway.watch import Watch


def grafana(consumer: Consumer, directory: Directory, watch: Watch, timeout_s: float = TIMEOUT_S) -> APIRouter:
    """Return the routes for Grafana: ``/v1`` for Infinity, ``/json`` for JSON and SimpleJson.

    Parameters
    ----------
    consumer : Consumer
        Who asks.
    directory : Directory
        Which fields there are.
    watch : Watch
    timeout_s : float
        How long a node may take for samples, in seconds.
    """
    catalogue, asking = Catalogue(directory), Asking(consumer, timeout_s)
    annotations = Annotations(asking, catalogue, watch)
    routes = APIRouter()
    routes.include_router(infinity(catalogue, asking, annotations, watch))
    routes.include_router(json_source(consumer, catalogue, asking, annotations))
    return routes
