"""Records of runs in a table, so that they outlive the node."""

from collections.abc import Iterator, Mapping
from typing import Any

from sisock.runs import ENDED
from sisock.tables import ColumnType, Tables

COLUMNS: Mapping[str, ColumnType] = {
    "id": "text", "name": "text", "state": "text", "started": "time", "ended": "time", "record": "json",
}  # fmt: skip
AT_ONCE = 500
"""Rows that are read at once; a run has a row for each of its states."""


class RunTable:
    """The table ``operations``: a row for each record of a run, of which the newest counts; see `RunRecords`.

    Parameters
    ----------
    tables : Tables
    """

    def __init__(self, tables: Tables) -> None:
        self._table = tables.open("operations", COLUMNS)

    def append(self, record: Mapping[str, Any]) -> None:
        """Keep a record; the newest one of an id counts."""
        row = {name: record.get(name) for name in COLUMNS} | {"record": dict(record)}
        self._table.append({name: [value] for name, value in row.items()})

    def newest(self, most: int) -> Iterator[Mapping[str, Any]]:
        """Yield the newest records of the `most` newest ids, and of active runs before these; see `RunRecords`."""
        found: dict[str, Mapping[str, Any]] = {}
        before: int | None = None
        while len(found) < most:
            rows = self._table.read(["id", "record"], before=before, limit=AT_ONCE, order="descending")
            for number, record in zip(*(rows.columns[name].tolist() for name in ("id", "record")), strict=True):
                found.setdefault(number, record)
            if len(rows) < AT_ONCE:
                break
            before = int(rows.numbers[-1])
        numbers = sorted(found)
        for i, number in enumerate(numbers, most - len(numbers)):
            if i >= 0 or found[number].get("state") not in ENDED:
                yield found[number]
