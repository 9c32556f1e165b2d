"""One sample on each of many timelines through `Node.ingest`, in memory and to disk."""

import statistics
import time

import numpy as np
from parts.history_turns import scratch
from rows import Row

from sisock import Field, Timeline
from sisock.fields import Batch
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource

TIMELINES, ROUNDS, WARM_UP = 1000, 60, 10


def samples_per_second(settings):
    """Return the median rate of rounds in which each timeline gets a sample."""
    names = [f"s{i}" for i in range(TIMELINES)]
    node = Node("bench", None, [ManualSource(*(Timeline(n, [Field(f"{n}.x")], 1.0) for n in names))], settings)
    node.start()
    rates = []
    for _ in range(ROUNDS):
        now = time.time()
        batches = [Batch(name, np.array([now]), {f"{name}.x": np.array([1.5])}) for name in names]
        began = time.perf_counter()
        for batch in batches:
            node.ingest(batch)
        rates.append(TIMELINES / (time.perf_counter() - began))
    assert node.counters["bad_batches"] == 0
    node.stop()
    return statistics.median(rates[WARM_UP:])


def measure(_console):
    name = f"one sample on each of {TIMELINES:,} timelines"
    with scratch() as folder:
        on_disk = samples_per_second(HistorySettings(path=folder / "history", sync="interval"))
    return [
        Row(f"{name}, in memory", samples_per_second(HistorySettings()), "samples/s", None, 1e5),
        Row(f"{name}, to disk", on_disk, "samples/s", None, 5e4),
    ]
