"""Avro and Protobuf by a real schema registry (Apicurio's, by Confluent's REST interface) from topics of a real broker.

The producers are the client's own serializers. Two things this registry does otherwise than Confluent's: it does not compile
the text of Protobuf schemas (format=serialized), so that here they are what the serializer registers, which are
descriptors; and it has no associations of subjects, so that subjects are named by topics here.
"""

import base64
import json
import time

import numpy as np
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.kafka.registry import Door, RealRegistry
from tests.kafka.test_kafka_source import Log, Read
from tests.nodes.test_schemas import CLASSES, sensor

pytestmark = pytest.mark.xdist_group("kafka")
BY_TOPIC = {"subject.name.strategy": topic_subject_name_strategy}
FIRST = {
    "type": "record",
    "name": "Boiler",
    "namespace": "plant",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "temp", "type": "double"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["ON", "OFF"]}},
    ],
}
SECOND = {**FIRST, "fields": [*FIRST["fields"], {"name": "level", "type": ["null", "float"], "default": None}]}


@pytest.fixture(scope="session")
def registry(jars, tmp_path_factory):
    """A registry that all tests share."""
    registry = RealRegistry(tmp_path_factory.mktemp("registry"))
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


@pytest.fixture
def door(registry):
    door = Door(registry.port)
    yield door
    door.close()


@pytest.fixture
def log(servers):
    return Log(servers)


@pytest.fixture
def read(servers, topic):
    made = []

    def make(**more):
        about = {"topics": [topic], "group": f"g-{topic}", "start": "earliest", **more}
        made.append(Read(servers, **about))
        return made[-1]

    yield make
    for each in made:
        each.node.stop()


@pytest.fixture
def written(registry, topic):
    """What the client's serializers make of values."""
    client = SchemaRegistryClient({"url": registry.url})
    context = SerializationContext(topic, MessageField.VALUE)

    def avro(schema, *values):
        serialize = AvroSerializer(client, json.dumps(schema), conf=BY_TOPIC)
        return [serialize(value, context) for value in values]

    def protobuf(*messages):
        serialize = ProtobufSerializer(type(messages[0]), client, conf={**BY_TOPIC, "use.deprecated.format": False})
        return [serialize(message, context) for message in messages]

    avro.protobuf = protobuf
    yield avro
    client.close()


def rows(t0, count, **more):
    return [{"at": round((t0 + i) * 1000), "temp": i / 2, "state": ["ON", "OFF"][i % 2], **more} for i in range(count)]


def test_avro_by_the_clients_serializer_and_what_is_wrong(log, read, topic, registry, written, caplog):
    log.create(topic)
    t0 = round(time.time()) - 1000.0
    good = written(FIRST, *rows(t0, 4))
    no_such = b"\0" + (999_999).to_bytes(4, "big") + good[0][5:]
    log.write(topic, *good[:2], b'{"json": 1}', None, no_such, good[0][:-1], *good[2:])
    log.write(topic, *written(SECOND, *rows(t0 + 4, 2, level=0.5)), *written(FIRST, *rows(t0 + 6, 1)))
    node = read(format="avro", registry={"url": registry.url}, time={"field": "at"})
    counts = node.counted(topic, 11)
    assert node.samples(f"{topic}.temp").t.tolist() == [t0 + i for i in range(7)]
    assert node.values(f"{topic}.state") == ["ON", "OFF", "ON", "OFF", "ON", "OFF", "ON"]
    level = np.array(node.values(f"{topic}.level"))
    assert level[4:6].tolist() == [0.5, 0.5]
    assert np.isnan(level[[0, 1, 2, 3, 6]]).all()
    expected = {"poison": 3, "empty": 1, "untimed": 0, "decoded": 7, "bad_values": 0, "skipped": 0}
    assert {name: counts[name] for name in expected} == expected
    for offset in (2, 4, 5):
        assert f"cannot be read as avro and is skipped: topic {topic}, partition 0, offset {offset}" in caplog.text
    assert "schema 999999 is not in the registry" in caplog.text


def test_protobuf_by_the_clients_serializer(log, read, topic, registry, written):
    log.create(topic)
    messages = [sensor(), sensor(), CLASSES("plant.Sensor.Inner")(deep=4)]
    for i, message in enumerate(messages[:2]):
        message.at.seconds = round(time.time()) - 100 + i
    values = written.protobuf(*messages[:2])
    assert values[0][5:7] == b"\x02\x02"  # the second message of its file
    log.write(topic, *values, values[0][:9], *written.protobuf(messages[2]))
    node = read(format="protobuf", registry={"url": registry.url}, time={"field": "at"})
    counts = node.counted(topic, 4)
    assert node.samples(f"{topic}.temp").t.tolist() == [m.at.seconds + 0.25 for m in messages[:2]]
    assert node.values(f"{topic}.state") == ["OFF", "OFF"]
    assert node.values(f"{topic}.place.x") == [0.5, 0.5]
    assert node.values(f"{topic}.tags.k") == [4.5, 4.5]
    assert (counts["poison"], counts["untimed"], counts["lists"], counts["bytes"]) == (1, 1, 2, 4)


def test_nothing_is_lost_while_the_registry_is_away(log, read, topic, written, door, tmp_path, caplog):
    log.create(topic, partitions=2)
    t0 = round(time.time()) - 1000.0
    values = written(FIRST, *rows(t0, 40))
    log.write(topic, *values[:10], b"poison", *values[10:20])
    log.write(topic, *values[20:30], partition=1)
    secret = {"url": door.url, "user": "reader", "secret": "hush"}
    about = {"format": "avro", "registry": secret, "time": {"field": "at"}, "history": {"path": tmp_path}}
    about["lateness"] = 1000.0  # the one partition may come before the other
    node = read(**about)
    node.wait(lambda: node.source.counters["registry_errors"] >= 3)
    assert all(count == 0 for count in node.counts(topic).values())
    node.node.stop()
    assert node.source.counters["commits"] == 0
    node = read(**about)
    node.wait(lambda: node.source.counters["registry_errors"] >= 2)
    log.write(topic, *values[30:35])
    door.open()
    counts = node.counted(topic, 36)
    assert len(node.values(f"{topic}.temp")) == 35
    assert node.samples(f"{topic}.temp").t.tolist() == [t0 + i for i in range(35)]
    assert (counts["messages"], counts["poison"], counts["decoded"], counts["skipped"]) == (36, 1, 35, 0)
    assert caplog.text.count("messages wait for it") == 2  # one for each run
    assert caplog.text.count("recovered after") == 1
    assert b"Basic " + base64.b64encode(b"reader:hush") in door.asked
    assert "hush" not in caplog.text + json.dumps(node.node.status())
    door.close()
    log.write(topic, *values[35:38])  # their schema is known
    node.wait(lambda: len(node.values(f"{topic}.temp")) == 38)
    before = node.source.counters["registry_errors"]
    log.write(topic, *written(SECOND, *rows(t0 + 40, 2, level=1.0)))  # of these it is not
    node.wait(lambda: node.source.counters["registry_errors"] >= before + 1)
    log.write(topic, *values[38:40], partition=1)  # the topic waits as a whole
    node.wait(lambda: node.source.counters["registry_errors"] >= before + 3)
    assert len(node.values(f"{topic}.temp")) == 38
    door.open()
    counts = node.counted(topic, 43)
    assert node.values(f"{topic}.level")[-2:] == [1.0, 1.0]
    assert (counts["messages"], counts["poison"], counts["decoded"], counts["skipped"]) == (43, 1, 42, 0)


def test_partitions_that_wait_may_go_to_another_node(log, read, topic, written, door):
    log.create(topic, partitions=2)
    t0 = round(time.time()) - 1000.0
    values = written(FIRST, *rows(t0, 20))
    for partition in range(2):
        log.write(topic, *values[partition * 10 : partition * 10 + 10], partition=partition)
    about = {"format": "avro", "registry": {"url": door.url}, "time": {"field": "at"}}
    one = read(name="one", **about)
    one.wait(lambda: one.source.counters["registry_errors"] >= 2)
    other = read(name="other", **about)
    other.wait(lambda: len(one.source.assigned) == len(other.source.assigned) == 1)
    other.wait(lambda: other.source.counters["registry_errors"] >= 1)
    door.open()
    for node in (one, other):
        node.wait(lambda: len(node.values(f"{topic}.temp")) == 10)  # noqa: B023
        assert node.source.counters["failures"] == 0
    both = sorted([*one.samples(f"{topic}.temp").t, *other.samples(f"{topic}.temp").t])
    assert both == [t0 + i for i in range(20)]
