"""Times as requests and people give them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.errors import BadRequest
from sisock.times import Interval, ago, parse_span, parse_start, parse_time, resolve, sisock_to_unix_time

NOW = 1_700_000_000.0
finite = st.floats(-1e9, 1e10, allow_nan=False)


def test_positive_bounds_are_absolute_and_others_relative_to_now():
    assert resolve(5, 10, NOW) == Interval(5.0, 10.0)
    assert resolve(-60, 0, NOW) == Interval(NOW - 60, NOW)
    assert resolve(1, 0, NOW) == Interval(1.0, NOW)  # how consumers ask for everything


@given(finite, finite)
def test_resolved_intervals_are_ordered_or_refused(start, end):
    try:
        interval = resolve(start, end, NOW)
    except BadRequest as error:
        assert "lies before" in error.message
    else:
        assert interval.start <= interval.end
        assert all(map(math.isfinite, interval))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None, True, [1]])
def test_bound_that_is_no_finite_number_is_refused_by_name(bad):
    with pytest.raises(BadRequest, match="^start is"):
        resolve(bad, 0, NOW)
    with pytest.raises(BadRequest, match="^end is"):
        resolve(1, bad, NOW)


def test_sisock_time_is_now_plus_t_when_not_positive():
    assert sisock_to_unix_time(12.5) == 12.5
    assert sisock_to_unix_time(-3600) < sisock_to_unix_time(-1800) < sisock_to_unix_time(0)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("0", 0.0),
        ("now", 0.0),
        ("-600", -600.0),
        ("1700000000.5", 1700000000.5),
        ("-10m", -600.0),
        ("-1.5h", -5400.0),
        ("-500ms", -0.5),
        ("-2d", -172800.0),
        ("-1h30m", -5400.0),
        ("-1d 12h", -129600.0),
        ("-1m2.5s", -62.5),
        ("-1s500ms", -1.5),
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00:00", 3600.0),
        ("1970-01-01T01:00:00+01:00", 1e-6),
        ("1969-12-31", 1e-6),
        ("1970-01-01T00:00:01.250Z", 1.25),
    ],
)
def test_times_are_read_as_people_type_them(text, time):
    assert parse_time(text) == pytest.approx(time)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "10m", "nan", "inf", "1e", "2026-13-01", "-10y", "-", "-30m1h", "-1h1h", "-1h30", "1h30m", "."],
)
def test_text_that_is_no_time_is_refused_with_the_text(text):
    with pytest.raises(BadRequest, match=r"seconds since 1970|write -1"):
        parse_time(text)


@given(st.floats(0, 1e6).map(lambda x: round(x, 3)))
def test_spans_are_seconds(seconds):
    assert parse_span(f"{seconds:.3f}s") == pytest.approx(seconds)
    assert parse_span(f"{seconds:.3f}m") == pytest.approx(60 * seconds)
    assert parse_span(f"2h{seconds:.3f}m") == pytest.approx(7200 + 60 * seconds)


@pytest.mark.parametrize("text", ["", "-1s", "x", "1 2", "nan", "-1h30m", "30m1h", "1h30", "+"])
def test_text_that_is_no_span_is_refused(text):
    with pytest.raises(BadRequest, match="not a valid duration"):
        parse_span(text)


def test_start_may_be_the_first_sample():
    assert parse_start("all") == 1e-6  # the first time that is not relative
    assert parse_start("-1h30m") == -5400.0
    with pytest.raises(BadRequest, match=r"'every' is not a valid time; .*, or all for the first sample"):
        parse_start("every")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-01T12:00:00.1234567Z", 1772366400.1234567),
        ("2026-03-01 12:00:00,123456789", 1772366400.123456789),
        ("2026-03-01T13:00:00.0000009+01:00", 1772366400.0000009),
        ("20260301T120000.99999999", 1772366400.99999999),
        ("2026-03-01T12:00:00.123456", 1772366400.123456),
        ("2026-03-01T12:00:00." + "1" * 10_000, 1772366400.1111111),
    ],
)
def test_digits_finer_than_microseconds_count_as_far_as_a_float_has_room_for_them(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    ("age_s", "text"),
    [
        (0.04, "0.0 s ago"),
        (0.5, "0.5 s ago"),
        (2.9, "2 s ago"),
        (59.9, "59 s ago"),
        (13 * 3600.0 + 1800.0, "13 h ago"),
        (3 * 86400.0, "3 d ago"),
        (1.5 * 31_557_600.0, "1 year ago"),
        (10.9 * 31_557_600.0, "10 years ago"),
        (-3600.0, "1 h ahead of the clock"),
    ],
)
def test_ages_are_shown_as_people_say_them(age_s, text):
    assert ago(age_s) == text
