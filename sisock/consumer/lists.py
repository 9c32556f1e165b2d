"""The lists of nodes and runs and the dict of fields that notebooks show as tables."""

from typing import Any

from sisock.consumer.html import table
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.times import iso

RUN_COLUMNS = ("run", "operation", "state", "progress", "by", "queued", "took", "")
"""Heads of the columns of a table of runs."""


class NodeList(list[NodeInfo]):
    """Nodes, as the hub knows them."""

    def _repr_html_(self) -> str:
        return table(("node", "description"), [(info.name, info.description) for info in self])


class FieldList(dict[str, FieldInfo]):
    """Fields by name, as their node describes them."""

    def _repr_html_(self) -> str:
        head = ("field", "type", "units", "timeline", "every s", "description")
        rows = [(i.name, i.type, i.units, i.timeline, i.interval_s, i.description) for i in self.values()]
        return table(head, rows)


class RunList(list[dict[str, Any]]):
    """Runs of operations, as their node describes them."""

    def _repr_html_(self) -> str:
        return table(RUN_COLUMNS, [run_row(run) for run in self])


class TableList(list[dict[str, Any]]):
    """Tables, as their node describes them."""

    def _repr_html_(self) -> str:
        rows = [(each["name"], ", ".join(each["columns"]), each["oldest"], each["next"]) for each in self]
        return table(("table", "columns", "oldest", "next"), rows)


class AlarmList(list[dict[str, Any]]):
    """Alarms, as their node describes them."""

    def _repr_html_(self) -> str:
        head = ("alarm", "state", "severity", "since", "value", "condition")
        rows = [
            (each["name"], each["state"], each["severity"], iso(each["since"]), each.get("value"), each["condition"])
            for each in self
        ]
        return table(head, rows)


def run_row(run: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a run in a table: id, operation, state, progress, caller, times, and message or error."""
    progress, started, ended = (run.get(key) for key in ("progress", "started", "ended"))
    return (
        run["id"],
        run["name"],
        run["state"],
        "" if progress is None else f"{progress:.0%}",
        caller_name(run.get("caller") or {}),
        iso(run["queued"]),
        "" if started is None or ended is None else f"{ended - started:.1f} s",
        run.get("error") or run.get("message") or "",
    )


def caller_name(caller: dict[str, Any]) -> str:
    """Return the name of the person or the account that started a run."""
    behalf = caller.get("on_behalf_of") or {}
    return str(behalf.get("user") or caller.get("authid") or "the node")
