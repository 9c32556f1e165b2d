"""The fault driver's own checks, on a site that the test makes up: each must see what it is there for."""

import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from tests.faults import __main__ as command
from tests.faults.driver import Driver
from tests.faults.numbered import texts, times
from tests.faults.observer import Observer, Seen
from tests.faults.registry import Fault, NotPossible, Outcome

N = 1000


class Site:
    """A site with one numbered node that serves all that was acknowledged, unless the test takes something away."""

    nodes = numbered = ("always",)

    def __init__(self, folder):
        self.folder, self.start = folder, time.time() - 100.0
        self.numbers, self.t = np.empty(0, int), np.empty(0)
        self.gaps, self.health = [], "ok"
        self.oldest, self.final, self.reset = self.start, self.start + 0.05, 0
        self.acknowledge(self.start, N)

    def acknowledge(self, start, count):
        """Have more samples, which the instrument writes down."""
        first = int(self.numbers.max(initial=-1)) + 1
        with (self.folder / "always.journal").open("a") as journal:
            journal.write(json.dumps({"first": first, "count": count, "start": start, "final": self.final}) + "\n")
        self.numbers = np.append(self.numbers, np.arange(first, first + count))
        self.t = np.append(self.t, times(start, count))

    def lose(self, *numbers):
        kept = ~np.isin(self.numbers, numbers)
        self.numbers, self.t = self.numbers[kept], self.t[kept]

    @contextmanager
    def consumer(self, timeout_s=0.0):
        yield self

    def status(self, _node):
        about = {"oldest": self.oldest, "finalized_until": self.final, "reset": self.reset}
        return {"health": {"state": self.health}, "timelines": {"numbers": about}}

    def data(self, _node, names, start, end):
        inside = (self.t >= start) & (self.t < end)
        columns = {"number": self.numbers[inside].astype(float), "text": texts(self.numbers[inside])}
        samples = SimpleNamespace(t=self.t[inside], columns=columns, gaps=self.gaps)
        assert list(columns) == names
        return SimpleNamespace(timelines={"numbers": samples})


class Looking:
    """An observer that sees what it is told to have seen."""

    def __init__(self):
        self.seen, self.state, self.is_ready = Seen(last={"always": 100.0, "gateway": 50.0}), "live", True

    def begin(self):
        self.seen = Seen(last=dict(self.seen.last), peak=dict(self.seen.last))

    def get(self, path):
        if not self.is_ready:
            raise OSError("503")
        return [{"name": "always", "state": self.state}] if path == "/api/v1/nodes" else {}


@pytest.fixture
def running(tmp_path):
    driver = Driver(Site(tmp_path), Looking())
    driver.is_warm = True
    return driver


def injected(driver, act: Callable[[Site, Looking], None] = lambda site, seen: None, **attributes):
    """Inject a fault that does something to the site; once it has ended the node acknowledges one more batch."""

    class Tried(Fault):
        name, part, hold_s, weighed = "tried", "node", 0.0, ("always",)
        inject = lambda self: act(self.site, driver.observer)  # noqa: E731
        heal = lambda self: self.site.acknowledge(time.time() + 0.5, 10)  # noqa: E731

    return driver.run(type("Tried", (Tried,), attributes), 0, 1)


def test_nothing_is_violated_where_all_is_well(running):
    outcome = injected(running)
    assert (outcome.violations, outcome.not_run, outcome.passed) == ([], None, True)
    assert outcome.recovery_s < 5.0


def test_acknowledged_sample_that_is_not_served_is_a_violation_once(running):
    outcome = injected(running, lambda site, _: site.lose(700, 701))  # not final, so no answer has changed
    assert outcome.violations == ["always lost 2 acknowledged samples, such as 700"]
    assert (outcome.lost, outcome.passed) == (2, False)
    assert injected(running).violations == []  # the next fault is not blamed for it


@pytest.mark.parametrize(
    ("may", "expected"), [(True, []), (False, ["always lost 2 acknowledged samples, such as 700"])]
)
def test_lost_sample_is_excused_only_in_a_gap_of_a_fault_that_damages_files(running, may, expected):
    def act(site, _):
        site.gaps.append((site.t[700], site.t[701]))
        site.lose(700, 701)

    assert injected(running, act, may_leave_gaps=may).violations == expected


def test_lost_sample_outside_of_the_gap_is_not_excused(running):
    def act(site, _):
        site.gaps.append((site.t[700], site.t[700]))
        site.lose(700, 701)

    assert injected(running, act, may_leave_gaps=True).violations == ["always lost 1 acknowledged samples, such as 700"]


def test_sample_that_is_served_twice_or_otherwise_is_a_violation(running):
    def act(site, _):
        site.numbers, site.t = np.append(site.numbers, 700), np.append(site.t, site.t[700])

    assert injected(running, act).violations == ["always has 1 samples twice"]


def test_sample_that_is_served_at_another_time_is_a_violation(running):
    def act(site, _):
        site.t[700] += 1e-5

    assert injected(running, act).violations == ["always serves 1 samples that were never sent so"]


@pytest.mark.parametrize("what", ["gone", "new", "other"])
def test_answer_that_was_final_and_has_changed_is_a_violation(running, what):
    def act(site, _):
        if what == "gone":
            site.lose(*range(0, 500, 5))
        elif what == "new":
            site.numbers, site.t = np.append(site.numbers[:-1], 10**6), np.append(site.t[:-1], site.start + 0.02001)
            order = np.argsort(site.t)
            site.numbers, site.t = site.numbers[order], site.t[order]
        else:
            site.numbers[100:400] = site.numbers[100:400][::-1]

    outcome = injected(running, act, may_leave_gaps=True)
    assert outcome.changed > 0
    assert "answers that were final have changed, such as always from " in outcome.violations[0]


def test_answer_that_was_final_may_lack_what_lies_in_a_gap_of_damaged_files(running):
    def act(site, _):
        site.gaps.append((site.t[0], site.t[499]))
        site.lose(*range(0, 500, 5))

    assert injected(running, act, may_leave_gaps=True).violations == []


def test_watermark_that_went_back_is_a_violation(running):
    def act(_, observer):
        observer.seen.backwards += ["always/numbers went back by 1.000 s"] * 2

    assert injected(running, act).violations == ["always/numbers went back by 1.000 s"]


def test_watermark_is_seen_to_go_back_unless_that_is_a_reset(running):
    site = running.site
    observer = Observer(site)
    observer.take("always", site)
    observer.begin()
    site.final -= 0.01
    observer.take("always", site)
    assert observer.seen.backwards == ["always/numbers went back by 0.010 s"]
    site.final, site.reset = site.final - 0.01, 1
    observer.take("always", site)
    assert len(observer.seen.backwards) == 1
    site.final = None  # a node that does not know it any more
    observer.take("always", site)
    site.final = site.start
    observer.take("always", site)
    assert len(observer.seen.backwards) == 2


@pytest.mark.parametrize(
    ("peak", "last", "expected"),
    [
        (200.0, 164.0, []),
        (201.0, 100.0, ["always grew by 101 MB"]),
        (200.0, 164.2, ["always kept 64 MB"]),
    ],
)
def test_memory_that_a_process_takes_or_keeps_is_a_violation(running, peak, last, expected):
    def act(_, observer):
        observer.seen.peak["always"], observer.seen.last["always"] = peak, last
        observer.seen.peak["gateway"] = 1e4  # is not attacked, and only shown

    outcome = injected(running, act)
    assert outcome.violations == expected
    assert outcome.peak_mb == {"always": peak - 100.0, "gateway": 9950.0}


@pytest.mark.parametrize(
    ("unwell", "missing"),
    [
        ({"is_ready": False}, "the gateway is not ready (503)"),
        ({"state": "stale"}, "in the gateway always is stale"),
        ({"health": "degraded"}, "always reports {'state': 'degraded'}"),
        ({"silent": True}, "always acknowledges nothing"),
    ],
)
def test_site_that_does_not_recover_is_a_violation(running, unwell, missing, monkeypatch):
    monkeypatch.setattr("tests.faults.driver._PATIENCE_S", 0.2)

    def act(site, observer):
        for name, value in unwell.items():
            setattr(site if name == "health" else observer, name, value)

    more = {"heal": lambda self: None} if "silent" in unwell else {}
    outcome = injected(running, act, **more)
    assert not outcome.passed
    (violation,) = outcome.violations
    assert violation.startswith("TimeoutError: not recovered after 0.2 s: ")
    assert missing in violation


def test_recovery_that_takes_too_long_is_a_violation(running):
    def act(_, observer):
        calls = iter([False] * 3)
        observer.get = lambda path: type(observer).get(observer, path) if next(calls, True) else fail()

    def fail():
        raise OSError("503")

    assert injected(running, act, recovery_s=1.0).violations == []
    (violation,) = injected(running, act, recovery_s=0.05).violations
    assert violation.startswith("recovered after 0.")
    running.slack = 10.0
    assert injected(running, act, recovery_s=0.05).violations == []


def test_what_a_fault_itself_finds_is_a_violation(running):
    found = {"complaint": lambda *_: "the node was not stale", "violations": lambda _: ["something is left"]}
    assert injected(running, **found).violations == ["the node was not stale", "something is left"]


def test_fault_that_cannot_be_injected_is_not_run_and_not_passed(running):
    def act(*_):
        raise NotPossible("there is no root")

    outcome = injected(running, act)
    assert (outcome.not_run, outcome.violations, outcome.passed) == ("there is no root", [], False)


def test_fault_is_healed_also_when_its_injection_fails(running):
    def act(*_):
        raise OSError("it broke")

    before = len(running.site.t)
    assert injected(running, act).violations == ["OSError: it broke"]
    assert len(running.site.t) == before + 10


@pytest.mark.parametrize(("violations", "status"), [([], 0), (["something"], 1)])
def test_command_ends_with_1_when_a_check_failed(violations, status, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["faults", "--only", "router-reset", "--seed", "1"])
    monkeypatch.setattr(command, "_RESULTS", tmp_path / "latest.json")
    outcomes = [Outcome("router-reset", 0, 1, violations), Outcome("other", 0, 1, not_run="there is no root")]
    monkeypatch.setattr(command, "run_all", lambda _kinds, _seed, report, **_: [report(each) for each in outcomes])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == status
    told = json.loads((tmp_path / "latest.json").read_text())["outcomes"]
    assert [each["passed"] for each in told] == [not violations, False]
