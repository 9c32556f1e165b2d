"""Rights of each role, through a real router: nodes, clients that read, operators, the gateway, and strangers."""

from dataclasses import replace

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, SubscribeOptions
from pydantic import BaseModel

from sisock import DataNodeServer
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import BadRequest, NoSuchAlarm, NoSuchRun, NotAllowed, Refused
from sisock.node import Node
from sisock.procedure import Command, Operation, Query
from sisock.testing.serving import Serving
from sisock.wamp.session import Session
from tests.site.gateway import gateway_of, wait

MARIA, OTTO = {"user": "maria", "role": "operator"}, {"user": "otto", "role": "consumer"}
READS = {"query", "runs", "alarms", "procedures", "subscribe"}
COMMANDS = {"command", "query below control", "operation", "cancel_operation", "acknowledge_alarm"}
SERVES = {"register", "register a command", "publish", "subscribe to commands"}
ALLOWED = {
    "server": READS | COMMANDS | SERVES,
    "consumer": READS,
    "operator": READS | COMMANDS,
    "gateway": READS | COMMANDS,
}


class Move(BaseModel):
    to: float


class Stage:
    """A node with a query, a command and an operation, which keeps the callers of the command."""

    def __init__(self, name):
        self.name, self.callers = name, []
        self.node = Node(name, "a stage", [])
        for procedure in (
            Query("position", "Return the position.", None, None, lambda: 1.0),
            Command("move", "Move at once.", Move, None, self.move),
            Operation("scan", "Scan.", None, None, lambda context: context.caller.name),
        ):
            self.node.work.offer(procedure)

    def move(self, move, context):
        self.callers.append(context.caller)
        return move.to


@pytest.fixture
def stage(sisock_serve, unique):
    stage = Stage(unique)
    sisock_serve(stage.node)
    return stage


class Client:
    """A plain session with the account of a role."""

    def __init__(self, session):
        self._session = session

    def call(self, procedure, /, **arguments):
        return self._do("call", procedure, **arguments)

    def register(self, procedure):
        return in_reactor(lambda: self._session.register(lambda: None, self._session.uri(procedure))).result(20.0)

    def subscribe(self, topic):
        return in_reactor(lambda: self._session.subscribe(print, *topic)).result(20.0)

    def uri(self, name):
        return self._session.uri(name)

    def publish(self, topic):
        return self._do("publish", topic, 1, options=PublishOptions(acknowledge=True))

    def _do(self, method, name, /, *args, **how):
        return in_reactor(lambda: getattr(self._session, method)(self._session.uri(name), *args, **how)).result(20.0)


@pytest.fixture
def join(sisock_router):
    servings = []

    def joining(role):
        servings.append(Serving(sisock_router.access(role)))
        return Client(servings[-1].serve(Session).session)

    yield joining
    for serving in servings:
        serving.stop()


def attempts(client, node, **named):
    """Return a call for each right that a role may have."""
    prefix = SubscribeOptions(match="prefix")
    return {
        "query": lambda: client.call(f"consumer.{node}.query.position", **named),
        "runs": lambda: client.call(f"consumer.{node}.query.operations", **named),
        "alarms": lambda: client.call(f"consumer.{node}.query.alarms", **named),
        "procedures": lambda: client.call(f"consumer.{node}.procedures"),
        "query below control": lambda: client.call(f"control.{node}.position", **named),
        "command": lambda: client.call(f"control.{node}.move", to=2.0, **named),
        "operation": lambda: client.call(f"control.{node}.scan", _wait=False, **named),
        "cancel_operation": lambda: client.call(f"control.{node}.cancel_operation", id="none", **named),
        "acknowledge_alarm": lambda: client.call(f"control.{node}.acknowledge_alarm", name="none", **named),
        "subscribe": lambda: client.subscribe((client.uri(f"consumer.{node}.operation"), prefix)),
        "subscribe to commands": lambda: client.subscribe((client.uri(f"control.{node}.move"),)),
        "subscribe to all": lambda: client.subscribe(("", prefix)),
        "register": lambda: client.register(f"consumer.{node}.query.imitation"),
        "register a command": lambda: client.register(f"control.{node}.imitation"),
        "publish": lambda: client.publish(f"consumer.{node}.events"),
    }


@pytest.mark.parametrize("role", ALLOWED)
def test_role_may_do_what_it_is_for_and_nothing_else(join, stage, role):
    named, allowed = {"_principal": MARIA} if role == "gateway" else {}, set()
    for right, attempt in attempts(join(role), stage.name, **named).items():
        try:
            attempt()
        except ApplicationError as error:
            assert error.error == ApplicationError.NOT_AUTHORIZED
            continue
        except (NoSuchRun, NoSuchAlarm):
            assert right in ("cancel_operation", "acknowledge_alarm")
        allowed.add(right)
    assert allowed == ALLOWED[role]
    assert len(stage.callers) == ("command" in allowed)


def test_stranger_does_not_join(sisock_router):
    access = sisock_router.access()
    for stranger in (replace(access, user="mallory"), replace(access, user="gateway")):
        with pytest.raises(Refused), BlockingConsumer(stranger):
            pass

    class Anonymous(Session):
        def onConnect(self):
            self.join(self.access.realm, ["anonymous"])

    serving = Serving(access)
    try:
        with pytest.raises(Refused):
            serving.serve(Anonymous)
    finally:
        serving.stop()


COMMAND_CALLS = (("move", {"to": 1.0}), ("scan", {}), ("cancel_operation", {"id": "none"}))


@pytest.mark.parametrize("role", ["server", "consumer", "operator"])
def test_only_the_gateway_names_the_person_for_whom_it_calls(join, stage, role):
    client = join(role)
    with pytest.raises(NotAllowed, match=f"only the gateway may give _principal, and the caller is '{role}'"):
        client.call(f"consumer.{stage.name}.query.position", _principal=MARIA)
    for procedure, arguments in COMMAND_CALLS if role != "consumer" else ():
        with pytest.raises(NotAllowed, match="only the gateway may give _principal"):
            client.call(f"control.{stage.name}.{procedure}", _principal=MARIA, **arguments)
    assert stage.callers == []


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"_principal": "maria"},
        {"_principal": {"user": "maria"}},
        {"_principal": {"user": "", "role": "operator"}},
        {"_principal": {"user": "maria", "role": "server"}},
    ],
)
def test_gateway_must_name_a_person_and_their_role(join, stage, named):
    client = join("gateway")
    for call in (f"consumer.{stage.name}.query.position", f"control.{stage.name}.move"):
        with pytest.raises(BadRequest, match="the gateway must give _principal"):
            client.call(call, **named)
    assert stage.callers == []


def test_gateway_calls_with_the_rights_of_the_person_whom_it_names(join, stage):
    client, name = join("gateway"), stage.name
    assert client.call(f"consumer.{name}.query.position", _principal=OTTO) == 1.0
    for procedure, arguments in COMMAND_CALLS:
        with pytest.raises(NotAllowed, match=f"'otto' is consumer, and {procedure} is for operators"):
            client.call(f"control.{name}.{procedure}", _principal=OTTO, **arguments)
    assert client.call(f"control.{name}.move", to=1.0, _principal=MARIA) == 1.0
    assert client.call(f"control.{name}.scan", _principal=MARIA) == "maria"
    (run,) = client.call(f"consumer.{name}.query.operations", _principal=OTTO)
    assert run["caller"]["authid"] == run["caller"]["role"] == "gateway"
    assert run["caller"]["on_behalf_of"] == MARIA
    assert [each.name for each in stage.callers] == ["maria"]


PASSWORD, TOKEN = "a long one", "at least sixteen characters"
LOGINS = {
    "users": {"maria": {"password": PASSWORD, "operator": True}, "otto": {"password": PASSWORD}},
    "tokens": {"grafana": TOKEN},
}


def test_records_name_the_person_who_logged_in_at_the_gateway(sisock_router, join, stage):
    path = f"/api/v1/nodes/{stage.name}/procedures"
    client = join("consumer")
    with gateway_of(sisock_router.site, LOGINS, operator=True) as gateway:

        def answer(procedure, user, **arguments):
            return gateway.post(f"{path}/{procedure}", json=arguments, auth=(user, PASSWORD))

        wait(lambda: gateway.get("/readyz").status_code == 200)
        assert answer("move", "maria", to=3.0).json() == 3.0
        assert answer("scan", "maria").is_success
        assert answer("set_alarm", "maria", name="hot", field="temperature", above=30).is_success
        assert answer("shelve_alarm", "maria", **{"name": "hot", "for": "1h"}).is_success
        assert answer("shelve_alarm", "otto", **{"name": "hot", "for": "2h"}).status_code == 403
        assert answer("move", "otto", to=4.0).status_code == 403
        assert answer("move", "maria", to=5.0, _principal=OTTO).status_code == 400
        by_token = gateway.post(f"{path}/move", json={"to": 6.0}, headers={"Authorization": f"Bearer {TOKEN}"})
        assert by_token.status_code == 403
    (caller,) = stage.callers
    assert caller.as_dict()["on_behalf_of"] == MARIA
    (run,) = client.call(f"consumer.{stage.name}.query.operations")
    assert run["caller"]["on_behalf_of"] == MARIA
    (alarm,) = client.call(f"consumer.{stage.name}.query.alarms")
    assert (alarm["state"], alarm["by"]) == ("shelved", "maria")
    events = client.call(f"consumer.{stage.name}.query.events", kind="command")["events"]
    assert [(each["subject"], each["data"]["caller"]["on_behalf_of"]) for each in events] == [
        (name, MARIA) for name in ("move", "set_alarm", "shelve_alarm")
    ]
    (began, ended) = client.call(f"consumer.{stage.name}.query.events", kind="run")["events"]
    assert began["data"]["caller"]["on_behalf_of"] == MARIA, (began, ended)


@pytest.mark.parametrize("has_account", [True, False])
def test_gateway_with_and_without_an_account_calls_commands_of_all_nodes(
    sisock_router, sisock_serve, stage, unique, has_account
):
    class Published(DataNodeServer):
        """Registers a command itself, as nodes of the published contract do."""

        name = f"{unique}-published"

        def onJoin(self, details):
            self.register(lambda: "restarted", self.uri(f"control.{self.name}.restart"))
            return super().onJoin(details)

        def get_fields_blocking(self, start, end):
            return {}, {}

    sisock_serve(Published)
    with gateway_of(sisock_router.site, {} if has_account else {"secret": None}, operator=True) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        answers = [
            gateway.post(f"/api/v1/nodes/{node}/procedures/{procedure}", json=arguments)
            for node, procedure, arguments in (
                (Published.name, "restart", {}),
                (stage.name, "move", {"to": 3.0}),
                (stage.name, "position", {}),
                (stage.name, "explode", {}),
            )
        ]
    assert [answer.json() for answer in answers[:3]] == ["restarted", 3.0, 1.0]
    assert answers[3].is_client_error
    (caller,) = stage.callers
    assert caller.name == ("anonymous" if has_account else "operator")
