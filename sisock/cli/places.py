"""The site or router of a command: ``--site`` before or after it, or found by `sisock.site`."""

from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, cast

import typer
from typer.core import TyperGroup

from sisock import site as sites
from sisock.access import Access
from sisock.errors import BadRequest
from sisock.site import Site

SiteOption = Annotated[
    Path | None,
    typer.Option(
        "--site",
        help="The site: its folder or its file; by default that of SISOCK_SITE, ./site.yaml, or the one that runs.",
    ),
]

UserOption = Annotated[
    str | None,
    typer.Option("--user", metavar="NAME", help="Account, by its name in secrets.yaml; by default the role's first."),
]

_before_command: ContextVar[Path | None] = ContextVar("_before_command", default=None)
_user_before_command: ContextVar[str | None] = ContextVar("_user_before_command", default=None)


def name_site(path: Path | None, user: str | None = None) -> None:
    """Set the site, and the account, of commands that have no ``--site`` and ``--user`` of their own."""
    _before_command.set(path)
    _user_before_command.set(user)


def check_site_is_taken(context: typer.Context) -> None:
    """Refuse ``--site`` and ``--user`` before a command without a site.

    Raises
    ------
    BadRequest
        If the command has no site.
    """
    group = cast("TyperGroup", context.command)
    command = group.get_command(context, context.invoked_subcommand or "")
    takes_one = command is None or isinstance(command, TyperGroup) or any(p.name == "site" for p in command.params)
    for given, option in ((_before_command.get(), "site"), (_user_before_command.get(), "user")):
        if given and not takes_one:
            path = " ".join((*context.command_path.split()[1:], context.invoked_subcommand or ""))
            raise BadRequest(f"{path} takes no {option}; leave --{option} out")


def named_site(path: Path | None) -> Path | None:
    """Return the site named after or before the command; None without one.

    Raises
    ------
    BadRequest
        If two sites are named.
    """
    before = _before_command.get()
    if path and before and path.absolute() != before.absolute():
        raise BadRequest(f"two sites are named, {before} and {path}; name one")
    return path or before


def find_site(path: Path | None) -> Site:
    """Return the site; see `sisock.site.find_site`."""
    return sites.find_site(named_site(path))


def find_access(path: Path | None, role: str = "consumer", user: str | None = None) -> Access:
    """Return the access to the router; see `sisock.site.find_access`."""
    return sites.find_access(named_site(path), role, named_user(user))


def named_user(user: str | None) -> str | None:
    """Return the account named after the command, or before it; None without one."""
    return user or _user_before_command.get()
