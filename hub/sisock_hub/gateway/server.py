"""Serving the gateway in the foreground."""

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any

import uvicorn

from sisock.printable import log_printable
from sisock.process import release_large_blocks
from sisock.site import GatewaySettings, Site
from sisock.supervisor import check_free
from sisock_hub.gateway.app import make_app

log = logging.getLogger(__name__)
OPTIONS: Mapping[str, Any] = {
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # addresses are not used for authentication
    "ws_max_size": 64 * 1024,  # messages of clients are short
    "ws_per_message_deflate": False,
    "timeout_graceful_shutdown": 3,
}
"""Options of uvicorn."""


def serve(site: Site, settings: GatewaySettings) -> None:
    """Serve HTTP until Ctrl-C or SIGTERM.

    Raises
    ------
    SiteError
        If the secrets file lacks what the gateway needs.
    BadRequest
        If another program uses its port.
    """
    release_large_blocks()
    site.check_secrets()
    log_printable()
    check_free(site, "gateway")
    for note in site.notes():
        log.warning("%s", note)
    log.info("serving on %s", settings.url)
    app = make_app(site, settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        ssl_certfile=settings.tls.certificate if settings.tls else None,
        ssl_keyfile=settings.tls.key if settings.tls else None,
        **OPTIONS,
        **app.state.connections.protocols(),
    )
    _Server(config, app.state.stopping).run()


class _Server(uvicorn.Server):
    """Ends streams, which would not end by themselves, when the server stops."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, then the server."""
        self._stopping.set()
        await super().shutdown(sockets)
