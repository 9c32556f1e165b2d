"""Running the processes of a site, and keeping them running."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from sisock.child import Child, Process, RestartPolicy
from sisock.errors import BadRequest, MissingExtra
from sisock.site import Site
from sisock.times import SYSTEM_CLOCK

# Seconds by which all others are stopped before the first process.
_HEAD_START = 2.0


Say = Callable[[str, str], object]
"""Called with the name of a process, or "" for the supervisor itself, and a line, by any thread; must return soon."""
Room = Callable[[str], object]
"""Called with the name of a process before more of its lines are read, so that the printer can keep up."""


class Supervisor:
    """Starts processes, restarts those that end with a back-off, and stops all of them together.

    Parameters
    ----------
    processes : sequence of Process
        The one on which the others depend comes first.
    say : callable
        Called with each line that a process prints or the supervisor logs.
    room : callable, optional
        Delays the reading of a process that prints faster than `say` takes its lines. It must always end soon:
        a process whose output is not read stands still.
    environment : mapping of str to str, optional
        Environment variables of all processes, in addition to our own.
    """

    def __init__(
        self,
        processes: Sequence[Process],
        say: Say,
        room: Room = lambda name: None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._children = [_child(process, say, room, environment) for process in processes]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep all processes running until `stop` is called; then none is left."""
        ends: list[asyncio.Future[None]] = [asyncio.wrap_future(child.ended) for child in self._children]
        for child in self._children:
            child.start()
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            waited: list[asyncio.Future[Any]] = [stopped, *ends]
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for end in done - {stopped}:
                end.result()  # a child ends by itself only with an error
        finally:
            stopped.cancel()
            await self._stop_all(ends)
        for failed in ends:
            failed.result()

    async def _stop_all(self, ends: Sequence[asyncio.Future[None]]) -> None:
        """Stop all processes, the first one a moment after the others.

        The first one is the router, where it runs here: the others leave it rather than lose it.
        """
        for child in self._children:
            child.restart = None
        # One that cannot be stopped must not keep the others from being stopped.
        for child in self._children[1:]:
            child.begin_stop()
        if ends[1:]:
            await asyncio.wait(ends[1:], timeout=_HEAD_START)
        self._children[0].begin_stop()
        await asyncio.wait(ends)

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop all processes; called again, kill them at once."""
        if self._stopping.is_set():
            for child in self._children:
                child.kill()
        self._stopping.set()

    def status(self) -> dict[str, dict[str, Any]]:
        """Return the status of each process by its name, see `sisock.child.Child.status`."""
        return {child.name: child.status() for child in self._children}


def _child(process: Process, say: Say, room: Room, environment: Mapping[str, str]) -> Child:
    def on_line(line: str) -> None:
        say(process.name, line)
        room(process.name)

    return Child(
        process.command,
        name=process.name,
        environment=environment,
        restart=RestartPolicy(),
        watchdog_s=process.watchdog_s,
        on_line=on_line,
        report=lambda line: say("", line),
    )


def _listening_ports(site: Site) -> Iterator[tuple[str, str, int]]:
    """Yield the site's own ports: the setting, the host and the port."""
    router, gateway = site.router, site.gateway
    if router.runs_here:
        yield "router.port", router.host, router.port
        yield "router.rawsocket_port", router.host, site.rawsocket_port
    if router.runs_here and router.ocs:
        yield "router.ocs.port", router.ocs.host, router.ocs.port
    if gateway:
        yield "gateway.port", gateway.host, gateway.port


def _refusal(host: str, port: int) -> OSError | None:
    """Return why a port cannot be listened on, if so."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def check_installed(site: Site) -> None:
    """Raise MissingExtra where what the parts of a site need on this machine is not installed."""
    if not (site.router.runs_here or site.hub or site.gateway):
        return
    points = list(entry_points(group="sisock.parts", name="router"))
    if not points:
        raise MissingExtra(
            f"the router, the hub and the gateway of {site.path} need: pip install 'sisock-hub[gateway]'"
        )
    if site.router.runs_here:
        for point in points:
            point.load()()


def check_free(site: Site, *parts: str, within_s: float = 0.0) -> None:
    """Raise BadRequest where something else has a port, or the socket, of some parts; remove a socket left behind.

    Parameters
    ----------
    site : Site
    *parts : {"router", "gateway"}
        Both when not given.
    within_s : float, optional
        How long to wait for ports that are taken, such as by processes that are ending.
    """
    parts = parts or ("router", "gateway")
    deadline = SYSTEM_CLOCK.monotonic() + within_s
    for key, host, port in _listening_ports(site):
        if key.partition(".")[0] not in parts:
            continue
        while error := _refusal(host, port):
            if error.errno != errno.EADDRINUSE:
                raise BadRequest(f"cannot listen on {host}:{port} ({key}): {error.strerror}") from error
            if SYSTEM_CLOCK.monotonic() >= deadline:
                raise BadRequest(
                    f"port {port} is taken by another program; stop that, or set {key} in {site.path}"
                ) from error
            SYSTEM_CLOCK.wait(threading.Event(), 0.05)
    if "router" not in parts or not site.router.runs_here:
        return
    path = site.socket_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise BadRequest(f"{path.parent} belongs to somebody else; set `state` in {site.path} to a folder of your own")
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(path))
            except OSError:
                path.unlink(missing_ok=True)  # nobody listens there any more
            else:
                raise BadRequest(f"another router answers at {path}; stop it first")
