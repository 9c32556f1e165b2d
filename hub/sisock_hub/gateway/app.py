"""The gateway as an ASGI application: its routes, its middleware, and the answers to errors."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette_compress import CompressMiddleware, remove_compress_type

from sisock.access import GATEWAY
from sisock.consumer import Consumer
from sisock.errors import SisockError
from sisock.site import GatewaySecrets, GatewaySettings, Site
from sisock.times import SystemClock
from sisock_hub.gateway.api import api
from sisock_hub.gateway.auth import COOKIE, OPEN, AuthMiddleware
from sisock_hub.gateway.connections import BoundedAnswers, Connections
from sisock_hub.gateway.console import console
from sisock_hub.gateway.event_feeds import EventFeeds
from sisock_hub.gateway.feeds import Feeds
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana import grafana
from sisock_hub.gateway.health import health
from sisock_hub.gateway.live import Live
from sisock_hub.gateway.live_routes import live_routes
from sisock_hub.gateway.login import login
from sisock_hub.gateway.metrics import metrics
from sisock_hub.gateway.models import ERROR_RESPONSES
from sisock_hub.gateway.passwords import Passwords
from sisock_hub.gateway.prometheus import prometheus
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.run_feeds import RunFeeds
from sisock_hub.gateway.search import search
from sisock_hub.gateway.signing import Signer
from sisock_hub.gateway.table_routes import CURSOR, table_routes
from sisock_hub.gateway.wamp_redirect import WampRedirect
from sisock_hub.gateway.watch import Watch
from sisock_hub.gateway.work_client import WorkClient
from sisock_hub.gateway.work_routes import work_routes

# HTTP status by the name of an error; all others are errors of a node.
_STATUS: Mapping[str, int] = {
    "bad_request": 400,
    "bad_data": 400,
    "not_allowed": 403,
    "no_such_node": 404,
    "no_such_field": 404,
    "no_such_timeline": 404,
    "no_such_procedure": 404,
    "no_such_run": 404,
    "no_such_alarm": 404,
    "no_such_table": 404,
    "not_supported": 409,
    "too_large": 413,
    "busy": 503,
    "node_left": 503,
    "no_router": 503,
    "no_hub": 503,
    "not_open": 503,
    "refused": 503,
    "timed_out": 504,
}
# Bytes; compressing smaller answers saves nothing.
_COMPRESSED_FROM = 1000


def make_app(site: Site, settings: GatewaySettings) -> FastAPI:
    """Return the gateway of a site.

    Parameters
    ----------
    site : Site
        With the account of the gateway, or those of a consumer and, if the settings allow it, of an operator.
    settings : GatewaySettings
    """
    consumer, operator = _consumers(site, settings)
    client = QueryClient(consumer)
    directory = FieldDirectory(client, SystemClock())
    watch, live = Watch(consumer, operator), Live(consumer, client)
    work = WorkClient(consumer, operator)
    feeds = Feeds(live, RunFeeds(work), EventFeeds(work), watch)
    connections = Connections(settings, SystemClock())

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for each in dict.fromkeys((connections, consumer, operator, watch, live, feeds.events)):
                if each is not None:
                    await stack.enter_async_context(each)
            yield

    app = FastAPI(
        title="sisock gateway",
        version=version("sisock-hub"),
        description="The data nodes of a site over HTTP.",
        lifespan=running,
        responses=ERROR_RESPONSES,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.consumer, app.state.connections = consumer, connections
    app.state.stopping = stopping = asyncio.Event()
    signer = Signer(site.state)
    passwords = Passwords(site.secrets.gateway, signer)
    for routes, prefix in (
        (health(watch), ""),
        (metrics(consumer, feeds, connections), ""),
        (login(settings, site.secrets.gateway, passwords, signer), ""),
        (api(consumer, client, watch, connections.table_budget), "/api/v1"),
        (work_routes(work), "/api/v1"),
        (table_routes(work), "/api/v1"),
        (search(directory, watch), "/api/v1"),
        (live_routes(feeds, stopping), "/api/v1"),
        (grafana(client, work, directory, watch), "/grafana"),
        (prometheus(client, directory), "/prometheus"),
        (console(), ""),
    ):
        app.include_router(routes, prefix=prefix)
    _answer_errors(app)
    if site.secrets.gateway.users or site.secrets.gateway.tokens:
        _describe_login(app)
    _guard(app, settings, site.secrets.gateway, passwords, signer)
    app.add_middleware(WampRedirect, router=site.url)
    app.add_middleware(BoundedAnswers, connections=connections)
    return app


def _consumers(site: Site, settings: GatewaySettings) -> tuple[Consumer, Consumer | None]:
    """Return the consumer that asks nodes, and the one that calls their commands if the settings allow that.

    They are the same with the account of the gateway. Older sites lack it, and WAMP_USER in the environment overrides.
    """
    if GATEWAY in site.secrets.accounts and (access := site.access(GATEWAY)).user == GATEWAY:
        consumer = Consumer(access, patience_s=0.0)
        return consumer, consumer if settings.operator else None
    operator = Consumer(site.access("operator"), patience_s=0.0, cache_bytes=0) if settings.operator else None
    return Consumer(site.access("consumer"), patience_s=0.0), operator


def _guard(
    app: FastAPI, settings: GatewaySettings, secrets: GatewaySecrets, passwords: Passwords, signer: Signer
) -> None:
    """Add the middleware through which every request passes; the last one added is the outermost."""
    remove_compress_type("text/event-stream")  # a compressor would delay events
    app.add_middleware(CompressMiddleware, minimum_size=_COMPRESSED_FROM, zstd_level=1, gzip_level=1, brotli_quality=1)
    app.add_middleware(AuthMiddleware, settings=settings, secrets=secrets, passwords=passwords, signer=signer)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After", CURSOR],
        )


def _describe_login(app: FastAPI) -> None:
    """Describe in the OpenAPI document the logins that `AuthMiddleware` accepts."""
    described = app.openapi()
    described["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "password": {"type": "http", "scheme": "basic"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    described["security"] = [{"token": []}, {"password": []}, {"session": []}]
    for path in OPEN & described["paths"].keys():
        for operation in described["paths"][path].values():
            operation["security"] = []


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(SisockError)
    async def sisock_error(_request: Request, error: SisockError) -> Response:
        headers = {"Retry-After": "1"} if error.retriable else None
        return failure(_STATUS.get(error.name, 502), error.name, error.message, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        problems = [f"{'.'.join(str(part) for part in each['loc'][1:])}: {each['msg']}" for each in error.errors()]
        return failure(422, "bad_request", "; ".join(problems))

    @app.exception_handler(HTTPException)
    async def refused(_request: Request, error: HTTPException) -> Response:
        return failure(error.status_code, "bad_request", str(error.detail), error.headers)


def failure(status: int, name: str, message: str, headers: Any = None) -> Response:
    """Return the answer to an error: its name and its message."""
    body = orjson.dumps({"error": name, "message": message})
    return Response(body, status, headers, media_type="application/json")
