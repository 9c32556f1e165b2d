"""Downsampling, against a slow and obvious twin."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sisock.bins import bin_numbers, bin_starts, binned, joined, regrouped
from sisock.downsample import METHODS, Method, downsampled, first, keeps_last, samples_of, stride_for

times = st.lists(st.floats(0, 1000), max_size=200).map(lambda t: np.sort(np.array(t, np.float64)))
strides = st.floats(1e-3, 500)


def slow_first(t, min_stride):
    kept = []
    for i, x in enumerate(t):
        if not kept or x - t[kept[-1]] >= min_stride:
            kept.append(i)
    return kept


@given(times, strides)
def test_first_keeps_the_same_samples_as_the_obvious_loop(t, stride):
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


series = st.lists(
    st.tuples(st.floats(0, 1000), st.floats(-1e6, 1e6) | st.just(float("nan"))), min_size=1, max_size=150
).map(
    lambda rows: tuple(np.array(column, np.float64) for column in zip(*sorted(rows, key=lambda r: r[0]), strict=True))
)


def slow_bins(t, stride):
    """Group the indices of samples by bin, one by one."""
    bins = {}
    for i, x in enumerate(t):
        edge = np.floor(x / stride)
        # The edges are what counts: a sample at an edge belongs to the bin that begins there.
        edge += (edge + 1) * stride <= x
        edge -= edge * stride > x
        bins.setdefault(edge, []).append(i)
    return list(bins.values())


@given(series, strides)
def test_bins_are_those_of_the_obvious_loop(rows, stride):
    t, _ = rows
    assert bin_starts(t, stride).tolist() == [indices[0] for indices in slow_bins(t, stride)]


@given(series, strides, st.sampled_from(["mean", "min", "max"]))
def test_each_bin_is_the_numpy_statistic_of_its_samples(rows, stride, method):
    t, x = rows
    got_t, columns, _ = downsampled(t, {"x": x}, stride, method)
    slow = {"mean": np.nanmean, "min": np.nanmin, "max": np.nanmax}[method]
    expected = [np.nan if np.isnan(x[indices]).all() else slow(x[indices]) for indices in slow_bins(t, stride)]
    np.testing.assert_allclose(columns["x"], expected, rtol=1e-9, atol=1e-6)
    assert got_t.tolist() == [t[indices[0]] for indices in slow_bins(t, stride)]


@given(series, strides)
def test_minmax_has_each_bins_true_extremes_and_its_first_and_last_time(rows, stride):
    t, x = rows
    got_t, columns, _ = downsampled(t, {"x": x}, stride, "minmax")
    bins = slow_bins(t, stride)
    at = 0
    for indices in bins:
        size = 1 if len(indices) == 1 else 2
        there = x[indices][~np.isnan(x[indices])]
        pair = columns["x"][at : at + size]
        if len(there):
            assert {pair.min(), pair.max()} == ({there[0]} if size == 1 else {there.min(), there.max()})
        else:
            assert np.isnan(pair).all()
        assert got_t[at : at + size].tolist() == ([t[indices[0]], t[indices[-1]]][:size])
        at += size
    assert at == len(got_t)


@given(series, strides)
def test_minmax_ends_with_the_last_sample(rows, stride):
    t, x = rows
    texts = np.array([str(i) for i in range(len(t))], object)
    for columns in ({"x": x, "s": texts}, {"s": texts}):
        got_t, got, _ = downsampled(t, columns, stride, "minmax", keep_last=True)
        assert np.all(np.diff(got_t) >= 0)
        starts = bin_starts(t, stride)
        if t[starts[-1]] < (t[starts[-1]] + t[-1]) / 2 < t[-1]:
            assert got_t[-1] == t[-1]
            for name, values in columns.items():
                np.testing.assert_array_equal(got[name][-1:], values[-1:])


def test_newest_value_of_a_plot_is_the_newest_sample_not_an_extreme_of_its_bin():
    # Right is -0.79, the newest sample; the last bin's minimum, -1.0, was in its place.
    t = np.arange(16.0)
    x = np.sin(t)
    x[-4:] = [-0.5, -1.0, -0.9, -0.79]
    got_t, columns, _ = downsampled(t, {"x": x}, 4.0, "minmax", keep_last=True)
    assert (got_t[-1], columns["x"][-1]) == (15.0, -0.79)
    assert columns["x"][-3:].tolist() == [-0.5, -1.0, -0.79]
    assert got_t[-3:].tolist() == [12.0, 13.5, 15.0]


@pytest.mark.parametrize("most", [3, 4, 5])
def test_newest_value_is_the_newest_sample_however_few_points_are_wanted(most):
    t = 1_700_000_000.0 + np.arange(100.0) / 1000
    x = np.sin(np.arange(100.0))
    stride = stride_for(t, most, "minmax")
    got_t, columns, _ = downsampled(t, {"x": x}, stride, "minmax", keep_last=keeps_last(most))
    assert (got_t[-1], columns["x"][-1]) == (t[-1], x[-1])
    assert len(got_t) <= most
    assert (min(columns["x"]), max(columns["x"])) == (min(x), max(x))
    assert not keeps_last(2)


@given(series, strides)
def test_lttb_keeps_real_samples_the_first_and_the_last(rows, stride):
    t, x = rows
    got_t, columns, _ = downsampled(t, {"x": x}, stride, "lttb")
    real = {(a, repr(float(b))) for a, b in zip(t.tolist(), x, strict=True)}
    assert {(a, repr(float(b))) for a, b in zip(got_t.tolist(), columns["x"], strict=True)} <= real
    assert got_t[0] == t[0]
    assert len(got_t) == len(bin_starts(t, stride))
    assert len(got_t) == 1 or got_t[-1] == t[-1]


@given(series, st.integers(4, 60), st.sampled_from(list(METHODS)))
def test_max_points_is_a_hard_cap(rows, most, method):
    t, x = rows
    stride = stride_for(t, most, method)
    got_t, _, _ = downsampled(t, {"x": x}, stride, method, keep_last=True)
    assert 1 <= len(got_t) <= most
    if len(t) <= most:
        assert len(got_t) == len(t)


@given(st.integers(0, 400), st.integers(100, 500), st.sampled_from(["mean", "min", "max", "minmax"]))
def test_moving_the_interval_leaves_the_bins_inside_as_they_were(shift, length, method):
    t = 1_700_000_000.0 + np.arange(1000) * 0.1
    x = np.sin(np.arange(1000.0) ** 1.5)
    whole_t, whole, _ = downsampled(t, {"x": x}, 5.0, method)
    part = slice(shift, shift + length)
    part_t, parts, _ = downsampled(t[part], {"x": x[part]}, 5.0, method)
    known = dict(zip(whole_t.tolist(), whole["x"].tolist(), strict=True))
    inner = (part_t >= np.ceil(t[part][0] / 5.0) * 5.0) & (part_t < np.floor(t[part][-1] / 5.0) * 5.0)
    assert all(known[a] == b for a, b in zip(part_t[inner].tolist(), parts["x"][inner].tolist(), strict=True))


def test_columns_that_are_not_numbers_keep_the_value_at_that_time_and_are_listed():
    t = np.arange(10.0)
    columns = {"x": t * 2, "s": np.array(list("abcdefghij"), object), "b": t > 4}
    for method in ("mean", "min", "max", "minmax", "lttb"):
        got_t, got, fell_back = downsampled(t, columns, 5.0, method)
        assert fell_back == ["s", "b"]
        assert got["s"].tolist() == [columns["s"][int(a)] for a in got_t]
        assert got["b"].tolist() == [columns["b"][int(a)] for a in got_t]
    assert downsampled(t, {"s": columns["s"]}, 5.0, "first")[1]["s"].tolist() == ["a", "f"]
    assert downsampled(t, {"s": columns["s"]}, 5.0, "minmax", keep_last=True)[1]["s"].tolist() == ["a", "f", "j"]


def test_a_single_spike_survives_a_month():
    t = 1_700_000_000.0 + np.arange(300_000) * 10.0
    x = np.zeros(300_000)
    x[123_456] = 7.0
    _, columns, _ = downsampled(t, {"x": x}, stride_for(t, 500, "minmax"), "minmax")
    assert columns["x"].max() == 7.0
    assert len(columns["x"]) <= 500


def test_stride_stays_while_a_live_interval_grows_a_little():
    t = 1_700_000_000.0 + np.arange(15_000)
    assert stride_for(t, 1000, "mean") == stride_for(t[:-100], 1000, "mean") == 16.0


@given(series, st.lists(st.integers(0, 200), max_size=4), st.sampled_from([0.25, 1.0, 8.0]))
def test_bins_of_pieces_give_the_same_as_bins_of_the_whole(rows, cuts, stride):
    t, x = rows
    columns = {"x": x, "s": np.array([str(i) for i in range(len(t))], object)}
    cuts = sorted({0, len(t), *(c for c in cuts if c < len(t))})
    pieces = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    whole = binned(t, columns, stride)
    parts = joined([binned(t[p], {n: v[p] for n, v in columns.items()}, stride) for p in pieces])
    finer = regrouped(binned(t, columns, stride / 8), stride)
    for other in (parts, finer):
        assert other.numbers.tolist() == whole.numbers.tolist()
        assert other.rows.tolist() == whole.rows.tolist()
        for method in ("mean", "min", "max", "minmax"):
            expected_t, expected, _ = downsampled(t, columns, stride, method)
            got_t, got, fell_back = samples_of(other, method)
            assert got_t.tolist() == expected_t.tolist()
            assert fell_back == ["s"]
            assert got["s"].tolist() == expected["s"].tolist()
            # Sums of sums are rounded elsewhere than sums.
            np.testing.assert_allclose(got["x"], expected["x"], rtol=1e-12 if method == "mean" else 0, atol=1e-9)


@given(st.floats(0, 2e9), st.sampled_from([0.1, 0.3, 1 / 3, 7.0, 0.25, 1024.0]))
def test_a_bin_begins_at_its_multiple_of_the_stride(t, stride):
    number = bin_numbers(np.array([t]), stride)[0]
    assert number * stride <= t < (number + 1) * stride


ADDED = """
from sisock.downsample import METHODS, DownsamplingMethod

METHODS["sum"] = DownsamplingMethod(
    "the sum of each bin", statistics=("total",), reduce=lambda summary: summary["total"]
)

import json
import numpy as np
from fastapi import FastAPI
from typer.main import get_command
from sisock.cli.app import build
from sisock.downsample import downsampled, method_named, stride_between
from sisock.errors import BadRequest
from sisock.history import History
from sisock_hub.gateway.api import api

commands = get_command(build()).commands
helps = {name: [p.help for p in commands[name].params if p.name == "downsample"][0] for name in ("get", "export")}
app = FastAPI()
app.include_router(api(None, None, None, None))
parameters = app.openapi()["paths"]["/nodes/{node}/data"]["get"]["parameters"]
try:
    method_named("magic")
except BadRequest as error:
    text = error.message
_, columns, fell_back = downsampled(np.arange(8.0), {"x": np.arange(8.0)}, 4.0, "sum")
print(json.dumps({
    "helps": helps,
    "schema": [each["schema"] for each in parameters if each["name"] == "downsample"][0],
    "error": text,
    "sums": columns["x"].tolist(),
    "stride": stride_between(0.0, 100.0, 60, "sum"),
}))
"""


def test_added_method_is_in_help_schema_and_error_and_is_applied():
    # In a process of its own: help and schemas are made when the modules are imported.
    run = subprocess.run([sys.executable, "-c", ADDED], capture_output=True, text=True, check=True)
    added = json.loads(run.stdout)
    assert all("sum: the sum of each bin" in text for text in added["helps"].values())
    assert added["schema"]["enum"] == [*METHODS, "sum"]
    assert "sum: the sum of each bin" in added["schema"]["description"]
    assert added["error"] == "downsample is 'magic'; give one of first, mean, min, max, minmax, lttb, sum"
    assert added["sums"] == [6.0, 22.0]
    assert added["stride"] == 2.0


def test_table_and_type_list_the_same_methods():
    assert tuple(METHODS) == get_args(Method)


@pytest.mark.parametrize("name", METHODS)
def test_method_is_documented_as_it_describes_itself(name):
    contract = Path(__file__).parents[2] / "docs" / "wire-contract.md"
    assert f"| `{name}` | {METHODS[name].description} |" in contract.read_text()
