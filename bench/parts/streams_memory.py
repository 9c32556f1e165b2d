"""The process that is measured: an hour of 50,000 datagrams a second, of which a node keeps the last minute.

The datagrams are handed over as the kernel's would be, as fast as they are taken. Prints the megabytes that are
resident after two minutes, the most in the hour, and how many records there were.
"""

import numpy as np
import psutil

import sisock.runner  # noqa: F401 - what a node's process has loaded
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock_nodes.udp.receiver import Datagrams
from sisock_nodes.udp.settings import SourceSettings
from sisock_nodes.udp.stream import Stream

RATE, AT_ONCE, HOUR_S, KEEP_S = 50_000, 500, 3600, 60.0


def main():
    names = ["counter", "t", *(f"x{i}" for i in range(11))]
    about = {"byte_format": "<I12d", "input_names": names, "time_index": 1, "output_refs": names[1:]}
    stream = Stream("s", SourceSettings(**about))
    stream.start()
    clock, source = StepClock(), ManualSource(stream.timeline)
    node = Node("bench", None, [source], HistorySettings(keep=KEEP_S), clock)
    node.start()
    records = np.zeros(AT_ONCE, [("counter", "<u4"), ("t", "<f8"), ("values", "<f8", 11)])
    size, index, senders = records.itemsize, np.arange(AT_ONCE), np.zeros((AT_ONCE, 4), np.uint64)
    beginnings = records.view(np.uint8).reshape(AT_ONCE, size)
    process, early, most = psutil.Process(), 0, 0
    for second in range(HOUR_S):
        for _ in range(RATE // AT_ONCE):
            arrival = clock.now() + np.arange(AT_ONCE) / RATE
            records["t"] = arrival
            came = Datagrams(np.full(AT_ONCE, size), senders, arrival, beginnings, beginnings[:, :0])
            clock.step(AT_ONCE / RATE)
            for batch in stream.take(came, index, clock.now()):
                node.ingest(batch)
        if second == 120:
            early = process.memory_info().rss
        elif second > 120:
            most = max(most, process.memory_info().rss)
    print(early / 1e6, most / 1e6, stream.counters["decoded"])


main()
