"""The settings of a site: its router, its hub and its nodes, read from one YAML file.

Nothing here starts anything. What is wrong is told with file, line and the key's path, all at once.
"""

import hashlib
import ipaddress
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from sisock.errors import BadRequest, MissingExtra, SisockError, SiteError
from sisock.sink import Sink
from sisock.source import Source
from sisock.times import Clock, parse_span

DEFAULT_REALM = "test_realm"
DEFAULT_BASE_URI = "org.simonsobservatory"
DEFAULT_URL = "ws://127.0.0.1:8080/ws"
SECRETS_FILE = "secrets.yaml"
# sockaddr_un.sun_path holds 108 bytes with its closing NUL.
_LONGEST_SOCKET_PATH = 107


def _span(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_span(value)
        except BadRequest as error:
            raise ValueError(error.message) from None
    return value


Seconds = Annotated[float, BeforeValidator(_span), Field(ge=0)]
"""A length of time: a number of seconds, or text such as ``500ms``, ``10s``, ``5m``, ``6h``, ``2d``."""


_UNITS = {
    "": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b|)\s*", value.lower())
        if not match:
            raise ValueError(f"{value!r} is no size; give bytes, or a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB")
        return int(float(match[1]) * _UNITS[match[2]])
    return value


Size = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
"""A size: a number of bytes, or text such as ``64MB`` or ``1.5GiB``."""


def _from_site_folder(path: Path, info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path


SitePath = Annotated[Path, AfterValidator(_from_site_folder)]
"""A path; a relative one starts from the folder of the site file."""


class Settings(BaseModel):
    """A part of the site file; keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class TlsSettings(Settings):
    """The router's certificate, as ``sisock init --tls`` makes it."""

    certificate: SitePath = Path("tls/server.pem")
    """The server's certificate (PEM), with intermediate certificates after it where there are any."""
    key: SitePath = Path("tls/server.key")
    """The server's private key (PEM)."""
    ca: SitePath = Path("tls/ca.pem")
    """The certificate (PEM) of the authority that clients verify the server by."""


class OcsRouterSettings(Settings):
    """A door for OCS agents and clients as they are: without a login, into ``observatory.`` and nothing else."""

    host: str = "127.0.0.1"
    """The address to listen on; beyond this machine whoever reaches it may act as an agent."""
    port: int = Field(8001, ge=1, le=65535)
    """WebSocket on ``/ws`` and HTTP calls on ``/call``."""


class RouterSettings(Settings):
    """Where the router listens; or, with `url`, where a router that runs elsewhere is reached."""

    url: str | None = None
    """Address of a router that this site does not start: ``ws``, ``wss``, ``rs``, ``rss`` (RawSocket) or ``unix:``."""
    ca: SitePath | None = None
    """The certificate (PEM) of the authority that signed that router's certificate; the system's when not given."""
    host: str = "127.0.0.1"
    """Address that the router binds to."""
    port: int = Field(8080, ge=1, le=65535)
    """TCP port of WebSocket, on the path ``/ws``."""
    rawsocket_port: int | None = Field(None, ge=1, le=65535)
    """TCP port of RawSocket; one above `port` when not given."""
    tls: TlsSettings | None = None
    """Serve ``wss`` and TLS RawSocket with this certificate; ``tls: {}`` takes the files of ``sisock init --tls``."""
    plain: bool = False
    """The explicit word that the router may listen beyond this machine without TLS."""
    heartbeat: Seconds = 10.0
    """Seconds between the router's pings on WebSocket."""
    heartbeat_timeout: Seconds = 5.0
    """Seconds after which a peer that does not answer a ping is dropped."""
    handshake_timeout: Seconds = 5.0
    """Seconds within which a WebSocket client must have finished its opening handshake."""
    ocs: OcsRouterSettings | None = None
    """A door for OCS, off by default."""
    max_message_size: int = Field(16 * 2**20, ge=2**16, le=2**24)
    """Largest message, in bytes. RawSocket cannot carry more than 16 MiB."""

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("ws://", "wss://", "rs://", "rss://", "unix:")):
            raise ValueError(f"{url!r} has no scheme that is known; give ws, wss, rs, rss or unix:")
        return url

    @model_validator(mode="after")
    def _no_plain_text_beyond_loopback(self) -> "RouterSettings":
        if self.url is None and self.tls is None and not self.plain and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there is no tls; run `sisock init --tls` "
                "and add `tls: {}`, or write `plain: true` if secrets and data may cross the network unprotected"
            )
        return self

    @property
    def runs_here(self) -> bool:
        """Whether this site starts the router."""
        return self.url is None


class GatewaySettings(Settings):
    """Where the gateway serves Grafana, the HTTP API and the console."""

    host: str = "127.0.0.1"
    """The address to listen on; beyond this machine the secrets file must have users or tokens."""
    port: int = Field(8082, ge=1, le=65535)
    """TCP port of HTTP."""
    tls: TlsSettings | None = None
    """Serve ``https`` with this certificate; ``tls: {}`` takes the files of ``sisock init --tls``."""
    plain: bool = False
    """The explicit word that the gateway may listen beyond this machine without TLS."""
    operator: bool = False
    """Whether the gateway has the account of the operator, so that nodes can be told to do something through it."""
    cors: list[str] = Field(default_factory=list)
    """Origins of pages elsewhere that may ask the gateway, such as ``https://example.org``."""

    @model_validator(mode="after")
    def _no_plain_text_beyond_loopback(self) -> Self:
        if self.tls is None and not self.plain and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and there is no tls; run `sisock init --tls` "
                "and add `tls: {}`, or write `plain: true` if passwords and data may cross the network unprotected, "
                "such as behind a proxy"
            )
        return self

    @property
    def url(self) -> str:
        """Where it is, as it is typed into a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"


class HistorySettings(Settings):
    """How much a node remembers, and where."""

    path: SitePath | None = None
    """Folder of the history on disk, of this node alone; without it the history is in memory and ends with the node."""
    keep: Seconds | None = None
    """How far back samples are kept: 6 h when in memory, without limit when on disk, if not given."""
    max_samples: int = Field(10_000_000, ge=1)
    """Most samples that a timeline keeps in memory, whatever their age."""
    memory: Seconds = 3600.0
    """How much of a history on disk is kept in memory as well; its end is answered from there."""
    max_size: Size = 10 * 10**9
    """Most bytes that the history may take on disk; beyond it, the oldest samples are removed."""
    segment: Annotated[Size, Field(ge=2**16, le=2**32)] = 64 * 2**20
    """Bytes of a timeline's samples that are gathered before they are compressed into one sealed segment."""
    sync: Literal["none", "interval", "always"] = "interval"
    """When samples are forced onto the disk: by the system alone, at intervals, or before each is acknowledged."""
    sync_interval: Annotated[Seconds, Field(gt=0)] = 1.0
    """Seconds between writes to the disk when `sync` is ``interval``."""

    @property
    def keep_s(self) -> float:
        """How far back samples are kept, in seconds; infinite for no limit."""
        if self.keep is not None:
            return self.keep
        return math.inf if self.path else 6 * 3600.0


class SinkSettings(Settings):
    """What every sink has; each type of sink derives its own settings from this.

    A type is published as an entry point in the group ``sisock.sinks``, its name being the key below ``publish_to`` and
    its value the settings class.
    """

    def make_sink(self, here: "Surroundings") -> Sink:
        """Make the sink; called once, in the node's own process."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its sink is")


def _sinks(content: Any, info: ValidationInfo) -> Any:
    if not isinstance(content, dict):
        return content
    kinds = {point.name: point for point in entry_points(group="sisock.sinks")}
    parsed = {}
    for kind, settings in content.items():
        if kind not in kinds:
            raise ValueError(f"sink {kind!r} is not known; installed: {', '.join(kinds) or 'none'}")
        is_parsed = isinstance(settings, SinkSettings)
        parsed[kind] = settings if is_parsed else kinds[kind].load().model_validate(settings, context=info.context)
    return parsed


Sinks = Annotated[dict[str, SerializeAsAny[SinkSettings]], BeforeValidator(_sinks)]
"""Sinks by their types."""


class AllowanceSettings(Settings):
    """How much a node answers at once; beyond it, it answers False."""

    values: int = Field(5_000_000, ge=1)
    """Most values, times included, in one answer."""
    bytes: Size = 64 * 10**6
    """Most bytes in one answer."""
    big_reads: int = Field(2, ge=1)
    """Most answers above 1 MB on their way to one caller; four times as many may wait, then the node is busy."""


class NodeSettings(Settings):
    """What every node has; each node type derives its own settings from this.

    A type is published as an entry point in the group ``sisock.nodes``, its name being the type and its
    value the settings class.
    """

    type: str
    description: str | None = None
    """What consumers are told about the node; the first line of the type's documentation when not given."""
    history: HistorySettings = HistorySettings()
    allowance: AllowanceSettings = AllowanceSettings()
    publish_to: Sinks = Field(default_factory=dict)
    """Where all that the node stores goes as well, by type of sink."""

    def make_sources(self, here: "Surroundings") -> Sequence[Source]:
        """Make the sources of this node; called once, in the node's own process.

        Heavy packages are imported here and not with the settings, so that checking a site file stays quick.
        """
        raise NotImplementedError(f"node type {self.type!r} does not say what its sources are")


@dataclass(frozen=True, slots=True)
class Access:
    """How a program reaches the router: address, realm and who it is."""

    url: str
    realm: str
    base_uri: str
    user: str
    secret: str
    ca: Path | None = None
    max_message_size: int = 16 * 2**20

    def __repr__(self) -> str:
        return f"Access({self.user}@{self.url}, realm {self.realm!r})"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the sources of a node may know of where they run."""

    node: str
    """The name of their node."""
    clock: Clock
    access: Access
    """How a program in the role ``server`` reaches the router."""
    folder: Path | None = None
    """Where the node may keep what is to survive a restart; None where nothing is to."""


class Account(Settings):
    """A name and a secret by which the router knows a role."""

    user: str = Field(min_length=1)
    secret: SecretStr = Field(min_length=1)


class GatewayUser(Settings):
    """Who may log in at the gateway."""

    password: SecretStr = Field(min_length=8)
    operator: bool = False
    """Whether they may have nodes do something."""


class GatewaySecrets(Settings):
    """Who may reach the data through the gateway; nobody needs to say who they are where it has neither."""

    users: dict[str, GatewayUser] = Field(default_factory=dict)
    """People, by name; they log in at the console, or by HTTP's basic authentication."""
    tokens: dict[str, Annotated[SecretStr, Field(min_length=16)]] = Field(default_factory=dict)
    """Programs, by name; they send ``Authorization: Bearer <token>`` and may only ask."""


ROLES = ("server", "consumer", "operator")


class Secrets(Settings):
    """The accounts of the roles."""

    server: Account
    """The hub and the nodes: they register, publish and call."""
    consumer: Account
    """Who only asks and subscribes."""
    operator: Account | None = None
    """Who also has nodes do something."""
    gateway: GatewaySecrets = GatewaySecrets()
    """Who may reach the data through the gateway."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        users = [account.user for account in self.accounts.values()]
        if twice := next((user for user in users if users.count(user) > 1), None):
            raise ValueError(f"two roles have the user {twice!r}; give each one of its own")
        return self

    @property
    def accounts(self) -> dict[str, Account]:
        """The accounts that there are, by role."""
        return {role: account for role in ROLES if (account := getattr(self, role)) is not None}


class _SiteFile(Settings):
    realm: str = Field(DEFAULT_REALM, min_length=3, max_length=255, pattern=r"^[A-Za-z][A-Za-z0-9_\-@.]*$")
    base_uri: str = Field(DEFAULT_BASE_URI, pattern=r"^[^\s.#]+(\.[^\s.#]+)*$")
    router: RouterSettings = RouterSettings()
    hub: bool | None = None
    gateway: GatewaySettings | None = None
    secrets: SitePath = Path(SECRETS_FILE)
    state: SitePath = Path(".sisock")
    nodes: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Site:
    """A site file, checked.

    Attributes
    ----------
    path : Path
        The file itself.
    realm, base_uri : str
    router : RouterSettings
    hub : bool
        Whether the hub runs here; by default, when the router does.
    gateway : GatewaySettings or None
        None where the gateway does not run here; by default it does when the router does, if it is installed.
    nodes : dict of str to NodeSettings
    state : Path
        Folder for what running parts leave behind: the router's configuration, sockets.
    secrets_path : Path
    """

    path: Path
    realm: str
    base_uri: str
    router: RouterSettings
    hub: bool
    gateway: GatewaySettings | None
    nodes: dict[str, NodeSettings]
    state: Path
    secrets_path: Path

    @property
    def folder(self) -> Path:
        """Where paths in the site file start from."""
        return self.path.parent

    def folder_of(self, node: str) -> Path:
        """Return where a node may keep what is to survive a restart."""
        return self.state / "nodes" / quote(node, safe="")

    @cached_property
    def socket_path(self) -> Path:
        """The router's UNIX socket; in a private temporary folder when the site's own path is too long for one."""
        path = self.state / "router.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sisock-{os.getuid()}-{digest}" / "router.sock"

    @property
    def rawsocket_port(self) -> int:
        """The TCP port of RawSocket."""
        return self.router.rawsocket_port or self.router.port + 1

    @cached_property
    def secrets(self) -> Secrets:
        """The accounts of the roles, from the secrets file and the environment.

        Raises
        ------
        SiteError
            If there is no secrets file, others can read it, or it is not what it should be.
        """
        return load_secrets(self.secrets_path)

    def access(self, role: str = "consumer") -> Access:
        """Return how a program in `role`, one of `ROLES`, reaches this site's router.

        WAMP_URI, REALM, BASE_URI, WAMP_USER and WAMP_SECRET in the environment override.

        Raises
        ------
        SiteError
            If the site has no account for that role.
        """
        url = self.router.url or f"unix:{self.socket_path}"
        ca = self.router.ca or (self.router.tls.ca if self.router.tls else None)
        user, secret = os.environ.get("WAMP_USER"), os.environ.get("WAMP_SECRET")
        if not user or not secret:
            account = self.secrets.accounts.get(role)
            if account is None:
                said = f"{self.secrets_path}: has no account `{role}`; add one with user and secret, as for the others"
                raise SiteError([said])
            user, secret = user or account.user, secret or account.secret.get_secret_value()
        return Access(
            url=os.environ.get("WAMP_URI") or url,
            realm=os.environ.get("REALM") or self.realm,
            base_uri=os.environ.get("BASE_URI") or self.base_uri,
            user=user,
            secret=secret,
            ca=ca,
            max_message_size=self.router.max_message_size,
        )


def access_from_environment() -> Access:
    """Return how the environment says that the router is reached.

    Reads WAMP_URI, REALM, BASE_URI, WAMP_USER, WAMP_SECRET and, for TLS by an authority of one's own,
    WAMP_CA (the path of its certificate).
    """
    ca = os.environ.get("WAMP_CA")
    return Access(
        url=os.environ.get("WAMP_URI", DEFAULT_URL),
        realm=os.environ.get("REALM", DEFAULT_REALM),
        base_uri=os.environ.get("BASE_URI", DEFAULT_BASE_URI),
        user=os.environ.get("WAMP_USER", "server"),
        secret=os.environ.get("WAMP_SECRET", ""),
        ca=Path(ca) if ca else None,
    )


def node_types() -> dict[str, EntryPoint]:
    """Return the node types that are installed, by name."""
    return {point.name: point for point in sorted(entry_points(group="sisock.nodes"), key=lambda p: p.name)}


def load_secrets(path: Path) -> Secrets:
    """Read the accounts of the roles; only that of the operator may be missing.

    The variables SISOCK_SERVER_USER, SISOCK_SERVER_SECRET, and the same of CONSUMER and OPERATOR, override what the
    file says; with the secrets of server and consumer given, the file may be missing.

    Raises
    ------
    SiteError
        If a secret is missing, or the file can be read by others or is not what it should be.
    """
    document, content = None, {}
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise SiteError([f"{path}: can be read by others; run: chmod 600 {path}"])
        document = _load_yaml(path)
        content = _plain(document)
        if not isinstance(content, dict):
            raise SiteError([f"{path}:1: give the accounts `server` and `consumer`, each with user and secret"])
    for role in ROLES:
        account = content.get(role)
        account = dict(account) if isinstance(account, dict) else {} if account is None else account
        if isinstance(account, dict):
            for key in ("user", "secret"):
                if value := os.environ.get(f"SISOCK_{role}_{key}".upper()):
                    account[key] = value
            if account.get("secret") and not account.get("user"):
                account["user"] = role
        if account or role != "operator":
            content[role] = account
    if not path.exists() and not all(content[role].get("secret") for role in ("server", "consumer")):
        raise SiteError([f"{path}: there is no such file; run `sisock init` to make random secrets"])
    try:
        return Secrets.model_validate(content)
    except ValidationError as error:
        raise SiteError(list(_explain(error, path, document, (), hide=True))) from None


def load_site(path: str | Path) -> Site:
    """Read and check a site file.

    Raises
    ------
    SiteError
        With every problem that was found, each with file, line and the key's path.
    """
    path = Path(path).absolute()
    if path.is_dir():
        path /= "site.yaml"
    if not path.exists():
        raise SiteError([f"{path}: there is no such site file; run `sisock init` to make one"])
    document = _load_yaml(path)
    content = _plain(document)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SiteError([f"{path}:1: a site file is a mapping with the keys router, hub and nodes"])
    problems: list[str] = []
    # A node without settings (`host:` alone) is nearly right: it lacks only its type.
    if isinstance(content.get("nodes"), dict):
        content["nodes"] = {k: {} if v is None else v for k, v in content["nodes"].items()}
    runs_gateway = content.pop("gateway") if isinstance(content.get("gateway"), bool) else None
    try:
        raw = _SiteFile.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        raise SiteError(list(_explain(error, path, document, ()))) from None
    nodes: dict[str, NodeSettings] = {}
    for name, node in raw.nodes.items():
        try:
            nodes[name] = _node_settings(name, node, path)
        except ValidationError as error:
            problems += _explain(error, path, document, ("nodes", name))
        except SisockError as error:
            problems.append(_at(path, document, ("nodes", name), error.message))
    gateway = _gateway(raw, runs_gateway)
    problems += _clashes(raw.router, gateway, nodes, path, document)
    if problems:
        raise SiteError(problems)
    return Site(
        path=path,
        realm=raw.realm,
        base_uri=raw.base_uri,
        router=raw.router,
        hub=raw.router.runs_here if raw.hub is None else raw.hub,
        gateway=gateway,
        nodes=nodes,
        state=raw.state,
        secrets_path=raw.secrets,
    )


def _gateway(raw: _SiteFile, runs: bool | None) -> GatewaySettings | None:
    """Return the settings of the gateway, if it runs here: as the file says, else where the router does."""
    if raw.gateway is not None:
        return raw.gateway
    here = raw.router.runs_here and find_spec("fastapi") is not None if runs is None else runs
    return GatewaySettings() if here else None


def _clashes(
    router: RouterSettings,
    gateway: GatewaySettings | None,
    nodes: Mapping[str, NodeSettings],
    path: Path,
    document: Any,
) -> Iterator[str]:
    """Yield what is wrong with settings that are right when each is looked at alone."""
    folders: dict[Path, str] = {}
    for name, settings in nodes.items():
        folder = settings.history.path
        if folder is not None and (other := folders.setdefault(folder.resolve(), name)) != name:
            message = f"{folder} is the history of node {other} as well; give each one of its own"
            yield _at(path, document, ("nodes", name, "history", "path"), message)
    for part, tls in (("router", router.tls if router.runs_here else None), ("gateway", gateway and gateway.tls)):
        for key in ("certificate", "key", "ca") if tls else ():
            file = getattr(tls, key)
            if not file.exists():
                yield _at(path, document, (part, "tls"), f"{key} {file} is not there; run `sisock init --tls`")
    if not router.runs_here:
        return
    if gateway and gateway.port in (router.port, router.rawsocket_port or router.port + 1):
        yield _at(path, document, ("gateway", "port"), f"{gateway.port} is a port of the router; give another")
    if (router.rawsocket_port or router.port + 1) in (router.port, 65536):
        yield _at(path, document, ("router",), "RawSocket needs a port of its own; set rawsocket_port")


def check_node_name(name: str) -> None:
    """Raise BadRequest unless `name` can be a part of a URI: no blanks, no ``#``, no empty component."""
    if not isinstance(name, str) or not name or any(c.isspace() or c == "#" or not c.isprintable() for c in name):
        raise BadRequest(f"{name!r} is no name for a node; use letters, digits, -, _ and single dots")
    if "" in name.split(".") or len(name) > 200:
        raise BadRequest(f"{name!r} is no name for a node; it has an empty part between dots or is over 200 characters")


def _node_settings(name: str, content: Mapping[str, Any], path: Path) -> NodeSettings:
    check_node_name(name)
    kinds = node_types()
    kind = content.get("type")
    if kind is None:
        raise BadRequest(
            f"has no type; give one of: {', '.join(kinds) or 'none is installed; pip install sisock-nodes'}"
        )
    if kind not in kinds:
        raise BadRequest(
            f"type {kind!r} is not known; installed: {', '.join(kinds) or 'none; pip install sisock-nodes'}"
        )
    try:
        model = kinds[kind].load()
    except ImportError as error:
        raise MissingExtra(f"type {kind!r} cannot be loaded: {error}") from error
    settings = model.model_validate(content, context={"folder": path.parent})
    assert isinstance(settings, NodeSettings), f"entry point {kind!r} is no NodeSettings"  # noqa: S101
    return settings


def _load_yaml(path: Path) -> Any:
    yaml = YAML(typ="rt")
    try:
        return yaml.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SiteError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise SiteError([f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})"]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}" if mark else ""
        raise SiteError([f"{path}{where}: is not YAML: {error.problem or error.context}"]) from error


def _plain(value: Any) -> Any:
    """Strip ruamel's containers, which pydantic and json do not know."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _at(path: Path, document: Any, keys: tuple[Any, ...], message: str) -> str:
    """Say `message` with the line of the deepest part of `keys` that is in the document."""
    line, here = 1, document
    for key in keys:
        if isinstance(here, CommentedMap) and key in here:
            line = here.lc.key(key)[0] + 1
        elif isinstance(here, CommentedSeq) and isinstance(key, int) and key < len(here):
            line = here.lc.item(key)[0] + 1
        else:
            break
        here = here[key]
    dotted = ".".join(str(key) for key in keys)
    return f"{path}:{line}: {dotted + ': ' if dotted else ''}{message}"


def _explain(
    error: ValidationError, path: Path, document: Any, prefix: tuple[Any, ...], *, hide: bool = False
) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "is not a key that is known here"
        elif problem["type"] == "missing":
            message = "is missing"
        elif not hide and not isinstance(problem["input"], dict):
            message += f" (it says {json.dumps(problem['input'], default=str)[:80]})"
        yield _at(path, document, prefix + tuple(problem["loc"]), message[:1].lower() + message[1:])
