"""Histories: appending, reading, decimating; in memory, on disk, through a router, and beside other stores."""

from parts import history_disk, history_peers, history_thin, history_wire
from rows import Row

# Bytes of a node's process before it has stored anything, and how much more than its arrays a history may take.
BASE, SLACK = 80e6, 1.3
SAMPLES, ARRAYS = 360_000, 101


def memory():
    """Return the rows of what a node with 100 fields and an hour at 100 Hz has resident."""
    with history_wire.running("history_memory.py") as said:
        after_an_hour, most, kept = map(float, said.split())
    assert kept == SAMPLES
    bound = (ARRAYS * 8 * SAMPLES * SLACK + BASE) / 1e6
    unit, name = "MB resident (1.3 x arrays + 80)", "a node with 100 fields, an hour at 100 Hz"
    return [
        Row(f"{name}, in memory", after_an_hour, unit, bound, 1.0, at_most=True),
        Row("the same, the most in the two hours that follow", most, unit, bound, 1.0, at_most=True),
    ]


def measure(console):
    def say(what):
        console.print(f"measuring {what}", style="dim")

    say("appends")
    rows = history_disk.appends()
    say("reads from disk")
    rows += history_disk.reads()
    say("a month at 10 Hz in memory")
    rows += history_thin.measure(console)
    say("answers through a router")
    rows += history_wire.measure()
    say("the memory of a node")
    rows += memory()
    return rows + history_peers.measure(console)
