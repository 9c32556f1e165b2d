"""Events of OCS feeds, put in by hand; tests/site/test_ocs.py has real agents."""

import time

import numpy as np
import pytest

from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval, SystemClock
from sisock_nodes.ocs_feed.settings import OcsFeedSettings
from sisock_nodes.ocs_feed.source import OcsFeeds

EVER = Interval(0.0, 1e11)


class Events:
    """A subscription that a test hands events to."""

    def open(self, put):
        self.put = put

    def close(self):
        pass

    def event(self, **blocks):
        self.put([blocks, {"agent_address": "observatory.agent", "feed_name": "feed", "record": True}])

    def block(self, t, name="block", **columns):
        data = {key: [value] for key, value in columns.items()}
        block = {"block_name": name, "data": data, "timestamps": [t]}
        about = {"agent_address": "observatory.agent", "feed_name": "feed", "record": True}
        self.put([{name: block}, about])


@pytest.fixture
def fed():
    events = Events()
    source = OcsFeeds(OcsFeedSettings(type="ocs-feed"), events, SystemClock())
    node = Node("n", None, [source], HistorySettings(keep=1e11))
    node.start()
    yield node, events
    node.stop()


def column(node, name):
    until = time.monotonic() + 60.0
    while not (found := node.history.read([name], EVER).timelines):
        assert time.monotonic() < until
        time.sleep(0.01)
    (samples,) = found.values()
    return samples.columns[name].tolist()


def until(holds):
    deadline = time.monotonic() + 60.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for(node, name, values):
    deadline = time.monotonic() + 60.0
    while True:
        try:
            return np.testing.assert_array_equal(column(node, name), values)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def test_block_whose_keys_and_types_change_is_stored_all_the_while(fed):
    node, events = fed
    t = time.time() - 10.0
    events.block(t, a=1.0, word="x")
    events.block(t + 1, a=2.0, word="y", b=True)  # it gets one
    events.block(t + 2, b=False, c=7)  # it loses some
    events.block(t + 3, a="broken", b=True, word="z", c=8)  # and one has another type
    events.block(t + 3.5, name="other", a=5.0, d=6.0)  # a name that the first block has
    events.block(t + 3.5, name="other", a=5.0, d=6.0, c=9.0)
    nan = float("nan")
    wait_for(node, "agent.feed.a", [1.0, 2.0, nan, nan])
    wait_for(node, "agent.feed.word", ["x", "y", "", "z"])
    wait_for(node, "agent.feed.b", [False, True, False, True])
    wait_for(node, "agent.feed.c", [nan, nan, 7.0, 8.0])
    wait_for(node, "agent.feed.other.a", [5.0])
    wait_for(node, "agent.feed.other.c", [9.0])
    (agent,) = node.sources[0].parts
    until(lambda: agent.counters["samples"] == 6)  # counted when they are stored
    assert (agent.counters["filled"], agent.counters["bad_values"]) == (1, 1)
    wait_for(node, "agent.feed.a.text", ["", "", "", "broken"])
    assert node.status()["counters"]["bad_batches"] == 0


def test_types_are_found_from_what_comes_and_become_wider(fed):
    node, events = fed
    t = time.time() - 10.0
    events.block(t, x=None, flag=True, word=None)
    events.block(t + 1, x=2.5, flag=False, word="a")
    events.block(t + 2, x=None, flag=3.5, word="b")
    nan = float("nan")
    wait_for(node, "agent.feed.x", [nan, 2.5, nan])
    wait_for(node, "agent.feed.flag", [1.0, 0.0, 3.5])
    wait_for(node, "agent.feed.word", ["", "a", "b"])
    assert node.status()["counters"]["bad_batches"] == 0


def test_what_is_odd_in_a_message_costs_itself(fed):
    node, events = fed
    t = time.time() - 10.0
    events.event(
        good={"block_name": "good", "timestamps": [t, None, t + 2], "data": {"x": [1, 2, "err"], "y": [5, [6], 7]}},
        short={"block_name": "short", "timestamps": [t, t + 1], "data": {"u": [1, 2], "v": [1], "w": 3}},
        bad={"block_name": "bad", "timestamps": "now", "data": {}},
    )
    nan = float("nan")
    wait_for(node, "agent.feed.x", [1.0, nan])
    wait_for(node, "agent.feed.x.text", ["", "err"])
    wait_for(node, "agent.feed.y", [5.0, 7.0])
    wait_for(node, "agent.feed.u", [1.0, 2.0])
    (agent,) = node.sources[0].parts
    until(lambda: agent.counters["events"] == 1)
    counts = agent.counters.as_dict()
    assert {name: counts[name] for name in ("bad_blocks", "bad_columns", "untimed", "bad_values")} == {
        "bad_blocks": 1,
        "bad_columns": 2,
        "untimed": 1,
        "bad_values": 1,
    }


def test_units_marks_and_bools_of_settings():
    events = Events()
    values = {"x": {"units": "K"}, "agent.feed.valve": {"bool_texts": ["open", "closed"]}}
    settings = OcsFeedSettings(type="ocs-feed", values=values, missing=["-9999"])
    node = Node("n", None, [OcsFeeds(settings, events, SystemClock())], HistorySettings(keep=1e11))
    node.start()
    try:
        t, nan = time.time() - 10.0, float("nan")
        events.block(t, x=-9999.0, valve="open")
        events.block(t + 1, x=4.5, valve="ajar")
        wait_for(node, "agent.feed.valve", [True, False])
        wait_for(node, "agent.feed.valve.text", ["", "ajar"])
        wait_for(node, "agent.feed.x", [nan, 4.5])
        (timeline,) = node.history.timelines
        assert {field.name: field.units for field in timeline.fields}["agent.feed.x"] == "K"
    finally:
        node.stop()


def test_agent_that_is_gone_is_noticed_also_after_the_clock_was_set_back():
    events, clock = Events(), StepClock()
    source = OcsFeeds(OcsFeedSettings(type="ocs-feed"), events, clock)
    node = Node("n", None, [source], HistorySettings(keep=1e11), clock)
    node.start()
    try:
        events.put([{}, {"agent_address": "observatory.agent", "feed_name": "heartbeat", "record": False}])
        until(lambda: [part.counters["heartbeats"] for part in source.parts] == [1])
        clock.jump(-3600.0)
        clock.step(6.0)
        until(lambda: source.parts[0].counters["expired"] == 1)
    finally:
        node.stop()
