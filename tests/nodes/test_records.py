"""Records: their layouts, their times, what is missing between them."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sisock.errors import BadRequest
from sisock_nodes.records.layout import CATMAN_HEADER, catman_layout, struct_layout
from sisock_nodes.records.reader import RecordReader
from sisock_nodes.records.settings import RecordSettings
from sisock_nodes.records.texts import as_text

NOW = 1_700_000_000.0
DAY_S = 86400.0


def settings(**more):
    return RecordSettings(**{"byte_format": "<3d", "input_names": ["a", "b", "t"], "time_index": -1, **more})


def read(reader, data, arrival=None, now=NOW):
    records = reader.layout.records(data)
    arrival = np.full(len(records), now) if arrival is None else np.asarray(arrival, float)
    return list(reader.read(records, arrival, now))


def column_of(batches, name):
    return np.concatenate([batch.columns[name] for batch in batches])


CODES = st.sampled_from("bBhHiIlLqQnN?efdcsp")
ITEMS = st.lists(st.tuples(CODES, st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12)


@given(order=st.sampled_from("<>!=@"), items=ITEMS, data=st.data())
def test_every_format_is_read_as_struct_reads_it(order, items, data):
    """The slow twin: struct itself, a record at a time."""
    items = [(code, max(n, int(code in "sp")), pad) for code, n, pad in items if code not in "nN" or order == "@"]
    byte_format = order + "".join(f"{pad}x {n}{code}" if pad else f"{n}{code}" for code, n, pad in items)
    number = sum(1 if code in "sp" else n for code, n, _ in items)
    if number == 0:
        with pytest.raises(BadRequest, match="has no values"):
            struct_layout(byte_format, [])
        return
    layout = struct_layout(byte_format, [f"v{i}" for i in range(number)])
    size = struct.calcsize(byte_format)
    assert layout.size == size
    raw = data.draw(st.binary(min_size=size, max_size=size)) * 2 + bytes(size)
    theirs = list(zip(*struct.iter_unpack(byte_format, raw), strict=True))
    records = layout.records(raw)
    for index, expected in enumerate(theirs):
        ours, value = layout.column(records, index), layout.values[index]
        assert ours.dtype.isnative
        if value.type == "string":
            texts = [each if value.code == "p" else each.rstrip(b"\0") for each in expected]
            assert ours.tolist() == [as_text(each)[0] for each in texts]
        else:
            np.testing.assert_array_equal(ours, np.array(expected))
            assert (ours.dtype == bool) == (value.code == "?")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"byte_format": "3d"}, "has no byte order; put < "),
        ({"byte_format": ""}, "has no byte order"),
        ({"byte_format": "<3z"}, "has 'z', which is not the type of a value"),
        ({"byte_format": "<2d"}, "has 2 values, input_names has 3 names"),
        ({"byte_format": "<1000000000000d"}, "has 1000000000000 values, input_names has 3 names"),
        ({"byte_format": "<2dP"}, "has 'P', which is not"),
        ({"byte_format": "<dn", "input_names": ["a", "b"]}, "cannot be used"),
        ({"byte_format": None}, "byte_format is missing"),
        ({"input_names": ["a", "a", "t"]}, "'a' more than once"),
        ({"input_names": []}, "at least 1"),
        ({"time_index": 3}, "time_index has 3, but there are 3 values: 0 to 2, or -1 for the last"),
        ({"time_index": -4}, "time_index has -4"),
        ({"byte_format": "<2d3s"}, "is not a number"),
        ({"output_refs": [3]}, "output_refs has 3"),
        ({"output_refs": [0, "a"]}, "more than once"),
        ({"output_refs": ["x"]}, "names 'x', which input_names does not have"),
        ({"units": {"x": "V"}}, "'x', which is not in input_names"),
        ({"catman": True}, "leave out byte_format"),
        ({"single": True}, "single is for catman"),
        ({"time": {"scale": 0}}, "greater than 0"),
        ({"byte_format": "<99999999999999999999d"}, "cannot be used|has 9"),
    ],
)
def test_settings_that_cannot_be(more, message):
    with pytest.raises((ValidationError, BadRequest), match=message):
        settings(**more)


def test_records_become_samples_in_their_own_types():
    chosen = settings(
        byte_format=">hf?5s2xQ",
        input_names=["count", "level", "on", "word", "ms"],
        output_refs=["level", 0, 2, 3],
        time={"scale": 0.001, "offset": 1.0},
        units={"level": "m"},
    )
    reader = RecordReader(chosen, "rig", DAY_S)
    rows = [(-5, 0.5, True, b"one\0\0", 1_700_000_000_500), (7, np.nan, False, b"\xff\xfe", 1_700_000_000_250)]
    (batch,) = read(reader, b"".join(struct.pack(">hf?5s2xQ", *row) for row in rows))
    assert batch.t.tolist() == [NOW + 1.5, NOW + 1.25]
    assert list(batch.columns) == ["rig.level", "rig.count", "rig.on", "rig.word"]
    assert batch["rig.level"].dtype == np.float32
    assert batch["rig.count"].tolist() == [-5, 7]
    assert batch["rig.on"].tolist() == [True, False]
    assert batch["rig.word"].tolist() == ["one", "ÿþ"]
    assert reader.counters.as_dict() | {"decoded": 0} == dict.fromkeys(reader.counters.as_dict(), 0) | {
        "non_finite": 1,
        "bad_bytes": 2,
    }
    level = chosen.fields("rig.")[0]
    assert (level.name, level.type, level.units) == ("rig.level", "number", "m")


def test_times_far_ahead_are_refused_and_counted():
    reader = RecordReader(settings(), "rig", DAY_S)
    rows = [(1.0, 2.0, NOW), (3.0, 4.0, NOW + DAY_S + 1), (5.0, 6.0, struct.unpack(">d", struct.pack("<d", NOW))[0])]
    batches = read(reader, struct.pack("<9d", *sum(rows, ())))
    assert column_of(batches, "rig.a").tolist() == [1.0, 5.0]  # the last is of 1970: late, which the history counts
    assert reader.counters["ahead"] == 1


def test_time_that_counts_from_the_start_is_anchored_at_the_first_record():
    reader = RecordReader(settings(time={"scale": 0.001, "origin": "start"}), "rig", DAY_S)
    (first,) = read(reader, struct.pack("<6d", 0, 0, np.nan, 1, 1, 5000.0), arrival=[NOW - 1, NOW])
    assert first.t[1] == NOW
    (second,) = read(reader, struct.pack("<3d", 2, 2, 7500.0), arrival=[NOW + 99])
    assert second.t.tolist() == [NOW + 2.5]


@pytest.mark.parametrize("single", [False, True])
def test_catman_records_and_their_counter(single):
    names = ["force", "way", "time"]
    chosen = RecordSettings(catman=True, single=single, input_names=names, output_refs=[0, 1], time_index=-1)
    reader = RecordReader(chosen, "rig", DAY_S)

    def record(counter, t, channels=3):
        return struct.pack("<HHI" + ("3f" if single else "3d"), 1, channels, counter, t * 2, t * 3, t)

    batches = read(reader, b"".join(record(n, n) for n in (4, 5, 9, 10)))
    assert [len(batch) for batch in batches] == [2, 2]
    assert (batches[1].gap_from, batches[1].dropped) == (5.0, 3)
    assert column_of(batches, "rig.way").tolist() == [12, 15, 27, 30]
    assert column_of(batches, "rig.force").dtype == (np.float32 if single else np.float64)
    (batch,) = read(reader, record(13, 13.0))
    assert (batch.gap_from, batch.dropped) == (10.0, 2)
    batches = read(reader, record(12, 12.0) + record(13, 13.0) + record(14, 14.0, channels=2))
    assert column_of(batches, "rig.way").tolist() == [36, 39]  # sorted in, or repeated
    expected = {"decoded": 8, "lost": 5, "disordered": 2, "malformed": 1, "ahead": 0, "non_finite": 0, "restarts": 0}
    expected |= {"bad_bytes": 0, "bad_values": 0, "filled": 0}
    assert reader.counters.as_dict() == expected


def test_many_losses_are_taken_together():
    reader = RecordReader(RecordSettings(catman=True, input_names=["x"], time_index=0), "rig", DAY_S)
    record = np.zeros(100, np.dtype([*CATMAN_HEADER.descr, ("x", "<f8")]))
    record["channels"], record["counter"], record["x"] = 1, np.arange(100) * 3, np.arange(100.0)
    batches = read(reader, record.tobytes())
    assert reader.counters["lost"] == 198
    assert sum(batch.dropped for batch in batches) == 198
    assert [batch.gap_from for batch in batches] == [None, 0.0]
    assert batches[1].t[0] == 99.0


@pytest.mark.parametrize("at_once", [False, True])
def test_source_that_starts_anew_goes_on_at_its_arrival(at_once):
    chosen = RecordSettings(byte_format="<d", input_names=["t"], time_index=0, time={"origin": "start", "offset": 5.0})
    reader = RecordReader(chosen, "s", DAY_S)
    runs = [(100.0 + np.arange(5.0), NOW), (np.arange(5.0), NOW + 60.0), (7.0 + np.arange(2.0), NOW + 67.0)]
    if at_once:
        runs = [(np.concatenate([t for t, _ in runs]), np.concatenate([came + t - t[0] for t, came in runs]))]
    found = np.concatenate(
        [
            batch.t
            for t, came in runs
            for batch in reader.read(reader.layout.records(t.tobytes()), np.broadcast_to(came, len(t)), NOW + 100.0)
        ]
    )
    expected = [NOW + np.arange(5.0), NOW + 60.0 + np.arange(5.0), NOW + 67.0 + np.arange(2.0)]
    np.testing.assert_array_equal(found, np.concatenate(expected) + 5.0)
    assert reader.counters["restarts"] == 1


def test_counter_goes_over_its_end():
    reader = RecordReader(RecordSettings(catman=True, input_names=["x"], time_index=0), "rig", DAY_S)
    for counter in (2**32 - 2, 2**32 - 1, 0, 1):
        read(reader, struct.pack("<HHId", 1, 1, counter, 5.0))
    assert reader.counters["lost"] == reader.counters["disordered"] == 0


@pytest.mark.parametrize(
    ("datagrams", "lost", "disordered", "restarts"),
    [
        ([range(100, 104), range(104, 108), range(100, 104), range(108, 110)], 0, 4, 0),  # one is repeated
        ([range(4), range(6, 8), range(4, 6), range(8, 10)], 2, 2, 0),  # two are swapped
        ([range(4), [5], [4], [7], [6], [8]], 2, 2, 0),
        ([range(1000, 1010), range(10), range(12, 14)], 2, 0, 1),  # the device was switched off and on
        ([[2**32 - 2, 0, 2**32 - 1, 1]], 1, 1, 0),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_counter_of_records_that_are_repeated_swapped_or_begin_anew(datagrams, lost, disordered, restarts, at_once):
    reader = RecordReader(RecordSettings(catman=True, input_names=["x"], time_index=0), "rig", DAY_S)
    parts = [b"".join(struct.pack("<HHId", 1, 1, n, 5.0) for n in numbers) for numbers in datagrams]
    batches = [batch for part in ([b"".join(parts)] if at_once else parts) for batch in read(reader, part)]
    counts = reader.counters.as_dict()
    assert (counts["lost"], counts["disordered"], counts["restarts"]) == (lost, disordered, restarts)
    assert sum(batch.dropped for batch in batches) == lost


def test_loss_before_a_record_that_is_refused_is_still_a_gap():
    reader = RecordReader(RecordSettings(catman=True, input_names=["x"], time_index=0), "rig", DAY_S)
    rows = [(0, 1.0), (5, NOW * 2), (6, 2.0)]
    batches = read(reader, b"".join(struct.pack("<HHId", 1, 1, counter, t) for counter, t in rows))
    assert [(batch.t.tolist(), batch.gap_from, batch.dropped) for batch in batches] == [
        ([1.0], None, 0),
        ([2.0], 1.0, 4),
    ]


@given(raw=st.binary(max_size=400), channels=st.integers(1, 4))
def test_whatever_comes_is_read_or_counted(raw, channels):
    reader = RecordReader(RecordSettings(catman=True, input_names=[f"c{i}" for i in range(channels)]), "rig", DAY_S)
    layout = catman_layout([f"c{i}" for i in range(channels)])
    whole = len(raw) // layout.size
    batches = read(reader, raw[: whole * layout.size])
    assert sum(map(len, batches)) + reader.counters["malformed"] == whole == reader.counters["decoded"]


def test_texts_of_records_marks_and_bools():
    settings = RecordSettings(
        byte_format="<4si8sBd",
        input_names=["word", "n", "valve", "on", "x"],
        missing=["-9999", "n/a"],
        types={"on": "bool"},
        bool_texts={"valve": ["open", "closed"]},
    )
    assert {field.name: field.type for field in settings.fields("r.")} == {
        "r.word": "string",
        "r.n": "number",
        "r.valve": "bool",
        "r.valve.text": "string",
        "r.on": "bool",
        "r.on.text": "string",
        "r.x": "number",
    }
    reader = RecordReader(settings, "r", DAY_S)
    rows = [
        (b"caf\xe9", -9999, b"open", 1, 1.5),
        (b"n/a", 5, b"closed", 0, -9999.0),
        (b"b", 6, b"ajar", 2, 2.5),
        (b"c", 7, b"", 1, 3.5),
    ]
    data = b"".join(struct.pack("<4si8sBd", *row) for row in rows)
    (batch,) = reader.read(settings.layout.records(data), np.arange(4.0), 10.0)
    assert batch["r.word"].tolist() == ["café", "", "b", "c"]
    np.testing.assert_array_equal(batch["r.n"], [np.nan, 5, 6, 7])
    np.testing.assert_array_equal(batch["r.x"], [1.5, np.nan, 2.5, 3.5])
    assert batch["r.valve"].tolist() == [True, False, False, False]
    assert batch["r.valve.text"].tolist() == ["", "", "ajar", ""]
    assert batch["r.on"].tolist() == [True, False, False, True]
    assert batch["r.on.text"].tolist() == ["", "", "2", ""]
    counts = reader.counters.as_dict()
    assert (counts["bad_bytes"], counts["bad_values"], counts["filled"]) == (1, 2, 1)
