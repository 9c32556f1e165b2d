"""Every node type that is installed, held to the contract through a real router."""

import json
import socket
import struct
import time

import pytest
from confluent_kafka import Producer

from sisock.fields import Field, Timeline, as_batch
from sisock.node import Node, open_node
from sisock.nodetype import load_node_type, node_types
from sisock.recording import create_recording
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.contract import (  # noqa: F401 - collected here
    served,
    test_data_match_their_timelines_and_types,
    test_fields_and_timelines_name_each_other,
    test_interval_before_all_samples_is_empty,
    test_min_stride_holds,
    test_samples_before_the_watermark_stay,
    test_status_and_procedures_answer,
)
from sisock.testing.fixtures import free_ports
from sisock.times import SystemClock
from sisock_nodes.ocs_feed.settings import OcsFeedSettings
from sisock_nodes.ocs_feed.source import OcsFeeds

TYPES = sorted(
    name
    for name, point in node_types().items()
    if point.dist and point.dist.name == "sisock-nodes" and load_node_type(point).make_sources is not None
)


OWN_SOURCE = """
from sisock import Field, Polled, Timeline

class Own(Polled):
    def __init__(self):
        timeline = Timeline("own", [Field("number"), Field("flag", "bool"), Field("text", "string")], interval_s=0.05)
        super().__init__(timeline, lambda: {"number": 1.5, "flag": True, "text": "a"})
"""


def settings_of(kind, folder):
    """Return the least settings with which a node of the type has data."""
    if kind == "table":
        path = folder / "table.csv"
        path.write_text("time,number,text,flag\n2020-01-01,1.5,a,true\n2020-01-02,,b,false\n2020-01-03,3.5,c,true\n")
        return {"path": path}
    if kind in ("file", "recording"):
        path = folder / "recording.parquet"
        fields = [Field("number"), Field("text", "string"), Field("flag", "bool")]
        columns = {"number": [1.5, float("nan"), 3.5], "text": ["a", "b", "c"], "flag": [True, False, True]}
        with create_recording(path) as recording:
            recording.append(Timeline("t", fields), as_batch("t", [1e9, 1.1e9, 1.2e9], columns))
        return {"path": path}
    if kind == "python-source":
        (folder / "own_source.py").write_text(OWN_SOURCE)
        return {"class": "own_source:Own", "path": folder}
    if kind == "udp":
        return {
            "host": "127.0.0.1",
            "port": free_ports(1)[0],
            "sources": {"s": {"byte_format": "<h?3s", "input_names": list("abc")}},
        }
    if kind in ("kafka", "recorder"):
        of_kafka = {"topics": ["contract"], "group": folder.name}
        return of_kafka if kind == "kafka" else {"record": ["measured"], "history": {"path": folder / "history"}}
    # There is no rate before the second reading.
    return {"intervals": {"disks": 0.1, "network": 0.1}} if kind == "host" else {}


@pytest.fixture
def measured(sisock_serve):
    """A node that others record."""
    fields = [Field("number"), Field("text", "string"), Field("flag", "bool")]
    source = ManualSource(Timeline("t", fields, lateness_s=0.0, follows_clock=False))
    sisock_serve(Node("measured", None, [source], HistorySettings(keep=1e11)))
    columns = {"number": [1.5, float("nan"), 3.5], "text": ["a", "b", "c"], "flag": [True, False, True]}
    source.emit("t", [1e9, 1.1e9, 1.2e9], columns)


@pytest.fixture
def in_kafka(servers):
    """Where a broker is that has a topic with three objects."""
    producer = Producer({"bootstrap.servers": servers})
    for i in range(3):
        value = json.dumps({"number": i + 0.5, "text": f"at {i}", "flag": i > 1}).encode()
        producer.produce("contract", value, timestamp=round(time.time() * 1000) + i)
    assert producer.flush(20.0) == 0
    return servers


KINDS = [pytest.param(kind, marks=pytest.mark.xdist_group("kafka") if kind == "kafka" else ()) for kind in TYPES]


class Events:
    """The events of OCS agents; tests/site/test_ocs.py has a real one."""

    def open(self, put):
        self.put = put

    def close(self):
        pass


@pytest.fixture
def events():
    return Events()


@pytest.fixture(params=KINDS)
def node(request, events, tmp_path, sisock_router, unique):
    kind = request.param
    if kind == "ocs-feed":
        return Node(unique, None, [OcsFeeds(OcsFeedSettings(type=kind), events, SystemClock())])
    more = {"servers": request.getfixturevalue("in_kafka")} if kind == "kafka" else {}
    if kind == "recorder":
        request.getfixturevalue("measured")
    settings = load_node_type(node_types()[kind]).settings(type=kind, **settings_of(kind, tmp_path), **more)
    return open_node(unique, settings, sisock_router.access("server"))


@pytest.fixture
def supply(request, events):
    """Send what a node of some types waits for."""

    def send_events(_):
        t = time.time()
        columns = {"number": [1.5, float("nan")], "text": ["a", "b"], "flag": [True, False]}
        about = {"agent_address": "observatory.agent", "feed_name": "feed", "record": True}
        event = {"block": {"block_name": "block", "data": columns, "timestamps": [t - 1, t]}}
        events.put([event, about])

    def send_datagrams(node):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for i in range(3):
                sender.sendto(struct.pack("<h?3s", i, True, b"abc"), ("127.0.0.1", node.sources[0].ports[0]))

    return {"ocs-feed": send_events, "udp": send_datagrams}.get(request.node.callspec.params["node"], lambda _: None)
