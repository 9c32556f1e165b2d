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

_before_command: ContextVar[Path | None] = ContextVar("_before_command", default=None)


def name_site(path: Path | None) -> None:
    """Set the site of commands that have no ``--site`` of their own."""
    _before_command.set(path)


def check_site_is_taken(context: typer.Context) -> None:
    """Refuse ``--site`` before a command without a site.

    Raises
    ------
    BadRequest
        If the command has no site.
    """
    group = cast("TyperGroup", context.command)
    command = group.get_command(context, context.invoked_subcommand or "")
    takes_one = command is None or isinstance(command, TyperGroup) or any(p.name == "site" for p in command.params)
    if _before_command.get() and not takes_one:
        path = " ".join((*context.command_path.split()[1:], context.invoked_subcommand or ""))
        raise BadRequest(f"{path} takes no site; leave --site out")


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


def find_access(path: Path | None, role: str = "consumer") -> Access:
    """Return the access to the router; see `sisock.site.find_access`."""
    return sites.find_access(named_site(path), role)
