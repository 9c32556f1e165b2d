"""What a node stores, published to a real broker that may be killed."""

import json
import runpy
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import ValidationError

from sisock import Field, Timeline
from sisock.access import access_from_environment
from sisock.node import Node, open_node
from sisock.nodetype import NodeContext
from sisock.settings import HistorySettings
from sisock.site import load_site
from sisock.testing import ManualSource
from sisock.testing.fixtures import free_ports
from sisock.times import SystemClock
from sisock_nodes.kafka import make_sink
from sisock_nodes.kafka.sink_settings import KafkaSinkSettings
from sisock_nodes.udp.settings import UdpSettings
from tests.kafka.test_kafka_source import EVER, Read

pytestmark = pytest.mark.xdist_group("kafka")
FIELDS = [Field("n"), Field("x"), Field("s", "string"), Field("b", "bool")]
NAMES = ["t", "n", "x", "s", "b"]
FORMAT = {"byte_format": "<dqf4s?", "input_names": NAMES, "time_index": 0}


class Publishing:
    """A node that publishes."""

    def __init__(self, servers, topic, folder, **settings):
        self.source = ManualSource(Timeline("tl", FIELDS, lateness_s=0.0, follows_clock=False))
        here = NodeContext("node", SystemClock(), access_from_environment(), folder)
        sink = make_sink(KafkaSinkSettings(servers=servers, topic=topic, **settings), here)
        self.node = Node("node", None, [self.source], HistorySettings(keep=1e11), sinks=[sink])
        self.node.start()

    def emit(self, t):
        t = np.asarray(t, float)
        n = (t * 10).astype(np.int64)
        s = np.array([f"{i % 7:04d}" for i in range(len(t))], object)
        self.source.emit("tl", t, {"n": n, "x": t.astype(np.float32), "s": s, "b": n % 2 == 0})

    @property
    def status(self):
        return self.node.status()["sinks"][0]

    def wait(self, holds, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.status
            time.sleep(0.02)


@pytest.fixture
def publish(topic, tmp_path):
    made = []

    def make(servers, **settings):
        made.append(Publishing(servers, topic, tmp_path / "state", **settings))
        return made[-1]

    yield make
    for each in made:
        each.node.stop()


@pytest.fixture
def read():
    made = []

    def make(servers, topic, **settings):
        made.append(Read(servers, topics=[topic], group=f"g-{topic}", start="earliest", **settings))
        return made[-1]

    yield make
    for each in made:
        each.node.stop()


def test_records_in_their_own_types_arrive(servers, publish, read, topic):
    node = publish(servers)
    t = time.time() - 100.0 + np.arange(50.0)
    node.emit(t[:20])
    node.emit(t[20:])
    node.wait(lambda: node.status["counters"]["delivered"] == 2)
    assert node.status["waiting"] == 0
    there = read(servers, topic, format="struct", record=FORMAT)
    there.wait(lambda: len(there.values(f"{topic}.n")) == 50)
    ours = node.node.history.read(["n", "x", "s", "b"], EVER).timelines["tl"]
    np.testing.assert_array_equal(there.samples(f"{topic}.n").t, t)
    for name, values in ours.columns.items():
        theirs = there.samples(f"{topic}.{name}").columns[f"{topic}.{name}"]
        np.testing.assert_array_equal(theirs, values)
        assert theirs.dtype == values.dtype


@pytest.mark.parametrize("how", ["json", "msgpack"])
def test_objects_arrive(servers, publish, read, topic, how):
    node = publish(servers, format=how)
    t = time.time() - 100.0 + np.arange(5.0)
    node.emit(t)
    node.wait(lambda: node.status["counters"]["delivered"] == 1)
    there = read(servers, topic, format=how, time={"field": "t"})
    there.wait(lambda: len(there.values(f"{topic}.n")) == 5)
    np.testing.assert_array_equal(there.samples(f"{topic}.n").t, t)
    assert there.values(f"{topic}.s") == ["0000", "0001", "0002", "0003", "0004"]


def test_nothing_is_missing_when_the_broker_is_killed(own_broker, publish, read, topic):
    # It looks for the broker each half second instead of up to 10 s.
    node = publish(own_broker.servers, config={"message.timeout.ms": 5000, "reconnect.backoff.max.ms": 500})
    t0 = time.time() - 1000.0
    node.emit(t0 + np.arange(10.0))  # the broker is not there yet
    node.wait(lambda: node.status["counters"]["errors"] > 0)
    assert node.status["waiting"] == 1
    own_broker.start()
    count = 10
    for killed in range(3):
        for _ in range(200):
            node.emit(t0 + count + np.arange(3.0))
            count += 3
            time.sleep(0.002)
            if _ == 100 and killed < 2:
                own_broker.kill()
        if killed < 2:
            own_broker.start()
    node.wait(lambda: node.status["waiting"] == 0, 120.0)
    assert node.status["counters"]["dropped"] == node.status["counters"]["unwritten"] == 0
    there = read(own_broker.servers, topic, format="struct", record=FORMAT)
    there.wait(lambda: len(there.values(f"{topic}.n")) == count)
    np.testing.assert_array_equal(there.samples(f"{topic}.n").t, t0 + np.arange(count))
    assert len(node.node.history.read(["n"], EVER).timelines["tl"].t) == count


@contextmanager
def publishing(folder, servers, topic, *timelines, **settings):
    """Run a node of several timelines, each of one field, `x`, that publishes JSON; yield its source and its sink."""
    about = {"lateness_s": 0.0, "follows_clock": False}
    source = ManualSource(*(Timeline(name, [Field(f"{name}.x")], **about) for name in timelines))
    here = NodeContext("node", SystemClock(), access_from_environment(), folder)
    settings = KafkaSinkSettings(servers=servers, topic=f"{topic}.{{timeline}}", format="json", **settings)
    sink = make_sink(settings, here)
    node = Node("node", None, [source], HistorySettings(keep=1e11), sinks=[sink])
    node.start()
    try:
        yield source, sink
    finally:
        node.stop()


def wait_for(sink, **wanted):
    deadline = time.monotonic() + 60.0
    while any((status := sink.status())[name] != value for name, value in wanted.items()):
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def create(servers, *topics):
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics(list(topics)).values():
        future.result(20.0)


def test_topic_that_takes_no_message_holds_up_no_other(servers, topic, tmp_path, read, caplog):
    narrow = NewTopic(f"{topic}.narrow", 1, 1, config={"max.message.bytes": "150"})
    create(servers, narrow, NewTopic(f"{topic}.wide", 1, 1))
    with publishing(tmp_path, servers, topic, "narrow", "wide") as (source, sink):
        for i in range(20):
            source.emit("narrow", 1e9 + i + np.arange(50) / 100, {"narrow.x": np.arange(50.0)})
            source.emit("wide", [1e9 + i], {"wide.x": [float(i)]})
        wait_for(sink, waiting=0)
        counts = sink.status()["counters"]
        assert (counts["delivered"], counts["rejected"], counts["errors"]) == (20, 20, 0)
        assert caplog.text.count("refuses a message") == 1
    there = read(servers, f"{topic}.wide", time={"field": "t"})
    there.counted(f"{topic}.wide", 20)
    assert there.values(f"{topic}.wide.wide.x") == list(range(20))


def test_topic_that_is_not_there_waits_apart_until_it_is(own_broker, topic, tmp_path, read, monkeypatch):
    monkeypatch.setattr("sisock_nodes.kafka.delivery._AT_ONCE", 20_000)  # much less than what waits
    with own_broker.properties.open("a") as properties:
        properties.write("auto.create.topics.enable=false\n")
    own_broker.start()
    servers, config = own_broker.servers, {"topic.metadata.propagation.max.ms": 100, "message.timeout.ms": 5000}
    create(servers, NewTopic(f"{topic}.there", 1, 1))
    about = (tmp_path, servers, topic, "away", "there")

    def emit(source, first):
        for i in range(first, first + 100):
            source.emit("away", 1e9 + i + np.arange(20) / 100, {"away.x": 20.0 * i + np.arange(20)})
            source.emit("there", [1e9 + i], {"there.x": [float(i)]})

    with publishing(*about, config=config) as (source, sink):
        emit(source, 0)
        wait_for(sink, waiting=100, refusing=[f"{topic}.away"])
        assert sink.status()["counters"]["delivered"] == 100
    with publishing(*about, config=config) as (source, sink):
        emit(source, 100)
        wait_for(sink, waiting=200, refusing=[f"{topic}.away"])
        create(servers, NewTopic(f"{topic}.away", 1, 1))
        wait_for(sink, waiting=0, refusing=[])
        counts = sink.status()["counters"]
        assert (counts["delivered"], counts["dropped"], counts["rejected"]) == (300, 0, 0)
    assert list(tmp_path.rglob("*.topic")) == []
    there = read(servers, f"{topic}.away", time={"field": "t"})
    there.counted(f"{topic}.away", 200)
    assert there.values(f"{topic}.away.away.x") == list(range(4000))
    assert there.node.history.status()[f"{topic}.away"]["late"] == 0


def test_what_waits_is_delivered_by_the_next_run(servers, publish, read, topic):
    first = publish("127.0.0.1:1")
    t = time.time() - 100.0 + np.arange(5.0)
    first.emit(t)
    first.node.stop()
    second = publish(servers)
    second.wait(lambda: second.status["counters"]["delivered"] == 1)
    there = read(servers, topic, format="struct", record=FORMAT)
    there.wait(lambda: len(there.values(f"{topic}.n")) == 5)


def test_sinks_in_the_site_file(tmp_path):
    about = {"type": "udp", "port": 5000}
    parsed = UdpSettings(**about, publish_to={"kafka": {"servers": "a:1", "format": "json"}})
    assert parsed.publish_to["kafka"].format == "json"
    assert json.loads(parsed.model_dump_json())["publish_to"]["kafka"]["servers"] == "a:1"
    for wrong, message in [
        ({"rabbit": {}}, "sink 'rabbit' is not known; installed: kafka"),
        ({"kafka": {}}, "servers"),
        ({"kafka": {"servers": "a", "topic": "{x}"}}, "may name"),
    ]:
        with pytest.raises(ValidationError, match=message):
            UdpSettings(**about, publish_to=wrong)


def test_rig_of_the_examples_goes_to_kafka_and_comes_back(servers, tmp_path):
    """Both nodes of the example, with other ports and brokers."""
    folder = Path(__file__).parents[2] / "examples" / "rig"
    port, catman, hall = free_ports(3)
    text = (folder / "with-kafka.yaml").read_text().replace("localhost:9092", servers)
    for before, after in ((5000, port), (5001, catman), (5002, hall)):
        text = text.replace(f"port: {before}", f"port: {after}")
    unique = uuid.uuid4().hex[:8]
    text = text.replace("rig.{timeline}", f"{unique}.{{timeline}}").replace("[rig.strain]", f"[{unique}.strain]")
    (tmp_path / "site.yaml").write_text(text)
    found = load_site(tmp_path)
    nodes = {name: open_node(name, each, folder=tmp_path / name) for name, each in found.nodes.items()}
    rig = runpy.run_path(str(folder / "rig.py"))
    rig["main"].__globals__.update(CATMAN_PORT=catman, HALL_PORT=hall)
    nodes["rig"].start()
    try:
        rig["main"]("127.0.0.1", port, 1.5)
        log = nodes["log"]
        log.start()
        field = f"{unique}.strain.beam"
        deadline = time.monotonic() + 60.0
        while True:
            want = nodes["rig"].history.read(["strain.beam"], EVER).timelines["strain"]
            there = log.history.read([field], EVER).timelines.get(f"{unique}.strain")
            if there is not None and len(there.t) == len(want.t) >= 200:
                break
            assert time.monotonic() < deadline, (log.status(), nodes["rig"].status())
            time.sleep(0.05)
        np.testing.assert_array_equal(there.t, want.t)
        np.testing.assert_array_equal(there.columns[field], want.columns["strain.beam"])
    finally:
        for node in nodes.values():
            node.stop()
