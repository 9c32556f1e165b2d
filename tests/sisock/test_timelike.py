"""Times and durations in the types of Python programs."""

import math
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pandas
import pytest

from sisock.errors import BadRequest
from sisock.timelike import as_span, as_start, as_time

MOMENT = 1772366400.0  # 2026-03-01T12:00Z
PARIS = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1700000000, 1700000000.0),
        (1700000000.5, 1700000000.5),
        (-600, -600.0),
        (0, 0.0),
        (np.float32(-2.5), -2.5),
        (np.int64(1700000000), 1700000000.0),
        (np.array(-3.0), -3.0),
        ("now", 0.0),
        ("-1h", -3600.0),
        ("2026-03-01T12:00", MOMENT),
        ("2026-03-01T13:00+01:00", MOMENT),
        (datetime(2026, 3, 1, 12), MOMENT),  # without a zone it is UTC, as strings are
        (datetime(2026, 3, 1, 13, tzinfo=PARIS), MOMENT),
        (datetime(1969, 1, 1), 1e-6),
        (date(2026, 3, 1), MOMENT - 43200.0),
        (timedelta(minutes=-90), -5400.0),
        (timedelta(0), 0.0),
        (pandas.Timestamp("2026-03-01T12:00"), MOMENT),
        (pandas.Timestamp("2026-03-01T13:00", tz="Europe/Paris"), MOMENT),
        (pandas.Timestamp(MOMENT, unit="s", tz="UTC"), MOMENT),
        (pandas.Timedelta("-1h30m"), -5400.0),
        (np.datetime64("2026-03-01T12:00"), MOMENT),
        (np.datetime64("2026-03-01T12:00:00.250000000"), MOMENT + 0.25),
        (np.datetime64("2026-03-01"), MOMENT - 43200.0),
        (np.timedelta64(-1500, "ms"), -1.5),
    ],
    ids=repr,
)
def test_times_are_taken_in_every_form_that_programs_have(value, time):
    assert as_time(value) == time


@pytest.mark.parametrize(
    "bad",
    [
        *(None, True, [1.0], {}, math.nan, math.inf, "yesterday", 1j, b"now"),
        *(pandas.NaT, np.datetime64("NaT"), np.timedelta64("NaT"), np.timedelta64(1, "Y"), np.timedelta64(-5)),
        *(np.bool_(True), np.array([1.0]), object),
    ],
    ids=repr,
)
def test_time_that_is_none_is_refused_with_the_value_and_the_forms(bad):
    with pytest.raises(BadRequest, match=r"^start\b") as error:
        as_time(bad, "start")
    assert repr(bad) in error.value.message
    assert "2026-03-01T12:00" in error.value.message


@pytest.mark.parametrize("ahead", [timedelta(hours=1), np.timedelta64(1, "h"), pandas.Timedelta("1h")])
def test_span_that_is_ahead_is_refused_as_in_a_string(ahead):
    with pytest.raises(BadRequest, match="end is .*negative"):
        as_time(ahead, "end")


def test_milliseconds_are_not_taken_for_seconds():
    with pytest.raises(BadRequest, match="start is 1772366400000; times are in seconds"):
        as_time(1772366400000, "start")


@pytest.mark.parametrize(
    "value",
    [10**400, -(10**400), np.longdouble("1e400"), np.datetime64(5, "as")],
    ids=["int", "minus", "longdouble", "as"],
)
def test_time_for_which_a_float_has_no_room_is_refused(value):
    with pytest.raises(BadRequest, match=r"^start is "):
        as_time(value, "start")
    with pytest.raises(BadRequest, match="duration"):
        as_span(value)


@pytest.mark.parametrize(
    "value", [datetime.max, date.max, "9999-12-31", np.datetime64("9999-12-31"), np.datetime64(2**62, "s")], ids=repr
)
def test_end_of_the_calendar_is_the_last_time_that_can_be_asked_for(value):
    assert as_time(value) == 1e11


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (np.int64(10), 10.0),
        (np.float32(0.5), 0.5),
        (10, 10.0),
        (0.5, 0.5),
        ("500ms", 0.5),
        ("1h", 3600.0),
        (timedelta(minutes=1), 60.0),
        (np.timedelta64(2, "s"), 2),
    ],
)
def test_lengths_are_taken_in_every_form(value, seconds):
    assert as_span(value) == seconds


@pytest.mark.parametrize("bad", [0, -1, "x", None, True, math.nan, math.inf, timedelta(0), np.timedelta64("NaT")])
def test_invalid_duration_is_refused(bad):
    with pytest.raises(BadRequest, match="duration"):
        as_span(bad)


def test_start_may_be_all():
    assert as_start("all") == 1e-6
    assert as_start("-1h") == -3600.0
    assert as_start(timedelta(hours=-1)) == -3600.0
    with pytest.raises(BadRequest, match="start: 'al' is not a valid time.*all for the first"):
        as_start("al")
