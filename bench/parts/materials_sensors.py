"""A node with 1,000 polled sensors, in a process of its own, beside a thread that does nothing but wait."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from rows import Row

SECONDS, STEP_S = 20.0, 0.001


def bare_lateness_ms(seconds):
    """Return the 99th percentile of how late a thread wakes that waits for each next millisecond."""
    waits, late = threading.Event(), []
    due = began = time.monotonic()
    while due < began + seconds:
        due = max(due + STEP_S, time.monotonic())
        waits.wait(due - time.monotonic())
        late.append(time.monotonic() - due)
    return 1e3 * np.percentile(late, 99)


def measure(_console):
    node = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("materials_sensors_node.py")), str(SECONDS)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        bare = bare_lateness_ms(SECONDS)
        share, late_ms, missing, threads = map(float, node.communicate(timeout=60)[0].split())
    finally:
        node.kill()
        node.wait()
    name = "1,000 sensors polled once a second"
    return [
        Row(f"{name}, part of a core", share, "", None, 0.2, at_most=True),
        Row(f"{name}, lateness, 99th percentile", late_ms, "ms", None, 20.0, at_most=True),
        Row("a bare thread beside them that waits for each next millisecond", bare, "ms"),
        Row(f"{name}, readings that were skipped", missing, "readings", None, 0.0, at_most=True),
        Row(f"{name}, threads of the process at most", threads, "threads"),
    ]
