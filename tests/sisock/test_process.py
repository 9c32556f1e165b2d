"""The process itself: its limits."""

import subprocess
import sys

import pytest

_THREADS = """
import gc, sys, threading, time
import numpy as np
from pathlib import Path

from sisock.process import prepare_process

if sys.argv[1] == "prepared":
    prepare_process()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def answer():
    # Arrays of all sizes, as an answer is read, encoded and sent: the last of them outlives the others.
    parts = [np.ones(size // 8) for _ in range(2) for size in range(100_000, 4_000_000, 100_000)]
    kept.append(np.ones(100))
    if sys.argv[1] == "in cycles":  # as an answer is that failed: its frame has the exception that has the frame
        parts.append(parts)

if sys.argv[1] == "in cycles":
    gc.set_threshold(1_000_000)
    prepare_process()
before, kept = resident(), []
threads = [threading.Thread(target=answer) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
deadline = time.monotonic() + float(sys.argv[2])
while resident() - before > 40_000_000 and time.monotonic() < deadline: time.sleep(0.1)
print(resident() - before)
"""


# Blocks that are too small for malloc to map each of them, and one of them stays: what is free lies below it.
_BLOCKS = """
import sys, threading, time
from pathlib import Path

from sisock.process import prepare_process, resident_memory

if sys.argv[1] == "prepared":
    prepare_process()
before, kept, worst, at = resident_memory(), [], [0], threading.Semaphore()
ended = threading.Event()

def answer():
    with at:  # one after the other, but all of them live on, as threads of a pool do
        parts = [bytearray(50_000) for _ in range(600)]
        kept.append(parts.pop())
        worst[0] = max(worst[0], resident_memory() - before)
        del parts
        done.append(1)
    ended.wait()

done = []
threads = [threading.Thread(target=answer, daemon=True) for _ in range(8)]
for thread in threads: thread.start()
while len(done) < len(threads): time.sleep(0.01)
deadline = time.monotonic() + float(sys.argv[2])
while resident_memory() - before > 10_000_000 and time.monotonic() < deadline: time.sleep(0.1)
print(worst[0], resident_memory() - before)
"""


def blocks(how, patience_s):
    """Return the most bytes that eight threads took, and what is left of them after some time."""
    command = [sys.executable, "-c", _BLOCKS, how, str(patience_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_free_memory_is_given_back_and_is_any_threads():
    worst, left = blocks("prepared", 60.0)
    assert worst < 120_000_000  # 30 MB are in use at a time
    assert left < 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_program_that_shows_this_has_free_memory_for_each_thread_and_keeps_it_where_nothing_is_set():
    worst, left = blocks("as it is", 2.0)
    assert worst > 200_000_000
    assert left > 200_000_000


def kept(how, patience_s):
    command = [sys.executable, "-c", _THREADS, how, str(patience_s)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_memory_of_answers_that_failed_is_given_back_although_they_are_in_cycles():
    assert kept("in cycles", 60.0) < 40_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_memory_of_answers_that_were_read_in_many_threads_is_given_back():
    assert kept("prepared", 60.0) < 40_000_000


def test_program_that_shows_this_keeps_much_where_nothing_is_set():
    assert kept("as it is", 7.0) > 60_000_000
