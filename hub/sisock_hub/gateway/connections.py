"""Bounds of the HTTP server: number of connections, duration of requests, and bytes that clients have not read."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.site import GatewaySettings
from sisock.times import Clock
from sisock_hub.gateway.table_budget import TableBudget

log = logging.getLogger(__name__)

MOST_HEADER_BYTES = 64 * 1024
"""Most bytes of a request line with its headers, of trailers, and of pipelined requests that wait."""
_MOST_FRAGMENTS = 100  # of one message of a WebSocket
# Seconds between checks of the connections, and without any cut after which their outage has ended.
_LOOK_S, _CALM_S = 0.5, 30.0
# Seconds after which a client that reads nothing is cut where tables wait for memory.
_STALLED_S = 5.0

_Address = tuple[str, int]


class Connections:
    """Connections of the HTTP server, bounded in number, in time and in bytes that clients have not read.

    When a bound on the number is reached, the connection that has been idle longest is cut for the new one, preferably
    one of the same address.

    Parameters
    ----------
    settings : GatewaySettings
    clock : Clock
    """

    def __init__(self, settings: GatewaySettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._open: dict[_Address, _Connection] = {}
        self.table_budget = TableBudget(settings.unsent_bytes // 4)
        """Memory for the samples of tables that are being sent: a quarter of what all clients may leave unread."""
        self._calm_from: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.outages = OutageLog(clock, log)
        self.counters = Counters("refused", "idle_cut", "requests_timed_out", "headers_refused", "unread_cut")

    def protocols(self) -> Mapping[str, Any]:
        """Return the protocols for uvicorn's configuration."""
        return {
            "http": partial(_Http, self),
            "ws": partial(_WebSocket, self),
            "h11_max_incomplete_event_size": MOST_HEADER_BYTES,
        }

    @property
    def request_timeout_s(self) -> float:
        """Seconds within which a request must be complete."""
        return self._settings.request_timeout

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unsent(self) -> int:
        """Bytes of answers that clients have not read."""
        return sum(each.unsent for each in self._open.values())

    async def __aenter__(self) -> Self:
        """Start checking the connections."""
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def admit(self, protocol: "_Http | _WebSocket") -> bool:
        """Register a connection, or the next protocol of an open one; return False if a bound is reached."""
        transport, address = protocol.transport, protocol.client
        if address is None:
            return False
        if (known := self._open.get(address)) is not None:
            known.protocol = protocol
            return True
        same = [each for each in self._open.values() if each.address[0] == address[0]]
        for bound, rivals in (
            (self._settings.connections_per_address, same),
            (self._settings.connections, list(self._open.values())),
        ):
            if len(rivals) >= bound and not self._make_room(rivals):
                self.cut_short("refused", f"{len(rivals)} connections are in use; one from {address[0]} was refused")
                return False
        self._open[address] = _Connection(address, protocol, transport, self._clock.now())
        return True

    def left(self, protocol: "_Http | _WebSocket") -> None:
        """Forget a connection that was closed."""
        if protocol.client is not None:
            self._open.pop(protocol.client, None)

    @contextmanager
    def holding(self, address: _Address | None, size: int) -> Iterator[None]:
        """Count bytes as unsent while they wait to be written to a connection."""
        connection = self._open.get(address) if address is not None else None
        if connection is None or not size:
            yield
            return
        connection.held += size
        connection.behind_since = connection.behind_since or self._clock.now()
        self.bound_unsent()
        try:
            yield
            connection.sent += size
        finally:
            connection.held -= size

    def bound_unsent(self) -> None:
        """Cut the connections that have been behind longest until all unread bytes are within their bound."""
        total = self.unsent + self.table_budget.held
        if total <= self._settings.unsent_bytes:
            return
        behind = [each for each in self._open.values() if each.unsent]
        for slowest in sorted(behind, key=lambda each: (each.behind_since, -each.unsent)):
            if total <= self._settings.unsent_bytes:
                return
            total -= slowest.unsent
            self._cut_unread(slowest, f"{self._settings.unsent_bytes:,} bytes wait for all readers together")

    def _make_room(self, rivals: "list[_Connection]") -> bool:
        idle = [each for each in rivals if each.is_idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda each: each.since)
        self.cut_short("idle_cut", f"{len(rivals)} connections are open; idle ones are cut for new ones")
        self._cut(oldest)
        return True

    def _cut_unread(self, connection: "_Connection", why: str) -> None:
        unread = f"{connection.address[0]}, which did not read {connection.unsent:,} bytes, was cut"
        self.cut_short("unread_cut", f"{why}; {unread}")
        self._cut(connection)

    def _cut(self, connection: "_Connection") -> None:
        self._open.pop(connection.address, None)
        connection.transport.abort()

    def cut_short(self, name: str, why: str) -> None:
        """Count a refused or cut connection or request; the first of an outage is logged."""
        self.counters.add(name)
        self._calm_from[name] = self._clock.now() + _CALM_S
        self.outages.failed(_KEYS[name], why)

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Cut connections whose clients do not read, and let waiting answers continue."""
        now = self._clock.now()
        self.bound_unsent()
        for each in list(self._open.values()):
            each.look(now)
            if not each.behind_since:
                continue
            if now - each.behind_since > self._settings.unread_timeout:
                self._cut_unread(each, f"nothing was read for {self._settings.unread_timeout:g} s")
            elif self.table_budget.waiting and now - each.behind_since > _STALLED_S:
                self._cut_unread(each, f"nothing was read for {_STALLED_S:g} s, and other tables wait for memory")
        for name, calm_from in list(self._calm_from.items()):
            if now >= calm_from:
                del self._calm_from[name]
                self.outages.recovered(_KEYS[name])
        self.table_budget.grant()


_KEYS = {
    "refused": "connections to the gateway",
    "idle_cut": "idle connections to the gateway",
    "requests_timed_out": "requests to the gateway that do not end",
    "headers_refused": "invalid requests to the gateway",
    "unread_cut": "answers of the gateway that are not read",
}


class _Connection:
    """An open connection."""

    def __init__(
        self, address: _Address, protocol: "_Http | _WebSocket", transport: asyncio.Transport, since: float
    ) -> None:
        self.address, self.protocol, self.transport, self.since = address, protocol, transport, since
        self.held = self.sent = 0
        self.behind_since = 0.0
        self._before = 0, 0

    @property
    def unsent(self) -> int:
        return int(self.held + self.transport.get_write_buffer_size())

    def look(self, now: float) -> None:
        """Note the time since which the client has read nothing; 0 while it reads, or no bytes wait."""
        unsent, sent = self._before
        self._before = self.unsent, self.sent
        if not self.unsent or self.unsent < unsent or self.sent > sent:
            self.behind_since = 0.0
        if self.unsent and not self.behind_since:
            self.behind_since = now

    @property
    def is_idle(self) -> bool:
        return self.protocol.is_idle


class _Flow(FlowControl):
    """Flow control of a connection that can also pause reading."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class _Http(H11Protocol):
    """HTTP/1.1 with a time limit for each request.

    h11 bounds the request line, headers and trailers, and parses pipelined requests one by one.
    """

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._upgraded = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = self._flow = _Flow(transport)
        if self._connections.admit(self):
            self._watch_request()
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.ERROR:
            return  # it was answered, and is being closed
        super().data_received(data)
        if self._upgraded:
            return  # the connection belongs to the WebSocket
        self._hold_pipelined()
        self._watch_request()

    def on_response_complete(self) -> None:
        self._forget_deadline()
        self._flow.is_held = False
        super().on_response_complete()
        self._hold_pipelined()
        self._watch_request()

    def _hold_pipelined(self) -> None:
        """Stop reading after the next request until this one is answered."""
        self._flow.is_held = self.flow.read_paused and self.conn.their_state is h11.DONE

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._forget_deadline()
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        self._connections.cut_short("headers_refused", f"a request of {(self.client or ('?',))[0]} is not valid")
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # an answer is being sent
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._connections.left(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.bound_unsent()

    def _watch_request(self) -> None:
        """Start the deadline of an incomplete request; cancel that of a complete one."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget_deadline()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self._connections.request_timeout_s, self._too_slow)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        within = self._connections.request_timeout_s
        why = f"{(self.client or ('?',))[0]} did not send its request within {within:g} s and was cut"
        self._connections.cut_short("requests_timed_out", why)
        self.transport.abort()


class _WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that reads no further pings while the client does not read its pongs."""

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self._held_up = False

    is_idle = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.left(self)
        super().connection_lost(exc)

    async def send(self, message: Any) -> None:
        await super().send(message)
        # uvicorn takes an HTTP answer to a WebSocket for a missing answer, and logs that.
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_ping(self) -> None:
        super().handle_ping()
        if not self.writable.is_set() and not self.read_paused:
            self._held_up = self.read_paused = True
            self.transport.pause_reading()

    def handle_cont(self, event: Any) -> None:
        super().handle_cont(event)
        if len(self.frames) > _MOST_FRAGMENTS:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connections.bound_unsent()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held_up and self.queue.empty():
            self._held_up = self.read_paused = False
            self.transport.resume_reading()


class BoundedAnswers:
    """ASGI middleware that counts the unsent bytes of each connection.

    Parameters
    ----------
    app : callable
    connections : Connections
    """

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app, self._connections = app, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")

        async def counted(message: Message) -> None:
            body = message.get("body") or message.get("text") or message.get("bytes") or b""
            with self._connections.holding(tuple(client) if client else None, len(body)):
                await send(message)

        await self._app(scope, receive, counted)
