"""A source whose every sample is refused for its time reports that, with a guess of the unit."""

import logging
import struct
import time

import numpy as np
import pytest

from sisock.fields import Field, Timeline, as_batch
from sisock.node import Node
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.times import UnitGuess, guess_unit
from sisock_nodes.kafka.settings import KafkaSettings
from sisock_nodes.kafka.topic import Topic
from sisock_nodes.records.objects import ObjectReader, ObjectTimeSettings
from sisock_nodes.records.reader import RecordReader
from sisock_nodes.records.settings import RecordSettings, TimeSettings
from sisock_nodes.table.settings import TableSettings
from sisock_nodes.table.tables import table_sources

NOW = 1_700_000_000.0
UNITS = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("scale", UNITS.values())
def test_the_unit_is_guessed_from_times_near_now(unit, scale):
    count = (NOW - 3600.0) / UNITS[unit]
    guess = guess_unit(count * scale, NOW, scale)
    assert guess == (None if scale == UNITS[unit] else UnitGuess(unit, pytest.approx(UNITS[unit])))


@pytest.mark.parametrize("t", [0.0, -1e9, 12345.0, 4e9, 1e300, -1e300])
def test_times_that_no_unit_brings_near_now_have_none(t):
    assert guess_unit(t, NOW) is None


def records(times):
    return np.frombuffer(b"".join(struct.pack("<2d", t, 1.0) for t in times), [("a", "<f8"), ("b", "<f8")])


def record_reader(clock, outages):
    settings = RecordSettings(byte_format="<2d", input_names=["t", "x"], time_index=0, time=TimeSettings())
    reader = RecordReader(settings, "rig", 86400.0, outages=outages)
    return lambda times: list(
        reader.read(reader.layout.records(records(times).tobytes()), np.full(len(times), clock.now()), clock.now())
    )


def object_reader(clock, outages):
    reader = ObjectReader("rig", ObjectTimeSettings(field="t"), {}, 5.0, 86400.0, outages=outages)
    objects = lambda times: [{"t": t, "x": 1.0} for t in times]  # noqa: E731
    return lambda times: list(reader.read(objects(times), np.full(len(times), clock.now()), clock.now()))


@pytest.mark.parametrize("make", [record_reader, object_reader])
def test_records_of_milliseconds_are_reported_once_until_samples_are_accepted_again(make, caplog):
    clock = StepClock(NOW)
    outages = OutageLog(clock)
    read = make(clock, outages)
    with caplog.at_level(logging.WARNING):
        for i in range(20):
            assert read([(NOW + i) * 1000.0]) == []
        (line,) = caplog.messages
        assert "all samples are refused: a time among them is 1.7e+12 s, 53,816 years ahead of the clock" in line
        assert "Are these milliseconds? Set time.scale to 0.001" in line
        assert outages.health().state == "degraded"
        assert len(read([NOW])) == 1
        assert outages.health().state == "ok"
        # Single ones among others are counted and no outage.
        for i in range(9):
            read([(NOW + i) * 1000.0])
        read([NOW + 1.0])
        assert outages.health().state == "ok"
        assert len(caplog.messages) == 2
        for i in range(10):
            read([(NOW + i) * 1000.0])
        assert outages.health().state == "degraded"


def test_objects_without_a_time_are_reported():
    clock = StepClock(NOW)
    outages = OutageLog(clock)
    object_reader(clock, outages)([None, "yesterday"])
    assert "all samples are refused: they have no time that can be read" in outages.health().error


def test_a_topic_of_records_names_its_own_setting():
    clock = StepClock(NOW)
    outages = OutageLog(clock)
    record = {"byte_format": "<2d", "input_names": ["t", "x"], "time_index": 0}
    about = KafkaSettings(type="kafka", servers="x", topics=["rig"], format="struct", record=record)
    topic = Topic("rig", about, outages=outages)
    assert list(topic.read([struct.pack("<2d", NOW * 1e9, 1.0)], None, NOW)) == []
    assert "source rig: all samples are refused" in outages.health().error
    assert "Are these nanoseconds? Set record.time.scale to 1e-09" in outages.health().error


@pytest.mark.parametrize(
    ("unit", "setting"),
    [
        ("milliseconds", "Set time.format to unix_ms"),
        ("microseconds", "Set time.format to unix, and time.scales to [1e-06]"),
    ],
)
def test_a_table_of_another_unit_is_reported_until_rows_are_accepted(tmp_path, unit, setting):
    path = tmp_path / "log.csv"
    path.write_text("t,x\n" + "".join(f"{round((NOW + i) / UNITS[unit])},{i}\n" for i in range(20)))
    clock = StepClock(NOW + 100.0)
    settings = TableSettings(type="table", path=path, time={"format": "unix"}, reread=0.05)
    sources = table_sources(settings, clock)
    node = Node("log", None, sources, HistorySettings(), clock)
    node.start()
    try:
        wait_for(lambda: node.health().state == "degraded")
        assert f"Are these {unit}? {setting}" in node.health().error
        assert node.status()["sources"][0]["counters"]["bad_times"] == 20
        with path.open("a") as file:
            file.write(f"{NOW + 50.0},1\n")
        clock.step(1.0)
        wait_for(lambda: node.health().state == "ok")
    finally:
        node.stop()


def wait_for(holds):
    deadline = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("t", "error"),
    [
        (NOW * 1e3, "Are these milliseconds? Their times are to be multiplied by 0.001"),
        (NOW / 1e3, "Are these seconds? Their times are to be multiplied by 1000"),
        (
            NOW - 86400.0,
            "all samples are older than history.keep, which is 21600 s; there is one of 2023-11-13T22:13:20",
        ),
        (np.nan, "they have no time that can be read"),
    ],
    ids=["milliseconds", "seconds for milliseconds", "too old", "no time"],
)
def test_any_source_whose_samples_are_all_refused_or_expired_is_reported(t, error):
    clock = StepClock(NOW)
    source = ManualSource(Timeline("tl", [Field("x")], follows_clock=False))
    node = Node("n", None, [source], HistorySettings(), clock)
    node.start()
    source.emit("tl", [t], {"x": [1.0]})
    assert node.health().state == "degraded"
    assert node.health().error.startswith("timeline tl: ")
    assert error in node.health().error
    source.emit("tl", [NOW], {"x": [1.0]})
    assert node.health().state == "ok"
    assert as_batch("tl", [NOW], {"x": [1.0]}).t[0] == node.history.status()["tl"]["newest"]
    node.stop()
