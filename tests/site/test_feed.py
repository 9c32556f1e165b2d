"""Live feeds: who gets what, and that nobody gets nothing."""

import asyncio
import queue
import threading
import time

import numpy as np
import pytest
from autobahn.wamp.types import SubscribeOptions

from sisock import Consumer, Field, Timeline
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import NoSuchNode, NoSuchTimeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.serving import Serving
from tests.site.links import opened_link


@pytest.fixture
def fed(sisock_router, unique):
    """A source by hand, its node's name, and the connection that serves it."""
    source = ManualSource(Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=0.0, follows_clock=False))
    node = Node(unique, None, [source], HistorySettings(keep=1e12))
    serving = Serving(sisock_router.access("server"))
    source.connection = serving.serve(node)
    yield source, unique
    serving.stop()


class Ticker:
    """Emits one batch after the other."""

    def __init__(self, source):
        self.source, self.t = source, 0.0

    def __call__(self, n=1):
        t = self.t + np.arange(1, n + 1)
        self.t += n
        self.source.emit("tl", t, {"x": t * 2, "s": [f"at {x:g}" for x in t]})


def wait_until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def subscribe(sisock_router):
    """Subscribes a plain WAMP client to a topic."""
    with opened_link(sisock_router.access()) as link:
        session = in_reactor(link.session).result(10.0)

        def subscribing(topic, heard, options=None):
            return in_reactor(lambda: session.subscribe(heard.put, session.uri(topic), options)).result(10.0)

        yield subscribing


def published(consumer, name):
    return consumer.status(name)["counters"].get("published", 0)


def test_plain_subscriber_gets_lists(fed, subscribe):
    source, name = fed
    heard = queue.Queue()
    subscribe(f"consumer.{name}.feed.tl", heard)
    tick = Ticker(source)
    wait_until(lambda: (tick(), not heard.empty())[1])
    event = heard.get()
    t = event["t"][0]
    since = event.pop("since")
    assert since == pytest.approx(time.time(), abs=3600.0)
    assert event == {"t": [t], "data": {"x": [t * 2], "s": [f"at {t:g}"]}, "seq": int(t), "finalized_until": t}


def test_readers_end_when_their_consumer_is_closed(sisock_router, fed):
    source, name = fed
    consumer, heard = BlockingConsumer(sisock_router.access()), queue.Queue()
    consumer.__enter__()

    def read():
        for batch in consumer.subscribe(name, "tl"):
            heard.put(batch)

    reader = threading.Thread(target=read)
    reader.start()
    tick = Ticker(source)
    wait_until(lambda: (tick(), not heard.empty())[1])
    consumer.__exit__(None, None, None)
    reader.join(60.0)
    assert not reader.is_alive()


def test_nothing_is_published_until_somebody_is_subscribed_and_again_when_nobody_is(sisock_router, fed, subscribe):
    source, name = fed
    tick, heard = Ticker(source), queue.Queue()
    with BlockingConsumer(sisock_router.access()) as consumer:
        for _ in range(10):
            tick()
        assert published(consumer, name) == 0
        subscription = subscribe(f"consumer.{name}.feed.tl", heard)
        wait_until(lambda: (tick(), not heard.empty())[1])
        in_reactor(subscription.unsubscribe).result(10.0)

        def silent():
            before = published(consumer, name)
            tick()
            return published(consumer, name) == before

        wait_until(silent)


@pytest.mark.parametrize(
    ("topic", "match"),
    [("consumer.{name}.", "prefix"), ("consumer.{name}.feed.", "wildcard"), ("consumer..feed.tl", "wildcard")],
)
def test_subscribers_by_pattern_are_served_too(fed, subscribe, topic, match):
    source, name = fed
    heard = queue.Queue()
    subscribe(topic.format(name=name), heard, SubscribeOptions(match=match))
    tick = Ticker(source)
    wait_until(lambda: (tick(), not heard.empty())[1])


def test_subscriber_that_was_there_before_the_node_is_served(sisock_router, subscribe, unique):
    heard = queue.Queue()
    subscribe(f"consumer.{unique}.feed.tl", heard)
    source = ManualSource(Timeline("tl", [Field("x"), Field("s", "string")], follows_clock=False))
    serving = Serving(sisock_router.access("server"))
    serving.serve(Node(unique, None, [source], HistorySettings(keep=1e12)))
    Ticker(source)()
    assert heard.get(timeout=60.0)["data"]["x"] == [2.0]
    serving.stop()


def test_consumer_iterates_over_batches_with_nothing_lost_in_between(sisock_router, fed):
    source, name = fed
    tick, got = Ticker(source), []
    done = threading.Event()
    with BlockingConsumer(sisock_router.access()) as consumer:

        def follow():
            for batch in consumer.subscribe(name, "tl"):
                got.append(batch)
                if len(got) == 20:
                    break
            done.set()

        threading.Thread(target=follow, daemon=True).start()
        wait_until(lambda: (tick(3), got)[1])
        wait_until(lambda: (tick(3), done.is_set())[1])
    assert [batch.seq for batch in got] == list(range(got[0].seq, got[0].seq + 20))
    t = np.concatenate([batch.t for batch in got])
    np.testing.assert_array_equal(np.diff(t), 1.0)
    np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in got]), t * 2)
    assert sum(batch.missed for batch in got) == 0


def test_slow_reader_gets_the_newest_and_is_told_what_it_missed(sisock_router, fed):
    source, name = fed
    tick = Ticker(source)
    with BlockingConsumer(sisock_router.access()) as consumer:
        batches = consumer.subscribe(name, "tl", buffer=5)
        got = []
        reader = threading.Thread(target=lambda: got.append(next(batches)), daemon=True)
        reader.start()
        wait_until(lambda: (tick(), not reader.is_alive())[1])
        last, heard = got[0].seq, []

        def follow():
            for batch in consumer.subscribe(name, "tl", buffer=1000):
                heard.append(batch.seq)

        threading.Thread(target=follow, daemon=True).start()
        wait_until(lambda: (tick(), heard)[1])
        for _ in range(200):
            tick()
        newest = int(consumer.status(name)["timelines"]["tl"]["newest"])
        # All of the 200 have come: what waits is the newest five, and the rest is counted.
        wait_until(lambda: heard[-1] == newest)
        seen = [next(batches) for _ in range(5)]
        batches.close()
    assert seen[-1].seq == newest
    assert sum(b.missed for b in seen) + len(seen) == newest - last


def test_asyncio_consumer_asks_and_follows(sisock_router, fed):
    source, name = fed
    tick = Ticker(source)

    async def play():
        async with Consumer(sisock_router.access()) as consumer:
            assert name in [node.name for node in await consumer.nodes()]
            tick(5)
            data = await consumer.data(name, ["x", "s"], start=1e-9, end=100.0)
            assert data["x"].tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
            assert set(await consumer.fields(name)) == {"x", "s"}
            assert (await consumer.status(name))["name"] == name
            assert await consumer.procedures(name) == []
            ticking = asyncio.create_task(keep_ticking())
            async for batch in consumer.subscribe(name, "tl"):
                assert batch["x"][0] == batch.t[0] * 2
                break
            ticking.cancel()

    async def keep_ticking():
        while True:
            tick()
            await asyncio.sleep(0.01)

    asyncio.run(play())


def test_unknown_node_and_timeline_are_named(sisock_router, fed):
    _, name = fed
    with BlockingConsumer(sisock_router.access()) as consumer:
        with pytest.raises(NoSuchTimeline, match=f"node '{name}' has no timeline 'nix'; it has: tl"):
            next(consumer.subscribe(name, "nix"))
        with pytest.raises(NoSuchNode):
            next(consumer.subscribe("nobody", "tl"))
