"""Local times: the hour that comes twice, the hour that does not come, and a slow twin as oracle."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock_nodes.table.localtime import LocalTimes

PARIS = "Europe/Paris"


def local(*texts):
    return np.array([datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in texts])


def as_utc(seconds):
    return ["-" if np.isnan(t) else datetime.fromtimestamp(t, UTC).strftime("%d %H:%M") for t in seconds.tolist()]


AUTUMN = [f"2024-10-27 {hour}" for hour in ("01:30", "02:00", "02:30", "02:00", "02:30", "03:00")]
AUTUMN_UTC = ["26 23:30", "27 00:00", "27 00:30", "27 01:00", "27 01:30", "27 02:00"]


def test_hour_that_comes_twice_goes_by_the_order_of_the_rows():
    assert as_utc(LocalTimes(PARIS).to_utc(local(*AUTUMN))) == AUTUMN_UTC


@pytest.mark.parametrize("cut", range(7))
def test_order_is_known_across_batches(cut):
    times = LocalTimes(PARIS)
    parts = [times.to_utc(local(*part)) for part in (AUTUMN[:cut], AUTUMN[cut:])]
    assert as_utc(np.concatenate(parts)) == AUTUMN_UTC


def test_rows_that_come_one_by_one_are_the_same():
    times = LocalTimes(PARIS)
    assert [as_utc(times.to_utc(local(text)))[0] for text in AUTUMN] == AUTUMN_UTC


def test_rows_that_come_again_leave_no_trace():
    times = LocalTimes(PARIS)
    times.to_utc(local(*AUTUMN[:3]))
    for _ in range(3):
        assert as_utc(times.to_utc(local(AUTUMN[3]), provisional=True)) == ["27 01:00"]
    assert as_utc(times.to_utc(local(*AUTUMN[3:]))) == AUTUMN_UTC[3:]


def test_table_in_descending_order():
    assert as_utc(LocalTimes(PARIS).to_utc(local(*reversed(AUTUMN)))) == AUTUMN_UTC[::-1]


@pytest.mark.parametrize("minutes", [60, 45, 30, 10])
@pytest.mark.parametrize(
    "zone", [PARIS, "America/New_York", "Australia/Lord_Howe", "Europe/Dublin", "UTC", "Asia/Kolkata"]
)
def test_readings_at_any_interval_through_whole_years_are_exact(zone, minutes):
    minutes = min(minutes, 30) if zone == "Australia/Lord_Howe" else minutes  # where clocks change by 30 minutes
    start = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
    t = start + np.arange(2 * 366 * 1440 // minutes) * 60.0 * minutes
    years = [datetime.fromtimestamp(s, ZoneInfo(zone)) for s in t[:: max(1, 60 // minutes) * 24].tolist()]
    assert len({moment.utcoffset() for moment in years}) == (1 if zone in ("UTC", "Asia/Kolkata") else 2)
    shown = t + [datetime.fromtimestamp(s, ZoneInfo(zone)).utcoffset().total_seconds() for s in t.tolist()]
    times = LocalTimes(zone)
    np.testing.assert_array_equal(times.to_utc(shown), t)
    np.testing.assert_array_equal(LocalTimes(zone).to_utc(shown[::-1]), t[::-1])


def test_single_readings_of_the_same_time_are_an_hour_apart():
    rows = [f"2024-10-27 {hour}" for hour in ("01:30", "02:30", "02:30", "03:30")]
    assert as_utc(LocalTimes(PARIS).to_utc(local(*rows))) == ["26 23:30", "27 00:30", "27 01:30", "27 02:30"]
    rows = [f"2024-10-27 {hour}" for hour in ("01:30", "02:15", "02:15", "03:30")]
    assert as_utc(LocalTimes(PARIS).to_utc(local(*rows))) == ["26 23:30", "27 00:15", "27 01:15", "27 02:30"]


def test_rows_of_one_time_or_out_of_order_by_seconds_do_not_begin_the_second_hour():
    rows = [f"2024-10-27 0{at}" for at in ("1:59:58", "1:59:59", "2:00:00", "2:00:00", "2:00:02", "2:00:01", "2:00:03")]
    t = LocalTimes(PARIS).to_utc(local(*rows, "2024-10-27 02:00:00"))
    assert as_utc(t) == ["26 23:59"] * 2 + ["27 00:00"] * 6
    rows += ["2024-10-27 02:59:59", "2024-10-27 02:00:00", "2024-10-27 02:00:01"]
    assert as_utc(LocalTimes(PARIS).to_utc(local(*rows)))[-3:] == ["27 00:59", "27 01:00", "27 01:00"]


def test_each_series_of_a_table_has_its_own_hour():
    rows = ["2024-01-01", "2024-05-01", *AUTUMN, "2024-12-01"]
    once = as_utc(LocalTimes(PARIS).to_utc(local(*rows)))
    assert as_utc(LocalTimes(PARIS).to_utc(local(*rows, *rows))) == once * 2


def test_rows_in_no_order_are_of_the_first_time():
    rows = [
        "2024-10-27 02:30",
        "2024-10-29",
        "2024-10-20",
        "2024-10-28",
        "2024-10-27 02:00",
        "2024-10-25",
        "2024-10-30",
    ]
    t = as_utc(LocalTimes(PARIS).to_utc(local(*rows)))
    assert (t[0], t[4]) == ("27 00:30", "27 00:00")


def test_hour_that_does_not_come_is_no_time_and_others_are_as_they_were():
    rows = [f"2024-03-31 {hour}" for hour in ("01:59", "02:00", "02:30", "02:59", "03:00", "03:30")]
    assert as_utc(LocalTimes(PARIS).to_utc(local(*rows))) == ["31 00:59", "-", "-", "-", "31 01:00", "31 01:30"]


def test_last_hours_of_a_year_after_which_no_year_is_known():
    t = LocalTimes("America/Sao_Paulo").to_utc(local("2000-01-01 00:00", "1983-12-31 21:00"))
    assert t.tolist() == [946692000.0, 441763200.0]


def test_years_that_are_far_apart_and_no_rows_at_all():
    rows = ["1800-06-01", "0002-01-01", "2024-06-01", "1990-06-01", "9990-06-01"]
    expected = [datetime.fromisoformat(r).replace(tzinfo=ZoneInfo(PARIS)).timestamp() for r in rows]
    np.testing.assert_allclose(LocalTimes(PARIS).to_utc(local(*rows)), expected, atol=1)
    assert not len(LocalTimes(PARIS).to_utc(np.empty(0)))


@given(
    st.sampled_from([PARIS, "America/Sao_Paulo", "Africa/Casablanca", "Pacific/Apia", "Asia/Tehran", "Europe/London"]),
    st.lists(st.datetimes(datetime(1950, 1, 1), datetime(2036, 1, 1)), min_size=1, max_size=20),
)
def test_times_that_come_once_are_what_zoneinfo_says(zone, moments):
    texts = [moment.isoformat() for moment in moments]
    found = LocalTimes(zone).to_utc(local(*texts))
    for moment, t in zip(moments, found.tolist(), strict=True):
        both = {moment.replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() for fold in (0, 1)}
        if len(both) == 1:
            assert t == pytest.approx(both.pop(), abs=1e-4)
        else:
            exists = [
                u
                for u in both
                if datetime.fromtimestamp(u, ZoneInfo(zone)).replace(tzinfo=None) - moment < timedelta(milliseconds=1)
            ]
            assert np.isnan(t) or any(abs(t - u) < 1e-3 for u in exists)
