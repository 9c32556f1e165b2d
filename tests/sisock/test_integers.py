"""Integers come back as they were stored, at the edges of what dtypes hold."""

import math

import numpy as np
import pytest

from sisock.fields import Field, Timeline, as_batch
from sisock.recording import FORMATS, create_recording, open_recording
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from sisock.wamp import replies
from sisock.wamp.wire import batch_of, event_of
from tests.sisock.histories import StoredHistory, killed, seal

LINE = Timeline("tl", (Field("n"),), lateness_s=5.0, follows_clock=False)
SIGNED = [2**53 + 1, -(2**63), 2**63 - 1]
UNSIGNED = [2**64 - 1, 2**63, 2**53 + 1]
FLOATS = [0.5, math.nan, 1e300]
PARTS = [np.array(SIGNED, np.int64), np.array(FLOATS), np.array(UNSIGNED, np.uint64), np.array(SIGNED, np.int64)]


def history(path, memory=1e12):
    return StoredHistory([LINE], HistorySettings(path=path, memory=memory, keep=1e12, sync="none"), StepClock(5e4))


def put(kept, first, values, step=10.0):
    kept.append(as_batch("tl", first + step * np.arange(len(values)), {"n": values}))


def read(kept, start, end):
    return kept.read(["n"], Interval(start, end)).timelines["tl"].columns["n"]


def assert_exact(kept):
    for i, values in enumerate(PARTS):
        found = read(kept, 100.0 * i, 100.0 * i + 99)
        assert found.dtype == values.dtype
        assert np.array_equal(found, values, equal_nan=values.dtype.kind == "f")


@pytest.mark.parametrize("where", ["memory", "open", "sealed"])
def test_types_that_change_leave_what_was_stored_as_it_was(tmp_path, where):
    kept = history(None if where == "memory" else tmp_path, 1e12 if where == "memory" else 0.0)
    for i, values in enumerate(PARTS):
        put(kept, 100.0 * i, values)
    if where == "sealed":
        seal(kept, whole=True)
    assert_exact(kept)
    assert read(kept, 0, 400).dtype == np.float64
    if where != "memory":
        killed(kept)
        assert_exact(history(tmp_path, 0.0))


@pytest.mark.parametrize("where", ["memory", "open", "sealed"])
def test_samples_that_are_sorted_in_keep_integers_and_floats_apart(tmp_path, where):
    kept = history(None if where == "memory" else tmp_path, 1e12 if where == "memory" else 0.0)
    put(kept, 10.0, np.array([2**53 + 1, 2**53 + 3]), step=2.0)
    put(kept, 11.0, np.array([0.5, 1.5]), step=2.0)
    if where == "sealed":
        seal(kept, whole=True)
    found = [read(kept, t, t + 0.5).tolist() for t in (10.0, 11.0, 12.0, 13.0)]
    assert found == [[2**53 + 1], [0.5], [2**53 + 3], [1.5]]
    bins = kept.downsampled(["n"], Interval(0, 100), "mean", 64.0).timelines["tl"].columns["n"]
    assert bins == pytest.approx([2**52])


def test_a_segment_takes_small_integers_between_floats_and_is_not_replaced(tmp_path):
    kept = history(tmp_path, 0.0)
    for i in range(50):
        put(kept, 20.0 * i, [i] if i % 2 else [i + 0.5])
    assert len(list(tmp_path.rglob("*.seg"))) == 1
    assert read(kept, 0, 1000)[1::2].tolist() == list(range(1, 50, 2))


def test_integers_of_both_signs_have_the_type_that_holds_them():
    kept = history(None)
    put(kept, 0.0, np.array([-1, -(2**63)]))
    put(kept, 100.0, np.array([5, 2**63 - 1], np.uint64))
    assert read(kept, 0, 200).tolist() == [-1, -(2**63), 5, 2**63 - 1]
    put(kept, 200.0, np.array([2**64 - 1], np.uint64))
    assert read(kept, 100, 300).tolist() == [5, 2**63 - 1, 2**64 - 1]
    assert read(kept, 0, 300).dtype == np.float64


@pytest.mark.parametrize("encoding", ["list", "packed"])
@pytest.mark.parametrize("values", [PARTS[0], PARTS[2]])
def test_answers_and_feeds_carry_all_integers(encoding, values):
    kept = history(None)
    put(kept, 0.0, values)
    answer = replies.encode(kept.read(["n"], Interval(0, 100)), encoding)
    assert np.array_equal(replies.decode(answer).timelines["tl"].columns["n"], values)
    batch = as_batch("tl", np.arange(3.0), {"n": values})
    assert batch_of("tl", event_of(batch, encoding))["n"].tolist() == values.tolist()


@pytest.mark.parametrize("format", FORMATS)
def test_recordings_have_all_integers(tmp_path, format):
    values = [PARTS[0], np.array([7], np.uint64)]
    path = tmp_path / "recording"
    with create_recording(path, format) as recording:
        for i, each in enumerate(values):
            recording.append(LINE, as_batch("tl", 10.0 * i + np.arange(len(each)), {"n": each}))
    with open_recording(path, format) as recording:
        found = [value for batch in recording.batches("tl") for value in batch["n"].tolist()]
    assert found == [*SIGNED, 7]
