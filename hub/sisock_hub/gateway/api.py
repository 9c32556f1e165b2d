"""The HTTP API: nodes, fields, samples, status, events, and what nodes can be told to do."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from sisock.consumer import Consumer, FieldInfo
from sisock.consumer.pieces import pieces
from sisock.errors import BadRequest, NotAllowed
from sisock.fields import Samples
from sisock.times import Interval
from sisock_hub.gateway.asking import Asking
from sisock_hub.gateway.encoding import Tables, arrow_stream, csv_stream, data_content, field_content, json_bytes
from sisock_hub.gateway.models import (
    DataAnswer,
    EventAnswer,
    FieldAnswer,
    NodeAnswer,
    ProcedureAnswer,
    SeveralAnswer,
)
from sisock_hub.gateway.questions import MOST_POINTS, MOST_TARGETS, Question, by_node, interval, method
from sisock_hub.gateway.watch import Watch

ARROW, CSV, JSON = "application/vnd.apache.arrow.stream", "text/csv", "application/json"

_Start = Annotated[
    str, Query(max_length=64, description="UNIX seconds, minus seconds ago, a span ago (`-10m`), or ISO 8601.")
]
_End = Annotated[str, Query(max_length=64, description="As `start`; exclusive.")]
_MaxPoints = Annotated[
    int | None, Query(ge=2, le=MOST_POINTS, description="Most samples per timeline; more are thinned out.")
]
_MinStride = Annotated[float | None, Query(ge=0, le=1e11, description="Least seconds between samples.")]
_Downsample = Annotated[
    str, Query(max_length=10, description="How to thin out: first, mean, min, max, minmax (loses no spike), lttb.")
]
_Fields = Annotated[list[str], Query(min_length=1, max_length=MOST_TARGETS, description="Names of fields.")]
_Targets = Annotated[list[str], Query(min_length=1, max_length=MOST_TARGETS, description="`node::field`, several.")]
_TABLES: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {}, ARROW: {}}}}


def api(consumer: Consumer, asking: Asking, operator: Consumer | None, watch: Watch) -> APIRouter:
    """Return the routes of the API.

    Parameters
    ----------
    consumer : Consumer
        Who asks.
    asking : Asking
    operator : Consumer or None
        Who has nodes do something; None where nobody may.
    watch : Watch
    """
    routes = APIRouter(tags=["data"])

    @routes.get("/nodes")
    async def nodes() -> list[NodeAnswer]:
        """List the nodes, those included that have gone since the gateway was started."""
        await watch.refresh()
        return [NodeAnswer.model_validate(each, from_attributes=True) for each in watch.nodes]

    @routes.get("/nodes/{node}/fields", response_model=dict[str, FieldAnswer])
    async def fields(node: str, start: _Start = "0.000001", end: _End = "now") -> Response:
        """List the fields of a node that have samples in an interval, by default of all times."""
        asking.check()
        found = await consumer.fields(node, *interval(start, end))
        return _json({name: field_content(info) for name, info in found.items()})

    @routes.get("/nodes/{node}/status")
    async def status(node: str) -> dict[str, Any]:
        """Return the health and the counters of a node, as it tells them."""
        asking.check()
        return await consumer.status(node)

    @routes.get("/nodes/{node}/data", response_model=DataAnswer, responses=_TABLES)
    async def data(
        node: str,
        field: _Fields,
        start: _Start = "-1h",
        end: _End = "now",
        min_stride: _MinStride = None,
        max_points: _MaxPoints = None,
        downsample: _Downsample = "minmax",
        accept: Annotated[str, Header(max_length=1000)] = JSON,
    ) -> Response:
        """Return samples of a node: JSON, CSV or an Arrow IPC stream, as ``Accept`` says.

        CSV and Arrow are of fields on one timeline, and of any length: they come in pieces.
        """
        question = Question(interval(start, end), min_stride, max_points, method(downsample))
        kind = _accepted(accept)
        if kind == JSON:
            return _json(data_content(await asking.data(node, field, question)))
        infos = await asking.on_one_timeline(node, field)
        stream = (arrow_stream if kind == ARROW else csv_stream)(Tables(infos), _parts(asking, node, infos, question))
        # The first piece before the headers: what is wrong is then still told as an error.
        first = await run_in_threadpool(next, stream)
        return StreamingResponse(iterate_in_threadpool(_after(first, stream)), media_type=kind)

    @routes.get("/data", response_model=SeveralAnswer)
    async def data_of_several(
        target: _Targets,
        start: _Start = "-1h",
        end: _End = "now",
        min_stride: _MinStride = None,
        max_points: _MaxPoints = None,
        downsample: _Downsample = "minmax",
    ) -> Response:
        """Return samples of several nodes, which are asked at the same time; what failed is under ``errors``."""
        question = Question(interval(start, end), min_stride, max_points, method(downsample))
        found, troubles = await asking.answers(by_node(target), question)
        if troubles and not found:
            raise next(iter(troubles.values()))
        errors = {node: {"error": each.name, "message": each.message} for node, each in troubles.items()}
        return _json({"nodes": {node: data_content(each) for node, each in found.items()}, "errors": errors})

    @routes.get("/events")
    async def events(start: _Start = "-1h", end: _End = "now") -> list[EventAnswer]:
        """List what happened to nodes: arrivals, departures, silences; as far as the gateway was there to see it."""
        asked = interval(start, end)
        return [
            EventAnswer.model_validate(event, from_attributes=True)
            for event in watch.events
            if asked.start <= event.t < asked.end
        ]

    @routes.get("/nodes/{node}/procedures")
    async def procedures(node: str) -> list[ProcedureAnswer]:
        """List what a node can be told to do."""
        asking.check()
        return [ProcedureAnswer.model_validate(each) for each in await consumer.procedures(node)]

    @routes.post("/nodes/{node}/procedures/{procedure}", response_model=Any)
    async def call(
        node: str, procedure: str, request: Request, arguments: Annotated[dict[str, Any], Body()]
    ) -> Response:
        """Have a node do something, with arguments as its description says; for operators."""
        if operator is None:
            raise NotAllowed("the gateway may only ask; add `operator: true` below `gateway:` in the site file")
        if not request.scope["visitor"].operator:
            raise NotAllowed("you may only ask; log in as a user who is an operator")
        asking.check()
        return _json(await operator.call(node, procedure, **arguments))

    return routes


def _json(content: Any) -> Response:
    return Response(json_bytes(content), media_type=JSON)


def _accepted(accept: str) -> str:
    """Return the kind of answer that is asked for, the first that is known."""
    for each in accept.split(","):
        kind = each.partition(";")[0].strip().lower()
        if kind in (ARROW, CSV, JSON):
            return kind
        if kind in ("*/*", "application/*"):
            return JSON
    raise BadRequest(f"nothing of {accept!r} can be given; accept one of {JSON}, {CSV}, {ARROW}")


def _parts(asking: Asking, node: str, infos: list[FieldInfo], question: Question) -> Iterator[Samples]:
    """Yield samples as much at once as the node allows; for a thread other than the event loop's."""
    loop, names, timeline = asyncio.get_running_loop(), [info.name for info in infos], infos[0].timeline

    def ask_between(start: float, end: float) -> Samples | None:
        part = Question(Interval(start, end), question.min_stride, question.max_points, question.method)
        asked = asyncio.run_coroutine_threadsafe(asking.data(node, names, part), loop)
        return asked.result().timelines.get(timeline)

    def parts() -> Iterator[Samples]:
        if question.max_points is not None:  # the node chooses how far by all that it has
            found = iter([(ask_between(*question.interval), 0.0)])
        else:
            found = pieces(
                ask_between, question.interval, question.min_stride or 0.0, whole_bins=question.method != "first"
            )
        yield from (samples for samples, _ in found if samples is not None)

    return parts()


def _after(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
