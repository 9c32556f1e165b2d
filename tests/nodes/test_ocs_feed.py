"""Events of OCS feeds, put in by hand; tests/site/test_ocs.py has real agents."""

import time

import numpy as np
import pytest

from sisock.node import Node
from sisock.site import HistorySettings
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
    assert (agent.counters["filled"], agent.counters["bad_values"]) == (2, 1)
    assert node.status()["counters"]["bad_batches"] == 0
