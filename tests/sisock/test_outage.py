"""Health, and outages that are logged once."""

import logging

from sisock.outage import Health, OutageLog, worst
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
