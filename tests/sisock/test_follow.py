"""Following a timeline: in order, each sample once, through all losses; without Crossbar."""

import asyncio
import json
import math
from contextlib import asynccontextmanager

import numpy as np
import pytest

from sisock import Field, Timeline
from sisock.base import DataNodeServer
from sisock.consumer import Position, in_reactor
from sisock.consumer.data import Data
from sisock.consumer.delivered import Delivered
from sisock.consumer.following import Following
from sisock.consumer.info import FieldInfo
from sisock.errors import BadAnswer, BadRequest, NoSuchNode, NoSuchTimeline
from sisock.fields import Samples
from sisock.history import Reset
from sisock.node import Node
from sisock.testing import ManualSource, StepClock
from sisock.times import wait_until
from sisock.wamp.publisher import Publisher
from sisock.watermark import SetBack

STRAIN = Timeline("strain", [Field("x")], interval_s=1.0, follows_clock=False, lateness_s=5.0)


class Rig:
    """A node that may be stopped and served again."""

    def __init__(self, site):
        self.site, self.now = site, site.clock.now() - 1000.0
        self.serve()

    def serve(self, timeline=STRAIN):
        self.source = ManualSource(timeline)
        self.node = Node("rig", None, [self.source], clock=self.site.clock)
        self.connection = self.site.serve(self.node)

    def emit(self, values, name="x", **more):
        """Emit samples, a second apart."""
        t = self.now + np.arange(len(values))
        self.now += len(values)
        self.source.emit("strain", t, {name: values}, **more)

    def restart(self, timeline=STRAIN):
        in_reactor(self.connection.stop).result(20.0)
        self.site.clock.step(1.0)  # by its start another run is recognized
        self.serve(timeline)


@pytest.fixture
def site(sisock_stepped_site):
    return sisock_stepped_site


@pytest.fixture
def rig(site):
    return Rig(site)


@pytest.fixture
def consumer(site):
    with site.consumer() as consumer:
        yield consumer


def taken(following, count, name="x"):
    """Return the next `count` values, which may come in any number of batches."""
    values = []
    while len(values) < count:
        values += next(following)[name].tolist()
    return values


def stepped(site, holds):
    def see():
        site.clock.step(1.0)
        return holds()

    assert wait_until(see, 30.0)


def test_past_and_live_come_in_order_and_once(site, rig, consumer):
    rig.emit([0.0, 1.0, 2.0])
    with consumer.follow("rig", "strain", "-1h", clock=site.clock) as following:
        assert taken(following, 3) == [0.0, 1.0, 2.0]
        rig.emit([3.0, 4.0])
        assert taken(following, 2) == [3.0, 4.0]
        assert following.fields == STRAIN.fields
        assert following.counters["fetched"] == 3
        assert following.counters["batches"] == 1
        assert (following.node, following.timeline) == ("rig", "strain")


def test_without_a_start_it_begins_with_what_is_measured_from_then_on(site, rig, consumer):
    rig.emit([0.0, 1.0])
    following = consumer.follow("rig", "strain", wait=True, clock=site.clock)
    waiting = in_thread(taken, following, 1)
    assert wait_until(lambda: rig.node.status() and subscribed(consumer), 20.0)
    rig.emit([2.0])
    assert waiting() == [2.0]


def subscribed(consumer):
    return consumer.status("rig")["timelines"]["strain"]["subscribed"]


def in_thread(function, *arguments):
    """Call a function in a thread; return a function that returns its result."""
    from concurrent.futures import ThreadPoolExecutor

    executor = ThreadPoolExecutor(1)
    future = executor.submit(function, *arguments)
    executor.shutdown(wait=False)
    return lambda: future.result(60.0)


def test_batches_that_the_feed_loses_are_fetched(site, rig, consumer, monkeypatch):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    with monkeypatch.context() as lost:
        lost.setattr(Publisher, "on_batch", lambda *_: None)  # as if the router lost it
        rig.emit([1.0, 2.0])
    rig.emit([3.0])
    assert taken(following, 3) == [1.0, 2.0, 3.0]
    assert following.counters["repairs"] == 1


def test_loss_of_the_last_batch_is_noticed_by_the_watermark(site, rig, consumer, monkeypatch):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    with monkeypatch.context() as lost:
        lost.setattr(Publisher, "on_batch", lambda *_: None)
        rig.emit([1.0, 2.0])
    waiting = in_thread(taken, following, 2)
    stepped(site, lambda: following.counters["fetched"] == 3)
    assert waiting() == [1.0, 2.0]


def test_slow_reader_misses_nothing(site, rig, consumer):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    for i in range(1, 801):
        rig.emit([float(i)])
    assert taken(following, 800) == [float(i) for i in range(1, 801)]
    assert following.counters["missed"] > 0


def test_position_continues_without_loss_or_duplicate(site, rig, consumer):
    rig.emit([float(i) for i in range(10)])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 10) == list(range(10))
    rig.emit([10.0])
    assert taken(following, 1) == [10.0]
    kept = json.loads(json.dumps(following.position.as_dict()))
    following.close()
    late = rig.now - 2.5
    rig.source.emit("strain", [late], {"x": [99.0]})  # sorted in before the newest, among those that were delivered
    rig.emit([11.0])
    continued = consumer.follow("rig", "strain", position=kept, clock=site.clock)
    assert taken(continued, 2) == [99.0, 11.0]
    rig.emit([12.0])
    assert taken(continued, 1) == [12.0]
    assert continued.counters["duplicates"] > 0


def test_node_that_starts_anew_with_other_fields(site, rig, consumer):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    rig.restart(Timeline("strain", [Field("y", "string", "mm")], follows_clock=False, lateness_s=5.0))
    rig.emit(["a", "b"], "y")
    waiting = in_thread(taken, following, 2, "y")
    stepped(site, lambda: following.counters["fetched"] == 3)
    assert waiting() == ["a", "b"]
    assert following.fields == (Field("y", "string", "mm"),)


def test_node_that_is_away_for_a_day_is_waited_for(site, rig, consumer):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    in_reactor(rig.connection.stop).result(20.0)
    waiting = in_thread(next, following)
    site.clock.step(86_400.0)
    rig.serve()
    rig.now += 86_400.0
    rig.emit([1.0])
    stepped(site, lambda: following.counters["fetched"] + following.counters["batches"] >= 2)
    batch = waiting()
    assert batch["x"].tolist() == [1.0]
    assert batch.gap_from is not None  # its memory is empty, so that samples may be missing
    assert following.counters["gaps"] == 1


def test_samples_that_a_reset_removed_come_again(site, rig, consumer):
    rig.emit([0.0, 1.0, 2.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 3) == [0.0, 1.0, 2.0]
    began = rig.now - 3.0
    rig.node.history.set_back("strain", Reset(1, began - 5.0, began + 0.5))
    rig.now = began + 1.0
    rig.emit([10.0, 20.0])
    waiting = in_thread(taken, following, 2)
    stepped(site, lambda: following.counters["set_back"] > 0)
    assert waiting() == [10.0, 20.0]
    assert following.counters["set_back"] == 2


def test_events_that_are_rubbish_are_repaired(site, rig, consumer, caplog):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    for topic in ("feed_packed", "watermark"):
        for rubbish in (None, 7, {"t": 3}, {"seq": "x"}, {"t": [1.0], "data": {"x": [1.0, 2.0]}, "seq": 2}):
            site.router.publish(f"observatory.consumer.rig.{topic}.strain", rubbish)
    rig.emit([1.0])
    assert taken(following, 1) == [1.0]
    assert sum("is not valid" in record.message for record in caplog.records) == 2


def test_array_fields_are_followed(site, consumer):
    source = ManualSource(Timeline("spectra", [Field("s", shape=(3,)), Field("x")], follows_clock=False))
    site.serve(Node("rig", None, [source], clock=site.clock))
    t = site.clock.now() - 100.0
    source.emit("spectra", [t, t + 1], {"s": [[1, 2, 3], [4, 5, 6]], "x": [1, 2]})
    following = consumer.follow("rig", "spectra", "-1h", clock=site.clock)
    assert next(following)["s"].shape == (2, 3)
    source.emit("spectra", [t + 2], {"s": [[7, 8, 9]], "x": [3]})
    assert next(following)["s"].tolist() == [[7, 8, 9]]
    some = consumer.follow("rig", "spectra", "-1h", fields="x", clock=site.clock)
    assert set(next(some).columns) == {"x"}
    source.emit("spectra", [t + 3], {"s": [[7, 8, 9]], "x": [4]})
    batch = next(some)
    assert set(batch.columns) == {"x"}
    assert some.counters["repairs"] == 0


def test_node_that_knows_the_published_contract_alone_is_polled(site, consumer):
    times = [1000.0, 1001.0]

    class Old(DataNodeServer):
        name = "old"

        def get_fields_blocking(self, start, end):
            if not any(start <= t < end for t in times):
                return {}, {}
            about = {"description": None, "timeline": "tl", "type": "number", "units": None}
            return {"x": about}, {"tl": {"interval": None, "field": ["x"]}}

        def get_data_blocking(self, field, start, end, min_stride=None):
            t = [t for t in times if start <= t < end]
            return {"data": {"x": [2 * each for each in t]}, "timeline": {"tl": {"t": t, "finalized_until": None}}}

    site.serve(Old)
    following = consumer.follow("old", "tl", 1.0, clock=site.clock)
    assert taken(following, 2) == [2000.0, 2002.0]
    times += [1002.0]
    waiting = in_thread(taken, following, 1)
    stepped(site, lambda: following.counters["fetched"] == 3)
    assert waiting() == [2004.0]


def test_older_node_without_watermarks_is_looked_at(site, rig, consumer, monkeypatch):
    monkeypatch.setattr("sisock.server.HistoryServer.status", without_watermarks(rig))
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    with monkeypatch.context() as lost:
        lost.setattr(Publisher, "on_batch", lambda *_: None)
        rig.emit([1.0])
    waiting = in_thread(taken, following, 1)
    stepped(site, lambda: following.counters["fetched"] == 2)
    assert waiting() == [1.0]


def without_watermarks(rig):
    return lambda _session: rig.node.status()


def test_what_does_not_exist_is_an_error_unless_it_is_waited_for(site, rig, consumer):
    with pytest.raises(NoSuchNode, match="no node 'rug'"):
        next(consumer.follow("rug", "strain", clock=site.clock))
    with pytest.raises(NoSuchTimeline, match="it has: strain"):
        next(consumer.follow("rig", "stress", clock=site.clock))
    following = consumer.follow("later", "tl", "-1h", wait=True, clock=site.clock)
    waiting = in_thread(taken, following, 1)
    source = ManualSource(Timeline("tl", [Field("x")], follows_clock=False))
    site.serve(Node("later", None, [source], clock=site.clock))
    source.emit("tl", [site.clock.now() - 1.0], {"x": [1.0]})
    stepped(site, lambda: following.counters["fetched"] + following.counters["batches"] == 1)
    assert waiting() == [1.0]


def test_iteration_ends_when_the_consumer_is_closed(site, rig):
    with site.consumer() as consumer:
        following = consumer.follow("rig", "strain", wait=True, clock=site.clock)
        waiting = in_thread(list, following)
        rig.emit([0.0])
        assert wait_until(lambda: subscribed(consumer), 20.0)
    assert len(waiting()) <= 1


def test_timelines_are_merged_by_time(site, consumer):
    sources = {}
    for name in ("one", "two"):
        sources[name] = ManualSource(Timeline("tl", [Field("x")], follows_clock=False, lateness_s=0.0))
        site.serve(Node(name, None, [sources[name]], clock=site.clock))
    t = site.clock.now() - 1000.0
    sources["one"].emit("tl", t + np.arange(10.0), {"x": np.arange(10.0)})
    sources["two"].emit("tl", t + np.arange(0.0, 5.0), {"x": np.arange(0.0, 5.0)})
    parts = consumer.follow_merged([("one", "tl"), ("two", "tl")], "-1h", patience_s=1e6, clock=site.clock)
    found = {key: [] for key in (("one", "tl"), ("two", "tl"))}
    ends = [-math.inf]
    while len(found["two", "tl"]) < 4:
        part = next(parts)
        assert part.start == ends[-1]
        ends.append(part.end)
        for key, batches in part.batches.items():
            for batch in batches:
                assert np.all((batch.t >= part.start) & (batch.t < part.end))
                found[key] += batch["x"].tolist()
        assert part.late == 0
    assert found["one", "tl"] == found["two", "tl"]
    sources["two"].emit("tl", t + np.arange(5.0, 10.0), {"x": np.arange(5.0, 10.0)})
    while len(found["two", "tl"]) < 9:
        for key, batches in next(parts).batches.items():
            found[key] += [x for batch in batches for x in batch["x"].tolist()]
    assert found["one", "tl"] == found["two", "tl"] == [float(i) for i in range(9)]
    with pytest.raises(BadRequest, match="each only once"):
        next(consumer.follow_merged([("one", "tl"), ("one", "tl")], clock=site.clock))


def test_silent_timeline_does_not_hold_up_others_for_ever(site, consumer):
    sources = {}
    for name in ("one", "two"):
        sources[name] = ManualSource(Timeline("tl", [Field("x")], follows_clock=False, lateness_s=0.0))
        site.serve(Node(name, None, [sources[name]], clock=site.clock))
    t = site.clock.now() - 1000.0
    sources["one"].emit("tl", t + np.arange(10.0), {"x": np.arange(10.0)})
    sources["two"].emit("tl", t + np.arange(3.0), {"x": np.arange(3.0)})
    parts = consumer.follow_merged([("one", "tl"), ("two", "tl")], "-1h", patience_s=5.0, clock=site.clock)
    got = []

    def read():
        while sum(len(batch) for part in got for batch in part.batches["one", "tl"]) < 9:
            got.append(next(parts))

    reading = in_thread(read)
    stepped(site, lambda: sum(len(batch) for part in got for batch in part.batches["one", "tl"]) >= 9)
    reading()
    sources["two"].emit("tl", t + np.arange(3.0, 12.0), {"x": np.arange(3.0, 12.0)})
    late = in_thread(lambda: next(part for part in parts if part.late))
    for i in range(12, 24):  # those that are late are counted with the next interval
        for source in sources.values():
            source.emit("tl", [t + i], {"x": [i]})
    assert late().late > 0


class FakeNode:
    """A node whose status, history and feed are scripted."""

    def __init__(self, since=1.0):
        self.since = since
        self.about = {"seq": 5, "finalized_until": 10.0, "newest": 9.0, "oldest": 1.0}
        self.t, self.feed_opened, self.asked = [9.0], asyncio.Event(), 0

    async def status(self, _node):
        return {"since": self.since, "timelines": {"tl": dict(self.about)}}

    async def fields(self, _node, _start, _end):
        return {"x": FieldInfo("x", "number", None, None, "tl", None)}

    async def data(self, node, _fields, start, end):
        self.asked += 1
        t = np.array([t for t in self.t if start <= t < end])
        return Data(node, {"tl": Samples(t, {"x": t}, finalized_until=self.about["finalized_until"])}, (), {})

    @asynccontextmanager
    async def feed(self, _node, feed, *, watermarks):
        self.live, feed.has_watermarks = feed, False
        self.feed_opened.set()
        yield feed


def followed(fake, clock):
    turns = asyncio.Semaphore(2)
    return Following(fake, "n", "tl", lambda: turns, start=1.0, clock=clock)


def test_finality_is_taken_over_only_when_all_before_it_has_come():
    async def main():
        fake, clock = FakeNode(), StepClock(1000.0)
        following = followed(fake, clock)
        assert (await following.next_item()).t.tolist() == [9.0]
        marks, waiting = [], asyncio.create_task(following.next_item())

        async def look(**about):
            nonlocal waiting
            fake.about |= about
            await asyncio.to_thread(clock.wait_for_sleepers, 1)
            clock.step(2.0)
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            if done:
                marks.append(waiting.result().finalized_until)
                waiting = asyncio.create_task(following.next_item())

        await fake.feed_opened.wait()
        await look(finalized_until=10.5)  # perhaps on account of batch 6, stored a moment later
        assert marks == []
        await look(finalized_until=12.0)
        assert marks == [10.5]
        fake.live.put({"t": [13.0], "data": {"x": [13.0]}, "seq": 6, "since": 1.0})
        await look(seq=6, finalized_until=14.0)
        assert marks[1:] == [None]  # the batch itself
        asked = fake.asked
        fake.t += [15.0, 16.0]
        await look(seq=8, newest=16.0)
        assert fake.asked == asked  # they may still be on their way
        for _ in range(4):
            await look(seq=8)
        assert fake.asked > asked
        waiting.cancel()
        await asyncio.wait([waiting])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("since", "seq"),
    [
        (2.0, 6),  # a node that was started anew and has stored five batches before it had its name again
        (1.0, 7),  # one that did not publish a batch
    ],
)
def test_batch_that_does_not_follow_the_last_one_has_the_history_asked_first(since, seq):
    async def main():
        fake = FakeNode()
        following = followed(fake, StepClock(1000.0))
        assert (await following.next_item()).t.tolist() == [9.0]
        fake.t += [9.5]
        fake.about |= {"seq": 7, "newest": 10.0}
        waiting = asyncio.create_task(following.next_item())
        await fake.feed_opened.wait()
        fake.live.put({"t": [10.0], "data": {"x": [10.0]}, "seq": seq, "since": since, "finalized_until": 9.0})
        assert (await asyncio.wait_for(waiting, 20.0)).t.tolist() == [9.5]
        await following.aclose()

    asyncio.run(main())


def test_node_that_does_not_report_its_start_is_asked_for_its_history_once():
    async def main():
        fake, clock = FakeNode(since=None), StepClock(1000.0)
        following = followed(fake, clock)
        assert (await following.next_item()).t.tolist() == [9.0]
        waiting = asyncio.create_task(following.next_item())
        await fake.feed_opened.wait()
        for _ in range(3):
            await asyncio.to_thread(clock.wait_for_sleepers, 1)
            clock.step(2.0)
        fake.live.put({"t": [13.0], "data": {"x": [13.0]}, "seq": 6})
        while not len(item := await asyncio.wait_for(waiting, 20.0)):
            waiting = asyncio.create_task(following.next_item())
        assert item.t.tolist() == [13.0]
        assert following.counters["repairs"] == 0
        await following.aclose()

    asyncio.run(main())


def test_following_that_is_closed_ends_for_a_reader_that_waits(site, rig, consumer):
    rig.emit([0.0])
    following = consumer.follow("rig", "strain", "-1h", clock=site.clock)
    assert taken(following, 1) == [0.0]
    waiting = in_thread(list, following)
    assert wait_until(lambda: subscribed(consumer), 20.0)
    following.close()
    assert waiting() == []
    assert wait_until(lambda: not subscribed(consumer), 20.0)


def test_delivered_samples_are_recognized():
    delivered = Delivered()
    delivered.add(np.array([1.0, 2.0, 2.0, 4.0]))
    t = np.array([1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0])
    assert t[delivered.new(t)].tolist() == [2.0, 3.0, 5.0]
    delivered.advance(2.0)
    assert delivered.times().tolist() == [2.0, 2.0, 4.0]
    assert np.array([0.5, 3.0])[delivered.new(np.array([0.5, 3.0]))].tolist() == [3.0]
    assert delivered.set_back(0.0, 2.0) == 3
    assert t[delivered.new(t)].tolist() == [2.0, 2.0, 2.0, 3.0, 4.0, 5.0]


def test_times_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr("sisock.consumer.delivered._MOST_TIMES", 1000)
    monkeypatch.setattr("sisock.consumer.delivered._FIRST_COMPACTION", 500)
    delivered = Delivered()
    for i in range(100):
        delivered.add(i * 100.0 + np.arange(100.0))
    assert len(delivered.times()) == 1000
    assert delivered.forgotten == 9000


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "Position.as_dict"),
        ({"x": 1}, "Position.as_dict"),
        ({"version": 2}, "version 2"),
        ({"version": 1}, "cannot be read"),
        ({"version": 1, "node": "a", "timeline": "b", "until": "x", "delivered": "", "resets": []}, "cannot be read"),
        ({"version": 1, "node": "a", "timeline": "b", "until": 1.0, "delivered": "?", "resets": []}, "cannot be read"),
        (
            {"version": 1, "node": "a", "timeline": "b", "until": 1.0, "delivered": "AAAA", "resets": []},
            "cannot be read",
        ),
    ],
)
def test_position_that_is_none_is_refused(content, text):
    with pytest.raises(BadRequest, match=text):
        Position.from_dict(content)


def test_position_of_another_timeline_is_refused(site, rig, consumer):
    with pytest.raises(BadRequest, match="this position is of a::b"):
        consumer.follow("rig", "strain", position=Position("a", "b", 1.0))


def test_answers_that_are_rubbish_are_asked_for_again():
    class Rubbish(FakeNode):
        async def data(self, node, fields, start, end):
            if self.asked < 1:
                self.asked += 1
                raise BadAnswer("get_data of node 'n' is not valid")
            return await super().data(node, fields, start, end)

    async def main():
        fake, clock = Rubbish(), StepClock(1000.0)
        turns = asyncio.Semaphore(2)
        following = Following(fake, "n", "tl", lambda: turns, start=1.0, wait=True, clock=clock)
        waiting = asyncio.create_task(following.next_item())
        await asyncio.to_thread(clock.wait_for_sleepers, 1)
        while not waiting.done():
            clock.step(2.0)
            await asyncio.wait([waiting], timeout=0.1)
        assert waiting.result().t.tolist() == [9.0]
        assert following.counters["failures"] == 1
        await following.aclose()

    asyncio.run(main())


def test_set_back_is_an_item():
    async def main():
        fake = FakeNode()
        following = followed(fake, StepClock(1000.0))
        await following.next_item()
        fake.about |= {
            "reset": 1,
            "seq": 6,
            "resets": [{"number": 1, "finalized_until": 5.0, "removed_from": 8.0}],
        }
        waiting = asyncio.create_task(following.next_item())
        await fake.feed_opened.wait()
        fake.live.put({"t": [6.0], "data": {"x": [6.0]}, "seq": 6, "since": 1.0, "reset": 1})
        assert await asyncio.wait_for(waiting, 20.0) == SetBack(1, 5.0, 8.0)
        assert following.finalized_until == 5.0
        await following.aclose()

    asyncio.run(main())
