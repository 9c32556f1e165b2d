"""Running the parts of a site, each in a process of its own, and keeping them running."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from sisock.errors import BadRequest, MissingExtra
from sisock.process import EARLIER_RUNS, WATCHDOG_FD
from sisock.site import Site
from sisock.times import SYSTEM_CLOCK

_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 8192
# Seconds: back-off between restarts, the life after which it begins anew, and the time to stop by oneself.
_SHORTEST, _LONGEST, _HEALTHY, _GRACE = 0.5, 10.0, 30.0, 10.0
# Seconds by which all others are stopped before the first part.
_HEAD_START = 2.0
# Seconds that the last words of a child may take to arrive after its end, and between looks for its signs of life.
_REST, _LOOK = 0.5, 1.0
# Parts of sisock end with 2 when their settings or their surroundings are wrong, and have said what.
_HINTS = {2: ": something about it must be put right, see what it said above"}

# Runs in the child before its own program: the kernel kills it when the supervisor dies, however that happens. A
# process that is stopped or hangs would not take another signal.
_LEASH = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

Say = Callable[[str, str], None]
"""Called with the name of a child, or "" for the supervisor itself, and a line; must not wait for anything."""
Room = Callable[[str], Awaitable[None]]
"""Awaited with the name of a child before more of its lines are read, so that who prints them can keep up."""


async def _always_room(name: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Part:
    """A program to keep running."""

    name: str
    command: Sequence[str]
    """Absolute path of the program, then its arguments."""
    watchdog_s: float = 0.0
    """Seconds without a sign of life (`sisock.process.show_life`) after which it is restarted; 0 for never."""


class Supervisor:
    """Starts its parts, restarts what dies with a back-off, and stops all of them together.

    Parameters
    ----------
    parts : sequence of Part
        The one that the others depend on comes first.
    say : callable
        Gets each line that a part prints, and what the supervisor has to say about it.
    room : callable, optional
        Holds back the reading of a part that prints faster than `say` is done with it. It must end soon,
        whatever happens: a part that nobody reads stands still.
    environment : mapping of str to str, optional
        What all parts have in their environment beside our own.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        say: Say,
        room: Room = _always_room,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._children = [_Child(part, say, room, environment) for part in parts]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Keep all parts running until `stop` is called; then no process of theirs is left."""
        keepers = [asyncio.create_task(child.keep()) for child in self._children]
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # a keeper ends by itself only with an error
        finally:
            stopped.cancel()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            ends = await self._stop_all()
        for failed in filter(None, ends):
            raise failed

    async def _stop_all(self) -> list[BaseException | None]:
        """Stop all parts, the first one a moment after the others, and return what kept one from being stopped.

        The first one is the router, where it runs here: the others leave it, rather than lose it.
        """
        # One that cannot be stopped must not keep the others from being stopped.
        others = asyncio.gather(*(child.stop() for child in self._children[1:]), return_exceptions=True)
        await asyncio.wait([others], timeout=_HEAD_START)
        first = asyncio.gather(*(child.stop() for child in self._children[:1]), return_exceptions=True)
        return [*await first, *await others]

    @property
    def is_stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop all parts; called again, kill them at once."""
        if self._stopping.is_set():
            for child in self._children:
                child.kill()
        self._stopping.set()

    def status(self) -> dict[str, dict[str, Any]]:
        """Return of each part: its pid, since when it runs, how often it was restarted and hung, how it ended last."""
        return {child.part.name: child.status() for child in self._children}


class _Child:
    def __init__(self, part: Part, say: Say, room: Room, environment: Mapping[str, str]) -> None:
        self.part, self._say, self._room, self._environment = part, say, room, environment
        self._process: asyncio.subprocess.Process | None = None
        self._since = 0.0
        self._starts = self._hangs = 0
        self._last_exit: str | None = None
        self._reading: asyncio.Task[None] | None = None

    def status(self) -> dict[str, Any]:
        return {
            "pid": self._process.pid if self._process else None,
            "since": self._since if self._process else None,
            "restarts": max(0, self._starts - 1),
            "hangs": self._hangs,
            "last_exit": self._last_exit,
        }

    async def keep(self) -> None:
        delay = _SHORTEST
        while True:
            began, hangs = SYSTEM_CLOCK.monotonic(), self._hangs
            try:
                status = await self._live()
            except OSError as error:  # no process or pipe is to be had at the moment
                self._last_exit = what = f"could not be started: {error.strerror}"
            else:
                self._last_exit = _ending(status)
                what = f"ended ({self._last_exit}{_HINTS.get(status, '')})"
            if SYSTEM_CLOCK.monotonic() - began > _HEALTHY:
                delay = _SHORTEST
            if self._hangs > hangs:  # which was logged
                self._last_exit = f"hung for {self.part.watchdog_s:g} s"
            else:
                self._say("", f"{self.part.name} {what}; starting it again in {delay:g} s")
            await SYSTEM_CLOCK.sleep(delay)
            delay = min(2 * delay, _LONGEST)

    async def _live(self) -> int:
        """Run the child until it ends by itself, and return its exit status."""
        with self._watchdog() as signs_of_life:
            process = await self._start(signs_of_life)
            status = await process.wait()
        self.kill()  # what is left of its group, such as a worker that holds the port
        await self._read_rest()
        self._process = None  # its number may now be given to another process
        return status

    @contextlib.contextmanager
    def _watchdog(self) -> Iterator[int | None]:
        """Provide a pipe that takes the child's signs of life, and watch it; None where the child has no watchdog."""
        if not self.part.watchdog_s:
            yield None
            return
        ours, theirs = os.pipe()
        for end in (ours, theirs):
            os.set_blocking(end, False)
        watching = asyncio.create_task(self._watch(ours))
        try:
            yield theirs
        finally:
            watching.cancel()
            os.close(ours)
            os.close(theirs)

    async def _watch(self, signs_of_life: int) -> None:
        """Restart the child when it has given no sign of life for too long; not before its first one."""
        silent: float | None = None
        # Looks are counted, not time: while we ourselves are stopped, or the machine is asleep, nothing is missed.
        while silent is None or silent < self.part.watchdog_s:
            await SYSTEM_CLOCK.sleep(_LOOK)
            try:
                os.read(signs_of_life, _LONGEST_LINE)
            except BlockingIOError:
                silent = None if silent is None else silent + _LOOK
            else:
                silent = 0.0
        self._hangs += 1
        self._say("", f"{self.part.name} hangs: no sign of life for {self.part.watchdog_s:g} s; it is restarted")
        await self._end()

    async def _start(self, signs_of_life: int | None) -> asyncio.subprocess.Process:
        # A pipe of our own: asyncio's would let us know of the child's end only when everything that it
        # started has closed the pipe as well.
        ours, theirs = os.pipe()
        environment = {**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"}
        environment[EARLIER_RUNS] = json.dumps(
            {"restarts": self._starts, "hangs": self._hangs, "last_exit": self._last_exit}
        )
        if signs_of_life is not None:
            environment[WATCHDOG_FD] = str(signs_of_life)
        try:
            self._process = await asyncio.create_subprocess_exec(
                # -I: no module of the folder we are in may pass for one of Python's own.
                *(sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *self.part.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                env=environment,
                pass_fds=() if signs_of_life is None else (signs_of_life,),
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._since = SYSTEM_CLOCK.now()
        self._starts += 1
        self._reading = asyncio.create_task(self._read(ours))
        return self._process

    async def _read(self, pipe: int) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        line = b""
        try:
            # Read in pieces: a line without end must not fill the memory.
            while piece := await reader.read(_LONGEST_LINE):
                *whole, line = (line + piece).split(b"\n")
                if len(line) > _LONGEST_LINE:
                    whole, line = [*whole, line], b""
                for text in whole:
                    self._say(self.part.name, text.decode(errors="replace").rstrip("\r"))
                await self._room(self.part.name)
        finally:
            transport.close()
            if line:
                self._say(self.part.name, line.decode(errors="replace"))

    async def _read_rest(self) -> None:
        # The pipe closes with the last process of the group; one that fled from it must not hold us up. Not with
        # wait_for: before Python 3.12 it loses a cancellation that comes as the reading ends, and a child that
        # dies while everything is being stopped would be started again for ever.
        if self._reading is not None:
            _, late = await asyncio.wait([self._reading], timeout=_REST)
            for reading in late:
                reading.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            if not self._reading.cancelled():
                self._reading.result()  # an error in the reading is our own, and must not go unheard

    async def stop(self) -> None:
        if self._process is not None:
            await self._end()
            await self._read_rest()
            self._process = None

    async def _end(self) -> None:
        """Ask the process to end, and kill it if it does not in time."""
        assert self._process is not None  # noqa: S101 - whoever calls this has looked
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is stopped takes no other signal
        ending = asyncio.create_task(self._process.wait())
        ended, _ = await asyncio.wait([ending], timeout=_GRACE)
        if not ended:
            self._say("", f"{self.part.name} did not stop within {_GRACE:g} s and is killed")
        self.kill()
        await ending

    def kill(self) -> None:
        """Kill what is left of the child and of everything that it started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # the real-time signals have numbers only
        return f"killed by signal {-status}"


def _doors(site: Site) -> Iterator[tuple[str, str, int]]:
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
    for key, host, port in _doors(site):
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
