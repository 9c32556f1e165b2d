"""The HTTP API of data: nodes, their fields, samples, status and events."""

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Header, Query, Response

from sisock.consumer import Consumer, FieldInfo, Progress
from sisock.consumer.pieces import Wanted, advance, plan_requests
from sisock.downsample import method_named
from sisock.errors import SisockError, TimedOut, TooLarge
from sisock.fields import Batch, Samples
from sisock.times import Interval
from sisock.wamp.wire import batch_size
from sisock_hub.gateway.array_values import MOST_VALUES, ArrayLimit, ArrayMethod
from sisock_hub.gateway.encoding import (
    Tables,
    TableWriter,
    arrow_writer,
    csv_writer,
    data_content,
    field_content,
    json_bytes,
)
from sisock_hub.gateway.media import ARROW, CSV, JSON, Format, media_type
from sisock_hub.gateway.models import (
    DataAnswer,
    EventAnswer,
    FieldAnswer,
    NodeAnswer,
    SeveralAnswer,
)
from sisock_hub.gateway.query_client import QueryClient
from sisock_hub.gateway.questions import MOST_POINTS, MOST_TARGETS, Downsample, Question, by_node, interval
from sisock_hub.gateway.streaming import Streamed
from sisock_hub.gateway.table_budget import TableBudget
from sisock_hub.gateway.watch import Watch

_Start = Annotated[
    str, Query(max_length=64, description="UNIX seconds, minus seconds ago, a span before now (`-10m`), or ISO 8601.")
]
_End = Annotated[str, Query(max_length=64, description="As `start`; exclusive.")]
_MaxPoints = Annotated[
    int | None, Query(ge=2, le=MOST_POINTS, description="Most samples per timeline; more are downsampled.")
]
_MinStride = Annotated[float | None, Query(ge=1e-6, le=1e11, description="Minimum seconds between samples.")]
_MaxValues = Annotated[
    int | None,
    Query(ge=2, le=MOST_VALUES, description="Most values of arrays in each dimension, in JSON; more are reduced."),
]
_Reduce = Annotated[
    ArrayMethod,
    Query(description="How longer arrays are reduced: the maximum of each block of values, or minimum and maximum."),
]
_Fields = Annotated[list[str], Query(min_length=1, max_length=MOST_TARGETS, description="Names of fields.")]
_Targets = Annotated[list[str], Query(min_length=1, max_length=MOST_TARGETS, description="`node::field`, several.")]
_TABLES: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {}, ARROW: {}}}}

# Maximum bytes of a piece of a table, and seconds below which a piece may have more, since it might not contain a row.
_LARGEST_PIECE, _SHORTEST_S = 4 * 2**20, 1e-3
# Threads that write tables; each more keeps buffers of its own.
_WRITERS = 4


def api(consumer: Consumer, client: QueryClient, watch: Watch, budget: TableBudget) -> APIRouter:
    """Return the routes of data.

    Parameters
    ----------
    consumer : Consumer
        For the status of nodes.
    client : QueryClient
        For their fields and samples.
    watch : Watch
    budget : TableBudget
        Memory for the samples of tables that are being sent.
    """
    routes = APIRouter(tags=["data"])
    _add_nodes(routes, consumer, client, watch)
    _add_data(routes, client, budget)
    return routes


def _add_nodes(routes: APIRouter, consumer: Consumer, client: QueryClient, watch: Watch) -> None:
    """Add the routes of nodes, their fields, status and events."""

    @routes.get("/nodes")
    async def nodes() -> list[NodeAnswer]:
        """List the nodes, including those that have left since the gateway was started."""
        if isinstance(watch.trouble, TimedOut):  # the hub would not answer; after other errors it is queried again
            raise watch.trouble
        await watch.refresh()
        return [NodeAnswer.model_validate(each, from_attributes=True) for each in watch.nodes]

    @routes.get("/nodes/{node}/fields", response_model=dict[str, FieldAnswer])
    async def fields(node: str, start: _Start = "0.000001", end: _End = "now") -> Response:
        """List the fields of a node that have samples in an interval; by default those of all times."""
        found = await client.fields(node, interval(start, end))
        return _json({name: field_content(info) for name, info in found.items()})

    @routes.get("/nodes/{node}/status", response_model=dict[str, Any])
    async def status(node: str) -> Response:
        """Return the health and the counters that a node reports."""
        client.check()
        if reason := watch.unanswered(node):
            raise TimedOut(reason)
        return _json(await consumer.status(node))

    @routes.get("/events")
    async def events(start: _Start = "-1h", end: _End = "now") -> list[EventAnswer]:
        """List the events of nodes since the gateway was started: arrivals, departures, stale data."""
        asked = interval(start, end)
        return [
            EventAnswer.model_validate(event, from_attributes=True)
            for event in watch.events
            if asked.start <= event.t < asked.end
        ]


def _add_data(routes: APIRouter, client: QueryClient, budget: TableBudget) -> None:
    """Add the routes of samples."""
    threads = CapacityLimiter(_WRITERS)

    @routes.get("/nodes/{node}/data", response_model=DataAnswer, responses=_TABLES)
    async def data(
        node: str,
        field: _Fields,
        start: _Start = "-1h",
        end: _End = "now",
        min_stride: _MinStride = None,
        max_points: _MaxPoints = None,
        downsample: Downsample = "minmax",
        max_values: _MaxValues = None,
        reduce: _Reduce = "max",
        format: Format = None,
        accept: Annotated[str, Header(max_length=1000)] = JSON,
    ) -> Response:
        """Return samples of a node: JSON, CSV or an Arrow IPC stream, selected by ``format`` or ``Accept``.

        CSV and Arrow have fields of one timeline, and any length: they are sent in pieces. A field whose units changed
        in the interval has a column for each units, such as ``level [mm]`` and ``level [m]``. Arrays are fixed-size
        lists in Arrow; CSV has a column for each value, such as ``spectrum.0``.
        """
        question = Question(interval(start, end), min_stride, max_points, method_named(downsample))
        kind = media_type(format, accept)
        if kind == JSON:
            return _json(data_content(await client.data(node, field, question), _limit(max_values, reduce)))
        infos = await client.on_one_timeline(node, field, question.interval)
        tables = Tables(infos, question.interval.end, finite=kind == CSV, flat=kind == CSV)
        writer = (arrow_writer if kind == ARROW else csv_writer)(tables)
        stream = _written(writer, _parts(client, budget, node, infos, question), threads)
        # The first piece before the headers: an error of it still has its HTTP status.
        first = await anext(stream)
        name = quote(f"{node}-{infos[0].timeline}.{'arrow' if kind == ARROW else 'csv'}", safe="")
        headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return Streamed(_after(first, stream), media_type=kind, headers=headers)

    @routes.get("/data", response_model=SeveralAnswer)
    async def data_of_several(
        target: _Targets,
        start: _Start = "-1h",
        end: _End = "now",
        min_stride: _MinStride = None,
        max_points: _MaxPoints = None,
        downsample: Downsample = "minmax",
        max_values: _MaxValues = None,
        reduce: _Reduce = "max",
    ) -> Response:
        """Return samples of several nodes, which are queried at the same time; their errors are under ``errors``."""
        question = Question(interval(start, end), min_stride, max_points, method_named(downsample))
        found, failed = await client.answers(by_node(target), question)
        if failed and not found:
            raise next(iter(failed.values()))
        errors = {node: {"error": each.name, "message": each.message} for node, each in failed.items()}
        limit = _limit(max_values, reduce)
        return _json({"nodes": {node: data_content(each, limit) for node, each in found.items()}, "errors": errors})


def _limit(max_values: int | None, method: ArrayMethod) -> ArrayLimit | None:
    return None if max_values is None else ArrayLimit(max_values, method)


def _json(content: Any) -> Response:
    return Response(json_bytes(content), media_type=JSON)


async def _parts(
    client: QueryClient, budget: TableBudget, node: str, infos: list[FieldInfo], question: Question
) -> AsyncGenerator[Samples]:
    """Yield samples in pieces; the next is queried while the newest is written and sent."""
    names, timeline = [info.name for info in infos], infos[0].timeline
    with budget.account() as account:

        async def ask(part: Question, size: int, progress: Progress | None = None) -> Samples | SisockError | None:
            await account.reserve(size)
            try:
                answer = (await client.data(node, names, part, progress)).timelines.get(timeline)
            except SisockError as error:
                account.release(size)
                return error.with_traceback(None)  # its frames hold the bytes that were received
            account.release(size - _size(answer))
            return answer

        if question.max_points is not None:  # the node chooses the stride by the number of all samples
            row = 1 + sum(math.prod(info.shape) for info in infos)
            found = await ask(question, 8 * question.max_points * row)
            if isinstance(found, SisockError):
                raise found
            if found is not None:
                yield found
            return

        def ask_for(wanted: Wanted) -> Coroutine[Any, Any, Samples | SisockError | None]:
            is_long = wanted.end - wanted.start > max(_SHORTEST_S, 2.0 * (question.min_stride or 0.0))
            part = replace(question, interval=Interval(*wanted))
            return ask(part, _LARGEST_PIECE, _refuse_large if is_long else None)

        plan = plan_requests(question.interval, question.min_stride or 0.0, whole_bins=question.method != "first")
        step, ahead = advance(plan), None
        try:
            while step is not None:
                if isinstance(step, Wanted):
                    answer, ahead = await (ahead or ask_for(step)), None
                    if isinstance(answer, SisockError) and not isinstance(answer, TooLarge):
                        raise answer
                    step = advance(plan, answer)
                    continue
                samples, step = step.samples, advance(plan)
                ahead = asyncio.create_task(ask_for(step)) if isinstance(step, Wanted) else None
                if samples is not None:
                    yield samples
                    account.release(_size(samples))
        finally:
            if ahead is not None:
                ahead.cancel()


def _refuse_large(_received: int, total: int) -> None:
    """Refuse an answer that is too large for a piece, after its first chunk."""
    if total > _LARGEST_PIECE:
        times = 2.0 * total / _LARGEST_PIECE
        raise TooLarge(f"a piece of {total:,} bytes is too large for the gateway", times=times)


def _size(samples: Samples | None) -> int:
    """Return the bytes of samples in memory."""
    return 0 if samples is None else batch_size(Batch("", samples.t, samples.columns))


async def _written(
    writer: TableWriter, parts: AsyncGenerator[Samples], threads: CapacityLimiter
) -> AsyncGenerator[bytes]:
    async with aclosing(parts):
        async for samples in parts:
            written = writer.write(samples)
            while (part := await to_thread.run_sync(next, written, None, limiter=threads)) is not None:
                yield part
    yield await to_thread.run_sync(writer.close, limiter=threads)


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for each in rest:
            yield each
