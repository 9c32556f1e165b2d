"""Samples of one time: the same again, or others, which are counted separately and reported once."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval

EVER = Interval(-1e12, 1e12)


@pytest.fixture(params=["memory", "disk"])
def opened(request, tmp_path):
    made = []

    def open_(*fields, lateness=10.0):
        timeline = Timeline("tl", fields, lateness_s=lateness, follows_clock=False)
        path = tmp_path / str(len(made)) if request.param == "disk" else None
        made.append(History([timeline], HistorySettings(keep=1e12, path=path), StepClock(100.0)))
        return made[-1]

    yield open_
    for history in made:
        history.close()


def counts(history):
    status = history.status()["tl"]
    return status["repeated"], status["overwritten"], status["late"]


def test_samples_of_one_time_in_one_batch_are_overwritten_and_the_last_stays(opened):
    history = opened(Field("value"))
    history.append(as_batch("tl", [60.0, 60.0, 60.0], {"value": [1.0, 10.0, 100.0]}))  # north, south, roof
    samples = history.read(["value"], EVER).timelines["tl"]
    assert (samples.t.tolist(), samples.columns["value"].tolist()) == ([60.0], [100.0])
    assert counts(history) == (0, 2, 0)


def test_sample_that_is_there_already_is_repeated_and_one_with_other_values_is_overwritten(opened):
    history = opened(Field("x"), Field("s", "string"), Field("b", "bool"))
    first = as_batch("tl", [1.0, 2.0, 3.0], {"x": [1.0, np.nan, 3.0], "s": ["a", "b", "c"], "b": [True, True, False]})
    history.append(first)
    history.append(first)
    assert counts(history) == (3, 0, 0)  # NaN is what was there
    history.append(as_batch("tl", [2.0], {"x": [np.nan], "s": ["other"], "b": [True]}))
    history.append(as_batch("tl", [2.0, 3.0], {"x": [np.nan, 3.0], "s": ["other", "c"], "b": [True, True]}))
    history.append(as_batch("tl", [2.0, 2.5], {"x": [2.0, 2.5], "s": ["other", ""], "b": [True, True]}))
    assert counts(history) == (4, 3, 0)
    samples = history.read(["x", "s", "b"], EVER).timelines["tl"]
    assert samples.columns["x"].tolist() == [1.0, 2.0, 2.5, 3.0]
    assert samples.columns["s"].tolist() == ["a", "other", "", "c"]
    assert samples.columns["b"].tolist() == [True, True, True, True]


def test_final_sample_with_other_values_is_late_and_not_overwritten(opened):
    history = opened(Field("x"), lateness=0.0)
    history.append(as_batch("tl", [1.0, 2.0], {"x": [1.0, 2.0]}))
    history.append(as_batch("tl", [1.0, 1.0], {"x": [1.0, 5.0]}))
    assert counts(history) == (1, 0, 1)
    assert history.read(["x"], EVER).timelines["tl"].columns["x"].tolist() == [1.0, 2.0]


def test_first_overwritten_sample_is_reported_once_with_both_values_and_the_remedy(opened, caplog):
    history = opened(Field("site"), Field("value"))
    with caplog.at_level(logging.WARNING):
        history.append(as_batch("tl", [50.0, 60.0], {"site": [1, 1], "value": [5.5, 1.5]}))
        assert not caplog.records
        for value in (10.25, 100.0):
            history.append(as_batch("tl", [60.0], {"site": [1], "value": [value]}))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(
        "timeline tl: at 1970-01-01T00:01:00.000Z there are two samples, with 1.5 and with 10.25 for 'value'; the last one "
        "is kept"
    )
    assert all(setting in message for setting in ("`pivot`", "`key`", "`time.columns`", "`time_index: [0, 1]`"))


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=6), max_size=8))
def test_every_sample_is_stored_repeated_or_overwritten(batches):
    timeline = Timeline("tl", [Field("x")], lateness_s=1000.0, follows_clock=False)
    history = History([timeline], HistorySettings(keep=1e12), StepClock(100.0))
    model, repeated, overwritten = {}, 0, 0
    for batch in batches:
        for t, value in batch:
            repeated += model.get(t) == value
            overwritten += model.get(t, value) != value
            model[t] = value
        t, x = zip(*batch, strict=True)
        history.append(as_batch("tl", t, {"x": x}))
    assert sum(counts(history)) == repeated + overwritten
    if all(len({t for t, _ in batch}) == len(batch) for batch in batches):
        assert counts(history) == (repeated, overwritten, 0)
