"""The work of a node: what it offers, the runs of its operations, and where their code runs."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sisock.event import Events, Severity
from sisock.executor import Executor, ReactorCall
from sisock.jsontext import as_text, dumped, recorded
from sisock.metrics import Counters
from sisock.operation import Operations
from sisock.outage import LimitedLog, OutageLog
from sisock.procedure import CallContext, Caller, Command, Offers, Procedure, Query
from sisock.records import RunTable
from sisock.settings import TableSettings, WorkSettings
from sisock.tables import Tables
from sisock.timers import Timers
from sisock.times import Clock

# Seconds after which a command should have returned.
_SOON_S = 1.0

log = logging.getLogger(__name__)


class _WhichRuns(BaseModel):
    model_config = ConfigDict(extra="forbid")

    active: bool | None = Field(None, description="only runs that are active, or only those that have ended")
    limit: int = Field(100, ge=1, le=1000)


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    after: int | None = Field(None, ge=0, description="return the changes after this number as well")


class _WhichEvents(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start: float | None = Field(None, description="UNIX seconds, zero or negative for seconds ago")
    end: float | None = Field(None, description="UNIX seconds, zero or negative for seconds ago; excluded")
    severity: Severity | None = Field(None, description="this one or worse")
    kind: str | None = Field(None, description="a name, a shell pattern, or alternatives {a,b}")
    subject: str | None = Field(None, description="a name, a shell pattern, or alternatives {a,b}")
    after: int | None = Field(None, ge=0, description="the cursor of an earlier answer: only what follows")
    before: int | None = Field(None, ge=0, description="only events whose seq is below this")
    limit: int = Field(100, ge=1, le=1000, description="most events")


class _Cancellation(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    hard: bool = Field(False, description="end its code by force, where that is possible")


class Work:
    """The procedures of a node, and the runs of its operations; used from any thread.

    Parameters
    ----------
    clock : Clock
    settings : WorkSettings, optional
    outages : OutageLog, optional
        Where procedures that cannot be registered, and a disk that does not take rows of tables, are reported.
    folder : Path, optional
        Where tables are kept; in memory if not given.
    tables : TableSettings, optional

    Attributes
    ----------
    offers : Offers
    operations : Operations
    tables : Tables
    events : Events
    counters : Counters
    """

    def __init__(
        self,
        clock: Clock,
        settings: WorkSettings | None = None,
        outages: OutageLog | None = None,
        folder: Path | None = None,
        tables: TableSettings | None = None,
    ) -> None:
        settings = settings or WorkSettings()
        self._clock = clock
        self.outages = outages or OutageLog(clock)
        self.tables = Tables(folder, clock, self.outages, tables)
        self.events = Events(self.tables, clock)
        self.report = self.events.report
        """Reports an event, see `Events.report`."""
        self.outages.report_to(self.events.report_outage)
        self.timers = Timers("timers of a node", clock)
        self.offers = Offers()
        self.counters = Counters("queries", "commands", "failed_calls", "slow_commands", "blocked_reactor")
        self.operations = Operations(
            *(clock, self.timers, self.report),
            at_once=settings.operations,
            most=settings.active_runs,
            records=RunTable(self.tables),
        )
        self.executor = Executor("calls of a node's own code", settings.threads, settings.waiting)
        threads = {"query": settings.queries, "command": settings.commands}
        self._executors = {
            (kind, is_builtin): Executor(name, threads[kind], settings.waiting)
            for kind, name in (("query", "queries"), ("command", "commands"))
            for is_builtin in (False, True)
        }
        """By kind. The procedures that every node has run beside those of its own, so that a node whose commands hang
        lists its runs and cancels them."""
        self._slow = _SlowCommands(clock, self.timers, self.counters)
        self._listeners: tuple[Callable[[Procedure, bool], Future[Any] | None], ...] = ()
        for procedure in self._own():
            self.offers.add(procedure)
        self._report_damage()

    def _report_damage(self) -> None:
        """Report what the tables have found damaged as they were opened."""
        for name, status in self.tables.status().items():
            found = {what: status[what] for what in ("cut", "damaged", "quarantined") if status[what]}
            if found:
                counted = ", ".join(f"{n} {what}" for what, n in found.items())
                severity: Severity = "warning" if found.keys() == {"cut"} else "error"
                self.report("damage", f"table {name}", f"table {name} was not whole: {counted}", severity, **found)

    def _own(self) -> list[Procedure]:
        """Return the procedures that every node has."""
        operations = self.operations

        def one(which: _Changes) -> dict[str, Any]:
            run = operations.get(which.id)
            return run if which.after is None else {**run, "changes": operations.changes(which.id, which.after)}

        def cancel(which: _Cancellation, context: CallContext) -> dict[str, Any]:
            return operations.cancel(which.id, context.caller, hard=which.hard)

        return [
            Query(
                *("operations", "List the newest runs of operations.", _WhichRuns, None),
                lambda which: operations.list(active=which.active, limit=which.limit),
                is_builtin=True,
            ),
            Query("operation", "Return a run of an operation.", _Changes, None, one, is_builtin=True),
            Query("events", "Return events of the node.", _WhichEvents, None, self._read_events, is_builtin=True),
            Command("cancel_operation", "Ask a run to end.", _Cancellation, None, cancel, is_builtin=True),
        ]

    def _read_events(self, which: _WhichEvents) -> dict[str, Any]:
        page = self.events.read(**which.model_dump())
        return {**page._asdict(), "events": [event.as_dict() for event in page.events]}

    def listen(self, listener: Callable[[Procedure, bool], "Future[Any] | None"]) -> None:
        """Have a function called with each procedure that is offered (True) or withdrawn (False) from now on."""
        self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Callable[[Procedure, bool], "Future[Any] | None"]) -> None:
        """Call a listener no more."""
        self._listeners = tuple(other for other in self._listeners if other != listener)

    def offer(self, procedure: Procedure) -> "Future[None]":
        """Offer a procedure from now on, also after each loss of the router.

        Returns
        -------
        Future
            Done when the router has confirmed it, or at once while the node is offline. It raises NameTaken where
            another session has the URI, or the URI is one of another node's; then it is not offered.

        Raises
        ------
        NameTaken
            If the node offers one of that name already.
        """
        self.offers.add(procedure)
        return self._announce(procedure, offered=True)

    def withdraw(self, name: str) -> "Future[None]":
        """Offer a procedure no more; its active runs continue to their ends.

        Raises
        ------
        BadRequest
            If none of that name is offered.
        """
        return self._announce(self.offers.remove(name), offered=False)

    def _announce(self, procedure: Procedure, *, offered: bool) -> "Future[None]":
        done: Future[None] = Future()
        waiting = [future for listener in self._listeners if (future := listener(procedure, offered)) is not None]

        def confirm(confirmed: "Future[Any] | None" = None) -> None:
            error = confirmed.exception() if confirmed is not None else None
            if error is not None:
                if offered:
                    self.offers.discard(procedure)
                done.set_exception(error)
                return
            self.offers.revision += 1
            what = "offered" if offered else "withdrawn"
            self.report("offer", procedure.name, f"{procedure.kind} {procedure.name} is {what}")
            done.set_result(None)

        if waiting:  # a node has one session at a time
            waiting[0].add_done_callback(confirm)
        else:
            confirm()
        return done

    def call(self, procedure: Procedure, arguments: Mapping[str, Any], caller: Caller) -> "Future[Any]":
        """Call a query or a command, and return the future of its result.

        Raises
        ------
        BadRequest
            If the arguments do not validate.
        Busy
            If too many calls wait.
        """
        validated, context = procedure.validated(arguments), CallContext(caller)
        is_command = procedure.kind == "command"
        self.counters.add("commands" if is_command else "queries")

        def run() -> Any:
            return procedure.call(validated, context)

        if procedure.runs_in_reactor:
            future: Future[Any] = ReactorCall(run)
        else:
            future = self._executors[procedure.kind, procedure.is_builtin].submit(run)
        if is_command:
            if not future.done():
                self._slow.begin(future, procedure.name)
            future.add_done_callback(lambda future: self._on_command(procedure, validated, caller, future))
        return future

    def _on_command(self, command: Procedure, arguments: BaseModel, caller: Caller, future: "Future[Any]") -> None:
        """Report an event with the caller of a command, its arguments and its outcome."""
        self._slow.end(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self.counters.add("failed_calls")
        outcome = {"error": as_text(error)} if error is not None else {}
        failure = f": {outcome['error']}" if outcome else ""
        self.report(
            *("command", command.name, f"{caller.name} called {command.name}{failure}"),
            "warning" if outcome else "info",
            arguments=recorded(dumped(arguments)),
            caller=caller.as_dict(),
            **outcome,
        )

    def status(self) -> dict[str, Any]:
        """Return the revision of the offers, the runs by state, and the counters."""
        return {
            "revision": self.offers.revision,
            "operations": self.operations.status(),
            "events": self.events.status(),
            "tables": self.tables.status(),
            "work": {
                **self.counters.as_dict(),
                "waiting": sum(executor.waiting for executor in self._executors.values()),
                "running": sum(executor.running for executor in self._executors.values()),
            },
        }

    def close(self) -> None:
        """End all runs, and start no more; what happens until `close_tables` is still kept."""
        self.operations.close()
        for executor in (*self._executors.values(), self.executor):
            executor.close()
        self.timers.stop()

    def close_tables(self) -> None:
        """Write the events and the records of runs, and let others write there."""
        self.events.close()
        self.tables.close()


class _SlowCommands:
    """Counts and logs the commands that have not returned a second after they were called.

    Parameters
    ----------
    clock : Clock
    timers : Timers
    counters : Counters
        ``slow_commands`` is counted there.
    """

    def __init__(self, clock: Clock, timers: Timers, counters: Counters) -> None:
        self._clock, self._timers, self._counters = clock, timers, counters
        self._log = LimitedLog(log)
        self._lock = threading.Lock()
        self._running: dict[Future[Any], tuple[str, float]] = {}  # name and time of the call, oldest first
        self._is_looking = False

    def begin(self, call: "Future[Any]", name: str) -> None:
        """Watch a call of a command."""
        with self._lock:
            self._running[call] = (name, self._clock.monotonic())
            if self._is_looking:
                return
            self._is_looking = True
        self._timers.after(_SOON_S, self._look)

    def end(self, call: "Future[Any]") -> None:
        """Watch a call no more."""
        with self._lock:
            self._running.pop(call, None)

    def _look(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            slow = [(call, name) for call, (name, began) in self._running.items() if now - began >= _SOON_S]
            for call, _ in slow:
                del self._running[call]
            self._is_looking = bool(self._running)
            looks_again = self._is_looking
        for _, name in slow:
            self._counters.add("slow_commands")
            self._log.warning(name, "command %s takes longer than %g s; make it an operation", name, _SOON_S)
        if looks_again:
            self._timers.after(_SOON_S, self._look)
