"""Tables as they really are: odd cells, quotes and bytes, files that are cut, renamed or written anew."""

import os
import time

import numpy as np
import pytest

from sisock.errors import BadData
from sisock.metrics import Counters
from sisock.node import open_node
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from sisock_nodes.table.follow import LEFT_S, QUIET_S, FileFollower
from sisock_nodes.table.rows import MOST_BYTES, MOST_LINES, Rows, whole_rows
from sisock_nodes.table.settings import TableSettings

EVER = Interval(-1e12, 1e12)
DAY = 86400.0
BEGIN = 1577836800.0  # 2020-01-01


class Table:
    """A table's node that is running."""

    def __init__(self, path, **more):
        self.node = open_node("table", TableSettings(type="table", path=path, reread=0.05, **more))
        self.node.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.stop()

    def __getitem__(self, name):
        for samples in self.node.history.read([name], EVER).timelines.values():
            return samples.columns[name].tolist()
        return []

    def times(self, name):
        return next(iter(self.node.history.read([name], EVER).timelines.values())).t.tolist()

    def count(self, name):
        return sum(source.counters[name] for source in self.node.sources)

    def rows(self, n):
        return self.until(lambda: self.count("rows") >= n)

    def until(self, condition, timeout_s=30.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.node.status()
            time.sleep(0.01)
        return self


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Samples of one time


def test_what_several_sensors_measured_at_one_time_is_all_served(tmp_path):
    path = written(tmp_path, "time,sensor,value\n2020-01-01,north,1\n2020-01-01,south,10\n2020-01-01, roof ,100\n")
    with Table(path, pivot="sensor", fields={"value": {"units": "V"}, "roof.value": {"units": "A"}}).rows(3) as table:
        assert [table[f"{name}.value"] for name in ("north", "south", "roof")] == [[1.0], [10.0], [100.0]]
        assert [tl.name for tl in table.node.history.timelines] == ["t.north", "t.south", "t.roof"]
        assert [tl.fields[0].units for tl in table.node.history.timelines] == ["V", "V", "A"]
        with path.open("a") as file:
            file.write("2020-01-02,cellar,7\n2020-01-02,north,2\n")
        table.rows(5)
        assert (table["cellar.value"], table["north.value"]) == ([7.0], [1.0, 2.0])


def test_each_value_of_a_pivot_has_types_of_its_own_and_they_are_bounded_in_number(tmp_path, caplog):
    path = written(tmp_path, "time,what,value\n2020-01-01,door,open\n2020-01-01,temp,1.5\n2020-01-01,other,1\n")
    with Table(path, pivot="what", pivot_limit=2).rows(2) as table:
        assert (table["door.value"], table["temp.value"]) == (["open"], [1.5])
        assert table.count("unpivoted") == 1
    assert "raise `pivot_limit`" in caplog.text


def test_pivot_of_several_columns(tmp_path):
    path = written(tmp_path, "time,hall,sensor,value\n2020-01-01,a,x,1\n2020-01-01,a,y,2\n2020-01-01,b,x,3\n")
    with Table(path, pivot=["hall", "sensor"]).rows(3) as table:
        assert [table[f"{key}.value"] for key in ("a.x", "a.y", "b.x")] == [[1.0], [2.0], [3.0]]


def test_time_is_in_several_columns(tmp_path):
    path = written(tmp_path, "date,time,x\n02.01.2020, 06:00 ,1\n")
    with Table(path, time={"columns": ["date", "time"], "format": "%d.%m.%Y %H:%M"}).rows(1) as table:
        assert table.times("x") == [BEGIN + 1.25 * DAY]
    path = written(tmp_path, "x,date,time\n1,2020-01-02,06:00:00.5\n")
    with Table(path, time={"columns": ["date", "time"], "timezone": "Europe/Paris"}).rows(1) as table:
        assert table.times("x") == [BEGIN + 1.25 * DAY - 3600 + 0.5]
    path = written(tmp_path, "s,ns,x\n1577836800,250000000,1\n1577836800,750000000,2\n")
    with Table(path, time={"columns": ["s", "ns"], "format": "unix", "scales": [1, 1e-9]}).rows(2) as table:
        assert table.times("x") == [BEGIN + 0.25, BEGIN + 0.75]
        assert [f.name for f in table.node.history.timelines[0].fields] == ["x"]


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ({"columns": ["a", "b"], "column": "a"}, "both given"),
        ({"columns": ["a", "b"], "format": "unix"}, "need format unix and scales"),
        ({"scales": [1.0]}, "scales are for format unix"),
        ({"columns": ["a", "b"], "format": "unix", "scales": [1.0]}, "one for each"),
    ],
)
def test_settings_of_the_time_that_contradict_each_other_are_refused(tmp_path, time, message):
    with pytest.raises(ValueError, match=message):
        TableSettings(type="table", path=tmp_path, time=time)


# Local time

AUTUMN = [f"2024-10-27 {at},{i}\n" for i, at in enumerate(["01:30", "02:00", "02:30", "02:00", "02:30", "03:00"])]
FIRST = 1729985400.0  # 2024-10-26T23:30Z


@pytest.mark.parametrize("cut", [0, 2, 3, 4, 6])
def test_hour_that_comes_twice_is_served_twice_also_as_the_file_grows(tmp_path, cut):
    path = written(tmp_path, "time,x\n" + "".join(AUTUMN[:cut]))
    with Table(path, time={"timezone": "Europe/Paris"}).rows(cut) as table:
        with path.open("a") as file:
            file.write("".join(AUTUMN[cut:]))
        table.rows(6)
        assert table["x"] == [0, 1, 2, 3, 4, 5]
        assert table.times("x") == [FIRST + 1800 * i for i in range(6)]


def test_hour_that_comes_twice_is_the_same_after_a_restart_on_disk(tmp_path):
    path = written(tmp_path, "time,x\n" + "".join(AUTUMN[:4]))
    settings = {"time": {"timezone": "Europe/Paris"}, "history": HistorySettings(path=tmp_path / "h", keep=1e12)}
    with Table(path, **settings).rows(4):
        pass
    path.write_text("time,x\n" + "".join(AUTUMN))
    with Table(path, **settings).rows(6) as table:
        assert (table["x"], table.times("x")) == ([0, 1, 2, 3, 4, 5], [FIRST + 1800 * i for i in range(6)])
        assert table.node.history.status()["t"]["late"] == 0


def test_each_sensor_has_its_own_hour_that_comes_twice(tmp_path):
    rows = "".join(row.replace(",", f",{name},") for row in AUTUMN for name in ("a", "b"))
    with Table(written(tmp_path, "time,s,x\n" + rows), pivot="s", time={"timezone": "Europe/Paris"}).rows(12) as table:
        for name in ("a.x", "b.x"):
            assert (table[name], table.times(name)) == ([0, 1, 2, 3, 4, 5], [FIRST + 1800 * i for i in range(6)])


def test_time_that_does_not_exist_is_counted_and_costs_no_other_row(tmp_path, caplog):
    rows = [f"2024-03-31 {at},{i}\n" for i, at in enumerate(["01:30", "02:30", "03:30", "02:15"])]
    with Table(written(tmp_path, "time,x\n" + "".join(rows)), time={"timezone": "Europe/Paris"}).rows(2) as table:
        assert (table["x"], table.times("x")) == ([0.0, 2.0], [1711845000.0, 1711848600.0])
        assert table.count("nonexistent_times") == 2
    assert caplog.text.count("does not exist in Europe/Paris") == 1


# Types


def test_column_that_is_empty_first_and_has_texts_later_is_of_texts(tmp_path):
    rows = "".join(f"2020-01-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02},{i},\n" for i in range(50_000))
    path = written(tmp_path, "time,x,alarm\n" + rows)
    with Table(path, history=HistorySettings(path=tmp_path / "h", keep=1e12)).rows(50_000) as table:
        with path.open("a") as file:
            file.write("2020-01-02,1,too hot\n2020-01-03,2,\n2020-01-04,3,nan\n")
        table.rows(50_003)
        assert table["alarm"][-3:] == ["too hot", "", ""]
        assert {f.name: f.type for f in table.node.history.timelines[0].fields}["alarm"] == "string"
    with Table(path, history=HistorySettings(path=tmp_path / "h", keep=1e12)).rows(50_003) as table:
        np.testing.assert_array_equal(table["alarm"][:-3], [np.nan] * 50_000)  # and not the text "nan"
        assert table["alarm"][-3:] == ["too hot", "", ""]
        assert table["x"][-3:] == [1.0, 2.0, 3.0]


def test_text_among_numbers_is_missing_counted_and_kept_readable(tmp_path, caplog):
    path = written(tmp_path, "time,x\n2020-01-01,1\n")
    with Table(path).rows(1) as table:
        with path.open("a") as file:
            file.write("2020-01-02,sensor fault\n2020-01-03,3\n")
        table.rows(3)
        np.testing.assert_array_equal(table["x"], [1.0, np.nan, 3.0])
        assert [text for text in table["x.text"] if text] == ["sensor fault"]
        assert table.count("bad_values") == 1
    assert "'sensor fault' is not a number for 'x'" in caplog.text


def test_bools_that_are_numbers_as_well_become_numbers(tmp_path):
    path = written(tmp_path, "time,x\n2020-01-01,true\n2020-01-02,False\n")
    with Table(path).rows(2) as table:
        with path.open("a") as file:
            file.write("2020-01-03,2.5\n2020-01-04,true\n2020-01-05, FALSE \n2020-01-06,\n2020-01-07,open\n")
        table.rows(7)
        np.testing.assert_array_equal(table["x"], [1.0, 0.0, 2.5, 1.0, 0.0, np.nan, np.nan])
        assert table["x.text"] == ["", "", "", "", "", "", "open"]
        assert table.count("bad_values") == 1
        assert [field.type for field in table.node.history.timelines[0].fields] == ["number", "string"]


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["true", "2.5", "false", "0"], [1.0, 2.5, 0.0, 0.0]),
        (["2.5", "true", "FALSE", "0"], [2.5, 1.0, 0.0, 0.0]),
        (["0", "false", "true", "2.5"], [0.0, 0.0, 1.0, 2.5]),
    ],
)
def test_bools_and_numbers_are_the_same_however_many_rows_come_at_a_time(tmp_path, cells, expected, cut):
    rows = [f"2020-01-0{i + 1},{cell}\n" for i, cell in enumerate(cells)]
    path = written(tmp_path, "time,x\n" + "".join(rows[:cut]))
    with Table(path).rows(cut) as table:
        with path.open("a") as file:
            file.write("".join(rows[cut:]))
        table.rows(4)
        assert table["x"] == expected
        assert [(field.name, field.type) for field in table.node.history.timelines[0].fields] == [("x", "number")]


def test_bools_stay_bools_where_the_settings_have_it_or_what_does_not_fit_is_no_number(tmp_path):
    path = written(tmp_path, "time,x,y\n2020-01-01,true,true\n2020-01-02,2.5,open\n2020-01-03,false,false\n")
    with Table(path, fields={"x": {"type": "bool"}, "y": {"type": "bool"}}).rows(3) as table:
        assert (table["x"], table["x.text"]) == ([True, False, False], ["", "2.5", ""])
    path = written(tmp_path, "time,y\n2020-01-01,true\n")
    with Table(path).rows(1) as table:
        with path.open("a") as file:
            file.write("2020-01-02,open\n2020-01-03,false\n")
        table.rows(3)
        assert (table["y"], table["y.text"]) == ([True, False, False], ["", "open", ""])
        assert table.count("bad_values") == 1


def test_header_that_is_repeated_is_no_row_and_columns_may_have_moved_behind_it(tmp_path):
    path = written(tmp_path, "time,x,y\n2020-01-01,1,10\ntime,x,y\n2020-01-02,2,20\ny,time,x\n30,2020-01-03,3\n")
    with Table(path).rows(3) as table:
        assert (table["x"], table["y"]) == ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
        assert (table.count("headers"), table.count("bad_times")) == (2, 0)


def test_cell_that_is_called_like_the_time_is_no_header(tmp_path):
    with Table(written(tmp_path, "time,x\n2020-01-01,time\n2020-01-02,other time\n")).rows(2) as table:
        assert table["x"] == ["time", "other time"]
        assert table.count("headers") == 0


# One bad thing costs itself


def test_byte_that_is_not_utf_8_costs_nothing(tmp_path, caplog):
    path = written(tmp_path, "time,x,s\n2020-01-01,1,20 °C\n".encode() + b"2020-01-02,2,20 \xb0C\n2020-01-03,3,\x80\n")
    with Table(path).rows(3) as table:
        assert table["s"] == ["20 °C", "20 °C", "€"]
        assert table.count("bad_bytes") == 2
    assert caplog.text.count("not UTF-8") == 1


def test_quote_inside_of_a_cell_is_a_character(tmp_path):
    path = written(tmp_path, 'time,s\n2020-01-01,pipe 5" leaks\n')
    with Table(path).rows(1) as table:
        with path.open("a") as file:
            file.write('2020-01-02,ok\n2020-01-03,"a, ""b""\nc"\n2020-01-04,6" too\n')
        table.rows(4)
        assert table["s"] == ['pipe 5" leaks', "ok", 'a, "b"\nc', '6" too']


def test_quoted_cell_without_end_does_not_make_a_log_stand_still(tmp_path):
    path = written(tmp_path, 'time,s\n2020-01-01,"pipe leaks\n')
    with Table(path) as table:
        with path.open("a") as file:
            file.writelines(f"2020-01-02 00:00:{i % 60:02}.{i},ok\n" for i in range(MOST_LINES + 1))
        table.rows(MOST_LINES + 2)
        assert (table["s"][0], set(table["s"][1:])) == ('"pipe leaks', {"ok"})
        assert table.count("unclosed_quotes") == 1


def test_quote_of_a_later_line_does_not_end_a_cell():
    data = b'1,"pipe leaks\n2,ok\n3,"fine"\n4,"two\nlines"\n5,"open'
    rows = whole_rows(data, ",")
    assert (rows.data, rows.unclosed) == (b'1,"""pipe leaks"\n2,ok\n3,"fine"\n4,"two\nlines"\n', 1)
    assert data[rows.taken :] == b'5,"open'


def test_quoted_cell_may_have_so_many_lines_and_bytes_and_no_more():
    for longest, more in ((b"x\n" * MOST_LINES, b"\n"), (b"x\n" + b"x" * (MOST_BYTES - 3), b"x")):
        open_cell = b'1,"' + longest
        assert whole_rows(open_cell, ",").taken == 0  # its end may still come
        rows = whole_rows(open_cell + more + b"\n2,ok\n", ",")
        assert (rows.unclosed, rows.data[:5], rows.data[-5:]) == (1, b'1,"""', b"2,ok\n")
        # Beside a quote inside of a cell, which needs another look, too.
        assert whole_rows(b'0,5" pipe\n' + open_cell, ",").data == b'0,5" pipe\n'
    lines = b'0,5" pipe\n1,"' + b"x\n" * MOST_LINES + b'"\n2,ok\n'
    assert whole_rows(lines, ",") == Rows(lines, len(lines))
    assert whole_rows(lines.replace(b"x\n", b"x\n\n", 1), ",").unclosed == 1


def test_rows_of_other_lengths_are_taken_in_their_order(tmp_path):
    path = written(
        tmp_path, 'time,x,y\n2020-01-01,1,1,9\n2020-01-02,2,2\n2020-01-03,3\n2020-01-04,4,"4",\n2020-01-05\n'
    )
    with Table(path).rows(5) as table:
        np.testing.assert_array_equal(table["x"], [1, 2, 3, 4, np.nan])
        np.testing.assert_array_equal(table["y"], [1, 2, np.nan, 4, np.nan])
        assert [table.count(name) for name in ("extra_cells", "short_rows", "bad_rows")] == [1, 2, 0]


def test_table_whose_rows_all_end_with_a_delimiter(tmp_path):
    with Table(written(tmp_path, "time;x;\n2020-01-01;1;\n2020-01-02;2;\n"), delimiter=";").rows(2) as table:
        assert table["x"] == [1.0, 2.0]
        assert table.count("extra_cells") == 0


# Missing, and bools


def test_marks_that_are_numbers_match_however_they_are_written(tmp_path):
    cells = ["-9999", "-9999.0", " -9.999e3 ", "-9998.9", "", " "]
    path = written(tmp_path, "time,x\n" + "".join(f"2020-01-{i + 1:02},{cell}\n" for i, cell in enumerate(cells)))
    with Table(path, missing=["-9999"]).rows(len(cells)) as table:
        np.testing.assert_array_equal(table["x"], [np.nan] * 3 + [-9998.9] + [np.nan] * 2)
        assert table.count("bad_values") == 0


def test_marks_in_texts_and_bools(tmp_path):
    path = written(
        tmp_path, "time,b,s\n2020-01-01,1,N/A\n2020-01-02,-1.0,n/a\n2020-01-03,0,-1.0\n2020-01-04,n/a, n/a \n"
    )
    with Table(path, missing=["n/a", "-1"], fields={"b": {"type": "bool"}}).rows(4) as table:
        assert table["s"] == ["N/A", "", "-1.0", ""]
        assert table["b"] == [True, False, False, False]
        assert (table.count("bad_values"), table.count("filled")) == (0, 2)


def test_bools_are_read_as_people_write_them(tmp_path):
    cells = ["true", "0", "ON", "off", "Yes", "no", "t", "F", "y", "N", "1.0", "maybe", ""]
    path = written(tmp_path, "time,x\n" + "".join(f"2020-01-{i + 1:02},{cell}\n" for i, cell in enumerate(cells)))
    with Table(path, fields={"x": {"type": "bool"}}).rows(len(cells)) as table:
        assert table["x"] == [True, False] * 5 + [True, False, False]
        assert (table.count("bad_values"), table.count("filled")) == (1, 1)
        assert [text for text in table["x.text"] if text] == ["maybe"]


def test_two_texts_of_a_setting_are_bools(tmp_path):
    path = written(tmp_path, "time,x\n2020-01-01,Open\n2020-01-02,closed\n2020-01-03,1\n")
    with Table(path, fields={"x": {"bool_texts": ["open", "closed"]}}).rows(3) as table:
        assert table["x"] == [True, False, False]
        assert table.count("bad_values") == 1


# Files that change


def test_file_that_is_cut_and_written_anew_is_read_from_its_beginning_also_when_it_is_longer(tmp_path):
    path = written(tmp_path, "time,x\n2020-01-01,1\n")
    with Table(path).rows(1) as table:
        path.write_text("time,x\n2020-01-02,2\n2020-01-03,3\n2020-01-04,4\n")
        table.rows(4)
        assert table["x"] == [1.0, 2.0, 3.0, 4.0]
        assert (table.count("read_anew"), table.count("bad_times")) == (1, 0)


def test_log_that_is_cut_while_its_writer_goes_on_needs_no_header(tmp_path):
    path = written(tmp_path, "time,x\n2020-01-01,1\n2020-01-02,2\n")
    with Table(path).rows(2) as table:
        os.truncate(path, 0)
        with path.open("ab") as file:
            file.write(b"\0" * 40 + b"2020-01-03,3\n")
        table.rows(3)
        assert table["x"] == [1.0, 2.0, 3.0]


def test_file_that_is_replaced_by_one_with_columns_in_another_order_is_read_by_their_names(tmp_path):
    path = written(tmp_path, "time,x,y\n2020-01-01,1,10\n")
    os.utime(path, (0, time.time() - 2 * QUIET_S))
    with Table(path).rows(1) as table:
        written(tmp_path, "y,z,time,x\n20,5,2020-01-02,2\n", "fresh").replace(path)
        table.rows(2)
        assert (table["x"][-1], table["y"][-1], table["z"][-1]) == (2.0, 20.0, 5.0)
        assert table["x"] == [1.0, 2.0]


def test_file_without_the_time_is_an_outage_until_it_is_mended(tmp_path):
    path = written(tmp_path, "time,x\n2020-01-01,1\n")
    with Table(path).rows(1) as table:
        path.write_text("when,x\nnever,1\n")
        table.until(lambda: table.node.status()["health"]["state"] == "outage")
        assert "put a header there" in table.node.status()["health"]["error"]
        path.write_text("time,x\n2020-01-02,2\n")
        table.rows(2).until(lambda: table.node.status()["health"]["state"] == "ok")
        assert table["x"] == [1.0, 2.0]


def test_half_a_number_is_corrected_when_the_rest_comes(tmp_path):
    path = written(tmp_path, "time,x\n2020-01-01,1\n2020-01-02,21.")
    with Table(path).rows(1) as table:
        os.utime(path, (0, time.time() - 3600))
        table.rows(2)
        assert table["x"] == [1.0, 21.0]
        with path.open("a") as file:
            file.write("57\n2020-01-03,3\n")
        table.rows(4)
        assert table["x"] == [1.0, 21.57, 3.0]


def test_file_that_is_removed_from_a_folder_is_no_outage_and_one_that_is_renamed_is_not_read_twice(tmp_path):
    paths = [written(tmp_path, f"time,x\n2020-01-0{i},{i}\n", f"{i}.csv") for i in (1, 2)]
    for path in paths:
        os.utime(path, (0, time.time() - 7200))
    with Table(tmp_path, together=True).rows(2) as table:
        paths[0].unlink()
        paths[1].rename(tmp_path / "3.csv")
        new = written(tmp_path, "time,x\n2020-01-04,4\n", "4.csv")
        table.rows(3)
        with new.open("a") as file:
            file.write("2020-01-05,5\n")
        table.rows(4)  # with another look at the folder
        assert table["x"] == [1.0, 2.0, 4.0, 5.0]
        assert (table.count("rows"), table.count("failures")) == (4, 0)
        assert table.node.status()["health"]["state"] == "ok"


class Followed:
    """A file that is followed by a clock that is stepped."""

    def __init__(self, path):
        self.clock, self.counters = StepClock(1e9), Counters()
        self.follower = FileFollower(path, ",", self.clock, self.counters)

    def write(self, path, data):
        with path.open("ab") as file:
            file.write(data)
        os.utime(path, (0, self.clock.now()))

    def read(self):
        return [chunk.data for chunk in self.follower.chunks()]


def test_renamed_file_is_read_until_its_writer_has_left_it(tmp_path):
    path, old = tmp_path / "t", tmp_path / "t.1"
    file = Followed(path)
    file.write(path, b"time,x\n1,1\n")
    assert file.read() == [b"time,x\n1,1\n"]
    path.rename(old)
    file.write(path, b"time,x\n4,4\n")
    assert file.read() == []
    file.write(old, b"2,2\n3,")
    assert file.read() == [b"2,2\n"]
    file.write(old, b"3")
    file.clock.step(QUIET_S + 1)
    assert file.read() == [b"3,3", b"time,x\n4,4\n"]
    assert file.counters["abandoned"] == 0
    file.follower.close()


def test_renamed_file_whose_writer_does_not_leave_it_does_not_hold_up_the_new_one(tmp_path):
    path, old = tmp_path / "t", tmp_path / "t.1"
    file = Followed(path)
    file.write(path, b"time,x\n")
    assert file.read() == [b"time,x\n"]
    path.rename(old)
    file.write(path, b"time,x\n2,2\n")
    for _ in range(int(LEFT_S)):
        file.write(old, b"1,1\n")
        assert file.read() == [b"1,1\n"]
        file.clock.step(1)
    assert file.read() == [b"time,x\n2,2\n"]
    assert file.counters["abandoned"] == 1
    file.follower.close()


def test_last_line_is_taken_once_and_again_only_if_it_went_on(tmp_path):
    path = tmp_path / "t"
    file = Followed(path)
    file.write(path, b"time,x\n1,1")
    assert file.read() == [b"time,x\n"]
    file.clock.step(61)
    assert file.read() == [b"1,1"]
    assert file.read() == []
    file.write(path, b"\n2,2")
    assert file.read() == []
    file.clock.step(61)
    assert file.read() == [b"2,2"]
    file.write(path, b".5\n")
    assert file.read() == [b"2,2.5\n"]
    file.follower.close()


def test_file_that_was_idle_is_closed_and_read_on_when_it_changes(tmp_path):
    path = tmp_path / "t"
    file = Followed(path)
    file.write(path, b"time,x\n1,1\n")
    file.clock.step(7200)
    assert file.read() == [b"time,x\n1,1\n"]
    assert file.read() == []
    file.write(path, b"2,2\n")
    assert file.read() == [b"2,2\n"]
    assert file.counters["read_anew"] == 0
    file.follower.close()


def test_delimiter_that_cannot_separate_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot separate cells"):
        TableSettings(type="table", path=tmp_path, delimiter='"')


def test_column_that_was_empty_so_far_and_gets_bools_forgets_nothing(tmp_path):
    path = written(tmp_path, "time,x,valve\n2020-01-01,1,\n")
    with Table(path).rows(1) as table:
        with path.open("a") as file:
            file.write("2020-01-02,2,true\n2020-01-03,3,false\n")
        table.rows(3)
        assert table["x"] == [1.0, 2.0, 3.0]
        np.testing.assert_array_equal(table["valve"], [np.nan, 1.0, 0.0])  # a bool cannot be missing


@pytest.mark.parametrize("together", [False, True])
def test_file_of_a_folder_that_cannot_be_used_yet_costs_itself(tmp_path, together):
    (tmp_path / "a.csv").write_text("time,x\n2020-01-01,1\n")
    (tmp_path / "b.csv").touch()
    (tmp_path / "c.csv").write_bytes("time,x\n2020-01-01,1\n".encode("utf-16"))
    (tmp_path / "d.csv").write_text("time,x,x\n2020-01-01,1,2\n")
    (tmp_path / "e.csv").write_text("time,x\n2020-01-05,5\n")
    name = "x" if together else "a.x"
    with Table(tmp_path, together=together) as table:
        table.until(lambda: table[name] == ([1.0, 5.0] if together else [1.0]))
        health = table.node.health()
        assert health.state == "degraded"
        assert "table b: " in health.error
        assert "it has no header" in health.error
        assert "it is UTF-16" in health.error
        assert "names a column twice" in health.error
        (tmp_path / "b.csv").write_text("time,x\n2020-01-06,6\n")
        (tmp_path / "c.csv").write_text("time,y\n2020-01-07,7\n")
        (tmp_path / "d.csv").unlink()
        table.until(lambda: table["x" if together else "b.x"][-1:] == [6.0])
        table.until(lambda: table["c.y"] == [7.0])
        (tmp_path / "d.csv").write_text("time,z\n2020-01-08,8\n")
        table.until(lambda: table["d.z"] == [8.0])
        table.until(lambda: table.node.health().state == "ok")


def test_folder_none_of_whose_files_can_be_used_is_an_error(tmp_path):
    (tmp_path / "b.csv").touch()
    with pytest.raises(BadData, match=r"b\.csv: it has no header"):
        Table(tmp_path)
