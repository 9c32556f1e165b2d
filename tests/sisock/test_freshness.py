"""When the data of a timeline are stale: what is expected, what is judged, and what is reported of it."""

import logging
import math

import numpy as np
import pytest
from pydantic import ValidationError

from sisock import Field, Timeline
from sisock.access import Access
from sisock.errors import BadRequest
from sisock.node import Node, open_node
from sisock.nodetype import NodeSettings
from sisock.outage import Health
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock

DAY = 86400.0
IMPORTED = {"follows_clock": False, "lateness_s": 0.0}


class Site:
    """A node of one timeline on a clock that is stepped."""

    def __init__(self, site_file=None, source=None, **timeline):
        self.clock = StepClock()
        self.source = source or ManualSource(Timeline("tl", [Field("x")], **timeline))
        self.node = Node("node", None, [self.source], HistorySettings(keep=1e12), self.clock, expect_every=site_file)
        self.node.start()

    def emit(self, age_s=0.0, n=1, step=1.0):
        newest = self.clock.now() - age_s
        self.source.emit("tl", newest - step * np.arange(n)[::-1], {"x": np.zeros(n)})

    def run(self, every_s, times):
        """Emit a sample now and then, and look at the status as often as a node does."""
        for _ in range(times):
            self.emit()
            self.wait(every_s)

    def wait(self, seconds):
        for _ in range(4):
            self.clock.step(seconds / 4)
            self.node.status()

    def about(self, timeline="tl"):
        return self.node.status()["timelines"][timeline]

    @property
    def state(self):
        return self.about()["state"]

    @property
    def health(self):
        return self.node.status()["health"]


def test_silent_source_is_stale_after_three_intervals_and_said_once(caplog):
    site = Site(interval_s=5.0)
    site.run(5.0, 3)
    assert (site.state, site.health["state"]) == ("live", "ok")
    site.emit()
    site.clock.step(15.0)
    assert (site.state, site.health["state"]) == ("live", "ok")
    site.clock.step(0.5)
    about = site.about()
    assert (about["state"], about["age"], about["expected_every"], about["stale_after"]) == ("stale", 15.5, 5.0, 15.0)
    assert site.health["state"] == "degraded"
    assert site.health["error"] == "samples of tl: none since 2023-11-14T22:13:35.000Z, and one is expected every 5 s"
    site.wait(1000.0)
    site.emit()
    assert (site.state, site.health["state"], site.health["error"]) == ("live", "ok", None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "samples of tl: none since" in caplog.text
    assert "samples of tl: recovered after 1000.0 s" in caplog.text


def test_table_of_old_rows_shows_its_age_and_is_no_outage():
    site = Site(**IMPORTED)
    site.emit(age_s=11 * 365 * DAY, n=1000, step=3600.0)
    about = site.about()
    assert (about["state"], about["age"], about["expected_every"]) == ("idle", 11 * 365 * DAY, None)
    site.wait(10 * DAY)
    assert (site.state, site.health["state"]) == ("idle", "ok")


def test_table_of_which_rows_are_expected_is_judged_by_its_newest_row():
    site = Site({"tl": 3600.0}, **IMPORTED)
    site.emit(age_s=13 * 3600.0)
    assert site.state == "idle"  # it has only just been started, and may be about to read newer rows
    site.clock.step(60.0)
    assert site.state == "stale"
    assert (
        site.health["error"] == "samples of tl: none since 2023-11-14T09:13:20.000Z, and one is expected every 3600 s"
    )
    site.emit(age_s=1800.0)
    assert (site.state, site.health["state"]) == ("live", "ok")


def test_fast_import_of_old_rows_teaches_nothing():
    site = Site(**IMPORTED)
    for i in range(700):
        site.emit(age_s=1e6 - i)
        site.clock.step(1.0)
    site.wait(DAY)
    assert (site.state, site.health["state"]) == ("idle", "ok")


def test_regular_past_teaches_what_is_expected():
    site = Site()
    site.run(60.0, 10)
    assert site.about()["expected_every"] is None  # too little is known
    site.run(60.0, 15)
    assert site.about()["expected_every"] == 60.0
    site.wait(110.0)
    assert site.state == "live"
    site.wait(30.0)
    assert site.state == "stale"


def test_rows_that_come_regularly_are_learned_of_a_file_too():
    site = Site(**IMPORTED)
    site.run(30.0, 40)
    assert site.about()["expected_every"] == 30.0
    site.wait(120.0)
    assert site.state == "stale"


def test_fast_stream_is_learned_within_minutes_and_has_ten_seconds():
    site = Site()
    for _ in range(7000):
        site.emit()
        site.clock.step(0.1)
    about = site.about()
    assert about["expected_every"] == pytest.approx(0.1)
    assert about["stale_after"] == 10.0
    site.clock.step(11.0)
    assert site.state == "stale"


def test_events_at_irregular_times_do_not_flap(caplog):
    site = Site()
    chance = np.random.default_rng(1)
    for _ in range(10):
        for pause in chance.lognormal(3.0, 1.5, 60).tolist():
            site.emit()
            site.wait(pause)
        site.wait(DAY / 2)
    assert caplog.records == []
    assert site.health["state"] == "ok"


def test_machine_that_rests_every_night_is_reported_three_times_at_the_most(caplog):
    site = Site()
    for _ in range(5):
        site.run(60.0, 150)
        site.wait(DAY / 2)
    assert len([r for r in caplog.records if "none since" in r.getMessage()]) <= 3
    assert site.health["state"] == "ok"


def test_batches_of_a_fast_source_that_come_every_minute_do_not_flap(caplog):
    site = Site(interval_s=0.001, lateness_s=120.0)
    for _ in range(60):
        site.emit(n=1000, step=0.001)
        site.wait(60.0)
    assert len([r for r in caplog.records if "none since" in r.getMessage()]) <= 1
    assert site.state == "live"


def test_one_row_a_day_is_known_again_after_a_restart(tmp_path):
    clock, settings = StepClock(), HistorySettings(path=tmp_path / "h")

    def started():
        source = ManualSource(Timeline("tl", [Field("x")]))
        node = Node("node", None, [source], settings, clock)
        node.start()
        return node, source

    node, source = started()
    for _ in range(25):
        source.emit("tl", [clock.now()], {"x": [1.0]})
        clock.step(DAY)
    node.stop()
    node, source = started()
    about = node.status()["timelines"]["tl"]
    assert (about["expected_every"], about["age"], about["state"]) == (DAY, DAY, "idle")
    clock.step(3 * DAY + 1)
    assert node.status()["timelines"]["tl"]["state"] == "stale"
    node.stop()


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
def test_clock_of_a_sender_that_is_wrong_hides_no_silence_and_makes_none(ahead_s):
    site = Site(interval_s=1.0, lateness_s=1e6, follows_clock=False, live=True)
    for _ in range(20):
        site.emit(age_s=-ahead_s)
        site.clock.step(1.0)
    about = site.about()
    assert about["state"] == "live"
    assert (about["age"], about["ahead"]) == ((3601.0, None) if ahead_s < 0 else (None, 3599.0))
    site.clock.step(20.0)
    assert site.state == "stale"


@pytest.mark.parametrize("jump_s", [-7200.0, 7200.0])
def test_clock_of_the_node_that_jumps_makes_nothing_stale(jump_s):
    site = Site(interval_s=5.0)
    site.run(5.0, 5)
    site.clock.jump(jump_s)
    assert site.state == "live"
    site.clock.step(11.0)
    assert site.state == "stale"


def test_source_that_never_measured_is_stale_too():
    site = Site(interval_s=1.0)
    assert site.about() | {"state": "idle", "age": None} == site.about()
    site.clock.step(11.0)
    assert (site.state, site.health["state"]) == ("stale", "degraded")


def test_timeline_that_is_expected_and_never_comes_is_stale():
    site = Site({"strain": 2.0, "camera.*": 1.0, "door": math.inf})
    site.clock.step(6.5)
    status = site.node.status()
    assert status["timelines"]["strain"]["state"] == "stale"
    assert status["health"]["error"].startswith("samples of strain: none since")
    assert status["timelines"].keys() == {"tl", "strain"}


@pytest.mark.parametrize("never", [{"tl": math.inf}, {"*": math.inf}])
def test_timeline_of_which_nothing_is_expected_is_never_stale(never):
    site = Site(never, interval_s=1.0)
    site.run(1.0, 5)
    assert site.state == "live"
    site.wait(DAY)
    assert (site.state, site.about()["expected_every"], site.health["state"]) == ("idle", None, "ok")


def test_site_file_goes_before_the_source_and_a_name_before_a_pattern():
    site = Site({"t*": 7.0}, expect_every=5.0, interval_s=1.0)
    assert site.about()["expected_every"] == 7.0
    assert Site({"t*": 7.0, "tl": 2.0}).about()["stale_after"] == 6.0
    assert Site(expect_every=0.5, interval_s=1.0).about()["stale_after"] == 1.5
    assert Site(expect_every=math.inf, interval_s=1.0).about()["stale_after"] is None
    with pytest.raises(BadRequest, match="expect_every 0"):
        Timeline("tl", [], expect_every=0.0)


class Broken(ManualSource):
    def status(self):
        return self.health


def test_silence_that_the_source_explains_is_not_reported_twice(caplog):
    source = Broken(Timeline("tl", [Field("x")], interval_s=1.0))
    source.health = Health("outage", 0.0, "no device")
    site = Site(source=source)
    site.clock.step(30.0)
    assert site.state == "stale"
    assert (site.health["state"], site.health["error"]) == ("outage", "no device")
    assert caplog.records == []
    source.health = Health("ok", 0.0)
    assert site.health["state"] == "degraded"


def test_timeline_with_other_fields_goes_on_being_live():
    site = Site()
    site.run(60.0, 25)
    site.source.add(Timeline("tl", [Field("x"), Field("y")]))
    assert (site.state, site.about()["expected_every"]) == ("live", 60.0)


def settings(expect_every):
    return NodeSettings.model_validate({"type": "x", "expect_every": expect_every}).expect_every


def test_site_file_has_spans_and_never():
    assert settings("10m") == {"*": 600.0}
    assert settings(2) == {"*": 2.0}
    assert settings(None) == settings("never") == {"*": math.inf}
    assert settings({"strain": "1h", "event*": "never", "log": None}) == {
        "strain": 3600.0,
        "event*": math.inf,
        "log": math.inf,
    }
    assert NodeSettings(type="x").expect_every == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [("often", "'often' is not a valid duration"), (0, "greater than 0"), ({"tl": True}, "such as 10s, or never")],
)
def test_bad_expectation_is_refused(content, said):
    with pytest.raises(ValidationError, match=said):
        settings(content)


def test_expectation_of_the_site_file_reaches_the_history():
    class Settings(NodeSettings):
        def make_sources(self, here):
            return [ManualSource(Timeline("tl", [Field("x")]))]

    with pytest.warns(DeprecationWarning, match="has make_sources, which is deprecated"):
        node = open_node(
            "node", Settings(type="x", expect_every="2s"), Access("ws://localhost:1", "realm", "base", "user", "secret")
        )
    assert node.status()["timelines"]["tl"]["expected_every"] == 2.0
