"""A node: what it stores, passes on and counts."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from sisock import Field, Timeline
from sisock.errors import BadData
from sisock.history import History
from sisock.node import Node
from sisock.outage import Health
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import Interval
from sisock.wamp.interest import _matches
from sisock.wamp.publisher import feed_topic

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
    listener = SimpleNamespace(on_batch=heard.append, add=lambda timeline: added.append(timeline.name))
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
        SimpleNamespace(on_batch=lambda batch: told.append(batch.seq), add=lambda timeline: told.append(timeline.name))
    )
    new = Timeline("new", [Field("y")], lateness_s=0.0, follows_clock=False)
    assert source.add(new) is None
    source.emit("new", [1.0, 2.0], {"y": [1, 2]})
    assert source.add(new) == 2.0
    assert told == ["tl", "new", 1, "new"]
    with pytest.raises(BadData, match="field 'x' exists 2 times"):
        source.add(Timeline("other", [Field("x")]))
    assert "other" not in node.status()["timelines"]
    assert node.history.read(["y"], EVER).timelines["new"].t.tolist() == [1.0, 2.0]


def test_batch_that_does_not_fit_is_counted_and_logged_once(node, source, caplog):
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
    samples = node.history.downsampled(["x"], EVER, "first", 1.0).timelines["tl"]
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


class HeldSync:
    """Holds up the syncs of files whose path contains a text, until it is released."""

    def __init__(self, monkeypatch, part):
        self.entered, self.released, self._part = threading.Event(), threading.Event(), part
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, fd):
        if self._part in os.readlink(f"/proc/self/fd/{fd}"):
            self.entered.set()
            assert self.released.wait(120.0)
        self._real(fd)


@pytest.fixture
def two(tmp_path):
    """A node on disk with two timelines, and what its listener has got of each."""
    lines = [Timeline(name, [Field(f"{name}.x")], lateness_s=0.0, follows_clock=False) for name in ("slow", "quick")]
    source, heard = ManualSource(*lines), {"slow": [], "quick": []}
    settings = HistorySettings(path=tmp_path / "h", keep=1e12, sync="always", sync_interval=1e6)
    node = Node("node", None, [source], settings, StepClock())
    node.start()
    node.listen(SimpleNamespace(on_batch=lambda batch: heard[batch.timeline].append(batch.seq), add=lambda _: None))
    emit = lambda name, t, **more: source.emit(name, t, {f"{name}.x": t}, **more)  # noqa: E731
    with ThreadPoolExecutor() as threads:
        yield SimpleNamespace(node=node, emit=emit, heard=heard, run=threads.submit, folder=tmp_path / "h")
    node.stop()


def test_slow_sync_of_one_timeline_does_not_hold_up_the_others(two, monkeypatch):
    for name in ("slow", "quick"):
        two.emit(name, [1.0])
    held = HeldSync(monkeypatch, "/0001/")
    waiting = [two.run(two.emit, "slow", [2.0])]
    assert held.entered.wait(60.0)
    waiting.append(two.run(two.emit, "slow", [3.0, 4.0]))

    def others():
        two.emit("quick", [2.0], gap_from=1.5, dropped=3)
        for i in range(3):  # takes another segment each time
            two.emit("quick", [10_000.0 * (i + 1) + k for k in range(3000)])
        listener = SimpleNamespace(on_batch=lambda batch: None, add=lambda _: None)
        two.node.listen(listener)
        two.node.unlisten(listener)
        read = two.node.history.read(["quick.x", "slow.x"], EVER).timelines
        return len(read["quick"].t), read["quick"].dropped, read["slow"].t.tolist(), two.node.status()["timelines"]

    try:
        rows, dropped, slow, status = two.run(others).result(60.0)
        assert not any(each.done() for each in waiting)
    finally:
        held.released.set()
    assert (rows, dropped, slow) == (9002, 3, [1.0])
    assert status["quick"]["seq"] == 5
    assert two.heard["quick"] == [1, 2, 3, 4, 5]
    for each in waiting:
        each.result(60.0)
    assert sorted(two.heard["slow"]) == two.heard["slow"] == [1, 2, 3]


def test_slow_sync_of_the_journal_holds_up_only_those_that_wait_for_it(two, monkeypatch):
    two.emit("quick", [1.0])
    held = HeldSync(monkeypatch, "/catalogue.")
    waiting = two.run(two.emit, "slow", [1.0])  # begins a segment, which the journal must name first
    assert held.entered.wait(60.0)
    try:
        two.run(two.emit, "quick", [2.0], gap_from=1.5, dropped=3).result(60.0)
        two.run(two.emit, "quick", [1.0]).result(60.0)  # late
        found = two.run(two.node.history.read, ["quick.x"], EVER).result(60.0).timelines["quick"]
        assert not waiting.done()
    finally:
        held.released.set()
    assert (found.t.tolist(), found.gaps, found.dropped) == ([1.0, 2.0], [(1.5, 2.0)], 3)
    waiting.result(60.0)
    two.node.stop()
    with History([], HistorySettings(path=two.folder, sync="none", keep=1e12), StepClock()) as again:
        read = again.read(["quick.x", "slow.x"], EVER).timelines
        assert [read[name].t.tolist() for name in ("quick", "slow")] == [[1.0, 2.0], [1.0]]
        assert (read["quick"].gaps, read["quick"].dropped) == ([(1.5, 2.0)], 3)
