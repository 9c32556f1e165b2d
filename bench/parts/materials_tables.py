"""Tables: a million rows appended in batches, and queried with two conditions, against pyarrow's filter in memory."""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from parts.core import alternate
from rows import Row

from sisock.settings import TableSettings
from sisock.tables import Table

ROWS, BATCH = 1_000_000, 1000
COLUMNS = {"time": "time", "energy": "number", "count": "integer", "target": "text"}
TARGETS = np.array(["gold", "lead", "tin", "zinc"], object)


def content():
    random = np.random.default_rng(0)
    return {
        "time": 1.7e9 + np.arange(ROWS) / 1000.0,
        "energy": random.normal(5.0, 1.0, ROWS),
        "count": random.integers(0, 1000, ROWS),
        "target": TARGETS[random.integers(0, len(TARGETS), ROWS)],
    }


def append_all(table, rows):
    for at in range(0, ROWS, BATCH):
        table.append({name: values[at : at + BATCH] for name, values in rows.items()})


def appended_per_second(rows, folder):
    table = Table("shots", COLUMNS, folder, settings=TableSettings(memory_size=2**28))
    table.waits = True
    began = time.perf_counter()
    append_all(table, rows)
    table.write()
    took = time.perf_counter() - began
    assert table.counters["lost"] == 0
    table.close()
    return ROWS / took


def seconds(work):
    began = time.perf_counter()
    assert work() > 0
    return time.perf_counter() - began


def filtered(name, table, arrow, conditions, expression):
    ours, bare = alternate(
        lambda: seconds(lambda: len(table.read(conditions=conditions))),
        lambda: seconds(lambda: len(arrow.filter(expression))),
    )
    return Row(f"{ROWS:,} rows of a table, {name}", 1e3 * ours, "ms", 1e3 * bare, 2.0, at_most=True)


def measure(_console):
    rows = content()
    table = Table("shots", COLUMNS, settings=TableSettings(memory_size=2**28))
    append_all(table, rows)
    arrow = pa.table(rows)
    numbers = [["energy", ">", 6.0], ["count", "<", 500]]
    texts = [["energy", ">", 6.0], ["target", "==", "gold"]]
    with tempfile.TemporaryDirectory() as folder:
        on_disk = appended_per_second(rows, Path(folder))
    return [
        filtered(
            "conditions on two numbers", table, arrow, numbers, (pc.field("energy") > 6) & (pc.field("count") < 500)
        ),
        filtered(
            "conditions on a number and a text",
            table,
            arrow,
            texts,
            (pc.field("energy") > 6) & (pc.field("target") == "gold"),
        ),
        Row(f"rows appended to a table on disk, {BATCH} at once", on_disk, "rows/s"),
    ]
