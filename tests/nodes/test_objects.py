"""Objects and messages of any content: read, or counted."""

import json
import struct

import msgpack
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadData
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.kafka.topic import Stamps, Topic
from sisock_nodes.ocs_feed.feed import event_of
from sisock_nodes.records.learned import ValueSettings
from sisock_nodes.records.objects import ObjectReader, ObjectTimeSettings

NOW = 1_700_000_000.0
PLAIN = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each, max_size=3)
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "t", "n"]), VALUES, max_size=4)


def reader(**time):
    return ObjectReader("r", ObjectTimeSettings(**time), {"b": ValueSettings(units="V")}, 5.0, 86400.0)


def read(objects, each=None):
    each = each or reader()
    return each, list(each.read(objects, np.full(len(objects), NOW), NOW))


@given(objects=st.lists(OBJECTS, max_size=12), field=st.sampled_from([None, "t", "n.a"]))
def test_any_objects_are_read_or_counted(objects, field):
    each, batches = read(objects, reader(field=field))
    counts = each.counters.as_dict()
    assert counts["decoded"] == len(objects)
    for batch in batches:
        assert set(batch.columns) == {f.name for f in each.timeline.fields}
        kinds = {"number": "f", "bool": "b", "string": "O"}
        for known in each.timeline.fields:
            assert batch[known.name].dtype.kind == kinds[known.type]
            assert len(batch[known.name]) == len(batch)
    if batches:
        assert sum(map(len, batches)) + counts["untimed"] + counts["ahead"] == len(objects)


def test_values_of_another_type_and_missing_ones_are_counted():
    each, (batch,) = read([{"x": 1, "s": "a", "b": True}, {"x": "hot", "s": 5}, {"x": None, "b": "no", "l": [1]}])
    assert batch["r.x"].tolist()[0] == 1.0
    assert np.isnan(batch["r.x"][1:]).all()
    np.testing.assert_array_equal(batch["r.s"], [np.nan, 5.0, np.nan])  # texts among numbers are beside them
    assert batch["r.s.text"].tolist() == ["a", "", ""]
    assert batch["r.x.text"].tolist() == ["", "hot", ""]
    assert batch["r.b"].tolist() == ["true", "", "no"]
    counts = each.counters.as_dict()
    assert (counts["bad_values"], counts["filled"], counts["lists"], counts["non_finite"]) == (2, 1, 1, 4)


def test_times_are_numbers_or_iso():
    each = reader(field="m.t", scale=0.001, offset=1.0)
    rows = [
        {"m": {"t": 5000}, "x": 1},
        {"m": {"t": "2023-11-14T22:13:20Z"}, "x": 2},
        {"m": {"t": "soon"}, "x": 3},
        {"x": 4},
    ]
    _, (batch,) = read(rows, each)
    assert batch.t.tolist() == [6.0, NOW + 1.0]
    assert each.counters["untimed"] == 2
    assert [field.name for field in each.timeline.fields] == ["r.x"]


@pytest.mark.parametrize("how", ["json", "msgpack"])
@given(
    good=st.lists(st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), min_size=1), max_size=5),
    bad=st.binary(max_size=9),
)
def test_poison_among_messages_costs_only_itself(how, good, bad):
    topic = Topic("t", KafkaSettings(type="kafka", servers="x", topics=["t"], format=how))
    encode = orjson.dumps if how == "json" else msgpack.packb
    values = [encode(each) for each in good] + [bad, None]
    batches = list(topic.read(values, Stamps(0, np.arange(len(values)), np.full(len(values), NOW)), NOW))
    assert topic.counters["empty"] == 1
    assert topic.counters["decoded"] >= len(good)
    assert sum(map(len, batches)) <= topic.counters["decoded"]
    assert topic.poison in ([], [len(good)])


@given(values=st.lists(st.binary(max_size=40), max_size=10))
def test_struct_messages_are_whole_records_or_poison(values):
    record = {"byte_format": "<hd", "input_names": ["a", "b"]}
    topic = Topic("t", KafkaSettings(type="kafka", servers="x", topics=["t"], format="struct", record=record))
    batches = list(topic.read(values, Stamps(0, np.arange(len(values)), np.full(len(values), NOW)), NOW))
    whole = [value for value in values if value and len(value) % 10 == 0]
    assert topic.poison == [i for i, value in enumerate(values) if not value or len(value) % 10]
    expected = [row[0] for value in whole for row in struct.iter_unpack("<hd", value)]
    assert [int(a) for batch in batches for a in batch["t.a"]] == expected


@given(argument=VALUES | st.tuples(VALUES, VALUES))
def test_any_event_of_ocs_is_read_or_refused(argument):
    try:
        event = event_of(argument, "observatory")
    except BadData:
        return
    assert event.agent


def test_event_of_ocs():
    about = {"agent_address": "observatory.a.b", "feed_name": "f", "record": True}
    message = {"block": {"block_name": "block", "data": {"x": [1, 2]}, "timestamps": [1.0, 2.0]}}
    event = event_of(json.loads(json.dumps([message, about])), "observatory")
    assert (event.agent, event.feed) == ("a.b", "f")
    block = event.blocks["block"]
    assert (block.t.tolist(), block.values) == ([1.0, 2.0], {"x": [1, 2]})
    assert event_of([message, {**about, "record": False}], "observatory").blocks == {}
    with pytest.raises(BadData):
        event_of([message], "observatory")


def types_of(each):
    return {field.name: field.type for field in each.timeline.fields}


def test_fault_that_is_the_newest_message_does_not_make_later_numbers_texts():
    each = reader()
    each.learn([{"temperature": "sensor fault"}])
    assert types_of(each) == {"r.temperature": "string"}
    _, (batch,) = read([{"temperature": 21.5}, {"temperature": "sensor fault"}, {"temperature": 22}], each)
    assert types_of(each) == {"r.temperature": "number", "r.temperature.text": "string"}
    np.testing.assert_array_equal(batch["r.temperature"], [21.5, np.nan, 22.0])
    assert batch["r.temperature.text"].tolist() == ["", "sensor fault", ""]
    assert each.counters["bad_values"] == 1


def test_text_that_comes_later_is_missing_in_its_field_counted_and_readable():
    each, _ = read([{"x": 1.0}])
    _, (batch,) = read([{"x": "hot"}, {"x": 2.0}], each)
    np.testing.assert_array_equal(batch["r.x"], [np.nan, 2.0])
    assert batch["r.x.text"].tolist() == ["hot", ""]


def test_bool_field_that_gets_numbers_becomes_a_number():
    each, (batch,) = read([{"x": True}])
    assert (types_of(each), batch["r.x"].tolist()) == ({"r.x": "bool"}, [True])
    _, (batch,) = read([{"x": 2.5}, {"x": False}], each)
    assert (types_of(each), batch["r.x"].tolist()) == ({"r.x": "number"}, [2.5, 0.0])


def test_numbers_in_a_field_of_texts_are_texts():
    each, _ = read([{"alarm": "none"}])
    _, (batch,) = read([{"alarm": 5}, {"alarm": "door open"}, {"alarm": True}], each)
    assert batch["r.alarm"].tolist() == ["5", "door open", "true"]


def test_declared_bool_reads_what_means_true_and_false():
    each = ObjectReader("r", ObjectTimeSettings(), {"x": ValueSettings(type="bool")}, 5.0, 86400.0)
    _, (batch,) = read([{"x": 1}, {"x": "on"}, {"x": "no"}, {"x": "broken"}], each)
    assert batch["r.x"].tolist() == [True, True, False, False]
    assert each.counters["bad_values"] == 1
    assert batch["r.x.text"].tolist() == ["", "", "", "broken"]


def test_bare_nan_and_infinity_in_json_cost_only_themselves():
    topic = Topic("t", KafkaSettings(type="kafka", servers="x", topics=["t"]))
    values = [b'{"x": 1.5, "y": 1}', b'{"x": NaN, "y": 2}', b'{"x": -Infinity, "y": 3}', b'{"x": NaN']
    (batch,) = topic.read(values, Stamps(0, np.arange(4), np.full(4, NOW)), NOW)
    assert topic.poison == [3]
    np.testing.assert_array_equal(batch["t.x"], [1.5, np.nan, -np.inf])
    assert batch["t.y"].tolist() == [1, 2, 3]
    assert topic.counters["non_finite"] == 2


@pytest.mark.parametrize("on_disk", [True, False])
def test_history_serves_what_came_before_and_after_a_type_became_wider(on_disk, tmp_path):
    each = reader(field="t")
    path = tmp_path / "history" if on_disk else None
    with History([each.timeline], HistorySettings(path=path), StepClock(NOW)) as history:
        for objects in ([{"x": True}, {"x": False}], [{"x": 2.5}], [{"x": "fault"}, {"x": 3}]):
            rows = [{"t": NOW - 100.0 + each.counters["decoded"] + i, **row} for i, row in enumerate(objects)]
            for batch in each.read(rows, np.empty(len(rows)), NOW):
                history.add(each.timeline)
                assert history.append(batch) is not None
        samples = history.read(["r.x", "r.x.text"], Interval(0.0, NOW)).timelines["r"]
    np.testing.assert_array_equal(samples.columns["r.x"].astype(float), [1.0, 0.0, 2.5, np.nan, 3.0])
    assert [text or "" for text in samples.columns["r.x.text"].tolist()] == ["", "", "", "fault", ""]
    assert bool(samples.epochs) is on_disk


def read_topic(messages, **settings):
    topic = Topic("t", KafkaSettings(type="kafka", servers="x", topics=["t"], **settings))
    rows = {}
    for batch in topic.read(messages, Stamps(0, np.arange(len(messages)), np.full(len(messages), NOW)), NOW):
        rows |= {name: column.tolist() for name, column in batch.columns.items()}
    return topic, rows


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_bytes_that_are_not_utf8_cost_themselves(format):
    odd = (
        b'{"x": 2, "s": "caf\xe9"}' if format == "json" else msgpack.packb({"x": 2, "s": "cafe"}).replace(b"e", b"\xe9")
    )
    good = {"json": orjson.dumps, "msgpack": msgpack.packb}[format]({"x": 1, "s": "é"})
    topic, rows = read_topic([good, odd], format=format)
    assert rows == {"t.x": [1.0, 2.0], "t.s": ["é", "café"]}
    assert (topic.counters["bad_bytes"], topic.poison) == (1, [])


def test_lone_surrogates_are_question_marks_also_in_keys():
    topic, rows = read_topic([b'{"x": 2, "s": "a\\ud800", "\\ud800": 3}'])
    assert rows == {"t.x": [2.0], "t.s": ["a?"], "t.?": [3.0]}
    assert topic.poison == []


def test_numbers_beyond_float64_are_infinite():
    topic, rows = read_topic([b'{"x": 1, "y": %s}' % digits for digits in (b"1e400", b"-" + b"9" * 400, b"9" * 6000)])
    assert rows == {"t.x": [1.0] * 3, "t.y": [np.inf, -np.inf, np.inf]}
    assert (topic.counters["non_finite"], topic.poison) == (3, [])


def test_byte_order_mark_and_control_characters_cost_nothing():
    topic, rows = read_topic([b'\xef\xbb\xbf{"x": 1, "s": "a\tb"}'])
    assert (rows, topic.poison) == ({"t.x": [1.0], "t.s": ["a\tb"]}, [])


def test_object_that_is_nested_too_deep_costs_itself():
    deep = b'{"x": 2, "d": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001
    topic, rows = read_topic([b'{"x": 1}', deep])
    assert rows == {"t.x": [1.0, 2.0]}
    assert topic.counters["deep"] == 1


def test_msgpack_of_bytes_time_stamps_and_keys_that_are_no_texts():
    values = [{"x": 1, 5: 2}, {"x": b"ab", "raw": b"ab"}, {"x": 3, "at": msgpack.Timestamp(5, 500_000_000)}]
    topic, rows = read_topic([msgpack.packb(each) for each in values], format="msgpack")
    np.testing.assert_array_equal(rows.pop("t.x"), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(rows.pop("t.5"), [2.0, np.nan, np.nan])
    np.testing.assert_array_equal(rows.pop("t.at"), [np.nan, np.nan, 5.5])
    assert rows == {}
    assert (topic.counters["bad_values"], topic.poison) == (2, [])


def test_fields_beyond_the_most_are_counted():
    each = reader()
    _, (batch,) = read([{f"k{i}": i for i in range(6000)}, {f"l{i}": i for i in range(6000)}], each)
    assert len(batch.columns) == len(each.timeline.fields) == 10_000
    assert each.counters["excess"] == 2000


def test_missing_marks_are_compared_as_numbers_where_both_are():
    marked = {"missing": ["-9999", "n/a"]}
    values = [
        {"x": -9999, "y": -9999, "s": "-9999", "b": True, "n": 1},
        {"x": -9999.0, "y": -9999.0, "s": " n/a ", "b": "n/a", "n": "-9999.0"},
        {"x": 2.5, "y": 2.5, "s": "a", "b": False, "n": " -9.999e3 "},
        {"x": "n/a", "y": -9998, "s": "-9999.0", "b": None, "n": ""},
    ]
    topic, rows = read_topic([orjson.dumps(each) for each in values], **marked)
    np.testing.assert_array_equal(rows["t.x"], [np.nan, np.nan, 2.5, np.nan])
    np.testing.assert_array_equal(rows["t.y"], [np.nan, np.nan, 2.5, -9998.0])
    np.testing.assert_array_equal(rows["t.n"], [1.0, np.nan, np.nan, np.nan])
    assert rows["t.s"] == ["", "", "a", "-9999.0"]
    assert rows["t.b"] == [True, False, False, False]
    assert rows.keys() == {"t.x", "t.y", "t.n", "t.s", "t.b"}
    assert topic.counters["bad_values"] == 0


def test_bool_by_two_texts_of_a_setting():
    topic, rows = read_topic(
        [orjson.dumps({"valve": each}) for each in ("Open", "closed", "ajar", True, 1, None)],
        values={"valve": {"bool_texts": ["open", "closed"]}},
    )
    assert rows["t.valve"] == [True, False, False, True, False, False]
    assert rows["t.valve.text"] == ["", "", "ajar", "", "1", ""]
    assert (topic.counters["bad_values"], topic.counters["filled"]) == (2, 1)


def test_key_that_was_missing_so_far_becomes_what_comes():
    each = reader()
    _, (batch,) = read([{"alarm": "", "x": ""}], each)
    assert types_of(each) == {"r.alarm": "number", "r.x": "number"}
    _, (batch,) = read([{"alarm": "door open", "x": 5}], each)
    assert (batch["r.alarm"].tolist(), batch["r.x"].tolist()) == (["door open"], [5.0])
    assert types_of(each) == {"r.alarm": "string", "r.x": "number"}


def test_key_of_the_name_of_a_field_of_texts_is_another_field():
    each, _ = read([{"x": 1}, {"x": "hot"}])
    _, (batch,) = read([{"x": 2, "x.text": "mine"}], each)
    assert batch["r.x.text"].tolist() == [""]
    assert batch["r.x.text_"].tolist() == ["mine"]
