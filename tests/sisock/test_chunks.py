"""Answers in chunks: cut anywhere, they are whole again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadAnswer
from sisock.fields import Reply, Samples
from sisock.wamp.chunks import Assembly, chunks, envelope, is_chunkable
from sisock.wamp.replies import decode, encode, measure, validate_answer


def answer(lengths, gaps=()):
    timelines = {}
    for i, n in enumerate(lengths):
        t = 1.7e9 + np.arange(n)
        columns = {
            f"x{i}": np.where(t % 5 == 0, np.nan, np.sin(t)),
            f"i{i}": t.astype(np.int32),
            f"b{i}": t % 2 == 0,
            f"s{i}": np.array([f"ä{int(v) % 7}" for v in t], object),
        }
        timelines[f"tl{i}"] = Samples(t, columns, 5.0, list(gaps), 3, 4)
    return Reply(timelines, ("nix",))


def sent(whole, size):
    events = list(chunks(whole, measure(whole).bytes, size))
    return events, envelope(whole, len(events))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=3), st.integers(1, 5000))
def test_any_answer_in_chunks_of_any_size_is_the_same_again(lengths, size):
    whole = answer(lengths, [(1.0, 2.0)])
    events, rest = sent(whole, size)
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    got, expected = decode(assembly.whole(rest)), whole
    assert got.empty == expected.empty == ("nix",)
    assert list(got.timelines) == list(expected.timelines)
    for name, samples in expected.timelines.items():
        again = got.timelines[name]
        np.testing.assert_array_equal(again.t, samples.t)
        assert (again.finalized_until, again.gaps, again.dropped, again.late) == (5.0, [(1.0, 2.0)], 3, 4)
        for field, values in samples.columns.items():
            np.testing.assert_array_equal(again.columns[field], values)
            assert again.columns[field].dtype == values.dtype
    assert assembly.received >= 8 * sum(lengths)
    assert assembly.total >= 8 * sum(lengths)


def test_chunk_that_is_missing_or_wrong_is_told():
    events, rest = sent(answer([100]), 800)
    assembly = Assembly()
    assembly.add(events[0])
    with pytest.raises(BadAnswer, match=r"rows from \d+, expected \d+"):
        assembly.add(events[2])
    for broken in ({}, None, {**events[1], "t": "text"}, {**events[1], "data": {"x0": [1.0]}}):
        with pytest.raises(BadAnswer):
            assembly.add(broken)
    with pytest.raises(BadAnswer, match="its end does not state so"):
        assembly.whole(rest)
    with pytest.raises(BadAnswer, match="of 100 samples came"):
        assembly.whole({**rest, "chunks": 1})


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("x0"),
        lambda data: data.update(y=data["x0"]),
        lambda data: data.update(x0=data["i0"]),
        lambda data: data.update(x0=[1.0] * 10),
    ],
    ids=["field lost", "field from nowhere", "other type", "list"],
)
def test_chunk_with_other_fields_than_the_first_is_told_and_nothing_is_made_up(change):
    events, _ = sent(answer([100]), 400)
    assembly = Assembly()
    assembly.add(events[0])
    change(events[1]["data"])
    with pytest.raises(BadAnswer, match="other fields, or types, than the first|another length"):
        assembly.add(events[1])


def test_chunks_of_texts_are_no_larger_than_asked_wherever_the_long_ones_are():
    texts = np.full(5000, "", object)
    texts[3000:3020] = "ä" * 1000
    whole = validate_answer({"data": {"s": texts}, "timeline": {"tl": {"t": np.arange(5000.0)}}})
    for event in chunks(whole, measure(whole).bytes, 10_000):
        assert 8 * len(event["data"]["s"]) + sum(len(s.encode()) + 1 for s in event["data"]["s"]) <= 10_000


@given(st.lists(st.sampled_from(["a", "1", None]), min_size=1, max_size=40), st.integers(1, 100))
def test_texts_that_are_missing_come_back_as_they_do_without_chunks(texts, size):
    whole = validate_answer({"data": {"s": np.array(texts, object)}, "timeline": {"tl": {"t": np.arange(len(texts))}}})
    events, rest = sent(whole, size)
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    got, expected = (decode(each).timelines["tl"] for each in (assembly.whole(rest), encode(whole, "packed")))
    assert got.columns["s"].dtype == expected.columns["s"].dtype
    np.testing.assert_array_equal(got.columns["s"], expected.columns["s"])


def test_answer_without_chunks_is_left_as_it_is():
    assert Assembly().whole(False) is False


def test_false_after_chunks_takes_them_back():
    events, _ = sent(answer([100]), 800)
    assembly = Assembly()
    assembly.add(events[0])
    assert assembly.whole(False) is False


def test_answer_that_does_not_say_what_shares_a_timeline_is_not_cut():
    whole = answer([5, 6])
    sent = encode(whole)
    for timeline in sent["timeline"].values():
        del timeline["field"]
    assert not is_chunkable(validate_answer(sent))
    assert is_chunkable(validate_answer(encode(whole)))
    assert is_chunkable(whole)
