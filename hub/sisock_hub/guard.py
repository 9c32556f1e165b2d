"""The guard of the router: a component that runs in the process of Crossbar's router and bounds its connections.

Crossbar limits neither the unsent bytes of clients that do not read, nor the time to log in. The guard replaces
three of its classes by subclasses before Crossbar listens.
"""

import resource
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.message import Abort, Message, Result, Welcome
from autobahn.wamp.types import CallDetails, ComponentConfig, RegisterOptions, SessionDetails
from crossbar.common.twisted import endpoint
from crossbar.router.auth import PendingAuthWampCra
from crossbar.router.protocol import (
    WampRawSocketServerFactory,
    WampRawSocketServerProtocol,
    WampWebSocketServerFactory,
    WampWebSocketServerProtocol,
)
from crossbar.router.session import RouterApplicationSession
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.task import LoopingCall
from txaio import make_logger

from sisock.printable import printable
from sisock.process import open_files, prepare_process, resident_memory
from sisock.times import SYSTEM_CLOCK
from sisock_hub.connections import Connection, Connections, Limits

# Bytes of a message before the login: only HELLO and AUTHENTICATE are sent by then.
_LARGEST_BEFORE_LOGIN = 1 << 16
_LOOK_S, _ROOM_S = 1.0, 0.02
_WAITING_FOR_ROOM = 10_000
_LONGEST_ERROR = 200


# Warnings of Crossbar's that are left out of the log: one is of every stop, the other has the right signature in it;
# the guard logs the user that was refused.
_LEFT_OUT = (
    (RouterApplicationSession, "session not currently attached"),
    (PendingAuthWampCra, "client signature is invalid"),
)


class _Guarded:
    """A server protocol whose connection is bounded. It refuses malformed messages without a traceback."""

    connections: Connections
    transport: Any
    _session: Any
    _serializer: Any
    _connection: Connection | None = None

    def connectionMade(self) -> None:
        super().connectionMade()  # type: ignore[misc]
        self._connection = self.connections.of(self.transport)

    def send(self, message: Message) -> None:
        connection = self._connection
        if connection is None:
            super().send(message)  # type: ignore[misc]
            return
        if connection.cut:
            return  # Twisted closes it in a moment
        if type(message) is Abort and connection.session is None:
            user = getattr(getattr(self._session, "_pending_auth", None), "_authid", None)
            why = message.message or message.reason
            delay = self.connections.wrong_login(connection, user and user[:_LONGEST_ERROR], why[:_LONGEST_ERROR])
            if delay:
                reactor.callLater(delay, self._send_late, message)
                return
        super().send(message)  # type: ignore[misc]
        if type(message) is Welcome:
            self._allow_large_messages()
        elif type(message) is Result:
            connection.arrived()

    def _send_late(self, message: Message) -> None:
        if self._session is not None:
            super().send(message)  # type: ignore[misc]

    def _allow_large_messages(self) -> None:
        raise NotImplementedError

    def _take(self, payload: bytes, *binary: bool) -> None:
        try:
            for message in self._serializer.unserialize(payload, *binary):
                self._session.onMessage(message)
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - counted, logged, and the end of this connection only
            text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            self.connections.refuse_message(self.transport, f"its message cannot be processed: {text}")


class _WebSocket(_Guarded, WampWebSocketServerProtocol):  # type: ignore[misc]
    def connectionMade(self) -> None:
        super().connectionMade()
        self.maxMessagePayloadSize: int
        self.maxFramePayloadSize: int
        self._largest = self.maxMessagePayloadSize, self.maxFramePayloadSize
        self.maxMessagePayloadSize = self.maxFramePayloadSize = _LARGEST_BEFORE_LOGIN

    def _allow_large_messages(self) -> None:
        self.maxMessagePayloadSize, self.maxFramePayloadSize = self._largest

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._take(payload, isBinary)

    def sendMessage(self, payload: bytes, *args: Any, **kwargs: Any) -> None:
        super().sendMessage(payload, *args, **kwargs)
        self.connections.wrote(len(payload))


class _RawSocket(_Guarded, WampRawSocketServerProtocol):  # type: ignore[misc]
    def _on_handshake_complete(self) -> None:
        self.MAX_LENGTH: int
        self._largest, self.MAX_LENGTH = self.MAX_LENGTH, _LARGEST_BEFORE_LOGIN
        super()._on_handshake_complete()

    def _allow_large_messages(self) -> None:
        self.MAX_LENGTH = self._largest

    def stringReceived(self, payload: bytes) -> None:
        self._take(payload)

    def lengthLimitExceeded(self, length: int) -> None:
        self.connections.refuse_message(self.transport, f"its message of {length} bytes is larger than allowed")

    def sendString(self, payload: bytes) -> None:
        # Not joined to one string: subscribers of the same event share its bytes for as long as they wait.
        self.transport.writeSequence((len(payload).to_bytes(4, "big"), payload))
        self.connections.wrote(len(payload))


class _Door(endpoint.MaxConnectionsFactory):  # type: ignore[misc]
    """The outermost factory of a port: accepts and counts its connections, and sets the options of their sockets."""

    def __init__(self, connections: Connections, dead_after_s: float, *args: Any) -> None:
        super().__init__(*args)
        self._connections, self._dead_after_s = connections, dead_after_s

    def buildProtocol(self, address: IAddress) -> Any:
        if self._connections.may_open(_host(address)):
            return super().buildProtocol(address)
        refused = endpoint._RefusedConnection()  # noqa: SLF001 - the base class's own answer
        refused.factory = self
        return refused

    def registerProtocol(self, wrapper: Any) -> None:
        super().registerProtocol(wrapper)
        self._connections.opened(wrapper, _host(wrapper.transport.getPeer()))
        if wrapper.transport.socket.family != socket.AF_UNIX:
            _find_dead(wrapper.transport.socket, self._dead_after_s)

    def unregisterProtocol(self, wrapper: Any) -> None:
        super().unregisterProtocol(wrapper)
        self._connections.closed(wrapper)


def _host(address: Any) -> str:
    return getattr(address, "host", "unix")


def _find_dead(handle: socket.socket, after_s: float) -> None:
    """Have the kernel end a connection, idle or not, whose peer has not answered for `after_s` seconds."""
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Four probes fit; the connection ends with the first that finds the user time-out to be over.
    every = max(1, round(after_s / 5))
    for option, value in (
        (socket.TCP_KEEPIDLE, every),
        (socket.TCP_KEEPINTVL, every),
        (socket.TCP_KEEPCNT, 5),
        (socket.TCP_USER_TIMEOUT, round((after_s - every) * 1000) - 500),
    ):
        handle.setsockopt(socket.IPPROTO_TCP, option, value)


class Guard(ApplicationSession):  # type: ignore[misc]  # autobahn's classes are untyped
    """The component: checks all connections each second, reports its counters, and holds nodes back for slow readers.

    Parameters
    ----------
    config : ComponentConfig
        `extra` has `base_uri`, `dead_after_s`, and `limits`, the fields of a `Limits`.
    """

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config)
        extra = config.extra
        self._base_uri: str = extra["base_uri"]
        self._log = make_logger()
        prepare_process()
        limits = Limits(**extra["limits"])
        # Not every open file is a connection.
        bound = min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
        self._connections = Connections(
            Limits(**{**extra["limits"], "connections": bound}), SYSTEM_CLOCK.monotonic, self._warn
        )
        self._waiting: deque[tuple[int, Deferred[None]]] = deque()
        self._granting = LoopingCall(self._grant)
        self._looking = LoopingCall(self._connections.look)
        _install(self._connections, extra["dead_after_s"])

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def onJoin(self, details: SessionDetails) -> Any:
        """Offer `get_router_status` to consumers, `router.room` to nodes, `router.end_session` to the hub."""
        yield self.register(self._status, f"{self._base_uri}.consumer.get_router_status")
        yield self.register(self._room, f"{self._base_uri}.router.room")
        options = RegisterOptions(details_arg="details")
        yield self.register(self._end_session, f"{self._base_uri}.router.end_session", options)
        self._looking.start(_LOOK_S)

    def _warn(self, line: str) -> None:
        self._log.warn("{line}", line=printable(line))

    def _status(self) -> dict[str, Any]:
        return {**self._connections.status(), "memory": resident_memory(), **open_files()}

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _end_session(self, session: Any = None, *, details: CallDetails) -> Any:
        """Cut the connection of a session, which may be dead, for the hub; return whether it existed."""
        if not (yield self._is_hub(details.caller)):
            self._connections.refuse_ending(session, details.caller)
            raise ApplicationError(ApplicationError.NOT_AUTHORIZED, "only the hub may end sessions")
        return self._connections.end_session(session)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _is_hub(self, session: int) -> Any:
        """Return whether a session is the one with which nodes register."""
        registration = yield self.call("wamp.registration.lookup", f"{self._base_uri}.data_node.add")
        if registration is None:
            return False
        return session in (yield self.call("wamp.registration.list_callees", registration))

    def _room(self, session: Any = None) -> Deferred[None]:
        """Return a Deferred that fires when the router takes one more chunk for a session."""
        if not self._waiting and self._connections.has_room(session):
            return succeed(None)
        if len(self._waiting) >= _WAITING_FOR_ROOM:
            return succeed(None)  # the bounds on connections hold all the same
        turn: Deferred[None] = Deferred()
        self._waiting.append((session, turn))
        if not self._granting.running:
            self._granting.start(_ROOM_S, now=False)
        return turn

    def _grant(self) -> None:
        for _ in range(len(self._waiting)):
            session, turn = self._waiting.popleft()
            if turn.called:  # the node has cancelled its call
                continue
            if self._connections.has_room(session):
                turn.callback(None)
            else:
                self._waiting.append((session, turn))
        if not self._waiting:
            self._granting.stop()


def _install(connections: Connections, dead_after_s: float) -> None:
    for factory, kind in ((WampWebSocketServerFactory, _WebSocket), (WampRawSocketServerFactory, _RawSocket)):
        factory.protocol = type(kind.__name__, (kind,), {"connections": connections})
    endpoint.MaxConnectionsFactory = partial(_Door, connections, dead_after_s)
    for crossbar, line in _LEFT_OUT:
        crossbar.log.warn = partial(_warn_unless, line, crossbar.log.warn)


def _warn_unless(line: str, warn: Callable[..., None], text: str = "", **values: Any) -> None:
    if line not in text:
        warn(text, **values)
