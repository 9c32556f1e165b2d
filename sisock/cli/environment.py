"""The command that prints the router's address and an account as environment variables: `env`."""

import shlex
from typing import Annotated

import typer

from sisock.cli.places import SiteOption, UserOption, find_site, named_user
from sisock.errors import BadRequest
from sisock.site import ROLES


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("env")(env)


def env(
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="Account: consumer (reads), server (nodes) or operator.")
    ] = "consumer",
    shell: Annotated[str, typer.Option(help="sh (and bash, zsh) or fish.")] = "sh",
    site: SiteOption = None,
    user: UserOption = None,
) -> None:
    """Print the environment variables with which any WAMP client reaches the router of a site.

    They include the secret of the account. Use it in a shell as eval "$(sisock env)", in fish as
    sisock env --shell fish | source
    """
    if role not in ROLES:
        raise BadRequest(f"--role is {role!r}; give one of {', '.join(ROLES)}")
    if shell not in _SHELLS:
        raise BadRequest(f"--shell is {shell!r}; give one of {', '.join(_SHELLS)}")
    found = find_site(site)
    access = found.own_access(role, named_user(user))
    variables = {
        "WAMP_URI": found.url,
        "REALM": access.realm,
        "BASE_URI": access.base_uri,
        "WAMP_USER": access.user,
        "WAMP_SECRET": access.secret,
        "WAMP_CA": str(access.ca) if access.ca else None,
    }
    for name, value in variables.items():
        typer.echo(_SHELLS[shell](name, value))


def _in_sh(name: str, value: str | None) -> str:
    return f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"


def _in_fish(name: str, value: str | None) -> str:
    if value is None:
        return f"set -e {name}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{escaped}'"


_SHELLS = {"sh": _in_sh, "fish": _in_fish}
