"""What prints the lines of a site's parts, into pipes that are read and pipes that are not."""

import os
import time
from datetime import datetime

import pytest

from sisock.cli.lines import Lines


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    os.close(reading)
    stream.close()


def read_all(reading, stop):
    """Return what arrives until `stop` is in it."""
    text = b""
    while stop not in text:
        text += os.read(reading, 65536)
    return text.decode()


def test_lines_come_in_order_with_time_and_name_and_blank_ones_are_left_out(pipe):
    reading, stream = pipe
    lines = Lines(["host", "router"], stream)
    lines.say("host", "one")
    lines.say("host", "   ")
    lines.say("", "two")
    lines.show("three\n")
    lines.close()
    first, second, third, *_ = read_all(reading, b"three").splitlines()
    assert first.endswith(" host   | one")
    assert second.endswith(" sisock | two")
    assert third == "three"


def test_lines_in_a_file_say_which_hour_is_meant_where_one_comes_twice(pipe, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    try:
        reading, stream = pipe
        lines = Lines(["host"], stream)
        lines.say("host", "one")
        lines.close()
        stamp = read_all(reading, b"one").partition(" host")[0]
        assert abs(datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S%z").timestamp() - time.time()) < 3600.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_reader_who_does_not_read_holds_nobody_up_and_is_told_what_is_missing(pipe):
    reading, stream = pipe
    lines = Lines(["host"], stream)

    def speak():
        for i in range(20_000):
            lines.say("host", f"line {i}")
            lines.room("host")

    began = time.monotonic()
    speak()
    assert time.monotonic() - began < 30.0
    text = read_all(reading, b"missing here: the terminal was too slow\n")
    lines.say("host", "the end")
    lines.close(10.0)
    text += read_all(reading, b"the end")
    told = [line for line in text.splitlines() if "missing here" in line]
    shown = [line for line in text.splitlines() if "| line " in line]
    assert len(told) == 1
    missing = int(told[0].partition("| ")[2].split()[0])
    assert missing + len(shown) == 20_000


def test_reader_who_has_gone_stops_nothing():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        os.close(reading)
        lines = Lines(["host"], stream)
        lines.say("host", "one")
        lines.close()
