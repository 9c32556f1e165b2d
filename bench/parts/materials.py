"""What node types are made of, each in a file of its own: `materials_<part>.py` with a function `measure`."""

import importlib

PARTS = ("sensors", "ingest", "tables", "keyvalue")


def measure(console):
    rows = []
    for part in PARTS:
        console.print(f"{part} …", style="dim")
        rows += importlib.import_module(f"parts.materials_{part}").measure(console)
    return rows
