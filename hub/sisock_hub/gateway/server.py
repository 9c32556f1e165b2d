"""Serving the gateway in the foreground."""

import logging
from collections.abc import Mapping
from typing import Any

import uvicorn

from sisock.errors import SiteError
from sisock.site import GatewaySettings, Site, is_loopback
from sisock_hub.gateway.app import make_app

log = logging.getLogger(__name__)
OPTIONS: Mapping[str, Any] = {
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "limit_concurrency": 1000,
    "proxy_headers": False,  # nobody is known by an address
    "ws_max_size": 64 * 1024,  # what a client says is short
    "ws_per_message_deflate": False,
    "timeout_graceful_shutdown": 3,
}
"""How uvicorn is to serve."""


def serve(site: Site, settings: GatewaySettings) -> None:
    """Serve HTTP until Ctrl-C or SIGTERM.

    Raises
    ------
    SiteError
        If the gateway is to listen beyond this machine and nobody would have to say who they are, or the account of the
        operator is to be used and is not there.
    """
    known = site.secrets.gateway
    if not is_loopback(settings.host) and not known.users and not known.tokens:
        raise SiteError(
            [
                f"{site.secrets_path}: the gateway listens on {settings.host}, beyond this machine, so it needs users "
                "or tokens: add `gateway: {users: {NAME: {password: …}}}` there"
            ]
        )
    if settings.operator:
        site.access("operator")  # tells what is missing
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.addLevelName(level, logging.getLevelName(level).lower())
    log.info("serving on %s", address(settings))
    uvicorn.run(
        make_app(site, settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        ssl_certfile=settings.tls.certificate if settings.tls else None,
        ssl_keyfile=settings.tls.key if settings.tls else None,
        **OPTIONS,
    )


def address(settings: GatewaySettings) -> str:
    """Return the URL of the console."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls else 'http'}://{host}:{settings.port}/"
