"""A WAMP session that logs in by wampcra and knows sisock's errors."""

import atexit
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import Any, NoReturn

from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import auth
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.message import (
    Error,
    Event,
    Interrupt,
    Invocation,
    Message,
    Published,
    Registered,
    Result,
    Subscribed,
    Unregistered,
    Unsubscribed,
)
from autobahn.wamp.types import Challenge, CloseDetails, ComponentConfig
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from sisock.access import Access, access_from_environment
from sisock.errors import BadRequest, NodeFailed, Refused, SisockError, leaves
from sisock.metrics import Counters
from sisock.printable import printable
from sisock.procedure import TAKEN

# Messages whose arguments autobahn hands on to a function.
_HANDED_ON = frozenset((Event, Invocation))
_ANSWERS = frozenset((Error, Published, Registered, Result, Subscribed, Unregistered, Unsubscribed))
# Subscriptions whose end is remembered.
_MOST_ENDED = 1000
# Characters of the text of an exception that are sent to the caller.
_LONGEST_TEXT = 2000
# Hooks of the start of a session; one that fails ends it.
_STARTING = ("onConnect", "onChallenge", "onJoin")

log = logging.getLogger(__name__)


class Session(ApplicationSession):  # type: ignore[misc]  # autobahn's classes are untyped
    """A WAMP session that logs in by wampcra and knows sisock's errors.

    Parameters
    ----------
    config : autobahn.wamp.types.ComponentConfig, optional
        ``extra["access"]`` may hold a `sisock.access.Access`; otherwise the environment's is used.
    """

    failure: SisockError | None = None
    """The error that ended this session for good; the runner does not join again."""
    challenged: bool = False
    """Whether the router asked for the secret."""
    _counted: Sequence[str] = ("requests", "errors", "late_answers")
    """Names of the counters that are shown from the start, at 0."""
    _invoked: int = 0
    """Number of the newest invocation."""

    # Subclasses of the published contract call `ApplicationSession.__init__` and not this one, so that nothing may
    # depend on it: what a session has is made when it is first used, or when its transport opens.
    def __init__(self, config: ComponentConfig | None = None) -> None:
        super().__init__(config or ComponentConfig(realm=access_from_environment().realm))

    @cached_property
    def access(self) -> Access:
        """How this session reaches the router."""
        if self._given_access is not None:
            return self._given_access
        access = access_from_environment()
        return replace(access, realm=self.config.realm or access.realm)

    @property
    def _given_access(self) -> Access | None:
        """Given by `sisock.runner` to its sessions; None where another runner, such as autobahn's, runs this one."""
        return self.config.extra.get("access") if isinstance(self.config.extra, dict) else None

    @cached_property
    def counters(self) -> Counters:
        """Counters of the session."""
        return Counters(*self._counted)

    def uri(self, s: str) -> str:
        """Return the full URI of `s` on this session's router."""
        return f"{self.access.base_uri}.{s}"

    def onOpen(self, transport: Any) -> None:
        """Prepare the session, then start it."""
        for kind in leaves():
            self.define(kind, self.uri(f"error.{kind.name}"))
        for name in _STARTING:
            if name not in vars(self):  # autobahn may open the same session again
                setattr(self, name, self._ending_on_failure(name, getattr(self, name)))
        super().onOpen(transport)

    def _ending_on_failure(self, name: str, hook: Callable[..., Any]) -> Callable[..., Deferred[Any]]:
        """Return a hook that ends the session for good when it fails; autobahn would log that and wait for ever."""

        def run(*args: Any) -> Deferred[Any]:
            running = maybeDeferred(hook, *args)
            if name == "onChallenge":
                self.challenged = True
                running.addCallback(_signature)
            return running.addErrback(failed)

        def failed(failure: Failure) -> Failure:
            error = failure.value
            if failure.check(TransportLost) or not self.is_connected():
                return failure  # the router went meanwhile; the runner joins again
            if not isinstance(error, SisockError):
                self._log_failure(f"{name} of {self._title} failed", failure)
                error = NodeFailed(f"{name} of {self._title} failed: {_text(error)}")
            self.fail_permanently(error)
            return Failure(error)

        return run

    @property
    def _title(self) -> str:
        """The name of this session in messages."""
        return repr(getattr(self, "name", None) or self.access.user)

    def _log_failure(self, what: str, failure: Failure) -> None:
        if self._given_access is None:
            # autobahn's runner shows its own log only.
            traceback = "\n".join(map(printable, failure.getTraceback().splitlines()))
            self.log.error("{what}\n{traceback}", what=printable(what), traceback=traceback)
        else:
            log.error(what, exc_info=(failure.type, failure.value, failure.getTracebackObject()))

    def onConnect(self) -> None:
        """Ask to join the realm."""
        self.join(self.access.realm, ["wampcra"], self.access.user)

    def onChallenge(self, challenge: Challenge) -> str:
        """Return the signature of a wampcra challenge.

        Raises
        ------
        Exception
            If the router asks for any other method.
        """
        if challenge.method != "wampcra":
            raise Exception(f"Invalid authmethod {challenge.method}")  # noqa: TRY002 - the published behaviour
        key = self.access.secret.encode()
        if "salt" in challenge.extra:
            key = auth.derive_key(key, *(challenge.extra[k] for k in ("salt", "iterations", "keylen")))
        return str(auth.compute_wcs(key, challenge.extra["challenge"]).decode("ascii"))

    def onLeave(self, details: CloseDetails) -> None:
        """End the process where the router has refused us and autobahn's own runner would wait for ever."""
        refused = self.session_details is None and details.reason.startswith("wamp.error.")
        if refused and self._given_access is None and self.failure is None:
            why = details.message or details.reason
            who, hint = f"{self.access.user!r} in realm {self.access.realm!r}", self.access.login_hint
            self.fail_permanently(Refused(f"the router refused {who}: {why}; {hint}"))
        super().onLeave(details)

    def onMessage(self, message: Message) -> None:
        """Take a message from the router, unless it would end the session: it is late, or has arguments of `TAKEN`."""
        if self._is_late(message):
            self.counters.add("late_answers")
            return
        if type(message) in _HANDED_ON and message.kwargs and (taken := TAKEN & message.kwargs.keys()):
            if isinstance(message, Invocation):
                text = f"an argument cannot be called {min(taken)!r}, which WAMP's library keeps"
                error = self.uri(f"error.{BadRequest.name}")
                self._transport.send(Error(Invocation.MESSAGE_TYPE, message.request, error, args=[text]))
                return
            # None of ours has arguments by name.
            message = Event(message.subscription, message.publication, args=message.args)
        if isinstance(message, Invocation):
            self._invoked = message.request
        elif isinstance(message, Interrupt) and message.request in self._interrupt_handlers:
            self._interrupt_handlers[message.request](message.mode)
            return
        super().onMessage(message)

    def take_interrupts(self, handler: Callable[[str | None], Any]) -> int:
        """Have a function called with the mode when the router interrupts the call that is being answered.

        Called by a procedure before it returns. It returns the number of the invocation, which autobahn would cancel.
        """
        self._interrupt_handlers[self._invoked] = handler
        return self._invoked

    def leave_interrupts(self, request: int, *, drop: bool = False) -> None:
        """Leave the interrupts of an invocation to autobahn again, or forget one that is never answered."""
        self._interrupt_handlers.pop(request, None)
        if drop:
            self._invocations.pop(request, None)

    @cached_property
    def _interrupt_handlers(self) -> dict[int, Callable[[str | None], Any]]:
        """Functions that take the interrupts of invocations, by number."""
        return {}

    def _is_late(self, message: Message) -> bool:
        """Whether a message belongs to a request or a subscription of this session that has ended.

        Crossbar sends a second ERROR for a call that was cancelled when its callee leaves, and an event that it is
        still distributing to a session that has unsubscribed meanwhile. autobahn takes both for violations of the
        protocol and drops the transport; see docs/upstream.
        """
        kind = type(message)
        if kind is Event:
            return message.subscription not in self._subscriptions and message.subscription in self._ended
        if kind not in _ANSWERS:
            return False
        if kind is Unsubscribed and (ending := self._unsubscribe_reqs.get(message.request)):
            self._ended.append(ending.subscription_id)
        # Numbers of requests are given in ascending order.
        made = 0 < message.request <= self._request_id_gen._next  # noqa: SLF001 - no public way
        return made and not any(message.request in pending for pending in self._pending())

    def _pending(self) -> Iterator[Mapping[int, Any]]:
        yield self._call_reqs
        yield self._publish_reqs
        yield self._subscribe_reqs
        yield self._unsubscribe_reqs
        yield self._register_reqs
        yield self._unregister_reqs

    @cached_property
    def _ended(self) -> deque[int]:
        """Subscriptions that this session had."""
        return deque(maxlen=_MOST_ENDED)

    def onUserError(self, fail: Failure, msg: str) -> None:
        """Log the error of a procedure, unless it is one of ours, which the caller gets, or the call has ended."""
        if not fail.check(SisockError, CancelledError, TransportLost):
            super().onUserError(fail, msg)

    def wrap_procedure(self, name: str, procedure: Callable[..., Any]) -> Callable[..., Any]:
        """Return a procedure as it is registered: every error in it arrives at the caller as a documented one.

        An answer is dropped when its router is lost meanwhile; autobahn would print a traceback.
        """

        def answer(*args: Any, **kwargs: Any) -> Any:
            self.counters.add("requests")
            try:
                answering = procedure(*args, **kwargs)
            except BaseException:  # noqa: BLE001 - a node's own code may raise anything
                self._to_documented_error(name, Failure(), procedure, args, kwargs)
            if not isinstance(answering, Deferred):
                return answering
            answering.addBoth(lambda result: result if self.is_attached() else Deferred())
            return answering.addErrback(
                lambda failure: self._to_documented_error(name, failure, procedure, args, kwargs)
            )

        return answer

    def _to_documented_error(
        self, name: str, failure: Failure, procedure: Callable[..., Any], args: Any, kwargs: Any
    ) -> NoReturn:
        error = failure.value
        if isinstance(error, CancelledError):  # the caller does not want the answer any more
            raise error
        self.counters.add("errors")
        if isinstance(error, SisockError | ApplicationError):
            raise error
        if isinstance(error, TypeError):
            try:
                signature(procedure).bind(*args, **kwargs)
            except TypeError as mismatch:
                raise BadRequest(f"{name}: {mismatch}") from error
        self._log_failure(f"{name} of node {self._title} failed", failure)
        raise NodeFailed(f"{name} of node {self._title} failed: {_text(error)}") from error

    def unserializable_error(self, request: int, error: Exception) -> Error:
        """Return the error that is sent instead of an answer that cannot be serialized."""
        log.error("an answer of %s cannot be sent: %s", self._title, error)
        return Error(
            Invocation.MESSAGE_TYPE,
            request,
            self.uri(f"error.{NodeFailed.name}"),
            args=[f"{self._title} has an answer that cannot be sent: {error}"],
        )

    def fail_permanently(self, failure: SisockError) -> None:
        """End this session for good, because of `failure`; the runner raises it.

        Autobahn's own runner would let the process run on unseen: it is ended, with exit status 1.
        """
        self.failure = failure
        if self.is_attached():
            self.leave()
        else:
            self.disconnect()
        if self._given_access is None:
            self.log.error("{message}", message=printable(failure.message))
            _end_process()


def _signature(answer: Any) -> str | bytes:
    if not isinstance(answer, str | bytes):
        raise BadRequest(
            f"onChallenge returned {type(answer).__name__}, not a signature; where it is overridden, remove it and "
            "set WAMP_USER and WAMP_SECRET"
        )
    return answer


def _text(error: BaseException) -> str:
    """Return type and text of an exception, as they are sent to callers."""
    return f"{type(error).__name__}: {safe_str(error)[:_LONGEST_TEXT]}"


def _end_process() -> None:
    """End the process of somebody else's runner soon, with exit status 1."""
    from twisted.internet import reactor

    def stop() -> None:
        if reactor.running:
            reactor.stop()

    def leave() -> None:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    # autobahn's `run` returns, and the script ends, as if nothing had happened.
    atexit.register(leave)
    reactor.callLater(0.5, stop)  # noqa: TID251 - the process ends; nothing steps its clock
