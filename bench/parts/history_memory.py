"""The process that is measured: a node with 100 fields at 100 Hz whose history in memory is an hour long.

Prints the megabytes that it has resident: after an hour, and the most in the two hours that follow.
"""

import numpy as np
import psutil

import sisock.runner  # noqa: F401 - what a node's process has loaded
from sisock import Field, Timeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock

FIELDS, RATE, HOUR_S = 100, 100, 3600


def main():
    names = [f"x{i}" for i in range(FIELDS)]
    source = ManualSource(Timeline("tl", [Field(name) for name in names], 1 / RATE))
    clock = StepClock()
    node = Node("bench", None, [source], HistorySettings(keep=HOUR_S), clock)
    node.start()
    random, process = np.random.default_rng(0), psutil.Process()
    after_an_hour, most = 0, 0
    for second in range(3 * HOUR_S):
        t = clock.now() + np.arange(RATE) / RATE
        clock.step(1.0)
        source.emit("tl", t, dict(zip(names, random.normal(size=(FIELDS, RATE)), strict=True)))
        if second == HOUR_S - 1:
            after_an_hour = process.memory_info().rss
        elif second >= HOUR_S and second % 10 == 0:
            most = max(most, process.memory_info().rss)
    kept = node.history.count(names, (0.0, 1e12)) // (FIELDS + 1)
    print(after_an_hour / 1e6, most / 1e6, kept)


main()
