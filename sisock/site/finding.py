"""Finding the site, or the router, that a program is about; the same for commands, consumers and nodes.

The order is in docs/commands.md, "Which site".
"""

import os
from pathlib import Path

from sisock.access import Access, access_from_environment
from sisock.errors import BadRequest
from sisock.running import running_sites
from sisock.site.file import Site, load_site

Where = Access | str | os.PathLike[str]
"""A site: its folder, its file, or the access to its router."""

_NAME_ONE = 'name one: --site or SISOCK_SITE, in Python Consumer("FOLDER") or serve(…, site="FOLDER")'


def find_site(named: str | os.PathLike[str] | None = None) -> Site:
    """Return the site that is meant: the one named, else that of SISOCK_SITE, of this folder, or the one that runs.

    Raises
    ------
    BadRequest
        If there is none, or several run and this folder is in none of them.
    SiteError
        If its file is invalid.
    """
    return load_site(locate_site(named))


def locate_site(named: str | os.PathLike[str] | None = None) -> Path:
    """Return where the site is that is meant; see `find_site`."""
    path = _named(named) or _from_environment() or _here_or_running()
    if path is None:
        raise BadRequest(
            f"which site? there is no site.yaml in {_folder()} and none is running; {_NAME_ONE}; or make one with "
            "`sisock init`"
        )
    return path


def find_access(named: Where | None = None, role: str = "consumer", user: str | None = None) -> Access:
    """Return how a program in `role`, one of `ROLES`, reaches the router that is meant.

    It logs in with the account that `user` names, or with the first of the role. A site that is named is taken as it
    is; in any other that is found WAMP_URI, WAMP_USER, WAMP_SECRET, REALM and BASE_URI of the environment override, the
    account only where `user` is None. With WAMP_URI and WAMP_SECRET, no site is needed.

    Raises
    ------
    BadRequest
        If there is none, or several run and this folder is in none of them.
    SiteError
        If the file of the site is invalid, or it has no such account for the role.
    """
    if isinstance(named, Access):
        return named
    if (path := _named(named)) is not None:
        return load_site(path).own_access(role, user)
    path = _from_environment()
    if path is None and user is None:
        uri, secret = os.environ.get("WAMP_URI"), os.environ.get("WAMP_SECRET")
        if uri and secret:
            return access_from_environment()
        path = _here_or_running()
        if path is None and secret:
            return access_from_environment()
    return (load_site(path) if path else find_site()).access(role, user)


def _named(named: str | os.PathLike[str] | None) -> Path | None:
    if named is None:
        return None
    if "://" in os.fspath(named) or os.fspath(named).startswith("unix:"):
        raise BadRequest(
            f"{os.fspath(named)!r} is an address; give the folder or the file of a site, or set WAMP_URI, WAMP_USER "
            "and WAMP_SECRET in the environment"
        )
    return Path(named)


def _from_environment() -> Path | None:
    value = os.environ.get("SISOCK_SITE")
    if value and not Path(value).exists():
        raise BadRequest(f"SISOCK_SITE is {value!r}, and there is no such file; unset it, or set it to a site")
    return Path(value) if value else None


def _here_or_running() -> Path | None:
    if Path("site.yaml").exists():
        return Path("site.yaml")
    running, folder = running_sites(), _folder()
    around = [site for site in running if folder.is_relative_to(site.path.parent.resolve())]
    # In a site within another one, the inner one is meant.
    depths = [len(site.path.parent.resolve().parts) for site in around]
    meant = [site for site, depth in zip(around, depths, strict=True) if depth == max(depths)] or running
    if len(meant) > 1:
        raise BadRequest(
            "\n".join((f"which site? several are running; {_NAME_ONE}:", *(f"  {site}" for site in meant)))
        )
    return meant[0].path if meant else None


def _folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed
        return Path("/")
