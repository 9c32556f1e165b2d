"""Measure sisock against the bare operations it is built on: `make bench`, `make bench ONLY=core`.

Prints a table and writes bench/latest.json. Every ratio is of two measurements in one run.
"""

import argparse
import importlib
import json
import os
import platform
import signal
import sys
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PARTS = ("core", "history", "streams", "gateway", "work", "materials")


def hardware():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def number(value):
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def show(rows, machine):
    console = Console(width=120)
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), style="dim")
    table = Table(box=None, header_style="bold")
    for i, column in enumerate(("measured", "ours", "reference", "unit", "ratio", "goal", "")):
        table.add_column(column, justify="right" if i in (1, 2, 4, 5) else "left")
    for row in rows:
        sign = "≤" if row.at_most else "≥"
        table.add_row(
            row.name,
            number(row.ours),
            "" if row.reference is None else number(row.reference),
            row.unit,
            f"{row.ratio:.2f}" if row.ratio else "",
            f"{sign} {row.goal:g}" if row.goal is not None else "",
            {True: "holds", False: "[bold]short[/bold]", None: ""}[row.holds],
        )
    console.print(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the parts stop what they have started
    rows = []
    for part in [only] if only else PARTS:
        rows += importlib.import_module(f"parts.{part}").measure(Console(stderr=True))
    machine = hardware()
    show(rows, machine)
    latest = {"hardware": machine, "rows": [row.as_dict() for row in rows]}
    (HERE / "latest.json").write_text(json.dumps(latest, indent=2) + "\n")


if __name__ == "__main__":
    main()
