"""Watermarks on the wire: in order with the feed, once a second, only while somebody is subscribed; without Crossbar."""

import threading

import pytest

from sisock import Field, Timeline
from sisock.consumer import in_reactor
from sisock.errors import BadAnswer, SisockError
from sisock.history import Reset
from sisock.node import Node
from sisock.testing import ManualSource
from sisock.times import wait_until
from sisock.wamp.session import Session
from sisock.watermark import Watermark, watermark_of

TOPIC = "consumer.rig.watermark.strain"
FEED = "consumer.rig.feed.strain"


@pytest.fixture
def site(sisock_stepped_site):
    return sisock_stepped_site


@pytest.fixture
def source():
    return ManualSource(Timeline("strain", [Field("strain")], interval_s=0.1))


@pytest.fixture
def node(site, source):
    node = Node("rig", "a rig", [source], clock=site.clock)
    site.serve(node)
    return node


@pytest.fixture
def client(site):
    """A plain session, as one in another language has it."""
    return site.serve(Session).session


def subscribe(session, found, topic, **options):
    subscription = in_reactor(lambda: session.subscribe(found.append, session.uri(topic), **options)).result(20.0)
    return lambda: in_reactor(subscription.unsubscribe).result(20.0)


def stepped(site, node, until, seconds=1.0):
    """Step the clock until something is seen."""

    def see():
        site.clock.step(seconds)
        return until()

    assert wait_until(see, 20.0)


def emit(site, source, values):
    now = site.clock.now()
    source.emit("strain", [now + 0.001 * i for i in range(len(values))], {"strain": values})


def test_watermark_is_published_while_somebody_is_subscribed(site, node, source, client):
    found = []
    unsubscribe = subscribe(client, found, TOPIC)
    emit(site, source, [1.0])
    stepped(site, node, lambda: any(each["seq"] == 1 for each in found))
    status = node.status()
    assert set(found[-1]) == {"seq", "finalized_until", "since", "reset"}
    assert found[-1]["since"] == status["since"]
    assert found[-1]["reset"] == 0
    unsubscribe()
    seen = len(found)
    other = []
    subscribe(client, other, FEED)
    for _ in range(5):
        site.clock.step(1.0)
    emit(site, source, [2.0])
    assert wait_until(lambda: other, 20.0)
    assert len(found) == seen


@pytest.mark.parametrize(
    ("topic", "options"),
    [("consumer.rig.watermark", {"match": "prefix"}), ("consumer..watermark.strain", {"match": "wildcard"})],
)
def test_subscribers_by_pattern_get_watermarks(site, node, source, client, topic, options):
    from autobahn.wamp.types import SubscribeOptions

    found = []
    subscribe(client, found, topic, options=SubscribeOptions(**options))
    emit(site, source, [1.0])
    stepped(site, node, lambda: any(each["seq"] == 1 for each in found))


def test_watermark_follows_the_batches_of_its_seq_and_is_rare(site, node, source, client):
    events = []
    seen = {"batches": 0}

    def on_batch(batch):
        events.append(batch)
        seen["batches"] += 1

    in_reactor(lambda: client.subscribe(on_batch, client.uri(FEED))).result(20.0)
    subscribe(client, events, TOPIC)
    rounds, began = 200, site.clock.now()
    for i in range(rounds):
        emit(site, source, [float(i)])
        site.clock.step(0.06)
    stepped(site, node, lambda: any("t" not in each and each["seq"] == rounds for each in events))
    newest = 0
    for each in events:
        if "t" in each:
            newest = each["seq"]
        else:
            assert each["seq"] == newest or newest == 0  # the subscription to the feed may have come first
    marks = [each for each in events if "t" not in each]
    assert len(marks) <= site.clock.now() - began + 1


def test_watermark_advances_without_samples_where_the_history_goes_by_the_clock(site, node, source, client):
    found = []
    subscribe(client, found, TOPIC)
    emit(site, source, [1.0])
    stepped(site, node, lambda: any(each["seq"] == 1 for each in found))
    first, expected = found[-1], node.history.watermark("strain")[0]
    stepped(site, node, lambda: found[-1] is not first)
    assert found[-1]["seq"] == 1
    assert found[-1]["finalized_until"] >= first["finalized_until"]
    assert found[-1]["finalized_until"] >= expected


def test_watermark_that_was_set_back_names_its_reset(site, client):
    source = ManualSource(Timeline("strain", [Field("strain")], follows_clock=False))
    node = Node("rig", None, [source], clock=site.clock)
    site.serve(node)
    found = []
    subscribe(client, found, TOPIC)
    began = site.clock.now()
    emit(site, source, [1.0])
    stepped(site, node, lambda: any(each["seq"] == 1 for each in found))
    assert found[-1]["finalized_until"] > began - 5.0
    node.history.set_back("strain", Reset(1, began - 10.0, began - 5.0))
    stepped(site, node, lambda: found[-1]["reset"] == 1)
    assert found[-1]["finalized_until"] == began - 10.0


def test_watermarks_come_again_after_the_router_has_lost_its_sessions(site, node, source, client):
    with site.consumer() as consumer:
        assert consumer.status("rig")["watermarks"] is True
        emit(site, source, [1.0])
        in_reactor(site.router.disconnect).result(20.0)

        def is_back():
            try:
                return consumer.status("rig")["counters"]["batches"] == 1
            except SisockError:
                return False

        assert wait_until(is_back, 20.0)
    found = []
    subscribe(site.serve(Session).session, found, TOPIC)
    stepped(site, node, lambda: any(each["seq"] == 1 for each in found))


def test_watermark_of_a_batch_that_is_being_stored_is_left_out(node):
    taken, locked = [], threading.Event()

    class Slow:
        def add(self, timeline):
            pass

        def on_batch(self, batch):
            locked.set()
            release.wait(20.0)

    release = threading.Event()
    node.listen(Slow())
    source = node.sources[0]
    assert node.take_watermark("strain", taken.append)
    storing = threading.Thread(target=lambda: source.emit("strain", [node.clock.now()], {"strain": [1.0]}))
    storing.start()
    assert locked.wait(20.0)
    assert not node.take_watermark("strain", taken.append)
    release.set()
    storing.join()
    assert node.take_watermark("strain", taken.append)
    assert [each.seq for each in taken] == [0, 1]


def test_watermark_is_read_back():
    for mark in (Watermark(3, 12.5, 1.0, 2), Watermark(0, None, 7.0)):
        assert watermark_of(mark.as_dict()) == mark


@pytest.mark.parametrize(
    "content",
    [
        None,
        "x",
        [],
        {},
        {"seq": 1},
        {"seq": -1, "finalized_until": 1.0, "since": 1.0, "reset": 0},
        {"seq": 1.5, "finalized_until": 1.0, "since": 1.0, "reset": 0},
        {"seq": 1, "finalized_until": "x", "since": 1.0, "reset": 0},
        {"seq": 1, "finalized_until": float("nan"), "since": 1.0, "reset": 0},
        {"seq": 1, "finalized_until": 1.0, "since": None, "reset": 0},
        {"seq": 1, "finalized_until": 1.0, "since": 1.0, "reset": True},
        {"seq": 1, "finalized_until": 1.0, "since": 1.0, "reset": None},
    ],
)
def test_rubbish_is_no_watermark(content):
    with pytest.raises(BadAnswer, match="a watermark has"):
        watermark_of(content)
