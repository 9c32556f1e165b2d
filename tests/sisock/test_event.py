"""Events of a node: kept, passed on in batches, read back; what is too much is counted and reported."""

import datetime
import json
import logging
import math
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from sisock import event as module
from sisock.errors import BadRequest
from sisock.event import Events
from sisock.outage import OutageLog, outage_logs_made
from sisock.records import RunTable
from sisock.serializable import serializable_copy
from sisock.tables import Tables
from sisock.testing import StepClock


@pytest.fixture
def clock():
    return StepClock(10_000.0)


@pytest.fixture
def opened(clock):
    """Makes the events of a node, in a folder or in memory."""
    made = []

    def opened(folder=None):
        tables = Tables(folder, clock, OutageLog(clock))
        made.append((Events(tables, clock), tables))
        return made[-1][0]

    yield opened
    for events, tables in made:
        events.close()
        tables.close()


@pytest.fixture
def events(opened):
    return opened()


def seqs(page):
    return [event.seq for event in page.events]


def test_event_is_kept_as_it_was_reported(events, clock):
    events.report("alarm", "room/door", "door is open", "error", value=1.5, state="unacknowledged")
    clock.step(5.0)
    events.report("node", "rig", "node has started")
    first, second = events.read().events
    assert first.as_dict() == {
        "time": 10_000.0, "seq": 0, "kind": "alarm", "subject": "room/door", "text": "door is open",
        "severity": "error", "data": {"value": 1.5, "state": "unacknowledged"},
    }  # fmt: skip
    assert (second.seq, second.time, second.severity, second.data) == (1, 10_005.0, "info", {})


def test_listeners_get_batches_in_order_until_they_leave(events):
    batches = []
    events.report("node", "rig", "before anybody listens")
    events.listen(batches.append)
    for i in range(5):
        events.report("run", "scan", f"step {i}", i=i)
    events.read()
    events.unlisten(batches.append)
    events.report("run", "scan", "after it has left")
    events.read()
    assert [event.data["i"] for batch in batches for event in batch] == [0, 1, 2, 3, 4]
    assert len(batches) == 1


def test_worker_passes_events_on_and_close_passes_on_the_last(events):
    found, came = [], threading.Event()

    def listener(batch):
        found.extend(batch)
        came.set()

    events.listen(listener)
    events.start()
    events.report("node", "rig", "started")
    assert came.wait(30.0)
    events.report("node", "rig", "stops")
    events.close()
    assert [event.text for event in found] == ["started", "stops"]


def test_listener_that_fails_is_counted_and_the_others_are_called(events, caplog):
    found = []

    def fails(batch):
        raise RuntimeError("broken")

    events.listen(fails)
    events.listen(found.extend)
    events.report("node", "rig", "started")
    events.read()
    assert ([event.text for event in found], events.counters["failed_listeners"]) == (["started"], 1)
    assert "a listener of events failed: RuntimeError('broken')" in caplog.text


def test_events_are_read_by_time_severity_kind_and_subject(events, clock):
    for i, severity in enumerate(module.SEVERITIES):
        events.report("alarm" if i % 2 else "run", f"room/{i}", "text", severity)
        clock.step(10.0)
    assert seqs(events.read(severity="warning")) == [2, 3, 4]
    assert seqs(events.read(kind="alarm")) == [1, 3]
    assert seqs(events.read(kind="{alarm,node}", subject="room/[1-2]")) == [1]
    assert seqs(events.read(start=10_010.0, end=10_030.0)) == [1, 2]
    assert seqs(events.read(start=-20.0)) == [3, 4]


def test_newest_events_are_read_first_and_then_what_follows_or_precedes(events):
    for i in range(10):
        events.report("run", "scan", str(i))
    page = events.read(limit=3)
    assert (seqs(page), page.cursor, page.oldest) == ([7, 8, 9], 10, 0)
    assert seqs(events.read(limit=3, before=7)) == [4, 5, 6]
    events.report("run", "scan", "new")
    assert seqs(events.read(after=page.cursor)) == [10]
    first = events.read(after=0, limit=4)
    assert (seqs(first), seqs(events.read(after=first.cursor, limit=2))) == ([0, 1, 2, 3], [4, 5])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"severity": "bad"}, "'bad' is not a severity; there are: debug, info"),
        ({"start": 5, "end": 1}, "lies before start"),
        ({"start": math.nan}, "start is nan"),
        ({"limit": 0}, "limit is 0"),
        ({"after": "x"}, "after is 'x'"),
        ({"kind": "{a,b}" * 12}, "stands for more than"),
    ],
)
def test_bad_parameters_are_refused_with_value_and_remedy(events, parameters, words):
    with pytest.raises(BadRequest, match=words.replace("{", r"\{")):
        events.read(**parameters)


class Settings(BaseModel):
    password: SecretStr
    n: int


class Hostile:
    def __str__(self):
        raise RuntimeError("no text")


CIRCLE = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (SecretStr("hidden"), "**********"),
        (Settings(password=SecretStr("hidden"), n=1), {"password": "**********", "n": 1}),
        ({"deep": [SecretStr("hidden")]}, {"deep": ["**********"]}),
        (np.arange(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        ((1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
        ({(1, 2): {3.5: "a"}}, {"(1, 2)": {"3.5": "a"}}),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (b"ab", "b'ab'"),
        (Hostile(), "<Hostile>"),
        ("lone \ud800", "lone ?"),
        (None, None),
    ],
)
def test_values_without_json_become_texts_and_secrets_are_redacted(events, value, kept):
    events.report("command", "set", "called", value=value)
    (event,) = events.read().events
    assert event.data == {"value": kept}
    assert events.counters["failed"] == 0


def test_value_that_contains_itself_becomes_a_text(events):
    events.report("command", "set", "called", value=CIRCLE, other=1)
    (event,) = events.read().events
    assert event.data["other"] == 1
    assert "..." in str(event.data["value"])


def nested(levels):
    value = inner = {}
    for _ in range(levels):
        inner["in"] = inner = {}
    return value


@pytest.mark.parametrize(
    "value", [1 << 64, -(1 << 63) - 1, [{"n": 10**5000}], *map(nested, (300, 700, 900, 950, 980, 5000))]
)
def test_value_that_no_message_carries_keeps_no_page_of_events_from_being_sent(events, value):
    events.report("a", "b", "c", value=value, other=1)
    (event,) = events.read().events
    _, size = serializable_copy([event.as_dict()])
    assert event.data["other"] == 1
    assert size < 20_000


def test_large_integers_and_nested_lists_are_kept(events):
    kept = {"integers": [-(1 << 63), (1 << 64) - 1], "nested": nested(50), "rows": [[i] for i in range(200)]}
    events.report("a", "b", "c", **kept)
    assert events.read().events[0].data == kept


@pytest.mark.parametrize(
    "value",
    ["x" * 100_000, list(range(100_000)), np.zeros(10**6), {"a": "x" * 100_000}],
    ids=["text", "list", "array", "dict"],
)
def test_values_that_are_too_large_are_truncated_and_marked(events, value):
    events.report("command", "set", "called", value=value, small=[1, 2])
    (event,) = events.read().events
    assert event.data["small"] == [1, 2]
    assert event.data["value"]["truncated"] is True
    assert event.data["value"]["bytes"] > 64_000
    assert len(json.dumps(event.data)) < 3000


@pytest.mark.parametrize("count", [20, 100_000])
def test_many_values_are_truncated_as_a_whole(events, count):
    events.report("command", "set", "called", **{f"key {i}": "x" * 60_000 if count == 20 else i for i in range(count)})
    (event,) = events.read().events
    assert len(json.dumps(event.data)) <= 300_000
    assert events.counters["truncated"] == 1


def test_long_texts_are_cut_and_other_types_become_texts(events):
    events.report(1, None, "x" * 100_000, "fatal")
    (event,) = events.read().events
    assert (event.kind, event.subject, event.severity, event.data) == ("1", "None", "warning", {"severity": "fatal"})
    assert event.text.endswith("… (100000 characters)")


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=10), st.text(max_size=10), st.text(max_size=30), st.sampled_from(module.SEVERITIES),
            st.dictionaries(st.text(max_size=5).map("k{}".format), st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=5) | st.none(), max_size=3),
        ),
        max_size=10,
    )
)  # fmt: skip
def test_events_survive_a_restart_as_they_were(tmp_path_factory, reports):
    folder, clock = tmp_path_factory.mktemp("node"), StepClock()
    logging.getLogger("sisock.event").disabled = True
    for _ in range(2):
        tables = Tables(folder, clock, OutageLog(clock))
        events = Events(tables, clock)
        for kind, subject, text, severity, data in reports:
            events.report(kind, subject, text, severity, **data)
        events.close()
        tables.close()
    tables = Tables(folder, clock, OutageLog(clock))
    found = Events(tables, clock).read(limit=100).events
    tables.close()
    logging.getLogger("sisock.event").disabled = False
    assert [(e.kind, e.subject, e.text, e.severity, e.data) for e in found] == reports * 2
    assert [e.seq for e in found] == list(range(2 * len(reports)))


def test_what_is_too_much_is_dropped_counted_and_reported_by_one_event(events, clock, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 100)
    for i in range(250):
        events.report("alarm", "storm", str(i))
    page = events.read(limit=1000)
    assert [event.text for event in page.events[:100]] == [str(i) for i in range(100)]
    (loss,) = page.events[100:]
    assert (loss.kind, loss.severity, loss.data) == ("loss", "warning", {"dropped": 150})
    assert events.counters.as_dict() | {"truncated": 0} == {
        "reported": 250, "dropped": 150, "truncated": 0, "failed": 0, "failed_listeners": 0,
    }  # fmt: skip
    # A second later, the next ones are reported together.
    for _ in range(3):
        for i in range(101):
            events.report("alarm", "storm", str(i))
        events.read()
    assert not events.read(kind="loss", after=loss.seq + 1).events
    clock.step(1.0)
    assert [event.data["dropped"] for event in events.read(kind="loss", after=loss.seq + 1).events] == [3]


def test_bytes_that_wait_have_a_bound(events, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES_WAITING", 1000)
    for _ in range(10):
        events.report("run", "scan", "x" * 300)
    assert events.counters["dropped"] == 7


def test_warnings_and_worse_are_logged_and_repeated_ones_are_suppressed_for_a_while(events, clock, caplog):
    caplog.set_level(logging.DEBUG)
    events.report("run", "scan", "started")
    for _ in range(5):
        events.report("alarm", "door", "door is open", "error")
    events.report("alarm", "window", "window is open", "warning")
    events.report("outage", "router", "is logged by its log of outages", "warning")
    lines = [(record.levelname, record.message) for record in caplog.records if record.name == "sisock.event"]
    assert lines == [
        ("ERROR", "alarm door: door is open"),
        ("ERROR", "alarm door: door is open"),
        ("ERROR", "alarm door: door is open; further occurrences are suppressed for up to 60 s"),
        ("WARNING", "alarm window: window is open"),
    ]
    clock.step(61.0)
    caplog.clear()
    events.report("alarm", "door", "door is open", "error")
    assert caplog.messages == ["alarm door: door is open"]


def test_listener_may_report(events):
    found = []

    def listener(batch):
        found.extend(batch)
        if len(found) < 3:
            events.report("node", "rig", "again")

    events.listen(listener)
    events.report("node", "rig", "first")
    for _ in range(4):
        events.read()
    assert [event.text for event in found] == ["first", "again", "again"]


def test_threads_lose_and_repeat_nothing(events):
    found = []
    events.listen(found.extend)
    events.start()
    threads = [
        threading.Thread(target=lambda n=n: [events.report("run", str(n), str(i), i=i) for i in range(500)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events.close()
    assert [event.seq for event in found] == list(range(2000))
    for n in range(4):
        assert [event.data["i"] for event in found if event.subject == str(n)] == list(range(500))


REPORTER = """
import sys
from pathlib import Path
from sisock.event import Events
from sisock.outage import OutageLog, outage_logs_made
from sisock.records import RunTable
from sisock.serializable import serializable_copy
from sisock.tables import Tables
from sisock.times import SystemClock
clock = SystemClock()
events = Events(Tables(Path(sys.argv[1]), clock, OutageLog(clock)), clock)
events.start()
print("ready", flush=True)
i = 0
while True:
    events.report("run", "scan", "x" * 300, i=i)
    i += 1
    if i % 100 == 0:
        clock.wait(events._worker.stopping, 0.01)
"""


def test_events_are_whole_after_a_kill(tmp_path, opened):
    with subprocess.Popen(
        [sys.executable, "-c", REPORTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        written = next((tmp_path / "tables" / "events").glob("*.open"), None)
        while written is None or written.stat().st_size < 200_000:
            written = next((tmp_path / "tables" / "events").glob("*.open"), None)
        process.send_signal(signal.SIGKILL)
    found = opened(tmp_path).read(after=0, limit=10_000).events
    assert len(found) > 100
    assert [(event.seq, event.data["i"], len(event.text)) for event in found] == [
        (i, i, 300) for i in range(len(found))
    ]


def test_outages_are_events_when_they_start_and_when_they_end(events, clock):
    log = OutageLog(clock)
    log.report_to(events.report_outage)
    for _ in range(3):
        log.failed("the disk", "it is full", "outage")
    clock.step(90.0)
    log.recovered("the disk")
    log.recovered("the disk")
    began, ended = events.read().events
    assert (began.kind, began.subject, began.severity, began.text) == (
        *("outage", "the disk", "error"),
        "the disk: it is full",
    )
    assert (ended.kind, ended.severity, ended.text) == ("recovered", "info", "the disk: recovered after 90.0 s")
    assert ended.data == {"error": "it is full", "failures": 3, "lasted_s": 90.0}


def test_outages_from_before_are_events_as_well(events, clock):
    log = OutageLog(clock)
    log.failed("the disk", "it is full")
    log.report_to(events.report_outage)
    (event,) = events.read().events
    assert (event.kind, event.severity, event.data) == ("outage", "warning", {"state": "degraded"})


def test_outage_logs_that_are_made_meanwhile_are_known(clock):
    with outage_logs_made() as made:
        one = OutageLog(clock)
    OutageLog(clock)
    assert made == [one]


def test_newest_record_of_each_run_is_read_after_a_restart(tmp_path, clock):
    tables = Tables(tmp_path, clock, OutageLog(clock))
    records = RunTable(tables)
    for i in range(600):
        for state in ("running", "done"):
            records.append(
                {"id": f"{i:04d}", "name": "scan", "state": state, "started": 1.0, "ended": None, "result": i}
            )
    records.append(
        {"id": "0600", "name": "scan", "state": "queued", "started": None, "ended": None, "result": object()}
    )
    tables.close()
    again = Tables(tmp_path, clock, OutageLog(clock))
    found = list(RunTable(again).newest(300))
    again.close()
    assert [record["id"] for record in found] == [f"{i:04d}" for i in range(301, 601)]
    assert {record["state"] for record in found[:-1]} == {"done"}
    assert (found[0]["result"], found[-1]["state"]) == (301, "queued")
