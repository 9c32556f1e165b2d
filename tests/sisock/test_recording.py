"""Recordings: what is written is read back, and what is damaged is named."""

import builtins
import json
import math
import sys

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sisock.recording.csv
from sisock.errors import BadData, BadRequest, MissingExtra, NoSuchTimeline
from sisock.fields import Batch, Field, Timeline, as_batch
from sisock.recording import FORMATS, create_recording, format_of, open_recording
from sisock.times import Interval

formats = pytest.mark.parametrize("format", FORMATS)


def write(path, *appended, format=None, **more):
    """Write a recording of (timeline, batch) or (timeline, batch, gaps)."""
    with create_recording(path, format, **more) as recording:
        for each in appended:
            recording.append(*each)
    return path


def read(path, timeline=None, format=None, rows=100_000):
    """Return the times and the columns of a timeline, all batches in one."""
    with open_recording(path, format) as recording:
        timeline = timeline or recording.timelines[0].name
        batches = list(recording.batches(timeline, rows))
    assert all(0 < len(batch) <= rows for batch in batches)
    t = np.concatenate([batch.t for batch in batches]) if batches else np.empty(0)
    names = [field.name for tl in recording.timelines if tl.name == timeline for field in tl.fields]
    return t, {name: np.concatenate([batch[name] for batch in batches]) for name in names} if batches else {}


text = st.text(st.characters(codec="utf-8"), max_size=10)
name = text.filter(bool)
dtypes = st.sampled_from(["<f8", "<f4", "<i8", "<i4", "<u8", "|i1", "<u2"])


@st.composite
def recorded(draw, kind=None):
    """Draw a timeline and batches of it that go together."""
    fields = [
        Field(n, draw(st.sampled_from(["number", "bool", "string"])), draw(st.none() | text), draw(st.none() | text))
        for n in draw(st.lists(name, min_size=1, max_size=4, unique=True))
    ]
    timeline = Timeline(draw(name), fields, draw(st.none() | st.floats(0.001, 1e9)), 0.0, follows_clock=False)
    kinds = {field.name: draw(dtypes) for field in fields}
    batches = []
    for n in draw(st.lists(st.integers(0, 5), min_size=1, max_size=3)):
        columns = {}
        for field in fields:
            if field.type == "number":
                columns[field.name] = draw(hnp.arrays(kinds[field.name], n))
            elif field.type == "bool":
                columns[field.name] = draw(hnp.arrays("|b1", n))
            else:
                values = np.empty(n, object)
                values[:] = draw(st.lists(text, min_size=n, max_size=n))
                columns[field.name] = values
        batches.append(Batch(timeline.name, draw(hnp.arrays("<f8", n)), columns))
    return timeline, batches


def same(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        there = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a[there]), np.signbit(b[there]))


@pytest.mark.parametrize("gathered", [1, 1_000_000])
@formats
@given(recorded(), st.integers(1, 5))
@settings(max_examples=40)
def test_what_is_written_is_read_back(format, gathered, tmp_path_factory, monkeypatch, drawn, rows):
    monkeypatch.setattr(sisock.recording, "_GATHERED", gathered)
    monkeypatch.setattr(sisock.recording.csv, "_BLOCK", 7 * gathered)
    timeline, batches = drawn
    path = tmp_path_factory.mktemp("round") / "x"
    try:
        write(path, *((timeline, batch) for batch in batches), format=format)
    except BadData as error:
        assert format == "hdf5"
        assert "NULL" in error.message  # texts end at a NUL there
        assert not path.exists()
        return
    with open_recording(path, format) as recording:
        assert recording.timelines == [timeline]
        assert recording.samples(timeline.name) == sum(map(len, batches))
    t, columns = read(path, format=format, rows=rows)
    same(t, np.concatenate([batch.t for batch in batches]))
    for field, values in columns.items():
        same(values, np.concatenate([batch[field] for batch in batches if len(batch)]))


@formats
def test_origin_units_and_gaps_are_kept(format, tmp_path):
    timeline = Timeline("tl", [Field("x", units="µV", description="what"), Field("t"), Field("_t")], 0.5)
    batch = as_batch("tl", [1.0, 2.0, 8.0], {"x": [1, 2, 3], "t": [4, 5, 6], "_t": [7, 8, 9]})
    path = write(
        tmp_path / "r",
        (timeline, batch, [(2.0, 8.0)]),
        (timeline, as_batch("tl", [20.0], {"x": [4], "t": [5], "_t": [6]}, gap_from=9.0), [(2.0, 8.0)]),
        format=format,
        node="lab.one",
        interval=Interval(0.5, 30.0),
    )
    with open_recording(path, format) as recording:
        assert (recording.node, recording.interval) == ("lab.one", Interval(0.5, 30.0))
        assert recording.gaps("tl") == [(2.0, 8.0), (9.0, 20.0)]
        assert recording.timelines[0].interval_s == 0.5
        assert [(f.name, f.units, f.description) for f in recording.timelines[0].fields] == [
            ("x", "µV", "what"),
            ("t", None, None),
            ("_t", None, None),
        ]
        batches = list(recording.batches("tl"))
    assert [(batch.t.tolist(), batch.gap_from) for batch in batches] == [
        ([1.0, 2.0], None),
        ([8.0], 2.0),
        ([20.0], 9.0),
    ]
    assert [batch["t"].tolist() for batch in batches] == [[4, 5], [6], [5]]


@formats
def test_gaps_end_where_a_batch_begins_however_they_are_cut(format, tmp_path):
    timeline = Timeline("tl", [Field("x")])
    t = np.arange(1.0, 101.0)
    gaps = [(10.0, 11.0), (10.5, 11.0), (20.2, 20.4), (20.3, 20.6), (55.0, 70.0), (200.0, 300.0)]
    path = write(tmp_path / "r", (timeline, as_batch("tl", t, {"x": t}), gaps), format=format)
    for rows in (1, 3, 7, 1000):
        with open_recording(path, format) as recording:
            batches = list(recording.batches("tl", rows))
        assert [(b.gap_from, b.t[0]) for b in batches if b.gap_from] == [(10.0, 11.0), (20.2, 21.0), (55.0, 70.0)]
        np.testing.assert_array_equal(np.concatenate([b.t for b in batches]), t)


@pytest.mark.parametrize("gathered", [1, 1_000_000])
@formats
def test_columns_become_wider_when_they_must(format, gathered, tmp_path, monkeypatch):
    monkeypatch.setattr(sisock.recording, "_GATHERED", gathered)
    timeline = Timeline("tl", [Field("x", units="V"), Field("y"), Field("s", "string")])
    path = write(
        tmp_path / "r",
        (timeline, as_batch("tl", [1.0, 2.0], {"x": np.array([1, 2], np.int16), "y": [1, 2], "s": ["a", "b"]})),
        (timeline, as_batch("tl", [3.0], {"x": [2**40], "y": [3], "s": ["c"]})),
        (timeline, as_batch("tl", [4.0], {"x": [0.5], "s": ["d"]})),
        format=format,
    )
    t, columns = read(path, format=format)
    assert t.tolist() == [1.0, 2.0, 3.0, 4.0]
    same(columns["x"], np.array([1.0, 2.0, 2.0**40, 0.5]))
    same(columns["y"], np.array([1.0, 2.0, 3.0, np.nan]))
    assert columns["s"].tolist() == ["a", "b", "c", "d"]
    with open_recording(path, format) as recording:
        assert [field.name for field in recording.timelines[0].fields] == ["x", "y", "s"]
        assert recording.timelines[0].fields[0].units == "V"


@formats
def test_missing_bools_and_strings_are_filled_and_counted(format, tmp_path):
    timeline = Timeline("tl", [Field("n"), Field("b", "bool"), Field("s", "string")])
    with create_recording(tmp_path / "r", format) as recording:
        columns = {"n": [None, 1.0], "b": [math.nan, 1.0], "s": ["a", None]}
        batch = Batch("tl", np.array([1.0, 2.0]), {n: np.array(v, object) for n, v in columns.items()})
        recording.append(timeline, batch)
        recording.append(timeline, Batch("tl", np.array([3.0]), {}))
        assert recording.filled == {"b": 2, "s": 2}
    _, read_back = read(tmp_path / "r", format=format)
    same(read_back["n"], np.array([np.nan, 1.0, np.nan]))
    assert read_back["b"].tolist() == [False, True, False]
    assert read_back["s"].tolist() == ["a", "", ""]


def test_hdf5_holds_several_timelines_whatever_their_names(tmp_path):
    names = ["a", "/", ".", "..", "t", "%", "a/b", "sisock.timeline", "é\n"]
    path = tmp_path / "r.h5"
    with create_recording(path) as recording:
        for i in range(2):
            for n in names:
                recording.append(Timeline(n, [Field(n), Field("x")]), as_batch(n, [i + 1.0], {n: [i], "x": [-i]}))
    with open_recording(path) as recording:
        assert [timeline.name for timeline in recording.timelines] == names
    for n in names:
        t, columns = read(path, n)
        assert t.tolist() == [1.0, 2.0]
        assert {k: v.tolist() for k, v in columns.items()} == {n: [0, 1], "x": [0, -1]}


tables = pytest.mark.parametrize("format", ["parquet", "csv"])


@pytest.mark.parametrize("gathered", [1, 1_000_000])
@formats
@given(st.lists(recorded(), min_size=2, max_size=4, unique_by=lambda each: each[0].name), st.integers(1, 5))
@settings(max_examples=40)
def test_several_timelines_are_read_back_from_one_file(format, gathered, tmp_path_factory, monkeypatch, drawn, rows):
    monkeypatch.setattr(sisock.recording, "_GATHERED", gathered)
    monkeypatch.setattr(sisock.recording.csv, "_BLOCK", 7 * gathered)
    path = tmp_path_factory.mktemp("several") / "x"
    turns = [(timeline, batches[i]) for i in range(3) for timeline, batches in drawn if i < len(batches)]
    try:
        write(path, *turns, format=format)
    except BadData as error:
        assert format == "hdf5"
        assert "NULL" in error.message
        return
    assert list(path.parent.iterdir()) == [path]
    with open_recording(path, format) as recording:
        assert sorted(recording.timelines, key=lambda each: each.name) == sorted(
            (timeline for timeline, _ in drawn), key=lambda each: each.name
        )
    for timeline, batches in drawn:
        t, columns = read(path, timeline.name, format, rows)
        same(t, np.concatenate([batch.t for batch in batches]))
        for field, values in columns.items():
            same(values, np.concatenate([batch[field] for batch in batches if len(batch)]))


def two_timelines(path):
    return write(
        path,
        (Timeline("fast", [Field("x", units="V"), Field("on", "bool"), Field("s", "string")]),
         as_batch("fast", [1.0, 2.0, 3.0], {"x": [0.5, 1.5, 2.5], "on": [True, False, True], "s": ["a", "", "c,\n"]}),
         [(1.25, 1.75)]),
        (Timeline("slow", [Field("y", units="K"), Field("n")]), as_batch("slow", [1.5], {"y": [300.0], "n": np.array([7])})),
        node="rig",
    )  # fmt: skip


@tables
def test_other_programs_read_several_timelines_from_one_table(format, tmp_path):
    import duckdb
    import pandas

    path = two_timelines(tmp_path / f"two.{format}")
    frame = pandas.read_parquet(path) if format == "parquet" else pandas.read_csv(path, comment="#")
    assert list(frame) == ["t", "timeline", "x", "on", "s", "y", "n"]
    assert frame["timeline"].tolist() == ["fast", "fast", "fast", "slow"]
    assert frame[frame["timeline"] == "slow"][["t", "y", "n"]].values.tolist() == [[1.5, 300.0, 7.0]]
    assert frame["x"].isna().tolist() == [False, False, False, True]
    if format == "parquet":
        rows = duckdb.sql(f"select t, x, \"on\", s from '{path}' where timeline = 'fast' order by t").fetchall()
        assert rows == [(1.0, 0.5, True, "a"), (2.0, 1.5, False, ""), (3.0, 2.5, True, "c,\n")]
        schema = pq.read_schema(path)
        assert schema.field("y").metadata[b"units"] == b"K"
        assert [pq.ParquetFile(path).metadata.row_group(i).num_rows for i in range(2)] == [3, 1]
        # A part that another tool cuts out is read as what it is.
        cut = tmp_path / "cut.parquet"
        about = {b"sisock.recording": pq.read_metadata(path).metadata[b"sisock.recording"]}
        pq.write_table(pq.read_table(path).slice(1).replace_schema_metadata(about), cut)
        with open_recording(cut) as recording:
            assert (recording.samples("fast"), recording.samples("slow")) == (2, 1)
        assert read(cut, "slow")[1]["n"].tolist() == [7]
        pq.write_table(pq.read_table(path).drop_columns(["timeline", "x"]).replace_schema_metadata(about), cut)
        with pytest.raises(BadData, match="no column 'timeline' that tells them apart"):
            open_recording(cut)


@tables
def test_fields_of_the_same_name_are_told_apart_by_their_timeline(format, tmp_path):
    columns = {"x": [1.0], "timeline": ["a"], "t": [9.0]}
    fields = [Field("x"), Field("timeline", "string"), Field("t")]
    path = write(
        tmp_path / f"two.{format}",
        (Timeline("a", fields), as_batch("a", [1.0], columns)),
        (Timeline("b", fields[:1]), as_batch("b", [1.0], {"x": [2.0]})),
    )
    assert read(path, "a")[1]["x"].tolist() == [1.0]
    assert read(path, "b")[1]["x"].tolist() == [2.0]
    assert read(path, "a")[1]["t"].tolist() == [9.0]
    if format == "parquet":
        assert pq.read_schema(path).names == ["_t", "_timeline", "a.x", "timeline", "t", "b.x"]


@tables
def test_gaps_and_origin_of_several_timelines_are_kept(format, tmp_path):
    with open_recording(two_timelines(tmp_path / f"two.{format}")) as recording:
        assert recording.node == "rig"
        assert recording.gaps("fast") == [(1.25, 1.75)]
        assert recording.gaps("slow") == []


@formats
def test_recording_that_an_error_ends_is_removed(format, tmp_path, monkeypatch):
    monkeypatch.setattr(sisock.recording, "_GATHERED", 1)

    def interrupted():
        with create_recording(tmp_path / "r", format) as recording:
            recording.append(Timeline("a", [Field("x")]), as_batch("a", [1.0], {"x": [1]}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@formats
def test_recording_without_samples_is_one_and_without_timelines_none(format, tmp_path):
    timeline = Timeline("a", [Field("x"), Field("s", "string")], lateness_s=0.0, follows_clock=False)
    path = write(tmp_path / "r", (timeline, as_batch("a", [], {"x": [], "s": []})), format=format)
    with open_recording(path, format) as recording:
        assert recording.timelines == [timeline]
        assert list(recording.batches("a")) == []
        with pytest.raises(NoSuchTimeline, match="no timeline 'b'; it has: a"):
            recording.gaps("b")
    with pytest.raises(BadRequest, match="nothing was recorded"):
        write(tmp_path / "none", format=format)
    assert not (tmp_path / "none").exists()


@formats
def test_values_that_are_not_of_their_type_are_refused(format, tmp_path):
    with pytest.raises(BadData, match="field 'x' is declared as number, and is not"):
        write(tmp_path / "r", (Timeline("a", [Field("x")]), as_batch("a", [1.0], {"x": ["high"]})), format=format)
    odd = Batch("a", np.array([1.0]), {"x": np.array([object()])})
    with pytest.raises(BadData):
        write(tmp_path / "r", (Timeline("a", [Field("x", "string")]), odd), format=format)
    assert list(tmp_path.iterdir()) == []


def test_format_is_that_of_the_ending_or_the_one_named(tmp_path):
    assert [format_of(f"x{end}") for end in (".parquet", ".CSV", ".h5", ".hdf5")] == ["parquet", "csv", "hdf5", "hdf5"]
    assert format_of("x.csv", "parquet") == "parquet"
    with pytest.raises(BadRequest, match=r"x\.dat has no known format; end its name with \.parquet"):
        format_of("x.dat")
    with pytest.raises(BadRequest, match="'xls' is not a format"):
        format_of("x.csv", "xls")


def test_what_is_there_is_not_overwritten_and_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "r.csv").write_text("mine")
    with pytest.raises(BadRequest, match="exists; remove it"):
        write(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == "mine"
    for ending in ("parquet", "csv", "h5"):
        with pytest.raises(BadRequest, match="cannot write .*No such file or directory"):
            write(tmp_path / "nowhere" / f"r.{ending}", (Timeline("a", [Field("x")]), as_batch("a", [1.0], {"x": [1]})))


@pytest.mark.parametrize(
    ("package", "ending", "extra"),
    [("pyarrow", "parquet", "parquet"), ("pyarrow", "csv", "parquet"), ("h5py", "h5", "hdf5")],
)
def test_missing_package_is_told_with_what_to_install(package, ending, extra, tmp_path, monkeypatch):
    for module in [m for m in sys.modules if m.startswith(("sisock.recording.", package))]:
        monkeypatch.delitem(sys.modules, module)
    real = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=rf"pip install 'sisock\[{extra}\]'"):
        write(tmp_path / f"r.{ending}")


def sample(folder, ending):
    timeline = Timeline("a", [Field("x", units="V"), Field("s", "string"), Field("b", "bool")])
    n = np.arange(1000)
    batch = as_batch("a", n + 1.0, {"x": n / 7, "s": [f"say {i % 7}" for i in n], "b": n % 2 == 0})
    return write(folder / f"r.{ending}", (timeline, batch, [(10.0, 11.0)]))


@pytest.mark.parametrize("ending", ["parquet", "csv", "h5"])
def test_file_that_was_cut_anywhere_is_damaged(ending, tmp_path):
    whole = sample(tmp_path, ending).read_bytes()
    path = tmp_path / f"cut.{ending}"
    for end in [0, 1, 4, 10, 100, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(BadData) as caught:
            read(path)
        assert caught.value.message.startswith(str(path))
        assert "\n" not in caught.value.message


@tables
@given(data=st.data())
@settings(max_examples=60)
def test_damage_anywhere_is_named_or_does_no_harm(format, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    path = sample(folder, format)
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        read(path)
    except BadData as error:
        assert str(path) in error.message


def test_what_somebody_changed_in_a_csv_is_told(tmp_path):
    path = sample(tmp_path, "csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:100] + lines[101:]))
    with pytest.raises(BadData, match="has 999 rows, where its first line promises 1000"):
        read(path)
    path.write_text("".join(lines).replace('"float64"', '","'))
    with pytest.raises(BadData, match="cannot be read, is it damaged"):
        read(path)
    path.write_text("".join(lines).replace('"x"', '"z"').replace('"name": "z"', '"name": "x"'))
    with pytest.raises(BadData, match="its header does not name the columns"):
        read(path)


def test_newer_versions_are_refused(tmp_path):
    newer = json.dumps({"version": 3})
    (tmp_path / "r.csv").write_text(f"# sisock recording {newer}\n")
    pq.write_table(pa.table({"t": [1.0]}).replace_schema_metadata({"sisock.recording": newer}), tmp_path / "r.parquet")
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file.attrs["sisock.recording"] = newer
    for path in tmp_path.iterdir():
        with pytest.raises(BadData, match=f"{path.name}: is a recording of version 3.* reads up to 2; update sisock"):
            open_recording(path)


def test_files_from_elsewhere_are_told_from_damaged_ones(tmp_path):
    with pytest.raises(BadData, match="there is no file"):
        open_recording(tmp_path / "r.parquet")
    (tmp_path / "r.csv").write_text("t,x\n1,2\n")
    with pytest.raises(BadData, match="`type: table` serves CSV files from elsewhere"):
        open_recording(tmp_path / "r.csv")
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["x"] = [1.0]
    with pytest.raises(BadData, match=r"r\.h5: is not a recording of sisock's"):
        open_recording(tmp_path / "r.h5")
    for content, why in (
        ({"x": [1.0]}, "has no column 't' or 'time' of times; it has: 'x'"),
        ({"t": [1], "x": [1.0]}, "its column 't' holds int64; times are timestamps, or UNIX seconds as floats"),
        ({"t": [1.0], "x": [[1.0]]}, "no column of numbers, bools or strings"),
    ):
        pq.write_table(pa.table(content), tmp_path / "r.parquet")
        with pytest.raises(BadData, match=why):
            open_recording(tmp_path / "r.parquet")


def test_parquet_from_elsewhere_is_read_with_what_it_says(tmp_path):
    path = tmp_path / "other.parquet"
    stamps = pa.array([1_700_000_000_123_456_789, None, 1], pa.timestamp("ns", "Europe/Paris"))
    columns = {
        "n": pa.array([1, None, 3], pa.int32()),
        "time": stamps,
        "word": pa.array(["a", None, "a"]).dictionary_encode(),
        "flag": pa.array([True, None, False]),
        "list": pa.array([[1], [2], [3]]),
        "half": pa.array(np.array([0.5, 1, 2], np.float16)),
        "money": pa.array([1, 2, None], pa.decimal128(10, 2)),
    }
    table = pa.table(columns)
    table = table.set_column(0, pa.field("n", pa.int32(), metadata={"units": "V"}), table["n"])
    pq.write_table(table, path)
    with open_recording(path) as recording:
        (timeline,) = recording.timelines
        assert timeline.name == "other"
        assert [(f.name, f.type, f.units) for f in timeline.fields] == [
            ("n", "number", "V"),
            ("word", "string", None),
            ("flag", "bool", None),
            ("half", "number", None),
            ("money", "number", None),
        ]
        assert recording.left_out == ["list"]
        (batch,) = recording.batches("other")
        assert recording.filled == 2
    np.testing.assert_array_equal(batch.t, [1_700_000_000.123456789, np.nan, 1e-9])
    np.testing.assert_array_equal(batch["n"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(batch["money"], [1.0, 2.0, np.nan])
    assert batch["half"].dtype == np.float32
    assert batch["word"].tolist() == ["a", "", "a"]
    assert batch["flag"].tolist() == [True, False, False]


def test_other_programs_read_what_is_written(tmp_path):
    import pandas

    parquet, csv, hdf5 = (sample(tmp_path, ending) for ending in ("parquet", "csv", "h5"))
    frames = [pandas.read_parquet(parquet), pandas.read_csv(csv, comment="#")]
    with h5py.File(hdf5) as file:
        assert file["a/x"].attrs["units"] == "V"
        frames.append(pandas.DataFrame({"t": file["a/t"][:], "x": file["a/x"][:], "b": file["a/b"][:]}))
    for frame in frames:
        np.testing.assert_array_equal(frame["t"], np.arange(1.0, 1001.0))
        np.testing.assert_array_equal(frame["x"], np.arange(1000) / 7)
        np.testing.assert_array_equal(frame["b"], np.arange(1000) % 2 == 0)
    schema = pq.read_schema(parquet)
    assert schema.field("x").metadata == {b"type": b"number", b"units": b"V"}
    assert schema.field("t").metadata[b"units"] == b"s"
    # A part that another tool cuts out still has its units.
    pq.write_table(pq.read_table(parquet).slice(0, 10).select(["t", "x"]), tmp_path / "part.parquet")
    with open_recording(tmp_path / "part.parquet") as recording:
        assert (recording.samples("part"), recording.timelines[0].fields) == (10, (Field("x", "number", "V"),))
