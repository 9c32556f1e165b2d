"""What a node offers, on the wire: registered, called, cancelled, withdrawn; without Crossbar."""

import threading

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions
from pydantic import BaseModel
from twisted.internet.defer import Deferred

from sisock.consumer import in_reactor
from sisock.errors import BadRequest, Busy, NameTaken, NotAllowed, RunCancelled
from sisock.node import Node
from sisock.procedure import Caller, Command, Offers, Operation, Query
from sisock.times import wait_until
from sisock.wamp.session import Session


class Move(BaseModel):
    to: float


class Stage:
    """A node with a query, two commands and operations."""

    def __init__(self, site):
        self.position, self.callers, self.go = 0.0, [], threading.Event()
        self.node = Node("stage", "a stage", [], clock=site.clock)
        for procedure in (
            Query("position", "Return the position.", None, None, lambda: self.position),
            Command("move", "Move at once.", Move, None, self.move),
            Command("jump", "Move, in the reactor.", Move, None, self.jump),
            Operation("scan", "Scan.", None, None, self.scan),
            Operation("drift", "Drift, as a coroutine.", None, None, self.drift),
            Operation("stuck", "Wait, whatever is asked.", None, None, lambda context: self.go.wait(20.0)),
        ):
            self.node.work.offer(procedure)
        self.connection = site.serve(self.node)

    def move(self, move, context):
        self.position = move.to
        self.callers.append(context.caller)
        return {"position": move.to}

    async def jump(self, move):
        self.position = move.to
        return self.position

    def scan(self, context):
        for number in range(3):
            context.update(number)
        return "scanned"

    async def drift(self, context):
        context.update("drifting")
        await context.sleep(1e6)


@pytest.fixture
def stage(sisock_stepped_site):
    stage = Stage(sisock_stepped_site)
    yield stage
    stage.go.set()


@pytest.fixture
def client(sisock_stepped_site):
    """A plain session, as one in another language has it."""
    return plain(sisock_stepped_site)


def plain(site):
    return site.serve(Session).session


def call(session, procedure, *args, options=None, **kwargs):
    """Call a procedure and wait for its result."""
    given = {**kwargs, **({"options": options} if options else {})}
    return in_reactor(lambda: session.call(session.uri(procedure), *args, **given)).result(20.0)


def begun(session, procedure, **options):
    """Call an operation without waiting; return the list of its progressive results, that of outcomes, and the call."""
    changes, outcomes, calls = [], [], []

    def start():
        calls.append(session.call(session.uri(procedure), options=CallOptions(on_progress=changes.append, **options)))
        calls[0].addBoth(outcomes.append)

    in_reactor(start).result(20.0)
    assert wait_until(lambda: changes, 10.0)
    return changes, outcomes, calls[0]


def runs(session):
    return call(session, "consumer.stage.query.operations")


def test_plain_client_calls_a_query_a_command_and_an_operation(stage, client):
    assert call(client, "control.stage.move", to=3) == {"position": 3.0}
    assert call(client, "consumer.stage.query.position") == 3.0
    assert call(client, "control.stage.position") == 3.0  # as published clients call everything
    assert call(client, "control.stage.jump", to=4) == 4.0
    assert call(client, "control.stage.scan") == "scanned"
    assert (stage.callers[0].authid, stage.callers[0].session) == ("server", client.session_details.session)


def test_progressive_results_hold_every_update_in_order(stage, client):
    changes, outcomes, _ = begun(client, "control.stage.scan")
    assert wait_until(lambda: outcomes, 10.0)
    assert outcomes == ["scanned"]
    assert [each["update"] for each in changes if each["update"] is not None] == [0, 1, 2]
    assert [each["seq"] for each in changes] == list(range(1, len(changes) + 1))
    assert changes[-1]["state"] == "done"
    assert len({each["id"] for each in changes}) == 1


def test_run_is_started_without_waiting_and_followed_by_its_id(stage, client):
    number = call(client, "control.stage.drift", _wait=False)
    run = call(client, "consumer.stage.query.operation", id=number, after=0)
    assert (run["name"], run["state"]) == ("drift", "running")
    assert [each["seq"] for each in run["changes"]] == list(range(1, run["seq"] + 1))
    assert call(client, "control.stage.cancel_operation", id=number)["state"] in ("cancelling", "cancelled")
    assert wait_until(lambda: not stage.node.work.operations.list(active=True), 10.0)
    assert call(client, "consumer.stage.query.operation", id=number)["error"] == "cancelled by server"


def test_changes_are_published_to_those_who_subscribe(stage, client):
    seen = []
    in_reactor(lambda: client.subscribe(seen.append, client.uri("consumer.stage.operation."), match_prefix())).result(
        20.0
    )
    call(client, "control.stage.scan")
    assert wait_until(lambda: seen and seen[-1]["state"] == "done", 10.0)
    assert [each["update"] for each in seen if each["update"] is not None] == [0, 1, 2]


def match_prefix():
    from autobahn.wamp.types import SubscribeOptions

    return SubscribeOptions(match="prefix")


@pytest.mark.parametrize(("mode", "procedure"), [("kill", "drift"), ("killnowait", "drift"), ("killnowait", "stuck")])
def test_caller_that_cancels_its_call_cancels_the_run(stage, client, mode, procedure):
    _, outcomes, calling = begun(client, f"control.stage.{procedure}")
    number = runs(client)[0]["id"]

    def cancel():
        from autobahn.wamp.message import Cancel

        request = max(client._call_reqs)  # noqa: SLF001 - autobahn's cancel has no mode
        client._transport.send(Cancel(request, mode=mode))  # noqa: SLF001

    in_reactor(cancel).result(20.0)
    assert wait_until(lambda: outcomes, 10.0)
    state = call(client, "consumer.stage.query.operation", id=number)["state"]
    assert (
        state == "cancelling"
        if procedure == "stuck"
        else wait_until(lambda: call(client, "consumer.stage.query.operation", id=number)["state"] == "cancelled", 10.0)
    )
    del calling


def test_run_continues_when_its_caller_leaves(sisock_stepped_site, stage, client):
    caller = plain(sisock_stepped_site)
    begun(caller, "control.stage.drift")
    in_reactor(caller.leave).result(20.0)
    assert wait_until(lambda: len(sisock_stepped_site.router.calls) == 0, 10.0)
    assert runs(client)[0]["state"] == "running"
    assert call(client, "control.stage.move", to=1) == {"position": 1.0}


def test_procedures_are_offered_and_withdrawn_at_run_time(stage, client):
    work, revision = stage.node.work, call(client, "consumer.stage.status")["revision"]
    work.offer(Query("camera.image", "Take an image.", None, None, lambda: "image")).result(10.0)
    assert call(client, "consumer.stage.query.camera.image") == "image"
    assert call(client, "consumer.stage.status")["revision"] == revision + 1
    listed = {each["name"]: each for each in call(client, "consumer.stage.procedures")}
    assert listed["camera.image"]["kind"] == "query"
    assert listed["camera.image"]["uri"].endswith("consumer.stage.query.camera.image")
    assert listed["scan"]["uri"].endswith("control.stage.scan")
    work.withdraw("camera.image").result(10.0)
    with pytest.raises(ApplicationError, match="no callee"):
        call(client, "consumer.stage.query.camera.image")
    with pytest.raises(BadRequest, match="no procedure 'camera.image' is offered"):
        work.withdraw("camera.image")


def test_uri_that_is_taken_or_of_another_node_is_refused_by_name(sisock_stepped_site, stage, client):
    in_reactor(lambda: client.register(lambda: 1, client.uri("control.stage.taken"))).result(20.0)
    taken = stage.node.work.offer(Command("taken", "", None, None, lambda: 1))
    with pytest.raises(NameTaken, match="control.stage.taken is taken by another session"):
        taken.result(10.0)
    assert stage.node.work.offers.get("taken") is None
    sisock_stepped_site.serve(Node("stage.camera", None, []))
    with pytest.raises(NameTaken, match="control.stage.camera.snap belongs to node 'stage.camera'"):
        stage.node.work.offer(Command("camera.snap", "", None, None, lambda: 1)).result(10.0)


def test_bad_calls_name_what_is_wrong(sisock_stepped_site, stage):
    with sisock_stepped_site.consumer("operator") as operator:
        with pytest.raises(BadRequest, match="move: to: is missing; speed: is not known"):
            operator.call("stage", "move", speed=1)
        with pytest.raises(BadRequest, match="_wait is 1"):
            operator.call("stage", "scan", _wait=1)
        with pytest.raises(NotAllowed, match="only the gateway may give _principal"):
            operator.call("stage", "move", to=1, _principal={"user": "eve", "role": "operator"})
        number = operator.call("stage", "drift", _wait=False)
        operator.call("stage", "cancel_operation", id=number)
    assert stage.position == 0.0


def test_plain_call_of_a_run_that_is_cancelled_gets_that_error(sisock_stepped_site, stage, client):
    outcomes = []
    in_reactor(lambda: client.call(client.uri("control.stage.drift")).addBoth(outcomes.append) and None).result(20.0)
    assert wait_until(lambda: runs(client), 10.0)
    call(client, "control.stage.cancel_operation", id=runs(client)[0]["id"])
    assert wait_until(lambda: outcomes, 10.0)
    assert isinstance(outcomes[0].value, RunCancelled)


def test_reads_are_answered_while_all_operations_hang(stage, client):
    for _ in range(70):
        call(client, "control.stage.stuck", _wait=False)
    assert call(client, "consumer.stage.status")["operations"]["queued"] == 6
    assert call(client, "consumer.stage.get_fields", 1, 0) == [{}, {}]
    assert call(client, "control.stage.move", to=2) == {"position": 2.0}
    for _ in range(930):
        stage.node.work.operations.start(stage.node.work.offers.get("stuck"), {}, Caller())
    with pytest.raises(Busy, match="1000 runs are queued or running"):
        call(client, "control.stage.stuck", _wait=False)


def test_command_that_does_not_return_soon_is_counted_while_it_runs(sisock_stepped_site, stage, client):
    clock, work = sisock_stepped_site.clock, stage.node.work
    work.offer(Command("hang", "Hang.", None, None, lambda: stage.go.wait(20.0))).result(10.0)
    outcome = []
    in_reactor(lambda: client.call(client.uri("control.stage.hang")).addBoth(outcome.append) and None).result(20.0)
    clock.wait_for_sleepers()
    clock.step(2.5)
    assert wait_until(lambda: call(client, "consumer.stage.status")["work"]["slow_commands"] == 1, 10.0)
    assert not outcome
    stage.go.set()
    assert wait_until(lambda: outcome, 10.0)


def test_code_that_returns_a_coroutine_is_awaited(stage, client):
    stage.node.work.offer(Command("hop", "Hop.", Move, None, lambda move: stage.jump(move=move))).result(10.0)
    stage.node.work.offer(
        Operation("float", "Drift.", None, None, lambda context: stage.drift(context=context))
    ).result(10.0)
    assert call(client, "control.stage.hop", to=9) == 9.0
    number = call(client, "control.stage.float", _wait=False)
    assert wait_until(lambda: call(client, "consumer.stage.query.operation", id=number)["update"] == "drifting", 10.0)
    assert call(client, "control.stage.cancel_operation", id=number, hard=True)["id"] == number
    assert wait_until(lambda: not stage.node.work.operations.list(active=True), 10.0)


def test_offer_and_withdrawal_that_are_not_waited_for_take_effect_in_their_order(stage, client):
    uri = "observatory.control.stage.extra"
    for _ in range(3):
        stage.node.work.offer(Command("extra", "Do more.", None, None, lambda: 1))
        stage.node.work.withdraw("extra").result(10.0)
        found = in_reactor(lambda: client.call("wamp.registration.lookup", uri)).result(10.0)
        assert found is None
    stage.node.work.offer(Command("extra", "Do more.", None, None, lambda: 1))
    stage.node.work.withdraw("extra")
    stage.node.work.offer(Command("extra", "Do other things.", None, None, lambda: 2)).result(10.0)
    assert call(client, "control.stage.extra") == 2


def test_refusal_of_an_offer_that_was_withdrawn_meanwhile_is_reported(stage, client):
    in_reactor(lambda: client.register(lambda: 0, "observatory.control.stage.extra")).result(10.0)
    first, later = (Command("extra", text, None, None, lambda: 1) for text in ("Do more.", "Do other things."))

    def offer_twice():
        """Offer, withdraw and offer again before the router can answer."""
        refused = stage.node.work.offer(first)
        stage.node.work.withdraw("extra")
        return refused, stage.node.work.offer(later)

    for each in in_reactor(offer_twice).result(10.0):
        with pytest.raises(NameTaken):
            each.result(10.0)
    assert stage.node.work.offers.get("extra") is None


def test_discarding_a_procedure_leaves_another_one_of_its_name():
    offers = Offers()
    first, later = (Command("extra", text, None, None, lambda: 1) for text in ("Do more.", "Do other things."))
    offers.add(later)
    offers.discard(first)
    assert offers.get("extra") is later


class Payload(BaseModel):
    data: bytes = b""


def test_command_whose_arguments_have_no_json_is_an_event_all_the_same(stage, client):
    stage.node.work.offer(Command("write", "Write.", Payload, None, lambda payload: len(payload.data))).result(10.0)
    assert call(client, "control.stage.write", data=b"\xff\xfe") == 2

    def called():
        events = stage.node.work.events.read(kind="command", subject="write").events
        return [(each.data["arguments"], each.data["caller"]["authid"]) for each in events]

    assert wait_until(lambda: called() == [({"data": "b'\\xff\\xfe'"}, "server")], 10.0)


def test_progress_that_cannot_be_sent_does_not_keep_back_the_answer(stage, client, caplog):
    def scan(context):
        with pytest.raises(BadRequest, match="64 bits"):
            context.update(1 << 70)
        context.update("fine")
        return "scanned"

    stage.node.work.offer(Operation("odd", "Scan.", None, None, scan)).result(10.0)
    updates = []
    options = CallOptions(on_progress=lambda change: updates.append(change["update"]))
    assert call(client, "control.stage.odd", options=options) == "scanned"
    assert [each for each in updates if each] == ["fine"]


def test_runs_are_listed_and_cancelled_while_all_commands_and_queries_of_the_node_hang(stage, client):
    work = stage.node.work
    work.offer(Command("hang", "Hang.", None, None, lambda: stage.go.wait(20.0)))
    work.offer(Query("hang_too", "Hang.", None, None, lambda: stage.go.wait(20.0))).result(20.0)
    run = call(client, "control.stage.stuck", _wait=False)
    in_reactor(
        lambda: [
            client.call(client.uri(uri)).addErrback(lambda _: None)
            for uri in ("control.stage.hang", "consumer.stage.query.hang_too")
            for _ in range(20)
        ]
    )
    assert wait_until(lambda: work.status()["work"]["running"] == 16, 20.0)
    assert [each["id"] for each in call(client, "consumer.stage.query.operations")] == [run]
    assert call(client, "control.stage.cancel_operation", id=run)["state"] == "cancelling"
    assert call(client, "consumer.stage.query.events", kind="run")["events"]
    assert call(client, "consumer.stage.query.alarms") == []
    assert call(client, "consumer.stage.query.tables")


class Paced:
    """A router that takes more for a caller when the test lets it."""

    def __init__(self, site):
        self.waiting, self.asked = [], 0
        session = site.serve(Session).session
        in_reactor(lambda: session.register(self.room, session.uri("router.room"))).result(20.0)

    def room(self, _session):
        self.asked += 1
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def let(self):
        in_reactor(lambda: self.waiting.pop(0).callback(None)).result(20.0)


def test_large_updates_and_the_result_wait_until_the_router_takes_them_for_the_caller(
    sisock_stepped_site, stage, client
):
    def images(context):
        for number in range(5):
            context.update(f"{number} {'x' * 200_000}")
        return "r" * 300_000

    paced, found, ended = Paced(sisock_stepped_site), [], []
    stage.node.work.offer(Operation("images", "Take images.", None, None, images)).result(20.0)
    options = CallOptions(on_progress=lambda change: found.append(change["update"]))
    in_reactor(
        lambda: client.call(client.uri("control.stage.images"), options=options).addCallback(ended.append) and None
    )
    counts = []
    for _ in range(3):
        assert wait_until(lambda: paced.waiting or ended, 20.0)
        counts.append(len([each for each in found if each]))
        paced.let()
    assert wait_until(lambda: ended == ["r" * 300_000], 20.0)
    assert counts == [2, 4, 5]
    assert paced.asked == 3


def test_large_results_are_sent_one_after_the_other_when_the_router_takes_them(sisock_stepped_site, stage, client):
    paced, ended = Paced(sisock_stepped_site), []
    stage.node.work.offer(Query("large", "Return much.", None, None, lambda: "r" * 300_000)).result(20.0)

    async def large():
        return "r" * 300_000

    stage.node.work.offer(Query("large_too", "Return much.", None, None, large)).result(20.0)
    for name in ("large", "large", "large_too"):
        in_reactor(
            lambda uri=client.uri(f"consumer.stage.query.{name}"): client.call(uri).addCallback(ended.append) and None
        )
    for count in range(3):
        assert wait_until(lambda: paced.waiting, 20.0)
        assert (len(paced.waiting), len(ended)) == (1, count)
        paced.let()
        assert wait_until(lambda count=count: len(ended) == count + 1, 20.0)
    assert call(client, "consumer.stage.query.position") == 0.0
