"""Histories: appending, reading, decimating; in memory."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from rows import Row
from tsdownsample import MinMaxDownsampler

from sisock.downsample import decimate, stride_for
from sisock.fields import Batch, Field, Timeline
from sisock.history import History
from sisock.site import HistorySettings
from sisock.times import Interval

FIELDS, BATCH = 50, 1000
ROUNDS = 5
MONTH = 26_000_000


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(first, second):
    """Return the medians of the seconds of two pieces of work, done in turns."""
    results = [(seconds(first), seconds(second)) for _ in range(ROUNDS)]
    return tuple(statistics.median(column) for column in zip(*results, strict=True))


def appended(batch, batches):
    names = [f"x{i}" for i in range(FIELDS)]
    timeline = Timeline("tl", [Field(name) for name in names], lateness_s=0.0, follows_clock=False)
    history = History([timeline], HistorySettings(keep=1e12))
    columns = {name: np.random.default_rng(0).normal(size=batch) for name in names}
    steps = [Batch("tl", np.arange(i * batch, (i + 1) * batch, dtype=np.float64), columns) for i in range(batches)]
    return lambda: [history.append(step) for step in steps]


def written(folder, batch, batches):
    column = np.random.default_rng(0).normal(size=batch)

    def work():
        files = [(folder / f"{i}.bin").open("wb", buffering=0) for i in range(FIELDS + 1)]
        for _ in range(batches):
            for file in files:
                column.tofile(file)
        for file in files:
            file.close()

    return work


def appends(folder):
    rows = []
    for batch, batches, goal in ((BATCH, 200, 0.5), (10, 2000, None)):
        results = [(seconds(appended(batch, batches)), seconds(written(folder, batch, batches))) for _ in range(ROUNDS)]
        ours, raw = (statistics.median(column) for column in zip(*results, strict=True))
        values = FIELDS * batch * batches / 1e6
        name = f"append in memory, {FIELDS} fields, batches of {batch:,}"
        rows.append(Row(name, values / ours, "1e6 values/s (ndarray.tofile)", values / raw, goal))
    return rows


def month():
    """Return a row for a month at 10 Hz, from the ring to 2,000 points."""
    timeline = Timeline("tl", [Field("x")], interval_s=0.1, lateness_s=0.0, follows_clock=False)
    history = History([timeline], HistorySettings(keep=1e12, max_samples=2 * MONTH))
    random, piece = np.random.default_rng(0), 1_000_000
    for i in range(MONTH // piece):
        t = 1.7e9 + np.arange(i * piece, (i + 1) * piece) * 0.1
        history.append(Batch("tl", t, {"x": random.normal(size=piece)}))
    ever = Interval(0.0, 1e12)
    bare = history.read(["x"], ever).timelines["tl"].columns["x"].copy()

    def ours():
        samples = history.read(["x"], ever).timelines["tl"]
        stride = stride_for(samples.t, 2000, "minmax")
        return decimate(samples.t, samples.columns, stride, "minmax")

    def reference():
        return bare[MinMaxDownsampler().downsample(bare, n_out=2000)]

    mine, theirs = alternate(ours, reference)
    return Row(
        "a month at 10 Hz, in memory, to 2,000 points by minmax",
        mine * 1e3,
        "ms (tsdownsample)",
        theirs * 1e3,
        1.3,
        at_most=True,
    )


def measure(console):
    console.print("measuring histories", style="dim")
    with tempfile.TemporaryDirectory() as folder:
        rows = appends(Path(folder))
    return [*rows, month()]
