"""What a history counts becomes events: losses, damage, jumps of the clock."""

import numpy as np

from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.incidents import Incidents
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from tests.sisock.histories import StoredHistory, seal


def reported(history, clock):
    events = []

    def report(kind, subject, text, severity="info", **data):
        events.append((kind, subject, text, severity, data))

    return Incidents(history, report, clock.monotonic), events


def line(name="tl", **more):
    return Timeline(name, [Field(f"{name}.x")], **{"lateness_s": 0.0, "follows_clock": False, **more})


def put(history, t, name="tl", **more):
    return history.append(as_batch(name, t, {f"{name}.x": np.asarray(t, float)}, **more))


def test_losses_of_a_timeline_are_an_event_at_once_and_then_one_a_minute():
    clock = StepClock(2000.0)
    history = History([line(), line("other")], clock=clock)
    incidents, events = reported(history, clock)
    put(history, [1000.0, 1001.0])
    incidents.look()
    assert events == []
    put(history, [1002.0], gap_from=1001.0, dropped=5)
    put(history, [900.0, 901.0])
    incidents.look()
    assert events == [
        ("loss", "tl", "samples of tl are not stored: 5 dropped, 2 late", "warning", {"dropped": 5, "late": 2})
    ]
    for _ in range(3):
        put(history, [902.0])
        clock.step(19.0)
        incidents.look()
    assert len(events) == 1
    clock.step(10.0)
    incidents.look()
    assert events[1:] == [("loss", "tl", "samples of tl are not stored: 3 late", "warning", {"late": 3})]
    history.close()


def test_jump_of_the_clock_is_one_event():
    clock = StepClock(2000.0)
    history = History([line(lateness_s=1.0, follows_clock=True)], clock=clock)
    incidents, events = reported(history, clock)
    put(history, [2000.0])
    clock.jump(3600.0)
    put(history, [2001.0])
    for _ in range(2):
        incidents.look()
    assert [(kind, text, severity) for kind, _, text, severity, _ in events] == [
        ("clock", "the clock jumped by +3600.0 s", "warning")
    ]
    assert events[0][4]["seconds"] == 3600.0
    history.close()


def test_damage_that_is_found_at_the_start_is_an_event(tmp_path):
    clock, settings = StepClock(5e4), HistorySettings(path=tmp_path)
    with StoredHistory([line()], settings, clock) as history:
        put(history, np.arange(1000.0, 2000.0))
        seal(history, whole=True)
    (path,) = tmp_path.glob("0*/*.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with StoredHistory([line()], settings, clock) as history:
        incidents, events = reported(history, clock)
        incidents.look()
        incidents.look()
    assert [(kind, text) for kind, _, text, _, _ in events] == [("damage", "damaged segments were quarantined: 1")]
