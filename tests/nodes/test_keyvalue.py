"""A key-value node: each change is on the disk before it is confirmed; watching misses none and gets none twice."""

import json
import sqlite3
import subprocess
import sys
import threading

import pytest

from sisock.consumer import in_reactor
from sisock.consumer.keyvalue import TreeReading
from sisock.errors import BadHistory, BadRequest, Busy, Conflict, NodeFailed, TooLarge
from sisock.keyvalue import topic_of
from sisock.node_context import make_context
from sisock.nodetype import RESERVED_COMPONENTS
from sisock.outage import OutageLog
from sisock.service_node import ServiceNode
from sisock.times import SystemClock, wait_until
from sisock_nodes.keyvalue import node_type
from sisock_nodes.keyvalue.settings import KeyValueSettings
from sisock_nodes.keyvalue.store import Store


@pytest.fixture
def store(tmp_path):
    made = opened(tmp_path)
    yield made
    made.stop()


def opened(folder, on_changes=lambda _: None):
    clock = SystemClock()
    store = Store(folder / "values.sqlite", clock, on_changes, OutageLog(clock))
    store.start()
    return store


def put(store, path, value, **options):
    return store.change(lambda tree, now: tree.set(path, value, now, **options))


def test_values_and_numbers_survive_a_restart(tmp_path):
    store = opened(tmp_path)
    for number in range(20):
        put(store, f"a/{number % 3}", number)
    store.change(lambda tree, now: tree.delete("a/1", now)).result(20.0)
    before = store.snapshot("")
    store.stop()
    again = opened(tmp_path)
    assert again.snapshot("") == before
    assert put(again, "b", [1, {"c": None}]).result(20.0).seq == before.seq + 1
    again.stop()


WRITER = """
import sys
from pathlib import Path
from sisock.outage import OutageLog
from sisock.times import SystemClock
from sisock_nodes.keyvalue.store import Store
clock = SystemClock()
store = Store(Path(sys.argv[1]), clock, lambda _: None, OutageLog(clock))
store.start()
for number in range(10**9):
    futures = [store.change(lambda tree, now, n=n: tree.set(f"k/{n}", number, now)) for n in range(10)]
    print(futures[-1].result(20.0).seq, flush=True)
"""


def test_no_confirmed_change_is_lost_by_a_kill(tmp_path):
    path = tmp_path / "values.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        confirmed = [int(writer.stdout.readline()) for _ in range(30)]
        writer.kill()
        confirmed += [int(line) for line in writer.stdout.read().splitlines()[:-1]]
    store = opened(tmp_path)
    found = store.snapshot("")
    assert found.seq >= confirmed[-1]
    assert len(found.entries) == 10
    assert {entry.seq for entry in found.entries} <= set(range(found.seq - 19, found.seq + 1))
    store.stop()


def test_two_writers_with_compare_and_set_never_overwrite_each_other(store):
    put(store, "n", 0).result(20.0)

    def count(times):
        for _ in range(times):
            while True:
                entry = store.get("n")
                try:
                    put(store, "n", entry.value + 1, expected=entry.seq).result(20.0)
                except Conflict:
                    continue
                break

    writers = [threading.Thread(target=count, args=(50,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60.0)
    assert store.get("n").value == 100


def test_full_disk_refuses_changes_as_a_whole_and_reading_continues(tmp_path):
    told = []
    store = opened(tmp_path, told.extend)
    put(store, "a", 1).result(20.0)
    with sqlite3.connect(tmp_path / "values.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")  # as a disk that takes nothing does
        refused = put(store, "a", 2)
        assert store.status()["values"] == 1
        with pytest.raises(Busy, match="nothing was changed"):
            refused.result(30.0)
        assert store.get("a").value == 1
        other.rollback()
    assert put(store, "a", 3).result(20.0).seq == 2
    assert [entry.value for entry in told] == [1, 3]
    store.stop()


def test_file_that_is_damaged_or_of_a_later_version_is_not_touched(tmp_path):
    path = tmp_path / "values.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(BadHistory, match="move it away to start without it"):
        opened(tmp_path)
    assert path.read_bytes() == b"not a database" * 100
    path.unlink()
    with sqlite3.connect(path) as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(BadHistory, match="version 99, written by a later sisock"):
        opened(tmp_path)


def test_values_expire_on_their_own(store):
    put(store, "lease", "ours", time_to_live=0.2).result(20.0)
    assert wait_until(lambda: store.get("lease") is None, 20.0)
    assert store.status()["counters"]["expired"] == 1


@pytest.fixture
def service(sisock_stepped_site, tmp_path):
    site = sisock_stepped_site
    settings = KeyValueSettings(type="keyvalue")
    context = make_context("settings", settings=settings, clock=site.clock, folder=tmp_path)
    made = ServiceNode(node_type.make_service(settings, context), context, settings.description)
    site.serve(made)
    return made


def test_clients_set_read_and_delete(service, sisock_stepped_site):
    with sisock_stepped_site.consumer("operator") as c:
        assert c.command("settings", "set", path="hall/door", value="open", expected=0) == {"seq": 1, "expires": None}
        with pytest.raises(Conflict, match="hall/door is of change 1, not 0"):
            c.command("settings", "set", path="hall/door", value="shut", expected=0)
        found = c.query("settings", "get", path="hall/door")
        assert (found["value"], found["seq"]) == ("open", 1)
        assert c.query("settings", "get", path="hall") is None
        for path, problem in (("hall//door", "without empty ones"), ("", "not a valid path")):
            with pytest.raises(BadRequest, match=problem):
                c.command("settings", "set", path=path, value=1)
        with pytest.raises(BadRequest, match="give a value of JSON"):
            c.command("settings", "set", path="a", value=b"bytes")
        with pytest.raises(TooLarge, match="at most 1000000"):
            c.command("settings", "set", path="a", value="x" * 2_000_000)
        assert c.command("settings", "delete", path="hall/door")["seq"] == 2
        assert c.command("settings", "delete", path="hall/door")["seq"] is None
        assert c.status("settings")["health"]["state"] == "ok"
        kinds = [(each["kind"], each["name"]) for each in c.procedures("settings")]
    assert ("command", "set") in kinds
    (event,) = service.work.events.read(kind="command", subject="set", limit=1).events
    assert event.data["caller"]["role"] == "operator"


def test_watching_begins_with_a_snapshot_and_then_has_each_change_once(service, sisock_stepped_site):
    site = sisock_stepped_site
    with site.consumer("operator") as c, site.consumer() as reader:
        for number in range(5):
            c.command("settings", "set", path=f"a/{number}", value=number)
        c.command("settings", "set", path="b", value="elsewhere")
        values, told = {}, []
        updates = reader.watch("settings", "a")
        first = next(updates)
        assert first.is_snapshot
        assert {entry.path: entry.value for entry in first.entries} == {f"a/{number}": number for number in range(5)}

        def write():
            for number in range(30):
                c.command("settings", "set", path=f"a/{number % 5}", value=100 + number)
            c.command("settings", "delete", path="a/0")

        writer = threading.Thread(target=write)
        writer.start()
        for update in updates:
            for entry in update.entries:
                told.append(entry.seq)
                values[entry.path] = None if entry.is_deleted else entry.value
            if values.get("a/0", 0) is None:
                break
        writer.join(20.0)
        assert told == sorted(set(told))
        assert len(told) == 31
        assert values == {"a/0": None, "a/1": 126, "a/2": 127, "a/3": 128, "a/4": 129}
        (more,) = [next(reader.watch("settings", "a", after=update.seq - 1))]
        assert [entry.seq for entry in more.entries] == [update.seq]


@pytest.mark.parametrize("path", ["events/x", "a.b/c", "with blanks/x", "x" * 300, "table"])
def test_names_that_no_topic_can_have_are_set_and_watched_as_others(service, sisock_stepped_site, path):
    with sisock_stepped_site.consumer("operator") as c:
        updates = c.watch("settings", path)
        assert next(updates).entries == []
        c.command("settings", "set", path=path, value=1)
        assert [entry.path for entry in next(updates).entries] == [path]
        c.command("settings", "set", path="other", value=2)  # the store works on


def test_topics_have_no_name_that_belongs_to_every_node():
    assert {name for name in RESERVED_COMPONENTS if topic_of(name) != "changes"} == set()
    assert topic_of("hall/door") == "changes.hall"


def test_change_that_raises_fails_alone(store):
    broken = store.change(lambda tree, now: 1 / 0)
    with pytest.raises(NodeFailed, match="ZeroDivisionError"):
        broken.result(20.0)
    assert put(store, "a", 1).result(20.0).seq == 1


def test_changes_are_published_by_subtree(service, sisock_stepped_site):
    from sisock.wamp.session import Session

    client, found = sisock_stepped_site.serve(Session).session, []
    topic = client.uri("consumer.settings.changes.hall")
    in_reactor(lambda: client.subscribe(found.extend, topic)).result(20.0)
    with sisock_stepped_site.consumer("operator") as c:
        for path in ("hall/door", "roof", "hall/light"):
            c.command("settings", "set", path=path, value=1)
    assert wait_until(lambda: len(found) == 2, 20.0)
    assert [each["path"] for each in found] == ["hall/door", "hall/light"]


def test_snapshot_of_many_pages_and_the_changes_between_them_are_consistent():
    def entry(path, seq, value=0, *, deleted=False):
        return {"path": path, "value": value, "seq": seq, "time": 0.0, "expires": None, "deleted": deleted}

    reading = TreeReading("settings", "")
    assert (reading.query, reading.request()) == ("list", {"path": ""})
    assert reading.answered({"seq": 2, "values": [entry("a", 1)], "next": "a"}) is None
    assert reading.request() == {"path": "", "after": "a"}
    # Meanwhile a was set again (3), and b (4), which the second page has already.
    update = reading.answered({"seq": 4, "values": [entry("b", 4, "new")], "next": None})
    assert (update.is_snapshot, update.seq, [each.path for each in update.entries]) == (True, 2, ["a", "b"])
    assert (reading.query, reading.request()) == ("changes", {"path": "", "after": 2})
    update = reading.answered({"seq": 4, "changes": [entry("a", 3, "newer"), entry("b", 4, "new")]})
    assert [(each.path, each.seq) for each in update.entries] == [("a", 3)]
    assert reading.answered({"seq": 4, "changes": []}) is None
    assert reading.wait_s > 0
    assert reading.answered({"seq": 9, "changes": None}) is None
    assert reading.query == "list"


def test_commands_of_the_terminal(service, sisock_stepped_site, capsys, monkeypatch):
    from contextlib import nullcontext

    from sisock.cli import keyvalue as command

    site = sisock_stepped_site
    with site.consumer("operator") as c:
        monkeypatch.setattr(command, "asking", lambda _: nullcontext(c))
        monkeypatch.setattr("sisock.consumer.BlockingConsumer", lambda _: nullcontext(c))
        monkeypatch.setattr(command, "find_access", lambda *_: None)
        command.set_value("settings", "hall/door", "open")
        command.set_value("settings", "hall/size", "[3, 4.5]", expected=0, time_to_live="1h")
        command.get("settings", "hall/size")
        command.list_values("settings", "hall")
        command.delete("settings", "hall/door", expected=1)
        command.list_values("settings", as_json=True)
        out = capsys.readouterr().out.splitlines()
        with pytest.raises(BadRequest, match="has no value at 'hall/door'"):
            command.get("settings", "hall/door")
        with pytest.raises(BadRequest, match="sisock kv delete"):
            command.set_value("settings", "a", "null")
    assert out[:6] == [
        "hall/door is of change 1",
        "hall/size is of change 2",
        "[3, 4.5]",
        "hall/door open",
        "hall/size [3, 4.5]",
        "hall/door was deleted by change 3",
    ]
    (last,) = out[6:]
    assert json.loads(last)["expires"] == pytest.approx(service.clock.now() + 3600)
