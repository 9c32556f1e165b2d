"""The process itself: its limits, and what it has in common with the supervisor that runs it."""

import ctypes
import gc
import json
import os
import resource
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from sisock.times import SYSTEM_CLOCK
from sisock.worker import Worker

WATCHDOG_FD = "SISOCK_WATCHDOG_FD"
"""Environment variable: the number of the pipe that takes the signs of life of a process with a watchdog."""
CHANNEL_FD = "SISOCK_CHANNEL_FD"
"""Environment variable: the number of the socket to the parent of a process that runs a function for it."""
EARLIER_RUNS = "SISOCK_EARLIER_RUNS"
"""Environment variable: a JSON object about the earlier runs of a supervised process."""


# By default glibc has an arena per thread, whose free memory other threads cannot use.
_M_ARENA_MAX, _ARENAS = -8, 2
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 256 * 1024
# Seconds between looks at the free memory that malloc keeps, and bytes by which it must have grown to be given back.
_LOOK_S, _WORTH_TRIMMING = 5.0, 16_000_000
# Bytes by which the process must have grown between two looks for cycles to be looked for, and at how many looks.
_WORTH_COLLECTING, _COLLECTIONS = 32_000_000, 8


def prepare_process() -> None:
    """Set the limits of this process: as many open files as it may have, and memory that is given back when it is free.

    Every process of sisock calls this first, however it was started; once more does nothing.
    """
    raise_open_files()
    # Arrow has an allocator of its own otherwise, which keeps what was freed.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    _keep_little_memory()


@cache
def _keep_little_memory() -> None:
    library = ctypes.CDLL(None)
    if all(hasattr(library, name) for name in ("mallopt", "malloc_trim", "mallinfo2")):  # glibc; others give it back
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        library.mallinfo2.restype = _MallInfo
        Worker("free memory", _trim_again_and_again).start(library)


def release_large_blocks() -> None:
    """Have this process return each freed block of `_LARGE_BLOCK` bytes or more to the system at once.

    For processes that hold many arrays for a while: glibc raises its threshold of 128 KiB to the size of the largest
    freed block, and then keeps arrays in its heap, where small blocks between them prevent their return.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


class _MallInfo(ctypes.Structure):
    """Result of glibc's mallinfo2."""

    _fields_: ClassVar = [
        *((f"other_{number}", ctypes.c_size_t) for number in range(8)),
        ("fordblks", ctypes.c_size_t),  # free bytes of all arenas, whether the system has their pages or not
        ("keepcost", ctypes.c_size_t),
    ]


def _trim_again_and_again(library: ctypes.CDLL) -> None:
    """Give free memory back to the system where there is much of it; while that lasts, others wait for malloc."""
    known = 0  # bytes that are free in malloc's eyes, and of which the system has the pages already
    before, collections, never = resident_memory(), 0, threading.Event()
    while True:
        SYSTEM_CLOCK.wait(never, _LOOK_S)
        # An answer that failed or was cancelled is in a cycle of frames and their exception, and an idle process makes
        # too few objects for Python to look for it.
        collections = _COLLECTIONS if resident_memory() - before > _WORTH_COLLECTING else max(0, collections - 1)
        if collections:
            gc.collect()
        free = library.mallinfo2().fordblks
        known = min(known, free)
        if free - known > _WORTH_TRIMMING:
            library.malloc_trim(0)
            known = library.mallinfo2().fordblks
        before = resident_memory()


def resident_memory() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


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
