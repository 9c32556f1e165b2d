"""A process on a leash: started, watched, read line by line, restarted, and stopped with all that it started."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sisock.process import EARLIER_RUNS, WATCHDOG_FD
from sisock.times import SYSTEM_CLOCK

_PR_SET_PDEATHSIG = 1
_LONGEST_LINE = 8192
# Seconds: shortest and longest back-off between restarts, the life after which it is reset, and the time to stop.
_SHORTEST, _LONGEST, _HEALTHY, _GRACE = 0.5, 10.0, 30.0, 10.0
# Seconds that the last lines of a child may take to arrive after its end, and between checks for its signs of life.
_REST, _LOOK = 0.5, 1.0
# Programs of sisock exit with 2 when their settings or their environment are invalid, after they have logged why.
_HINTS = {2: ": its settings or its environment must be corrected, see its output above"}

# Runs in the child before its own program: the kernel kills it when the parent dies for whatever reason. A process
# that is stopped or hangs would not act on another signal.
_LEASH = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

Say = Callable[[str, str], None]
"""Called with the name of a child, or "" for the supervisor itself, and a line; must return at once."""
Room = Callable[[str], Awaitable[None]]
"""Awaited with the name of a child before more of its lines are read, so that the printer can keep up."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a site: a program to keep running."""

    name: str
    command: Sequence[str]
    """Absolute path of the program, then its arguments."""
    watchdog_s: float = 0.0
    """Seconds without a sign of life (`sisock.process.show_life`) after which it is restarted; 0 disables that."""


class Child:
    """Keeps one program running, as the leader of a process group of its own."""

    def __init__(self, process: Process, say: Say, room: Room, environment: Mapping[str, str]) -> None:
        self.process, self._say, self._room, self._environment = process, say, room, environment
        self._process: asyncio.subprocess.Process | None = None
        self._since = 0.0
        self._starts = self._hangs = 0
        self._last_exit: str | None = None
        self._reading: asyncio.Task[None] | None = None

    def status(self) -> dict[str, Any]:
        """Return its pid, when it started, how often it was restarted and hung, and how it ended last."""
        return {
            "pid": self._process.pid if self._process else None,
            "since": self._since if self._process else None,
            "restarts": max(0, self._starts - 1),
            "hangs": self._hangs,
            "last_exit": self._last_exit,
        }

    async def keep(self) -> None:
        """Start the program, and start it again whenever it ends, with a back-off."""
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
                self._last_exit = f"hung for {self.process.watchdog_s:g} s"
            else:
                self._say("", f"{self.process.name} {what}; starting it again in {delay:g} s")
            await SYSTEM_CLOCK.sleep(delay)
            delay = min(2 * delay, _LONGEST)

    async def _live(self) -> int:
        """Run the child until it ends by itself, and return its exit status."""
        with self._watchdog() as signs_of_life:
            process = await self._start(signs_of_life)
            status = await process.wait()
        self.kill()  # the rest of its group, such as a worker that holds the port
        await self._read_rest()
        self._process = None  # its number may now be given to another process
        return status

    @contextlib.contextmanager
    def _watchdog(self) -> Iterator[int | None]:
        """Provide a pipe that takes the child's signs of life, and watch it; None where the child has no watchdog."""
        if not self.process.watchdog_s:
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
        while silent is None or silent < self.process.watchdog_s:
            await SYSTEM_CLOCK.sleep(_LOOK)
            try:
                os.read(signs_of_life, _LONGEST_LINE)
            except BlockingIOError:
                silent = None if silent is None else silent + _LOOK
            else:
                silent = 0.0
        self._hangs += 1
        self._say("", f"{self.process.name} hangs: no sign of life for {self.process.watchdog_s:g} s; it is restarted")
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
                *(sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *self.process.command),
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
                    self._say(self.process.name, text.decode(errors="replace").rstrip("\r"))
                await self._room(self.process.name)
        finally:
            transport.close()
            if line:
                self._say(self.process.name, line.decode(errors="replace"))

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
        """Stop the program; it is killed when it takes too long."""
        if self._process is not None:
            await self._end()
            await self._read_rest()
            self._process = None

    async def _end(self) -> None:
        """Ask the process to end, and kill it if it does not in time."""
        assert self._process is not None  # noqa: S101 - callers have checked
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is stopped takes no other signal
        ending = asyncio.create_task(self._process.wait())
        ended, _ = await asyncio.wait([ending], timeout=_GRACE)
        if not ended:
            self._say("", f"{self.process.name} did not stop within {_GRACE:g} s and is killed")
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
