"""The history in memory, against a slow and obvious twin."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisock.errors import BadData
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from sisock.wamp import replies

EVER = Interval(-1e12, 1e12)
KEEP = HistorySettings(keep=1e12)


def history(*, lateness=0.0, follows_clock=False, fields=(Field("x"),), settings=KEEP, clock=None):
    timeline = Timeline("tl", fields, lateness_s=lateness, follows_clock=follows_clock)
    return History([timeline], settings, clock or StepClock(5e4))


def samples(history, interval=EVER, fields=("x",)):
    """Return what is served; None where that is nothing, or only that something is lost."""
    read = history.read(list(fields), interval).timelines.get("tl")
    return read if read and read.columns else None


def counted(history, name):
    return history.status()["tl"][name]


def test_samples_are_read_in_half_open_intervals():
    h = history()
    h.append(as_batch("tl", [1, 2, 3], {"x": [10, 20, 30]}))
    read = samples(h, Interval(1, 3))
    assert read.t.tolist() == [1, 2]
    assert read.columns["x"].tolist() == [10, 20]
    assert samples(h, Interval(3.5, 9)) is None


batches = st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=8), max_size=30)


@settings(max_examples=200)
@given(batches, st.sampled_from([0.0, 5.0, 1000.0]))
def test_any_order_gives_what_the_obvious_dict_gives(batches, lateness):
    h = history(lateness=lateness)
    model, final, late, value = {}, -np.inf, 0, 0
    for times in batches:
        values = list(range(value, value + len(times)))
        value += len(times)
        h.append(as_batch("tl", times, {"x": values}))
        fresh = {}
        for t, v in zip(times, values, strict=True):
            if t < final:
                late += model.get(t) != v  # what is there already is no loss
            else:
                fresh[t] = v  # of one time, the last stays
        model |= fresh
        if fresh:
            final = max(final, max(fresh) - lateness)
    read = samples(h)
    got = dict(zip(read.t.tolist(), read.columns["x"].tolist(), strict=True)) if read else {}
    assert got == model
    assert counted(h, "late") == late
    assert read is None or np.all(np.diff(read.t) > 0)


@settings(max_examples=50)
@given(batches)
def test_what_was_served_as_final_never_changes(batches):
    h = history(lateness=10.0)
    served = {}
    for i, times in enumerate(batches):
        h.append(as_batch("tl", times, {"x": [float(i)] * len(times)}))
        until = h.finalized_until("tl")
        if until is None:
            continue
        read = samples(h, Interval(-1e12, until))
        now = dict(zip(read.t.tolist(), read.columns["x"].tolist(), strict=True)) if read else {}
        assert served.items() <= now.items()
        assert {t: v for t, v in now.items() if t in served or t >= max(served, default=-1)} == now
        served = now


def test_answer_is_final_when_it_ends_before_what_may_change():
    h = history(lateness=2.0)
    h.append(as_batch("tl", [1, 2, 3, 10], {"x": [1, 2, 3, 4]}))
    assert samples(h, Interval(0, 8)).finalized_until is None
    assert samples(h, Interval(0, 8.5)).finalized_until == 8.0


def test_finality_follows_the_clock_on_an_idle_stream_and_never_goes_back():
    clock = StepClock(1000.0)
    h = history(lateness=5.0, follows_clock=True, clock=clock)
    h.append(as_batch("tl", [999.0], {"x": [1]}))
    assert h.finalized_until("tl") == 995.0
    clock.step(10)
    assert h.finalized_until("tl") == 1005.0
    clock.step(-100)
    assert h.finalized_until("tl") == 1005.0
    h.append(as_batch("tl", [1004.0], {"x": [1]}))
    assert counted(h, "late") == 1


def test_late_sample_is_counted_and_not_stored():
    h = history(lateness=1.0)
    h.append(as_batch("tl", [10.0], {"x": [1]}))
    assert h.append(as_batch("tl", [8.9], {"x": [2]})) is None
    assert samples(h).t.tolist() == [10.0]
    assert samples(h).late == counted(h, "late") == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_time_that_is_not_finite_is_refused_and_counted(bad):
    h = history()
    stored = h.append(as_batch("tl", [1.0, bad, 2.0], {"x": [1, 2, 3]}))
    assert stored.t.tolist() == [1.0, 2.0]
    assert stored["x"].tolist() == [1, 3]
    assert counted(h, "refused") == 1


def test_values_that_are_not_finite_are_data():
    h = history()
    h.append(as_batch("tl", [1.0, 2.0], {"x": [np.nan, np.inf]}))
    np.testing.assert_array_equal(samples(h).columns["x"], [np.nan, np.inf])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "lacks 'x'"),
        ({"x": [1], "y": [1]}, "has the unknown 'y'"),
        ({"x": ["text"]}, "'x' is a number"),
        ({"x": [True]}, "'x' is a number"),
    ],
)
def test_batch_that_does_not_fit_is_refused_whole(columns, message):
    h = history()
    with pytest.raises(BadData, match=message):
        h.append(as_batch("tl", [1.0], columns))
    assert samples(h) is None


def test_field_on_two_timelines_is_refused():
    with pytest.raises(BadData, match="field 'x' exists 2 times"):
        History([Timeline("a", [Field("x")]), Timeline("b", [Field("x")])])


def test_strings_and_bools_come_back_as_they_were():
    h = history(fields=(Field("s", "string"), Field("b", "bool")))
    h.append(as_batch("tl", [1, 2, 3], {"s": ["α", "", "α"], "b": [True, False, True]}))
    h.append(as_batch("tl", [2.5], {"s": ["late comer"], "b": [False]})) or h.append(
        as_batch("tl", [4], {"s": ["b"], "b": [False]})
    )
    read = samples(h, fields=("s", "b"))
    assert read.columns["s"].tolist() == ["α", "", "α", "b"]
    assert read.columns["b"].tolist() == [True, False, True, False]
    assert read.columns["b"].dtype == bool


def test_words_that_nobody_says_any_more_are_forgotten():
    h = history(fields=(Field("s", "string"),), settings=HistorySettings(keep=1e12, max_samples=100))
    for i in range(5000):
        h.append(as_batch("tl", [i], {"s": [f"word {i}"]}))
    assert samples(h, fields=("s",)).columns["s"].tolist() == [f"word {i}" for i in range(4900, 5000)]
    assert h.summary()["memory_bytes"] < 2500 * (160 + len("word 4999"))  # about 160 for each word beside its text


def test_number_column_is_widened_when_it_must():
    h = history()
    h.append(as_batch("tl", [1], {"x": np.array([1], np.int64)}))
    h.append(as_batch("tl", [2], {"x": np.array([2.5])}))
    assert samples(h).columns["x"].tolist() == [1.0, 2.5]


def test_memory_is_bounded_by_age_and_by_number():
    clock = StepClock(5e4)
    h = history(settings=HistorySettings(keep=10.0), clock=clock)
    for i in range(100):
        clock.step(1.0)
        h.append(as_batch("tl", [clock.now()], {"x": [i]}))
    assert samples(h).t[0] >= 90.0 - 1e-9
    assert counted(h, "expired") == 100 - len(samples(h).t)
    h = history(settings=HistorySettings(keep=1e12, max_samples=7))
    h.append(as_batch("tl", np.arange(50), {"x": np.arange(50)}))
    assert samples(h).t.tolist() == list(range(43, 50))


def test_gaps_and_losses_that_a_source_knows_are_in_the_answer():
    h = history()
    h.append(as_batch("tl", [1], {"x": [1]}))
    h.append(as_batch("tl", [9], {"x": [2]}, gap_from=2.0, dropped=5))
    read = samples(h)
    assert read.gaps == [(2.0, 9.0)]
    assert read.dropped == 5
    assert samples(h, Interval(0, 1.5)).gaps == []


def test_what_was_read_stays_as_it_was_while_more_is_written():
    h = history(lateness=100.0)
    h.append(as_batch("tl", np.arange(1000), {"x": np.arange(1000)}))
    read = samples(h)
    before = read.columns["x"].copy()
    h.append(as_batch("tl", [500.5, 3.0], {"x": [-1, -2]}))
    for i in range(50):
        h.append(as_batch("tl", 2000 + i * 100 + np.arange(100), {"x": np.full(100, -3)}))
    np.testing.assert_array_equal(read.columns["x"], before)


def test_reader_sees_a_consistent_prefix_while_another_thread_appends():
    h = history()
    stop = threading.Event()

    def write():
        for i in range(2000):
            t = np.arange(i * 50, (i + 1) * 50, dtype=float)
            h.append(as_batch("tl", t, {"x": t * 2}))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        read = samples(h)
        if read:
            np.testing.assert_array_equal(read.t, np.arange(len(read.t)))
            np.testing.assert_array_equal(read.columns["x"], read.t * 2)
    writer.join()
    assert len(samples(h).t) == 100_000


def test_unknown_fields_are_empty():
    h = history()
    h.append(as_batch("tl", [1], {"x": [1]}))
    reply = h.read(["x", "nix", "nix"], EVER)
    assert reply.empty == ("nix",)
    assert list(reply.timelines["tl"].columns) == ["x"]


@pytest.mark.parametrize(
    ("before", "after", "values", "expected"),
    [
        ("bool", "number", [True, False], [1.0, 0.0]),
        ("number", "string", [21.5, np.nan], ["21.5", ""]),
        ("bool", "string", [True, False], ["true", "false"]),
    ],
)
@pytest.mark.parametrize("lateness", [0.0, 100.0])
def test_field_in_memory_whose_type_becomes_wider_keeps_its_samples(before, after, values, expected, lateness):
    h = history(lateness=lateness, fields=(Field("x", before),))
    h.append(as_batch("tl", [1.0, 2.0], {"x": values}))
    h.add(Timeline("tl", (Field("x", after), Field("y")), lateness_s=lateness, follows_clock=False))
    h.append(as_batch("tl", [3.0], {"x": ["fault"] if after == "string" else [2.5], "y": [1.0]}))
    read = samples(h)
    assert read.t.tolist() == [1.0, 2.0, 3.0]
    assert read.columns["x"].tolist()[:2] == expected


@pytest.mark.parametrize("how", [{}, {"max_points": 10}, {"min_stride": 5.0}])
def test_an_interval_of_which_all_is_lost_says_so(how):
    line = Timeline("tl", [Field("x")], lateness_s=1000.0)
    with History([line], HistorySettings(keep=1e12), StepClock(200.0)) as history:
        history.append(as_batch("tl", [1.0], {"x": [1.0]}))
        history.append(as_batch("tl", [100.0], {"x": [1.0]}, gap_from=1.0, dropped=7))
        reply = history.downsampled(["x"], Interval(2.0, 90.0), "minmax", **how)
        assert reply.timelines["tl"].gaps == [(1.0, 100.0)]
        assert reply.timelines["tl"].dropped == 7
        assert len(reply.timelines["tl"].t) == 0
        assert reply.empty == ("x",)
        assert replies.encode(reply)["data"]["x"] == []
        received = replies.decode(replies.encode(reply, "packed"))
        assert received.timelines["tl"].gaps == [(1.0, 100.0)]
        assert received.timelines["tl"].dropped == 7
        assert history.downsampled(["x"], Interval(101.0, 190.0), "minmax", **how).timelines == {}


def test_former_name_of_downsampled_still_works():
    history = History([Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False)], clock=StepClock(100.0))
    history.append(as_batch("tl", np.arange(90.0), {"x": np.arange(90.0)}))
    with pytest.warns(DeprecationWarning, match="downsampled"):
        former = history.thinned(["x"], Interval(0.0, 90.0), "mean", 10.0).timelines["tl"]
    assert former.t.tolist() == history.downsampled(["x"], Interval(0.0, 90.0), "mean", 10.0).timelines["tl"].t.tolist()
