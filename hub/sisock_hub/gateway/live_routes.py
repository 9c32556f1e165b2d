"""Live data over WebSocket and as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal, Self

import orjson
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sisock.control import explained
from sisock.downsample import method_named
from sisock.errors import BadRequest, SisockError
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.live import MOST_FIELDS, Live, Update
from sisock_hub.gateway.questions import Downsample
from sisock_hub.gateway.streaming import Streamed
from sisock_hub.gateway.watch import Event, Watch

MOST_SUBSCRIPTIONS = 100
"""Most subscriptions of one WebSocket."""
# Seconds after which a comment is sent, so that a dead connection is noticed.
_PULSE_S = 15.0

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events, until the client disconnects"}
}


class Subscribe(BaseModel):
    """A message of a client of the WebSocket."""

    model_config = ConfigDict(extra="forbid")

    op: Literal["subscribe", "unsubscribe"]
    id: str = Field(max_length=100)
    """The client's own name for the subscription."""
    node: str | None = Field(None, max_length=200)
    """The node; None for events of all nodes."""
    fields: list[str] = Field(default_factory=list, max_length=MOST_FIELDS)
    """Fields of one timeline."""
    every: float = Field(0.1, ge=0.02, le=3600.0)
    """Minimum seconds between messages."""
    max_points: int | None = Field(None, ge=2, le=100_000)
    """Most samples of a message; more are downsampled."""
    downsample: str = "minmax"
    """Downsampling method."""

    @model_validator(mode="after")
    def _of_a_node(self) -> Self:
        if self.fields and self.node is None:
            raise ValueError("fields are given, but no node")
        return self


def live_routes(live: Live, watch: Watch, stopping: asyncio.Event) -> APIRouter:
    """Return the routes of live data.

    Parameters
    ----------
    live : Live
    watch : Watch
    stopping : asyncio.Event
        Set when the gateway stops; streams of events end then.
    """
    routes = APIRouter(tags=["live"])

    @routes.websocket("/live")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await _Conversation(websocket, live, watch).hold()

    @routes.get("/nodes/{node}/live", response_class=StreamingResponse, responses=_EVENTS)
    async def stream(
        node: str,
        field: Annotated[list[str], Query(min_length=1, max_length=MOST_FIELDS)],
        every: Annotated[float, Query(ge=0.02, le=3600.0)] = 0.1,
        max_points: Annotated[int | None, Query(ge=2, le=100_000)] = None,
        downsample: Downsample = "minmax",
    ) -> StreamingResponse:
        """Follow some fields of a node that are on one timeline, as server-sent events."""
        wanted = Subscribe(
            op="subscribe", id="", node=node, fields=field, every=every, max_points=max_points, downsample=downsample
        )
        return await _streamed(_updates(live, wanted), stopping)

    @routes.get("/events/live", response_class=StreamingResponse, responses=_EVENTS)
    async def event_stream() -> StreamingResponse:
        """Follow what happens to nodes, as server-sent events."""
        return await _streamed(_node_events(watch), stopping)

    return routes


# Neither a proxy nor a cache is to hold events back.
_UNTOUCHED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def _streamed(messages: AsyncGenerator[dict[str, Any] | None], stopping: asyncio.Event) -> StreamingResponse:
    """Return messages as server-sent events; an invalid subscription is an error of the request."""
    await anext(messages)  # raises if there is no subscription
    return Streamed(_sent(messages, stopping), media_type="text/event-stream", headers=_UNTOUCHED)


async def _sent(messages: AsyncGenerator[dict[str, Any] | None], stopping: asyncio.Event) -> AsyncGenerator[bytes]:
    pending: asyncio.Task[Any] | None = None
    over = asyncio.ensure_future(stopping.wait())
    try:
        while not over.done():
            pending = pending or asyncio.ensure_future(anext(messages))
            await asyncio.wait([pending, over], timeout=_PULSE_S, return_when=asyncio.FIRST_COMPLETED)
            if pending.done():
                message, pending = pending.result(), None
                if message is not None:
                    yield b"data: " + json_bytes(message) + b"\n\n"
            elif not over.done():
                yield b": still here\n\n"
    finally:
        over.cancel()
        if pending is not None:
            pending.cancel()
            await asyncio.wait([pending])
        await messages.aclose()


async def _updates(live: Live, wanted: Subscribe) -> AsyncGenerator[dict[str, Any] | None]:
    """Yield None once the subscription exists, then its updates."""
    if wanted.node is None or not wanted.fields:
        raise BadRequest("node and fields are missing; give those to follow")
    method = method_named(wanted.downsample)
    async with live.reading(
        wanted.node, wanted.fields, every_s=wanted.every, max_points=wanted.max_points, method=method
    ) as reader:
        yield None
        async for update in reader.updates():
            yield _message_of(update)


async def _node_events(watch: Watch) -> AsyncGenerator[dict[str, Any] | None]:
    async with watch.following() as queue:
        yield None
        while True:
            yield _event(await queue.get())


def _message_of(update: Update) -> dict[str, Any]:
    return {
        "timeline": update.timeline,
        "t": update.t,
        "data": update.columns,
        "finalized_until": update.finalized_until,
        "missed": update.missed,
        "lost": update.lost,
        "gaps": update.gaps,
        "reset": update.reset,
        "units": update.units,
    }


def _event(event: Event) -> dict[str, Any]:
    return {"t": event.t, "node": event.node, "kind": event.kind, "text": event.text}


def _id_in(text: str) -> Any:
    """Return the id of an invalid message, if it has one."""
    try:
        message = orjson.loads(text)
    except ValueError:
        return None
    return message.get("id") if isinstance(message, dict) else None


class _Conversation:
    """The subscriptions of one WebSocket."""

    def __init__(self, websocket: WebSocket, live: Live, watch: Watch) -> None:
        self._websocket, self._live, self._watch = websocket, live, watch
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def hold(self) -> None:
        """Serve until the client leaves."""
        try:
            while True:
                await self._received(await self._websocket.receive_text())
        except WebSocketDisconnect:
            pass  # the client has left
        except KeyError:  # bytes came where text was expected
            await self._websocket.close(1003, "send messages as text")
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _received(self, text: str) -> None:
        try:
            request = Subscribe.model_validate_json(text)
        except ValidationError as error:
            await self._send({"id": _id_in(text), "error": "bad_request", "message": "; ".join(explained(error))})
            return
        if (task := self._tasks.pop(request.id, None)) is not None:
            task.cancel()
        if request.op == "unsubscribe":
            return
        if len(self._tasks) >= MOST_SUBSCRIPTIONS:
            message = f"there are {MOST_SUBSCRIPTIONS} subscriptions; end one first"
            await self._send({"id": request.id, "error": "bad_request", "message": message})
            return
        self._tasks[request.id] = asyncio.create_task(self._follow(request))

    async def _follow(self, request: Subscribe) -> None:
        messages = _node_events(self._watch) if request.node is None else _updates(self._live, request)
        try:
            async with aclosing(messages):
                async for message in messages:
                    content = {"subscribed": True} if message is None else message
                    await self._send({"id": request.id, **content})
        except SisockError as error:
            self._tasks.pop(request.id, None)
            await self._send({"id": request.id, "error": error.name, "message": error.message})
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client has left, which ends the receiving loop

    async def _send(self, content: dict[str, Any]) -> None:
        async with self._sending:  # a slow client delays itself only: samples wait in its queues
            await self._websocket.send_text(json_bytes(content).decode())
