"""The key-value tree: durable changes as they arrive, and the snapshot of a large subtree."""

import sqlite3
import time
from pathlib import Path

from parts.history_turns import scratch
from rows import Row

from sisock.keyvalue import Tree
from sisock.outage import OutageLog
from sisock.times import SystemClock
from sisock_nodes.keyvalue.store import Store

SETS, WRITERS, KEYS = 20_000, 500, 100_000


def sets_per_second(folder):
    """Return the rate of confirmed changes, of which so many are on their way at a time."""
    clock = SystemClock()
    store = Store(folder / "values.sqlite", clock, lambda _: None, OutageLog(clock))
    store.start()

    def change(number):
        return store.change(lambda tree, now: tree.set(f"room/{number % 1000}", number, now))

    began, waiting = time.perf_counter(), []
    for number in range(SETS):
        waiting.append(change(number))
        if len(waiting) == WRITERS:
            waiting.pop(0).result(60.0)
    for future in waiting:
        future.result(60.0)
    taken = time.perf_counter() - began
    store.stop()
    return SETS / taken


def bare_per_second(folder):
    """Return the rate of SQLite alone, with as many rows in a transaction."""
    database = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
    database.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v)")
    began = time.perf_counter()
    for start in range(0, SETS, WRITERS):
        database.execute("BEGIN")
        rows = [(f"room/{number % 1000}", str(number)) for number in range(start, start + WRITERS)]
        database.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", rows)
        database.execute("COMMIT")
    taken = time.perf_counter() - began
    database.close()
    return SETS / taken


def snapshot_s():
    tree = Tree()
    for number in range(KEYS):
        tree.set(f"hall/{number % 100}/{number}", number, 0.0)
    tree.set("elsewhere", 1, 0.0)
    began = time.perf_counter()
    found = tree.snapshot("hall")
    taken = time.perf_counter() - began
    assert len(found.entries) == KEYS
    return taken


def measure(_console):
    with scratch() as folder:
        path = Path(folder)
        ours, bare = sets_per_second(path), bare_per_second(path)
    return [
        Row(f"key-value, durable sets, {WRITERS} on their way", ours, "sets/s (SQLite alone)", bare),
        Row("the same", ours, "sets/s", None, 5000),
        Row(f"key-value, snapshot of {KEYS} values", snapshot_s(), "s", None, 1.0, at_most=True),
    ]
