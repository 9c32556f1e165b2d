"""The accounts of the router and of the gateway."""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError, model_validator

from sisock.errors import SiteError
from sisock.settings import Settings
from sisock.site.document import explained, loaded, plain
from sisock.site.gateway import GatewaySecrets

SECRETS_FILE = "secrets.yaml"


class Account(Settings):
    """A name and a secret by which the router knows a role."""

    user: str = Field(min_length=1)
    secret: SecretStr = Field(min_length=1)


ROLES = ("server", "consumer", "operator")


class Secrets(Settings):
    """The accounts of the roles."""

    server: Account
    """The hub and the nodes: they register, publish and call."""
    consumer: Account
    """Clients that read and subscribe."""
    operator: Account | None = None
    """Clients that also call commands."""
    gateway: GatewaySecrets = GatewaySecrets()
    """The accounts of the gateway."""

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
    """Read the accounts of the roles; only that of the operator may be missing.

    The variables SISOCK_SERVER_USER, SISOCK_SERVER_SECRET, and the same of CONSUMER and OPERATOR, override the
    file; with the secrets of server and consumer given, the file may be missing.

    Raises
    ------
    SiteError
        If a secret is missing, or the file can be read by others or is not what it should be.
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
    if not is_there and not all(content[role].get("secret") for role in ("server", "consumer")):
        raise SiteError([f"{path}: there is no such file; run `sisock init` to make random secrets"])
    try:
        return Secrets.model_validate(content)
    except ValidationError as error:
        raise SiteError(list(explained(error, path, document, (), Secrets, hide=True))) from None
