"""The accounts of the router and of the gateway."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, TypeAdapter, ValidationError

from sisock.access import GATEWAY
from sisock.errors import SiteError
from sisock.settings import Settings
from sisock.site.document import at, explained, loaded, plain
from sisock.site.gateway import GatewaySecrets

SECRETS_FILE = "secrets.yaml"


class Account(Settings):
    """A name and a secret by which the router knows a role."""

    user: str = Field(min_length=1)
    secret: SecretStr = Field(min_length=1)


class _NamedAccount(Settings):
    """An account whose name is the key."""

    secret: SecretStr = Field(min_length=1)


ROLES = ("server", "consumer", "operator")
"""The roles of nodes and clients; the gateway has one of its own, `sisock.access.GATEWAY`."""


def _is_one(accounts: Mapping[str, Any]) -> bool:
    """Return whether a role has one account, ``{user, secret}``, rather than accounts by their names."""
    return not accounts or any(key in accounts and not isinstance(accounts[key], dict) for key in ("user", "secret"))


def _accounts(given: Any) -> Any:
    if isinstance(given, tuple):  # the default
        return given
    if not isinstance(given, dict):
        # pydantic lets a TypeError pass
        raise ValueError("give user and secret, or several accounts by their names, each with its secret")  # noqa: TRY004
    if _is_one(given):
        return (Account.model_validate(given),)
    return tuple(Account(user=name, secret=each.secret) for name, each in _BY_NAME.validate_python(given).items())


_BY_NAME = TypeAdapter(dict[Annotated[str, Field(min_length=1)], _NamedAccount])
Accounts = Annotated[tuple[Account, ...], BeforeValidator(_accounts)]


class Secrets(Settings):
    """The accounts of the roles, the first of which is used where none is named."""

    server: Accounts
    """The hub and the nodes: they register, publish and call."""
    consumer: Accounts
    """Clients that read and subscribe."""
    operator: Accounts = ()
    """Clients that also call commands."""
    gateway: GatewaySecrets = GatewaySecrets()
    """The gateway's own account, and the accounts of those who log in there."""
    notifications: dict[str, SecretStr] = Field(default_factory=dict)
    """Secrets of the targets of notifications, by their names."""
    nodes: dict[str, dict[str, SecretStr]] = Field({})
    """Secrets of nodes by node and key."""

    @property
    def accounts(self) -> dict[str, tuple[Account, ...]]:
        """The accounts that there are, by role."""
        given = {role: getattr(self, role) for role in ROLES}
        if self.gateway.secret is not None:
            given[GATEWAY] = (Account(user=GATEWAY, secret=self.gateway.secret),)
        return {role: accounts for role, accounts in given.items() if accounts}

    def account(self, role: str, user: str | None = None) -> Account | None:
        """Return the account that `user` names, whatever its role, or the first of a role; None without one."""
        if user is None:
            return next(iter(self.accounts.get(role, ())), None)
        return next((each for name in ROLES for each in getattr(self, name) if each.user == user), None)


def _misnamed(secrets: Secrets, content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys of accounts whose names are taken, and the error."""
    taken: dict[str, str] = {}
    for role in ROLES:
        for account in getattr(secrets, role):
            user = account.user
            keys = (role, "user" if _is_one(content[role]) else user)
            if user == GATEWAY:
                yield keys, f"{user!r} is the account of the gateway itself; choose another name"
            elif (other := taken.setdefault(user, role)) != role:
                yield keys, f"two roles have the user {user!r}, {other} and {role}; give each one of its own"


def _exists(path: Path) -> bool:
    try:
        is_there = path.exists()
        is_closed = is_there and not os.access(path, os.R_OK)
    except PermissionError:  # of its folder
        is_closed = True
    if is_closed:
        raise SiteError(
            [
                f"{path}: cannot be read by this user; ask the owner of the site for an account, and set WAMP_USER and "
                "WAMP_SECRET in the environment"
            ]
        )
    return is_there


def load_secrets(path: Path) -> Secrets:
    """Read the accounts of the roles; those of the operator and of the gateway may be missing.

    The variables SISOCK_SERVER_USER, SISOCK_SERVER_SECRET, and the same of CONSUMER and OPERATOR, override the first
    account of the role in the file, and SISOCK_GATEWAY_SECRET that of the gateway; with the secrets of server and
    consumer given, the file may be missing.

    Raises
    ------
    SiteError
        If a secret is missing, a name is taken, or the file can be read by others or is invalid.
    """
    document, content = None, {}
    is_there = _exists(path)
    if is_there:
        if path.stat().st_mode & 0o077:
            raise SiteError([f"{path}: can be read by others; run: chmod 600 {path}"])
        document = loaded(path)
        content = plain(document)
        if not isinstance(content, dict):
            raise SiteError([f"{path}:1: give the accounts `server` and `consumer`, each with user and secret"])
    _override(content)
    if not is_there and not all(content[role].get("secret") for role in ("server", "consumer")):
        raise SiteError([f"{path}: there is no such file; run `sisock init` to make random secrets"])
    try:
        secrets = Secrets.model_validate(content)
    except ValidationError as error:
        raise SiteError(list(explained(error, path, document, (), Secrets, hide=True))) from None
    if errors := [at(path, document, keys, message) for keys, message in _misnamed(secrets, content)]:
        raise SiteError(errors)
    return secrets


def _override(content: dict[str, Any]) -> None:
    """Have the environment override the first account of each role."""
    for role in ROLES:
        given = {key: os.environ.get(f"SISOCK_{role}_{key}".upper()) for key in ("user", "secret")}
        accounts = content.get(role)
        if accounts is None:
            accounts = {}
        if isinstance(accounts, dict):
            accounts = _overridden(accounts, role, given["user"], given["secret"])
        if accounts or role != "operator":
            content[role] = accounts
    if secret := os.environ.get("SISOCK_GATEWAY_SECRET"):
        gateway = content.get(GATEWAY) or {}
        if isinstance(gateway, dict):
            content[GATEWAY] = {**gateway, "secret": secret}


def _overridden(accounts: dict[str, Any], role: str, user: str | None, secret: str | None) -> dict[str, Any]:
    own = {"secret": secret} if secret else {}
    if _is_one(accounts):
        accounts = {**accounts, **({"user": user} if user else {}), **own}
        return {**accounts, "user": role} if accounts.get("secret") and not accounts.get("user") else accounts
    (name, about), *others = accounts.items()
    first = {**about, **own} if isinstance(about, dict) else about
    return {user or name: first, **{other: value for other, value in others if other != user}}
