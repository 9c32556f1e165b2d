"""Tables on disk: what is read, what is counted, what is appended."""

import csv
import io
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadData
from sisock.node import open_node
from sisock.times import Interval
from sisock_nodes.records.values import BoolTexts, MissingMarks
from sisock_nodes.table.columns import guess_type, read_rows, to_values
from sisock_nodes.table.localtime import LocalTimes
from sisock_nodes.table.rows import read_header, whole_rows
from sisock_nodes.table.settings import TableSettings, TimeSettings
from sisock_nodes.table.times import read_times

EVER = Interval(-1e12, 1e12)


def settings(path, **more):
    return TableSettings(type="table", path=path, reread=0.05, **more)


class Served:
    """A table's node that is running."""

    def __init__(self, path, **more):
        self.node = open_node("table", settings(path, **more))
        self.node.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.stop()

    def column(self, name):
        reply = self.node.history.read([name], EVER)
        for samples in reply.timelines.values():
            return samples.t.tolist(), samples.columns[name].tolist()
        return [], []

    def count(self, name):
        return sum(source.counters[name] for source in self.node.sources)

    def wait(self, condition, timeout_s=60.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.node.status()
            time.sleep(0.01)
        return self

    def wait_for_rows(self, n):
        return self.wait(lambda: self.count("rows") >= n)


def test_columns_are_numbers_bools_or_strings_with_their_units(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('time,x,ok,note\n2020-01-01,1.5,true,"a, ""b"""\n2020-01-02,NA,false,\n')
    with Served(path, fields={"x": {"units": "V", "description": "what"}}).wait_for_rows(2) as served:
        t, x = served.column("x")
        assert t == [1577836800.0, 1577923200.0]
        np.testing.assert_array_equal(x, [1.5, np.nan])
        assert served.column("ok")[1] == [True, False]
        assert served.column("note")[1] == ['a, "b"', ""]
        fields = {f.name: f for f in served.node.history.timelines[0].fields}
    assert (fields["x"].units, fields["x"].description, fields["x"].type) == ("V", "what", "number")
    assert (fields["ok"].type, fields["note"].type) == ("bool", "string")


def test_rows_that_are_appended_come_when_they_are_whole(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("time,x\n2020-01-01,1\n2020-01-02,")
    with Served(path).wait_for_rows(1) as served:
        assert served.column("x")[1] == [1.0]
        with path.open("a") as file:
            file.write("2\n2020-01-03,3\n")
        served.wait_for_rows(3)
        assert served.column("x")[1] == [1.0, 2.0, 3.0]
        assert served.node.history.finalized_until("t") == served.column("x")[0][-1]


def test_last_line_without_a_line_break_is_taken_when_nothing_was_written_for_long(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("time,x\n2020-01-01,1\n2020-01-02,2")
    os.utime(path, (0, time.time() - 3600))
    with Served(path).wait_for_rows(2) as served:
        assert served.column("x")[1] == [1.0, 2.0]


def test_table_in_any_order_is_served_in_order(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("time,x\n2020-01-03,3\n2020-01-01,1\n2020-01-02,2\n")
    with Served(path).wait_for_rows(3) as served:
        assert served.column("x")[1] == [1.0, 2.0, 3.0]


def test_file_that_is_replaced_is_read_anew_and_what_was_final_stays(tmp_path, caplog):
    path = tmp_path / "t.csv"
    path.write_text("time,x\n2020-01-01,1\n2020-01-02,2\n")
    with Served(path).wait_for_rows(2) as served:
        fresh = tmp_path / "fresh"
        fresh.write_text("time,x\n2020-01-01,100\n2020-01-04,4\n")
        fresh.replace(path)
        served.wait_for_rows(4)
        assert served.column("x")[1] == [1.0, 2.0, 4.0]
        assert served.count("read_anew") == 1
        assert served.node.history.status()["t"]["late"] == 1
    assert "read from its beginning" in caplog.text


def test_what_is_bad_is_counted_by_kind_and_costs_itself(tmp_path, caplog):
    path = tmp_path / "t.csv"
    path.write_text("time,x\n2020-01-01,1\n2020-01-02,2,extra\nyesterday,3\n2020-01-04,oops\n2020-01-05,5\n")
    with Served(path, fields={"x": {"type": "number"}}).wait_for_rows(4) as served:
        np.testing.assert_array_equal(served.column("x")[1], [1.0, 2.0, np.nan, 5.0])
        assert served.column("x.text")[1] == ["", "", "oops", ""]
        assert [served.count(name) for name in ("extra_cells", "bad_times", "bad_values")] == [1, 1, 1]
    assert "'yesterday' is not a time in the format 'iso'" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no header"),
        (b"\n", "has no header"),
        (b"time,x,x\n", "names a column twice"),
        (b"time,,x\n", "names a column twice or not at all"),
        (b"\xff\xfe\x00\n", "cannot be read"),
    ],
)
def test_table_without_a_header_is_refused_with_its_path(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(BadData, match=message) as caught:
        open_node("table", settings(path))
    assert str(path) in caught.value.message


def test_columns_and_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(BadData, match="there is no file or folder"):
        open_node("table", settings(tmp_path / "nothing"))
    with pytest.raises(BadData, match="has no \\*.csv"):
        open_node("table", settings(tmp_path))
    path = tmp_path / "t.csv"
    path.write_text("time,x\n")
    with pytest.raises(BadData, match="no column 'when' for the time; it has: time, x"):
        open_node("table", settings(path, time={"column": "when"}))
    with pytest.raises(BadData, match="no column 'y'"):
        open_node("table", settings(path, fields={"y": {}}))


def test_byte_order_mark_and_windows_line_ends_and_tabs_are_read(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbftime\tx\r\n2020-01-01\t1\r\n")
    with Served(path).wait_for_rows(1) as served:
        assert served.column("x")[1] == [1.0]


def test_folder_is_a_timeline_for_each_file(tmp_path):
    (tmp_path / "a.csv").write_text("time,x\n2020-01-01,1\n")
    (tmp_path / "b.csv").write_text("time,x\n2020-01-01,2\n")
    with Served(tmp_path).wait_for_rows(2) as served:
        assert served.column("a.x")[1] == [1.0]
        assert served.column("b.x")[1] == [2.0]
        assert [tl.name for tl in served.node.history.timelines] == ["a", "b"]


def test_files_with_one_header_are_one_timeline_when_asked_for_and_new_ones_join(tmp_path):
    (tmp_path / "2020-01-01.csv").write_text("time,x\n2020-01-01,1\n")
    (tmp_path / "2020-01-02.csv").write_text("time,x\n2020-01-02,2\n")
    with Served(tmp_path, together=True).wait_for_rows(2) as served:
        (tmp_path / "2020-01-03.csv").write_text("time,x\n2020-01-03,3\n")
        served.wait_for_rows(3)
        assert served.column("x")[1] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("texts", "given", "expected"),
    [
        (["2020-01-01", "2020-01-01 01:00:00.5", "x"], {}, [1577836800.0, 1577840400.5, np.nan]),
        (["2020-01-01T00:00:00+01:00"], {}, [1577833200.0]),
        (["2020-01-01"], {"timezone": "Europe/Paris"}, [1577833200.0]),
        (["01.02.2020 12"], {"format": "%d.%m.%Y %H"}, [1580558400.0]),
        (["12.5", "", "1e3"], {"format": "unix"}, [12.5, np.nan, 1000.0]),
        (["1500"], {"format": "unix_ms"}, [1.5]),
    ],
)
def test_times_are_read_as_the_settings_say(texts, given, expected):
    import pyarrow as pa

    times = TimeSettings(column="t", **given)
    t, is_local = read_times(pa.table({"t": pa.array(texts)}), times)
    t[is_local] = LocalTimes(times.timezone).to_utc(t[is_local])
    np.testing.assert_array_equal(t, expected)


cell = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=8)


@given(st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), cell), min_size=1, max_size=30))
def test_what_pythons_csv_writes_is_read_back(rows):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["t", "x", "s"])
    for i, (x, s) in enumerate(rows):
        writer.writerow([i, repr(x), s])
    header, _, body = out.getvalue().encode().partition(b"\r\n")
    assert whole_rows(body, ",").data == body
    cells = read_rows(body, read_header(header, ","), ",")
    assert (cells.short, cells.extra) == (0, 0)
    found = to_values(cells.table["x"], "number", MissingMarks(()), BoolTexts())
    assert found.misfit is None
    assert found.values.tolist() == [x for x, _ in rows]
    strings = to_values(cells.table["s"], "string", MissingMarks(()), BoolTexts()).values.tolist()
    assert strings == ["" if not s.strip() else s for _, s in rows]


@given(st.binary(max_size=200))
def test_any_bytes_are_cut_after_whole_rows(data):
    rows = whole_rows(data, ",")
    assert rows.taken == 0 or data[rows.taken - 1 : rows.taken] == b"\n"
    assert rows.data == data[: rows.taken] or rows.unclosed
    ended = whole_rows(data, ",", ended=True)
    assert ended.taken == len(data)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", " 2.5", "-1e3", "NA"], "number"),
        (["true", "False"], "bool"),
        (["true", " 0 ", "False", "2.5"], "number"),
        (["true", "2.5", "open"], "string"),
        (["1", "x"], "string"),
        ([], None),
        (["NA", " "], None),
    ],
)
def test_types_are_found_from_the_texts(texts, kind):
    import pyarrow as pa

    assert guess_type(pa.chunked_array([pa.array(texts, pa.string())]), MissingMarks(["NA"])) == kind


LONG = "time,sensor,value,by\n2026-01-01,hall,20.5,ada\n2026-01-01,roof,3,bob\n2026-01-02,hall,21,ada\n2026-01-02,door,open,x\n"


def test_long_table_is_pivoted_into_a_field_of_each_name(tmp_path):
    path = tmp_path / "room.csv"
    path.write_text(LONG)
    pivot, fields = {"name": "sensor", "value": "value"}, {"hall": {"units": "degC"}, "value": {"units": "V"}}
    with Served(path, pivot=pivot, fields=fields) as served:
        served.wait_for_rows(4)
        assert served.column("hall")[1] == [20.5, 21.0]
        assert served.column("roof")[1] == [3.0]
        assert served.column("door")[1] == ["open"]
        found = {field.name: field.units for line in served.node.sources[0].timelines for field in line.fields}
        assert found == {"hall": "degC", "roof": "V", "door": "V"}
        with path.open("a") as file:
            file.write("2026-01-03,cellar,8,x\n")
        assert served.wait_for_rows(5).column("cellar")[1] == [8.0]


def test_long_table_without_the_column_of_values_is_refused_with_those_that_exist(tmp_path):
    (tmp_path / "room.csv").write_text(LONG)
    with pytest.raises(BadData, match="no column 'reading' for the values of `pivot`; it has: time, sensor, value, by"):
        open_node("table", settings(tmp_path / "room.csv", pivot={"name": "sensor", "value": "reading"}))
