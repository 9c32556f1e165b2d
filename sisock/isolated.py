"""Runs of operations in processes of their own, so that they can be killed: `Operation(…, isolated=True)`."""

import logging
import threading
from typing import Any

from sisock.child import Child, Limits
from sisock.child.called import parent
from sisock.child.frames import Message
from sisock.errors import ChildFailed, RunCancelled, SisockError
from sisock.procedure import Caller, Operation
from sisock.run_context import Cancelled, RunContext, RunState
from sisock.runs import Run, checked_progress, checked_update
from sisock.timers import Timers
from sisock.times import SYSTEM_CLOCK

log = logging.getLogger(__name__)

# Computing must not delay measurements and answers.
_LIMITS = Limits(background=True)
_UPDATE, _PROGRESS = "update", "progress"


class IsolatedRun:
    """The process of a run.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        self._run, self._name = run, f"run {run.id} of {run.operation.name}"
        self._lock, self._child, self._is_killed = threading.Lock(), None, False

    _child: Child | None

    def run(self) -> Any:
        """Run the code in a process of its own, and return its result; blocks the calling thread.

        Raises
        ------
        BadRequest
            If its arguments cannot be sent to another process.
        ChildFailed
            If the process dies; with the reason and the last lines that it printed.
        RunCancelled
            If the run was to end before it had begun, or its process was killed for that.
        Exception
            The one that the code raised.
        """
        run = self._run
        with self._lock:
            if run.cancelled.is_set() or self._is_killed:
                raise RunCancelled(run.reason or f"{self._name} was cancelled before it began")
            child = self._child = Child(
                _run_here,
                [run.operation, run.arguments, run.id, run.caller],
                name=self._name,
                limits=_LIMITS,
                on_message=self._take,
                on_line=lambda line: log.info("%s: %s", self._name, line),
            )
        run.cancelled.when_set(child.cancel)
        child.start()
        try:
            return child.result()
        except ChildFailed as error:
            if self._is_killed:
                raise RunCancelled(run.reason or f"{self._name} was killed") from error
            raise

    def kill(self) -> None:
        """Kill the process, or do not start it."""
        with self._lock:
            self._is_killed = True
            if self._child is not None:
                self._child.kill()

    def _take(self, message: Message) -> None:
        if self._run.is_ended:
            return  # it was given up, and its process is being killed
        try:
            if message.kind == _UPDATE:
                self._run.report_update(message.value)
            else:
                self._run.report_progress(*message.value)
        except SisockError as error:  # it has ended meanwhile, which its run counts
            log.info("%s: %s", self._name, error.message)


def _run_here(operation: Operation, arguments: Any, number: str, caller: Caller) -> Any:
    """Run the code of an operation in this process, which was started for it."""
    return operation.call(arguments, RunContext(_RemoteRun(number, caller), Timers("timers of a run", SYSTEM_CLOCK)))


class _RemoteRun:
    """A run that is kept by the parent of this process, as far as the context of its code needs it."""

    reason: str | None = None

    def __init__(self, number: str, caller: Caller) -> None:
        self.id, self.caller, self.cancelled = number, caller, Cancelled(SYSTEM_CLOCK)
        parent().when_cancelled(self.cancelled.set)

    @property
    def state(self) -> RunState:
        return "cancelling" if self.cancelled.is_set() else "running"

    def report_update(self, value: Any) -> None:
        parent().send(_UPDATE, checked_update(value)[0])

    def report_progress(self, fraction: float | None, message: str | None = None) -> None:
        parent().send(_PROGRESS, checked_progress(fraction, message))
