"""The HTTP API of tables: those of a node, and their rows as JSON, CSV or Arrow."""

import io
from typing import Annotated, Any
from urllib.parse import quote

import pyarrow
from fastapi import APIRouter, Header, Query, Request, Response
from pyarrow import csv as arrow_csv
from pyarrow import ipc

from sisock.consumer import TablePage
from sisock.consumer.tables import Order
from sisock.recording.table_rows import record_batch
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.media import ARROW, CSV, JSON, Format, media_type
from sisock_hub.gateway.models import TableAnswer, TableRowsAnswer
from sisock_hub.gateway.work_client import WorkClient

CURSOR = "Sisock-Cursor"
"""The header with the cursor of an answer that is CSV or Arrow."""


def table_routes(work: WorkClient) -> APIRouter:
    """Return the routes of tables.

    Parameters
    ----------
    work : WorkClient
    """
    routes = APIRouter(tags=["tables"])

    @routes.get("/nodes/{node}/tables", response_model=list[TableAnswer])
    async def tables(node: str, request: Request) -> Response:
        """List the tables of a node, with their columns."""
        found = await work.query(node, "tables", {}, request.scope["principal"])
        return Response(json_bytes(found), media_type=JSON)

    @routes.get(
        "/nodes/{node}/tables/{name}",
        response_model=TableRowsAnswer,
        responses={200: {"content": {CSV: {}, ARROW: {}}}},
    )
    async def rows(
        node: str,
        name: str,
        request: Request,
        column: Annotated[list[str] | None, Query(description="Names of columns; all if not given.")] = None,
        condition: Annotated[
            list[str] | None, Query(description="Conditions that all hold: `energy>2.5`, `target like gold*`.")
        ] = None,
        after: Annotated[int | None, Query(ge=0, le=2**53, description="The cursor of an earlier answer.")] = None,
        before: Annotated[int | None, Query(ge=0, le=2**53, description="Only rows with a smaller number.")] = None,
        limit: Annotated[int, Query(ge=1, le=100_000, description="Most rows; large ones are fewer.")] = 1000,
        order: Annotated[Order, Query(description="By the numbers of the rows.")] = "ascending",
        format: Format = None,
        accept: Annotated[str, Header(max_length=1000)] = JSON,
    ) -> Response:
        """Return rows of a table: JSON, CSV or an Arrow IPC stream, selected by ``format`` or ``Accept``."""
        which = {"columns": column, "conditions": condition or [], "after": after, "before": before}
        kind = media_type(format, accept)
        page = await work.table(node, name, request.scope["principal"], **which, limit=limit, order=order)
        return _json(page) if kind == JSON else _file(page, kind)

    return routes


def _json(page: TablePage) -> Response:
    content = {
        "name": page.name,
        "types": page.types,
        "numbers": page.numbers,
        "columns": dict(page),
        "cursor": page.cursor,
        "oldest": page.oldest,
        "more": page.more,
    }
    return Response(json_bytes(content), media_type=JSON)


def _file(page: TablePage, kind: str) -> Response:
    batch, sink = record_batch(page.types, page.numbers, page), io.BytesIO()
    writer: Any = (ipc.new_stream if kind == ARROW else arrow_csv.CSVWriter)(pyarrow.PythonFile(sink), batch.schema)
    with writer:
        writer.write_batch(batch)
    name = quote(f"{page.node}-{page.name}.{'arrow' if kind == ARROW else 'csv'}", safe="")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", CURSOR: str(page.cursor)}
    return Response(sink.getvalue(), media_type=kind, headers=headers)
