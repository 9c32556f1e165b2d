"""The router: a Crossbar node, configured from the site's settings."""

import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sisock.access import GATEWAY
from sisock.errors import BadRequest
from sisock.files import write_whole
from sisock.outage import PASSING
from sisock.site import ROLES, OcsRouterSettings, Secrets, Site
from sisock.site.router import OCS_URI
from sisock.supervisor import check_free
from sisock_hub.environment import python

_SERIALIZERS = ["cbor", "msgpack", "json"]
_GUARD = "guard"
# Folders for the router's files while the disk of the site's state is full.
_SPARE = (Path("/dev/shm"), Path(tempfile.gettempdir()))  # noqa: S108 - see `_spare_folder`

log = logging.getLogger(__name__)


def configuration(site: Site, secrets: Secrets | None) -> dict[str, Any]:
    """Return Crossbar's configuration of a site's router, as its ``config.json`` holds it.

    Without `secrets` it is that of Crossbar's stock image, which has no sisock: each secret is null, which Crossbar
    refuses, the users have the names of their roles, and there is no guard (`sisock_hub.guard`).
    """
    users = (
        {
            account.user: {"secret": account.secret.get_secret_value(), "role": role}
            for role, accounts in secrets.accounts.items()
            for account in accounts
        }
        if secrets
        else {role: {"secret": None, "role": role} for role in (*ROLES, GATEWAY)}
    )
    return {
        "$schema": "https://raw.githubusercontent.com/crossbario/crossbar/master/crossbar.json",
        "version": 2,
        "controller": {},
        "workers": [
            {
                "type": "router",
                "realms": [{"name": site.realm, "roles": _roles(site, guarded=secrets is not None)}],
                **({"components": [_guard(site)]} if secrets else {}),
                "transports": _transports(site, users),
            }
        ],
    }


def _transports(site: Site, users: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the transports: WebSocket, RawSocket over TCP and a UNIX socket, and that of OCS."""
    router = site.router
    auth = {"wampcra": {"type": "static", "users": users}}
    tls = {}
    if router.tls:
        tls = {"tls": {"key": str(router.tls.key), "certificate": str(router.tls.certificate)}}
    websocket = {
        "type": "websocket",
        "serializers": _SERIALIZERS,
        "auth": auth,
        "options": {
            # All of these are off in Crossbar until they are set; times in milliseconds.
            "auto_ping_interval": round(router.heartbeat * 1000),
            "auto_ping_timeout": round(router.heartbeat_timeout * 1000),
            "auto_ping_size": 12,
            "auto_ping_restart_on_any_traffic": True,
            "open_handshake_timeout": round(router.handshake_timeout * 1000),
            "close_handshake_timeout": round(router.handshake_timeout * 1000),
            "max_frame_size": router.max_message_size,
            "max_message_size": router.max_message_size,
            "fail_by_drop": True,
            "tcp_nodelay": True,
            "enable_webstatus": False,
            "show_server_version": False,
        },
    }
    rawsocket = {
        "type": "rawsocket",
        "serializers": _SERIALIZERS,
        "auth": auth,
        "options": {"max_message_size": router.max_message_size},
    }
    return [
        {
            "type": "web",
            "endpoint": {"type": "tcp", "interface": router.host, "port": router.port, **tls},
            "paths": {"ws": websocket},
        },
        {
            **rawsocket,
            "endpoint": {"type": "tcp", "interface": router.host, "port": site.rawsocket_port, **tls},
        },
        {**rawsocket, "endpoint": {"type": "unix", "path": str(site.socket_path)}},
        *([_ocs_transport(router.ocs, site.realm, websocket)] if router.ocs else []),
    ]


def _guard(site: Site) -> dict[str, Any]:
    """Return the component that bounds the router's connections."""
    router = site.router
    return {
        "type": "class",
        "classname": "sisock_hub.guard.Guard",
        "realm": site.realm,
        "role": _GUARD,
        "extra": {
            "base_uri": site.base_uri,
            "dead_after_s": router.heartbeat + router.heartbeat_timeout,
            "limits": {
                "connections": router.max_connections,
                "connections_per_address": router.max_connections_per_address,
                "login_s": router.handshake_timeout,
                "unsent": router.max_unsent,
                "unsent_total": router.max_unsent_total,
                "unsent_s": router.unsent_timeout,
            },
        },
    }


def _roles(site: Site, *, guarded: bool) -> list[dict[str, Any]]:
    kinds = (_server, _consumer, _operator, _gateway)
    roles = [kind(site.base_uri) for kind in ((*kinds, _guard_role) if guarded else kinds)]
    if site.router.ocs is None:
        return roles
    # Nodes may subscribe to agents and call them.
    listens = {"call": True, "register": False, "publish": False, "subscribe": True}
    roles[0]["permissions"].append({"uri": f"{OCS_URI}.", "match": "prefix", "allow": listens, "cache": True})
    return [*roles, _ocs()]


def _ocs() -> dict[str, Any]:
    """Return the role of OCS agents and clients, who do not log in."""
    everything = {"call": True, "register": True, "publish": True, "subscribe": True}
    about = {"uri": f"{OCS_URI}.", "match": "prefix", "allow": everything, "cache": True}
    return {"name": "ocs", "permissions": [about]}


def _ocs_transport(settings: OcsRouterSettings, realm: str, websocket: Mapping[str, Any]) -> dict[str, Any]:
    """Return the transport of OCS: WebSocket without a login, and calls over HTTP."""
    return {
        "type": "web",
        "endpoint": {"type": "tcp", "interface": settings.host, "port": settings.port},
        "paths": {
            "ws": {**websocket, "auth": {"anonymous": {"type": "static", "role": "ocs"}}},
            "call": {"type": "caller", "realm": realm, "role": "ocs", "options": {"post_body_limit": 65536}},
        },
    }


def _server(base_uri: str) -> dict[str, Any]:
    """Return the role of the hub and the nodes: sisock's URIs without those of the guard, and the subscriptions."""
    asks = {"call": True, "subscribe": True}
    return {
        "name": "server",
        "permissions": [
            {
                "uri": f"{base_uri}.",
                "match": "prefix",
                "allow": {"call": True, "register": True, "publish": True, "subscribe": True},
                # The hub accepts a session id only from the session itself.
                "disclose": {"caller": True, "publisher": False},
                "cache": True,
            },
            _asks(f"{base_uri}.router.", subscribe=False),
            {**_asks(f"{base_uri}.consumer.get_router_status", subscribe=False), "match": "exact"},
            {"uri": "wamp.subscription.", "match": "prefix", "allow": asks, "cache": True},
            {"uri": "wamp.session.on_leave", "match": "exact", "allow": {"subscribe": True}, "cache": True},
            {"uri": "wamp.session.get", "match": "exact", "allow": {"call": True}, "cache": True},
        ],
    }


def _guard_role(base_uri: str) -> dict[str, Any]:
    """Return the role of the guard: its own procedures, and the lookup of the hub's session."""
    offers = {"call": False, "register": True, "publish": False, "subscribe": False}
    return {
        "name": _GUARD,
        "permissions": [
            {"uri": f"{base_uri}.router.", "match": "prefix", "allow": offers, "cache": True},
            {"uri": f"{base_uri}.consumer.get_router_status", "match": "exact", "allow": offers, "cache": True},
            {"uri": "wamp.registration.", "match": "prefix", "allow": {"call": True}, "cache": True},
        ],
    }


def _consumer(base_uri: str) -> dict[str, Any]:
    """Return the role of clients that only read: they call and subscribe."""
    return {"name": "consumer", "permissions": [_asks(f"{base_uri}.consumer.", subscribe=True)]}


def _operator(base_uri: str) -> dict[str, Any]:
    """Return the role of clients that may also call control procedures."""
    asks = [_asks(f"{base_uri}.consumer.", subscribe=True), _asks(f"{base_uri}.control.", subscribe=False)]
    return {"name": "operator", "permissions": asks}


def _gateway(base_uri: str) -> dict[str, Any]:
    """Return the role of the gateway: that of operators, under a name by which nodes recognize it."""
    return {**_operator(base_uri), "name": GATEWAY}


def _asks(prefix: str, *, subscribe: bool) -> dict[str, Any]:
    return {
        "uri": prefix,
        "match": "prefix",
        "allow": {"call": True, "register": False, "publish": False, "subscribe": subscribe},
        "disclose": {"caller": True, "publisher": False},
        "cache": True,
    }


def write_configuration(site: Site) -> Path:
    """Write the configuration of a site's router, readable by its owner only, and return the router's folder.

    Crossbar writes its pid there. While the disk is full it is a folder in memory, or of temporary files.
    """
    content = json.dumps(configuration(site, site.secrets), indent=2) + "\n"
    folder = site.state / "router"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / "config.json", content, mode=0o600, sync=False)
        _remove_spare(site)
    except OSError as error:
        if error.errno not in PASSING:
            raise
        folder = _spare_folder(site)
        write_whole(folder / "config.json", content, mode=0o600, sync=False)
        log.warning("%s cannot be written to (%s); the router's files are in %s", site.state, error.strerror, folder)
    return folder


def _spare_folders(site: Site) -> list[Path]:
    name = f"sisock-router-{os.getuid()}-{hashlib.sha256(os.fsencode(site.path)).hexdigest()[:12]}"
    return [parent / name for parent in _SPARE]


def _is_ours(folder: Path) -> bool:
    """Return whether a folder belongs to this user only, since others may create folders beside it."""
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077


def _spare_folder(site: Site) -> Path:
    """Return a folder of this user and site that is not on the disk of the site's state; it is created once."""
    for folder in _spare_folders(site):
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            if _is_ours(folder):
                return folder
    raise BadRequest(
        f"{site.state} cannot be written to, and neither can {' or '.join(map(str, _SPARE))}; the router needs "
        "a few kilobytes to start: free some space"
    )


def _remove_spare(site: Site) -> None:
    for folder in _spare_folders(site):
        with suppress(OSError):
            if _is_ours(folder):
                shutil.rmtree(folder)


def start(site: Site) -> NoReturn:
    """Replace this process with the site's router.

    Raises
    ------
    MissingExtra
        If Crossbar is not installed, or too old for the guard.
    BadRequest
        If the router runs elsewhere, or a port or the socket is taken.
    """
    if not site.router.runs_here:
        raise BadRequest(f"{site.path}: the router of this site runs at {site.router.url}, not here")
    interpreter = python()
    check_free(site, "router")
    folder = write_configuration(site)
    command = [interpreter, "-c", "from crossbar import run; run()", "start", "--cbdir", str(folder)]
    command += ["--loglevel", "warn", "--logformat", "none"]
    # Crossbar and its workers must not import modules of the current folder.
    os.execve(interpreter, command, {**os.environ, "PYTHONSAFEPATH": "1"})  # noqa: S606 - no shell is meant
