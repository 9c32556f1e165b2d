"""The commands about alarms, through a router in memory."""

import json

import pytest
from typer.testing import CliRunner

from sisock import Field, Timeline
from sisock.alarm.settings import AlarmSettings
from sisock.cli.app import build
from sisock.errors import BadRequest, NodeLeft, NoSuchAlarm
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource


@pytest.fixture
def rig(sisock_stepped_site, tmp_path, monkeypatch):
    site = sisock_stepped_site
    access = site.router.access("operator", f"unix:{tmp_path / 'router.sock'}")
    given = {"WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret, "REALM": access.realm}
    for name, value in {**given, "BASE_URI": access.base_uri, "SISOCK_SITE": ""}.items():
        monkeypatch.setenv(name, value)
    source = ManualSource(Timeline("tl", [Field("x", units="°C")], lateness_s=0.0, follows_clock=False))
    alarms = {
        "hot": AlarmSettings(field="x", above=60, severity="error"),
        "room/warm": AlarmSettings(field="x", above=50),
        "lost": AlarmSettings(field="no", above=1),
        "cold": AlarmSettings(field="x", below=-60),
    }
    node = Node("rig", None, [source], HistorySettings(keep=1e12), site.clock, alarms=alarms)
    site.serve(node)
    site.clock.step(1.0)
    source.emit("tl", [site.clock.now()], {"x": [61.0]})
    return node


def run(*arguments, exit_code=0):
    """Return the lines of a command."""
    result = CliRunner().invoke(build(), [*arguments], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output.splitlines()


@pytest.mark.usefixtures("rig")
def test_alarms_are_listed_the_most_urgent_first_and_acknowledged():
    head, hot, warm, lost = [line.split("\t") for line in run("alarms")]
    assert head == ["severity", "state", "node", "alarm", "since", "text"]
    assert hot[:4] == ["error", "unacknowledged", "rig", "hot"]
    assert hot[5] == "x is 61 °C, above 60 °C"
    assert warm[3] == "room/warm"
    assert (lost[3], lost[5]) == ("lost", "above 1; not evaluated: waiting for field")
    assert len(run("alarms", "rig", "--all")) == 5
    assert run("alarm", "acknowledge", "rig", "hot", "--comment", "on my way") == [
        "hot",
        "the change is not on the disk, and is lost when the node restarts",
    ]
    rows = {row["name"]: row for row in json.loads(run("alarms", "rig", "--json")[0])}
    assert (rows["hot"]["state"], rows["hot"]["by"], rows["hot"]["comment"]) == (
        "acknowledged",
        "operator",
        "on my way",
    )
    assert run("alarm", "acknowledge", "rig", "hot", exit_code=1)[0] == "hot is not changed: is acknowledged"
    with pytest.raises(NoSuchAlarm, match="did you mean hot?"):
        run("alarm", "acknowledge", "rig", "hit")


def test_alarms_are_shelved_suppressed_and_deleted(rig):
    assert run("alarm", "shelve", "rig", "room/*", "--for", "1h")[0] == "room/warm"
    until = str(rig.clock.now() + 600.0)
    assert run("alarm", "suppress", "rig", "cold", "--until", until)[0] == "cold"
    assert {row["name"]: row["state"] for row in rig.alarms.list()} == {
        "hot": "unacknowledged",
        "room/warm": "shelved",
        "lost": "normal",
        "cold": "suppressed",
    }
    assert run("alarm", "unshelve", "rig", "*")[:2] == ["room/warm", "cold"]
    assert run("alarm", "reset", "rig", "hot", exit_code=1)[0] == "hot is not changed: is not latched"
    rig.alarms.set("mine", AlarmSettings(field="x", above=1), "alice")
    assert run("alarm", "delete", "rig", "mine")[0] == "mine"
    with pytest.raises(BadRequest, match="give either --for, such as 2h, or --until"):
        run("alarm", "shelve", "rig", "hot")


def test_watch_reports_a_node_that_does_not_answer_and_continues(rig, monkeypatch):
    looks = []

    def alarms(_self, node):
        looks.append(node)
        if len(looks) == 2:
            raise NodeLeft("node 'rig' left")
        if len(looks) == 4:
            raise KeyboardInterrupt
        return rig.alarms.list("hot")

    monkeypatch.setattr("sisock.consumer.BlockingConsumer.alarms", alarms)
    monkeypatch.setattr("sisock.cli.alarms._pause", lambda: None)
    assert [line.split("\t")[0] for line in run("alarms", "rig", "--watch")] == ["error", "site: node 'rig' left"]
    assert set(looks) == {"rig"}


def test_changes_are_shown_as_they_come(rig, monkeypatch):
    looks = []

    def acknowledge():
        looks.append(rig.alarms.acknowledge("hot", None, "alice"))
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("sisock.cli.alarms._pause", acknowledge)
    lines = [line.split("\t") for line in run("alarms", "--watch")]
    assert [(line[1], line[3]) for line in lines] == [
        *(("unacknowledged", "hot"), ("unacknowledged", "room/warm"), ("normal", "lost"), ("acknowledged", "hot")),
    ]
