"""Health, and outages that are logged once."""

import logging

import pytest

from sisock.errors import BadData
from sisock.outage import Health, LimitedLog, OutageLog, age_content, reported_age, reported_health, worst
from sisock.testing import StepClock


def test_outage_is_logged_when_it_starts_and_when_it_ends_and_each_failure_is_counted(caplog):
    clock = StepClock(1000.0)
    outages = OutageLog(clock)
    with caplog.at_level(logging.WARNING):
        outages.failed("the disk", "No space left on device")
        clock.step(5.0)
        outages.failed("the disk", "Read-only file system")
        assert outages.health().as_dict() == {
            "state": "degraded",
            "since": 1000.0,
            "error": "the disk: Read-only file system",
            "details": {},
        }
        outages.recovered("the disk")
        outages.recovered("the disk")
    assert [record.getMessage() for record in caplog.records] == [
        "the disk: No space left on device; further failures are counted and not logged until it recovers",
        "the disk: recovered after 5.0 s (2 failures)",
    ]
    assert outages.health() == Health("ok", 1005.0)
    assert outages.failures() == {"the disk": 2}


@pytest.mark.parametrize(
    ("error", "has_traceback"), [(BadData("bad"), False), (OSError("io"), False), (KeyError("x"), True)]
)
def test_only_an_unexpected_exception_is_logged_with_its_traceback(caplog, error, has_traceback):
    outages = OutageLog(StepClock())
    outages.failed("reading", error)
    outages.failed("reading", error)
    assert [record.exc_info is not None for record in caplog.records] == [has_traceback]


def test_every_failure_is_counted_by_the_part_and_the_start_of_the_outage_is_known():
    failures, clock = [], StepClock(1000.0)
    outages = OutageLog(clock, on_failure=lambda: failures.append(clock.now()))
    assert outages.since("reading") is None
    for _ in range(2):
        outages.failed("reading", "no answer")
        clock.step(5.0)
    assert failures == [1000.0, 1005.0]
    assert outages.since("reading") == 1000.0
    outages.recovered("reading")
    assert outages.since("reading") is None


def test_first_messages_of_each_kind_are_logged_and_further_ones_suppressed(caplog):
    notices = LimitedLog(logging.getLogger("test"), per_kind=2, kinds=2)
    for kind in ("a", "b", "c"):
        for number in range(4):
            notices.warning(kind, "%s is bad, %d", kind, number)
    assert [record.getMessage() for record in caplog.records] == [
        f"{kind} is bad, {number}{'; further occurrences are suppressed' if number else ''}"
        for kind in ("a", "b")
        for number in (0, 1)
    ]


def test_health_of_a_whole_is_that_of_its_worst_part_with_all_errors():
    assert worst([Health("ok", 1.0), Health("ok", 3.0)]) == Health("ok", 3.0)
    parts = [
        Health("ok", 9.0),
        Health("degraded", 5.0, "slow"),
        Health("outage", 7.0, "unreachable"),
        Health("outage", 6.0),
    ]
    assert worst(parts) == Health("outage", 6.0, "unreachable; slow")


def test_health_that_a_node_reports_is_read_as_far_as_it_is_valid():
    reported = Health("degraded", 5.0, "slow", {"queue": 3}).as_dict()
    assert reported_health({"health": reported}) == {"state": "degraded", "since": 5.0, "error": "slow"}
    assert reported_health({"health": {"state": "ok", "since": "noon"}}) == {
        "state": "ok",
        "since": None,
        "error": None,
    }


@pytest.mark.parametrize("status", [{}, {"health": None}, {"health": "ok"}, {"health": {"state": ["ok"]}}])
def test_health_that_is_missing_or_invalid_is_none(status):
    assert reported_health(status) is None


def test_age_of_a_node_is_that_of_its_newest_timeline():
    timelines = {"old": {"age": 46800.0}, "new": {"age": 2.0, "ahead": None}, "none": {"age": None}, "odd": 7}
    assert reported_age({"timelines": timelines}) == 2.0
    assert reported_age({"timelines": {**timelines, "forecast": {"age": None, "ahead": 3600.0}}}) == -3600.0
    assert [reported_age(status) for status in ({}, {"timelines": []}, {"timelines": {"tl": {"age": "old"}}})] == [
        None
    ] * 3


def test_what_is_ahead_is_said_to_be_ahead_and_has_no_age():
    assert age_content(5.0) == {"age": 5.0, "ahead": None}
    assert age_content(-5.0) == {"age": None, "ahead": 5.0}
    assert age_content(None) == {"age": None, "ahead": None}
