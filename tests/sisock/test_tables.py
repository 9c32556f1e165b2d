"""Append-only tables: the same rows from memory and from disk, across restarts, kills, damage and full disks."""

import errno
import math
import operator
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisock.errors import BadData, BadHistory, BadRequest, MissingExtra
from sisock.files import lock_folder
from sisock.outage import DiskOutage, OutageLog
from sisock.settings import TableSettings
from sisock.tables import Table, Tables, sealed, segments, table
from sisock.tables.segments import SKIPPED
from sisock.testing import StepClock

COLUMNS = {"time": "time", "x": "number", "n": "integer", "ok": "bool", "s": "text", "v": "json"}


def rows_of(start, count):
    numbers = range(start, start + count)
    return {
        "time": [1000.0 + i for i in numbers],
        "x": [i / 2 for i in numbers],
        "n": list(numbers),
        "ok": [i % 2 == 0 for i in numbers],
        "s": [f"name {i % 3}" for i in numbers],
        "v": [{"i": i} for i in numbers],
    }


MADE = []


def made(folder, clock=None, outages=None, columns=COLUMNS, **how):
    clock = clock or StepClock(2000.0)
    outage = DiskOutage("the disk", outages) if outages else None
    MADE.append(Table("t", columns, folder, clock, TableSettings(**how), outage))
    return MADE[-1]


@pytest.fixture(autouse=True)
def closing():
    yield
    while MADE:
        MADE.pop().close()


def filled(folder, count=10, **how):
    made_table = made(folder, **how)
    made_table.append(rows_of(0, count))
    assert made_table.write()
    return made_table


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def numbers(found):
    return found.numbers.tolist()


def corrupt(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.fixture
def small_segments(monkeypatch):
    monkeypatch.setattr(table, "_SEGMENT", 2000)


TEXTS = st.one_of(st.none(), st.text(max_size=20), st.just("lone \ud800"))
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
ROWS = st.lists(
    st.tuples(
        st.floats(), st.one_of(st.floats(), st.none()), st.integers(-(2**63), 2**63 - 1), st.booleans(), TEXTS, JSON
    ),
    max_size=8,
)


@settings(max_examples=30)
@given(st.lists(st.tuples(ROWS, st.sampled_from(["", "write", "seal", "reopen"])), max_size=5))
def test_rows_come_back_as_they_were_from_memory_disk_and_parquet(tmp_path_factory, batches):
    folder = tmp_path_factory.mktemp("t")
    growing, expected = made(folder), []
    for rows, then in batches:
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)) if rows else {name: [] for name in COLUMNS}
        assert growing.append(columns) == len(expected)
        expected += rows
        if then:
            growing.write()
        if then in ("seal", "reopen"):
            growing.close()
            if then == "seal":
                reader = segments.TableFiles(folder, "t", COLUMNS, 1, growing.counters)
                reader.open()
                reader.seal()
                reader.close()
            growing = made(folder)
    found = growing.read()
    assert numbers(found) == list(range(len(expected)))
    for i, name in enumerate(COLUMNS):
        for was, now in zip([row[i] for row in expected], found.columns[name].tolist(), strict=True):
            if name in ("time", "x"):
                assert now == was or (math.isnan(now) and (was is None or math.isnan(was)))
            else:
                assert now == (was.replace("\ud800", "?") if isinstance(was, str) else was)


def test_cursor_leads_to_what_is_new_and_to_nothing_twice(tmp_path):
    growing = filled(tmp_path, 10)
    first = growing.read(limit=4)
    assert (numbers(first), first.cursor, first.oldest) == ([0, 1, 2, 3], 4, 0)
    rest = growing.read(after=first.cursor)
    assert (numbers(rest), rest.cursor) == ([4, 5, 6, 7, 8, 9], 10)
    assert numbers(growing.read(after=rest.cursor)) == []
    growing.append(rows_of(10, 1))
    assert numbers(growing.read(after=rest.cursor)) == [10]
    # Nothing of what a condition leaves out is looked at twice.
    even = growing.read(["n"], [["ok", "==", True]], limit=2)
    assert (even.columns["n"].tolist(), even.cursor) == ([0, 2], 3)


def test_newest_rows_come_first_and_older_ones_before_them():
    growing = made(None)
    growing.append(rows_of(0, 10))
    newest = growing.read(["n"], order="descending", limit=3)
    assert (newest.columns["n"].tolist(), newest.cursor) == ([9, 8, 7], 10)
    assert numbers(growing.read(order="descending", limit=3, before=7)) == [6, 5, 4]


def test_cursor_of_a_table_that_began_anew_stands_for_all_rows():
    growing = made(None)
    growing.append(rows_of(0, 3))
    assert numbers(growing.read(after=500)) == [0, 1, 2]


def test_answer_ends_when_it_is_large_enough_and_has_at_least_one_row(tmp_path):
    growing = filled(tmp_path, 100)
    some = growing.read(max_size=1000)
    assert 1 < len(some) < 10
    assert numbers(growing.read(after=some.cursor, limit=1)) == [some.cursor]
    assert numbers(growing.read(max_size=1)) == [0]


OPS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@given(
    st.sampled_from(["time", "n", "s"]), st.sampled_from([*OPS, "in"]), st.integers(0, 30), st.booleans(), st.booleans()
)
@settings(max_examples=50)
def test_conditions_agree_with_python(spread, column, op, number, is_time, descending):
    value = {"time": 1000.0 + number, "n": number, "s": f"name {number % 4}"}[column]
    value = [value] if op == "in" else value
    all_rows = rows_of(0, 30)
    holds = (lambda there: there in value) if op == "in" else (lambda there: OPS[op](there, value))
    expected = [i for i in range(30) if holds(all_rows[column][i])]
    conditions = [[column, op, value]]
    if is_time:
        conditions.append(["time", "<", 1015.0])
        expected = [i for i in expected if i < 15]
    found = spread.read(["s"], conditions, order="descending" if descending else "ascending")
    assert numbers(found) == (expected[::-1] if descending else expected)


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """Rows of which some are sealed, some closed, some in the file that grows, and some in memory only."""
    folder = tmp_path_factory.mktemp("spread")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_SEGMENT", 500)
        growing = Table("t", COLUMNS, folder)
        for i in range(0, 24, 4):
            growing.append(rows_of(i, 4))
            growing.write()
            if i == 12:
                growing.maintain()
        growing.close()
        again = Table("t", COLUMNS, folder)
    again.append(rows_of(24, 6))
    assert {Path(name).suffix for name in names(folder)} == {".parquet", ".rows", ".open"}
    yield again
    again.close()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (["s", "contains", "e 1"], [1]),
        (["s", "like", "name [12]"], [1, 2]),
        (["s", "like", "{name 0,name 2}"], [0, 2]),
        (["v", "==", {"i": 2}], [2]),
        (["v", "contains", "i"], [0, 1, 2]),
        (["v", "<", 5], []),
        (["s", "<", None], []),
        (["ok", "!=", True], [1]),
        (["x", "in", [0.5, 7]], [1]),
    ],
)
def test_conditions_on_texts_json_and_bools(condition, expected):
    growing = made(None)
    growing.append(rows_of(0, 3))
    assert numbers(growing.read(conditions=[condition])) == expected


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"columns": ["y"]}, "no column 'y'"),
        ({"conditions": [["y", "==", 1]]}, "names the column 'y'"),
        ({"conditions": [["n", "=~", 1]]}, "'=~' cannot be asked"),
        ({"conditions": [["n", "contains", 1]]}, "'contains' cannot be asked of a column of type integer"),
        ({"conditions": [["n", "<", "1"]]}, "'1' is not a value of a column of type integer"),
        ({"conditions": [["s", "in", "ab"]]}, "give a list"),
        ({"conditions": ["n"]}, "'n' is not a valid condition"),
        ({"conditions": [["n", "<", 1]] * 101}, "at most 100"),
        ({"limit": 0}, "limit is 0; give a whole number from 1 on"),
        ({"after": -1}, "after is -1"),
        ({"before": 1.5}, "before is 1.5"),
        ({"order": "random"}, "give ascending or descending"),
    ],
)
def test_bad_parameters_are_refused_with_value_and_remedy(parameters, words):
    with pytest.raises(BadRequest, match=words.replace("[", r"\[")):
        made(None).read(**parameters)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": None}, "lack the columns"),
        ({"more": [1, 2]}, "unknown"),
        ({"n": [1]}, "different lengths"),
        ({"n": [1, 2.5]}, "type integer"),
        ({"x": ["1", "2"]}, "type number"),
        ({"ok": [1, 0]}, "type bool"),
        ({"s": ["a", 1]}, "values of type int"),
    ],
)
def test_rows_that_do_not_fit_are_refused_as_a_whole(change, words):
    growing = made(None)
    rows = {name: values for name, values in {**rows_of(0, 2), **change}.items() if values is not None}
    with pytest.raises(BadData, match=words):
        growing.append(rows)
    assert growing.next == 0


@pytest.mark.parametrize(
    ("name", "columns"), [("../x", COLUMNS), ("t", {}), ("t", {"row": "text"}), ("t", {"": "text"})]
)
def test_bad_names_are_refused(name, columns):
    with pytest.raises(BadRequest, match="not a valid name|not valid names"):
        Table(name, columns)


def test_memory_has_a_bound_and_older_rows_come_from_the_disk(tmp_path):
    growing, in_memory = made(tmp_path, memory_size=2**16), made(None, memory_size=2**16)
    for i in range(0, 2000, 50):
        for each in (growing, in_memory):
            each.append(rows_of(i, 50))
            each.write()
    assert growing.status()["memory_bytes"] <= 2**16
    assert numbers(growing.read()) == list(range(2000))
    assert growing.counters["lost"] == 0
    # A table without a folder forgets the oldest rows, and says which is the oldest.
    kept = in_memory.read()
    assert 0 < kept.oldest < 1999
    assert numbers(kept) == list(range(kept.oldest, 2000))


WRITER = """
import sys
from pathlib import Path
from sisock.tables import Table
growing = Table("t", {"n": "integer", "s": "text"}, Path(sys.argv[1]))
i = 0
while True:
    growing.append({"n": range(i, i + 3), "s": ["x" * 500] * 3})
    growing.write()
    i += 3
    print(i, flush=True)
"""


def test_rows_survive_a_kill_and_their_numbers_are_not_used_again(tmp_path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        written = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.send_signal(signal.SIGKILL)
    again = made(tmp_path, columns={"n": "integer", "s": "text"})
    found = again.read(["n"])
    whole = len(found)
    assert whole >= written
    assert whole % 3 == 0
    assert found.columns["n"].tolist() == numbers(found) == list(range(whole))
    # A client may know rows that were in memory only.
    assert again.append({"n": [1], "s": ["y"]}) == whole + SKIPPED
    again.close()
    third = made(tmp_path, columns={"n": "integer", "s": "text"})
    assert numbers(third.read(order="descending", limit=2)) == [whole + SKIPPED, whole - 1]
    assert third.next == whole + SKIPPED + 1


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_half_written_row_is_cut_off_and_counted(tmp_path, cut):
    growing = filled(tmp_path, 2)
    growing.append(rows_of(2, 1))
    growing.write()
    (path,) = tmp_path.glob("*.open")
    growing.close()
    (closed,) = tmp_path.glob("*.rows")
    os.truncate(closed, closed.stat().st_size - cut)
    closed.rename(path)  # as a kill leaves it
    again = made(tmp_path)
    assert numbers(again.read()) == [0, 1]
    assert (again.counters["cut"], again.counters["damaged"]) == (1, 0)
    again.append(rows_of(2, 1))
    again.close()
    assert made(tmp_path).read().columns["n"].tolist() == [0, 1, 2]


def test_damaged_line_loses_only_its_own_rows_and_the_file_is_quarantined(tmp_path, small_segments):
    growing = made(tmp_path)
    for i in range(0, 6, 2):
        growing.append(rows_of(i, 2))
        growing.write()
    growing.close()
    (path,) = tmp_path.glob("*.rows")
    corrupt(path, path.read_bytes().index(b'"first": 2'))
    again = made(tmp_path)
    assert numbers(again.read()) == [0, 1, 4, 5]
    assert again.counters["damaged"] == 1
    again.append(rows_of(6, 1))
    again.write()
    again.maintain()
    assert again.counters["quarantined"] == 1
    assert names(tmp_path / "quarantine") == ["000000000000-000000000006.rows"]
    assert numbers(again.read()) == [0, 1, 4, 5, 6]


def test_file_without_a_whole_line_is_quarantined(tmp_path):
    growing = filled(tmp_path)
    growing.close()
    (path,) = tmp_path.glob("*.rows")
    path.write_bytes(b"nonsense\n")
    again = made(tmp_path)
    assert (len(again.read()), again.next) == (0, 10)
    assert names(tmp_path / "quarantine") == [path.name]


def test_damaged_parquet_is_quarantined_and_the_rest_is_read(tmp_path, small_segments):
    growing = made(tmp_path, memory_size=2**16)
    for i in range(0, 200, 10):
        growing.append(rows_of(i, 10))
        growing.write()
    growing.maintain()
    growing.close()
    first, *others = sorted(tmp_path.glob("*.parquet"))
    assert others
    corrupt(first, -20)
    lost = int(first.stem.partition("-")[2])
    again = made(tmp_path)
    assert numbers(again.read()) == list(range(lost, 200))
    assert (again.counters["damaged"], again.counters["quarantined"]) == (1, 1)
    assert names(tmp_path / "quarantine") == [first.name]
    assert again.read().oldest == lost


def test_unknown_files_are_quarantined_and_leftovers_removed(tmp_path):
    filled(tmp_path).close()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "000000000000-000000000010.parquet.new").write_text("half")
    again = made(tmp_path)
    assert names(tmp_path / "quarantine") == ["notes.txt"]
    assert not list(tmp_path.glob("*.new"))
    assert again.counters["quarantined"] == 1


def test_rows_that_a_kill_left_both_sealed_and_not_are_there_once(tmp_path, small_segments):
    growing = filled(tmp_path, 100)
    growing.close()
    (path,) = tmp_path.glob("*.rows")
    data = path.read_bytes()
    again = made(tmp_path)
    again.maintain()
    again.close()
    assert not path.exists()
    path.write_bytes(data)
    third = made(tmp_path)
    assert not path.exists()
    assert numbers(third.read()) == list(range(100))


class FullDisk:
    """A disk that takes nothing while it is full."""

    def __init__(self, monkeypatch):
        self.is_full, self._pwrite = False, os.pwrite
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, fd, data, at):
        if self.is_full:
            self._pwrite(fd, data[:10], at)  # as a disk that has room for a part
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._pwrite(fd, data, at)


def test_full_disk_keeps_rows_in_memory_and_they_are_written_later(tmp_path, monkeypatch):
    disk, clock = FullDisk(monkeypatch), StepClock(2000.0)
    outages = OutageLog(clock)
    growing = made(tmp_path, clock, outages)
    growing.append(rows_of(0, 3))
    growing.write()
    disk.is_full = True
    growing.append(rows_of(3, 5))
    assert not growing.write()
    assert numbers(growing.read()) == list(range(8))
    assert growing.status()["unwritten"] == 5
    health = outages.health()
    assert (health.state, "the disk: table t: rows are in memory only" in health.error) == ("degraded", True)
    disk.is_full = False
    assert growing.write()
    assert (outages.health().state, growing.status()["unwritten"]) == ("ok", 0)
    growing.close()
    again = made(tmp_path)
    assert numbers(again.read()) == list(range(8))
    assert (again.counters["cut"], again.counters["damaged"], growing.counters["lost"]) == (0, 0, 0)


@pytest.mark.parametrize("waits", [False, True])
def test_rows_that_memory_cannot_hold_while_the_disk_is_full_are_counted_as_lost(tmp_path, monkeypatch, waits):
    disk = FullDisk(monkeypatch)
    growing = made(tmp_path, memory_size=2**16)
    growing.waits = waits
    disk.is_full = True
    for i in range(0, 1000, 10):
        growing.append(rows_of(i, 10))
        growing.write()
    lost = growing.counters["lost"]
    assert 0 < lost < 1000
    disk.is_full = False
    growing.write()
    growing.close()
    again = made(tmp_path)
    assert numbers(again.read()) == list(range(lost, 1000))


def test_rows_that_are_not_written_by_the_end_are_counted_as_lost(tmp_path, monkeypatch):
    disk = FullDisk(monkeypatch)
    growing = filled(tmp_path, 2)
    disk.is_full = True
    growing.append(rows_of(2, 3))
    growing.close()
    assert growing.counters["lost"] == 3


def test_folder_in_use_is_an_outage_until_it_is_free(tmp_path):
    filled(tmp_path).close()
    lock, outages = lock_folder(tmp_path), OutageLog(StepClock())
    growing = made(tmp_path, outages=outages)
    assert growing.append(rows_of(10, 1)) > 10
    assert not growing.write()
    assert f"in use by the process with pid {os.getpid()}" in outages.health().error
    lock.close()
    assert growing.write()
    assert outages.health().state == "ok"
    assert growing.read().columns["n"].tolist() == list(range(11))
    growing.close()
    again = made(tmp_path)
    assert again.read().columns["n"].tolist() == list(range(11))


def test_rows_are_removed_by_their_age(tmp_path, small_segments):
    clock = StepClock(1000.0)
    growing = made(tmp_path, clock, keep=1000.0, memory_size=2**16)
    for i in range(0, 1000, 10):
        growing.append(rows_of(i, 10))
        growing.write()
    growing.maintain()
    assert growing.counters["expired"] == 0
    clock.step(1500.0)  # of the rows, those of 1500 s on are kept
    growing.maintain()
    oldest = growing.status()["oldest"]
    assert 400 < oldest <= 500
    growing.close()
    again = made(tmp_path, clock)
    assert numbers(again.read()) == list(range(oldest, 1000))


def test_size_is_kept_without_pyarrow_and_rows_are_not_sealed(tmp_path, monkeypatch, small_segments):
    monkeypatch.setattr(segments, "can_seal", lambda: False)
    growing = made(tmp_path, max_size=2**16, memory_size=2**16)
    for i in range(0, 2000, 10):
        growing.append(rows_of(i, 10))
        growing.write()
        growing.maintain()
    assert growing.status()["bytes"] <= 2**16 + 2000
    assert growing.counters["expired"] > 0
    oldest = growing.status()["oldest"]
    growing.close()
    assert not list(tmp_path.glob("*.parquet"))
    again = made(tmp_path)
    assert numbers(again.read()) == list(range(again.status()["oldest"], 2000))
    assert again.status()["oldest"] <= oldest


def test_sealed_rows_without_pyarrow_are_an_error_that_says_what_to_install(tmp_path, monkeypatch, small_segments):
    growing = filled(tmp_path, 100)
    growing.close()
    again = made(tmp_path)
    again.maintain()
    again.close()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    third = made(tmp_path)
    with pytest.raises(MissingExtra, match=r"sisock\[parquet\]"):
        third.read()
    assert third.append(rows_of(100, 1)) == 100
    third.close()
    assert list(tmp_path.glob("*.parquet"))


def test_file_of_a_newer_format_is_left_as_it_is(tmp_path, monkeypatch):
    filled(tmp_path).close()
    before = names(tmp_path)
    from sisock.tables import rows

    monkeypatch.setattr(rows, "FORMAT", 0)
    outages = OutageLog(StepClock())
    older = made(tmp_path, outages=outages)
    assert "has format 1; this sisock reads up to 0, so update it" in outages.health().error
    older.append(rows_of(0, 1))
    older.close()
    assert names(tmp_path) == before
    assert older.counters["lost"] == 1


def test_columns_of_a_newer_version_are_filled_in_older_rows(tmp_path):
    filled(tmp_path, 2).close()
    wider = made(tmp_path, columns={**COLUMNS, "more": "text", "count": "integer"})
    wider.append({**rows_of(2, 1), "more": ["m"], "count": [7]})
    wider.write()
    found = wider.read(["n", "more", "count"])
    assert [found.columns[name].tolist() for name in ("n", "more", "count")] == [
        [0, 1, 2],
        [None, None, "m"],
        [0, 0, 7],
    ]


def test_many_restarts_leave_one_file(tmp_path):
    for i in range(5):
        growing = made(tmp_path)
        assert growing.append(rows_of(i, 1)) == i
        growing.maintain()
        growing.close()
    assert names(tmp_path) == ["000000000000-000000000005.rows"]


def test_read_while_rows_are_sealed_and_removed_misses_none_that_are_kept(tmp_path, small_segments):
    growing = made(tmp_path, memory_size=2**16)
    done, failures = threading.Event(), []

    def read():
        while not done.is_set():
            found = numbers(growing.read(["n"]))
            if found != list(range(found[0], found[0] + len(found))) if found else False:
                failures.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(0, 600, 5):
        growing.append(rows_of(i, 5))
        growing.write()
        growing.maintain()
    done.set()
    reader.join()
    assert not failures


def test_tables_are_written_in_the_background_and_closed(tmp_path):
    clock = StepClock()
    opened = Tables(tmp_path, clock, OutageLog(clock))
    one = opened.open("one", COLUMNS)
    one.append(rows_of(0, 3))
    opened.close()
    assert names(tmp_path / "tables" / "one") == ["000000000000-000000000003.rows"]
    again = Tables(tmp_path, clock, OutageLog(clock))
    assert numbers(again.open("one", COLUMNS).read()) == [0, 1, 2]
    assert again.open("one", COLUMNS) is again.open("one", dict(COLUMNS))
    with pytest.raises(BadRequest, match="open already, with the columns"):
        again.open("one", {"x": "number"})
    assert again.status()["one"]["next"] == 3


@pytest.mark.parametrize("is_sealed", [False, True])
def test_column_keeps_its_type_and_others_may_come(tmp_path, small_segments, is_sealed):
    growing = filled(tmp_path, 100)
    growing.close()
    if is_sealed:
        again = made(tmp_path)
        again.maintain()
        again.close()
    before = names(tmp_path)
    with pytest.raises(BadRequest, match="column 's' of table t is of type number, and of type text in"):
        made(tmp_path, columns={**COLUMNS, "s": "number"})
    assert names(tmp_path) == before
    wider = made(tmp_path, columns={**COLUMNS, "y": "number"})
    assert np.isnan(wider.read(["y"], limit=1).columns["y"]).all()


def test_appending_waits_for_the_disk_rather_than_lose_rows(tmp_path):
    growing = made(tmp_path, memory_size=2**16)
    growing.waits = True
    for start in range(0, 5000, 500):
        growing.append(rows_of(start, 500))
    growing.append(rows_of(5000, 5000))
    assert growing.write()
    assert growing.counters["lost"] == 0
    assert numbers(growing.read(["n"])) == list(range(10_000))


def test_disk_that_does_not_read_is_an_error_and_nothing_is_quarantined(tmp_path, monkeypatch, small_segments):
    growing = filled(tmp_path, 100)
    growing.close()
    again = made(tmp_path)
    again.maintain()

    def broken(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("sisock.tables.segment.read_sealed", broken)
    with pytest.raises(BadHistory, match="left as it is, ask again later"):
        again.read()
    assert again.counters["quarantined"] == 0


def test_statistics_of_times_leave_files_unread(tmp_path, monkeypatch, small_segments):
    growing = made(tmp_path, memory_size=2**16)
    for i in range(0, 100, 10):
        growing.append(rows_of(i, 10))
        growing.write()
    growing.maintain()
    growing.close()
    again = made(tmp_path)
    read, real = [], sealed.read_sealed
    monkeypatch.setattr("sisock.tables.segment.read_sealed", lambda path, *more: read.append(path) or real(path, *more))
    assert numbers(again.read(["n"], [["time", ">=", 1095.0]])) == [95, 96, 97, 98, 99]
    assert len(set(read)) <= 1
    assert np.isfinite(again.read(["time"]).columns["time"]).all()
