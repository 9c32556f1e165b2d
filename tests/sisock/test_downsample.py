"""Decimation, against a slow and obvious twin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sisock.downsample import first

times = st.lists(st.floats(0, 1000), max_size=200).map(lambda t: np.sort(np.array(t, np.float64)))
strides = st.floats(1e-3, 500)


def slow_first(t, min_stride):
    kept = []
    for i, x in enumerate(t):
        if not kept or x - t[kept[-1]] >= min_stride:
            kept.append(i)
    return kept


@given(times, strides)
def test_first_keeps_what_the_obvious_loop_keeps(t, stride):
    assert first(t, stride).tolist() == slow_first(t, stride)


@given(st.integers(0, 3000), st.sampled_from([0.05, 0.1, 0.3, 1.0, 7.7, 1e4]))
def test_first_is_the_obvious_loop_on_a_regular_stream_at_todays_times(n, stride):
    t = 1_700_000_000.0 + np.arange(n) * 0.1
    kept = first(t, stride)
    assert kept.tolist() == slow_first(t, stride)
    assert np.all(np.diff(t[kept]) >= stride)


def test_no_stride_keeps_everything():
    t = np.array([1.0, 1.0, 2.0])
    assert first(t, 0).tolist() == [0, 1, 2]
    assert first(t[:0], 1.0).tolist() == []
