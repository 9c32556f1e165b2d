"""One run of a program: its process group, its output, its channel, its signs of life, and its end."""

import contextlib
import math
import os
import selectors
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sisock.child.leash import LEASH
from sisock.process import CHANNEL_FD, WATCHDOG_FD
from sisock.times import SYSTEM_CLOCK

_LONGEST_LINE, _PIECE = 8192, 65536
# Seconds that the last output of a child may take to arrive after its end.
_REST_S = 0.5

_Handler = Callable[[selectors.BaseSelector], None]


@dataclass(frozen=True, slots=True)
class Program:
    """A program, and the conditions under which it runs; times in seconds."""

    name: str
    command: Sequence[str]
    limits: Mapping[str, int]
    cwd: str | None
    deadline_s: float
    """Infinite for none."""
    watchdog_s: float
    """0 for none."""
    grace_s: float
    """How long it may take to stop."""
    look_s: float
    """How often signs of life are looked for."""
    is_restarted: bool
    """Whether it is started again when it hangs or overruns its deadline."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Functions that are called in the thread of a life."""

    on_line: Callable[[str], object]
    report: Callable[[str], object]
    """Takes what an operator should know of the process."""
    on_data: Callable[[bytes], object] | None = None
    """Takes bytes that the program sends; it has a channel only where this is given."""


class Life:
    """One run of a program as the leader of a process group.

    Parameters
    ----------
    program : Program
    environment : mapping of str to str
        All environment variables.
    listeners : Listeners

    Attributes
    ----------
    pid : int
    reason : str or None
        Why it was stopped, where that was not asked for: it gave no sign of life, or did not end by its deadline.
    hung : bool

    Raises
    ------
    OSError
        If no process or pipe is available at the moment, or its folder does not exist.
    """

    def __init__(self, program: Program, environment: Mapping[str, str], listeners: Listeners) -> None:
        self._program, self._listeners = program, listeners
        self.hung = False
        self.reason: str | None = None
        self._lock = threading.Lock()
        self._is_over = self._has_ended = self._wants_end = self._was_asked = False
        self._outgoing = bytearray()
        self._line = b""
        self._silent_s: float | None = None
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            self._start(dict(environment), ours, theirs)
            self._closing = ours.pop_all()
        now = SYSTEM_CLOCK.monotonic()
        self._overdue_at, self._kill_at, self._rest_until = now + program.deadline_s, math.inf, math.inf
        self._look_at = now + program.look_s if program.watchdog_s else math.inf

    def _start(self, environment: dict[str, str], ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> None:
        passed = []
        self._wake = _owned(ours, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        # One pipe for both kinds of output, so that lines keep their order.
        self._output, output = _pipe(ours, theirs)
        self._channel: socket.socket | None = None
        if self._program.watchdog_s:
            self._signs, signs = _pipe(ours, ours)  # open on both sides, so that reading never finds an end
            os.set_blocking(signs, False)
            environment[WATCHDOG_FD] = str(signs)
            passed.append(signs)
        if self._listeners.on_data is not None:
            self._channel, channel = socket.socketpair()
            ours.enter_context(self._channel)
            theirs.enter_context(channel)
            self._channel.setblocking(False)
            environment[CHANNEL_FD] = str(channel.fileno())
            passed.append(channel.fileno())
        self._process = LEASH.start(
            {"command": list(self._program.command), "limits": dict(self._program.limits)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self._program.cwd,
            env=environment,
            pass_fds=passed,
        )
        self.pid = self._process.pid
        try:
            self._ended = _owned(ours, os.pidfd_open(self.pid))
        except OSError:
            self._end_group()
            raise

    def run(self) -> int:
        """Return the exit status when the process has ended; then nothing of its group is left."""
        try:
            with selectors.DefaultSelector() as selector:
                self._drive(selector)
        finally:
            with self._lock:
                self._end_group()
                self._closing.close()
        if self._line:
            self._listeners.on_line(_text(self._line))
        return self._process.returncode

    def end(self) -> None:
        """Have the process stop, and be killed if it does not in time; callable in any thread."""
        with self._lock:
            self._wants_end = True
            self._wake_up()

    def kill(self) -> None:
        """Kill the process and all that it has started; callable in any thread."""
        with self._lock:
            self._signal(signal.SIGKILL)

    def send(self, data: bytes) -> None:
        """Send bytes through the channel of the process, if it still runs; callable in any thread."""
        with self._lock:
            self._outgoing += data
            self._wake_up()

    def expect_end(self) -> None:
        """Kill the process if it does not end by itself soon; callable by the listeners."""
        self._kill_at = min(self._kill_at, SYSTEM_CLOCK.monotonic() + self._program.grace_s)

    def _end_group(self) -> None:
        self._signal(signal.SIGKILL)
        LEASH.remove(self.pid)
        self._process.wait()  # from now on its number may be given to another process
        self._is_over = True

    def _wake_up(self) -> None:
        if not self._is_over:
            os.eventfd_write(self._wake, 1)

    def _signal(self, number: int) -> None:
        if not self._is_over:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _drive(self, selector: selectors.BaseSelector) -> None:
        """Serve the pipes and the clock until the process has ended and its output was read."""
        handlers: dict[int, _Handler] = {
            self._wake: self._on_wake,
            self._ended: self._on_end,
            self._output: self._on_output,
        }
        if self._channel is not None:
            handlers[self._channel.fileno()] = self._on_data
        for descriptor, handler in handlers.items():
            selector.register(descriptor, selectors.EVENT_READ, handler)
        self._on_wake(selector)
        # The pipe closes with the last process of the group; one that has left the group must not hold us up.
        while not self._has_ended or (len(selector.get_map()) > 1 and SYSTEM_CLOCK.monotonic() < self._rest_until):
            due = min(self._look_at, self._overdue_at, self._kill_at, self._rest_until)
            for key, _ in selector.select(None if due == math.inf else max(0.0, due - SYSTEM_CLOCK.monotonic())):
                key.data(selector)
            if not self._has_ended:
                self._keep_time()

    def _keep_time(self) -> None:
        now = SYSTEM_CLOCK.monotonic()
        if now >= self._look_at:
            self._look_at = now + self._program.look_s
            self._look()
        if now >= self._overdue_at:
            self._overdue_at = math.inf
            self.reason = f"did not end within its deadline of {self._program.deadline_s:g} s"
            self._report_and_end(f"has not ended within its deadline of {self._program.deadline_s:g} s")
        if now >= self._kill_at:
            self._kill_at = math.inf
            self._listeners.report(
                f"{self._program.name} did not stop within {self._program.grace_s:g} s and is killed"
            )
            self.kill()

    def _look(self) -> None:
        """Stop the process when it has given no sign of life for too long; not before its first one."""
        try:
            os.read(self._signs, _PIECE)
        except BlockingIOError:
            # Looks are counted, not time: while we ourselves are stopped, or the machine is asleep, nothing is missed.
            self._silent_s = None if self._silent_s is None else self._silent_s + self._program.look_s
        else:
            self._silent_s = 0.0
        if self._silent_s is not None and self._silent_s >= self._program.watchdog_s:
            self._look_at = math.inf
            self.hung, self.reason = True, f"hung for {self._program.watchdog_s:g} s"
            self._report_and_end(f"hangs: no sign of life for {self._program.watchdog_s:g} s")

    def _report_and_end(self, what: str) -> None:
        consequence = "restarted" if self._program.is_restarted else "stopped"
        self._listeners.report(f"{self._program.name} {what}; it is {consequence}")
        self._ask_to_end()

    def _ask_to_end(self) -> None:
        self._was_asked = True
        with self._lock:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)  # one that is stopped takes no other signal
        self.expect_end()

    def _on_wake(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        if self._wants_end and not self._was_asked:
            self._ask_to_end()
        if self._outgoing and self._channel is not None and self._channel.fileno() in selector.get_map():
            selector.modify(self._channel, selectors.EVENT_READ | selectors.EVENT_WRITE, self._on_data)

    def _on_end(self, selector: selectors.BaseSelector) -> None:
        self._has_ended = True
        self._rest_until = SYSTEM_CLOCK.monotonic() + _REST_S
        selector.unregister(self._ended)
        self.kill()  # the rest of its group, such as a worker that holds the port

    def _on_output(self, selector: selectors.BaseSelector) -> None:
        # Read in pieces: a line without end must not fill the memory.
        piece = os.read(self._output, _LONGEST_LINE)
        if not piece:
            selector.unregister(self._output)
        *lines, self._line = (self._line + piece).split(b"\n")
        if len(self._line) > _LONGEST_LINE:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            self._listeners.on_line(_text(line))

    def _on_data(self, selector: selectors.BaseSelector) -> None:
        assert self._channel is not None  # noqa: S101 - this is its handler
        with self._lock:
            try:
                del self._outgoing[: self._channel.send(self._outgoing[:_PIECE])]
            except BlockingIOError:
                pass
            except OSError:
                self._outgoing.clear()  # it has closed its end, or ended
            if not self._outgoing:
                selector.modify(self._channel, selectors.EVENT_READ, self._on_data)
        try:
            data = self._channel.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data and self._listeners.on_data is not None:
            self._listeners.on_data(data)
        elif not data:
            selector.unregister(self._channel)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


def _owned(owner: contextlib.ExitStack, descriptor: int) -> int:
    """Return a descriptor that is closed with its owner."""
    owner.callback(os.close, descriptor)
    return descriptor


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Return a pipe of which the end to read from does not block."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return _owned(reader, reading), _owned(writer, writing)
