"""Avro and Protobuf by schemas of a registry: any bytes, any trouble; the registry itself is a stand-in in memory.

tests/kafka/test_kafka_schemas.py has a real one.
"""

import base64
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import fastavro
import numpy as np
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference
from confluent_kafka.schema_registry.error import SchemaRegistryError
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sisock.errors import BadData, SiteError
from sisock.metrics import Counters
from sisock.site import load_site
from sisock.testing import StepClock
from sisock_nodes.kafka.avro import avro_reader
from sisock_nodes.kafka.errors import NoRegistry
from sisock_nodes.kafka.protobuf import protobuf_reader
from sisock_nodes.kafka.registry import SchemaRegistry
from sisock_nodes.kafka.registry_settings import RegistrySettings
from sisock_nodes.kafka.schemas import SchemaDecoder
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.kafka.topic import Stamps, Topic

NOW = 1_700_000_000.0
SENSOR = {
    "type": "record",
    "name": "Sensor",
    "namespace": "plant",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "temp", "type": ["null", "double"]},
        {"name": "count", "type": "long"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["ON", "OFF"]}},
        {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "raw", "type": "bytes"},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
        {"name": "tags", "type": {"type": "map", "values": "string"}},
        {"name": "many", "type": {"type": "array", "items": "int"}},
        {"name": "where", "type": {"type": "record", "name": "Where", "fields": [{"name": "x", "type": "float"}]}},
        {"name": "was", "type": ["null", "Where"]},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "open", "type": "boolean"},
    ],
}
GOOD = {
    "at": 1_600_000_000_123_456,
    "temp": 1.5,
    "count": 2**40,
    "state": "OFF",
    "cost": b"\xff\x85",
    "raw": b"abc",
    "hash": b"1234",
    "tags": {"a": "b"},
    "many": [1, 2],
    "where": {"x": 0.5},
    "was": None,
    "id": "no uuid at all",
    "open": True,
}
READ = {
    "at": 1_600_000_000.123456,
    "temp": 1.5,
    "count": 2**40,
    "state": "OFF",
    "cost": -1.23,
    "tags": {"a": "b"},
    "many": [1, 2],
    "where": {"x": 0.5},
    "was": None,
    "id": "no uuid at all",
    "open": True,
}


class Client:
    """Schemas in memory, behind the two methods of the client that are used."""

    def __init__(self):
        self.schemas, self.versions, self.asked, self.away = {}, {}, [], None

    def get_schema(self, number, fmt=None):
        self.asked.append(number)
        if self.away:
            raise self.away
        if number not in self.schemas:
            raise SchemaRegistryError(404, 40403, f"no schema {number}")
        return self.schemas[number]

    def get_version(self, subject, version, deleted, fmt=None):
        if self.away:
            raise self.away
        if (subject, version) not in self.versions:
            raise SchemaRegistryError(404, 40402, "no such version")
        return SimpleNamespace(schema=self.versions[subject, version])


class Bench:
    """A decoder, and what it is made of."""

    def __init__(self, reader):
        self.client, self.clock, self.counters = Client(), StepClock(NOW), Counters()
        url = RegistrySettings(url="http://registry")
        self.registry = SchemaRegistry(url, self.clock, self.counters, self.client)
        self.decoder = SchemaDecoder(self.registry, reader, self.clock)
        self.about = Counters()

    def read(self, *values):
        return self.decoder.decoded(values, self.about)


def avro_schema(schema, references=()):
    return Schema(json.dumps(schema), "AVRO", list(references))


def framed(number, payload):
    return b"\0" + number.to_bytes(4, "big") + payload


def plain(schema):
    """Return a schema without logical types, so that values are written as they are."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    return [plain(each) for each in schema] if isinstance(schema, list) else schema


def avro(schema, value, number=1):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), value)
    return framed(number, out.getvalue())


SCALARS = descriptor_pb2.FieldDescriptorProto


def proto_file(name="main.proto", package="plant", dependency=(), syntax="proto3"):
    return descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax=syntax, dependency=dependency)


def add(message, name, kind, type_name=None, repeated=False, optional=False):
    number = len(message.field) + 1
    field = message.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
    if type_name:
        field.type_name = type_name
    if optional:
        field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def rich_proto():
    google = [f"google/protobuf/{name}.proto" for name in ("timestamp", "wrappers", "struct")]
    file = proto_file(dependency=["place.proto", *google])
    file.enum_type.add(name="State").value.extend(
        descriptor_pb2.EnumValueDescriptorProto(name=name, number=i) for i, name in enumerate(["ON", "OFF"])
    )
    file.message_type.add(name="First").field.add(name="only", number=1, type=SCALARS.TYPE_DOUBLE, label=1)
    message = file.message_type.add(name="Sensor")
    entry = message.nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    add(entry, "key", SCALARS.TYPE_STRING)
    add(entry, "value", SCALARS.TYPE_DOUBLE)
    inner = message.nested_type.add(name="Inner")
    add(inner, "deep", SCALARS.TYPE_SINT32)
    for name, kind, more in [
        ("temp", SCALARS.TYPE_DOUBLE, {}),
        ("count", SCALARS.TYPE_INT64, {}),
        ("open", SCALARS.TYPE_BOOL, {}),
        ("word", SCALARS.TYPE_STRING, {}),
        ("state", SCALARS.TYPE_ENUM, {"type_name": ".plant.State"}),
        ("raw", SCALARS.TYPE_BYTES, {}),
        ("perhaps", SCALARS.TYPE_FLOAT, {"optional": True}),
        ("never", SCALARS.TYPE_FLOAT, {"optional": True}),
        ("at", SCALARS.TYPE_MESSAGE, {"type_name": ".google.protobuf.Timestamp"}),
        ("wrapped", SCALARS.TYPE_MESSAGE, {"type_name": ".google.protobuf.Int32Value"}),
        ("free", SCALARS.TYPE_MESSAGE, {"type_name": ".google.protobuf.Struct"}),
        ("place", SCALARS.TYPE_MESSAGE, {"type_name": ".site.Place"}),
        ("inner", SCALARS.TYPE_MESSAGE, {"type_name": ".plant.Sensor.Inner"}),
        ("again", SCALARS.TYPE_MESSAGE, {"type_name": ".plant.Sensor"}),
        ("many", SCALARS.TYPE_INT32, {"repeated": True}),
        ("tags", SCALARS.TYPE_MESSAGE, {"type_name": ".plant.Sensor.TagsEntry", "repeated": True}),
    ]:
        add(message, name, kind, **more)
    place = proto_file("place.proto", "site")
    add(place.message_type.add(name="Place"), "x", SCALARS.TYPE_FLOAT)
    return file, place


def classes(*files):
    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2, struct_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for file in files:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def proto_schema(file, references=()):
    return Schema(base64.b64encode(file.SerializeToString()).decode(), "PROTOBUF", list(references))


FILE, PLACE = rich_proto()
CLASSES = classes(PLACE, FILE)
TO_PLACE = SchemaReference("place.proto", "place", 1)


@pytest.fixture
def avro_bench():
    bench = Bench(avro_reader)
    bench.client.schemas[1] = avro_schema(SENSOR)
    return bench


@pytest.fixture
def proto_bench():
    bench = Bench(protobuf_reader)
    bench.client.schemas[1] = proto_schema(FILE, [TO_PLACE])
    bench.client.versions["place", 1] = proto_schema(PLACE)
    return bench


def sensor():
    message = CLASSES("plant.Sensor")(temp=1.5, count=2**40, open=True, word="é", state=1, raw=b"abc", perhaps=0.0)
    message.at.seconds, message.at.nanos = 1_600_000_000, 250_000_000
    message.wrapped.value = 7
    message.free.update({"a": 1.0, "b": {"c": "d"}})
    message.place.x = 0.5
    message.inner.deep = -3
    message.again.temp = 2.5
    message.many.extend([1, 2])
    message.tags["k"] = 4.5
    return message


def test_every_kind_of_avro_value(avro_bench):
    value = avro(SENSOR, GOOD)
    objects, counts, poison = avro_bench.read(value, value)
    assert (counts, poison) == ([1, 1], [])
    assert objects == [READ, READ]
    assert avro_bench.about["bytes"] == 4
    assert avro_bench.client.asked == [1]


def test_every_kind_of_protobuf_value(proto_bench):
    value = framed(1, b"\x02\x02" + sensor().SerializeToString())  # one index: the second message
    (found,), _, poison = proto_bench.read(value)
    assert poison == []
    again = found.pop("again")
    assert found == {
        "temp": 1.5,
        "count": 2**40,
        "open": True,
        "word": "é",
        "state": "OFF",
        "perhaps": 0.0,
        "at": 1_600_000_000.25,
        "wrapped": 7,
        "free": {"a": 1.0, "b": {"c": "d"}},
        "place": {"x": 0.5},
        "inner": {"deep": -3},
        "many": [],
        "tags": {"k": 4.5},
    }
    assert again == {"temp": 2.5, "count": 0, "open": False, "word": "", "state": "ON", "tags": {}}
    assert proto_bench.about["bytes"] == 2


def test_messages_of_one_file_by_their_indexes(proto_bench):
    first = framed(1, b"\0" + CLASSES("plant.First")(only=2.5).SerializeToString())
    long_first = framed(1, b"\x02\0" + CLASSES("plant.First")(only=2.5).SerializeToString())
    nested = framed(1, b"\x04\x02\x02" + CLASSES("plant.Sensor.Inner")(deep=9).SerializeToString())
    no_such = framed(1, b"\x02\x08")
    objects, _, poison = proto_bench.read(first, long_first, nested, no_such)
    assert objects == [{"only": 2.5}, {"only": 2.5}, {"deep": 9}]
    assert poison == [3]


def test_each_message_by_its_own_schema(avro_bench):
    older = {"type": "record", "name": "Sensor", "fields": [{"name": "temp", "type": "int"}]}
    avro_bench.client.schemas[2] = avro_schema(older)
    objects, _, _ = avro_bench.read(avro(SENSOR, GOOD), avro(older, {"temp": 4}, 2), avro(SENSOR, GOOD))
    assert objects == [READ, {"temp": 4}, READ]


def test_avro_references_that_share_one(avro_bench):
    unit = {"type": "record", "name": "site.Unit", "fields": [{"name": "u", "type": "string"}]}
    left = {"type": "record", "name": "site.Left", "fields": [{"name": "l", "type": "site.Unit"}]}
    right = {"type": "record", "name": "site.Right", "fields": [{"name": "r", "type": "Unit"}]}
    both = {
        "type": "record",
        "name": "site.Both",
        "fields": [{"name": "a", "type": "Left"}, {"name": "b", "type": ["null", "Right"]}],
    }
    to_unit = SchemaReference("site.Unit", "unit", 1)
    client = avro_bench.client
    client.versions |= {
        ("unit", 1): avro_schema(unit),
        ("left", 1): avro_schema(left, [to_unit]),
        ("right", 1): avro_schema(right, [to_unit]),
    }
    refs = [SchemaReference("site.Left", "left", 1), SchemaReference("site.Right", "right", 1)]
    client.schemas[3] = avro_schema(both, refs)
    named = {}
    for schema in (unit, left, right):
        fastavro.parse_schema(schema, named)
    out = io.BytesIO()
    value = {"a": {"l": {"u": "m"}}, "b": {"r": {"u": "s"}}}
    fastavro.schemaless_writer(out, fastavro.parse_schema(both, named), value)
    assert avro_bench.read(framed(3, out.getvalue()))[0] == [value]


LOOP = {"type": "record", "name": "Loop", "fields": [{"name": "next", "type": ["null", "Loop"]}]}
NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}
LISTS = {"type": "record", "name": "Lists", "fields": [{"name": "l", "type": {"type": "array", "items": NOTHING}}]}


@pytest.mark.parametrize(
    ("schema", "payload", "why"),
    [
        (avro_schema(LOOP), b"\x02" * 100_000, "contains itself"),
        (avro_schema(LISTS), b"\xff" * 9 + b"\x01", "take no bytes"),
        (Schema("{", "AVRO"), b"", "cannot be used"),
        (Schema('{"type": "record"}', "AVRO"), b"", "cannot be used"),
        (avro_schema("unknown.Type"), b"", "cannot be used"),
        (Schema("{}", "JSON"), b"{}", "is JSON, not Avro"),
        (avro_schema("double", [SchemaReference("a", "gone", 1)]), b"", "version 1 of gone is not in the registry"),
    ],
)
def test_avro_schemas_that_cannot_be_used(avro_bench, caplog, schema, payload, why):
    avro_bench.client.schemas[5] = schema
    assert avro_bench.read(framed(5, payload), avro(SENSOR, GOOD))[1:] == ([0, 1], [0])
    assert why in caplog.text


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (Schema('syntax = "proto3"; message A {}', "PROTOBUF"), "as text only"),
        (Schema("AAAA", "PROTOBUF"), "as text only"),
        (avro_schema(SENSOR), "is AVRO, not Protobuf"),
        (proto_schema(FILE), "place.proto is imported, but neither referenced nor known"),
        (proto_schema(proto_file(dependency=["main.proto"])), "neither referenced nor known"),
    ],
)
def test_protobuf_schemas_that_cannot_be_used(proto_bench, caplog, schema, why):
    proto_bench.client.schemas[5] = schema
    assert proto_bench.read(framed(5, b"\0"))[1:] == ([0], [0])
    assert why in caplog.text


def test_protobuf_schema_of_types_that_are_not_there(proto_bench, caplog):
    file = proto_file()
    add(file.message_type.add(name="A"), "a", SCALARS.TYPE_MESSAGE, ".no.Such")
    proto_bench.client.schemas[5] = proto_schema(file)
    assert proto_bench.read(framed(5, b"\0"))[2] == [0]
    assert "cannot be used" in caplog.text


def test_what_is_no_record_is_poison(avro_bench):
    avro_bench.client.schemas |= {2: avro_schema("double"), 3: avro_schema({"type": "array", "items": plain(LOOP)})}
    avro_bench.client.schemas[4] = avro_schema({"type": "array", "items": {"type": "map", "values": "int"}})
    several = avro(json.loads(avro_bench.client.schemas[4].schema_str), [{"a": 1}, {"b": 2}], 4)
    objects, counts, poison = avro_bench.read(avro("double", 1.5, 2), several, avro(SENSOR, GOOD) + b"\0")
    assert (objects, counts, poison) == ([{"a": 1}, {"b": 2}], [0, 2, 0], [0, 2])


def test_schema_that_is_not_there_is_asked_for_again_later(avro_bench):
    value = avro(SENSOR, GOOD, 7)
    assert avro_bench.read(value, value)[2] == [0, 1]
    assert avro_bench.read(value)[2] == [0]
    assert avro_bench.client.asked == [7]
    avro_bench.client.schemas[7] = avro_bench.client.schemas[1]
    avro_bench.clock.step(11.0)
    assert avro_bench.read(value)[0] == [READ]


@pytest.mark.parametrize(
    "away",
    [
        ConnectionRefusedError("refused"),
        SchemaRegistryError(401, 40101, "who are you"),
        SchemaRegistryError(404, 404, "wrong path"),
        SchemaRegistryError(503, -1, "starting"),
        KeyError("no such key"),
    ],
)
def test_registry_that_is_away_is_no_poison(avro_bench, caplog, away):
    avro_bench.client.away = away
    value = avro(SENSOR, GOOD)
    for _ in range(3):
        with pytest.raises(NoRegistry):
            avro_bench.read(value)
    assert avro_bench.client.asked == [1]  # it is left alone for a while
    avro_bench.clock.step(1.5)
    with pytest.raises(NoRegistry):
        avro_bench.read(value)
    assert avro_bench.counters["registry_errors"] == 2
    assert caplog.text.count("further failures are counted") == 1
    assert avro_bench.about.as_dict() == {}
    avro_bench.client.away = None
    avro_bench.clock.step(1.5)
    assert avro_bench.read(value)[0] == [READ]
    assert caplog.text.count("recovered after") == 1
    avro_bench.client.away = away
    assert avro_bench.read(value)[0] == [READ]  # what is known is not asked for


AVRO_GOOD = avro(SENSOR, GOOD)
PROTO_GOOD = framed(1, b"\x02\x02" + sensor().SerializeToString(deterministic=True))
DAMAGE = st.binary(max_size=60) | st.binary(max_size=60).map(lambda each: b"\0\0\0\0\1" + each)


def cut_or_changed(value):
    cut = st.integers(0, len(value)).map(lambda n: value[:n])
    changed = st.tuples(st.integers(0, len(value) - 1), st.integers(0, 255)).map(
        lambda each: value[: each[0]] + bytes([each[1]]) + value[each[0] + 1 :]
    )
    return cut | changed | DAMAGE


@pytest.mark.parametrize(
    ("reader", "good"), [(avro_reader, AVRO_GOOD), (protobuf_reader, PROTO_GOOD)], ids=["avro", "protobuf"]
)
@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_are_read_or_poison(reader, good, data):
    bad = data.draw(cut_or_changed(good))
    bench = Bench(reader)
    bench.client.schemas[1] = avro_schema(SENSOR) if reader is avro_reader else proto_schema(FILE, [TO_PLACE])
    bench.client.versions["place", 1] = proto_schema(PLACE)
    how = "avro" if reader is avro_reader else "protobuf"
    about = KafkaSettings(type="kafka", servers="x", topics=["t"], format=how, registry={"url": "http://registry"})
    topic = Topic("t", about, bench.decoder)
    batches = list(topic.read([good, bad, None, good], Stamps(0, np.arange(4), NOW + np.arange(4.0)), NOW))
    assert topic.counters["empty"] == 1
    assert topic.poison in ([], [1])
    assert sum(map(len, batches)) == 3 - len(topic.poison)


@pytest.mark.parametrize("good", [AVRO_GOOD, PROTO_GOOD], ids=["avro", "protobuf"])
def test_no_beginning_of_a_message_passes_for_it(good, avro_bench, proto_bench):
    bench = avro_bench if good is AVRO_GOOD else proto_bench
    whole = bench.read(good)[0]
    for n in range(len(good)):
        objects, _, poison = bench.read(good[:n])
        assert poison == [0] or (bench is proto_bench and objects != whole), n


def test_away_registry_counts_nothing_of_a_topic():
    bench = Bench(avro_reader)
    bench.client.away = ConnectionRefusedError("refused")
    about = KafkaSettings(type="kafka", servers="x", topics=["t"], format="avro", registry={"url": "http://registry"})
    topic = Topic("t", about, bench.decoder)
    before = topic.counters.as_dict()
    with pytest.raises(NoRegistry):
        list(topic.read([AVRO_GOOD, None], Stamps(0, np.arange(2), np.array([NOW, NOW])), NOW))
    assert topic.counters.as_dict() == before


def test_readers_refuse_what_they_do_not_know(avro_bench):
    with pytest.raises(BadData, match="is not a valid number of a schema"):
        avro_reader(2**31, avro_bench.registry)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"format": "avro"}, "needs registry"),
        ({"format": "json", "registry": {"url": "http://a"}}, "has no use for registry"),
        ({"format": "avro", "registry": {"url": "ftp://a"}}, "is not a supported address"),
        ({"format": "avro", "registry": {"url": "http://["}}, "is not an address"),
        ({"format": "avro", "registry": {"url": "http://u:hush@a"}}, "give user and secret"),
        ({"format": "avro", "registry": {"url": "http://a", "secret": "hush"}}, "belong together"),
        ({"format": "avro", "registry": {"url": "http://a", "user": "u"}}, "belong together"),
    ],
)
def test_settings_that_cannot_be(more, message):
    with pytest.raises(ValidationError, match=message):
        KafkaSettings(type="kafka", servers="x", topics=["a"], **more)


def test_secret_is_not_shown():
    about = RegistrySettings(url="https://a", user="u", secret=123456)
    assert about.client()["basic.auth.user.info"] == "u:123456"
    assert "123456" not in f"{about!r} {about} {about.model_dump_json()}"


@pytest.mark.parametrize(
    "wrong",
    [
        "{url: 'http://u:hush@a'}",
        "{url: 'ftp://u:hush@a'}",
        "{url: 'http://a', secret: hush}",
        "{url: 'http://a', secret: [hush], u: x}",
    ],
)
def test_secret_is_not_in_what_is_said_of_a_site_file(tmp_path, wrong):
    text = f"nodes: {{k: {{type: kafka, servers: a, topics: [t], format: avro, registry: {wrong}}}}}"
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(SiteError) as caught:
        load_site(tmp_path)
    assert "registry" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("missing", ["authlib", "fastavro"])
def test_missing_extra_is_named(missing):
    script = f"""
import sys
sys.modules[{missing!r}] = None
from sisock.errors import MissingExtra
from sisock.node import open_node
from sisock_nodes.kafka.settings import KafkaSettings
open_node("n", KafkaSettings(type="kafka", servers="x", topics=["a"]))
try:
    open_node("n", KafkaSettings(type="kafka", servers="x", topics=["a"], format="avro", registry={{"url": "http://a"}}))
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'sisock-nodes[kafka-schemas]'" in done.stdout, done.stderr


def topic_of(bench, how):
    settings = KafkaSettings(type="kafka", servers="x", topics=["t"], format=how, registry={"url": "http://registry"})
    return Topic("t", settings, bench.decoder)


def read_topic(topic, *values):
    stamps = Stamps(0, np.arange(len(values)), NOW + np.arange(float(len(values))))
    found = {}
    for batch in topic.read(values, stamps, NOW + 1e6):
        found |= {name: column.tolist() for name, column in batch.columns.items()}
    return found


def reading(number, kind, value, name="Reading"):
    schema = {"type": "record", "name": name, "fields": [{"name": "x", "type": kind}, {"name": "n", "type": "int"}]}
    return avro_schema(schema), avro(schema, {"x": value, "n": number}, number)


def test_avro_unions_and_schemas_that_change_a_type_become_wider():
    bench = Bench(avro_reader)
    topic = topic_of(bench, "avro")
    kinds = [("boolean", True), ("long", 5), (["null", "double", "string"], "sensor fault"), ("double", 2.5)]
    values = []
    for number, (kind, value) in enumerate(kinds, 1):
        bench.client.schemas[number], each = reading(number, kind, value)
        values.append(each)
    assert read_topic(topic, values[0])["t.x"] == [True]
    found = read_topic(
        topic,
        *values[1:],
        avro(
            {
                "type": "record",
                "name": "Reading",
                "fields": [{"name": "x", "type": ["null", "double", "string"]}, {"name": "n", "type": "int"}],
            },
            {"x": None, "n": 9},
            3,
        ),
    )
    np.testing.assert_array_equal(found["t.x"], [5.0, np.nan, 2.5, np.nan])
    assert found["t.x.text"] == ["", "sensor fault", "", ""]
    assert found["t.n"] == [2, 3, 4, 9]
    assert {field.name: field.type for field in topic.timelines[0].fields}["t.x"] == "number"
    assert (topic.counters["bad_values"], topic.poison) == (1, [])


def test_protobuf_schemas_that_change_a_type_become_wider():
    bench = Bench(protobuf_reader)
    topic = topic_of(bench, "protobuf")
    values = []
    for number, (kind, value) in enumerate(
        [
            (SCALARS.TYPE_BOOL, True),
            (SCALARS.TYPE_INT32, 7),
            (SCALARS.TYPE_STRING, "fault"),
            (SCALARS.TYPE_DOUBLE, 2.5),
        ],
        1,
    ):
        file = proto_file()
        add(file.message_type.add(name="Reading"), "x", kind)
        bench.client.schemas[number] = proto_schema(file)
        message = classes(file)("plant.Reading")(x=value)
        values.append(framed(number, b"\0" + message.SerializeToString()))
    assert read_topic(topic, values[0])["t.x"] == [True]
    found = read_topic(topic, *values[1:])
    np.testing.assert_array_equal(found["t.x"], [7.0, np.nan, 2.5])
    assert found["t.x.text"] == ["", "fault", ""]


def test_avro_text_that_is_not_utf8_costs_itself():
    bench = Bench(avro_reader)
    bench.client.schemas[1], good = reading(1, "string", "cafe")
    topic = topic_of(bench, "avro")
    found = read_topic(topic, good, good.replace(b"cafe", b"caf\xe9"))
    assert found == {"t.x": ["cafe", "café"], "t.n": [1, 1]}
    assert (topic.counters["bad_bytes"], topic.poison) == (1, [])


def test_protobuf_text_that_is_not_utf8_costs_itself(proto_bench):
    file = proto_file()
    inner = file.message_type.add(name="Inner")
    add(inner, "word", SCALARS.TYPE_STRING)
    outer = file.message_type.add(name="Outer")
    add(outer, "x", SCALARS.TYPE_DOUBLE)
    add(outer, "inner", SCALARS.TYPE_MESSAGE, ".plant.Inner")
    add(outer, "n", SCALARS.TYPE_INT32)
    proto_bench.client.schemas[2] = proto_schema(file)
    message = classes(file)("plant.Outer")(x=1.5, n=300, inner={"word": "cafe"})
    good = framed(2, b"\x02\x02" + message.SerializeToString())
    topic = topic_of(proto_bench, "protobuf")
    found = read_topic(topic, good, good.replace(b"cafe", b"caf\xe9"))
    assert found == {"t.x": [1.5, 1.5], "t.inner.word": ["cafe", "café"], "t.n": [300, 300]}
    assert (topic.counters["bad_bytes"], topic.poison) == (1, [])
