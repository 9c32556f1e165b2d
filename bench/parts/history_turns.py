"""What the parts about histories share: measuring in turns, a folder on the disk, histories with made-up samples."""

import mmap
import os
import statistics
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from sisock.fields import Batch, Field, Timeline
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.times import Interval

EVER = Interval(0.0, 1e12)
ROUNDS = 5
MILLION = 1_000_000
# 18 Nov 2023: long ago, so that nothing is kept in memory of what is on the disk, and all of it may be sealed.
LONG_AGO = 1.7e9


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(first, second, rounds=ROUNDS):
    """Return the medians of the seconds of two pieces of work, done in turns."""
    results = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return tuple(statistics.median(column) for column in zip(*results, strict=True))


def median(work, rounds=ROUNDS):
    """Return the median of the seconds that a piece of work takes."""
    return statistics.median(seconds(work) for _ in range(rounds))


@contextmanager
def scratch():
    """Make a folder on a disk: /tmp is in memory on many systems."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"), prefix="sisock-bench-") as folder:
        yield Path(folder)


def timeline(fields=1, interval_s=None):
    names = ["x"] if fields == 1 else [f"x{i}" for i in range(fields)]
    return Timeline("tl", [Field(name) for name in names], interval_s, lateness_s=0.0, follows_clock=False)


def on_disk(folder, fields=1, **settings):
    return History([timeline(fields)], HistorySettings(path=folder, max_size=20 * 10**9, **settings))


@cache
def noise(n):
    """Return normal values, of which no bit repeats: the worst case for what compresses."""
    values = np.random.default_rng(0).normal(size=n)
    values.flags.writeable = False
    return values


def fill(history, rows, interval_s, begin=LONG_AGO, batch=MILLION):
    """Append samples of the one field `x`: a million values, again and again."""
    for i in range(0, rows, batch):
        t = begin + np.arange(i, i + batch) * interval_s
        history.append(Batch("tl", t, {"x": noise(MILLION)[i % MILLION :][:batch]}))


def seal(history):
    """Seal what is full and final, and wait for it."""
    history._store.maintain()


def in_memory(values):
    """Return an array that is in memory as a whole: a copy of a view of a file, others as they are."""
    base = values
    while isinstance(base, np.ndarray):
        base = base.base
    return values.copy() if isinstance(base, mmap.mmap) else values


def read(history, interval=EVER):
    """Return times and values of the field `x`, in memory."""
    samples = history.read(["x"], interval).timelines["tl"]
    return in_memory(samples.t), in_memory(samples.columns["x"])


def thin(history, interval=EVER):
    """Return `x` thinned to 2,000 points by minmax."""
    return history.downsampled(["x"], interval, "minmax", 0.0, 2000).timelines["tl"]
