"""Tables for notebooks: bounded, and with everything escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sisock.times import iso

if TYPE_CHECKING:
    from sisock.consumer.data import Data

MOST_ROWS = 200
"""Rows of a table that are shown at the most."""
# Samples at each end of a timeline, and columns, that are shown at the most.
_ENDS, _MOST_COLUMNS = 5, 20


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """Return a table as HTML; of a long one the first rows, and the number of the others.

    Parameters
    ----------
    head : sequence of str
    rows : sequence of sequences
        Nothing is shown for None.
    caption : str
    """
    shown = [_row("td", row) for row in rows[:MOST_ROWS]]
    if more := len(rows) - len(shown):
        shown.append(f'<tr><td colspan="{len(head)}">… and {more:,} more</td></tr>')
    title = f'<caption style="text-align: left">{escape(caption)}</caption>' if caption else ""
    return f"<table>{title}<thead>{_row('th', head)}</thead><tbody>{''.join(shown)}</tbody></table>"


def data_tables(data: "Data") -> str:
    """Return a table as HTML for each timeline: its first and last samples, with the units of its fields."""
    tables = []
    for name, samples in data.timelines.items():
        parts = [part for field in samples.columns for part in data.quantities(field)]
        more = len(parts) - _MOST_COLUMNS
        head = ["time", *(part.label for part in parts[:_MOST_COLUMNS])]
        units = ["UTC", *(part.field.units or "" for part in parts[:_MOST_COLUMNS])]
        columns = [part.spread() for part in parts[:_MOST_COLUMNS]]
        n = len(samples.t)
        ends = range(n) if n <= 2 * _ENDS else [*range(_ENDS), *range(n - _ENDS, n)]
        rows = [[iso(samples.t[i]), *(values[i] for values in columns)] for i in ends]
        if n > 2 * _ENDS:
            rows.insert(_ENDS, ["…"] * len(head))
        also = f", {more} more fields" if more > 0 else ""
        tables.append(table(head, [units, *rows], f"{name}: {n:,} samples of node {data.node}{also}"))
    if empty := [name for name in data if not len(data[name])]:
        tables.append(f"<p>no samples: {escape(', '.join(empty))}</p>")
    return "".join(tables) or "<p>no samples</p>"


def _row(tag: str, cells: Iterable[Any]) -> str:
    inside = "".join(f'<{tag} style="text-align: left">{_text(cell)}</{tag}>' for cell in cells)
    return f"<tr>{inside}</tr>"


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    text = f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    return escape(text if len(text) <= 200 else f"{text[:199]}…")
