"""Checks of a site file against the installed packages and against itself."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sisock.access import DEFAULT_BASE_URI
from sisock.errors import BadRequest, MissingExtra
from sisock.nodetype import (
    NodeSettings,
    SinkSettings,
    load_node_type,
    load_sink_type,
    node_type_of,
    node_types,
    sink_types,
)
from sisock.patterns import TYPO, did_you_mean
from sisock.site.document import at
from sisock.site.gateway import GatewaySettings
from sisock.site.router import OCS_URI, RouterSettings


def check_part(part: NodeSettings | SinkSettings, kind: str) -> None:
    """Raise an error for settings that the packages of their type refuse."""
    if isinstance(part, NodeSettings):
        node_type_of(part).check(part)
    else:
        load_sink_type(sink_types()[kind]).check(part)


def clashes(nodes: Mapping[str, NodeSettings], path: Path, document: Any) -> Iterator[str]:
    """Yield the resources that only one node can use, and that several nodes name."""
    folders: dict[Path, str] = {}
    taken: dict[str, str] = {}
    for name, settings in nodes.items():
        for resource in settings.exclusive_resources():
            if (other := taken.setdefault(resource, name)) != name:
                yield at(
                    path, document, ("nodes", name), f"{resource} is taken by node {other}; give each one of its own"
                )
        folder = settings.history.path
        if folder is not None and (other := folders.setdefault(folder.resolve(), name)) != name:
            message = f"{folder} is the history of node {other} as well; give each one of its own"
            yield at(path, document, ("nodes", name, "history", "path"), message)


def unusable_certificates(
    router: RouterSettings, gateway: GatewaySettings | None, path: Path, document: Any
) -> Iterator[str]:
    """Yield the errors of the certificates of router and gateway."""
    for part, tls in (("router", router.tls if router.runs_here else None), ("gateway", gateway and gateway.tls)):
        for key in ("certificate", "key", "ca") if tls else ():
            file = getattr(tls, key)
            if not file.exists():
                yield at(path, document, (part, "tls"), f"{key} {file} is not there; run `sisock init --tls`")
        if tls and tls.certificate.exists() and tls.key.exists():
            try:
                with suppress(PermissionError):  # clients need not be able to read the key
                    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, lambda: "")
            except ssl.SSLError as error:
                said = f"certificate {tls.certificate} and key {tls.key} cannot be used: {error.reason or error}"
                yield at(path, document, (part, "tls"), said)


def port_clashes(router: RouterSettings, gateway: GatewaySettings | None, path: Path, document: Any) -> Iterator[str]:
    """Yield the ports that router and gateway would both use."""
    if not router.runs_here:
        return
    rawsocket = router.rawsocket_port or router.port + 1
    if gateway and gateway.port in (router.port, rawsocket):
        yield at(path, document, ("gateway", "port"), f"{gateway.port} is a port of the router; give another")
    if rawsocket in (router.port, 65536):
        yield at(path, document, ("router",), "RawSocket needs a port of its own; set rawsocket_port")
    if router.ocs and router.ocs.port in (router.port, rawsocket, *([gateway.port] if gateway else [])):
        said = f"{router.ocs.port} is a port of the router or the gateway; give another"
        yield at(path, document, ("router", "ocs", "port"), said)


def open_to_ocs(router: RouterSettings, base_uri: str, path: Path, document: Any) -> Iterator[str]:
    """Yield an error where OCS clients, which do not log in, would have the rights of nodes and operators."""
    if router.ocs and f"{base_uri}.".startswith(f"{OCS_URI}."):
        said = (
            f"{base_uri} lies in {OCS_URI}., where `router.ocs` lets anybody register, call and publish without a "
            f"login; give another base_uri, such as {DEFAULT_BASE_URI}, or leave out `ocs`"
        )
        yield at(path, document, ("base_uri",), said)


def node_model(content: Any) -> tuple[dict[Any, Any], type[NodeSettings]]:
    """Return the settings of a node as the file has them, and the model of its type."""
    kinds = node_types()
    if content is None:  # `host:` alone lacks only its type
        content = {}
    if not isinstance(content, dict):
        raise BadRequest(f"is {content!r:.80}; a node is a mapping, with at least its type")
    kind = content.get("type")
    if kind is None:
        raise BadRequest(
            f"has no type; give one of: {', '.join(kinds) or 'none is installed; pip install sisock-nodes'}"
        )
    if not isinstance(kind, str) or kind not in kinds:
        meant = did_you_mean(kind, kinds, TYPO) if isinstance(kind, str) else ""
        hint = f"{meant} " if meant else ""
        raise BadRequest(
            f"type {kind!r} is not known; {hint}installed: {', '.join(kinds) or 'none; pip install sisock-nodes'}"
        )
    try:
        model = load_node_type(kinds[kind]).settings
    except ImportError as error:
        raise MissingExtra(f"type {kind!r} cannot be loaded: {error}") from error
    return content, model
