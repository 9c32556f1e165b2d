"""The process itself: its limits, and what it has in common with the supervisor that runs it."""

import json
import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

WATCHDOG_FD = "SISOCK_WATCHDOG_FD"
"""Environment variable: the number of the pipe that takes the signs of life of a process with a watchdog."""
EARLIER_RUNS = "SISOCK_EARLIER_RUNS"
"""Environment variable: a JSON object about the earlier runs of a supervised process."""


def raise_open_files() -> int:
    """Raise the soft limit on open files to the hard limit, and return it.

    The usual soft limit of 1,024 is used up by as many connections; who comes after that is reset.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def open_files() -> dict[str, int]:
    """Return the number of open files of this process, and its limit."""
    return {
        "open_files": len(list(Path("/proc/self/fd").iterdir())),
        "open_files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def earlier_runs() -> Mapping[str, Any]:
    """Return how often the supervisor has restarted this process, and why the last time; empty without a supervisor."""
    runs: Mapping[str, Any] = json.loads(os.environ.get(EARLIER_RUNS, "{}"))
    return runs


def show_life() -> None:
    """Give the supervisor a sign of life, if this process has a watchdog."""
    pipe = os.environ.get(WATCHDOG_FD)
    if pipe is not None:
        # The pipe is full where the supervisor itself is stopped; it has not missed anything then.
        with suppress(BlockingIOError):
            os.write(int(pipe), b".")
