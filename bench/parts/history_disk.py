"""Appending to histories and reading from them, beside NumPy's own files."""

import statistics
import time
from contextlib import contextmanager

import numpy as np
from parts.history_turns import EVER, alternate, fill, noise, on_disk, read, scratch, seal, seconds, timeline
from rows import Row

from sisock.fields import Batch
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.times import Interval

FIELDS, ROUNDS = 50, 5
POINTS, READS = 1_000_000, 15


def batches_of(rows, batches):
    """Return batches of 50 fields, up to two hours ago."""
    begin, columns = time.time() - 7200.0, {f"x{i}": noise(rows) for i in range(FIELDS)}
    steps = np.arange(batches * rows).reshape(batches, rows) * 1e-3
    return [Batch("tl", begin + step, columns) for step in steps]


@contextmanager
def appending(history, rows, batches):
    steps = batches_of(rows, batches)
    yield lambda: [history.append(step) for step in steps]
    history.close()


def appending_in_memory(rows, batches):
    return appending(History([timeline(FIELDS)], HistorySettings(keep=1e12)), rows, batches)


@contextmanager
def appending_to_disk(rows, batches):
    with scratch() as folder, appending(on_disk(folder, FIELDS), rows, batches) as work:
        yield work


@contextmanager
def writing(rows, batches):
    """Write the same columns by ndarray.tofile, a file for each."""
    column = noise(rows)

    def work():
        for _ in range(batches):
            for file in files:
                column.tofile(file)

    with scratch() as folder:
        files = [(folder / f"{i}.bin").open("wb", buffering=0) for i in range(FIELDS + 1)]
        yield work
        for file in files:
            file.close()


def timed(making):
    with making as work:
        return seconds(work)


def rates(ours, reference, rows, batches, rounds=ROUNDS):
    """Return the medians of the values per second, in millions, of two ways to append, taken in turns."""
    results = [(timed(ours(rows, batches)), timed(reference(rows, batches))) for _ in range(rounds)]
    return [FIELDS * rows * batches / statistics.median(column) / 1e6 for column in zip(*results, strict=True)]


def appends():
    unit = "1e6 values/s (ndarray.tofile)"
    small = rates(appending_to_disk, writing, 10, 2000)
    return [
        Row(
            f"append in memory, {FIELDS} fields, batches of 1,000",
            *with_unit(rates(appending_in_memory, writing, 1000, 200), unit),
            0.5,
        ),
        Row(
            f"append in memory, {FIELDS} fields, batches of 10",
            *with_unit(rates(appending_in_memory, writing, 10, 2000), unit),
        ),
        Row(
            f"append to disk, {FIELDS} fields, batches of 1,000",
            *with_unit(rates(appending_to_disk, writing, 1000, 200), unit),
            0.5,
        ),
        Row(
            "the same, 50 million values at once, sealed meanwhile",
            *with_unit(rates(appending_to_disk, writing, 1000, 1000, rounds=3), unit),
        ),
        Row(f"append to disk, {FIELDS} fields, batches of 10", small[0], "1e6 values/s", None, 1.0),
        Row("the same", *with_unit(small, unit)),
    ]


def with_unit(measured, unit):
    return measured[0], unit, measured[1]


def reads():
    """Return the rows for a million samples, read from open and from sealed segments."""
    with scratch() as folder:
        raw = folder / "raw"
        np.concatenate([noise(POINTS), noise(POINTS)]).tofile(raw)
        begin = time.time() - 7200.0
        opened, sealed = on_disk(folder / "open"), on_disk(folder / "sealed")
        fill(opened, POINTS, 1e-3, begin, batch=1000)
        # What comes behind them fills the segment; it is old enough then to be sealed at once.
        fill(sealed, 5 * POINTS, 1e-3)
        seal(sealed)
        first = sealed.status()["tl"]["oldest"]
        cases = {"open segments": (opened, EVER), "sealed segments": (sealed, Interval(0.0, first + POINTS * 1e-3))}
        rows = []
        for name, (history, interval) in cases.items():

            def ours(history=history, interval=interval):
                t, values = read(history, interval)
                assert len(t) == len(values) == POINTS

            ours()
            mine, theirs = alternate(ours, lambda: np.fromfile(raw), READS)
            size = 16 * POINTS / 1e6
            rows.append(
                Row(f"read 1e6 points and their times, {name}", size / mine, "MB/s (fromfile)", size / theirs, 0.5)
            )
        opened.close()
        sealed.close()
    return rows
