"""Rendering answers: tables, CSV, JSON, plots."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from sisock.cli import plot
from sisock.consumer import Data
from sisock.fields import Quantity
from sisock.printable import printable
from sisock.serializable import as_list, to_serializable
from sisock.times import iso

_SPARKS = "▁▂▃▄▅▆▇█"


def value(v: Any) -> str:
    """Return a value as text: numbers with six digits, nothing for NaN, control characters escaped.

    An array is shown by its minimum and maximum, and its size.
    """
    if isinstance(v, np.ndarray):
        size = " × ".join(map(str, v.shape))
        good = v[np.isfinite(v)]
        return f"{good.min():.4g} … {good.max():.4g} ({size})" if len(good) else f"no value ({size})"
    if isinstance(v, float | np.floating):
        return "" if math.isnan(v) else f"{v:.6g}"
    if isinstance(v, bool | np.bool_):
        return "true" if v else "false"
    return printable(str(v))


def heading(part: Quantity) -> str:
    """Return a field's name with its units; pure numbers have none."""
    name, units = part.field.name, part.field.units
    has_label = part.label != name or units in (None, "", "1")
    return printable(part.label if has_label else f"{name} [{units}]")


def note(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a line about the data, without control characters or markup."""
    console.print(printable(text), style=style, markup=False, highlight=False)


def table(
    console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()
) -> None:
    """Print a table; without a terminal its columns are separated by tabs and not cut."""
    columns, *rows = [[printable(cell) for cell in row] for row in (columns, *rows)]
    if not console.is_terminal:
        for row in (columns, *rows):
            print("\t".join(row), file=console.file)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        shown.add_column(column, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    console.print(shown, markup=False, highlight=False)


def as_table(console: Console, data: Data, *, most: int | None) -> None:
    """Print a block per timeline; beyond `most` rows a line replaces the middle."""
    for samples in data.timelines.values():
        parts = [(heading(part), part.spread()) for name in samples.columns for part in data.quantities(name)]
        n = len(samples.t)
        head = n if most is None or n <= most else most // 2
        picked = list(range(n)) if head == n else [*range(head), *range(n - (most or 0) + head, n)]
        rows = [[iso(samples.t[i]), *(value(values[i]) for _, values in parts)] for i in picked]
        if head < n:
            rows.insert(head, ["…", *("…" for _ in parts)])
        if parts:
            heads = ["time (UTC)", *(head for head, _ in parts)]
            table(console, heads, rows, right=range(1, len(parts) + 1))
        if head < n:
            note(console, f"({n - len(picked)} of {n} rows are left out; --all shows them)", style="dim")
        if samples.downsample and samples.downsample.stride:
            how = samples.downsample
            apart = f"{how.stride:g} s apart" if math.isfinite(how.stride) else "all in one bin"
            note(console, f"(downsampled by {how.method}, {apart})", style="dim")
        for name, epochs in samples.epochs.items():
            changes = ", ".join(f"{then.type} [{then.units or ''}] from {iso(since)}" for since, then in epochs)
            note(console, f"{name} was {changes}", style="yellow")
        for start, end in samples.gaps:
            note(console, f"gap: {iso(start)} to {iso(end)}", style="yellow")
        if samples.dropped or samples.late:
            note(console, f"lost: {samples.dropped} dropped, {samples.late} late", style="yellow")


def as_csv(out: TextIO, data: Data) -> None:
    """Write a block of CSV per timeline: time, UNIX seconds, then the fields; nothing for NaN and the infinities.

    Lines end with a newline, and bools are ``true`` and ``false``, as in all CSV output of sisock.
    A field whose units or type changed has a column for each: ``level [mm]``, ``level [m]``. Control characters in
    names and texts are escaped, as in all output of commands.
    """
    writer = csv.writer(out, lineterminator="\n")
    for samples in data.timelines.values():
        if not len(samples.t):
            continue  # all samples are lost, which CSV cannot express
        parts = [part for name in samples.columns for part in data.quantities(name)]
        writer.writerow(["time", "unix_time", *(printable(part.label) for part in parts)])
        columns = [as_list(part.spread()) for part in parts]
        for t, *values in zip(samples.t.tolist(), *columns, strict=True):
            writer.writerow([iso(t), repr(t), *(_csv_cell(v) for v in values)])


def _csv_cell(v: Any) -> Any:
    match v:
        case None:
            return ""
        case bool():
            return str(v).lower()
        case str():
            return printable(v)
    return v


def as_json(data: Data) -> dict[str, Any]:
    """Return samples as plain values, null for NaN; ``units`` are those at the end of the interval."""
    return {
        "node": data.node,
        "timelines": {
            name: {
                "t": as_list(samples.t),
                "finalized_until": samples.finalized_until,
                "gaps": samples.gaps,
                "dropped": samples.dropped,
                "late": samples.late,
                "epochs": {
                    field: [{"from": since, "type": then.type, "units": then.units} for since, then in epochs]
                    for field, epochs in samples.epochs.items()
                },
                **({"downsample": to_serializable(asdict(samples.downsample))} if samples.downsample else {}),
                "data": {field: as_list(values) for field, values in samples.columns.items()},
            }
            for name, samples in data.timelines.items()
        },
        "units": {name: data.fields[name].units if name in data.fields else None for name in data},
        "empty": [name for name in data if not len(data[name])],
    }


def as_plot(console: Console, data: Data) -> None:
    """Draw a panel for each field of numbers or bools, or for each of its units, in the terminal.

    Of an array field the newest sample is drawn over its axis. Strings and images cannot be drawn; a line lists them.
    """
    for name in data:
        if not (parts := data.quantities(name)):
            note(console, f"{name}: no samples with a value", style="yellow")
        for part in parts:
            if part.field.type == "string":
                note(console, f"{part.label}: text cannot be drawn", style="yellow")
                continue
            if part.values.ndim > 2:
                note(console, f"{part.label}: an image cannot be drawn", style="yellow")
                continue
            values = part.values.astype(float)
            if values.ndim == 2:
                _newest_over_axis(console, data, part, values)
                continue
            good = np.isfinite(values)
            if not good.any():
                note(console, f"{part.label}: no samples with a value", style="yellow")
                continue
            plot.over_time(console, heading(part), data.t(name)[part.rows][good], values[good])


def _newest_over_axis(console: Console, data: Data, part: Quantity, values: NDArray[np.float64]) -> None:
    newest = values[-1]
    if not np.isfinite(newest).any():
        note(console, f"{part.label}: the newest sample has no value", style="yellow")
        return
    name = part.field.name
    axis = data.fields[name].axis if name in data.fields else None
    if axis is not None and len(axis.values) != len(newest):
        axis = None  # the shape has changed since that sample
    over = axis.name if axis else "number"
    t = iso(float(data.t(name)[part.rows][-1]))
    plot.over_axis(console, f"{heading(part)} over {printable(over)}, {t}", axis, newest)


def sparkline(values: Sequence[float]) -> str:
    """Return a row of bars for the last values."""
    good = [v for v in values if math.isfinite(v)]
    if not good:
        return ""
    low, span = min(good), (max(good) - min(good)) or 1.0
    return "".join(_SPARKS[round((v - low) / span * (len(_SPARKS) - 1))] if math.isfinite(v) else " " for v in values)
