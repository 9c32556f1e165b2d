"""A node: what it stores, passes on and counts."""

from types import SimpleNamespace

import pytest

from sisock import Field, Timeline
from sisock.errors import BadData
from sisock.node import Node
from sisock.outage import Health
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval
from sisock.wamp.publisher import _matches, feed_topic

EVER = Interval(0.0, 1e12)


@pytest.fixture
def source():
    return ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))


@pytest.fixture
def node(source):
    node = Node("node", "about", [source], HistorySettings(keep=1e12), StepClock())
    node.start()
    yield node
    node.stop()


def test_batches_are_numbered_and_passed_on_as_they_were_stored(node, source):
    heard, added = [], []
    listener = SimpleNamespace(put=heard.append, add=lambda timeline: added.append(timeline.name))
    node.listen(listener)
    source.emit("tl", [2.0, 1.0], {"x": [20, 10]})
    source.emit("tl", [0.5], {"x": [5]})  # late: nothing is stored, nothing is passed on
    source.emit("tl", [3.0], {"x": [30]})
    node.unlisten(listener)
    source.emit("tl", [4.0], {"x": [40]})
    assert [batch.seq for batch in heard] == [1, 2]
    assert heard[0].t.tolist() == [1.0, 2.0]
    assert heard[1].finalized_until == 3.0
    assert added == ["tl"]
    assert node.status()["timelines"]["tl"]["seq"] == 3


def test_timeline_that_comes_later_is_told_of_before_its_batches(node, source):
    told = []
    node.listen(
        SimpleNamespace(put=lambda batch: told.append(batch.seq), add=lambda timeline: told.append(timeline.name))
    )
    new = Timeline("new", [Field("y")], lateness_s=0.0, follows_clock=False)
    assert source.add(new) is None
    source.emit("new", [1.0, 2.0], {"y": [1, 2]})
    assert source.add(new) == 2.0
    assert told == ["tl", "new", 1, "new"]
    with pytest.raises(BadData, match="field 'x' is there 2 times"):
        source.add(Timeline("other", [Field("x")]))
    assert "other" not in node.status()["timelines"]
    assert node.history.read(["y"], EVER).timelines["new"].t.tolist() == [1.0, 2.0]


def test_batch_that_does_not_fit_is_counted_and_said_once(node, source, caplog):
    for _ in range(3):
        source.emit("tl", [1.0], {"y": [1]})
    source.emit("tl", [1.0], {"x": [1]})
    assert node.counters["bad_batches"] == 3
    assert len(caplog.records) == 1
    assert "unknown 'y'" in caplog.records[0].getMessage()
    assert node.history.read(["x"], EVER).timelines["tl"].t.tolist() == [1.0]


def test_sources_before_one_that_cannot_be_started_are_stopped_again(source):
    class Broken(ManualSource):
        def start(self, emit):
            raise OSError("no such device")

    node = Node("node", None, [source, Broken()])
    with pytest.raises(OSError, match="no such device"):
        node.start()
    with pytest.raises(RuntimeError, match="not started"):
        source.emit("tl", [1.0], {"x": [1]})


def test_status_tells_the_counters_of_everything(node, source):
    source.emit("tl", [1.0, 2.0], {"x": [1, 2]})
    status = node.status()
    assert status["counters"] == {"batches": 1, "bad_batches": 0}
    assert status["sources"] == [{"timelines": ["tl"], "counters": {"batches": 1}}]
    assert status["timelines"]["tl"]["samples"] == 2
    assert status["timelines"]["tl"]["newest"] == 2.0


def test_thinning_keeps_all_columns_of_a_timeline_in_step(node, source):
    source.emit("tl", [1.0, 1.5, 2.0, 3.5], {"x": [1, 2, 3, 4]})
    samples = node.history.thinned(["x"], EVER, "first", 1.0).timelines["tl"]
    assert samples.t.tolist() == [1.0, 2.0, 3.5]
    assert samples.columns["x"].tolist() == [1, 3, 4]


def test_topics_of_feeds_are_uris_whatever_the_timeline_is_called():
    assert feed_topic("n", "cpu") == "consumer.n.feed.cpu"
    assert feed_topic("n", "cpu", packed=True) == "consumer.n.feed_packed.cpu"
    assert feed_topic("n", "a b#c") == "consumer.n.feed.a%20b%23c"
    assert feed_topic("n", "a..b") == "consumer.n.feed.a%2E%2Eb"
    assert feed_topic("n", "10%") != feed_topic("n", "10%25")


@pytest.mark.parametrize(
    ("pattern", "match", "matches"),
    [
        ("a.b.c", "exact", True),
        ("a.b", "exact", False),
        ("a.b", "prefix", True),
        ("b", "prefix", False),
        ("a..c", "wildcard", True),
        ("..", "wildcard", True),
        ("a.", "wildcard", False),
        ("a.x.", "wildcard", False),
    ],
)
def test_subscriptions_match_as_wamp_says(pattern, match, matches):
    assert _matches("a.b.c", pattern, match) is matches


def test_node_is_as_healthy_as_the_worst_of_its_outages_and_sources(node, source):
    assert node.status()["health"] == {"state": "ok", "since": node.clock.now(), "error": None, "details": {}}
    source.status = lambda: Health("outage", 5.0, "the sensor does not answer")
    node.outages.failed("the disk", "full")
    assert node.health() == Health("outage", 5.0, "the sensor does not answer; the disk: full")
