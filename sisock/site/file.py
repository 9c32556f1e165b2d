"""The site file."""

import difflib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field, ValidationError

from sisock.access import DEFAULT_BASE_URI, DEFAULT_REALM, GATEWAY, Access
from sisock.alarm.notify import NotificationSettings, Target
from sisock.errors import SisockError, SiteError
from sisock.nodetype import NodeSettings, SinkSettings, check_node_name
from sisock.running import known_to_run
from sisock.settings import PathUse, Settings, SitePath, is_loopback, unusable, unusable_paths
from sisock.site.consistency import check_part, clashes, node_model, open_to_ocs, port_clashes, unusable_certificates
from sisock.site.document import at, explained, loaded, plain
from sisock.site.gateway import GatewaySettings
from sisock.site.router import RouterSettings
from sisock.site.secrets import ROLES, SECRETS_FILE, Secrets, load_secrets
from sisock.site.targets import make_targets, target_problems

# sockaddr_un.sun_path holds 108 bytes with its closing NUL.
_LONGEST_SOCKET_PATH = 107


class SiteFile(Settings):
    """The content of a site file; the types of the nodes check the nodes."""

    realm: str = Field(DEFAULT_REALM, min_length=3, max_length=255, pattern=r"^[A-Za-z][A-Za-z0-9_\-@.]*$")
    base_uri: str = Field(DEFAULT_BASE_URI, pattern=r"^[^\s.#]+(\.[^\s.#]+)*$")
    router: RouterSettings = RouterSettings()
    hub: bool | None = None
    gateway: GatewaySettings | None = None
    secrets: SitePath = Path(SECRETS_FILE)
    state: SitePath = Path(".sisock")
    notifications: dict[str, NotificationSettings] = Field(default_factory=dict)
    nodes: dict[Any, Any] = Field(default_factory=dict)


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
    notifications : dict of str to NotificationSettings
        Targets of notifications of alarms, by name.
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
    notifications: dict[str, NotificationSettings]

    @property
    def folder(self) -> Path:
        """Where paths in the site file start from."""
        return self.path.parent

    def make_state(self) -> None:
        """Make the folder of what running parts leave behind, which nobody else can read."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)

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

    def secrets_of(self, node: str) -> dict[str, str]:
        """Return the secrets of a node by key; none where there is no secrets file."""
        if not self.secrets_path.exists():
            return {}
        return {key: secret.get_secret_value() for key, secret in self.secrets.nodes.get(node, {}).items()}

    def check_secrets(self) -> None:
        """Check that the secrets file has what this site needs of it.

        Raises
        ------
        SiteError
            If there is no secrets file or it is not what it should be; if the gateway listens beyond this machine and
            nobody would have to say who they are, or is to be an operator and there is no such account.
        """
        known, gateway = self.secrets.gateway, self.gateway
        if gateway and not is_loopback(gateway.host) and not known.users and not known.tokens:
            raise SiteError(
                [
                    f"{self.secrets_path}: the gateway listens on {gateway.host}, beyond this machine, so it needs "
                    "users or tokens: add `gateway: {users: {NAME: {password: …}}}` there"
                ]
            )
        if gateway and gateway.operator and known.secret is None:
            self.access("operator")  # raises if it is missing
        make_targets(self.notifications, self.secrets_path, lambda: self.secrets)

    def targets(self, node: str) -> list[Target]:
        """Return the targets of notifications that a node's alarms go to; SiteError if one's secret is missing."""
        concerned = {name: each for name, each in self.notifications.items() if each.concerns(node)}
        return make_targets(concerned, self.secrets_path, lambda: self.secrets)

    def notes(self) -> list[str]:
        """Return warnings about settings that are missing, each with the remedy."""
        if self.gateway is None or GATEWAY in self.secrets.accounts:
            return []
        return [
            f"{self.secrets_path}: the gateway has no account of its own, so that runs and events do not name the "
            "person who asked it; add `secret: …` below `gateway:`, a long random text, and restart router and gateway"
        ]

    def problems(self) -> list[str]:
        """Return errors in the secrets and in what the site file names: files, folders, settings that packages know."""
        document, problems = loaded(self.path), []
        parts: list[tuple[tuple[str, ...], Settings]] = [(("router",), self.router)]
        if why := unusable(self.state, PathUse.WRITE):
            problems.append(at(self.path, document, ("state",), why))
        parts += [(("gateway",), self.gateway)] if self.gateway else []
        for name, node in self.nodes.items():
            parts.append((("nodes", name), node))
            parts += [(("nodes", name, "publish_to", kind), sink) for kind, sink in node.publish_to.items()]
        for keys, part in parts:
            problems += [at(self.path, document, keys + more, message) for more, message in unusable_paths(part)]
            if isinstance(part, NodeSettings | SinkSettings):
                try:
                    check_part(part, keys[-1])
                except SisockError as error:
                    problems.append(at(self.path, document, keys, error.message))
        for keys, message in target_problems(self.notifications, self.nodes):
            problems.append(at(self.path, document, keys, message))
        try:
            self.check_secrets()
            for name in self.secrets.nodes.keys() - self.nodes.keys():
                problems.append(f"{self.secrets_path}: nodes.{name} is not a node of {self.path}")
        except SiteError as error:
            problems += error.problems
        return problems

    @property
    def url(self) -> str:
        """The address of the router, as any WAMP client on this machine reaches it."""
        if self.router.url:
            return self.router.url
        anywhere = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
        host = anywhere.get(self.router.host, self.router.host)
        return f"{'wss' if self.router.tls else 'ws'}://{f'[{host}]' if ':' in host else host}:{self.router.port}/ws"

    def access(self, role: str = "consumer", user: str | None = None) -> Access:
        """Return how a program in `role`, one of `ROLES` or the gateway's, reaches this site's router.

        It logs in with the account that `user` names, or with the first of the role. WAMP_URI, REALM and BASE_URI in
        the environment override; so do WAMP_USER and WAMP_SECRET where `user` is None.

        Raises
        ------
        SiteError
            If the site has no account for that role, or none of that name.
        """
        given = os.environ.get
        name, secret = (given("WAMP_USER"), given("WAMP_SECRET")) if user is None else (None, None)
        # With both, no secrets file is needed.
        own = self._access_as(name, secret, "WAMP_SECRET") if name and secret else self.own_access(role, user)
        return replace(
            own,
            url=given("WAMP_URI") or own.url,
            realm=given("REALM") or own.realm,
            base_uri=given("BASE_URI") or own.base_uri,
            user=name or own.user,
            secret=secret or own.secret,
            secret_source="WAMP_SECRET" if secret else own.secret_source,
            user_source="WAMP_USER" if name else None,
            site=None if given("WAMP_URI") else own.site,
        )

    def own_access(self, role: str = "consumer", user: str | None = None) -> Access:
        """Return the access of a program in `role` to this site's router, regardless of the environment.

        Raises
        ------
        SiteError
            If the site has no account for that role, or none of that name.
        """
        account = self.secrets.account(role, user)
        if account is None:
            known = ", ".join(each.user for name in ROLES for each in self.secrets.accounts.get(name, ()))
            missing = (
                f"{user!r}; it has: {known}" if user else f"`{role}`; add one with user and secret, as for the others"
            )
            raise SiteError([f"{self.secrets_path}: has no account {missing}"])
        variable = f"SISOCK_{role.upper()}_SECRET"
        is_overridden = os.environ.get(variable) and account == self.secrets.account(role)
        source = variable if is_overridden else str(self.secrets_path)
        return self._access_as(account.user, account.secret.get_secret_value(), source)

    def _access_as(self, user: str, secret: str, source: str) -> Access:
        return Access(
            url=self.router.url or f"unix:{self.socket_path}",
            realm=self.realm,
            base_uri=self.base_uri,
            user=user,
            secret=secret,
            ca=self.router.ca or (self.router.tls.ca if self.router.tls else None),
            max_message_size=self.router.max_message_size,
            site=self.path if self.router.runs_here else None,
            secret_source=source,
        )


def load_site(path: str | Path) -> Site:
    """Read and check a site file.

    Raises
    ------
    SiteError
        With every problem that was found, each with file, line and the key's path.
    """
    site, problems = _parse(Path(path))
    if problems:
        raise SiteError(problems)
    return site


def check_site(path: str | Path) -> Site:
    """Read a site file and check it, its secrets, the files and folders that it names, and what only packages know.

    Raises
    ------
    SiteError
        With every problem that was found, each with file, line and the key's path.
    """
    site, problems = _parse(Path(path))
    if problems := problems + site.problems():
        own = f"{site.path}:"
        raise SiteError(sorted(problems, key=lambda problem: (not problem.startswith(own), _line(problem))))
    return site


def _parse(path: Path) -> tuple[Site, list[str]]:
    """Return the valid settings of a site, with defaults for invalid ones, and every error with its text.

    Raises
    ------
    SiteError
        If there is no file that can be read as a mapping.
    """
    path = _existing(path)
    document = loaded(path)
    content = plain(document)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SiteError([f"{path}:1: a site file is a mapping with the keys router, hub and nodes"])
    content = {key: value for key, value in content.items() if value is not None}  # such as `nodes:` of comments alone
    runs_gateway = content.pop("gateway") if isinstance(content.get("gateway"), bool) else None
    raw, problems, unsound = _sound(content, path, document)
    nodes: dict[str, NodeSettings] = {}
    for name, node in raw.nodes.items():
        told: list[str] = []
        try:
            check_node_name(name)
        except SisockError as error:
            told.append(at(path, document, ("nodes", name), error.message))
        try:
            content, model = node_model(node)
            settings = model.model_validate(content, context={"folder": path.parent})
        except ValidationError as error:
            told += explained(error, path, document, ("nodes", name), model)
        except SisockError as error:
            told.append(at(path, document, ("nodes", name), error.message))
        if not told:
            nodes[name] = settings
        problems += told
    gateway = _gateway(raw, runs_gateway)
    problems += clashes(nodes, path, document)
    problems += open_to_ocs(raw.router, raw.base_uri, path, document)
    problems += unusable_certificates(raw.router, gateway, path, document)
    if not unsound & {"router", "gateway"}:
        problems += port_clashes(raw.router, gateway, path, document)
    site = Site(
        path=path,
        realm=raw.realm,
        base_uri=raw.base_uri,
        router=raw.router,
        hub=raw.router.runs_here if raw.hub is None else raw.hub,
        gateway=gateway,
        nodes=nodes,
        state=raw.state,
        secrets_path=raw.secrets,
        notifications=raw.notifications,
    )
    return site, sorted(problems, key=_line)


def _existing(path: Path) -> Path:
    """Return the site file at `path`, which may be its folder."""
    path = path.absolute()
    try:
        # Behind a symbolic link, `..` is not the folder that the path has before it.
        if (shorter := Path(os.path.normpath(path))).resolve() == path.resolve():
            path = shorter
        if path.is_dir():
            path /= "site.yaml"
        is_there = path.exists()
    except PermissionError:
        message = "cannot be read by this user; its folder, or one above it, is closed to others"
        raise SiteError([f"{path}: {message}"]) from None
    if not is_there:
        raise SiteError([f"{path}: there is no such site file; {_instead(path)}"])
    return path


def _instead(path: Path) -> str:
    """Return the remedy for a site that does not exist."""
    folders = [site.path.parent for site in known_to_run()]
    if not folders:
        return "run `sisock init` to make one"
    name = path.parent.name if path.name == "site.yaml" else path.name
    near = difflib.get_close_matches(name, [folder.name for folder in folders])
    if meant := [str(folder) for folder in folders if folder.name in near]:
        return f"did you mean {' or '.join(meant)}, which is running?"
    return f"give the path of a folder or a file; running: {', '.join(map(str, folders))}"


def _sound(content: dict[Any, Any], path: Path, document: Any) -> tuple[SiteFile, list[str], set[Any]]:
    """Return the valid settings of a site file without its nodes, the errors of the rest, and their keys."""
    folder = {"folder": path.parent}
    try:
        return SiteFile.model_validate(content, context=folder), [], set()
    except ValidationError as error:
        unsound = {problem["loc"][0] for problem in error.errors()}
        rest = {key: value for key, value in content.items() if key not in unsound}
        return (
            SiteFile.model_validate(rest, context=folder),
            list(explained(error, path, document, (), SiteFile)),
            unsound,
        )


def _line(problem: str) -> int:
    """Return the line that a problem is in, by which they are sorted."""
    match = re.search(r":(\d+): ", problem)
    return int(match[1]) if match else 0


def _gateway(raw: SiteFile, runs: bool | None) -> GatewaySettings | None:
    """Return the settings of the gateway, if it runs here: as in the file, by default if the router runs here."""
    if raw.gateway is not None:
        return raw.gateway
    here = raw.router.runs_here and find_spec("fastapi") is not None if runs is None else runs
    return GatewaySettings() if here else None
