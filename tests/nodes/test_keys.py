"""Messages of many devices in one topic, and times of several values."""

import json
import logging
import struct

import numpy as np
import pytest
from pydantic import ValidationError

from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.kafka.topic import Stamps, Topic
from sisock_nodes.records.reader import RecordReader
from sisock_nodes.records.settings import RecordSettings

NOW = 1_700_000_000.0


def topic_of(**settings):
    return Topic("t", KafkaSettings(type="kafka", servers="x", topics=["t"], **settings))


def read(topic, objects, keys=None):
    """Return the rows of each field, as pairs of time and value."""
    values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in objects]
    stamps = Stamps(0, np.arange(len(values)), np.full(len(values), NOW)) if topic.stamped else None
    rows = {}
    for batch in topic.read(values, stamps, NOW + 1e6, keys):
        assert topic.timeline(batch.timeline).fields
        for name, column in batch.columns.items():
            rows.setdefault(name, []).extend(zip(batch.t.tolist(), column.tolist(), strict=True))
    return rows


SENSORS = [{"time": NOW, "sensor": name, "value": x} for name, x in (("north", 1), ("south", 10), ("roof", 100))]


def test_key_is_a_value_of_the_message():
    assert read(topic_of(key="sensor", time={"field": "time"}), SENSORS) == {
        "t.north.value": [(NOW, 1.0)],
        "t.south.value": [(NOW, 10.0)],
        "t.roof.value": [(NOW, 100.0)],
    }


def test_key_is_of_several_values_that_may_be_nested():
    topic = topic_of(key=["site", "about.id"], time={"field": "time"})
    rows = read(
        topic,
        [
            {"time": NOW, "site": "a", "about": {"id": 7, "x": 1}},
            {"time": NOW, "site": "a", "about": {"id": 8, "x": 2}},
            {"time": NOW, "site": "b", "about.id": True, "x": 3},
            {"time": NOW, "site": None, "x": 4},
        ],
    )
    assert rows == {
        "t.a.7.about.x": [(NOW, 1.0)],
        "t.a.8.about.x": [(NOW, 2.0)],
        "t.b.true.x": [(NOW, 3.0)],
        "t.none.none.x": [(NOW, 4.0)],
    }
    assert [timeline.name for timeline in topic.timelines] == ["t.a.7", "t.a.8", "t.b.true", "t.none.none"]


def test_key_of_the_message_comes_before_its_values():
    topic = topic_of(key={"message": True, "values": ["n"]}, time={"field": "time"})
    rows = read(topic, [{"time": NOW, "n": 1, "x": 5}, {"time": NOW, "n": 2, "x": 6}], [b"rig", None])
    assert rows == {"t.rig.1.x": [(NOW, 5.0)], "t.none.2.x": [(NOW, 6.0)]}


def test_keys_beyond_the_limit_are_counted_and_the_first_is_in_the_log(caplog):
    topic = topic_of(key={"values": ["sensor"], "limit": 2}, time={"field": "time"})
    with caplog.at_level(logging.WARNING):
        rows = read(topic, [*SENSORS, SENSORS[2]])
    assert rows.keys() == {"t.north.value", "t.south.value"}
    assert topic.counters["unkeyed"] == 2
    (record,) = caplog.records
    assert "'roof'" in record.getMessage()
    assert "`key.limit`" in record.getMessage()


def test_each_key_has_types_and_settings_of_its_own():
    values = {"value": {"units": "°C"}, "roof.value": {"units": "m", "type": "string"}}
    topic = topic_of(key="sensor", time={"field": "time"}, values=values)
    read(topic, SENSORS)
    about = {field.name: (field.type, field.units) for timeline in topic.timelines for field in timeline.fields}
    assert about == {
        "t.north.value": ("number", "°C"),
        "t.south.value": ("number", "°C"),
        "t.roof.value": ("string", "m"),
    }


def test_records_have_keys_too():
    record = {"byte_format": "<dHd", "input_names": ["t", "id", "x"], "time_index": 0, "output_refs": ["x"]}
    topic = topic_of(format="struct", record=record, key="id")
    rows = read(topic, [struct.pack("<dHd", NOW, 1, 5.0) + struct.pack("<dHd", NOW, 2, 6.0), b"poison"])
    assert rows == {"t.1.x": [(NOW, 5.0)], "t.2.x": [(NOW, 6.0)]}
    assert topic.poison == [1]
    topic = topic_of(format="struct", record=record, key={"message": True})
    rows = read(topic, [struct.pack("<dHd", NOW, 1, 5.0), struct.pack("<dHd", NOW, 1, 6.0)], [b"a", b"\xff"])
    assert sorted(rows.values()) == [[(NOW, 5.0)], [(NOW, 6.0)]]
    with pytest.raises(ValidationError, match="key names 'device'"):
        topic_of(format="struct", record=record, key="device")


@pytest.mark.parametrize("key", [{}, [], {"limit": 5}, {"values": [""]}, 7])
def test_keys_that_name_nothing_are_refused(key):
    with pytest.raises(ValidationError):
        topic_of(key=key)


def test_time_of_several_values_of_a_record():
    settings = RecordSettings(
        byte_format="<qqd",
        input_names=["s", "ns", "x"],
        time_index=[0, 1],
        time={"scale": [1, 1e-9]},
        output_refs=["x"],
    )
    reader = RecordReader(settings, "r", 1e9)
    data = b"".join(struct.pack("<qqd", 1_700_000_000, ns, x) for ns, x in ((0, 1.0), (500_000_000, 2.0)))
    (batch,) = reader.read(settings.layout.records(data), np.full(2, NOW), NOW)
    assert batch.t.tolist() == [NOW, NOW + 0.5]
    assert batch["r.x"].tolist() == [1.0, 2.0]


def test_time_of_several_values_of_an_object():
    topic = topic_of(time={"field": ["stamp.sec", "stamp.nanosec"], "scale": [1, 1e-9]})
    rows = read(topic, [{"stamp": {"sec": 1_700_000_000, "nanosec": ns}, "x": ns} for ns in (0, 250_000_000)])
    assert rows == {"t.x": [(NOW, 0.0), (NOW + 0.25, 250_000_000.0)]}
    assert read(topic, [{"stamp": {"sec": 1}, "x": 1}]) == {}
    assert topic.counters["untimed"] == 1


@pytest.mark.parametrize(
    ("index", "scale"), [([0, 1], 1.0), ([0, 1], [1, 1, 1]), (0, [1, 1e-9]), ([0, 2], [1, 1e-9]), (None, [1, 1e-9])]
)
def test_times_that_do_not_go_together_are_refused(index, scale):
    with pytest.raises(ValidationError, match="time"):
        RecordSettings(byte_format="<qq2s", input_names=["s", "ns", "x"], time_index=index, time={"scale": scale})
