"""Clients of queries, commands and operations: runs are followed by id, through losses, and never cancelled by accident."""

import asyncio
import re
import signal
import threading

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import fail, succeed

from sisock.consumer import Consumer, in_reactor
from sisock.consumer import progress as bars
from sisock.consumer.follower import RunFollower
from sisock.errors import (
    BadRequest,
    NodeLeft,
    NoSuchNode,
    NoSuchProcedure,
    NoSuchRun,
    NotOpen,
    RunCancelled,
    RunFailed,
    TimedOut,
)
from sisock.procedure import Command, Operation
from sisock.times import wait_until
from sisock.wamp.session import Session
from tests.sisock.test_offers import Stage


@pytest.fixture
def stage(sisock_stepped_site):
    """A node whose operations a test lets proceed step by step, by `go`."""
    stage = Stage(sisock_stepped_site)
    stage.steps = threading.Semaphore(0)

    def steps(context):
        for number in range(4):
            while not stage.steps.acquire(timeout=0.01):
                context.checkpoint()
            context.progress(number / 4, f"step {number}")
            context.update({"step": number})
        return {"steps": 4}

    def explode():
        raise ValueError("it smokes")

    stage.node.work.offer(Operation("steps", "Take four steps.", None, None, steps))
    stage.node.work.offer(Operation("explode", "Fail.", None, None, explode))
    yield stage
    stage.go.set()
    stage.steps.release(1000)


@pytest.fixture
def c(sisock_stepped_site):
    with sisock_stepped_site.consumer("operator") as consumer:
        consumer.show_progress = False
        yield consumer


def updates(changes):
    return [change.update["step"] for change in changes if change.update is not None]


def states(stage):
    return [run["state"] for run in stage.node.work.operations.list()]


def test_iteration_yields_every_change_and_ends_with_the_run(stage, c):
    run = c.operation("stage", "steps")
    stage.steps.release(4)
    changes = list(run)
    assert [change.seq for change in changes] == list(range(1, len(changes) + 1))
    assert updates(changes) == [0, 1, 2, 3]
    assert (changes[0].state, changes[-1].state, run.state) == ("queued", "done", "done")
    assert (run.name, run.progress, run.message, run.update) == ("steps", 0.75, "step 3", {"step": 3})
    assert run.result() == {"steps": 4}
    assert list(run.changes(after=changes[-2].seq)) == changes[-1:]
    assert (list(run), run.missed) == (changes, 0)


def test_run_is_followed_in_asyncio(sisock_stepped_site, stage):
    async def follow():
        async with Consumer(sisock_stepped_site.consumer("operator").access) as c:
            assert await c.query("stage", "position") == 0.0
            assert await c.command("stage", "move", to=2) == {"position": 2.0}
            run = await c.operation("stage", "steps")
            await until_running(run)
            with pytest.raises(TimedOut, match=r"run .* of steps is running after 0.05 s; it continues"):
                await run.result(0.05)
            stage.steps.release(4)
            seen = [change async for change in run]
            again = await c.run("stage", run.id)
            assert [change async for change in again] == seen
            assert updates(seen) == [0, 1, 2, 3]
            assert await again.result() == await run.result() == {"steps": 4}
            other = await c.operation("stage", "steps")
            await other.cancel()
            with pytest.raises(RunCancelled, match="steps: cancelled by operator"):
                await other.result()
            listed = await c.operations("stage", active=False)
            assert [each["state"] for each in listed] == ["cancelled", "done"]

    async def until_running(run):
        async for change in run:
            if change.state == "running":
                return

    asyncio.run(follow())


def test_errors_of_runs_name_the_run_and_the_reason(stage, c):
    run = c.operation("stage", "explode")
    with pytest.raises(RunFailed, match=f"explode: ValueError: it smokes .run {run.id} of node 'stage'."):
        run.result()
    assert [change.state for change in run][-1] == "failed"
    waiting = c.operation("stage", "steps")
    waiting.cancel()
    with pytest.raises(RunCancelled, match="steps: cancelled by operator"):
        waiting.result()


def test_following_continues_after_the_loss_of_the_router(sisock_stepped_site, stage, c):
    run = c.operation("stage", "steps")
    stage.steps.release(1)
    changes = run.changes()
    seen = [next(changes) for _ in range(4)]
    assert updates(seen) == [0]
    sisock_stepped_site.router.disconnect()
    stage.steps.release(3)
    seen += changes
    assert [change.seq for change in seen] == list(range(1, len(seen) + 1))
    assert updates(seen) == [0, 1, 2, 3]
    assert run.result() == {"steps": 4}


def test_neither_time_outs_nor_the_end_of_the_consumer_cancel_a_run(sisock_stepped_site, stage):
    with sisock_stepped_site.consumer("operator") as c:
        c.show_progress = False
        run = c.operation("stage", "steps")
        with pytest.raises(TimedOut, match="it continues"):
            run.result(0.01)
    with pytest.raises(NotOpen):
        run.result()
    with pytest.raises(NotOpen):
        list(run)
    with sisock_stepped_site.consumer() as c:
        again = c.run("stage", run.id)
        with pytest.raises(TimedOut):
            again.result(0.01)
        assert states(stage) == ["running"]
        stage.steps.release(4)
        assert again.result() == {"steps": 4}


def test_ctrl_c_leaves_a_run_running_and_says_what_can_be_done(stage, c):
    run = c.operation("stage", "steps")
    for wait in (run.result, lambda: list(run)):
        interrupt = threading.Timer(0.2, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
        interrupt.start()
        with pytest.raises(
            KeyboardInterrupt, match=rf"continues; \.run\('stage', '{run.id}'\) .* its \.cancel\(\) ends it"
        ):
            wait()
    assert states(stage) == ["running"]


def test_node_that_has_lost_its_runs_is_reported(sisock_stepped_site, stage, c):
    run = c.operation("stage", "steps")
    in_reactor(stage.connection.stop).result(20.0)
    Stage(sisock_stepped_site).go.set()
    with pytest.raises(NoSuchRun, match=f"node 'stage' knows no run '{run.id}'"):
        run.result(60.0)


def test_wrong_names_and_kinds_are_answered_with_the_right_ones(stage, c):
    for call, error, text in [
        (lambda: c.query("stage", "positoin"), NoSuchProcedure, "no query 'positoin'; did you mean position?"),
        (lambda: c.command("stage", "mvoe", to=1), NoSuchProcedure, "no command 'mvoe'; did you mean move?"),
        (lambda: c.operation("stage", "scam"), NoSuchProcedure, "no operation 'scam'; did you mean scan"),
        (lambda: c.operation("stage", "xyz"), NoSuchProcedure, "it offers: scan, drift, stuck, steps, explode"),
        (lambda: c.query("stgae", "position"), NoSuchNode, "did you mean stage?"),
        (lambda: c.operation("stgae", "scan"), NoSuchNode, "did you mean stage?"),
        (lambda: c.run("stgae", "1"), NoSuchNode, "did you mean stage?"),
        (lambda: c.run("stage", "1"), NoSuchRun, "knows no run '1'"),
        (lambda: c.query("stage", "move"), BadRequest, "is a command; call it by `command`"),
        (lambda: c.command("stage", "scan"), BadRequest, "is an operation; call it by `operation`"),
        (lambda: c.operation("stage", "position"), BadRequest, "is a query; call it by `query`"),
        (lambda: c.operation("stage", "scan", speed=1), BadRequest, "scan: speed: is not known"),
        (lambda: c.operations("stage", limit=0), BadRequest, "operations: limit: "),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            call()
    assert states(stage) == []


def test_procedures_that_are_offered_later_are_found(stage, c):
    c.command("stage", "move", to=1)
    stage.node.work.offer(Command("home", "Move home.", None, None, lambda: "home")).result(10.0)
    assert c.command("stage", "home") == "home"
    stage.node.work.withdraw("home").result(10.0)
    with pytest.raises(NoSuchProcedure, match="no command 'home'"):
        c.command("stage", "home")


class Old(Session):
    """A node of an older version: it lists its procedures without their kinds."""

    async def onJoin(self, details):
        listed = [{"name": "zero", "description": "Set to zero.", "parameters": {"properties": {}}}]
        await self.register(lambda: listed, self.uri("consumer.old.procedures"))
        await self.register(lambda: "zeroed", self.uri("control.old.zero"))
        await self.call(self.uri("data_node.add"), "old", None, details.session)


def test_node_of_an_older_version_has_commands_only(sisock_stepped_site, c):
    sisock_stepped_site.serve(Old)
    assert wait_until(lambda: "old" in c, 20.0)
    assert c.command("old", "zero") == c["old"].procedures.zero() == "zeroed"
    for call in (lambda: c.query("old", "zero"), lambda: c.operation("old", "zero")):
        with pytest.raises(NoSuchProcedure, match="of an older version, which has commands only: zero"):
            call()
    for call in (lambda: c.operations("old"), lambda: c.run("old", "1")):
        with pytest.raises(NoSuchProcedure, match="has no query 'operations?'; it is of an older version"):
            call()


def test_handles_show_kinds_and_start_runs(stage, c):
    procedures = c["stage"].procedures
    assert [(each.name, each.kind) for each in procedures.values()][:3] == [
        ("position", "query"),
        ("move", "command"),
        ("jump", "command"),
    ]
    assert "<td" in procedures._repr_html_()
    assert repr(procedures.scan) == "<operation scan() of node 'stage'>"
    assert procedures.position() == 0.0
    assert procedures.move(to=1) == {"position": 1.0}
    run = procedures.scan()
    assert run.result() == "scanned"
    assert c["stage"].run(run.id).result() == "scanned"
    (listed,) = c["stage"].operations()
    assert run.id in c["stage"].operations()._repr_html_()
    assert listed["state"] == "done"


def test_result_shows_a_bar_with_progress_and_message(stage, c, monkeypatch):
    shown = []

    class Bar:
        n, total = 0.0, None

        def __init__(self, **options):
            assert options["desc"] == "steps"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            shown.append("closed")

        def reset(self, total):
            self.n, self.total = 0.0, total

        def update(self, n):
            self.n += n

        def set_description(self, text, refresh):
            self.text = text

        def refresh(self):
            shown.append((self.n, self.total, self.text))
            stage.steps.release()

    monkeypatch.setattr(bars, "_is_seen", lambda: True)
    monkeypatch.setattr(bars, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(bars, "_bar_maker", lambda: Bar)
    c.show_progress = True
    run = c.operation("stage", "steps")
    assert run.result() == {"steps": 4}
    assert (25.0, 100, "steps: step 1") in shown
    assert shown[-1] == "closed"


class FakeLink:
    """A connection whose events and times a test makes."""

    def __init__(self):
        self.handlers, self.listeners, self.calls = {}, [], []

    def subscribe(self, topic, handler):
        self.handlers[topic] = handler
        return succeed(None)

    def unsubscribe(self, topic, handler):
        self.handlers.pop(topic, None)

    def listen(self, listener):
        self.listeners.append(listener)

    def unlisten(self, listener):
        self.listeners.remove(listener)

    def later(self, seconds, call):
        self.calls.append((seconds, call))


def change(seq, state="running", update=None):
    return {"id": "1", "seq": seq, "state": state, "progress": None, "message": None, "update": update}


def answer(changes, state="running", **more):
    return {"id": "1", "name": "scan", "state": state, "seq": changes[-1]["seq"] if changes else 9, **more} | {
        "changes": changes
    }


def followed(*answers):
    """Return a follower that is open, its link, and the numbers after which it has asked."""
    link, asked, left = FakeLink(), [], list(answers)

    def ask(after):
        asked.append(after)
        found = left.pop(0)
        return fail(found) if isinstance(found, Exception) else succeed(found)

    follower = RunFollower(link, "stage", "1", "scan", ask)
    follower.open()
    return follower, link, asked


def seqs(follower):
    return [each.seq for each in follower.after(0)]


TOPIC, ARRIVALS = "consumer.stage.operation.1", "consumer.data_node_added"


def test_gap_is_repaired_by_one_question_and_nothing_is_yielded_twice():
    follower, link, asked = followed(answer([change(1)]), answer([change(2), change(3), change(4)]))
    for seq in (1, 4, 4, 5, 3):
        link.handlers[TOPIC](change(seq))
    assert asked == [0, 1]
    assert seqs(follower) == [1, 2, 3, 4, 5]
    assert not follower.over.done()


def test_changes_that_the_node_keeps_no_more_are_left_out():
    follower, link, _ = followed(answer([change(1)]), answer([change(7), change(8)]))
    link.handlers[TOPIC](change(8))
    link.handlers[TOPIC](change(9))
    assert seqs(follower) == [1, 7, 8, 9]


def test_end_is_looked_up_for_its_result():
    follower, link, asked = followed(answer([change(1)]), answer([change(2, "done")], "done", result=5, error=None))
    link.handlers[TOPIC](change(2, "done"))
    assert asked == [0, 2]
    assert (follower.over.done(), follower.outcome()) == (True, 5)
    assert link.listeners == []


@pytest.mark.parametrize("back", ["router", "node"])
def test_run_is_looked_up_when_router_or_node_are_back(back):
    stopped = answer([], "failed", error="node stopped")
    missing = ApplicationError(ApplicationError.NO_SUCH_PROCEDURE)
    follower, link, _ = followed(answer([change(1), change(2)]), NodeLeft("it left"), missing, stopped)
    link.listeners[0]()
    link.handlers[ARRIVALS]({"name": "another"})
    link.calls[-1][1]()
    assert [seconds for seconds, _ in link.calls] == [5.0, 10.0]
    assert not follower.over.done()
    if back == "router":
        link.listeners[0]()
    else:
        link.handlers[ARRIVALS]({"name": "stage"})
    assert [each.state for each in follower.after(0)] == ["running", "running", "failed"]
    with pytest.raises(RunFailed, match="scan: node stopped"):
        follower.outcome()


def test_error_that_no_waiting_helps_against_ends_the_following():
    follower, _, _ = followed(NoSuchRun("no such run"))
    with pytest.raises(NoSuchRun):
        follower.outcome()


def test_backlog_of_a_slow_reader_is_bounded():
    follower, link, _ = followed(answer([change(1)]))
    for seq in range(2, 12_002):
        link.handlers[TOPIC](change(seq))
    assert (len(seqs(follower)), seqs(follower)[-1]) == (10_000, 12_001)


def test_handle_that_is_dropped_subscribes_no_more(sisock_stepped_site, stage, c):
    run = c.operation("stage", "steps")
    topic = f"{sisock_stepped_site.router.base_uri}.consumer.stage.operation.{run.id}", "exact"
    assert wait_until(lambda: topic in sisock_stepped_site.router.topics, 20.0)
    del run
    assert wait_until(lambda: topic not in sisock_stepped_site.router.topics, 20.0)
    assert states(stage) == ["running"]


def test_changes_that_no_single_message_carries_are_fetched_in_parts(stage, c):
    def expose():
        return "r" * 12_000_000

    def images(context):
        for number in range(40):
            context.update(f"{number} {'x' * 990_000}")
        return expose()

    stage.node.work.offer(Operation("images", "Take images.", None, None, images))
    number = c.call("stage", "images", _wait=False)
    assert wait_until(lambda: states(stage) == ["done"], 30.0)
    run = c.run("stage", number)
    found = [change.update.partition(" ")[0] for change in run if change.update is not None]
    assert found == [str(number) for number in range(40 - len(found), 40)]
    assert len(found) >= 15
    assert run.missed == 40 - len(found) + 2  # the changes of state before the updates
    assert len(run.result(timeout_s=30.0)) == 12_000_000
