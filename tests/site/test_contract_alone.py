"""A node that knows the wire contract alone, written in plain autobahn, and all that asks it."""

import json
from pathlib import Path

import numpy as np
import pytest
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import auth
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import inlineCallbacks

from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import BadRequest, NoSuchNode, NoSuchTimeline
from tests import commands
from tests.site.gateway import wait
from tests.site.links import opened_link

BASE = "org.simonsobservatory"
CONTRACT = Path(__file__).parents[2] / "docs" / "wire-contract.md"
N = 1440


class Bare(ApplicationSession):
    """Answers get_fields and get_data, and nothing else; of get_data it takes what the published contract has."""

    name = "bare"
    added = True  # as the fixture asks
    honours_stride = False

    def onConnect(self):
        self.join(self.config.realm, ["wampcra"], self.config.extra["access"].user)

    def onChallenge(self, challenge):
        return auth.compute_wcs(self.config.extra["access"].secret, challenge.extra["challenge"])

    @inlineCallbacks
    def onJoin(self, details):
        yield self.register(self.get_fields, f"{BASE}.consumer.{self.name}.get_fields")
        yield self.register(self.get_data, f"{BASE}.consumer.{self.name}.get_data")
        yield self.call(f"{BASE}.data_node.add", self.name, "the contract alone", details.session)

    def get_fields(self, start, end):
        return [{"x": {"timeline": "minutes", "type": "number"}}, {"minutes": {"interval": 60.0, "field": ["x"]}}]

    def get_data(self, field, start, end, min_stride=None, **_ignored):
        step = max(1, round(min_stride / 60.0)) if min_stride and self.honours_stride else 1
        t = [60.0 * i for i in range(0, N, step)]
        x = [99.0 if i == 777 else float(i % 7) for i in range(0, N, step)]
        return {"data": {"x": x}, "timeline": {"minutes": {"t": t, "finalized_until": None}}}


@pytest.fixture
def bare(sisock_serve, unique):
    class Node(Bare):
        name = unique

    sisock_serve(Node)
    return Node


@pytest.fixture
def consumer(sisock_router):
    with BlockingConsumer(sisock_router.access()) as consumer:
        yield consumer


def sisock(router, *args):
    return commands.sisock(*args, "--site", router.site.path, cwd=router.site.folder)


def test_stride_that_the_node_ignores_is_kept_by_the_consumer(bare, consumer):
    data = consumer.data(bare.name, ["x"], 1, 0, 120.0, downsample="first")
    assert data.t("x").tolist() == [120.0 * i for i in range(N // 2)]
    samples = data.timelines["minutes"]
    assert (samples.downsample.method, samples.downsample.stride) == ("first", 120.0)


def test_points_and_method_that_the_node_ignores_are_applied_by_the_consumer(bare, consumer):
    few = consumer.data(bare.name, ["x"], 1, 0, max_points=100, downsample="minmax")
    assert len(few["x"]) <= 100
    assert max(few["x"]) == 99.0
    bins = consumer.data(bare.name, ["x"], 1, 0, 600.0, downsample="max")
    assert bins.t("x").tolist() == [600.0 * i for i in range(N // 10)]
    assert bins["x"][77] == 99.0


def test_spike_is_not_lost_to_a_stride_that_the_node_knows_and_a_method_that_it_does_not(bare, consumer):
    bare.honours_stride = True
    assert max(consumer.data(bare.name, ["x"], 1, 0, 600.0, downsample="max")["x"]) == 99.0
    assert max(consumer.data(bare.name, ["x"], 1, 0, 600.0, downsample="minmax")["x"]) == 99.0
    assert consumer.data(bare.name, ["x"], 1, 0, 600.0, downsample="first").t("x").tolist() == [
        600.0 * i for i in range(N // 10)
    ]


def test_missing_status_and_procedures_are_empty(bare, sisock_router):
    with BlockingConsumer(sisock_router.access("operator")) as consumer:
        assert consumer.status(bare.name) == {}
        assert consumer.procedures(bare.name) == []
        with pytest.raises(BadRequest, match="has no control procedure 'move'; it has: none"):
            consumer.call(bare.name, "move")


def test_feed_of_a_node_without_status_is_followed(bare, consumer, sisock_router):
    with pytest.raises(NoSuchTimeline, match="has no timeline 'hours'; it has: minutes"):
        next(consumer.subscribe(bare.name, "hours"))
    batches = consumer.subscribe(bare.name, "minutes")
    event = {"t": [1.0], "data": {"x": [2.5]}, "seq": 1, "finalized_until": None}

    class Publisher(Bare):
        name = "publisher"

        def onJoin(self, details):
            from twisted.internet.task import LoopingCall

            loop = LoopingCall(lambda: self.publish(f"{BASE}.consumer.{bare.name}.feed.minutes", event))
            loop.start(0.1)
            self.onDisconnect = lambda: loop.running and loop.stop()

    from sisock.testing.serving import Serving

    serving = Serving(sisock_router.access("server"))
    try:
        serving.serve(Publisher)
        assert next(batches)["x"].tolist() == [2.5]
    finally:
        serving.stop()


def test_bare_client_sees_what_the_router_says_of_unknown_nodes(sisock_router, consumer):
    with opened_link(sisock_router.access()) as link:
        session = in_reactor(link.session).result(15.0)
        with pytest.raises(ApplicationError) as caught:
            in_reactor(lambda: session.call(f"{BASE}.consumer.nobody.get_data", ["x"], 1, 0)).result(15.0)
    assert caught.value.error == "wamp.error.no_such_procedure"
    assert "| `wamp.error.no_such_procedure` | no node of that name has joined" in CONTRACT.read_text()
    with pytest.raises(NoSuchNode, match="no node 'nobody'"):
        consumer.status("nobody")


def test_commands_do_without_status_and_procedures(bare, sisock_router):
    status = sisock(sisock_router, "status", bare.name)
    assert (status.returncode, status.stdout) == (0, "")
    assert status.stderr.strip() == f"node {bare.name} reports no status"
    assert json.loads(sisock(sisock_router, "status", bare.name, "--json").stdout) == {}
    procedures = sisock(sisock_router, "procedures", bare.name)
    assert (procedures.returncode, procedures.stdout) == (0, "")
    got = json.loads(
        sisock(sisock_router, "get", bare.name, "x", "--start", "1", "--min-stride", "240s", "--json").stdout
    )
    assert len(got["timelines"]["minutes"]["t"]) == N // 2


def test_gateway_does_without_status_and_procedures(bare, gateway):
    def node():
        return next((n for n in gateway.get("/api/v1/nodes").json() if n["name"] == bare.name), None)

    wait(lambda: node() is not None)
    assert (node()["state"], node()["newest"], node()["age"]) == (
        "online",
        None,
        None,
    )  # it does not say how old they are
    assert gateway.get(f"/api/v1/nodes/{bare.name}/status").json() == {}
    assert gateway.get(f"/api/v1/nodes/{bare.name}/procedures").json() == []
    answer = gateway.get(f"/api/v1/nodes/{bare.name}/data", params={"field": "x", "start": 1, "max_points": 50}).json()
    assert 0 < len(answer["timelines"]["minutes"]["t"]) <= 50
    assert 99.0 in answer["timelines"]["minutes"]["data"]["x"]


def test_table_of_a_node_without_status_has_every_sample(bare, gateway):
    csv = gateway.get(f"/api/v1/nodes/{bare.name}/data", params={"field": "x", "start": 1, "format": "csv"}).text
    assert np.count_nonzero([line for line in csv.splitlines() if line]) >= N
