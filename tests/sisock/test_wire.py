"""Replies as wire values, and back."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sisock.errors import BadAnswer, BadRequest
from sisock.fields import Batch, Reply, Samples, as_batch
from sisock.serializable import as_list
from sisock.wamp import replies, wire
from sisock.wamp.question import validate_fields

dtypes = st.sampled_from(["<f8", "<f4", ">f8", "<i8", "<i4", "|i1", "|u1", "<u2", "|b1"])
columns = dtypes.flatmap(lambda d: hnp.arrays(np.dtype(d), st.integers(0, 50)))


@given(columns)
def test_packed_arrays_come_back_bit_by_bit(array):
    packed = wire.pack(array)
    back = wire.unpack(packed)
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert packed["dtype"][0] in "<|"


@given(hnp.arrays(np.float64, st.integers(0, 50)))
def test_lists_are_json_and_null_is_what_is_not_finite(array):
    values = as_list(array)
    json.dumps(values, allow_nan=False)
    back = wire.column(values) if len(values) else np.empty(0)
    np.testing.assert_array_equal(back, np.where(np.isfinite(array), array, np.nan))


@pytest.mark.parametrize(
    "packed",
    [
        {"dtype": "<f8", "shape": [2], "data": b"123"},
        {"dtype": "O", "shape": [1], "data": b"12345678"},
        {"dtype": "what", "shape": [1], "data": b""},
        {"dtype": ",", "shape": [1], "data": b""},
        {"shape": [1], "data": b""},
        {"dtype": "<f8", "shape": None, "data": 7},
    ],
)
def test_packed_array_that_is_not_what_it_says_is_a_bad_answer(packed):
    with pytest.raises(BadAnswer):
        wire.unpack(packed)


def test_reply_comes_back_through_both_encodings():
    samples = Samples(
        np.array([1.0, 2.0]),
        {"x": np.array([1.5, np.nan]), "s": np.array(["a", "b"], object), "b": np.array([True, False])},
        finalized_until=1.5,
        gaps=[(0.0, 1.0)],
        dropped=3,
        late=2,
    )
    reply = Reply({"tl": samples}, ("nix",))
    for encoding in ("list", "packed"):
        sent = replies.encode(reply, encoding)
        back = replies.decode(sent)
        assert back.empty == ("nix",)
        got = back.timelines["tl"]
        np.testing.assert_array_equal(got.t, samples.t)
        for name, values in samples.columns.items():
            np.testing.assert_array_equal(got.columns[name], values)
        assert (got.finalized_until, got.gaps, got.dropped, got.late) == (1.5, [(0.0, 1.0)], 3, 2)


def test_published_answer_without_field_lists_is_placed_by_the_nodes_fields():
    answer = {
        "data": {"a": [1, 2], "b": [3, 4]},
        "timeline": {"x": {"t": [1, 2], "finalized_until": None}, "y": {"t": [5, 6], "finalized_until": None}},
    }
    reply = replies.decode(answer, {"a": "x", "b": "y"})
    assert list(reply.timelines["x"].columns) == ["a"]
    assert list(reply.timelines["y"].columns) == ["b"]


@pytest.mark.parametrize(
    "answer", [None, 7, [], {}, {"data": []}, {"data": {}, "timeline": {"t": [1]}}, {"data": {}, "timeline": {"t": {}}}]
)
def test_answer_of_another_form_is_a_bad_answer(answer):
    with pytest.raises(BadAnswer, match="get_data returned"):
        replies.validate_answer(answer, [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 2)), r"field 'x' with shape \(3, 2\)"),
        ([[1], [1, 2], 3], "field 'x', which is not a valid column"),
        (np.zeros(3, complex), "field 'x' as complex128; give numbers, bools or strings"),
        (np.zeros(3, "M8[s]"), "as datetime64"),
        (np.zeros(3, [("x", "f8")]), "give numbers"),
        ([b"\xff", None, 1.0], "values of type bytes; give numbers"),
        ([{"a": 1}, {}, {}], "values of type dict"),
    ],
)
def test_values_that_are_no_column_are_a_bad_answer(values, message):
    with pytest.raises(BadAnswer, match=message):
        replies.validate_answer({"data": {"x": values}, "timeline": {"tl": {"t": [1, 2, 3]}}}, [])


@pytest.mark.parametrize(
    "t",
    [
        *(["a", "b", "c"], [True, True, False], np.zeros((3, 2)), np.zeros(3, "M8[s]")),
        *([1.0, math.nan, 3.0], [1.0, 2.0, math.inf], [1.7e12, 1.7e12, 1.7e12]),
    ],
)
def test_times_that_are_none_are_a_bad_answer(t):
    with pytest.raises(BadAnswer, match="times of timeline 'tl'"):
        replies.validate_answer({"data": {"x": [1, 2, 3]}, "timeline": {"tl": {"t": t}}}, [])


def test_wider_floats_than_others_know_are_float64():
    answer = {"data": {"x": np.arange(3, dtype=np.longdouble)}, "timeline": {"tl": {"t": [1, 2, 3]}}}
    x = replies.validate_answer(answer).timelines["tl"].columns["x"]
    assert (x.dtype, x.tolist()) == (np.float64, [0.0, 1.0, 2.0])


def test_lists_with_none_among_numbers_are_numbers():
    reply = replies.validate_answer({"data": {"a": [None, 1, 2.5]}, "timeline": {"t": {"t": [1, 2, 3]}}}, ["a"])
    np.testing.assert_array_equal(reply.timelines["t"].columns["a"], [np.nan, 1, 2.5])


def test_one_long_text_does_not_widen_the_others():
    texts = wire.column(["x"] * 100_000 + ["y" * 10**7])  # 4 TB as a fixed-width array
    assert texts.dtype == object
    assert len(texts[-1]) == 10**7


def test_texts_are_measured_in_utf_8():
    texts = np.array(["", "abc", "ä€", None], object)
    assert wire.text_sizes(texts).tolist() == [1, 4, 6, 5]
    assert wire.text_sizes(texts[:2]).tolist() == [1, 4]
    assert wire.bytes_of([texts, np.zeros(4, np.float32), np.zeros(4)]) == 16 + 16 + 32
    samples = Samples(np.zeros(4), {"s": texts, "x": np.zeros(4, np.float32)})
    assert replies.measure(Reply({"tl": samples})).bytes == 16 + 16 + 32


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=200), st.sampled_from(["list", "packed"]))
def test_upper_bound_of_the_size_holds(values, encoding):
    from autobahn.wamp.message import Yield
    from autobahn.wamp.serializer import JsonSerializer, MsgPackSerializer

    t = np.arange(len(values), dtype=float) + 1.7e9
    text = np.array(["ä\n\x00"] * len(values), object)
    answer = replies.validate_answer({"data": {"x": np.array(values), "s": text}, "timeline": {"tl": {"t": t}}}, [])
    for serializer in (JsonSerializer(), MsgPackSerializer()):
        encoded = replies.encode(answer, encoding)
        size = len(serializer.serialize(Yield(1, args=[encoded]))[0])
        assert size <= replies.measure(answer).at_most(encoding, serializer.SERIALIZER_ID)


def test_event_comes_back_as_the_batch():
    batch = as_batch("tl", [1.0, 2.0], {"x": [1.0, np.nan], "s": ["a", "b"]}, seq=7, finalized_until=0.5)
    for encoding in ("list", "packed"):
        back = wire.batch_of("tl", wire.event_of(batch, encoding))
        assert (back.seq, back.finalized_until) == (7, 0.5)
        np.testing.assert_array_equal(back["x"], batch["x"])
        assert back["s"].tolist() == ["a", "b"]


@pytest.mark.parametrize("event", [None, {}, {"t": [1], "data": {"x": [1, 2]}, "seq": 1, "finalized_until": None}])
def test_event_of_another_form_is_a_bad_answer(event):
    with pytest.raises((BadAnswer, ValueError)):
        assert isinstance(wire.batch_of("tl", event), Batch)


def test_field_lists_are_checked_and_repeated_names_asked_once():
    assert validate_fields(["b", "a", "b"], 10) == ["b", "a"]
    with pytest.raises(BadRequest, match="11 fields"):
        validate_fields(["x"] * 11, 10)
