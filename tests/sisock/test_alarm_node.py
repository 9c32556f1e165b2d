"""Alarms of a node: what clients see of them, through a router in memory."""

from dataclasses import replace

import pytest

from sisock import Field, Timeline
from sisock.alarm.alarms import Alarms
from sisock.alarm.notify import NotificationSettings, Target
from sisock.alarm.settings import AlarmSettings
from sisock.consumer import in_reactor
from sisock.errors import BadRequest, NoSuchAlarm
from sisock.node import Node, open_node
from sisock.nodetype import load_node_type, node_types
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.wamp.session import Session
from sisock.work import Work

HOT = {"hot": AlarmSettings(field="x", above=60, severity="error"), "room/cold": AlarmSettings(field="x", below=-60)}


class Rig:
    """A node with two alarms, and a client of it in each role."""

    def __init__(self, site, folder):
        self.clock, self.folder, self.site = site.clock, folder, site
        self.source, self.node = self.make()
        site.serve(self.node)

    def make(self):
        source = ManualSource(Timeline("tl", [Field("x", units="°C")], lateness_s=0.0, follows_clock=False))
        work = Work(self.clock)
        alarms = Alarms("rig", HOT, self.clock, work, work.outages, self.folder / "alarms.json")
        history = HistorySettings(keep=1e12)
        return source, Node("rig", "a rig", [source], history, self.clock, work=work, alarms=alarms)

    def put(self, *values):
        for value in values:
            self.clock.step(1.0)
            self.source.emit("tl", [self.clock.now()], {"x": [value]})


@pytest.fixture
def rig(sisock_stepped_site, tmp_path):
    return Rig(sisock_stepped_site, tmp_path)


def test_alarm_is_raised_listed_acknowledged_and_counted(rig):
    rig.put(1.0, 61.0)
    with rig.site.consumer("operator") as operator:
        outcome = operator.call("rig", "acknowledge_alarm", name="h*", comment="on my way")
        assert outcome == {"changed": ["hot"], "unchanged": {}, "saved": True}
        (hot,) = operator.call("rig", "alarms", name="hot")
        assert (hot["state"], hot["by"], hot["comment"], hot["value"]) == (
            "acknowledged",
            "operator",
            "on my way",
            61.0,
        )
        status = operator.status("rig")["alarms"]
        assert status["by_severity"] == {"warning": {"normal": 1}, "error": {"acknowledged": 1}}
        assert not {"alarms", "acknowledge_alarm"} & {each["name"] for each in operator.procedures("rig")}
        with pytest.raises(NoSuchAlarm, match="did you mean hot?"):
            operator.call("rig", "acknowledge_alarm", name="hop")


def test_alarm_is_shelved_set_and_deleted_by_command(rig):
    with rig.site.consumer("operator") as operator:

        def call(procedure, **arguments):
            return operator.call("rig", procedure, **arguments)

        assert call("shelve_alarm", name="room/*", comment="noisy", **{"for": "2h"})["changed"] == ["room/cold"]
        (cold,) = call("alarms", name="room/cold")
        assert (cold["state"], cold["until"] - rig.clock.now()) == ("shelved", 7200.0)
        call("suppress_alarm", name="room/cold", until=rig.clock.now() + 60.0)
        assert call("unshelve_alarm", name="*")["changed"] == ["room/cold"]
        for arguments in ({}, {"until": 1e10, "for": 3}, {"for": "soon"}, {"until": "soon"}, {"until": "2020-01-01"}):
            with pytest.raises(BadRequest):
                call("shelve_alarm", name="hot", **arguments)
        content = {"name": "warm", "field": "x", "above": 20, "for": "3s", "latch": True}
        assert call("set_alarm", **content)["changed"] == ["warm"]
        rig.put(30.0, 30.0, 30.0, 30.0)
        (warm,) = call("alarms", name="warm")
        assert (warm["state"], warm["origin"], warm["definition"]["for"]) == ("unacknowledged", "command", 3.0)
        call("acknowledge_alarm", name="warm")
        rig.put(1.0)
        assert call("reset_alarm", name="warm")["changed"] == ["warm"]
        call("delete_alarm", name="warm")
        with pytest.raises(BadRequest, match="hot.*is defined in the site file"):
            call("delete_alarm", name="hot")
        with pytest.raises(BadRequest, match="abov: is not known"):
            call("set_alarm", name="warm", field="x", abov=3)


def test_alarms_are_a_query_of_the_node(rig):
    session = rig.site.serve(Session).session
    rows = in_reactor(lambda: session.call(session.uri("consumer.rig.query.alarms"), name="r*")).result(20.0)
    assert [row["name"] for row in rows] == ["room/cold"]


def test_node_that_starts_again_has_the_states_of_its_alarms(rig):
    rig.put(61.0)
    with rig.site.consumer("operator") as operator:
        operator.call("rig", "acknowledge_alarm", name="hot")
    _, again = rig.make()
    assert {row["name"]: row["state"] for row in again.alarms.list()} == {"hot": "acknowledged", "room/cold": "normal"}


def test_alarms_of_a_site_file_are_those_of_the_node(tmp_path):
    settings = load_node_type(node_types()["host"]).settings
    content = {"type": "host", "alarms": {"a": {"field": "cpu.total", "above": 1}}}
    target = Target("shift", NotificationSettings(webhook="http://127.0.0.1:1/"))
    node = open_node("host", settings.model_validate(content), folder=tmp_path, notifications=[target])
    assert [row["name"] for row in node.alarms.list()] == ["a"]
    assert [each["target"] for each in node.status()["alarms"]["notifications"]] == ["shift"]
    node.alarms.shelve("a", node.clock.now() + 60.0, None, "alice")
    assert (tmp_path / "alarms.json").exists()
    node.stop()


def test_each_change_of_a_state_is_an_event_with_the_person(rig):
    rig.put(1.0, 61.0)
    with rig.site.consumer("operator") as operator:
        operator.call("rig", "acknowledge_alarm", name="hot", comment="on my way")
    rig.put(1.0)
    page = rig.node.work.events.read(kind="alarm")
    assert [(each.subject, each.severity, each.text) for each in page.events] == [
        ("hot", "error", "hot: x is 61 °C, above 60 °C"),
        ("hot", "info", "hot is acknowledged by operator: on my way"),
        ("hot", "info", "hot has cleared: x is 1"),
    ]
    assert [each.data["before"] for each in page.events] == ["normal", "unacknowledged", "acknowledged"]
    assert page.events[1].data["by"] == "operator"


def test_node_type_adds_alarms_to_those_of_the_site_file(monkeypatch, tmp_path):
    contexts = []
    node_type = load_node_type(node_types()["host"])

    def make_sources(settings, context):
        contexts.append(context)
        context.alarms.set("mine", AlarmSettings(field="x", above=1), "the node")
        return [ManualSource(Timeline("tl", [Field("x")]))]

    monkeypatch.setattr("sisock.node.node_type_of", lambda _: replace(node_type, make_sources=make_sources))
    node = open_node("host", node_type.settings.model_validate({"type": "host"}), folder=tmp_path)
    assert contexts[0].alarms is node.alarms
    node.start()
    node.sources[0].emit("tl", [node.clock.now()], {"x": [2.0]})
    node.stop()
    assert node.status()["alarms"]["by_severity"] == {"warning": {"unacknowledged": 1}}


def test_late_samples_raise_nothing(rig):
    rig.put(1.0, 2.0)
    rig.source.emit("tl", [rig.clock.now() - 1.5], {"x": [99.0]})
    assert rig.node.status()["alarms"]["by_severity"]["error"] == {"normal": 1}
    assert rig.node.status()["timelines"]["tl"]["late"] == 1
