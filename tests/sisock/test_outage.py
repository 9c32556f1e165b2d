"""Health, and outages that are logged once."""

import logging

import pytest

from sisock.outage import Health, OutageLog, age_content, reported_age, reported_health, worst
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
