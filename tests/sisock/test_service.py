"""Services: nodes without samples, as they are seen through a router; without Crossbar."""

import pytest
from autobahn.wamp.exception import ApplicationError

from sisock.access import Access
from sisock.consumer import in_reactor
from sisock.context import NodeSecrets
from sisock.errors import BadRequest, NameTaken, NoRouter, NoSuchField
from sisock.node import Node
from sisock.node_context import make_context
from sisock.nodetype import NodeContext, NodeSettings, NodeType
from sisock.outage import Health
from sisock.procedure import Command, Query
from sisock.service import Service
from sisock.service_node import ServiceNode
from sisock.times import SYSTEM_CLOCK, wait_until
from sisock.wamp.session import Session
from tests.sisock.test_offers import call
from tests.sisock.test_supervisor import ends, python


class Elevator(Service):
    """An elevator.

    More of it.
    """

    publishes = ("floor", "doors.front")

    def __init__(self):
        self.floor, self.health, self.stopped = 0, None, False

    @property
    def offers(self):
        return [Query("floor", "Return the floor.", None, None, lambda: self.floor)]

    def start(self, context):
        self.context = context
        context.offer(Command("down", "Move down.", None, None, self.down))

    def down(self):
        self.floor -= 1
        self.context.publish("floor", {"floor": self.floor})
        return self.floor

    def stop(self):
        self.stopped = True

    def status(self):
        if isinstance(self.health, Exception):
            raise self.health
        return self.health


@pytest.fixture
def node(sisock_stepped_site):
    node = ServiceNode(Elevator(), make_context("lift", sisock_stepped_site.access("server")))
    sisock_stepped_site.serve(node)
    return node


@pytest.fixture
def client(sisock_stepped_site):
    return sisock_stepped_site.serve(Session).session


def status(client):
    return call(client, "consumer.lift.status")


def test_service_is_a_node_without_fields(node, client, sisock_stepped_site):
    with sisock_stepped_site.consumer() as consumer:
        (known,) = [each for each in consumer.nodes() if each.name == "lift"]
        assert known.description == "An elevator."
        assert len(consumer.fields("lift")) == 0
    fields, timelines = call(client, "consumer.lift.get_fields", 1.0, 0.0)
    assert (fields, timelines) == ({}, {})
    with pytest.raises(NoSuchField, match="lift is a service; it has no fields, and so not 'x'"):
        call(client, "consumer.lift.get_data", ["x"], 1.0, 0.0)


def test_procedures_of_a_service_are_offered_and_called(node, client):
    assert call(client, "control.lift.down") == -1
    assert call(client, "consumer.lift.query.floor") == -1
    kinds = {each["name"]: each["kind"] for each in call(client, "consumer.lift.procedures")}
    assert kinds["floor"] == "query"
    assert kinds["down"] == "command"
    node.service.context.withdraw("down").result(10.0)
    with pytest.raises(ApplicationError, match="no callee registered"):
        call(client, "control.lift.down")


def test_service_publishes_to_subscribers_and_counts(node, client):
    received = []
    in_reactor(lambda: client.subscribe(received.append, client.uri("consumer.lift.floor"))).result(10.0)
    assert wait_until(lambda: call(client, "control.lift.down") and received, 10.0)
    assert received[0]["floor"] < 0
    assert status(client)["counters"]["published"] >= 1
    with pytest.raises(BadRequest, match="topic 'roof' is not in `publishes` of Elevator: floor, doors.front"):
        node.service.context.publish("roof", 1)


def test_health_of_a_service_is_that_of_its_status(node, client):
    assert status(client)["health"]["state"] == "ok"
    node.service.health = Health("outage", 7.0, "the cable is broken", {"cable": 2})
    assert status(client)["health"] == {
        "state": "outage",
        "since": 7.0,
        "error": "the cable is broken",
        "details": {"cable": 2},
    }
    node.service.health = ZeroDivisionError("the sensor is broken")
    assert status(client)["health"]["state"] == "degraded"
    assert status(client)["health"]["error"] == "its status cannot be read: ZeroDivisionError: the sensor is broken"


def test_service_that_is_not_joined_drops_what_it_publishes_and_counts():
    node = ServiceNode(Elevator(), make_context("lift"))
    assert node.health().state == "starting"
    node.start()
    node.service.down()
    assert node.status()["counters"] == {"published": 0, "unpublished": 1}
    node.stop()
    assert node.service.stopped


@pytest.mark.parametrize(
    ("topic", "text"), [("feed.x", "belongs to every node"), ("a b", "cannot be part of a topic's URI")]
)
def test_topics_that_cannot_be_are_refused(topic, text):
    service = Elevator()
    service.publishes = (topic,)
    with pytest.raises(BadRequest, match=text):
        ServiceNode(service, make_context("lift"))


def test_consumer_of_a_node_reads_others_with_its_rights_and_is_closed_with_it(node, sisock_stepped_site):
    consumer = node.service.context.consumer()
    assert consumer is node.service.context.consumer()
    assert [each.name for each in consumer.nodes()] == ["lift"]
    node.stop()
    assert consumer.trouble is not None


def test_children_of_a_node_are_stopped_with_it():
    context = make_context("rig")
    node = Node("rig", None, [], context=context)
    child = context.child(python("import time; time.sleep(600)"), name="one")
    child.start()
    assert wait_until(lambda: child.status()["pid"], 60.0)
    pid = child.status()["pid"]
    node.start()
    node.stop()
    assert child.ended.done()
    assert ends(pid)


def test_sources_and_their_node_share_its_work():
    context = make_context("rig")
    node = Node("rig", None, [], context=context)
    context.offer(Command("stop", "Stop.", None, None, lambda: None))
    assert node.work.offers.get("stop").kind == "command"
    with pytest.raises(NameTaken):
        context.offer(Command("stop", "Stop.", None, None, lambda: None))
    assert context.executor.submit(lambda: 7).result(10.0) == 7
    node.stop()


def test_context_without_a_node_has_neither_a_router_nor_topics():
    context = NodeContext("rig", SYSTEM_CLOCK, Access("ws://localhost:1", "realm", "base", "user", "secret"))
    with pytest.raises(NoRouter, match="belongs to no node"):
        context.consumer()
    with pytest.raises(BadRequest, match="node rig is not that of a service; its source emits samples instead"):
        context.publish("floor", 1)


def test_secrets_are_read_by_key_and_not_shown():
    secrets = NodeSecrets("rig", {"token": "abc"})
    assert secrets["token"] == "abc"
    assert "abc" not in repr(secrets)
    with pytest.raises(BadRequest, match="secrets.yaml has no 'password' for node 'rig'; add it below nodes: rig:"):
        secrets["password"]
    assert "password" not in secrets
    assert secrets.get("password") is None


def test_node_type_has_either_sources_or_a_service():
    with pytest.raises(BadRequest, match="node type of NodeSettings needs either make_sources or make_service"):
        NodeType(NodeSettings)
