"""Runs of operations in processes of their own."""

import importlib
import os
import re
import sys

import pytest

from sisock.errors import BadRequest
from sisock.procedure import Operation
from sisock.times import wait_until
from tests.sisock.test_operation import ALICE, Bench
from tests.sisock.test_supervisor import ends

FUNCTIONS = """
import os, signal, sys, threading, time
from pydantic import BaseModel, SecretStr
from sisock.errors import NoSuchField

class Scan(BaseModel):
    steps: int
    password: SecretStr = SecretStr("secret")

def scan(arguments, context):
    print("scanning", flush=True)
    for step in range(arguments.steps):
        context.progress(step / arguments.steps, f"step {step}")
        context.update({"position": step})
    return {
        "pid": os.getpid(), "caller": context.caller.name, "id": context.id, "state": context.state,
        "password": arguments.password.get_secret_value(),
    }

def without_parameters():
    return "done"

def patient(context):
    context.update(os.getpid())
    context.wait(600.0)

def by_checkpoints(context):
    context.update(os.getpid())
    while True:
        context.checkpoint()
        time.sleep(0.001)

def deaf(context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.update(os.getpid())
    time.sleep(600)

def dies(context):
    print("the driver reports error 7", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def raises(context):
    raise NoSuchField("no field 'x'")

def too_much(context):
    context.update("x" * 2_000_000)

def wrongly(context):
    context.progress(7.0)

async def coroutine(context):
    pass
"""


@pytest.fixture(autouse=True)
def functions(tmp_path, monkeypatch):
    (tmp_path / "isolated_scans.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("isolated_scans")
    del sys.modules["isolated_scans"]


@pytest.fixture
def bench():
    made = []

    def make():
        made.append(Bench())
        return made[-1]

    yield make
    for each in made:
        each.close()


def ended(run):
    assert wait_until(lambda: run.is_ended, 60.0)
    return run.state


def begun(run):
    """Return the process of a run that reports it."""
    assert wait_until(lambda: run.update or run.is_ended, 60.0)
    assert not run.is_ended, run.error
    return run.update


def test_isolated_run_is_like_any_other_and_has_a_process_of_its_own(bench, functions):
    run = bench().start(functions.scan, isolated=True, parameters=functions.Scan, arguments={"steps": 3})
    assert ended(run) == "done", run.error
    assert run.result.pop("pid") != os.getpid()
    assert run.result == {"caller": "alice", "id": run.id, "state": "running", "password": "secret"}
    changes = run.wire_changes()
    assert [each["update"] for each in changes if each["update"]] == [{"position": n} for n in range(3)]
    assert changes[-2]["message"] == "step 2"
    assert run.described()["arguments"]["password"] == "**********"


def test_isolated_code_gets_as_much_as_it_takes(bench, functions):
    run = bench().start(functions.without_parameters, isolated=True)
    assert ended(run) == "done"
    assert run.result == "done"


@pytest.mark.parametrize("name", ["patient", "by_checkpoints"])
def test_isolated_run_is_cancelled_where_it_waits(bench, functions, name):
    b = bench()
    run = b.start(getattr(functions, name), isolated=True)
    pid = begun(run)
    b.operations.cancel(run.id, ALICE)
    assert ended(run) == "cancelled"
    assert run.error == "cancelled by alice"
    assert ends(pid)


def test_isolated_run_that_ignores_its_cancellation_is_killed_on_request(bench, functions):
    b = bench()
    run = b.start(functions.deaf, isolated=True)
    pid = begun(run)
    b.operations.cancel(run.id, ALICE)
    assert run.state == "cancelling"
    b.operations.cancel(run.id, ALICE, hard=True)
    assert ended(run) == "cancelled"
    assert ends(pid)


def test_isolated_run_that_ignores_its_deadline_is_killed(bench, functions):
    b = bench()
    run = b.start(functions.deaf, isolated=True, deadline=5.0)
    pid = begun(run)
    b.clock.step(6.0)
    assert wait_until(lambda: run.state == "cancelling", 60.0)
    b.clock.step(11.0)
    assert ended(run) == "failed"
    assert run.error == "deadline: it ran for more than 5 s"
    assert ends(pid)
    assert ("scan still runs 10 s after it was asked to end; its process is killed", "warning") in b.events


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("dies", r"run .* of scan ended \(killed by SIGSEGV\); its last lines:\n  the driver reports error 7"),
        ("raises", "no field 'x'"),
        ("too_much", "an update has 2000005 bytes, and at most"),
        ("wrongly", "progress is 7.0; give a fraction"),
    ],
)
def test_isolated_run_whose_process_dies_or_raises_has_failed_with_the_reason(bench, functions, name, error):
    run = bench().start(getattr(functions, name), isolated=True)
    assert ended(run) == "failed"
    assert re.match(error, run.error)


def test_stop_kills_isolated_runs_that_do_not_end(bench, functions, monkeypatch):
    monkeypatch.setattr("sisock.operation._GRACE_S", 1.0)
    b = bench()
    run = b.start(functions.deaf, isolated=True)
    pid = begun(run)
    b.operations.close()
    assert run.is_ended
    assert ends(pid)
    assert b.operations.counters["ended_twice"] == 0


def test_code_that_another_process_cannot_run_is_refused_where_it_is_declared(functions):
    with pytest.raises(BadRequest, match="scan cannot be isolated: .*define the function at the top of its module"):
        Operation("scan", "Scan.", None, None, lambda context: None, isolated=True)
    with pytest.raises(BadRequest, match="isolated code runs in a process without a reactor; write a function"):
        Operation("scan", "Scan.", None, None, functions.coroutine, isolated=True)
