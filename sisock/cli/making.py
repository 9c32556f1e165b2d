"""The command that makes a site: `init`."""

import os
import secrets
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sisock.access import GATEWAY
from sisock.cli.terminal import echo
from sisock.errors import BadRequest
from sisock.files import write_whole
from sisock.nodetype import node_types
from sisock.site import ROLES, SECRETS_FILE, load_site

_SITE = """\
# A sisock site: the processes on this machine and their settings.
#
#   sisock check    lists the errors of this file
#   sisock up       runs it, until Ctrl-C
#   sisock nodes    lists, in another terminal, the nodes that are running
#
# Durations are written as 10s, 5m, 1h30m or 90d, sizes as 500MB or 2GB; paths are relative to the folder of this file.

# The router, through which all messages pass.
router:
  host: 127.0.0.1     # only programs on this machine reach it; for other machines make certificates: sisock init --tls
  port: 8080          # WebSocket on /ws; RawSocket is one port above
{tls}
# The console, for browsers: http://127.0.0.1:8082/. It runs if it is installed: pip install 'sisock-hub[gateway]'
#gateway:
#  port: 8082         # port of HTTP
#  operator: true     # whether it may call commands of nodes

# The nodes: the sources of measurements. Each is a process of its own; clients read its data by its name.
# `sisock node types` lists the types.
nodes:
{nodes}
"""
_NODE = """\
  host:
    type: host        # this machine: CPU, load, memory, disks, network
{history}"""
_NO_NODE = """\
#  host:
#    type: host       # this machine: CPU, load, memory, disks, network
{history}"""
_HISTORY = """\
    history:          # without it, six hours of samples are kept in memory, until the node ends
      path: history/host
      keep: 90d       # age up to which samples are kept
      max_size: 2GB   # beyond it, the oldest samples are removed
"""
_NO_HISTORY = """\
#    history:         # on disk; without it, six hours of samples are kept in memory, until the node ends
#      path: history/host
#      keep: 90d      # age up to which samples are kept
"""
_MORE = """
#  weather:           # another node: a table that may grow
#    type: table
#    path: weather.csv
#    fields:
#      temp_max: {units: °C, description: Highest temperature of the day}
"""
# With a site's default folders.
_IGNORED = """\
# Not for the repository: secrets, keys, and the files that the site writes.
/secrets.yaml
/tls/*.key
/.sisock/
/history/
"""
_TLS = "  tls: {}             # the files of `sisock init --tls`, in tls/\n"


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the site.")] = Path(),
    tls: Annotated[bool, typer.Option("--tls", help="Make a local authority and a server certificate.")] = False,
    name: Annotated[list[str] | None, typer.Option(help="Host name or address that clients use; repeatable.")] = None,
    history: Annotated[
        bool | None,
        typer.Option("--history/--no-history", help="Keep samples on disk, through restarts; by default yes."),
    ] = None,
    example: Annotated[
        bool | None,
        typer.Option("--example/--no-example", help="Make this machine the first node; by default yes."),
    ] = None,
) -> None:
    """Make a site: a commented site file to start from, and random secrets that only you can read.

    On a terminal, it asks for missing options. Existing files are never changed.
    """
    path = folder / "site.yaml"
    if path.exists() and (history is not None or example is not None):
        raise BadRequest(
            f"{path} exists already and is not overwritten; --history and --example are for a new one: edit it, or "
            "name another folder"
        )
    if not path.exists() and sys.stdin.isatty() and sys.stdout.isatty():
        if example is None and "host" in node_types():
            example = typer.confirm("Measure this machine, as a first node?", default=True)
        if history is None and example is not False:
            history = typer.confirm("Keep the samples on disk, through restarts?", default=True)
    made = make_site(folder, tls=tls, names=name or [], history=history is not False, example=example)
    for line in made or ["all files exist already; nothing was changed"]:
        echo(line)
    command, where = typed(), "" if folder == Path() else f" {shlex.quote(str(folder))}"
    echo(f"next: {command} check{where} && {command} up{where}")


def make_site(
    folder: Path,
    *,
    tls: bool = False,
    names: list[str] | None = None,
    history: bool = True,
    example: bool | None = None,
) -> list[str]:
    """Make the missing files of a site in `folder`, and return a line for each; existing files are never changed.

    Parameters
    ----------
    folder : Path
    tls : bool
        Whether to make a certificate, for `names` and this machine.
    names : list of str, optional
    history : bool
        Whether the example keeps its samples on disk.
    example : bool, optional
        Whether this machine is the first node; by default if that type is installed.

    Raises
    ------
    BadRequest
        If `folder` cannot be written to, a name is invalid in a certificate, or the example is not installed.
    """
    if example is None:
        example = "host" in node_types()
    elif example and "host" not in node_types():
        raise BadRequest("the example needs the node type host; run: pip install sisock-nodes")
    try:
        return _make_site(folder, tls, names or [], _nodes(example, history))
    except OSError as error:
        raise BadRequest(f"cannot write {error.filename or folder}: {error.strerror}; name another folder") from error


def _nodes(example: bool, history: bool) -> str:
    node = _NODE if example else _NO_NODE
    return node.format(history=_HISTORY if example and history else _NO_HISTORY) + _MORE.rstrip()


def _make_site(folder: Path, tls: bool, names: list[str], nodes: str) -> list[str]:
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    site = folder / "site.yaml"
    if tls and not (folder / "tls" / "server.pem").exists():
        from sisock.cli.certificates import make_certificates

        make_certificates(folder / "tls", names)
        made.append(f"{folder / 'tls'}: an authority (ca.pem, for clients) and the server's certificate")
    elif tls and names:
        made.append(f"{folder / 'tls'}: exists already and was not changed; move it away to make one for other names")
    if not site.exists():
        write_whole(site, _SITE.format(tls=_TLS if tls else "", nodes=nodes))
        first = "with this machine as its first node" if load_site(site).nodes else "without nodes"
        made.append(f"{site}: the site, {first}")
    elif tls and load_site(site).router.tls is None:
        made.append(f"{site}: exists already; add `tls: {{}}` below `router:` to use the certificates")
    path = folder / SECRETS_FILE
    if not path.exists():
        lines = [f"{role}:\n  user: {role}\n  secret: {secrets.token_urlsafe(32)}\n" for role in ROLES]
        lines.append(
            f"{GATEWAY}:  # its own account; `users` and `tokens` of those who log in there go below as well\n"
        )
        lines.append(f"  secret: {secrets.token_urlsafe(32)}\n")
        write_whole(path, "# Who may join the router; keep this file to yourself.\n" + "".join(lines), mode=0o600)
        made.append(f"{path}: random secrets, which only you can read")
    ignored = folder / ".gitignore"
    if not ignored.exists():
        write_whole(ignored, _IGNORED)
        made.append(f"{ignored}: keeps secrets, keys and samples out of a Git repository")
    elif SECRETS_FILE not in ignored.read_text(errors="replace"):
        made.append(f"{ignored}: exists already; add {SECRETS_FILE}, which must not get into a repository")
    return made


def typed() -> str:
    """Return the words that run this command in the current folder."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{_short(Path(sys.executable))} -m sisock"
    found = shutil.which(started.name)
    return started.name if found and Path(found).resolve() == started.resolve() else _short(started)


def _short(program: Path) -> str:
    relative = os.path.relpath(program)
    return shlex.quote(str(program.absolute()) if relative.startswith("..") else relative)
