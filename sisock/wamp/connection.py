"""Joining the router, and joining it again: `Connection` keeps one session there for as long as it is wanted."""

import logging
import random
import socket
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from autobahn.exception import PayloadExceededError
from autobahn.twisted.rawsocket import WampRawSocketClientFactory, WampRawSocketClientProtocol
from autobahn.twisted.wamp import ApplicationSession
from autobahn.twisted.websocket import WampWebSocketClientFactory, WampWebSocketClientProtocol
from autobahn.wamp.exception import SerializationError
from autobahn.wamp.message import Error, Message, Yield
from autobahn.wamp.serializer import CBORSerializer, MsgPackSerializer
from autobahn.wamp.types import CloseDetails, ComponentConfig
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.abstract import FileDescriptor as Connected
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.tcp import Client as TcpConnected
from twisted.python.failure import Failure

from sisock.access import Access
from sisock.errors import BadRequest, NameTaken, NoRouter, Refused, SisockError, UnsuitableRouter
from sisock.outage import OutageLog
from sisock.times import SystemClock

MakeSession = Callable[[ComponentConfig], ApplicationSession]

# Back-off between attempts, in seconds; reset at each join, so that the twentieth loss is as short as the first.
_SHORTEST, _LONGEST = 0.05, 2.0
_HANDSHAKE_S, _GOODBYE_S = 10.0, 1.0
_AT_ONCE = 1 << 20
_WRONG_SECRET = "user or secret is wrong"  # noqa: S105 - no secret
_REFUSALS = {
    "wamp.error.authentication_failed": _WRONG_SECRET,
    "wamp.error.not_authorized": _WRONG_SECRET,
    "wamp.error.authorization_failed": _WRONG_SECRET,
    "wamp.error.no_auth_method": "it does not offer wampcra",
    "wamp.error.no_such_realm": "it has no such realm",
    "wamp.error.no_such_role": "the user has no role in the realm",
    "wamp.error.no_such_principal": "it knows no such user",
}

ROUTER_HEADER = "sisock-router"
"""The header in which a gateway names the address of the router."""

log = logging.getLogger(__name__)


class _Watched:
    """A transport protocol that reports its loss with the reason, sends small messages at once, and always answers."""

    transport: Any
    _session: Any
    when_lost: Callable[[Failure], None] | None = None
    wasNotCleanReason: str | None = None  # autobahn sets it where WebSocket's own handshake failed

    def connectionMade(self) -> None:
        # Below TLS there is the connection proper.
        _tune(getattr(self.transport, "transport", self.transport))
        super().connectionMade()  # type: ignore[misc]

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[misc]
        if self.when_lost is not None:
            self.when_lost(reason)

    def send(self, message: Message) -> None:
        try:
            super().send(message)  # type: ignore[misc]
        except (SerializationError, PayloadExceededError) as error:
            self._send_error_instead(message, error)
        except (TypeError, ValueError, OverflowError) as error:  # MessagePack's, which RawSocket hands on as they are
            self._send_error_instead(message, SerializationError(str(error)))

    def _send_error_instead(self, message: Message, error: Exception) -> None:
        if not isinstance(message, Error) and not (isinstance(message, Yield) and not message.progress):
            raise error
        # autobahn's own answer repeats the unserializable value, so that the caller would wait in vain.
        super().send(self._session.unserializable_error(message.request, error))  # type: ignore[misc]


def _tune(connection: Any) -> None:
    """Set on a connection what the kernel and Twisted leave off or too small."""
    if isinstance(connection, Connected):
        # Twisted reads and writes 64 and 128 KiB at a time, and joins the pieces of a message again for each.
        connection.bufferSize = connection.SEND_LIMIT = _AT_ONCE
    if isinstance(connection, TcpConnected):
        connection.setTcpNoDelay(True)
        connection.setTcpKeepAlive(True)
        # RawSocket has no pings: without these the kernel would look after two hours whether the peer still lives.
        for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
            connection.socket.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 25_000)


class _WebSocket(_Watched, WampWebSocketClientProtocol):  # type: ignore[misc]
    http_headers: Mapping[str, str]

    @property
    def router_instead(self) -> str | None:
        """The router's address, where this one is that of a gateway."""
        return getattr(self, "http_headers", {}).get(ROUTER_HEADER)


class _RawSocket(_Watched, WampRawSocketClientProtocol):  # type: ignore[misc]
    pass


class Connection:
    """Keeps one WAMP session joined: connects, and after every loss connects again.

    Attributes
    ----------
    ended : Deferred
        Fires with None after `stop`, or with a SisockError when the router, or the session itself, ended it
        for good.
    session : ApplicationSession or None
        The session while it is joined.
    trouble : SisockError or None
        Why there is no session at the moment.

    Parameters
    ----------
    access : Access
    make_session : callable
        Makes the session of each new connection from an autobahn ComponentConfig, whose extra holds `access`.
    reactor : optional
        Twisted's own when not given.
    """

    def __init__(self, access: Access, make_session: MakeSession, *, reactor: Any = None) -> None:
        if reactor is None:
            reactor = import_module("twisted.internet.reactor")
        self.ended: Deferred[None] = Deferred()
        self.session: ApplicationSession | None = None
        self.trouble: SisockError | None = None
        # The hub recognizes by it a node that has lost its session before the router noticed.
        self._instance = uuid4().hex
        self._access, self._make_session, self._reactor = access, make_session, reactor
        self._endpoint, self._factory = _transport(access, self._create, reactor)
        self._delay = _SHORTEST
        self._wanted = False
        self._connecting: Deferred[Any] | None = None
        self._protocol: Any = None
        self._current: ApplicationSession | None = None
        self._retry: Any = None
        self._deadline: Any = None
        self._outages = OutageLog(SystemClock(), log)
        self._outage = f"the session of {access.user!r}"  # as it reads in the log
        self._is_waiting = False  # for the router, for the first time, or until it has what it lacks
        self._lacks: str | None = None  # features that the router lacks, as logged
        self._was_joined = False
        self._held_name = False
        self._closing: list[Deferred[None]] = []

    def start(self) -> None:
        """Connect, now and after every loss."""
        self._wanted = True
        self._connect()

    def stop(self) -> Deferred[None]:
        """Leave the realm and connect no more; fires when the transport is closed."""
        self._wanted = False
        done: Deferred[None] = Deferred()
        self._closing.append(done)
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._protocol is None:
            if self._retry is not None and self._retry.active():
                self._retry.cancel()
            self._end(None)
        elif self.session is not None and self.session.is_attached():
            self.session.leave()
            self._limit(_GOODBYE_S)
        else:
            self._protocol.transport.abortConnection()
        return done

    def _create(self) -> ApplicationSession:
        session = self._make_session(
            ComponentConfig(self._access.realm, {"access": self._access, "instance": self._instance})
        )
        session.on("join", self._joined)
        session.on("ready", self._ready)
        session.on("leave", self._left)
        self._current = session
        return session

    def _connect(self) -> None:
        self._retry = self._current = None
        self._connecting = self._endpoint.connect(self._factory)
        self._connecting.addCallbacks(self._connected, self._unreachable)

    def _connected(self, protocol: Any) -> None:
        self._connecting, self._protocol = None, protocol
        protocol.when_lost = self._lost
        self._limit(_HANDSHAKE_S if self._wanted else 0.0)

    def _limit(self, seconds: float) -> None:
        """Abort the transport unless it joins (or, when leaving, closes) within that time."""
        self._unlimit()
        self._deadline = self._reactor.callLater(seconds, self._protocol.transport.abortConnection)

    def _unlimit(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _joined(self, session: ApplicationSession, details: Any) -> None:
        self._unlimit()
        self._delay = _SHORTEST
        self.session, self.trouble = session, None
        if self._lacks is not None:
            return  # once more only to see whether it has been put right
        if not self._was_joined:
            log.info("joined the router at %s as %s", self._access.url, self._access.user)
        self._outages.recovered(self._outage)
        self._is_waiting, self._was_joined = False, True

    def _ready(self, session: ApplicationSession) -> None:
        if self._lacks is not None and getattr(session, "failure", None) is None:
            self._lacks, self._is_waiting, self._was_joined = None, False, True
            self._outages.recovered(self._outage)
            log.warning("the router at %s has what was missing; joined it as %s", self._access.url, self._access.user)

    def _left(self, session: ApplicationSession, details: CloseDetails) -> None:
        # A realm that is stopping closes its sessions too; only a refusal at the login is final.
        if self.session is None and details.reason in _REFUSALS:
            why = _REFUSALS[details.reason]
            if why == _WRONG_SECRET and not getattr(session, "challenged", True):
                why = "it did not ask for the secret; it does not offer wampcra, or not to that user"
            session.failure = Refused(
                f"the router at {self._access.url} refused {self._access.user!r} in realm {self._access.realm!r}: "
                f"{why} ({details.message or details.reason}); {self._access.login_hint}"
            )

    def _unreachable(self, failure: Failure) -> None:
        self._connecting = None
        self._again(
            NoRouter(
                f"no router answers at {self._access.url} ({failure.getErrorMessage()}); {self._access.router_hint}"
            )
        )

    def _lost(self, reason: Failure) -> None:
        self._unlimit()
        text = self._protocol.wasNotCleanReason or reason.getErrorMessage()
        router = getattr(self._protocol, "router_instead", None)
        session, self.session, self._protocol = self._current, None, None
        self._held_name = self._held_name or getattr(session, "added", False)
        failure: SisockError | None = getattr(session, "failure", None)
        if untrusted := _certificate_error(reason):
            failure = Refused(f"the certificate of the router at {self._access.url} is not trusted: {untrusted}")
        if isinstance(failure, NameTaken) and self._held_name:
            # Most likely our own session before, which the router has not yet found to be dead.
            self._again(failure)
        elif isinstance(failure, UnsuitableRouter):
            if failure.message != self._lacks:
                log.error("%s; retrying", failure.message)
            self._lacks, self._is_waiting, self._delay = failure.message, True, _LONGEST
            self._again(failure)
        elif failure is not None:
            self._end(failure)
        elif router:
            there = f"the server at {self._access.url} is a sisock gateway, not a router"
            self._end(NoRouter(f"{there}; the router's address is {router}"))
        else:
            self._again(NoRouter(f"lost the router at {self._access.url} ({text})"))

    def _again(self, trouble: SisockError) -> None:
        self.trouble = trouble
        if not self._wanted:
            self._end(None)
            return
        if self._was_joined and self._lacks is None:
            self._outages.failed(self._outage, trouble.message)
        elif not self._is_waiting:
            self._is_waiting = True
            log.info("waiting for the router at %s", self._access.url)
        # Jittered, so that the nodes of a site do not come back in step.
        self._retry = self._reactor.callLater(self._delay * random.uniform(0.8, 1.0), self._connect)  # noqa: S311
        self._delay = min(self._delay * 1.7, _LONGEST)

    def _end(self, failure: SisockError | None) -> None:
        self._wanted = False
        if not self.ended.called:
            self.ended.callback(None) if failure is None else self.ended.errback(failure)
        closing, self._closing = self._closing, []
        for done in closing:
            done.callback(None)


def _transport(access: Access, create: Callable[[], Any], reactor: Any) -> tuple[IStreamClientEndpoint, Any]:
    """Return the endpoint to connect to and the factory of the protocol to speak there."""
    url = urlsplit(access.url)
    if url.scheme == "unix":
        endpoint = UNIXClientEndpoint(reactor, url.path, timeout=_HANDSHAKE_S)
    elif url.scheme in ("ws", "wss", "rs", "rss"):
        try:
            port = url.port or {"ws": 80, "wss": 443}[url.scheme]
        except (KeyError, ValueError):
            raise BadRequest(
                f"router address {access.url!r} has no port that can be used; write it as host:port"
            ) from None
        if not url.hostname:
            raise BadRequest(f"router address {access.url!r} names no host")
        endpoint = HostnameEndpoint(reactor, url.hostname, port, timeout=_HANDSHAKE_S)
        if url.scheme in ("wss", "rss"):
            endpoint = wrapClientTLS(optionsForClientTLS(url.hostname, trustRoot=_authority(access)), endpoint)
    else:
        raise BadRequest(f"router address {access.url!r} is none of ws://, wss://, rs://, rss:// and unix:")
    if url.scheme in ("ws", "wss"):
        factory = WampWebSocketClientFactory(
            create, url=access.url, serializers=[MsgPackSerializer(), CBORSerializer()]
        )
        factory.protocol = _WebSocket
        factory.setProtocolOptions(
            maxFramePayloadSize=access.max_message_size,
            maxMessagePayloadSize=access.max_message_size,
            autoPingInterval=10.0,
            autoPingTimeout=5.0,
            openHandshakeTimeout=_HANDSHAKE_S,
            closeHandshakeTimeout=_GOODBYE_S,
            tcpNoDelay=True,
        )
    else:
        factory = WampRawSocketClientFactory(create, serializer=MsgPackSerializer())
        factory.protocol = _RawSocket
        factory.setProtocolOptions(maxMessagePayloadSize=access.max_message_size)
    factory.noisy = False
    return endpoint, factory


def _authority(access: Access) -> Any:
    """Return the trust root for the router's certificate; None is the system's list of authorities."""
    if access.ca is None:
        return None
    try:
        pem = access.ca.read_text()
    except OSError as error:
        raise BadRequest(f"the authority's certificate {access.ca} cannot be read: {error.strerror}") from error
    end = "-----END CERTIFICATE-----"
    return trustRootFromCertificates([Certificate.loadPEM(part + end) for part in pem.split(end)[:-1]])


def _certificate_error(reason: Failure) -> str | None:
    """Return the error of the router's certificate, if the connection was lost for it."""
    error = reason.value
    if isinstance(error, VerificationError):
        return "it was not made for this host name"
    if isinstance(error, SSL.Error) and "certificate verify failed" in str(error):
        return "its authority is not known here; give the site's tls/ca.pem as `ca`, or in WAMP_CA"
    return None
