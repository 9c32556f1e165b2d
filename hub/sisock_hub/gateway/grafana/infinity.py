"""Routes for Grafana's Infinity data source: columns of samples, fields, nodes and marks, as JSON and CSV.

References
----------
https://grafana.com/docs/plugins/yesoreyeram-infinity-datasource/latest/
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from sisock.consumer import FieldInfo
from sisock.downsample import method_named
from sisock.fields import FieldType
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana.annotations import Annotations
from sisock_hub.gateway.grafana.catalogue import Target, resolve
from sisock_hub.gateway.grafana.health import NodeRow, node_row
from sisock_hub.gateway.grafana.json_source import mark_content
from sisock_hub.gateway.grafana.listing import MOST, matching
from sisock_hub.gateway.grafana.ranges import MOST_POINTS, check_size, interval, question
from sisock_hub.gateway.grafana.series import Series, no_such, series_of
from sisock_hub.gateway.grafana.wide import Times, Wide
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.questions import MOST_TARGETS, Downsample
from sisock_hub.gateway.watch import State, Watch

_From = Annotated[
    str, Query(alias="from", max_length=64, description="Milliseconds since 1970, ISO 8601, or `now-6h`.")
]
_To = Annotated[str, Query(alias="to", max_length=64, description="As `from`; exclusive.")]
_Targets = Annotated[
    list[str],
    Query(min_length=1, max_length=MOST_TARGETS, description="`node::field`, or a pattern of it; several."),
]
_MaxPoints = Annotated[
    int | None, Query(ge=2, le=MOST_POINTS, description="Most samples of each target; more are downsampled.")
]
_IntervalMs = Annotated[
    float | None, Query(ge=0, le=1e14, allow_inf_nan=False, description="Minimum milliseconds between samples.")
]


class FieldRow(BaseModel):
    """A field with its target."""

    target: str
    node: str
    field: str
    type: FieldType
    units: str | None
    description: str | None
    timeline: str


class MarkRow(BaseModel):
    """An annotation."""

    time: Annotated[int, Field(description="Milliseconds since 1970.")]
    timeEnd: int | None = None  # noqa: N815 - Grafana's name
    isRegion: bool = False  # noqa: N815
    title: str
    text: str
    tags: list[str]


def infinity(directory: FieldDirectory, client: QueryClient, annotations: Annotations, watch: Watch) -> APIRouter:
    """Return the routes below ``/grafana/v1``."""
    routes = APIRouter(prefix="/v1", tags=["grafana"])

    @routes.get(
        "/data", response_class=Response, responses={200: {"content": {"application/json": {}, "text/csv": {}}}}
    )
    async def data(
        target: _Targets,
        start: _From = "now-1h",
        end: _To = "now",
        max_points: _MaxPoints = None,
        interval_ms: _IntervalMs = None,
        downsample: Downsample = "minmax",
        times: Annotated[Times, Query(alias="time", description="Format of times.")] = "ms",
        form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    ) -> Response:
        """Return samples as columns: `time`, then one for each target, or for each of its units; as JSON or CSV.

        There is a row for each time at which one of the targets has a value. Errors are in the header
        `X-Sisock-Notice`, as long as something was found.
        """
        asks = question(interval(start, end), max_points, interval_ms, method_named(downsample))
        meant = await resolve(directory, target)
        targets = list(dict.fromkeys(each for one in meant for each in one.targets))
        notices = [text for one in meant for text in one.notices]
        if not targets:
            raise no_such(target)
        check_size(len(targets), max_points)
        found = await series_of(client, {asks: targets})
        series = [part for each in targets for part in found[asks, each]]
        notices += [each.error for each in series if each.error]
        body = await run_in_threadpool(_written, series, form, times)
        kind = "application/json" if form == "json" else "text/csv; charset=utf-8"
        return Response(body, media_type=kind, headers=_headers(notices))

    _add_lists(routes, directory, annotations, watch)
    return routes


def _add_lists(routes: APIRouter, directory: FieldDirectory, annotations: Annotations, watch: Watch) -> None:
    """Add the routes of fields, nodes and annotations."""

    @routes.get("/fields")
    async def fields(
        response: Response,
        target: Annotated[str, Query(max_length=2000, description="A pattern, or a part of a name.")] = "*",
        kind: Annotated[FieldType | None, Query(alias="type")] = None,
    ) -> list[FieldRow]:
        """List the fields of all nodes, for variables."""
        known, notices = await directory.fields()
        response.headers.update(_headers(notices))
        rows = []
        for each in matching(known, target):
            info = known[each.node][each.field]
            if kind in (None, info.type):
                rows.append(_field_row(each, info))
        return rows[:MOST]

    @routes.get("/nodes")
    async def nodes(
        state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    ) -> list[NodeRow]:
        """List the nodes and their states, including those that have left."""
        await watch.refresh()
        return [node_row(node) for node in watch.nodes if state in (None, node.state)]

    @routes.get("/annotations")
    async def marks(
        query: Annotated[str, Query(max_length=20_000, description="`gaps node::field`, `alarms …`, `events`.")] = "",
        start: _From = "now-1h",
        end: _To = "now",
    ) -> list[MarkRow]:
        """List annotations: gaps, alarms, and events of nodes."""
        found = await annotations.find(query, interval(start, end))
        return [MarkRow.model_validate(mark_content(mark)) for mark in found]


def _field_row(target: Target, info: FieldInfo) -> FieldRow:
    return FieldRow(
        target=str(target),
        node=target.node,
        field=target.field,
        type=info.type,
        units=info.units,
        description=info.description,
        timeline=info.timeline,
    )


def _written(series: list[Series], form: str, times: Times) -> bytes:
    wide = Wide(series)
    return wide.json(times) if form == "json" else wide.csv(times)


def _headers(notices: list[str]) -> dict[str, str]:
    """Return the notices as a header; JSON and CSV have no place for them beside the columns."""
    line = "".join(c if c.isprintable() else " " for c in "; ".join(dict.fromkeys(notices)))
    text = " ".join(line.split()).encode("ascii", "backslashreplace").decode()
    return {"X-Sisock-Notice": text[:2000]} if text else {}
