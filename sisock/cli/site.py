"""The commands that make, check and run a site."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO
from urllib.parse import urlsplit

import typer

from sisock.child import Process
from sisock.cli.lines import Lines
from sisock.cli.making import make_site, typed
from sisock.cli.places import SiteOption, check_site_is_taken, find_site, named_site
from sisock.cli.terminal import echo
from sisock.errors import BadRequest, NoRouter, SisockError
from sisock.leftovers import Run, end_leftovers
from sisock.nodetype import load_node_type, node_type_of, node_types
from sisock.outage import PASSING
from sisock.running import forget_running, record_running
from sisock.site import GatewaySettings, Site, check_site, load_site, locate_site
from sisock.supervisor import Supervisor, check_free, check_installed
from sisock.times import SYSTEM_CLOCK
from sisock.worker import Worker

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer

# Seconds for the kernel to release the ports of killed processes.
_ENDING_S = 5.0
# Seconds between checks of a site that is starting, for an answer to one, and until the first line about missing parts.
_LOOK_S, _LOOK_TIMEOUT_S, _SILENCE_S = 0.2, 2.0, 10.0
WhenReady = Callable[["BlockingConsumer", Site, Lines], None]
SiteArgument = Annotated[Path | None, typer.Argument(help="The site file, or its folder.", show_default="./site.yaml")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(check)
    app.command()(up)
    app.command()(demo)
    node = typer.Typer(help="Run one node, or list the types of nodes.", no_args_is_help=True)
    node.callback()(check_site_is_taken)
    node.command("run")(node_run)
    node.command("types")(list_types)
    app.add_typer(node, name="node")


def check(
    site: SiteArgument = None, as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False
) -> None:
    """List the errors of a site, before anything starts."""
    found = check_site(locate_site(named_site(site)))
    for name, settings in found.nodes.items():
        if present := node_type_of(settings).replaced_by:
            echo(f"nodes.{name}: type {settings.type} is deprecated; write type: {present}", err=True)
    for note in found.notes():
        echo(note, err=True)
    router = f"router on {found.router.host}:{found.router.port}" if found.router.runs_here else found.router.url
    if as_json:
        gateway = found.gateway.url if found.gateway else None
        types = {name: settings.type for name, settings in found.nodes.items()}
        typer.echo(
            json.dumps(
                {"site": str(found.path), "router": router, "hub": found.hub, "gateway": gateway, "nodes": types}
            )
        )
        return
    gateway = f", gateway on {found.gateway.host}:{found.gateway.port}" if found.gateway else ""
    nodes = ", ".join(f"{name} ({settings.type})" for name, settings in found.nodes.items()) or "none"
    echo(f"{found.path}: fine: {router}{', hub' if found.hub else ''}{gateway}; nodes: {nodes}")


def up(site: SiteArgument = None) -> None:
    """Run a site: router, hub and nodes, each in a process of its own, until Ctrl-C."""
    run_site(find_site(site))


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of the demo's site.")] = Path("sisock-demo"),
) -> None:
    """Run a demonstration site with this machine as a node, and print its address."""
    for line in make_site(folder):
        echo(line)
    site = load_site(folder)
    if not site.nodes:
        raise BadRequest(f"{site.path} has no nodes, so there is nothing to show; add one below `nodes:`")
    run_site(site, when_ready=_guide)


def node_run(name: Annotated[str, typer.Argument(help="Its name in the site file.")], site: SiteOption = None) -> None:
    """Run one node of a site in the foreground."""
    from sisock.runner import serve_settings

    found = find_site(site)
    if name not in found.nodes:
        raise BadRequest(f"{found.path} has no node {name!r}; it has: {', '.join(found.nodes) or 'none'}")
    access = found.access("server")
    found.make_state()
    folder, secrets, targets = found.folder_of(name), found.secrets_of(name), found.targets(name)
    serve_settings(name, found.nodes[name], access, folder=folder, secrets=secrets, notifications=targets)


def list_types(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """List the types of nodes that are installed."""
    rows = []
    for name, point in node_types().items():
        try:
            kind = load_node_type(point)
            if kind.replaced_by:
                continue
            about = (kind.settings.__doc__ or "").strip().partition("\n")[0]
        except (ImportError, BadRequest) as error:
            about = f"cannot be loaded: {error}"
        rows.append({"type": name, "description": about, "package": point.dist.name if point.dist else None})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        echo(f"{row['type']:12}  {row['description']}  ({row['package']})")
    if not rows:
        echo("none; run: pip install sisock-nodes")


def run_site(site: Site, when_ready: WhenReady | None = None) -> None:
    """Run all parts of a site until Ctrl-C or SIGTERM.

    Raises
    ------
    SisockError
        If the site cannot start: secrets, ports, missing packages, or another process that runs
        the site.
    """
    site.check_secrets()
    check_installed(site)
    processes = _processes(site)
    if not processes:
        raise BadRequest(f"{site.path} has nothing to run: its router and hub run elsewhere, and it has no nodes")
    with _opened_lock(site) as lock:
        _only_one(site, lock)
        mark = site.state / "run"
        killed = mark.exists()
        left = end_leftovers(mark)
        # Processes that were killed with their supervisor may still be ending; only their ports show it.
        check_free(site, within_s=_ENDING_S if killed else 0.0)
        with _without_a_record("other commands need --site to find this one"):
            record_running(site.path)
        lines = Lines([process.name for process in processes], sys.stdout)
        if left:
            lines.say("", f"killed {left} processes that an earlier run of this site had left")
        run = Run(mark)
        try:
            asyncio.run(_supervise(site, processes, lines, when_ready, run))
            run.close()
        finally:
            with _without_a_record("other commands may list this site as running"):
                forget_running()
            lines.close()


def _opened_lock(site: Site) -> TextIO:
    try:
        site.make_state()
        return os.fdopen(os.open(site.state / "up.lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+")
    except OSError as error:
        raise BadRequest(
            f"cannot write {error.filename}: {error.strerror}; set `state` in {site.path} to a folder of your own"
        ) from error


def _processes(site: Site) -> list[Process]:
    # -P: a module in the current folder must not replace one that sisock imports.
    command = (sys.executable, "-P", "-m", "sisock")
    where = ("--site", str(site.path))
    processes = [Process("router", (*command, "router", *where))] if site.router.runs_here else []
    processes += [Process("hub", (*command, "hub", *where))] if site.hub else []
    processes += [Process("gateway", (*command, "gateway", *where))] if site.gateway else []
    return processes + [
        Process(name, (*command, "node", "run", name, *where), settings.watchdog_s)
        for name, settings in site.nodes.items()
    ]


def _only_one(site: Site, lock: TextIO) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        raise BadRequest(f"{site.path} is being run by process {lock.read().strip() or '?'} already") from None
    with _on_a_full_disk("another `sisock up` cannot report which process runs this site"):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())


@contextmanager
def _on_a_full_disk(consequence: str) -> Iterator[None]:
    """Continue when a disk takes nothing: acquisition must run all the same."""
    try:
        yield
    except OSError as error:
        if error.errno not in PASSING:
            raise
        typer.echo(f"the disk takes nothing ({error.strerror}): {consequence}", err=True)


@contextmanager
def _without_a_record(consequence: str) -> Iterator[None]:
    """Continue when a site cannot be recorded: this must not keep it from running."""
    try:
        yield
    except (OSError, BadRequest) as error:
        typer.echo(f"this site cannot be recorded as running ({error}): {consequence}", err=True)


async def _supervise(
    site: Site, processes: list[Process], lines: Lines, when_ready: WhenReady | None, run: Run
) -> None:
    supervisor = Supervisor(processes, lines.say, lines.room, run.environment)

    def stop() -> None:
        lines.say("", "killing what has not stopped yet" if supervisor.is_stopping else "stopping")
        supervisor.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    lines.say("", f"running {site.path}; Ctrl-C stops it")
    # A daemon thread: the stop does not wait for it.
    Worker("start of the site", watch_start).start(site, lines, when_ready)
    await supervisor.run()
    lines.say("", "stopped")


def watch_start(site: Site, lines: Lines, when_ready: WhenReady | None) -> None:
    """Log when the site is ready, and until then at growing intervals what is missing."""
    began, silence_s = SYSTEM_CLOCK.monotonic(), _SILENCE_S
    never = threading.Event()
    from sisock.consumer import BlockingConsumer  # may take seconds on a small machine

    try:
        with BlockingConsumer(site.access("server"), timeout_s=_LOOK_TIMEOUT_S, patience_s=0.0) as consumer:
            while missing := _missing(consumer, site):
                if (elapsed_s := SYSTEM_CLOCK.monotonic() - began) > silence_s:
                    silence_s *= 2
                    lines.say("", f"not ready after {elapsed_s:.0f} s: waiting for {missing}")
                SYSTEM_CLOCK.wait(never, _LOOK_S)
            number = f"{len(site.nodes)} node{'' if len(site.nodes) == 1 else 's'}"
            console = f"; console: {site.gateway.url}" if site.gateway else ""
            elapsed_s = SYSTEM_CLOCK.monotonic() - began
            lines.say("", f"ready in {elapsed_s:.0f} s: {number}{console}; in another terminal: {typed()} nodes")
            if when_ready is not None:
                when_ready(consumer, site, lines)
    except SisockError as error:
        lines.say("", f"cannot determine whether the site is ready: {error.message}")


def _missing(consumer: "BlockingConsumer", site: Site) -> str | None:
    """Return the missing part of a site that is starting; None if it is ready."""
    try:
        nodes = site.nodes.keys() - {node.name for node in consumer.nodes()}
    except NoRouter:
        return "the router"
    except SisockError:
        return "the hub"
    if nodes:
        return f"node{'' if len(nodes) == 1 else 's'} {', '.join(sorted(nodes))}"
    return "the console" if site.gateway and not _listens(site.gateway) else None


def _listens(gateway: GatewaySettings) -> bool:
    try:
        with socket.create_connection((urlsplit(gateway.url).hostname, gateway.port), timeout=_LOOK_TIMEOUT_S):
            return True
    except OSError:
        return False


def _first_number(consumer: "BlockingConsumer", node: str) -> str | None:
    """Return a field of `node` that has numbers, as soon as it has any."""
    try:
        fields = [info.name for info in consumer.fields(node).values() if info.type == "number"]
        return next((name for name in fields if len(consumer.data(node, [name], 1.0)[name])), None)
    except SisockError:
        return None  # not available yet


def _guide(consumer: "BlockingConsumer", site: Site, lines: Lines) -> None:
    """Wait until the first node answers with data, then print addresses and commands."""
    name = next(iter(site.nodes))
    while not (field := _first_number(consumer, name)):
        SYSTEM_CLOCK.wait(threading.Event(), _LOOK_S)
    command = typed()
    shown = "host cpu.total" if site.nodes[name].type == "host" and name == "host" else f"{name} {field}"
    watched = shown.replace("cpu.total", "load.1m")
    lines.show(
        "\n".join(
            (
                "",
                "Data flows. In another terminal:",
                f"  {command} nodes",
                f"  {command} fields {name}",
                f"  {command} get {shown} --start -30s",
                f"  {command} watch {watched}",
                *([f"In the browser: {site.gateway.url}"] if site.gateway else []),
                f"Plain WAMP clients: {site.url}, realm {site.realm}, "
                f"user and secret of `consumer` in {os.path.relpath(site.secrets_path)}",
                "Ctrl-C here stops everything.",
                "",
            )
        )
    )
