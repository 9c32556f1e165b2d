"""Live data, changes of runs, and events over WebSocket and as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from sisock.errors import SisockError
from sisock.event import Severity
from sisock.procedure import explained
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.feeds import Feeds, Subscribe
from sisock_hub.gateway.live import MOST_FIELDS
from sisock_hub.gateway.questions import Downsample
from sisock_hub.gateway.streaming import Streamed

MOST_SUBSCRIPTIONS = 100
"""Most subscriptions of one WebSocket."""
# Seconds after which a comment is sent, so that a dead connection is noticed.
_PULSE_S = 15.0

_After = Annotated[int, Query(ge=0, le=2**53, description="Number of the last change that is known.")]
_Cursor = Annotated[int | None, Query(ge=0, le=2**53, description="The cursor of an answer with events.")]
_LastId = Annotated[int | None, Header(ge=0, le=2**53, description="That of the last message, for a reconnect.")]
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events, until the client disconnects"}
}


def live_routes(feeds: Feeds, stopping: asyncio.Event) -> APIRouter:
    """Return the routes of live data.

    Parameters
    ----------
    feeds : Feeds
    stopping : asyncio.Event
        Set when the gateway stops; streams of events end then.
    """
    routes = APIRouter(tags=["live"])

    @routes.websocket("/live")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await _Conversation(websocket, feeds).hold()

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
        return await _streamed(feeds.follow(wanted), stopping)

    @routes.get("/events/live", response_class=StreamingResponse, responses=_EVENTS)
    async def event_stream() -> StreamingResponse:
        """Follow what happens to nodes, as server-sent events."""
        return await _streamed(feeds.arrivals(), stopping)

    _add_work(routes, feeds, stopping)
    return routes


def _add_work(routes: APIRouter, feeds: Feeds, stopping: asyncio.Event) -> None:
    """Add the streams of runs and events."""

    @routes.get("/nodes/{node}/operations/{which}/live", response_class=StreamingResponse, responses=_EVENTS)
    async def changes(
        node: str,
        which: Annotated[str, Path(description="Id of a run.")],
        after: _After = 0,
        last_event_id: _LastId = None,
    ) -> Response:
        """Follow the changes of a run as server-sent events, until it ends; 204 for a reconnect after that."""
        if last_event_id is not None and await feeds.runs.is_over(node, which, last_event_id):
            return Response(status_code=204)  # a browser would connect again for ever
        wanted = Subscribe(op="subscribe", id="", node=node, operation=which, after=max(after, last_event_id or 0))
        return await _streamed(feeds.follow(wanted), stopping)

    @routes.get("/nodes/{node}/events/live", response_class=StreamingResponse, responses=_EVENTS)
    async def node_events(
        node: str,
        severity: Annotated[Severity, Query(description="This one or worse.")] = "debug",
        kind: Annotated[str, Query(max_length=1000)] = "*",
        subject: Annotated[str, Query(max_length=1000)] = "*",
        after: _Cursor = None,
        last_event_id: _LastId = None,
    ) -> StreamingResponse:
        """Follow the events of a node, as server-sent events."""
        wanted = Subscribe(
            op="subscribe",
            id="",
            node=node,
            events=True,
            severity=severity,
            kind=kind,
            subject=subject,
            after=after if last_event_id is None else last_event_id + 1,
        )
        return await _streamed(feeds.follow(wanted), stopping)


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
                try:
                    message, pending = pending.result(), None
                except StopAsyncIteration:  # the run has ended
                    return
                if message is not None:
                    number = b"id: %d\n" % message["seq"] if "seq" in message else b""
                    yield number + b"data: " + json_bytes(message) + b"\n\n"
            elif not over.done():
                yield b": still here\n\n"
    finally:
        over.cancel()
        if pending is not None:
            pending.cancel()
            await asyncio.wait([pending])
        await messages.aclose()


def _id_in(text: str) -> Any:
    """Return the id of an invalid message, if it has one."""
    try:
        message = orjson.loads(text)
    except ValueError:
        return None
    return message.get("id") if isinstance(message, dict) else None


class _Conversation:
    """The subscriptions of one WebSocket."""

    def __init__(self, websocket: WebSocket, feeds: Feeds) -> None:
        self._websocket, self._feeds = websocket, feeds
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
        messages = self._feeds.follow(request)
        try:
            async with aclosing(messages):
                async for message in messages:
                    content = {"subscribed": True} if message is None else message
                    await self._send({**content, "id": request.id})
            if self._tasks.get(request.id) is asyncio.current_task():  # the run has ended
                del self._tasks[request.id]
        except SisockError as error:
            self._tasks.pop(request.id, None)
            await self._send({"id": request.id, "error": error.name, "message": error.message})
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client has left, which ends the receiving loop

    async def _send(self, content: dict[str, Any]) -> None:
        async with self._sending:  # a slow client delays itself only: samples wait in its queues
            await self._websocket.send_text(json_bytes(content).decode())
