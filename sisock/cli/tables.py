"""The commands that read tables of nodes: `tables`, `table`, and ``export --table``."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sisock.cli.ask import Json, NodeName, asking
from sisock.cli.places import SiteOption
from sisock.cli.terminal import echo, make_console
from sisock.errors import BadRequest, MissingExtra
from sisock.jsontext import as_json as json_of
from sisock.times import iso

if TYPE_CHECKING:
    from sisock.consumer import BlockingConsumer, TablePage
    from sisock.consumer.tables import Order

TableName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the table, as `sisock tables` lists it.")]
Conditions = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONDITION]…", help="Conditions that all hold: 'energy>2.5', 'target like gold*'."),
]
# Rows of a request of an export.
_AT_ONCE = 100_000


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (tables, table):
        app.command()(command)


def tables(node: NodeName, site: SiteOption = None, as_json: Json = False) -> None:
    """List the tables of a node, with their columns and rows."""
    from sisock.cli import show

    with asking(site) as consumer:
        found = consumer.tables(node)
    if as_json:
        typer.echo(json.dumps(found))
        return
    rows = [
        (
            each["name"],
            f"{each['oldest']} to {each['next']}",
            ", ".join(f"{n} ({t})" for n, t in each["columns"].items()),
        )
        for each in found
    ]
    show.table(make_console(), ("table", "rows", "columns"), rows)


def table(
    node: NodeName,
    name: TableName,
    conditions: Conditions = None,
    columns: Annotated[str | None, typer.Option(help="Names of columns, separated by commas; by default all.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 50,
    oldest: Annotated[bool, typer.Option("--oldest", help="Show the oldest rows; by default the newest.")] = False,
    after: Annotated[int | None, typer.Option(min=0, help="Only rows from this number on.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Then show rows as they come, until Ctrl-C.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Show the newest rows of a table, the newest last."""
    which: dict[str, Any] = {"columns": columns.split(",") if columns else None}
    with asking(site) as consumer:
        order: Order = "ascending" if oldest else "descending"
        page = consumer.table(node, name, conditions or (), after=after, limit=limit, order=order, **which)
        lines = _Lines(page, as_json=as_json)
        lines.show(page, reverse=not oldest)
        if not follow:
            return
        with suppress(KeyboardInterrupt):  # the normal way out
            for new in consumer.follow_table(node, name, conditions or (), after=page.cursor, **which):
                lines.show(new)


class _Lines:
    """Prints rows: as lines of JSON, or as a table whose columns are as wide as its first rows need."""

    def __init__(self, page: "TablePage", *, as_json: bool) -> None:
        self._as_json, self._head = as_json, ["row", *page]
        self._widths = [
            0 if as_json else max(map(len, column)) for column in zip(self._head, *_cells(page), strict=True)
        ]
        if not as_json:
            self._print(self._head)

    def show(self, page: "TablePage", *, reverse: bool = False) -> None:
        """Print the rows of a page."""
        rows: Sequence[Any]
        if self._as_json:
            rows = [{"row": number, **row} for number, row in zip(page.numbers.tolist(), page.rows, strict=True)]
        else:
            rows = _cells(page)
        for row in reversed(rows) if reverse else rows:
            if self._as_json:
                typer.echo(json_of(row))
            else:
                self._print(row)

    def _print(self, cells: Iterable[str]) -> None:
        echo("  ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip())


def _cells(page: "TablePage") -> list[list[str]]:
    columns = [[str(number) for number in page.numbers.tolist()]]
    columns += [[_cell(page.types[name], value) for value in values.tolist()] for name, values in page.items()]
    return [list(row) for row in zip(*columns, strict=True)]


def _cell(kind: str, value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    if kind == "time":
        return iso(value)
    return str(json_of(value)) if kind in ("json", "bool") else f"{value:.10g}" if kind == "number" else str(value)


def export_table(
    consumer: "BlockingConsumer", node: str, name: str, conditions: Sequence[str], file: Path, format: str
) -> tuple[int, list[str]]:
    """Write rows of a table to a file, and return how many, and the names of the columns.

    Raises
    ------
    BadRequest
        If the format is not one of tables.
    MissingExtra
        If pyarrow is not installed.
    """
    if format not in ("parquet", "csv"):
        raise BadRequest(f"a table is not written as {format}; give a file that ends with .parquet or .csv")
    try:
        from sisock.recording.table_rows import RowFile
    except ModuleNotFoundError as error:
        raise MissingExtra("files of tables need pyarrow; run: pip install 'sisock[parquet]'") from error
    written, pages = 0, _pages(consumer, node, name, conditions)
    first = next(pages)
    with RowFile(file, format, first.types) as rows:
        for page in chain([first], pages):
            rows.append(page.numbers, page)
            written += len(page.numbers)
    return written, [*first]


def _pages(consumer: "BlockingConsumer", node: str, name: str, conditions: Sequence[str]) -> "Iterator[TablePage]":
    after = None
    while True:
        page = consumer.table(node, name, conditions, after=after, limit=_AT_ONCE)
        yield page
        if not page.more:
            return
        after = page.cursor
