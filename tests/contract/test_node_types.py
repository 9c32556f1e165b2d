"""Every node type that is installed, held to the contract through a real router."""

import itertools
import json
import socket
import struct
import time

import pytest
from confluent_kafka import Producer

from sisock.consumer import BlockingConsumer, in_reactor
from sisock.fields import Field, Timeline, as_batch
from sisock.node import Node, open_node
from sisock.nodetype import load_node_type, node_types
from sisock.recording import create_recording
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.fixtures import free_ports
from sisock.testing.serving import Serving

TYPES = sorted(name for name, point in node_types().items() if point.dist and point.dist.name == "sisock-nodes")


def settings_of(kind, folder):
    """Return the least settings with which a node of the type has data."""
    if kind == "table":
        path = folder / "table.csv"
        path.write_text("time,number,text,flag\n2020-01-01,1.5,a,true\n2020-01-02,,b,false\n2020-01-03,3.5,c,true\n")
        return {"path": path}
    if kind == "recording":
        path = folder / "recording.parquet"
        fields = [Field("number"), Field("text", "string"), Field("flag", "bool")]
        columns = {"number": [1.5, float("nan"), 3.5], "text": ["a", "b", "c"], "flag": [True, False, True]}
        with create_recording(path) as recording:
            recording.append(Timeline("t", fields), as_batch("t", [1e9, 1.1e9, 1.2e9], columns))
        return {"path": path}
    if kind == "udp":
        return {
            "host": "127.0.0.1",
            "port": free_ports(1)[0],
            "sources": {"s": {"byte_format": "<h?3s", "input_names": list("abc")}},
        }
    if kind == "kafka":
        return {"topics": ["contract"], "group": folder.name}
    if kind == "recorder":
        return {"record": ["measured"], "history": {"path": folder / "history"}}
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


@pytest.fixture(params=KINDS)
def served(request, tmp_path, sisock_router, unique):
    kind = request.param
    model = load_node_type(node_types()[kind]).settings
    more = {"servers": request.getfixturevalue("in_kafka")} if kind == "kafka" else {}
    if kind == "recorder":
        request.getfixturevalue("measured")
    node = open_node(unique, model(type=kind, **settings_of(kind, tmp_path), **more), sisock_router.access("server"))
    serving = Serving(sisock_router.access("server"))
    try:
        serving.serve(node)
        if kind == "ocs-feed":  # tests/site/test_ocs.py has a real agent; here its events are put in
            about = {"agent_address": "observatory.agent", "feed_name": "feed", "record": True}
            t = time.time()
            columns = {"number": [1.5, float("nan")], "text": ["a", "b"], "flag": [True, False]}
            node.sources[0]._put([{"block": {"block_name": "block", "data": columns, "timestamps": [t - 1, t]}}, about])
        if kind == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for i in range(3):
                    sender.sendto(struct.pack("<h?3s", i, True, b"abc"), ("127.0.0.1", node.sources[0].ports[0]))
        with BlockingConsumer(sisock_router.access()) as consumer:
            deadline = time.monotonic() + 60.0
            while not (known := set(consumer.fields(unique))) or known != {
                f.name for tl in node.history.timelines for f in tl.fields
            }:
                assert time.monotonic() < deadline, "not all timelines have data"
            yield node, consumer
    finally:
        serving.stop()


@pytest.fixture
def ask(served):
    node, consumer = served
    return lambda procedure, *args, **kwargs: in_reactor(
        lambda: consumer._link.call(10.0, f"consumer.{node.name}.{procedure}", *args, **kwargs)
    ).result(15.0)


def test_fields_and_timelines_name_each_other(served, ask):
    fields, timelines = ask("get_fields", 1, 0)
    assert fields
    for name, field in fields.items():
        assert set(field) == {"description", "timeline", "type", "units"}
        assert field["type"] in ("number", "string", "bool")
        assert name in timelines[field["timeline"]]["field"]
    assert sorted(fields) == sorted(f for timeline in timelines.values() for f in timeline["field"])
    assert ask("get_fields", 1, 2) == [{}, {}]


def test_data_follow_their_timelines_and_types(served, ask):
    fields, timelines = ask("get_fields", 1, 0)
    answer = ask("get_data", [*fields, "no such field"], 1, 0)
    json.dumps(answer, allow_nan=False)
    assert set(answer["data"]) == {*fields, "no such field"}
    assert answer["data"]["no such field"] == []
    assert set(answer["timeline"]) <= set(timelines)
    kinds = {"number": (int, float, type(None)), "string": (str,), "bool": (bool,)}
    for name, field in fields.items():
        values, timeline = answer["data"][name], answer["timeline"][field["timeline"]]
        assert len(values) == len(timeline["t"]) >= 1
        assert all(type(value) in kinds[field["type"]] for value in values)
        assert timeline["t"] == sorted(set(timeline["t"]))


def test_min_stride_holds(served, ask):
    fields, _ = ask("get_fields", 1, 0)
    for stride in (0.5, 100_000.0):
        for timeline in ask("get_data", list(fields), 1, 0, stride)["timeline"].values():
            t = timeline["t"]
            assert all(b - a >= stride for a, b in itertools.pairwise(t))


def test_an_interval_before_everything_is_empty(served, ask):
    fields, _ = ask("get_fields", 1, 0)
    assert ask("get_data", list(fields), 1, 2) == {"data": {name: [] for name in fields}, "timeline": {}}


def test_what_is_said_to_be_final_stays(served, ask):
    fields, _ = ask("get_fields", 1, 0)
    first = ask("get_data", list(fields), 1, 0)
    second = ask("get_data", list(fields), 1, 0)
    for name, field in fields.items():
        before, after = (answer["timeline"][field["timeline"]] for answer in (first, second))
        until = before["finalized_until"]
        n = len(before["t"]) if until is None else sum(t < until for t in before["t"])
        assert after["t"][:n] == before["t"][:n]
        assert second["data"][name][:n] == first["data"][name][:n]


def test_status_and_procedures_answer(served, ask):
    node, _ = served
    status = ask("status")
    json.dumps(status, allow_nan=False)
    assert status["name"] == node.name
    assert set(status["timelines"]) == {timeline.name for timeline in node.history.timelines}
    assert isinstance(ask("procedures"), list)
