"""What a user might take instead of a history: SQLite, DuckDB, HDF5, InfluxDB, VictoriaMetrics; with the same data."""

import shutil
import sqlite3
import time
from contextlib import closing

import duckdb
import h5py
import numpy as np
import pyarrow as pa
from parts.history_disk import FIELDS, batches_of
from parts.history_servers import influxdb, victoria_metrics
from parts.history_turns import alternate, fill, noise, on_disk, read, scratch, seal, thin
from rows import Row

ROUNDS = 3
BATCH, BATCHES, LONGEST_S = 1000, 100, 2.0
# A month of readings, 2.592 s apart: what a peer can take and give in a few seconds.
POINTS, INTERVAL_S, BINS = 1_000_000, 2.592, 1000
STEP_S = POINTS * INTERVAL_S / BINS


class SQLite:
    """Rows: a table with a column for each field, in time order on the disk; one transaction for each batch."""

    def __init__(self, folder):
        self._db = sqlite3.connect(folder / "peer.sqlite")
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
        for table, columns in (("wide", [f"x{i}" for i in range(FIELDS)]), ("month", ["x"])):
            self._db.execute(
                f"CREATE TABLE {table} (t REAL PRIMARY KEY, {', '.join(f'{c} REAL' for c in columns)}) WITHOUT ROWID"
            )

    def append(self, t, columns):
        self._insert("wide", t, columns)

    def fill(self, t, values):
        self._insert("month", t, {"x": values})

    def _insert(self, table, t, columns):
        rows = zip(t.tolist(), *(values.tolist() for values in columns.values()), strict=True)
        with self._db:
            self._db.executemany(f"INSERT INTO {table} VALUES (?{', ?' * len(columns)})", rows)

    def read(self):
        rows = self._db.execute("SELECT t, x FROM month ORDER BY t").fetchall()
        t, values = np.array(rows).T
        return t, values

    def thin(self):
        bins = "SELECT min(x), max(x) FROM month GROUP BY CAST(t / ? AS INTEGER)"
        return np.array(self._db.execute(bins, (STEP_S,)).fetchall())

    def close(self):
        self._db.close()


class DuckDB:
    """Columns, in blocks; one transaction for each batch."""

    def __init__(self, folder):
        self._db = duckdb.connect(str(folder / "peer.duckdb"))
        for table, columns in (("wide", [f"x{i}" for i in range(FIELDS)]), ("month", ["x"])):
            self._db.execute(f"CREATE TABLE {table} (t DOUBLE, {', '.join(f'{c} DOUBLE' for c in columns)})")

    def append(self, t, columns):
        self._insert("wide", t, columns)

    def fill(self, t, values):
        self._insert("month", t, {"x": values})

    def _insert(self, table, t, columns):
        self._db.register("batch", pa.table({"t": t, **columns}))
        self._db.execute(f"INSERT INTO {table} SELECT * FROM batch")

    def read(self):
        found = self._db.execute("SELECT t, x FROM month ORDER BY t").fetchnumpy()
        return found["t"], found["x"]

    def thin(self):
        bins = "SELECT min(x) low, max(x) high FROM month GROUP BY floor(t / ?)"
        return np.array(list(self._db.execute(bins, [STEP_S]).fetchnumpy().values())).T

    def close(self):
        self._db.close()


class HDF5:
    """A dataset for each column that grows in chunks of 8,192 values; flushed after each batch."""

    def __init__(self, folder):
        self._file = h5py.File(folder / "peer.h5", "w")

    def append(self, t, columns):
        self._grow("wide", {"t": t, **columns})

    def fill(self, t, values):
        self._grow("month", {"t": t, "x": values})

    def _grow(self, group, columns):
        for name, values in columns.items():
            where = f"{group}/{name}"
            if where not in self._file:
                self._file.create_dataset(where, (0,), "<f8", maxshape=(None,), chunks=(8192,))
            grown = self._file[where]
            at = len(grown)
            grown.resize(at + len(values), axis=0)
            grown[at:] = values
        self._file.flush()

    def read(self):
        return self._file["month/t"][:], self._file["month/x"][:]

    def thin(self):
        t, values = self.read()
        numbers = np.floor(t / STEP_S)
        starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
        return np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)], axis=1)

    def close(self):
        self._file.close()


class Ours:
    """A history on disk, as it is by default."""

    def __init__(self, folder):
        self._wide, self._month = on_disk(folder / "wide", FIELDS), on_disk(folder / "month")

    def append(self, batch):
        self._wide.append(batch)

    def fill(self, begin):
        fill(self._month, POINTS, INTERVAL_S, begin, batch=BATCH)
        seal(self._month)

    def read(self):
        return read(self._month)

    def thin(self):
        return thin(self._month)

    def close(self):
        self._wide.close()
        self._month.close()


def rate(append, batches):
    """Return the values per second, in millions, of appending batches until it takes too long."""
    began, done = time.perf_counter(), 0
    for batch in batches:
        append(batch)
        done += 1
        if time.perf_counter() - began > LONGEST_S:
            break
    return FIELDS * BATCH * done / (time.perf_counter() - began) / 1e6


def compared(name, peer):
    """Return the rows of one peer, which was just made."""
    # Whole seconds, two months ago: time stamps are exact whatever a peer makes of them.
    begin = time.time() // 1 - 2 * POINTS * INTERVAL_S
    t = begin + np.arange(POINTS) * INTERVAL_S
    with scratch() as folder, closing(Ours(folder)) as ours:
        batches = batches_of(BATCH, BATCHES)
        mine = rate(ours.append, batches)
        theirs = rate(lambda batch: peer.append(batch.t, batch.columns), batches)
        rows = [Row(f"peer: {name}, append {FIELDS} fields, batches of 1,000", mine, f"1e6 values/s ({name})", theirs)]
        ours.fill(begin)
        peer.fill(t, noise(POINTS))
        for of_whom in (ours, peer):
            found_t, found = of_whom.read()
            assert np.allclose(found_t, t, rtol=0, atol=1e-3)
            assert np.allclose(found, noise(POINTS), rtol=1e-9)  # one of them rounds the last digits
        bins = peer.thin()
        assert BINS <= len(bins) <= BINS + 1
        assert np.allclose((bins.min(), bins.max()), (noise(POINTS).min(), noise(POINTS).max()))
        for what, title in (("read", "read 1e6 points"), ("thin", "downsample them to 2,000 by min and max")):
            mine, theirs = alternate(getattr(ours, what), getattr(peer, what), ROUNDS)
            rows.append(Row(f"peer: {name}, {title}", mine * 1e3, f"ms ({name})", theirs * 1e3))
    return rows


def in_process(make):
    return lambda folder: closing(make(folder))


PEERS = {
    "SQLite": (in_process(SQLite), None),
    "DuckDB": (in_process(DuckDB), None),
    "HDF5": (in_process(HDF5), None),
    "InfluxDB": (influxdb, "influxd"),
    "VictoriaMetrics": (victoria_metrics, "victoria-metrics"),
}


def measure(console):
    rows = []
    for name, (make, program) in PEERS.items():
        if program is not None and shutil.which(program) is None:
            console.print(f"left out: {name} ({program} is not installed)", style="dim")
            continue
        console.print(f"measuring {name}", style="dim")
        with scratch() as folder, make(folder) as peer:
            rows += compared(name, peer)
    return rows
