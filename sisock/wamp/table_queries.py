"""The queries with which clients read the tables of a node; their answers are encoded in the threads of queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sisock.fields import Column
from sisock.jsontext import size_of
from sisock.procedure import Query
from sisock.serializable import to_serializable
from sisock.tables import TableRows, Tables
from sisock.wamp.wire import Encoding, encode_column

MOST_ROWS = 100_000
"""Most rows of an answer."""
# Bytes of the rows of an answer, about, as they are in memory.
_ANSWER_SIZE = 4 << 20
# Bytes of a number as text, at most about.
_NUMBER_SIZE = 20


@dataclass(frozen=True, slots=True)
class Ready:
    """The result of a query that is serializable as it is.

    Attributes
    ----------
    content : any
    size : int
        Bytes in a message, about.
    """

    content: Any
    size: int


class _WhichRows(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="of the table")
    columns: list[str] | None = Field(None, description="names of columns; all if not given")
    conditions: list[str | list[Any]] = Field([], description="[column, op, value] or texts, all of which hold")
    after: int | None = Field(None, ge=0, description="the cursor of an earlier answer: rows from there on")
    before: int | None = Field(None, ge=0, description="only rows with a number below this")
    limit: int = Field(1000, ge=1, le=MOST_ROWS, description="most rows; fewer are returned if they are large")
    order: Literal["ascending", "descending"] = Field("ascending", description="by the numbers of the rows")
    encoding: Encoding = Field("list", description="packed: numbers as {dtype, shape, data}")


def table_queries(tables: Tables) -> list[Query]:
    """Return the queries ``tables`` and ``table`` of a node.

    Parameters
    ----------
    tables : Tables
    """

    def described() -> list[dict[str, Any]]:
        return [
            {"name": table.name, "columns": table.columns, **{key: status[key] for key in ("oldest", "next", "bytes")}}
            for table in tables
            for status in (table.status(),)
        ]

    def rows(which: _WhichRows) -> Ready:
        table = tables.get(which.name)
        found = table.read(
            *(which.columns, which.conditions, which.after, which.before, which.limit, which.order),
            max_size=_ANSWER_SIZE,
        )
        content = {
            "name": table.name,
            "types": {name: table.columns[name] for name in found.columns},
            **encoded_rows(found, table.columns, which.encoding),
            "oldest": found.oldest,
            "more": found.more,
        }
        return Ready(content, size_of_rows(found))

    return [
        Query("tables", "List the tables of the node.", None, None, described, is_builtin=True),
        Query("table", "Return rows of a table.", _WhichRows, None, rows, is_builtin=True),
    ]


def encoded_rows(rows: TableRows, types: Mapping[str, str], encoding: Encoding = "list") -> dict[str, Any]:
    """Return rows as wire values: ``numbers``, ``columns`` and ``cursor``."""
    return {
        "numbers": encode_column(rows.numbers, encoding),
        "columns": {name: _encoded(values, types[name], encoding) for name, values in rows.columns.items()},
        "cursor": rows.cursor,
    }


def _encoded(values: Column, kind: str, encoding: Encoding) -> Any:
    return to_serializable(values.tolist()) if kind == "json" else encode_column(values, encoding)


def size_of_rows(rows: TableRows) -> int:
    """Return about how many bytes rows have in a message."""
    columns = (rows.numbers, *rows.columns.values())
    return sum(
        size_of(values.tolist()) if values.dtype.kind == "O" else _NUMBER_SIZE * len(values) for values in columns
    )
