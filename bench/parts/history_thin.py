"""Thinning a month and a year to what a plot needs: from memory and from the summaries on the disk."""

import shutil
import statistics

import numpy as np
from parts.history_turns import EVER, LONG_AGO, alternate, fill, median, on_disk, scratch, seal, seconds, thin, timeline
from rows import Row
from tsdownsample import MinMaxDownsampler

from sisock.history import History
from sisock.settings import HistorySettings
from sisock.times import Interval

INTERVAL_S = 0.1
MONTH, YEAR = 26_000_000, 315_000_000
OPENINGS, ROUNDS = 5, 15
# Bytes that must be free for each sample: as it came, sealed, and until both are removed.
NEEDED = 32


def from_memory():
    history = History([timeline()], HistorySettings(keep=1e12, max_samples=2 * MONTH))
    fill(history, MONTH, INTERVAL_S)
    bare = history.read(["x"], EVER).timelines["tl"].columns["x"].copy()
    name = "a month at 10 Hz, in memory, to 2,000 points by minmax"

    def reference():
        return bare[MinMaxDownsampler().downsample(bare, n_out=2000)]

    mine, theirs = alternate(lambda: thin(history), reference)
    return Row(name, mine * 1e3, "ms (tsdownsample)", theirs * 1e3, 1.3, at_most=True)


def opened_anew(folder):
    """Return the seconds of the first answer after a history was opened."""
    history = on_disk(folder)
    taken = seconds(lambda: thin(history))
    history.close()
    return taken


def from_summaries(name, samples, goal_ms):
    """Return the rows for a history that was made and sealed just now."""
    with scratch() as folder:
        if shutil.disk_usage(folder).free < samples * NEEDED:
            raise NoRoom(f"needs {samples * NEEDED / 1e9:.0f} GB for a while")
        history = on_disk(folder / "history")
        fill(history, samples, INTERVAL_S)
        seal(history)
        thin(history)
        whole = median(lambda: thin(history), ROUNDS)
        span = samples * INTERVAL_S
        part = Interval(LONG_AGO + 0.1234567 * span, LONG_AGO + 0.9123456 * span)
        thin(history, part)
        cut = median(lambda: thin(history, part), ROUNDS)
        assert np.ptp(thin(history).t) > 0.99 * span
        history.close()
        cold = statistics.median(opened_anew(folder / "history") for _ in range(OPENINGS))
    name = f"{name} at 10 Hz, from summaries, to 2,000 points"
    return [
        Row(name, whole * 1e3, "ms", None, goal_ms, at_most=True),
        Row("the same, an interval that cuts it at both ends", cut * 1e3, "ms"),
        Row("the same, the first time after the history was opened", cold * 1e3, "ms"),
    ]


class NoRoom(Exception):
    """The disk has too little room for a measurement."""


def measure(console):
    rows = [from_memory()]
    for name, samples, goal_ms in (("a month", MONTH, 10.0), ("a year", YEAR, 50.0)):
        console.print(f"measuring {name} at 10 Hz on disk, {samples / 1e6:.0f} million samples", style="dim")
        try:
            rows += from_summaries(name, samples, goal_ms)
        except NoRoom as error:
            console.print(f"left out: {name} at 10 Hz on disk {error}", style="dim")
    return rows
