"""A child: a program or a function that runs in a process of its own, and ends with ours.

It is started, watched, read line by line, restarted where that is wanted, and stopped with all that it has started.
"""

import json
import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from sisock.child.frames import CANCEL, Decoder, Message, encode
from sisock.child.function import encoded_call, name_of
from sisock.child.leash import LEASH
from sisock.child.life import Life, Listeners, Program
from sisock.child.outcome import Outcome
from sisock.errors import BadData, BadRequest, TimedOut
from sisock.process import CHANNEL_FD, EARLIER_RUNS, WATCHDOG_FD
from sisock.times import SYSTEM_CLOCK
from sisock.worker import Worker

log = logging.getLogger(__name__)

# Seconds: the time to stop, and between looks for signs of life.
_GRACE, _LOOK = 10.0, 1.0
# Lines that are kept for the text of an error.
_KEPT_LINES = 20
_CANCEL = encode(Message(CANCEL, None))
# Run by Python in a child: our own path first, since sisock itself may be on it.
_CALLED = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from sisock.child.called import main; main()"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each process of a child; None: those of ours."""

    memory: int | None = None
    """Bytes of memory that it allocates for itself (RLIMIT_DATA)."""
    cpu_s: int | None = None
    """Seconds of CPU time."""
    niceness: int | None = None
    """By how much its priority is lowered, 0 to 19."""
    open_files: int | None = None
    background: bool = False
    """Whether it gets only the processor time that nothing else of the machine wants (SCHED_IDLE)."""

    def __post_init__(self) -> None:
        """Raise BadRequest for values that cannot be limits."""
        if not isinstance(self.background, bool):
            raise BadRequest(f"background is {self.background!r}; give True or False")
        for name, value in self.given().items():
            if name == "background":
                continue
            least, most = (0, 19) if name == "niceness" else (1, 2**62)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise BadRequest(f"the limit {name} is {value!r}; give a whole number from {least} to {most}")

    def given(self) -> dict[str, int]:
        """Return the limits that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a child that ends is started again; times in seconds.

    A program is started again whenever it ends, a function when it has raised an error or died.
    """

    shortest_s: float = 0.5
    """Back-off before the first restart; it doubles from one to the next."""
    longest_s: float = 10.0
    healthy_s: float = 30.0
    """How long the child must have run for the back-off to be reset."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a site: a program to keep running."""

    name: str
    command: Sequence[str]
    """Absolute path of the program, then its arguments."""
    watchdog_s: float = 0.0
    """Seconds without a sign of life (`sisock.process.show_life`) after which it is restarted; 0 disables that."""


class Child:
    """A program or a function in a process of its own, the leader of a process group, which ends with this process.

    The functions that are given are called in a thread of the child, one at a time; an exception in one of them
    stops the child.

    Parameters
    ----------
    target : sequence of str, function or str
        A program and its arguments; or a function, itself or as ``package.module:function``.
    arguments : sequence or mapping
        Those of the function; pickle must know them.
    name : str, optional
        In logs and errors; by default the program's or the function's.
    limits : Limits, optional
    cwd : str, optional
        Its working directory, by default ours.
    environment : mapping of str to str, optional
        Environment variables in addition to ours.
    deadline_s : float, optional
        Seconds for which it may run.
    restart : RestartPolicy, optional
        By default it is not started again when it ends.
    watchdog_s : float, optional
        Seconds without a sign of life (`sisock.process.show_life`) after which it is stopped, if there was one before;
        0 disables that.
    grace_s : float, optional
        Seconds that it may take to stop before it is killed, by default 10.
    on_line : callable, optional
        Called with each line that it prints; while it does not return, no more is read.
    on_message : callable, optional
        Called with each `Message` that a function sends by `sisock.child.called.parent`.
    report : callable, optional
        Called with a sentence when it hangs, is killed or is started again; by default these are logged.

    Attributes
    ----------
    name : str
    restart : RestartPolicy or None
        May be set to None to let the present process be the last one.
    ended : concurrent.futures.Future
        Done when it has ended and will not be started again; its exception is one of the functions that were given.
    """

    def __init__(
        self,
        target: Sequence[str] | str | Callable[..., Any],
        arguments: Sequence[Any] | Mapping[str, Any] = (),
        *,
        name: str | None = None,
        limits: Limits = Limits(),
        cwd: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        deadline_s: float = math.inf,
        restart: RestartPolicy | None = None,
        watchdog_s: float = 0.0,
        grace_s: float | None = None,
        on_line: Callable[[str], object] | None = None,
        on_message: Callable[[Message], object] | None = None,
        report: Callable[[str], object] = log.warning,
    ) -> None:
        function, command = _what(target)
        if function is None and arguments:
            raise BadRequest(f"{command} has its arguments in its list; leave out {arguments!r}")
        self.name = name or function or os.path.basename(command[0])
        self.restart, self.ended = restart, Future[None]()
        self._call = encoded_call(function, arguments) if function else b""
        self._limits, self._environment = limits.given(), dict(environment)
        self._program = Program(
            name=self.name,
            command=command,
            limits=self._limits,
            cwd=None if cwd is None else os.fspath(cwd),
            deadline_s=deadline_s,
            watchdog_s=watchdog_s,
            grace_s=_GRACE if grace_s is None else grace_s,
            look_s=_LOOK,
            is_restarted=restart is not None,
        )
        self._on_line, self._on_message, self._report = on_line, on_message, report
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._life: Life | None = None
        self._is_killed = self._is_cancelled = False
        self._since = 0.0
        self._starts = self._hangs = 0
        self._outcome = Outcome(self.name, self._limits, bool(self._call), reason="was stopped before it had started")
        self._last_exit: str | None = None
        self._worker = Worker(f"child {self.name}", self._work)

    def start(self) -> None:
        """Start it; its thread does the rest.

        Raises
        ------
        RuntimeError
            If it was started before.
        """
        if self.ended.running() or self.ended.done():
            raise RuntimeError(f"{self.name} was started before; make another Child")
        self.ended.set_running_or_notify_cancel()
        self._worker.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it has ended and will not be started again, and return whether it has."""
        try:
            self.ended.exception(timeout_s)
        except TimeoutError:
            return False
        return True

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the end, and return what the function returned, or 0 for a program.

        Raises
        ------
        ChildFailed
            If it died, was stopped, ended with an error, or did not start; with the last lines that it printed.
        TimedOut
            If it has not ended in time.
        Exception
            The one that the function raised; its cause has the traceback.
        """
        if not self.wait(timeout_s):
            raise TimedOut(f"{self.name} has not ended within {timeout_s:g} s")
        self.ended.result()
        return self._outcome.value(self.last_lines)

    def cancel(self) -> None:
        """Ask a function to end soon: sets `sisock.child.called.Parent.cancelled`, of which it takes notice or not."""
        with self._lock:
            self._is_cancelled = True
            if self._life is not None:
                self._life.send(_CANCEL)

    def begin_stop(self) -> None:
        """Have it stop, and be killed if it takes too long; return at once."""
        with self._lock:
            self._stopping.set()
            if self._life is not None:
                self._life.end()

    def stop(self) -> None:
        """Stop it with all that it has started, and wait for that; it is killed if it takes too long."""
        self.begin_stop()
        if self.ended.running():
            self.wait()

    def kill(self) -> None:
        """Kill it with all that it has started; it is not started again."""
        with self._lock:
            self._is_killed = True
            self._stopping.set()
            if self._life is not None:
                self._life.kill()

    @property
    def last_lines(self) -> list[str]:
        """The last lines that it printed."""
        return list(self._lines)

    def status(self) -> dict[str, Any]:
        """Return its pid, when it started, how often it was restarted and hung, and how it ended last."""
        life = self._life
        return {
            "pid": life.pid if life else None,
            "since": self._since if life else None,
            **self._earlier(),
            "restarts": max(0, self._starts - 1),  # the present run is not an earlier one
        }

    def _earlier(self) -> dict[str, Any]:
        return {"restarts": self._starts, "hangs": self._hangs, "last_exit": self._last_exit}

    def _work(self) -> None:
        try:
            with LEASH.hold():
                self._keep()
        except BaseException as error:  # noqa: BLE001 - an error of our own must not go unheard
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def _keep(self) -> None:
        """Live, and where there is a restart policy, live again with a back-off."""
        delay_s = 0.0
        while not self._stopping.is_set():
            began = SYSTEM_CLOCK.monotonic()
            self._outcome = outcome = self._live()
            self._last_exit = outcome.last_exit
            policy = self.restart
            if policy is None or self._stopping.is_set() or (outcome.is_function and outcome.succeeded):
                return
            if not delay_s or SYSTEM_CLOCK.monotonic() - began > policy.healthy_s:
                delay_s = policy.shortest_s
            if not outcome.is_reported:
                self._report(f"{outcome.sentence}; starting it again in {delay_s:g} s")
            SYSTEM_CLOCK.wait(self._stopping, delay_s)
            delay_s = min(2 * delay_s, policy.longest_s)

    def _live(self) -> Outcome:
        outcome = Outcome(self.name, self._limits, bool(self._call))
        decoder = Decoder()

        def on_data(data: bytes) -> None:
            if outcome.reason is not None:
                return
            try:
                messages = decoder.feed(data)
            except BadData as error:
                outcome.reason = f"was killed: {error.message}"
                life.kill()
                return
            for message in messages:
                if outcome.take(message):
                    life.expect_end()
                elif self._on_message is not None:
                    self._on_message(message)

        listeners = Listeners(self._take_line, self._report, on_data if outcome.is_function else None)
        try:
            life = Life(self._program, _environment(self._environment, self._earlier()), listeners)
        except OSError as error:  # no process or pipe is available at the moment
            outcome.reason = f"could not be started: {error.strerror}"
            return outcome
        self._since = SYSTEM_CLOCK.now()
        self._starts += 1
        with self._lock:
            self._life = life
            if self._is_killed:
                life.kill()
            elif self._stopping.is_set():
                life.end()
            else:
                life.send(self._call + (_CANCEL if self._is_cancelled else b""))
        try:
            outcome.status = life.run()
        finally:
            self._life = None
        self._hangs += life.hung
        outcome.is_reported = life.reason is not None
        outcome.reason = life.reason or outcome.reason or ("was stopped" if self._stopping.is_set() else None)
        return outcome

    def _take_line(self, line: str) -> None:
        self._lines.append(line)
        if self._on_line is not None:
            self._on_line(line)


def _what(target: Sequence[str] | str | Callable[..., Any]) -> tuple[str | None, list[str]]:
    """Return the name of a function, or None, and the command that runs it or the program."""
    if isinstance(target, str) or callable(target):
        path = [os.path.abspath(folder) for folder in sys.path]
        return name_of(target), [sys.executable, "-P", "-c", _CALLED, json.dumps(path)]
    command = [str(word) for word in target]
    if not command:
        raise BadRequest("the command is empty; give a program and its arguments")
    return None, command


def _environment(given: Mapping[str, str], earlier: Mapping[str, Any]) -> dict[str, str]:
    # Ours are of descriptors that the child does not have.
    inherited = {name: value for name, value in os.environ.items() if name not in (WATCHDOG_FD, CHANNEL_FD)}
    return {**inherited, **given, "PYTHONUNBUFFERED": "1", EARLIER_RUNS: json.dumps(earlier)}
