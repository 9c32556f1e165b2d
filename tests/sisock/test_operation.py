"""Runs of operations: their states, progress, updates, cancellation, exclusivity, deadlines and records."""

import logging
import threading
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, Field, SecretStr

from sisock import ended_runs
from sisock import operation as operation_module
from sisock import records as records_module
from sisock.consumer import in_reactor
from sisock.errors import BadRequest, Busy, NameTaken, NoSuchRun, NotSupported, RunCancelled, RunFailed, TooLarge
from sisock.jsontext import size_of
from sisock.operation import Operations
from sisock.outage import OutageLog
from sisock.procedure import Caller, Command, Offers, Operation, Query
from sisock.records import RunTable
from sisock.serializable import serializable_copy
from sisock.tables import Tables
from sisock.testing import StepClock
from sisock.timers import Timers
from sisock.times import wait_until

ALICE = Caller("alice", "operator", 7)


class Scan(BaseModel):
    steps: int = Field(3, ge=1)


class Records:
    """Keeps records as a table does."""

    def __init__(self, records=()):
        self.records = list(records)

    def append(self, record):
        self.records.append(dict(record))

    def newest(self, most):
        newest = {record["id"]: record for record in self.records}
        yield from [newest[number] for number in sorted(newest)][-most:]


class Bench:
    """Operations with a stepped clock, and what they report."""

    def __init__(self, **options):
        self.clock, self.events = StepClock(), []
        self.timers = Timers("test", self.clock)
        self.records = options.pop("records", None) or Records()
        self.operations = Operations(self.clock, self.timers, self._report, records=self.records, **options)

    def _report(self, kind, subject, text, severity="info", **data):
        self.events.append((text, severity))

    def start(self, run, *, parameters=None, arguments=(), caller=ALICE, **options):
        operation = Operation(options.pop("name", "scan"), "Scan.", parameters, None, run, **options)
        return self.operations.start(operation, dict(arguments), caller)

    def close(self):
        self.operations.close()
        self.timers.stop()


@pytest.fixture
def bench():
    made = []

    def make(**options):
        made.append(Bench(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ended(run):
    assert wait_until(lambda: run.is_ended, 10.0)
    return run.state


def held(context, go):
    """Run until the event is set, whatever is asked."""
    assert go.wait(20.0)


def test_run_reports_progress_updates_and_its_result(bench):
    def scan(arguments, context):
        for step in range(arguments.steps):
            context.progress(step / arguments.steps, f"step {step}")
            context.update({"position": step})
        return {"positions": np.arange(arguments.steps)}

    b = bench()
    run = b.start(scan, parameters=Scan, arguments={"steps": 2})
    assert ended(run) == "done"
    changes = run.wire_changes()
    assert [each["seq"] for each in changes] == list(range(1, len(changes) + 1))
    assert [each["update"] for each in changes if each["update"]] == [{"position": 0}, {"position": 1}]
    assert [each["state"] for each in changes][0 :: len(changes) - 1] == ["queued", "done"]
    assert list(run.result["positions"]) == [0, 1]
    assert run.described()["caller"]["authid"] == "alice"
    assert [record["state"] for record in b.records.records] == ["queued", "running", "done"]
    assert [text for text, _ in b.events] == ["alice started scan", "scan done"]


def test_unpublished_progress_is_replaced_and_updates_are_not(bench):
    go = threading.Event()

    def scan(context):
        go.wait(20.0)
        for number in range(100):
            context.progress(number / 100)
        for number in range(5):
            context.update(number)

    b = bench()
    run = b.start(scan)
    before = len(run.changes())
    go.set()
    assert ended(run) == "done"
    changes = run.changes()[before:]
    assert [each.progress for each in changes][:1] == [0.99]
    assert [each.update for each in changes if each.size] == [0, 1, 2, 3, 4]
    assert b.operations.counters["coalesced_progress"] == 99


def test_updates_beyond_the_bound_are_counted(bench):
    def scan(context):
        for number in range(1500):
            context.update(number)

    b = bench()
    run = b.start(scan)
    assert ended(run) == "done"
    kept = [each.update for each in run.changes() if each.size]
    assert kept[-1] == 1499
    assert b.operations.counters["dropped_updates"] + len(kept) == 1500


@pytest.mark.parametrize(
    "as_function", [lambda context: context.wait(1e6), lambda context: context.cancelled.wait(1e6)]
)
def test_run_is_cancelled_where_it_waits(bench, as_function):
    b = bench()
    run = b.start(as_function)
    b.operations.cancel(run.id, Caller("bob"))
    assert ended(run) == "cancelled"
    assert run.error == "cancelled by bob"
    assert isinstance(run.exception, RunCancelled)
    assert [each.state for each in run.changes()] == ["queued", "running", "cancelling", "cancelled"]
    assert b.operations.cancel(run.id, ALICE)["state"] == "cancelled"  # again changes nothing


def test_function_that_ignores_cancellation_keeps_its_place_and_is_reported(bench):
    b, go = bench(at_once=1), threading.Event()
    run = b.start(lambda context: held(context, go), exclusive="gonio")
    with pytest.raises(NotSupported, match="runs in a thread"):
        b.operations.cancel(run.id, ALICE, hard=True)
    waiting = b.start(lambda: 1)
    b.clock.wait_for_sleepers()
    b.clock.step(11.0)
    assert wait_until(lambda: b.operations.counters["ignored_cancellations"] == 1, 10.0)
    assert run.state == "cancelling"
    assert waiting.state == "queued"
    go.set()
    assert ended(run) == "cancelled"
    assert ended(waiting) == "done"


def test_runs_that_share_an_exclusive_name_take_turns(bench):
    b, go, order = bench(), threading.Event(), []

    def move(context):
        order.append(context.id)
        held(context, go)

    runs = [b.start(move, exclusive="gonio") for _ in range(3)]
    free = b.start(lambda: 1)
    assert ended(free) == "done"
    assert [run.state for run in runs] == ["running", "queued", "queued"]
    with pytest.raises(Busy, match=f"gonio is in use by run {runs[0].id} .scan, of alice."):
        b.start(move, exclusive="gonio", when_busy="refuse")
    b.operations.cancel(runs[1].id, ALICE)
    assert runs[1].state == "cancelled"
    go.set()
    assert [ended(run) for run in runs] == ["done", "cancelled", "done"]
    assert order == [runs[0].id, runs[2].id]


def test_deadline_counts_from_the_start_and_fails_the_run(bench):
    b, go = bench(), threading.Event()
    first = b.start(lambda context: held(context, go), exclusive="axis")
    second = b.start(lambda context: context.wait(1e6), exclusive="axis", deadline=5.0)
    b.clock.step(60.0)
    assert second.state == "queued"
    go.set()
    assert ended(first) == "done"
    assert wait_until(lambda: second.state == "running", 10.0)
    b.clock.wait_for_sleepers(2)
    b.clock.step(5.0)
    assert ended(second) == "failed"
    assert "deadline" in second.error


def test_ten_thousand_runs_are_refused_as_busy_beyond_the_bound(bench):
    b, go = bench(at_once=2, most=100), threading.Event()
    for _ in range(100):
        b.start(lambda context: held(context, go))
    for _ in range(100):
        with pytest.raises(Busy, match="100 runs are queued or running"):
            b.start(lambda: 1)
    assert b.operations.counters["refused"] == 100
    assert len(b.operations.list(limit=1000)) == 100
    go.set()
    assert wait_until(lambda: not b.operations.list(active=True), 10.0)


def test_error_of_the_code_fails_the_run_and_names_the_cause(bench, caplog):
    def broken():
        raise ZeroDivisionError("the gear has no teeth")

    run = bench().start(broken)
    assert ended(run) == "failed"
    assert run.error == "ZeroDivisionError: the gear has no teeth"
    assert isinstance(run.exception, RunFailed)
    assert "broken" in caplog.text


def test_updates_that_cannot_be_taken_are_refused_clearly(bench):
    kept = []

    def scan(context):
        kept.append(context)
        with pytest.raises(TooLarge, match="1000006 bytes"):
            context.update("x" * 1_000_001)
        with pytest.raises(BadRequest, match="fraction from 0 to 1"):
            context.progress(50)

    b = bench()
    assert ended(b.start(scan)) == "done"
    with pytest.raises(BadRequest, match="has ended"):
        kept[0].update(1)
    assert b.operations.counters["updates_after_end"] == 1


def test_secrets_are_redacted_and_large_values_truncated_in_records(bench):
    class Login(BaseModel):
        password: SecretStr
        note: str

    b = bench()
    run = b.start(
        lambda login: login.password.get_secret_value(),
        parameters=Login,
        arguments={"password": "hush", "note": "n" * 100_000},
    )
    assert ended(run) == "done"
    assert run.result == "hush"
    record = b.records.records[-1]
    assert record["arguments"]["password"] == "**********"
    assert record["arguments"]["note"] == {"truncated": True, "bytes": 100_000, "start": "n" * 1000}


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


class Payload(BaseModel):
    data: bytes = b""


def circular():
    value = {"steps": 3}
    value["itself"] = value
    return value


def fails_without_text():
    raise Unprintable


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (circular, "contains itself"),
        (lambda: {"positions": [1 << 70]}, "64 bits"),
        (object, "cannot be sent"),
        (lambda: "\ud800", "cannot be sent"),
        (fails_without_text, "Unprintable: <Unprintable>"),
        (lambda: Payload(data=b"\xff"), "invalid utf-8"),
    ],
)
def test_run_whose_end_cannot_be_sent_has_failed_and_gives_back_what_it_had(bench, result, error):
    b = bench()
    run = b.start(partial(result), exclusive="axis")
    assert ended(run) == "failed"
    assert error in run.error
    assert b.records.records[-1]["state"] == "failed"
    assert ended(b.start(lambda: "next", exclusive="axis")) == "done"


def test_result_with_keys_that_are_no_texts_is_sent_and_recorded(bench):
    b = bench()
    run = b.start(lambda: {(number, 1): "x" * 100 for number in range(1000)})
    assert ended(run) == "done"
    assert run.result["(7, 1)"] == "x" * 100
    assert b.records.records[-1]["result"]["truncated"]


def test_update_is_that_of_the_moment_at_which_it_was_reported(bench):
    def scan(context):
        positions = []
        for step in range(3):
            positions.append(step)
            context.update(positions)

    run = bench().start(scan)
    assert ended(run) == "done"
    assert [each["update"] for each in run.wire_changes() if each["update"]] == [[0], [0, 1], [0, 1, 2]]


def test_arguments_that_have_no_json_are_recorded_as_texts(bench):
    b = bench()
    run = b.start(lambda payload: len(payload.data), parameters=Payload, arguments={"data": b"\xff\xfe"})
    assert ended(run) == "done"
    assert run.described()["arguments"] == {"data": "b'\\xff\\xfe'"}
    assert ended(b.start(lambda: "next")) == "done"


def test_run_that_cannot_be_begun_fails_and_does_not_stop_the_others(bench, monkeypatch):
    b, go = bench(), threading.Event()
    holder = b.start(lambda context: held(context, go), exclusive="axis")
    broken = b.start(lambda: 1, exclusive="axis", deadline=5.0)
    last = b.start(lambda: "last", exclusive="axis")
    monkeypatch.setattr(b.timers, "after", lambda *_: 1 / 0)
    go.set()
    assert [ended(run) for run in (holder, broken, last)] == ["done", "failed", "done"]
    assert "ZeroDivisionError" in broken.error


def test_thousand_queued_runs_that_end_at_once_do_not_start_each_other_ever_deeper(bench):
    b, go = bench(), threading.Event()
    holder = b.start(lambda context: held(context, go), exclusive="axis")

    async def short():
        return "short"

    runs = [in_reactor(lambda: b.start(short, exclusive="axis")).result(10.0) for _ in range(900)]
    go.set()
    assert ended(holder) == "done"
    assert {ended(run) for run in runs} == {"done"}


def test_queued_run_that_is_cancelled_is_never_started(bench):
    b, go, began = bench(), threading.Event(), []
    holder = b.start(lambda context: held(context, go), exclusive="axis")
    queued = b.start(lambda: began.append(1), exclusive="axis")

    def release(record):
        go.set()  # the holder ends while the queued run is being cancelled
        assert ended(holder) == "done"

    queued.cancelled.when_set(lambda: release(None))
    b.operations.cancel(queued.id, ALICE)
    assert (queued.state, began) == ("cancelled", [])
    assert [text for text, _ in b.events if "scan cancelled" in text] == ["scan cancelled by alice"]


def test_second_cancellation_changes_nothing(bench):
    b, go = bench(), threading.Event()
    run = b.start(lambda context: held(context, go))
    run.cancelled.when_set(lambda: b.operations.cancel(run.id, Caller("bob", "operator", 8)))
    b.operations.cancel(run.id, ALICE)
    go.set()
    assert ended(run) == "cancelled"
    assert run.error == "cancelled by alice"
    assert [each["state"] for each in run.wire_changes()].count("cancelling") == 1


def test_hard_cancellation_of_a_run_that_is_just_being_started_ends_it(bench):
    async def waits(context):
        await context.sleep(1e6)

    b = bench()
    b.operations.listen(lambda run: run.state == "running" and b.operations.cancel(run.id, ALICE, hard=True))
    run = b.start(waits)
    assert ended(run) == "cancelled"


def test_runs_that_were_active_when_the_node_died_have_failed(bench):
    first = bench()
    go = threading.Event()
    run = first.start(lambda context: held(context, go))
    survivors = Records(first.records.records)  # as after kill -9
    second = bench(records=survivors)
    assert second.operations.get(run.id)["state"] == "failed"
    assert second.operations.get(run.id)["error"] == "node stopped"
    assert survivors.records[-1]["state"] == "failed"
    with pytest.raises(NoSuchRun, match="no run 'nothing' is known"):
        second.operations.get("nothing")
    go.set()


def test_stop_asks_runs_to_end_and_fails_those_that_do_not(bench, monkeypatch):
    monkeypatch.setattr("sisock.operation._GRACE_S", 0.2)
    b, go = bench(), threading.Event()
    polite = b.start(lambda context: context.wait(1e6))
    deaf = b.start(lambda context: held(context, go))
    b.operations.close()
    assert (polite.state, deaf.state, deaf.error) == ("cancelled", "failed", "node stopped")
    with pytest.raises(Busy, match="the node is stopping"):
        b.start(lambda: 1)
    go.set()
    assert wait_until(lambda: b.operations.counters["ended_twice"] == 1, 10.0)


def test_names_and_arguments_are_validated():
    offers = Offers()
    offers.add(Query("camera.snapshot", "", None, None, lambda: 1))
    with pytest.raises(NameTaken, match="there is a query 'camera.snapshot' already"):
        offers.add(Command("camera.snapshot", "", None, None, lambda: 1))
    with pytest.raises(NameTaken, match="'operations' is a procedure of every node"):
        offers.add(Command("operations", "", None, None, lambda: 1))
    for name in ("", "a b", "a..b", ".a", "a#", "x" * 201, 5):
        with pytest.raises(BadRequest, match="is not a valid name of a command"):
            Command(name, "", None, None, lambda: 1)
    scan = Operation("scan", "", Scan, None, lambda scan: scan)
    with pytest.raises(
        BadRequest, match="scan: steps: Input should be greater than or equal to 1; speed: is not known"
    ):
        scan.validated({"steps": 0, "speed": 1})
    with pytest.raises(BadRequest, match="scan: speed: is not known"):
        scan.validated({"speed": 1})


@pytest.mark.parametrize(
    ("parameters", "run", "expected"),
    [
        (Scan, lambda arguments, context: (arguments.steps, context), (3, "context")),
        (Scan, lambda arguments: arguments.steps, 3),
        (Scan, lambda: "nothing", "nothing"),
        (None, lambda context: context, "context"),
        (None, lambda: "nothing", "nothing"),
        (None, dict, {}),
    ],
)
def test_code_gets_as_many_of_arguments_and_context_as_it_takes(parameters, run, expected):
    command = Command("c", "", parameters, None, run)
    assert command.call(command.validated({}), "context") == expected


def fails_with(text):
    raise RuntimeError(text)


@pytest.mark.parametrize(
    "run",
    [
        lambda context: context.progress(0.5, "step \ud800"),
        lambda context: context.progress(Fraction(1, 2), "half"),
        lambda context: context.progress(np.float32(0.5), "m" * 20_000_000),
        partial(fails_with, "broken \ud800"),
        partial(fails_with, "b" * 20_000_000),
    ],
)
def test_texts_and_fractions_of_one_run_keep_no_list_of_runs_from_being_sent(bench, run, monkeypatch):
    # Parallel runs of pytest cannot report a log with a lone surrogate.
    monkeypatch.setattr(logging.getLogger("sisock.run_outcome"), "disabled", True)
    b = bench()
    ended(b.start(run))
    _, size = serializable_copy(b.operations.list())
    assert size < 10_000
    (found,) = b.operations.list()
    assert found["progress"] in (0.5, None)
    assert (found["message"] or found["error"]).startswith(("step ?", "half", "mmm", "RuntimeError: b"))


class Anything(BaseModel):
    value: Any


@pytest.mark.parametrize("value", [1 << 70, "\ud800", ["\ud800"], [-(1 << 64)]])
def test_arguments_that_no_message_carries_keep_no_list_of_runs_from_being_sent(bench, value):
    b = bench()
    ended(b.start(lambda arguments: None, parameters=Anything, arguments={"value": value}))
    serializable_copy(b.operations.list())


@pytest.mark.parametrize("fraction", [float("nan"), 1.5, "0.5", 0.5j, Decimal("0.5"), [0.5]])
def test_progress_that_is_no_fraction_is_refused(bench, fraction):
    run = bench().start(lambda context: context.progress(fraction))
    assert ended(run) == "failed"
    assert "give a fraction from 0 to 1" in run.error


def test_memory_of_the_updates_of_ended_runs_is_bounded(bench):
    def scan(context):
        for _ in range(10):
            context.update("x" * 900_000)

    b = bench()
    runs = [b.start(scan, name=f"scan{number}") for number in range(20)]
    for run in runs:
        assert ended(run) == "done"
    assert wait_until(lambda: not b.operations.status()["running"], 10.0)
    kept = sum(size_of(b.operations.changes(run.id, 0)) for run in runs)
    assert 9_000_000 < kept < 75_000_000
    assert {b.operations.get(run.id)["state"] for run in runs} == {"done"}


def test_long_run_is_on_record_as_failed_after_a_kill_though_many_have_ended_since(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(ended_runs, "MOST_ENDED", 20)
    monkeypatch.setattr(operation_module, "MOST_ENDED", 20)
    monkeypatch.setattr(records_module, "AT_ONCE", 20)
    clock, go = StepClock(), threading.Event()
    tables = Tables(tmp_path, clock, OutageLog(clock))
    first = bench(records=RunTable(tables))
    long_run = first.start(lambda context: held(context, go))
    for _ in range(50):
        assert ended(first.start(lambda: None, name="quick")) == "done"
    tables.close()  # nothing that follows is kept, as after kill -9
    again = Tables(tmp_path, clock, OutageLog(clock))
    found = bench(records=RunTable(again)).operations.get(long_run.id)
    assert (found["state"], found["error"]) == ("failed", "node stopped")
    go.set()
    again.close()
