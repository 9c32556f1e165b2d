"""Routes for two retired data sources of Grafana: JSON (simpod-json-datasource 0.6) and the older SimpleJson.

References
----------
https://github.com/simPod/GrafanaJsonDatasource, https://github.com/grafana/simple-json-datasource
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from sisock.downsample import METHODS, Method, method_named
from sisock.errors import BadRequest
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.grafana import frames, listing
from sisock_hub.gateway.grafana.annotations import Annotations, Mark, is_annotation
from sisock_hub.gateway.grafana.bodies import (
    AnnotationBody,
    Filter,
    MetricsBody,
    OptionsBody,
    QueryBody,
    QueryTarget,
    SearchBody,
    TagBody,
    VariableBody,
)
from sisock_hub.gateway.grafana.catalogue import KEYS, Meant, Target, resolve
from sisock_hub.gateway.grafana.ranges import check_size, interval, question
from sisock_hub.gateway.grafana.series import Series, no_such, series_of
from sisock_hub.gateway.promql.matching import Matcher
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.questions import Question

Format = Literal["frames", "timeserie", "table"]
"""Data frames; `[value, ms]` for each target; one table."""
_FORMATS: Mapping[str, Format] = {
    "": "frames",
    "frames": "frames",
    "timeserie": "timeserie",
    "timeseries": "timeserie",
    "table": "table",
}
_PAYLOADS: Sequence[Mapping[str, str]] = [
    {"name": "downsample", "label": "Downsampled by", "type": "select", "placeholder": "minmax"},
    {"name": "format", "label": "Format", "type": "select", "placeholder": "frames"},
]
_OPTIONS: Mapping[str, Sequence[str]] = {"downsample": tuple(METHODS), "format": get_args(Format)}


def json_source(directory: FieldDirectory, client: QueryClient, annotations: Annotations) -> APIRouter:
    """Return the routes below ``/grafana/json``."""
    routes = APIRouter(prefix="/json", tags=["grafana"])
    queries = _Queries(directory, client, annotations)

    @routes.get("", include_in_schema=False)
    @routes.get("/")
    async def check() -> dict[str, str]:
        """Return whether nodes can be queried; for the test of the data source's settings."""
        client.check()
        return {"status": "ok"}

    @routes.post("/query")
    async def query(body: QueryBody) -> Response:
        """Return the samples of a panel's queries.

        As data frames, or in the format of a query's `type` or its payload's `format`: `timeserie`, `table`. A target
        is `node::field`, a pattern of it, or an annotation query.
        """
        return await _json(await queries.answer(body))

    @routes.post("/metrics")
    async def metrics(_body: MetricsBody | None = None) -> Response:
        """List the available targets and the options of their queries."""
        found = await listing.names(directory, "*")
        return await _json([{"label": name, "value": name, "payloads": _PAYLOADS} for name in found])

    @routes.post("/metric-payload-options")
    async def options(body: OptionsBody) -> list[dict[str, str]]:
        """List the options of a part of a payload."""
        if body.name not in _OPTIONS:
            raise BadRequest(f"a payload has no {body.name[:100]!r}; it has {', '.join(_OPTIONS)}")
        return [{"label": each, "value": each} for each in _OPTIONS[body.name]]

    @routes.post("/search")
    async def search(body: SearchBody) -> list[str]:
        """List names: of targets, `nodes`, or `fields node`; see the manual."""
        return await listing.names(directory, _text(body.target))

    @routes.post("/variable")
    async def variable(body: VariableBody) -> list[dict[str, str]]:
        """List names as values of a variable."""
        query = body.payload.get("target", "") if isinstance(body.payload, dict) else body.payload
        if query is not None and not isinstance(query, str | int | float):
            raise BadRequest('a variable\'s query is a text, or an object such as {"target": "nodes"}')
        return [{"__text": name, "__value": name} for name in await listing.names(directory, _text(query))]

    _add_annotations(routes, directory, annotations)
    return routes


def _add_annotations(routes: APIRouter, directory: FieldDirectory, annotations: Annotations) -> None:
    """Add the routes of annotations and ad hoc filters."""

    @routes.post("/annotations")
    async def annotate(body: AnnotationBody) -> list[dict[str, Any]]:
        """Return the annotations of a dashboard: gaps, alarms, or events of nodes."""
        marks = await annotations.find(body.annotation.query or "", interval(body.range.start, body.range.end))
        annotation = body.annotation.model_dump()
        return [{"annotation": annotation, **mark_content(mark)} for mark in marks]

    @routes.post("/tag-keys")
    async def tag_keys() -> list[dict[str, str]]:
        """List the keys by which fields can be filtered."""
        return [{"type": "string", "text": key} for key in KEYS]

    @routes.post("/tag-values")
    async def tag_values(body: TagBody) -> list[dict[str, str]]:
        """List the values of a key by which fields can be filtered."""
        return [{"text": value} for value in await listing.values(directory, body.key)]


def mark_content(mark: Mark) -> dict[str, Any]:
    """Return a mark in the format of Grafana."""
    content: dict[str, Any] = {"time": round(mark.t * 1000.0), "title": mark.title, "text": mark.text}
    content["tags"] = list(mark.tags)
    if mark.end is not None:
        content |= {"timeEnd": round(mark.end * 1000.0), "isRegion": True}
    return content


class _Queries:
    """Answers the queries of a panel."""

    def __init__(self, directory: FieldDirectory, client: QueryClient, annotations: Annotations) -> None:
        self._directory, self._client, self._annotations = directory, client, annotations

    async def answer(self, body: QueryBody) -> list[dict[str, Any]]:
        asked = interval(body.range.start, body.range.end)
        shown = [each for each in body.targets if not each.hide and each.target not in (None, "")]
        marked: list[QueryTarget] = []
        drawn: list[QueryTarget] = []
        for each in shown:
            (marked if is_annotation(_text(each.target)) else drawn).append(each)
        meant = await resolve(self._directory, [_text(each.target) for each in drawn], _matchers(body.filters or []))
        check_size(sum(len(each.targets) for each in meant), body.max_points)
        questions = [question(asked, body.max_points, body.interval_ms, _method(each)) for each in drawn]
        series = await self._series(meant, questions)
        answers: list[dict[str, Any]] = []
        for query, one, asks in zip(drawn, meant, questions, strict=True):
            answers += _written(query, [part for target in one.targets for part in series[asks, target]], _notices(one))
        for query in marked:
            answers.append(_marks(query.ref_id, await self._annotations.find(_text(query.target), asked)))
        return answers

    async def _series(
        self, meant: Sequence[Meant], questions: Sequence[Question]
    ) -> Mapping[tuple[Question, Target], Sequence[Series]]:
        if meant and not any(each.targets or each.filtered or each.notices for each in meant):
            raise no_such([each.text for each in meant])
        asked: dict[Question, dict[Target, None]] = {}
        for one, asks in zip(meant, questions, strict=True):
            asked.setdefault(asks, {}).update(dict.fromkeys(one.targets))
        return await series_of(self._client, asked)


def _written(query: QueryTarget, series: Sequence[Series], notices: Sequence[str]) -> list[dict[str, Any]]:
    match _format(query):
        case "timeserie":
            return frames.time_series(query.ref_id, series, notices)
        case "table":
            return [frames.table(query.ref_id, series, notices)]
    return frames.frames(query.ref_id, series, notices)


def _notices(meant: Meant) -> list[str]:
    if meant.targets or meant.filtered:
        return meant.notices
    return [*meant.notices, no_such([meant.text]).message]


def _marks(ref_id: str | None, marks: Sequence[Mark]) -> dict[str, Any]:
    """Return marks as a data frame, which newer data sources take for annotations."""
    starts = np.array([mark.t for mark in marks], np.float64)
    ends = [None if mark.end is None else round(mark.end * 1000.0) for mark in marks]
    columns: dict[str, tuple[str, Any]] = {
        "time": ("time", frames.milliseconds(starts)),
        "timeEnd": ("time", ends),
        "title": ("string", [mark.title for mark in marks]),
        "text": ("string", [mark.text for mark in marks]),
        "tags": ("other", [list(mark.tags) for mark in marks]),
    }
    fields = [{"name": name, "type": kind, "config": {}} for name, (kind, _) in columns.items()]
    return {
        "schema": {"refId": ref_id, "name": "annotations", "fields": fields},
        "data": {"values": [values for _, values in columns.values()]},
    }


def _payload(query: QueryTarget) -> Mapping[str, Any]:
    return query.payload if isinstance(query.payload, dict) else {}


def _method(query: QueryTarget) -> Method:
    return method_named(str(_payload(query).get("downsample") or "minmax"))


def _format(query: QueryTarget) -> Format:
    name = str(_payload(query).get("format") or query.type or "")
    if name not in _FORMATS:
        raise BadRequest(f"format {name[:100]!r} is not one of {', '.join(_OPTIONS['format'])}")
    return _FORMATS[name]


def _matchers(filters: Sequence[Filter]) -> list[Matcher]:
    for each in filters:
        if each.key not in KEYS:
            raise BadRequest(f"fields cannot be filtered by {each.key[:100]!r}, but by {', '.join(KEYS)}")
    return [Matcher(each.key, each.operator, _text(each.value)) for each in filters]


def _text(value: str | float | None) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


async def _json(content: Any) -> Response:
    return Response(await run_in_threadpool(json_bytes, content), media_type="application/json")
