"""Evaluation of alarms on batches, against a loop over samples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.alarm.rules import Rules, Watch
from sisock.alarm.settings import AlarmSettings
from sisock.fields import Batch, as_batch
from sisock.metrics import Counters

NOW = 1e9


def settings(**content):
    return AlarmSettings.model_validate({"field": "x", **content})


class Evaluation:
    """Rules of some alarms, and the changes that batches make."""

    def __init__(self, *definitions, counters=None):
        self.watches = [Watch(str(i), each) for i, each in enumerate(definitions)]
        self.counters = counters or Counters()
        self.rules = Rules(self.watches, 0.0, self.counters)

    def put(self, t, monotonic=0.0, now=NOW, **columns):
        batch = as_batch("tl", t, columns)
        return self.take(batch, monotonic, now)

    def take(self, batch, monotonic=0.0, now=NOW):
        if self.rules.are_quiet(batch, monotonic, now):
            return []
        return self.told(self.rules.evaluate(batch, monotonic, now))

    def silent(self, monotonic, now=NOW):
        return self.told(self.rules.silent(monotonic, now))

    def told(self, changes):
        return [(change.watch.name, change.active, change.t, change.value) for change in changes]


def twin(definition, samples):
    """Yield the changes that samples make, one sample after the other."""
    active, since = False, None
    for t, x in samples:
        if math.isnan(x):
            continue
        clear = definition.limit if definition.clear is None else definition.clear
        if definition.above is not None:
            over, under = x > definition.above, x <= clear
        elif definition.below is not None:
            over, under = x < definition.below, x >= clear
        else:
            over = (x == definition.equals) if definition.equals is not None else (x != definition.not_equals)
            under = not over
        if not (under if active else over):
            since = None
            continue
        since = t if since is None else since
        if t - since >= (definition.clear_for if active else definition.on_delay):
            active, since = not active, None
            yield ("0", active, t, x)


CONDITIONS = st.one_of(
    st.builds(lambda clear: {"above": 5, "clear": clear}, st.sampled_from([5, 4, 3])),
    st.builds(lambda clear: {"below": 5, "clear": clear}, st.sampled_from([5, 6, 7])),
    st.sampled_from([{"equals": 5}, {"not_equals": 5}, {"above": 5}, {"below": 5}]),
)
DELAYS = st.sampled_from([0, 1, 2, 5])
VALUES = st.sampled_from([2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.nan, math.inf, -math.inf])


@given(
    CONDITIONS,
    DELAYS,
    DELAYS,
    st.lists(st.lists(st.tuples(st.integers(1, 3), VALUES), min_size=1, max_size=8), max_size=8),
    st.sampled_from([np.float64, np.float32]),
)
def test_changes_are_those_of_a_loop_over_samples(condition, delay, clear_for, batches, dtype):
    definition = settings(**condition, **{"for": delay, "clear_for": clear_for})
    evaluation, t, samples, found = Evaluation(definition), 1000.0, [], []
    for batch in batches:
        times = []
        for distance, x in batch:
            t += distance
            times.append(t)
            samples.append((t, x))
        found += evaluation.put(times, x=np.array([x for _, x in batch], dtype))
    assert found == list(twin(definition, samples))
    assert evaluation.counters["missing"] == sum(math.isnan(x) for _, x in samples)


def test_changes_of_several_alarms_of_one_timeline_are_found_in_one_pass():
    evaluation = Evaluation(settings(above=5), settings(below=0), AlarmSettings(field="on", equals=True))
    columns = {"x": np.array([1, 9, -1]), "on": np.array([False, False, True])}
    assert evaluation.put([1.0, 2.0, 3.0], **columns) == [
        ("0", True, 2.0, 9),
        ("0", False, 3.0, -1),
        ("1", True, 3.0, -1),
        ("2", True, 3.0, True),
    ]
    assert evaluation.put([4.0], x=[-1], on=[True]) == []


def test_texts_are_compared():
    evaluation = Evaluation(settings(not_equals="ok"))
    assert evaluation.put([1.0, 2.0, 3.0], x=["ok", "bad", "ok"]) == [("0", True, 2.0, "bad"), ("0", False, 3.0, "ok")]


def test_large_integers_are_compared_exactly():
    evaluation = Evaluation(settings(equals=2**60 + 1))
    assert evaluation.put([1.0, 2.0], x=np.array([2**60, 2**60 + 1])) == [("0", True, 2.0, 2**60 + 1)]


def test_delay_passes_by_the_clock_when_no_samples_come():
    evaluation = Evaluation(settings(above=5, **{"for": 10}))
    assert evaluation.put([100.0, 104.0], monotonic=50.0, x=[9, 9]) == []
    assert evaluation.silent(55.9) == []
    assert evaluation.silent(56.0) == [("0", True, 110.0, 9)]
    assert evaluation.silent(99.0) == []
    assert evaluation.put([111.0], x=[1]) == [("0", False, 111.0, 1)]


def test_delay_does_not_pass_by_the_clock_while_old_samples_come():
    evaluation = Evaluation(settings(above=5, **{"for": 10}))
    for i in range(11):
        evaluation.put([100.0 + i / 2], monotonic=3.0 * i, x=[9])
        assert evaluation.silent(3.0 * i + 2.9) == []


def test_field_is_stale_when_no_value_comes_and_a_missing_one_is_none():
    evaluation = Evaluation(settings(stale_after=30))
    assert evaluation.silent(29.0) == []
    assert evaluation.put([1.0], monotonic=29.0, x=[1.0]) == []
    assert evaluation.put([2.0], monotonic=50.0, x=[math.nan]) == []
    assert evaluation.silent(58.9) == []
    assert evaluation.silent(60.0, now=500.0) == [("0", True, 499.0, None)]
    assert evaluation.silent(90.0) == []
    assert evaluation.put([3.0], monotonic=91.0, x=[math.nan]) == []
    assert evaluation.put([4.0], monotonic=92.0, x=[2.0]) == [("0", False, 4.0, 2.0)]
    assert evaluation.silent(121.9) == []
    assert [active for _, active, _, _ in evaluation.silent(122.0)] == [True]


def test_samples_older_than_evaluated_ones_change_nothing_and_are_counted():
    evaluation = Evaluation(settings(above=5))
    assert evaluation.put([10.0], x=[1]) == []
    assert evaluation.put([8.0, 9.0, 10.0], x=[9, 9, 9]) == []
    assert evaluation.counters["out_of_order"] == 3
    assert evaluation.put([9.5, 11.0], x=[1, 9]) == [("0", True, 11.0, 9)]


def test_sample_ahead_of_the_clock_does_not_silence_an_alarm():
    evaluation = Evaluation(settings(above=5, **{"for": 3}))
    evaluation.put([NOW + 1e6], now=NOW, x=[9])
    found = [change for i in range(5) for change in evaluation.put([NOW + i + 1.0], now=NOW + i + 1.0, x=[9])]
    assert found == [("0", True, NOW + 4.0, 9)]


def test_timeline_that_is_set_back_is_evaluated_from_there():
    evaluation = Evaluation(settings(above=5))
    evaluation.put([10.0], x=[1])
    batch = Batch("tl", np.array([5.0]), {"x": np.array([9])}, reset=1)
    assert evaluation.take(batch) == [("0", True, 5.0, 9)]


def test_changes_beyond_twenty_of_one_batch_are_counted_and_the_last_one_is_right():
    for n in (999, 1000, 21, 22, 20):
        evaluation = Evaluation(settings(above=5))
        batch = as_batch("tl", np.arange(n) + 1.0, {"x": np.where(np.arange(n) % 2, 0, 9)})
        assert not evaluation.rules.are_quiet(batch, 0.0, NOW)
        changes = list(evaluation.rules.evaluate(batch, 0.0, NOW))
        assert len(changes) + sum(change.skipped for change in changes) == n
        assert len(changes) <= 21
        assert [change.active for change in changes] == [i % 2 == 0 for i in range(len(changes))]
        assert (changes[-1].t, changes[-1].active) == (float(n), n % 2 == 1)
        assert evaluation.watches[0].active == (n % 2 == 1)


def test_large_batches_are_evaluated_in_parts(monkeypatch):
    monkeypatch.setattr("sisock.alarm.rules._AT_ONCE", 10)
    evaluation = Evaluation(settings(above=5, **{"for": 30}))
    t = np.arange(100) + 1.0
    assert evaluation.put(t, x=np.where(t > 50, 9, 1)) == [("0", True, 81.0, 9)]


@pytest.mark.parametrize("keeps", [True, False])
def test_rules_that_take_over_know_what_was_seen(keeps):
    evaluation = Evaluation(settings(stale_after=30))
    evaluation.put([1.0], monotonic=100.0, x=[1.0])
    rules = Rules(evaluation.watches, 90.0, evaluation.counters)
    if keeps:
        rules.take_over(evaluation.rules)
    assert bool(list(rules.silent(125.0, NOW))) is not keeps
