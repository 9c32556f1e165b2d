"""The alarms of a node: what operators do, what is kept on disk, and what is reported."""

import json
import math
import threading

import pytest
from pydantic import ValidationError

from sisock import Field, Timeline
from sisock.alarm import reports
from sisock.alarm.alarms import Alarms
from sisock.alarm.settings import AlarmSettings
from sisock.errors import BadRequest, NoSuchAlarm
from sisock.fields import as_batch
from sisock.outage import OutageLog
from sisock.testing import StepClock

T = 1_700_000_000.0


class Log:
    """Events, as they were reported."""

    def __init__(self):
        self.events = []

    def report(self, kind, subject, text, severity="info", **data):
        self.events.append((kind, subject, text, severity, data))

    def texts(self):
        """Return subject and text, without the subject that it begins with, of all events so far, and forget them."""
        found, self.events = self.events, []
        assert all(text.startswith(subject) for _, subject, text, _, _ in found)
        return [(subject, text.removeprefix(subject).removeprefix(":").strip()) for _, subject, text, _, _ in found]


class Bench:
    """Alarms on two timelines of a node whose clock is stepped."""

    def __init__(self, path=None, clock=None, fields=(Field("x", units="°C"), Field("y")), **definitions):
        self.clock, self.log = clock or StepClock(T), Log()
        self.outages = OutageLog(self.clock)
        settings = {name.replace("__", "/"): AlarmSettings(**content) for name, content in definitions.items()}
        self.alarms = Alarms("rig", settings, self.clock, self.log, self.outages, path)
        self.alarms.add(Timeline("tl", fields))
        self.alarms.add(Timeline("other", [Field("door", "bool")]))

    def put(self, t, timeline="tl", **columns):
        columns = {
            name: [value] for name, value in ({"x": 0.0, "y": 0.0} | columns if timeline == "tl" else columns).items()
        }
        self.alarms.on_batch(as_batch(timeline, [t], columns))

    def states(self, pattern="*"):
        return {row["name"]: row["state"] for row in self.alarms.list(pattern)}

    def row(self, name):
        (row,) = self.alarms.list(name)
        return row


@pytest.fixture
def bench():
    return Bench(
        hot={"field": "x", "above": 60, "clear": 55, "severity": "error"}, door={"field": "door", "equals": True}
    )


def test_alarm_from_rise_to_acknowledgement_is_listed_and_each_change_is_an_event(bench):
    bench.put(T + 1, x=61.5)
    assert bench.states() == {"hot": "unacknowledged", "door": "normal"}
    bench.clock.step(5)
    assert bench.alarms.acknowledge("hot", "on my way", "alice").changed == ["hot"]
    row = bench.row("hot")
    assert (row["state"], row["since"], row["raised"], row["value"], row["by"], row["comment"]) == (
        *("acknowledged", T + 5, T + 1, 61.5, "alice", "on my way"),
    )
    bench.put(T + 6, x=57.0)
    assert bench.row("hot")["active"]
    bench.put(T + 7, x=54.0)
    assert (bench.row("hot")["state"], bench.row("hot")["since"]) == ("normal", T + 7)
    kinds = {
        (kind, severity, data["t"], data["before"], data["state"]) for kind, _, _, severity, data in bench.log.events
    }
    assert kinds == {
        ("alarm", "error", T + 1, "normal", "unacknowledged"),
        ("alarm", "info", T + 5, "unacknowledged", "acknowledged"),
        ("alarm", "info", T + 7, "acknowledged", "normal"),
    }
    assert bench.log.texts() == [
        ("hot", "x is 61.5 °C, above 60 °C"),
        ("hot", "is acknowledged by alice: on my way"),
        ("hot", "has cleared: x is 54"),
    ]


def test_alarm_that_clears_by_itself_waits_for_its_acknowledgement(bench):
    bench.put(T + 1, x=61.5)
    bench.put(T + 2, x=1.0)
    assert bench.row("hot")["state"] == "returned"
    bench.put(T + 3, x=70.0)
    assert bench.row("hot")["state"] == "unacknowledged"
    bench.put(T + 4, x=1.0)
    bench.alarms.acknowledge("hot", None, "alice")
    assert bench.row("hot")["state"] == "normal"


def test_what_a_command_cannot_change_is_answered_with_the_reason(bench):
    outcome = bench.alarms.acknowledge("*", None, "alice")
    assert (outcome.changed, outcome.unchanged) == ([], {"hot": "is normal", "door": "is normal"})
    assert bench.alarms.reset("hot", None, "alice").unchanged == {"hot": "is not latched"}
    assert bench.log.events == []
    with pytest.raises(NoSuchAlarm, match="no alarm 'hat'; did you mean hot?"):
        bench.alarms.acknowledge("hat", None, "alice")
    with pytest.raises(NoSuchAlarm, match=r"no alarm 'room/\*'; `sisock alarms` lists them"):
        bench.alarms.acknowledge("room/*", None, "alice")


def test_shelving_ends_by_the_clock_and_what_holds_then_is_raised_again():
    bench = Bench(
        room__hot={"field": "x", "above": 60}, room__cold={"field": "x", "below": -60}, y={"field": "y", "above": 1}
    )
    bench.put(T + 1, x=61.0)
    bench.alarms.acknowledge("room/hot", None, "alice")
    bench.log.texts()
    outcome = bench.alarms.shelve("room/*", T + 600, "noisy", "bob")
    assert outcome.changed == ["room/hot", "room/cold"]
    assert bench.log.texts()[0] == ("room/hot", "is shelved by bob until 2023-11-14T22:23:20.000Z: noisy")
    bench.put(T + 2, x=0.0)
    bench.put(T + 3, x=-90.0)
    bench.put(T + 4, x=90.0)
    assert bench.log.texts() == []
    assert bench.states("room/*") == {"room/hot": "shelved", "room/cold": "shelved"}
    bench.clock.step(599)
    bench.alarms.tick()
    assert bench.states("room/hot") == {"room/hot": "shelved"}
    bench.clock.step(1)
    bench.alarms.tick()
    assert bench.states("room/*") == {"room/hot": "unacknowledged", "room/cold": "normal"}
    assert bench.log.texts() == [("room/hot", "x is 90 °C, above 60 °C"), ("room/cold", "is no longer shelved")]
    for until in (T, T + 400 * 86400, float("nan"), float("inf")):
        with pytest.raises(BadRequest, match="give a time after now"):
            bench.alarms.shelve("y", until, None, "bob")


def test_suppression_outlasts_shelving_and_is_ended_by_hand(bench):
    bench.alarms.suppress("hot", T + 3600, "service", "bob")
    assert bench.alarms.shelve("hot", T + 60, None, "bob").unchanged == {
        "hot": "is suppressed until 2023-11-14T23:13:20.000Z"
    }
    bench.put(T + 1, x=90.0)
    assert bench.alarms.unshelve("*", None, "bob").unchanged == {"door": "is neither shelved nor suppressed"}
    assert bench.states("hot") == {"hot": "unacknowledged"}


def test_latched_alarm_is_reset_by_hand():
    bench = Bench(trip={"field": "x", "above": 60, "latch": True})
    bench.put(T + 1, x=90.0)
    bench.alarms.acknowledge("trip", None, "alice")
    assert bench.alarms.reset("trip", None, "alice").unchanged == {"trip": "its condition still holds"}
    bench.put(T + 2, x=0.0)
    assert bench.states() == {"trip": "acknowledged"}
    assert bench.alarms.reset("trip", "inspected", "alice").changed == ["trip"]
    assert bench.states() == {"trip": "normal"}


# Fields that do not exist, or change


def test_alarm_without_its_field_waits_for_it_and_is_reported_after_a_minute():
    bench = Bench(later={"field": "z", "above": 1})
    assert bench.row("later")["error"] == "waiting for field"
    bench.alarms.tick()
    assert bench.outages.health().state == "ok"
    bench.clock.step(60)
    bench.alarms.tick()
    assert bench.outages.health().error == "alarms that are not evaluated: later: field 'z' does not exist"
    bench.alarms.add(Timeline("more", [Field("z")]))
    bench.alarms.tick()
    assert (bench.row("later")["error"], bench.outages.health().state) == (None, "ok")
    bench.put(T + 61, "more", z=2.0)
    assert bench.states() == {"later": "unacknowledged"}


@pytest.mark.parametrize(
    ("field", "error"),
    [
        (Field("x", "string", "°C"), "field 'x' is a string, and above: 60 needs a number"),
        (Field("x", "number", "K"), "field 'x' has units 'K', and the alarm was set for '°C'; check its limits"),
        (None, "waiting for field"),
    ],
)
def test_alarm_whose_field_changes_keeps_its_state_and_is_reported_once(bench, field, error):
    bench.put(T + 1, x=90.0)
    bench.log.texts()
    fields = [field] if field else []
    for extra in ("y", "z"):
        bench.alarms.add(Timeline("tl", [*fields, Field(extra)]))
    row = bench.row("hot")
    assert row["error"].startswith(error)
    assert row["state"] == "unacknowledged"
    assert [text for _, text in bench.log.texts()] == [f"is not evaluated: {row['error']}"]
    bench.alarms.tick()
    assert bench.outages.health().state == ("degraded" if field else "ok")
    bench.alarms.add(Timeline("tl", [Field("x", units="°C"), Field("y")]))
    bench.put(T + 2, x=0.0)
    assert bench.row("hot")["state"] == "returned"
    bench.alarms.tick()
    assert bench.outages.health().state == "ok"


def test_units_of_the_definition_are_those_the_field_must_have():
    bench = Bench(hot={"field": "x", "above": 60, "units": "K"})
    assert "was set for 'K'" in bench.row("hot")["error"]
    assert Bench(hot={"field": "x", "above": 60, "units": "°C"}).row("hot")["error"] is None


# Definitions by command


def test_alarm_is_set_and_deleted_by_command_but_not_one_of_the_site_file(bench):
    bench.alarms.set("y", AlarmSettings(field="y", above=1), "alice")
    bench.put(T + 1, y=2.0)
    assert bench.states("y") == {"y": "unacknowledged"}
    bench.alarms.set("y", AlarmSettings(field="y", above=5), "alice")
    bench.put(T + 2, y=2.0)
    assert bench.states("y") == {"y": "returned"}
    bench.alarms.set("y", AlarmSettings(field="door", equals=True), "alice")
    bench.put(T + 3, y=9.0)
    assert bench.states("y") == {"y": "returned"}
    bench.alarms.delete("y", "alice")
    assert bench.states("y") == {}
    bench.put(T + 4, "other", door=True)
    assert bench.states() == {"hot": "normal", "door": "unacknowledged"}
    with pytest.raises(BadRequest, match="is defined in the site file, which takes precedence; change it there"):
        bench.alarms.set("hot", AlarmSettings(field="x", above=1), "alice")
    with pytest.raises(BadRequest, match="is defined in the site file"):
        bench.alarms.delete("hot", "alice")
    with pytest.raises(NoSuchAlarm):
        bench.alarms.delete("y", "alice")


# The file


def test_node_that_was_killed_has_its_alarms_in_the_states_they_were_in(tmp_path):
    definitions = {"hot": {"field": "x", "above": 60}, "trip": {"field": "x", "above": 60, "latch": True}}
    path = tmp_path / "nodes" / "rig" / "alarms.json"
    bench = Bench(path, **definitions)
    bench.alarms.set("y", AlarmSettings(field="y", above=1, **{"for": 3}), "alice")
    bench.put(T + 1, x=90.0)
    bench.alarms.shelve("y", T + 600, "noisy", "bob")
    assert bench.alarms.acknowledge("*", "known", "alice").saved
    before = bench.alarms.list()
    again = Bench(path, **definitions)
    assert again.alarms.list() == before
    again.put(T + 2, x=90.0)
    assert again.states() == {"hot": "acknowledged", "trip": "acknowledged", "y": "shelved"}
    again.put(T + 3, x=0.0)
    assert again.states() == {"hot": "normal", "trip": "acknowledged", "y": "shelved"}
    assert again.log.texts() == [("hot", "has cleared: x is 0")]


def test_units_are_remembered_over_a_restart(tmp_path):
    bench = Bench(tmp_path / "alarms.json", hot={"field": "x", "above": 60})
    bench.alarms.stop()
    fields = (Field("x", units="K"), Field("y"))
    again = Bench(tmp_path / "alarms.json", fields=fields, hot={"field": "x", "above": 60})
    assert "was set for '°C'" in again.row("hot")["error"]
    again.alarms.stop()
    confirmed = Bench(tmp_path / "alarms.json", fields=fields, hot={"field": "x", "above": 60, "units": "K"})
    assert confirmed.row("hot")["error"] is None


def test_site_file_replaces_what_a_command_has_set(tmp_path):
    path = tmp_path / "alarms.json"
    bench = Bench(path)
    bench.alarms.set("y", AlarmSettings(field="y", above=1), "alice")
    again = Bench(path, y={"field": "y", "above": 7})
    assert again.row("y")["definition"]["above"] == 7
    assert again.log.texts() == [("y", "is defined in the site file, which replaces what a command has set")]


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", '{"version": 2}', '{"alarms": {"hot": {"state": "bad"}}}', "\udcff", "[" * 100_000),
        '{"alarms": {"hot": {"state": "shelved", "since": 1.0, "active": true}}}',
        '{"alarms": {"hot": {"state": "suppressed", "since": 1.0, "active": true, "until": 1e300}}}',
        '{"alarms": {"hot": {"state": "normal", "since": NaN, "active": true}}}',
    ],
)
def test_damaged_file_is_quarantined(tmp_path, content):
    path = tmp_path / "alarms.json"
    (tmp_path / "alarms.json.damaged-1").write_text("older")
    path.write_text(content, errors="surrogateescape")
    bench = Bench(path, hot={"field": "x", "above": 60})
    (event,) = bench.log.events
    assert event[0] == "damage"
    assert "is quarantined as alarms.json.damaged-2; all alarms begin as normal" in event[2]
    assert (tmp_path / "alarms.json.damaged-2").read_text(errors="surrogateescape") == content
    assert bench.alarms.acknowledge("hot", None, "alice").saved
    assert json.loads(path.read_text())["version"] == 1


def test_definition_in_the_file_that_is_not_valid_is_left_out_and_reported(tmp_path):
    path = tmp_path / "alarms.json"
    path.write_text(
        '{"version": 1, "definitions": {"a": {"field": "x"}, "b": {"field": "x", "above": 1}}, "alarms": {}}'
    )
    bench = Bench(path)
    assert list(bench.states()) == ["b"]
    assert "alarm 'a', which a command has set, is left out" in bench.log.events[0][2]


def test_disk_that_takes_nothing_stops_no_operator_and_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "alarms.json", hot={"field": "x", "above": 60})
    bench.put(T + 1, x=90.0)
    outcome = bench.alarms.acknowledge("hot", None, "alice")
    assert (outcome.changed, outcome.saved) == (["hot"], False)
    assert "the alarm file" in bench.outages.health().error
    (tmp_path / "file").unlink()
    assert bench.alarms.shelve("hot", T + 60, None, "alice").saved
    assert bench.outages.health().state == "ok"


def test_changes_are_written_by_a_thread_and_a_command_waits_for_it(tmp_path):
    path = tmp_path / "alarms.json"
    bench = Bench(path, hot={"field": "x", "above": 60})
    bench.alarms.start()
    bench.put(T + 1, x=90.0)
    assert bench.alarms.acknowledge("hot", None, "alice").saved
    assert json.loads(path.read_text())["alarms"]["hot"]["state"] == "acknowledged"
    bench.put(T + 2, x=0.0)
    bench.alarms.stop()
    assert json.loads(path.read_text())["alarms"]["hot"]["state"] == "normal"


def test_node_without_alarms_starts_no_thread_and_writes_no_file(tmp_path):
    bench = Bench(tmp_path / "alarms.json")
    before = set(threading.enumerate())
    bench.alarms.start()
    assert set(threading.enumerate()) == before
    bench.alarms.set("y", AlarmSettings(field="y", above=1), "alice")
    assert {thread.name for thread in set(threading.enumerate()) - before} == {"alarms", "write alarms.json"}
    bench.alarms.stop()
    assert set(threading.enumerate()) <= before
    Bench(tmp_path / "none.json").alarms.stop()
    assert not (tmp_path / "none.json").exists()


def test_clock_raises_what_is_stale_while_nothing_comes():
    bench = Bench(quiet={"field": "x", "stale_after": 30})
    bench.alarms.start()
    bench.clock.run(29)
    assert bench.states() == {"quiet": "normal"}
    bench.clock.run(2)
    assert bench.states() == {"quiet": "unacknowledged"}
    assert bench.log.texts() == [("quiet", "x has no value for 30 s")]
    bench.alarms.stop()


# Many changes, and errors


def test_storm_is_counted_and_reported_by_one_event_and_the_list_stays_right(monkeypatch):
    monkeypatch.setattr(reports, "_BURST", 50.0)
    definitions = {f"a{i}": {"field": "x", "above": i} for i in range(100)}
    bench = Bench(**definitions)
    for k in range(10):
        bench.put(T + k + 1, x=1000.0 if k % 2 == 0 else -1000.0)
    bench.put(T + 20, x=49.5)
    assert sum(state == "unacknowledged" for state in bench.states().values()) == 50
    assert bench.alarms.counters["transitions"] == 1050
    events = bench.log.texts()
    assert len(events) == 51
    assert events[-1] == (
        "alarm storm",
        "more than 100 changes of alarms a second; further ones are counted",
    )
    assert bench.alarms.counters["suppressed"] == 1000
    bench.clock.step(11)
    bench.alarms.tick()
    assert bench.log.texts() == [
        ("alarm storm", "is over: 1000 changes of alarms were counted and not reported one by one")
    ]
    bench.put(T + 21, x=1000.0)
    assert len(bench.log.texts()) == 50


def test_error_of_evaluation_is_counted_and_does_not_reach_the_source(bench, monkeypatch):
    monkeypatch.setattr(bench.log, "report", lambda *_args, **_data: 1 / 0)
    bench.put(T + 1, x=90.0)
    assert bench.alarms.counters["errors"] == 1
    assert "ZeroDivisionError" in bench.outages.health().error
    bench.put(T + 2, x=90.0)
    assert bench.outages.health().state == "ok"


def test_status_counts_alarms_by_severity_and_state(bench):
    bench.put(T + 1, x=90.0)
    status = bench.alarms.status()
    assert (status["total"], status["not_evaluated"]) == (2, 0)
    assert status["by_severity"] == {"warning": {"normal": 1}, "error": {"unacknowledged": 1}}
    assert status["counters"]["transitions"] == 1


def test_infinite_value_is_listed_as_text(bench):
    bench.put(T + 1, x=float("inf"))
    assert json.loads(json.dumps(bench.row("hot"), allow_nan=False))["value"] == "inf"
    assert bench.row("hot")["text"] == "x is inf °C, above 60 °C"


def test_alarms_are_evaluated_and_changed_from_many_threads(tmp_path):
    bench = Bench(tmp_path / "alarms.json", hot={"field": "x", "above": 60}, door={"field": "door", "equals": True})
    bench.alarms.start()

    def feed(timeline, field, values):
        for i in range(500):
            bench.put(T + i, timeline, **{field: values[i % 2]})

    def operate():
        for i in range(10):
            bench.alarms.set(f"more{i}", AlarmSettings(field="y", above=1), "alice")
            bench.alarms.acknowledge("*", None, "alice")
            bench.alarms.delete(f"more{i}", "alice")

    threads = [
        threading.Thread(target=feed, args=("tl", "x", (90.0, 0.0))),
        threading.Thread(target=feed, args=("other", "door", (True, False))),
        threading.Thread(target=operate),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.alarms.stop()
    assert bench.alarms.counters["errors"] == 0
    assert not any(row["active"] for row in bench.alarms.list())


@pytest.mark.parametrize(
    ("definition", "error"),
    [
        ({"equals": 1 << 64}, "equals is an integer of more than 64 bits"),
        ({"not_equals": -(1 << 63) - 1}, "not_equals is an integer of more than 64 bits"),
        ({"equals": math.inf}, "equals is inf; use above or below"),
        ({"equals": "x" * 1001}, "equals has 1001 characters; give 1000 at most"),
        ({"above": 1, "units": "x" * 201}, "at most 200 characters"),
        ({"above": 1, "field": "x" * 1001}, "at most 1000 characters"),
    ],
)
def test_definition_that_would_keep_the_list_of_alarms_from_being_sent_is_refused(definition, error):
    with pytest.raises(ValidationError, match=error):
        AlarmSettings.model_validate({"field": "x", **definition})


def test_alarms_of_a_node_are_bounded(bench, monkeypatch):
    monkeypatch.setattr("sisock.alarm.register._MOST_ALARMS", 3)
    bench.alarms.set("a", AlarmSettings(field="y", above=1), "alice")
    bench.alarms.set("a", AlarmSettings(field="y", above=2), "alice")
    with pytest.raises(BadRequest, match="the node has 3 alarms, which is the maximum; delete others first"):
        bench.alarms.set("b", AlarmSettings(field="y", above=1), "alice")
