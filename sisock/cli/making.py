"""The command that makes a site: `init`."""

import os
import secrets
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from sisock.cli.terminal import echo
from sisock.errors import BadRequest
from sisock.files import write_whole
from sisock.nodetype import node_types
from sisock.site import ROLES, SECRETS_FILE, load_site

_SITE = """\
# A sisock site: what runs on this machine, and how the parts of it reach each other.
#
#   sisock check    shows what is wrong in this file
#   sisock up       runs it, until Ctrl-C
#   sisock nodes    lists, in another terminal, the nodes that are running
#
# Lengths of time are written as 10s, 5m, 1h30m or 90d, sizes as 500MB or 2GB; paths start from the folder of this file.

# The router, through which all programs talk.
router:
  host: 127.0.0.1     # only programs on this machine reach it; for others make certificates: sisock init --tls
  port: 8080          # WebSocket on /ws; RawSocket is one port above
{tls}
# The console, for browsers: http://127.0.0.1:8082/. It runs where it is installed: pip install 'sisock-hub[gateway]'
#gateway:
#  port: 8082         # where it listens
#  operator: true     # whether nodes can be given commands in it

# The nodes: whatever measures. Each is a process of its own, and has the name by which its data are asked for.
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
    history:          # without it, the samples of six hours are kept in memory, and end with the node
      path: history/host
      keep: 90d       # how far back
      max_size: 2GB   # beyond it, the oldest samples are removed
"""
_NO_HISTORY = """\
#    history:         # on disk; without it, the samples of six hours are kept in memory, and end with the node
#      path: history/host
#      keep: 90d      # how far back
"""
_MORE = """
#  weather:           # another node: a table that may grow
#    type: table
#    path: weather.csv
#    fields:
#      temp_max: {units: °C, description: Highest temperature of the day}
"""
# With the folders that a site has by default.
_IGNORED = """\
# What stays out of a repository: secrets, keys, and what the site writes.
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
    folder: Annotated[Path, typer.Argument(help="Where the site is to be.")] = Path(),
    tls: Annotated[bool, typer.Option("--tls", help="Make a local authority and a server certificate.")] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="Host name or address that clients use; may be given several times.")
    ] = None,
    history: Annotated[
        bool | None,
        typer.Option("--history/--no-history", help="Keep samples on disk, through restarts; yes if not given."),
    ] = None,
    example: Annotated[
        bool | None,
        typer.Option("--example/--no-example", help="Have this machine as the first node; yes if not given."),
    ] = None,
) -> None:
    """Make a site: a commented site file to start from, and random secrets that only you can read.

    On a terminal, it asks for what is not given. What is there is never changed.
    """
    path = folder / "site.yaml"
    if path.exists() and (history is not None or example is not None):
        raise BadRequest(
            f"{path} is there already and is not overwritten; --history and --example are for a new one: edit it, or "
            "name another folder"
        )
    if not path.exists() and sys.stdin.isatty() and sys.stdout.isatty():
        if example is None and "host" in node_types():
            example = typer.confirm("Measure this machine, as a first node?", default=True)
        if history is None and example is not False:
            history = typer.confirm("Keep the samples on disk, through restarts?", default=True)
    made = make_site(folder, tls=tls, names=name or [], history=history is not False, example=example)
    for line in made or ["everything is there already; nothing was changed"]:
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
    """Make what `folder` lacks to be a site, and return what was made, in words; what is there is never changed.

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
        If `folder` cannot be written to, a name is none that a certificate can hold, or the example is not installed.
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
        made.append(f"{folder / 'tls'}: is there already and was not changed; move it away to have it for other names")
    if not site.exists():
        write_whole(site, _SITE.format(tls=_TLS if tls else "", nodes=nodes))
        first = "with this machine as its first node" if load_site(site).nodes else "without any node yet"
        made.append(f"{site}: the site, {first}")
    elif tls and load_site(site).router.tls is None:
        made.append(f"{site}: is there already; add `tls: {{}}` below `router:` to use the certificates")
    path = folder / SECRETS_FILE
    if not path.exists():
        lines = [f"{role}:\n  user: {role}\n  secret: {secrets.token_urlsafe(32)}\n" for role in ROLES]
        write_whole(path, "# Who may join the router; keep this file to yourself.\n" + "".join(lines), mode=0o600)
        made.append(f"{path}: random secrets, which only you can read")
    ignored = folder / ".gitignore"
    if not ignored.exists():
        write_whole(ignored, _IGNORED)
        made.append(f"{ignored}: keeps secrets, keys and samples out of a Git repository")
    elif SECRETS_FILE not in ignored.read_text(errors="replace"):
        made.append(f"{ignored}: is there already; add {SECRETS_FILE}, which must not get into a repository")
    return made


def typed() -> str:
    """Return what to type for this very command, in the folder we are in."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{_short(Path(sys.executable))} -m sisock"
    found = shutil.which(started.name)
    return started.name if found and Path(found).resolve() == started.resolve() else _short(started)


def _short(program: Path) -> str:
    relative = os.path.relpath(program)
    return shlex.quote(str(program.absolute()) if relative.startswith("..") else relative)
