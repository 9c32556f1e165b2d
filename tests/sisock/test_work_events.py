"""Events on the wire: published, read back, and kept over a restart of the node; without Crossbar."""

import json
import threading
from contextlib import nullcontext

import pytest
from pydantic import BaseModel, SecretStr

from sisock.alarm.settings import AlarmSettings
from sisock.base import DataNodeServer
from sisock.cli import events as command
from sisock.consumer import in_reactor
from sisock.errors import BadRequest, NoSuchNode
from sisock.node import Node
from sisock.procedure import Command, Operation
from sisock.times import iso, wait_until
from sisock.wamp import event_publisher
from sisock.wamp.session import Session
from sisock.work import Work


class Login(BaseModel):
    user: str
    password: SecretStr


def fails():
    raise BadRequest("the shutter is stuck")


def made(site, folder=None):
    node = Node("rig", "a rig", [], clock=site.clock, work=Work(site.clock, folder=folder))
    node.work.offers.add(Command("login", "Log in.", Login, None, lambda login: None))
    node.work.offers.add(Command("close", "Close the shutter.", None, None, fails))
    node.work.offers.add(Operation("wait", "Wait.", None, None, lambda context: context.cancelled.wait(20.0)))
    return node


@pytest.fixture
def site(sisock_stepped_site):
    return sisock_stepped_site


@pytest.fixture
def client(site):
    """A plain session, as one in another language has it."""
    return site.serve(Session).session


def call(session, procedure, **arguments):
    return in_reactor(lambda: session.call(session.uri(procedure), **arguments)).result(20.0)


def subscribed(session, topic, **options):
    found = []
    in_reactor(lambda: session.subscribe(found.extend, session.uri(topic), **options)).result(20.0)
    return found


def test_calls_of_commands_are_published_and_read_back(site, client):
    site.serve(made(site))
    found = subscribed(client, "consumer.rig.events")
    call(client, "control.rig.login", user="ada", password="hidden")
    with pytest.raises(BadRequest, match="stuck"):
        call(client, "control.rig.close")
    assert wait_until(lambda: sum(each["kind"] == "command" for each in found) == 2, 20.0)
    login, close = (each for each in found if each["kind"] == "command")  # the start of the node may be seen, too
    assert set(login) == {"time", "seq", "kind", "subject", "text", "severity", "data"}
    assert (login["kind"], login["subject"], login["severity"]) == ("command", "login", "info")
    assert login["data"]["arguments"] == {"user": "ada", "password": "**********"}
    assert login["data"]["caller"]["authid"]
    assert (close["severity"], close["data"]["error"]) == ("warning", "the shutter is stuck")
    assert close["seq"] == login["seq"] + 1
    page = call(client, "consumer.rig.query.events", kind="command")
    assert page["events"] == [login, close]
    assert call(client, "consumer.rig.query.events", after=page["cursor"])["events"] == []
    assert page["oldest"] == 0


def test_nothing_is_published_while_nobody_is_subscribed(site, client):
    connection = site.serve(made(site))
    call(client, "control.rig.login", user="ada", password="hidden")
    call(client, "consumer.rig.query.events")

    def published():
        return connection.session.counters.as_dict().get("published_events", 0)

    def published_by_one_more():
        before = published()
        call(client, "control.rig.login", user="ada", password="hidden")
        call(client, "consumer.rig.query.events")
        return published() - before

    # Until the router has answered, anybody might be subscribed.
    assert wait_until(lambda: published_by_one_more() == 0, 20.0)
    before = published()
    call(client, "control.rig.login", user="ada", password="hidden")
    call(client, "consumer.rig.query.events")
    assert connection.session.counters.as_dict().get("published_events", 0) == before


@pytest.mark.parametrize(
    ("arguments", "words"), [({"severity": "bad"}, "severity"), ({"limit": 5000}, "limit"), ({"colour": 1}, "colour")]
)
def test_bad_parameters_are_refused_by_name(site, client, arguments, words):
    site.serve(made(site))
    with pytest.raises(BadRequest, match=words):
        call(client, "consumer.rig.query.events", **arguments)


def test_events_and_runs_outlive_the_node(site, client, tmp_path):
    node = made(site, tmp_path)
    site.serve(node)
    run = call(client, "control.rig.wait", _wait=False)
    call(client, "control.rig.login", user="ada", password="hidden")
    for table in node.work.tables:
        node.work.events.read()
        assert table.write()
    # As after a kill: what is on the disk is all that a new process gets.
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.open")}
    assert len(files) == 2
    other = tmp_path / "other"
    for path, content in files.items():
        copy = other / path.relative_to(tmp_path)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(content)
    again = made(site, other)
    (record,) = again.work.operations.list()
    assert (record["id"], record["state"], record["error"]) == (run, "failed", "node stopped")
    kinds = [(event.kind, event.subject) for event in again.work.events.read().events]
    assert ("command", "login") in kinds
    assert kinds[-1] == ("run", "wait")
    again.start()
    again.stop()


def test_status_has_the_counters_of_events_and_tables(site, client):
    site.serve(made(site))
    call(client, "control.rig.login", user="ada", password="hidden")
    call(client, "consumer.rig.query.events")
    status = call(client, "consumer.rig.status")
    assert status["events"]["reported"] >= 2  # the start of the node, and the call
    assert status["tables"]["events"]["next"] == status["events"]["reported"]
    assert status["tables"]["operations"]["lost"] == 0


def test_outages_of_the_node_are_events(site):
    node = made(site)
    node.start()
    node.outages.failed("the lamp", "it is dark")
    node.outages.recovered("the lamp")
    kinds = [(event.kind, event.subject) for event in node.work.events.read().events]
    assert kinds == [("node", "rig"), ("outage", "the lamp"), ("recovered", "the lamp")]
    node.stop()


def test_server_of_the_published_contract_publishes_events_without_keeping_a_thread(site, client):
    class Lamp(DataNodeServer):
        name, description = "lamp", "a lamp"
        control = (Command("shine", "Shine.", None, None, lambda: "bright"),)

    before = set(threading.enumerate())
    connection = site.serve(Lamp)
    found = subscribed(client, "consumer.lamp.events")
    call(client, "control.lamp.shine")
    assert wait_until(lambda: [each["subject"] for each in found] == ["shine"], 20.0)
    connection.session.report("fault", "bulb", "it flickers", "warning", times=3)
    assert wait_until(lambda: found[-1]["subject"] == "bulb", 20.0)
    assert (found[-1]["severity"], found[-1]["data"]) == ("warning", {"times": 3})
    in_reactor(connection.stop).result(20.0)
    assert wait_until(lambda: "events" not in {each.name for each in set(threading.enumerate()) - before}, 20.0)


def test_consumers_read_events_by_their_cursor(site):
    node = made(site)
    site.serve(node)
    with site.consumer() as consumer:
        page = consumer.events("rig", "all", kind="node")
        assert [(event.kind, event.subject, event.severity) for event in page.events] == [("node", "rig", "info")]
        node.work.report("alarm", "door", "door is open", "error", value=1.5)
        (event,) = consumer.events("rig", after=page.cursor).events
        assert (event.text, event.data, event.seq) == ("door is open", {"value": 1.5}, page.cursor)
        with pytest.raises(BadRequest, match="severity"):
            consumer.events("rig", severity="bad")
        with pytest.raises(NoSuchNode, match="did you mean rig"):
            consumer.events("rigg")


def test_command_shows_events_of_all_nodes_and_what_follows(site, capsys, monkeypatch):
    node = made(site)
    site.serve(node)
    node.work.report("alarm", "door", "door is open\x1b[2J", "error")
    told = []

    def wait(*_, **__):
        told.append(1)
        if len(told) == 1:
            node.work.report("alarm", "door", "door is closed")
            return False
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "wait_until", wait)
    with site.consumer() as consumer:
        consumer.show_progress = False
        monkeypatch.setattr(command, "asking", lambda _: nullcontext(consumer))
        command.events(None, limit=50, kind="alarm", follow=True)
        lines = capsys.readouterr().out.splitlines()
        command.events("rig", limit=1, as_json=True)
        (shown,) = capsys.readouterr().out.splitlines()
    when = iso(site.clock.now())
    assert lines == [
        rf"{when}  rig  error     alarm      door is open\x1b[2J",
        f"{when}  rig  info      alarm      door is closed",
    ]
    assert json.loads(shown)["text"] == "door is closed"
    assert json.loads(shown)["node"] == "rig"


def test_damage_of_tables_is_an_event_at_the_next_start(site, tmp_path):
    node = made(site, tmp_path)
    node.work.report("node", "rig", "a row")
    node.work.close()
    node.work.close_tables()
    (rows,) = (tmp_path / "tables" / "events").glob("*.rows")
    rows.write_bytes(rows.read_bytes()[:-20] + b"\n")
    (tmp_path / "tables" / "operations" / "notes.txt").write_text("mine")
    again = made(site, tmp_path)
    found = {event.subject: event for event in again.work.events.read(kind="damage").events}
    assert found["table events"].data == {"damaged": 1, "quarantined": 1}
    assert found["table operations"].data == {"quarantined": 1}
    assert found["table events"].severity == "error"
    again.work.close()
    again.work.close_tables()


def test_start_after_a_kill_is_a_warning(site, monkeypatch):
    monkeypatch.setenv("SISOCK_EARLIER_RUNS", json.dumps({"restarts": 1, "hangs": 0, "last_exit": "killed by SIGKILL"}))
    node = made(site)
    node.start()
    (event,) = node.work.events.read(kind="node").events
    assert (event.text, event.severity) == ("node rig has started again (killed by SIGKILL)", "warning")
    assert event.data["restarts"] == 1
    node.stop()


def test_events_that_the_reactor_has_no_time_for_are_counted_and_can_be_read(site, client, monkeypatch):
    monkeypatch.setattr(event_publisher, "_MOST_WAITING", 10)
    node = made(site)
    connection = site.serve(node)
    found = subscribed(client, "consumer.rig.events")
    node.work.events.read()

    def storm():
        for i in range(100):
            node.work.report("alarm", "storm", str(i))
        node.work.events.read()  # passes them on in this thread, which is the one that publishes

    in_reactor(storm).result(20.0)
    assert wait_until(lambda: sum(each["subject"] == "storm" for each in found) >= 10, 20.0)
    counters = connection.session.counters.as_dict()
    published = sum(each["subject"] == "storm" for each in found)
    assert published + counters["unpublished_events"] == 100
    page = call(client, "consumer.rig.query.events", subject="storm", after=0, limit=1000)
    assert [each["text"] for each in page["events"]] == [str(i) for i in range(100)]


def test_a_burst_of_events_is_published_in_lists(site, client):
    node = made(site)
    site.serve(node)
    lists = []
    in_reactor(lambda: client.subscribe(lists.append, client.uri("consumer.rig.events"))).result(20.0)
    node.work.events.read()

    def burst():
        for i in range(1200):
            node.work.report("alarm", "burst", str(i))
        node.work.events.read()

    in_reactor(burst).result(20.0)
    assert wait_until(lambda: sum(len(each) for each in lists) >= 1200, 20.0)
    texts = [event["text"] for each in lists for event in each if event["subject"] == "burst"]
    assert texts == [str(i) for i in range(1200)]
    assert len(lists) < 20


def test_events_are_followed_through_the_absence_of_their_node(site):
    node = made(site)
    connection = site.serve(node)
    node.work.report("alarm", "door", "before")
    with site.consumer() as consumer:
        following = consumer.follow_events("rig", kind="alarm")
        told, done = [], threading.Event()

        def read():
            for page in following:
                told.extend(event.text for event in page.events)
                if "last" in told:
                    break
            done.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()

        def begun():
            node.work.report("alarm", "door", "now")
            return told

        assert wait_until(begun, 20.0)
        for i in range(3):
            node.work.report("alarm", "door", str(i))
        node.work.report("other", "door", "of another kind")
        assert wait_until(lambda: "2" in told, 20.0)
        in_reactor(connection.stop).result(20.0)
        node.work.report("alarm", "door", "while the node is away")
        site.serve(node)
        node.work.report("alarm", "door", "last")
        assert done.wait(20.0)
    assert [text for text in told if text != "now"] == ["0", "1", "2", "while the node is away", "last"]


def test_events_of_a_node_that_is_not_there_are_not_followed(site):
    with site.consumer() as consumer, pytest.raises(NoSuchNode, match="no node 'rig'"):
        next(consumer.follow_events("rig"))


def test_consumer_lists_alarms(site):
    node = made(site)
    node.alarms.set("hot", AlarmSettings(field="t", above=30.0, severity="error"), by="test")
    site.serve(node)
    with site.consumer() as consumer:
        (alarm,) = consumer.alarms("rig", "h*")
        assert (alarm["name"], alarm["state"], alarm["severity"]) == ("hot", "normal", "error")
        assert "normal" in consumer.alarms("rig")._repr_html_()
