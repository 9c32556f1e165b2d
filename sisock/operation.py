"""The runs of a node's operations: started, queued, watched, cancelled, and kept on record."""

import logging
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from sisock.ended_runs import MOST_ENDED, EndedRuns
from sisock.errors import Busy, NoSuchRun, NotSupported, RunCancelled, RunFailed
from sisock.event import Report, Severity
from sisock.executor import Call, Executor, ReactorCall
from sisock.isolated import IsolatedRun
from sisock.metrics import Counters
from sisock.outage import LimitedLog
from sisock.procedure import Caller, Operation
from sisock.run_context import RunContext
from sisock.run_outcome import Outcome, error_text, outcome_of
from sisock.runs import ANSWER_SIZE, DEADLINE, Run, RunRecords
from sisock.timers import Timers
from sisock.times import Clock

# Seconds after which a run that still runs though it was cancelled is reported, and for which a stop waits.
_PATIENCE_S, _GRACE_S = 10.0, 5.0

# Severities of the events of ends.
_SEVERITIES: Mapping[str, Severity] = {"done": "info", "cancelled": "warning", "failed": "error"}

log = logging.getLogger(__name__)


class Operations:
    """The runs of a node's operations; used from any thread.

    Parameters
    ----------
    clock : Clock
    timers : Timers
    report : callable
        Reports the transitions of runs as events.
    at_once : int
        Most runs in threads at a time.
    most : int
        Most runs that are queued or running at a time.
    records : RunRecords, optional
        Where the records of runs are kept.
    """

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        report: Report,
        *,
        at_once: int = 64,
        most: int = 1000,
        records: RunRecords | None = None,
    ) -> None:
        self._clock, self._timers, self._report = clock, timers, report
        self._at_once, self._most = at_once, most
        self.counters = Counters(
            *("runs", "refused", "failed", "cancelled", "ignored_cancellations", "ended_twice"),
            *("updates_after_end", "dropped_updates", "coalesced_progress"),
        )
        self._executor = Executor("operations", at_once, at_once)
        self._log = LimitedLog(log)
        self._changed = threading.Condition(threading.RLock())
        self._active: OrderedDict[str, Run] = OrderedDict()
        self._ended = EndedRuns(records, clock)
        self._listeners: tuple[Callable[[Run], object], ...] = ()
        self._keeping = threading.Lock()
        self._last_id = self._started = 0
        self._is_closed = self._is_launching = False
        for lost in self._ended.lost:
            report("run", lost["name"], f"{lost['name']} failed: {lost['error']}", "error", run=lost["id"])

    def listen(self, listener: Callable[[Run], object]) -> None:
        """Have a function called with a run after each of its changes; it must return soon."""
        with self._changed:
            self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Callable[[Run], object]) -> None:
        """Call a listener no more."""
        with self._changed:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def start(self, operation: Operation, arguments: Mapping[str, Any], caller: Caller) -> Run:
        """Start a run, or queue it.

        Raises
        ------
        BadRequest
            If the arguments do not validate.
        Busy
            If too many runs are active, or what the operation needs is in use and it is not to wait for that.
        """
        validated = operation.validated(arguments)
        with self._changed:
            self._check_room(operation)
            run = Run(self._next_id(), operation, validated, caller, self._clock, self.counters)
            self._active[run.id] = run
            self._started += 1
            refreshes = self._started % (MOST_ENDED // 2) == 0
        if refreshes:
            self._refresh_records()
        self.counters.add("runs")
        run.listen(self._on_change)
        self._on_change(run)
        self._keep(run)
        self._launch_ready()
        if run.state == "queued":
            self._event(run, f"{caller.name} queued a run of {operation.name}")
        return run

    def _check_room(self, operation: Operation) -> None:
        problem = "the node is stopping" if self._is_closed else _refusal(operation, self._active, self._most)
        if problem is not None:
            self.counters.add("refused")
            raise Busy(f"{operation.name}: {problem}")

    def _refresh_records(self) -> None:
        """Keep the records of active runs once more: after a kill, the newest records only are read."""
        with self._changed:
            active = list(self._active.values())
        for run in active:
            self._keep(run)

    def _keep(self, run: Run) -> None:
        """Keep the record of a run, unless it has ended: then the record of its end must stay the newest one."""
        with self._keeping:
            if run.id in self._active:
                self._ended.keep(run.record())

    def _next_id(self) -> str:
        """Return a new id: the time in milliseconds, made unique, and a random part, so that no other node has it."""
        self._last_id = max(self._last_id + 1, int(self._clock.now() * 1000))
        return f"{self._last_id:012x}-{secrets.token_hex(3)}"

    def _launch_ready(self) -> None:
        """Start the queued runs that need not wait any more, oldest first.

        One thread does it at a time, and in a loop: runs that end at once would otherwise start each other ever deeper.
        """
        with self._changed:
            if self._is_launching:
                return
            self._is_launching = True
        try:
            while ready := self._take_ready():
                for run in ready:
                    self._launch(run)
        except BaseException:  # such as Ctrl-C
            self._is_launching = False
            raise

    def _take_ready(self) -> list[Run]:
        """Return the runs that are to be started now, in state `running`; none where the thread has no more to do."""
        with self._changed:
            ready = [] if self._is_closed else _ready(self._active, self._at_once)
            for run in ready:
                run.started = self._clock.now()
                run.enter("running")
            self._is_launching = bool(ready)
            return ready

    def _launch(self, run: Run) -> None:
        """Start a run; where that fails, it has failed, and others are started all the same."""
        try:
            self._begin(run)
        except Exception as error:  # noqa: BLE001 - it is that of the run
            self._finish(run, outcome_of(run, None, error))

    def _begin(self, run: Run) -> None:
        self._keep(run)
        self._event(run, f"{run.caller.name} started {run.operation.name}")
        if run.operation.deadline is not None:
            run.deadline = self._timers.after(run.operation.deadline, lambda: self._expire(run))
        call = self._call(run)
        with self._changed:
            run.kill = lambda: call.abort
            kill = run.kill() if run.is_forced else None
        if kill is not None:
            kill()
        call.add_done_callback(lambda call: self._on_result(run, call))

    def _call(self, run: Run) -> Call:
        if run.operation.isolated:
            process = IsolatedRun(run)
            call = self._executor.submit(process.run)
            call.abort = process.kill
            return call
        context = RunContext(run, self._timers)
        if run.operation.runs_in_reactor:
            return ReactorCall(run.operation.call, run.arguments, context)
        return self._executor.submit(run.operation.call, run.arguments, context)

    def _on_result(self, run: Run, call: "Future[Any]") -> None:
        error = CancelledError() if call.cancelled() else call.exception()
        self._finish(run, outcome_of(run, None if error is not None else call.result(), error))

    def _finish(self, run: Run, outcome: "Outcome") -> None:
        state, error = outcome.state, outcome.error
        with self._changed:
            if self._active.pop(run.id, None) is None:
                self.counters.add("ended_twice")
                self._log.warning(run.operation.name, "run %s of %s has ended already", run.id, run.operation.name)
                return
            run.result, run.bytes = outcome.result, outcome.bytes
            run.exception, run.error = error, None if error is None else error_text(error)
            run.ended = self._clock.now()
            self._ended.add(run)
        if run.deadline is not None:
            run.deadline()
        if state != "done":
            self.counters.add(state)
        with self._keeping:
            self._ended.keep({**run.record(), "state": state})
        run.enter(state)
        text = {"done": "done", "failed": f"failed: {run.error}", "cancelled": run.error}[state]
        self._event(run, f"{run.operation.name} {text}", _SEVERITIES[state])
        with self._changed:
            self._changed.notify_all()
        self._launch_ready()

    def cancel(self, number: str, caller: Caller, *, hard: bool = False) -> dict[str, Any]:
        """Ask a run to end, and return it; one that has ended already is not changed.

        Parameters
        ----------
        number : str
            Its id.
        caller : Caller
            The caller that asks for it.
        hard : bool
            End its code by force: kill its process, where it has one, or cancel its coroutine where it waits.

        Raises
        ------
        NoSuchRun
            If there is none of that id.
        NotSupported
            If `hard`, and it runs in a thread; it is asked to end all the same.
        """
        run = self._active.get(number)
        if run is None:
            return self.get(number)
        self._ask_to_end(run, f"cancelled by {caller.name}")
        if hard and not run.is_ended:
            self._end_by_force(run)
        return run.described()

    def _end_by_force(self, run: Run) -> None:
        with self._changed:
            run.is_forced = True  # where its code has not begun yet, `_begin` ends it
            kill = run.kill()
        if kill is not None:
            kill()
        elif not (run.operation.isolated or run.operation.runs_in_reactor):
            raise NotSupported(
                f"run {run.id} of {run.operation.name} runs in a thread, which cannot be ended by force; it was "
                "asked to end, and keeps its place until it does"
            )

    def _ask_to_end(self, run: Run, reason: str) -> None:
        with self._changed:
            if run.is_ended or run.reason is not None:
                return
            run.reason = reason  # a queued run that has one is not started any more
            is_queued = run.state == "queued"
            if not is_queued:
                run.enter("cancelling")
        if not is_queued:
            self._event(run, f"{run.operation.name} is to end: {reason}")
            self._timers.after(_PATIENCE_S, lambda: self._report_ignored(run))
        run.cancelled.set()
        if is_queued:
            self._finish(run, Outcome("cancelled", error=RunCancelled(reason)))

    def _expire(self, run: Run) -> None:
        self._ask_to_end(run, f"{DEADLINE}: it ran for more than {run.operation.deadline:g} s")

    def _report_ignored(self, run: Run) -> None:
        if run.is_ended:
            return
        self.counters.add("ignored_cancellations")
        text = f"{run.operation.name} still runs {_PATIENCE_S:g} s after it was asked to end"
        if run.is_overdue and run.kill_process():
            text += "; its process is killed"
        self._event(run, text, severity="warning")

    def get(self, number: str) -> dict[str, Any]:
        """Return a run.

        Raises
        ------
        NoSuchRun
            If there is none of that id.
        """
        with self._changed:
            found = self._active.get(number) or self._ended.get(number)
        if found is None:
            raise NoSuchRun(f"no run {number!r} is known; `operations` lists the newest {MOST_ENDED}")
        return found.described() if isinstance(found, Run) else dict(found)

    def changes(self, number: str, after: int) -> list[dict[str, Any]]:
        """Return the changes of a run after a number, as published and as far as kept; the first megabytes of them."""
        with self._changed:
            found = self._active.get(number) or self._ended.get(number)
        return found.wire_changes(after, ANSWER_SIZE) if isinstance(found, Run) else []

    def list(self, *, active: bool | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest runs, newest first, without their updates and results.

        Parameters
        ----------
        active : bool, optional
            Only those that are active, or only those that have ended.
        limit : int
        """
        with self._changed:
            ended, running = self._ended.all(), list(self._active.values())
        chosen: list[Any] = [*([] if active else ended), *([] if active is False else running)]
        described = (each.described() if isinstance(each, Run) else each for each in chosen)
        newest = sorted(described, key=lambda each: each["id"], reverse=True)[:limit]
        return [{key: value for key, value in each.items() if key not in ("update", "result")} for each in newest]

    def status(self) -> dict[str, Any]:
        """Return how many runs there are by state, the limits, and the counters."""
        with self._changed:
            states = Counter(run.state for run in self._active.values())
        return {
            **{state: states[state] for state in ("queued", "running", "cancelling")},
            "at_once": self._at_once,
            "most": self._most,
            "counters": self.counters.as_dict(),
        }

    def close(self) -> None:
        """Ask all runs to end, wait for that for some seconds, and let the others fail; then start no more."""
        with self._changed:
            self._is_closed = True
            runs = list(self._active.values())
        for run in runs:
            self._ask_to_end(run, "cancelled: the node stops")
        with self._changed:
            self._changed.wait_for(lambda: not self._active, _GRACE_S if runs else 0.0)
            processes = [run for run in self._active.values() if run.kill_process()]
            self._changed.wait_for(lambda: all(run.is_ended for run in processes), _GRACE_S)
            left = list(self._active.values())
        for run in left:
            self._finish(run, Outcome("failed", error=RunFailed("node stopped")))
        self._executor.close()

    def _on_change(self, run: Run) -> None:
        for listener in self._listeners:
            listener(run)

    def _event(self, run: Run, text: str, severity: Severity = "info") -> None:
        self._report(
            "run", run.operation.name, text, severity, run=run.id, state=run.state, caller=run.caller.as_dict()
        )


def _refusal(operation: Operation, active: Mapping[str, Run], most: int) -> str | None:
    """Return why no run can be started now, beside the active ones; None if one can."""
    if len(active) >= most:
        return f"{len(active)} runs are queued or running; try again when some have ended"
    if operation.exclusive is None or operation.when_busy == "queue":
        return None
    holder = next((each for each in active.values() if _shares(each.operation, operation)), None)
    if holder is None:
        return None
    return (
        f"{operation.exclusive} is in use by run {holder.id} ({holder.operation.name}, of {holder.caller.name}); try "
        "again when it has ended, or cancel it"
    )


def _ready(active: Mapping[str, Run], at_once: int) -> list[Run]:
    """Return the queued runs that need not wait any more, oldest first; those of coroutines take no place."""
    running = [run for run in active.values() if run.state != "queued"]
    in_use = {run.operation.exclusive for run in running}
    places = at_once - sum(not run.operation.runs_in_reactor for run in running)
    ready = []
    for run in active.values():
        needs, takes_place = run.operation.exclusive, not run.operation.runs_in_reactor
        if run.state != "queued" or run.reason is not None:
            continue
        if (needs is not None and needs in in_use) or (takes_place and places <= 0):
            continue
        places -= takes_place
        in_use.add(needs)
        ready.append(run)
    return ready


def _shares(one: Operation, other: Operation) -> bool:
    return one.exclusive is not None and one.exclusive == other.exclusive
