"""The connection of a consumer, in the thread of Twisted's reactor."""

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autobahn.exception import PayloadExceededError
from autobahn.wamp.exception import ApplicationError, InvalidUriError, SerializationError, TransportLost
from autobahn.wamp.types import CallOptions, ComponentConfig, SessionDetails
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks, maybeDeferred
from twisted.python import threadable
from twisted.python.failure import Failure

from sisock.access import Access
from sisock.consumer.subscriptions import LOST, Handler, Subscriptions
from sisock.errors import (
    BadRequest,
    NodeLeft,
    NoRouter,
    NotAllowed,
    NotOpen,
    SisockError,
    TimedOut,
)
from sisock.metrics import Counters
from sisock.wamp.connection import Connection
from sisock.wamp.session import Session
from sisock.worker import Worker

_CAN_BE_SENT = "give numbers (integers of at most 64 bits), flags, texts, lists and objects of these, and not too much"

log = logging.getLogger(__name__)


class ConsumerSession(Session):
    """A session that subscribes to the topics of its `RouterThread` at each join."""

    def __init__(self, link: "RouterThread", config: ComponentConfig) -> None:
        super().__init__(config)
        self._link = link
        self.counters = link.counters  # of all sessions together

    def onJoin(self, details: SessionDetails) -> Any:
        """Notify the `RouterThread`."""
        return self._link.joined(self)


class RouterThread:
    """The connection of a consumer; used in the reactor's thread only."""

    def __init__(self, access: Access, reactor: Any) -> None:
        self._access, self._reactor = access, reactor
        self.counters = Counters("joins", "late_answers")
        self._connection = Connection(access, lambda config: ConsumerSession(self, config), reactor=reactor)
        self._connection.ended.addBoth(self._ended)
        self._session: ConsumerSession | None = None
        self._waiting: list[Deferred[ConsumerSession]] = []
        self._subscriptions = Subscriptions()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._end: SisockError | None = None

    def open(self) -> None:
        """Join the router, and join it again after every loss."""
        self._connection.start()

    def close(self) -> Deferred[None]:
        """Leave the router."""
        return self._connection.stop()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def joined(self, session: ConsumerSession) -> Any:
        """Subscribe to all topics again, then send the waiting calls."""
        yield self._subscriptions.move_to(session)
        if not session.is_attached():
            return  # lost meanwhile
        self._session = session
        self.counters.add("joins")
        session.on("disconnect", self._away)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(session)
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called after each join from now on, and when the connection has ended for good."""
        self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call a listener no more."""
        self._listeners = tuple(other for other in self._listeners if other != listener)

    def later(self, seconds: float, call: Callable[[], None]) -> Any:
        """Have a function called in some seconds; return the call, which can be cancelled."""
        return self._reactor.callLater(seconds, call)

    def _away(self, session: ConsumerSession, **_details: Any) -> None:
        if self._session is session:
            self._session = None

    def _ended(self, result: Any) -> None:
        self._session = None
        closed = NotOpen("this consumer is closed; make another one")
        self._end = result.value if isinstance(result, Failure) else closed
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(self._end)
        for listener in self._listeners:
            listener()

    @property
    def is_joined(self) -> bool:
        """Whether there is a session at the moment."""
        return self._session is not None

    @property
    def trouble(self) -> SisockError | None:
        """The error for which there is no session, if known."""
        return self._end or self._connection.trouble

    def session(self) -> Deferred[ConsumerSession]:
        """Return a Deferred of the session, once it is joined."""
        waiter: Deferred[ConsumerSession] = Deferred(lambda d: self._waiting.remove(d))  # noqa: PLW0108 - the list is replaced
        if self._session is not None:
            waiter.callback(self._session)
        elif self._end is not None:
            waiter.errback(self._end)
        else:
            self._waiting.append(waiter)
        return waiter

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _ask(self, procedure: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        session = yield self.session()
        try:
            return (yield session.call(session.uri(procedure), *args, **kwargs))
        except InvalidUriError as error:  # this and the next are detected before the call is sent
            raise ApplicationError(ApplicationError.INVALID_URI, procedure) from error
        except (SerializationError, PayloadExceededError) as error:
            raise BadRequest(f"arguments of {procedure} cannot be sent: {error}; {_CAN_BE_SENT}") from error
        except TransportLost as error:
            raise NoRouter(f"lost the router at {self._access.url} while waiting for {procedure}") from error
        except ApplicationError as error:
            if error.error in LOST and not session.is_attached():
                raise NoRouter(f"lost the router at {self._access.url} while waiting for {procedure}") from error
            if error.error == ApplicationError.CANCELED:
                raise NodeLeft(f"the node left the router while it was to answer {procedure}") from error
            if error.error in (ApplicationError.NOT_AUTHORIZED, ApplicationError.AUTHORIZATION_FAILED):
                hint = f"; {self._access.operator_hint}" if procedure.startswith("control.") else ""
                raise NotAllowed(f"{self._access.user!r} may not call {procedure}{hint}") from error
            raise

    def call(
        self,
        timeout_s: float,
        procedure: str,
        *args: Any,
        on_progress: Callable[[Any], None] | None = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Deferred[Any]:
        """Call a procedure below the base URI.

        Fails with TimedOut, or the error of the router, after `timeout_s` seconds without a result or
        a progressive result.
        """
        late = False
        kwargs |= arguments or {}

        def out_of_time() -> None:
            nonlocal late
            late = True
            asking.cancel()

        timer = self._reactor.callLater(timeout_s, out_of_time)
        if on_progress is not None:

            def heard(result: Any) -> None:
                if timer.active():
                    timer.reset(timeout_s)
                on_progress(result)

            kwargs["options"] = CallOptions(on_progress=heard)
        asking: Deferred[Any] = self._ask(procedure, args, kwargs)

        def ended(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if late and isinstance(result, Failure) and result.check(CancelledError, ApplicationError, NodeLeft):
                if self._session is None and self._connection.trouble is not None:
                    raise self._connection.trouble
                raise TimedOut(f"{procedure} did not answer within {timeout_s:g} s")
            return result

        return asking.addBoth(ended)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def subscribe(self, topic: str, handler: Handler) -> Any:
        """Call `handler` with every event on a topic below the base URI, also after a rejoin."""
        yield self.session()
        try:
            yield self._subscriptions.add(topic, handler)
        except ApplicationError as error:
            raise NotAllowed(f"{self._access.user!r} may not subscribe to {topic}") from error

    def unsubscribe(self, topic: str, handler: Handler) -> Any:
        """Remove `handler`; removing the last one of a topic ends its subscription."""
        return self._subscriptions.remove(topic, handler)


def the_reactor() -> Any:
    """Return Twisted's reactor; importing it installs it, so the import is late."""
    from twisted.internet import reactor

    return reactor


_starting = threading.Lock()
_reactor_pid: int | None = None
"""The process of the reactor's thread."""


class Request(concurrent.futures.Future[Any]):
    """The future of a request in the reactor's thread; cancelling it also ends the request at the node."""

    doing: Deferred[Any] | None = None

    def cancel(self) -> bool:
        """End the request in the reactor's thread; return whether it had not begun."""
        if super().cancel():
            return True
        the_reactor().callFromThread(self._end)
        return False

    def _end(self) -> None:
        if self.doing is not None and not self.done():
            self.doing.cancel()


def in_reactor(make: Callable[[], Any]) -> "concurrent.futures.Future[Any]":
    """Run `make` in the reactor's thread and return a future of its result, starting the reactor if necessary.

    Raises
    ------
    BadRequest
        If the reactor's thread is in the process that this one was forked from.
    """
    global _reactor_pid  # noqa: PLW0603 - as there is one reactor
    reactor = the_reactor()
    if _reactor_pid not in (None, os.getpid()):
        raise BadRequest(
            "this process was forked from one with a consumer, which cannot be used here; start processes by "
            'multiprocessing.get_context("spawn"), or before the first consumer is opened'
        )
    with _starting:
        _reactor_pid = os.getpid()
        if not reactor.running and not reactor._started:  # noqa: SLF001 - `running` is set only once it turns
            up = threading.Event()
            reactor.callWhenRunning(up.set)
            # A program that runs the reactor itself must do so before its first consumer.
            Worker("sisock reactor", reactor.run).start(False)
            atexit.register(lambda: reactor.callFromThread(reactor.stop) if reactor.running else None)
            up.wait(10.0)
    future = Request()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        future.doing = maybeDeferred(make)
        future.doing.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))

    if threadable.isInIOThread() and not _asyncio_runs_here():
        raise RuntimeError("a consumer cannot wait in the reactor's own thread; use its Session, or another thread")
    reactor.callFromThread(run)
    return future


def later_in_reactor(make: Callable[[], Any]) -> None:
    """Run `make` in the reactor's thread without waiting for it.

    Unlike `in_reactor` it may be called in any thread, including the reactor's: abandoned generators are
    closed in the thread of the garbage collection.
    """
    reactor = the_reactor()
    if reactor.running and _reactor_pid in (None, os.getpid()):  # a forked process has no such thread
        reactor.callFromThread(lambda: maybeDeferred(make).addErrback(_log_failure))


def _log_failure(failure: Failure) -> None:
    log.debug("a request without a waiting caller failed: %s", failure.getErrorMessage())


def _asyncio_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
