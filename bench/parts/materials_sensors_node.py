"""The process that is measured: a node with 1,000 sensors, each of which is polled once a second.

Prints the part of a core that it takes, the 99th percentile of how late a reading is in milliseconds, the readings
that were skipped, and the most threads that there were.
"""

import resource
import sys
import threading
import time

import numpy as np

import sisock.runner  # noqa: F401 - what a node's process has loaded
from sisock import Field, Timeline
from sisock.node import Node
from sisock.source import Polled

SENSORS, WARM_UP_S = 1000, 3.0


class Sensor:
    """A sensor that notes when it was read."""

    def __init__(self, name):
        self.at = []
        self.source = Polled(Timeline(name, [Field(f"{name}.celsius")], 1.0), self.read)
        self._field = f"{name}.celsius"

    def read(self):
        self.at.append(time.monotonic())
        return {self._field: 21.5}


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def lateness(at, began, seconds):
    """Return how late each reading of a sensor is on its own grid, in seconds, and how many are missing.

    The grid is that of its most punctual reading.
    """
    late = (at - at[0] + 0.5) % 1.0
    missing = round(at[-1] - at[0]) + 1 - len(at)
    return (late - late.min())[(at >= began) & (at < began + seconds)], missing


def main():
    seconds = float(sys.argv[1])
    sensors = [Sensor(f"s{i}") for i in range(SENSORS)]
    node = Node("bench", None, [sensor.source for sensor in sensors])
    node.start()
    waits = threading.Event()
    waits.wait(WARM_UP_S)
    began, used = time.monotonic(), cpu_s()
    threads = 0
    while time.monotonic() < began + seconds:
        waits.wait(0.1)
        threads = max(threads, threading.active_count())
    share = (cpu_s() - used) / (time.monotonic() - began)
    found = [lateness(np.array(sensor.at), began, seconds) for sensor in sensors]
    node.stop()
    late = np.concatenate([each for each, _ in found])
    print(share, 1e3 * np.percentile(late, 99), sum(missing for _, missing in found), threads)


main()
