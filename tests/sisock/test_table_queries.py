"""Tables on the wire: listed, queried, followed and published; without Crossbar."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from sisock.base import DataNodeServer
from sisock.cli import files
from sisock.cli import tables as commands
from sisock.consumer import in_reactor
from sisock.errors import BadData, BadRequest, NoSuchTable
from sisock.node import Node
from sisock.times import wait_until
from sisock.wamp.session import Session
from sisock.work import Work

COLUMNS = {"time": "time", "energy": "number", "count": "integer", "good": "bool", "target": "text", "about": "json"}


def shots(start, count):
    numbers = range(start, start + count)
    return {
        "time": [1_700_000_000.0 + i for i in numbers],
        "energy": [float("nan") if i == 3 else i / 2 for i in numbers],
        "count": [2**60 + i for i in numbers],
        "good": [i % 2 == 0 for i in numbers],
        "target": [None if i == 4 else f"gold {i}" for i in numbers],
        "about": [{"i": i} for i in numbers],
    }


def made(site, folder=None):
    return Node("rig", "a rig", [], clock=site.clock, work=Work(site.clock, folder=folder))


@pytest.fixture
def site(sisock_stepped_site):
    return sisock_stepped_site


@pytest.fixture
def client(site):
    """A plain session, as one in another language has it."""
    return site.serve(Session).session


@pytest.fixture
def table(site):
    node = made(site)
    site.serve(node)
    table = node.context.table("shots", COLUMNS)
    table.append(shots(0, 10))
    return table


def call(session, procedure, **arguments):
    return in_reactor(lambda: session.call(session.uri(procedure), **arguments)).result(20.0)


def test_any_client_lists_and_queries_tables(table, client):
    listed = {each["name"]: each for each in call(client, "consumer.rig.query.tables")}
    assert listed.keys() == {"events", "operations", "shots"}
    assert listed["shots"] == {"name": "shots", "columns": COLUMNS, "oldest": 0, "next": 10, "bytes": 0}
    answer = call(client, "consumer.rig.query.table", name="shots", conditions=[["energy", "<", 2.5]], limit=4)
    assert answer["numbers"] == [0, 1, 2, 4]
    assert answer["columns"]["about"] == [{"i": 0}, {"i": 1}, {"i": 2}, {"i": 4}]
    assert (answer["cursor"], answer["more"], answer["oldest"], answer["types"]) == (5, True, 0, COLUMNS)
    answer = call(client, "consumer.rig.query.table", name="shots", columns=["energy", "target"], after=2, limit=3)
    assert answer["columns"] == {"energy": [1.0, None, 2.0], "target": ["gold 2", "gold 3", None]}
    packed = call(client, "consumer.rig.query.table", name="shots", columns=["count"], encoding="packed")
    assert packed["columns"]["count"]["dtype"] == "<i8"


def test_consumer_reads_a_table_of_any_length_as_arrays(site, table):
    with site.consumer() as consumer:
        page = consumer.table("rig", "shots", [["time", ">=", datetime.fromtimestamp(1_700_000_003, UTC)]])
        assert page["energy"].dtype == np.float64
        assert np.isnan(page["energy"][0])
        assert page["count"].tolist() == [2**60 + i for i in range(3, 10)]
        assert (page["target"].tolist()[:2], page.rows[0]["about"]) == (["gold 3", None], {"i": 3})
        table.append({name: values * 40 for name, values in shots(0, 500).items()})
        assert len(consumer.table("rig", "shots").numbers) == 1000
        whole = consumer.table("rig", "shots", limit=None)  # in several answers
        assert whole.numbers.tolist() == list(range(20_010))
        assert (whole.cursor, whole.more) == (20_010, False)
        newest = consumer.table("rig", "shots", ["good == true"], limit=9_000, order="descending")
        assert newest.numbers[:2].tolist() == [20_008, 20_006]
        assert newest.cursor == 20_010
        frame = page.to_pandas()
        assert (str(frame["time"].dtype), frame.index.tolist()) == ("datetime64[us, UTC]", list(range(3, 10)))


@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        (["energy>2.5"], [6, 7, 8, 9]),
        (["energy = 2.5"], [5]),
        (["time >= 2023-11-14T22:13:28Z"], [8, 9]),
        (["good==false", "energy <= 2"], [1]),
        (["target like {gold [12],*9}"], [1, 2, 9]),
        (["target in gold 1, gold 7"], [1, 7]),
        (["target contains d 5"], [5]),
        (['about == {"i": 3}'], [3]),
        ([["target", "==", None]], [4]),
    ],
)
def test_conditions_may_be_texts(table, conditions, numbers):
    assert table.read(conditions=conditions).numbers.tolist() == numbers


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (["enrgy>2.5"], "'enrgy', which does not exist; did you mean energy"),
        (["energy like 2*"], "'like' cannot be asked of a column of type number; give ==, !="),
        (["energy > fast"], "'fast' is not a value of a column of type number"),
        (["energy"], "is not a valid condition; write a column"),
        ([["energy", "~", "(a+)+$"]], "'~' cannot be asked"),
        ([["target", "like", "{a,b}" * 10]], "stands for more than"),
    ],
)
def test_conditions_that_do_not_fit_are_refused_with_the_remedy(site, table, conditions, words):
    with site.consumer() as consumer, pytest.raises(BadRequest, match=words.replace("*", r"\*")):
        consumer.table("rig", "shots", conditions)


def test_pattern_made_to_be_slow_is_not(table):
    text = "a" * 10_000
    table.append({**shots(0, 1), "target": [text]})
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(table.read, ["target"], [["target", "like", "*a" * 200 + "b"]]).result(20.0)
        assert len(found) == 0
        assert len(pool.submit(table.read, ["target"], [["target", "like", "(a+)+$"]]).result(20.0)) == 0


def test_unknown_tables_and_columns_are_refused_with_the_nearest_names(site, table):
    with site.consumer() as consumer:
        with pytest.raises(NoSuchTable, match="'shot'; did you mean shots"):
            consumer.table("rig", "shot")
        with pytest.raises(BadRequest, match="did you mean target"):
            consumer.table("rig", "shots", columns=["targt"])


def test_row_of_wrong_types_is_named_and_nothing_is_appended(table):
    with pytest.raises(BadData, match="'count' is of type integer, and has values such as 1.5"):
        table.append({**shots(0, 2), "count": [1.5, 2.5]})
    with pytest.raises(BadData, match="'target' is of type text, and has values of type int"):
        table.append({**shots(0, 2), "target": ["a", 3]})
    with pytest.raises(BadData, match="lack the columns"):
        table.append({"energy": [1.0]})
    assert (len(table.read()), table.next) == (10, 10)


def test_tables_of_unknown_types_or_names_are_refused(site):
    context = made(site).context
    for name, columns, words in (
        ("shots", {"x": "float"}, "a column of type 'float'; give at most 1000, of types time, number"),
        ("a..b", {"x": "number"}, "not a valid name for a table"),
        ("events", {"x": "number"}, "open already"),
    ):
        with pytest.raises(BadRequest, match=words):
            context.table(name, columns)


def test_appended_rows_are_published_once_and_in_order(table, client):
    found, events = [], []
    for topic, into in (("consumer.rig.table.shots", found), ("consumer.rig.table.events", events)):
        in_reactor(lambda topic=topic, into=into: client.subscribe(into.append, client.uri(topic))).result(20.0)
    for i in range(10, 40):
        table.append(shots(i, 1))
    assert wait_until(lambda: bool(found) and found[-1]["cursor"] == 40, 20.0)
    assert [number for each in found for number in each["numbers"]] == list(range(10, 40))
    assert [each["after"] for each in found] == [10, *(each["cursor"] for each in found[:-1])]
    assert found[0]["columns"]["target"][0] == "gold 10"
    assert events == []


def test_table_is_followed_through_a_restart_of_the_node(site, tmp_path):
    node = made(site, tmp_path)
    connection = site.serve(node)
    node.context.table("shots", COLUMNS).append(shots(0, 3))
    got, ready = [], threading.Event()
    with site.consumer() as consumer:
        pages = consumer.follow_table("rig", "shots", ["good==true"], columns=["energy"], after=0)

        def read():
            for page in pages:
                got.extend(page["energy"].tolist())
                ready.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert ready.wait(20.0)
        connection.stop()
        node.stop()
        again = made(site, tmp_path)
        again.context.table("shots", COLUMNS).append(shots(3, 2))
        site.serve(again)
        assert wait_until(lambda: len(got) == 3, 40.0)
    reader.join(20.0)
    assert got == [0.0, 1.0, 2.0]


def test_published_nodes_of_ones_own_have_tables(site):
    class Mine(DataNodeServer):
        name = "mine"

        def after_onJoin(self, details):
            self.table("runs", {"n": "integer"}).append({"n": [1, 2]})

    site.serve(Mine)
    with site.consumer() as consumer:
        assert consumer.table("mine", "runs")["n"].tolist() == [1, 2]


@pytest.fixture
def asking(site, monkeypatch):
    consumer = site.consumer()
    for module in (commands, files):
        monkeypatch.setattr(module, "asking", lambda _: nullcontext(consumer))
    with consumer:
        yield


@pytest.mark.usefixtures("asking")
def test_commands_list_and_show_tables(table, capsys):
    commands.tables("rig")
    assert "shots\t0 to 10\ttime (time), energy (number)" in capsys.readouterr().out
    commands.table("rig", "shots", ["energy>=1"], columns="time,energy,target", limit=4)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["row", "time", "energy", "target"]
    assert [line.split()[0] for line in lines] == ["6", "7", "8", "9"]
    assert "2023-11-14T22:13:26" in lines[0]
    commands.table("rig", "shots", None, limit=2, oldest=True, as_json=True)
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"row": 0, **{name: values[0] for name, values in shots(0, 1).items()}}


@pytest.mark.usefixtures("asking")
def test_table_is_exported(table, tmp_path, capsys):
    files.export("rig", str(tmp_path / "shots.parquet"), ["energy>=3"], table="shots")
    assert "shots: 4 rows of time, energy" in capsys.readouterr().out
    content = pq.read_table(tmp_path / "shots.parquet")
    assert content.column("row").to_pylist() == [6, 7, 8, 9]
    assert content.column("count").to_pylist()[0] == 2**60 + 6
    files.export("rig", str(tmp_path / "shots.csv"), [], table="shots")
    assert (tmp_path / "shots.csv").read_text().splitlines()[1].startswith("0,2023-11-14 22:13:20")
    with pytest.raises(BadRequest, match=r"not written as hdf5; give a file that ends with \.parquet or \.csv"):
        files.export("rig", str(tmp_path / "shots.h5"), [], table="shots")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("shots")) == [
        "shots.csv",
        "shots.parquet",
    ]
