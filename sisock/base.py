"""The published contract: `DataNodeServer`, from which every data node derives.

Attributes
----------
WAMP_USER, WAMP_SECRET, WAMP_URI, REALM, BASE_URI : str
    Who we are, where the router is, and what all URIs begin with; from the environment variables of the same
    names.
SISOCK_HOST : str
SISOCK_PORT, OCS_PORT : int
    Host and ports of the router as published scripts read them: from CROSSBAR_HOST, CROSSBAR_TLS_PORT and
    CROSSBAR_OCS_PORT in the environment. Only such scripts use them.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Literal

from autobahn.exception import PayloadExceededError
from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.message import (
    Yield,
)
from autobahn.wamp.types import CallDetails, RegisterOptions, SessionDetails
from twisted.internet import threads
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from sisock.access import access_from_environment
from sisock.control import Procedure
from sisock.downsample import Method, method_named
from sisock.errors import BadAnswer, BadRequest, Busy, NameTaken, NodeFailed, NotAllowed, SisockError
from sisock.nodetype import check_node_name
from sisock.times import resolve, sisock_to_unix_time
from sisock.wamp import wire
from sisock.wamp.backpressure import Backpressure
from sisock.wamp.chunks import CHUNK, can_be_cut, chunks, frame
from sisock.wamp.limiter import CallerLimiter, MemoryBudget
from sisock.wamp.probe import probe_for_node
from sisock.wamp.session import Session

_ENVIRONMENT = access_from_environment()
WAMP_USER = _ENVIRONMENT.user
WAMP_SECRET = _ENVIRONMENT.secret
WAMP_URI = _ENVIRONMENT.url
REALM = _ENVIRONMENT.realm
BASE_URI = _ENVIRONMENT.base_uri


def _port(variable: str, default: int) -> int:
    value = os.environ.get(variable, str(default))
    if not value.isdecimal():
        raise BadRequest(f"{variable} is {value!r}; give the number of a port")
    return int(value)


# The published defaults: the name that the router's container has, and its ports.
SISOCK_HOST = os.environ.get("CROSSBAR_HOST", "sisock_crossbar")
SISOCK_PORT = _port("CROSSBAR_TLS_PORT", 8080)
OCS_PORT = _port("CROSSBAR_OCS_PORT", 8001)

__all__ = [
    "BASE_URI",
    "OCS_PORT",
    "REALM",
    "SISOCK_HOST",
    "SISOCK_PORT",
    "WAMP_SECRET",
    "WAMP_URI",
    "WAMP_USER",
    "DataNodeServer",
    "Question",
    "Session",
    "sisock_to_unix_time",
    "uri",
]

# How much there is shows only when it is read. Half of Twisted's threads are for others, whatever one caller asks.
_READS, _READS_WAITING = 5, 1000
# How many times the bytes of its arrays an answer takes that is sent as lists: Python's numbers, and their encoding.
_AS_LIST = 5
# Large answers of all callers together that may wait for memory.
_LARGE_WAITING = 200
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What ``get_data`` is asked for, once it was validated.

    Attributes
    ----------
    fields : sequence of str
    start, end : float
        UNIX seconds if positive, otherwise seconds relative to now; half-open.
    method : Method
        See `sisock.downsample.METHODS`.
    min_stride : float
        Seconds, 0 or more.
    max_points : int or None
        Most samples that each timeline may have.
    """

    fields: Sequence[str]
    start: float
    end: float
    method: Method
    min_stride: float
    max_points: int | None

    @property
    def is_published(self) -> bool:
        """Whether the published contract knows it: ``first`` by stride only."""
        return self.method == "first" and self.max_points is None


def uri(s: str) -> str:
    """Return the full URI of `s`: ``<BASE_URI>.<s>``."""
    return f"{BASE_URI}.{s}"


def _not_cancelled(asking: Deferred[Any]) -> Deferred[Any]:
    """Return a Deferred that fires as a call does, and does not cancel it when it is cancelled itself.

    A session in Crossbar's own process cannot take an INTERRUPT, which Crossbar logs as an unhandled message.
    """
    ended: Deferred[Any] = Deferred()
    asking.addBoth(lambda result: None if ended.called else ended.callback(result))
    return ended


class DataNodeServer(Session):
    """A data node on a WAMP router; derive from it and override the blocking hooks.

    A subclass sets `name` and `description` and overrides `get_fields_blocking` and `get_data_blocking`,
    which run in threads, or `get_fields` and `get_data` themselves. What they return is checked and turned
    into wire values here, once for all: NumPy arrays and scalars are welcome.
    """

    name: str | None = None
    """Unique name of the node; the hub refuses one that is taken."""
    description: str | None = None
    """What it is, for people."""
    allowance: int = 5_000_000
    """Most values, times included, that one answer may hold; beyond it `get_data` answers False."""
    allowance_bytes: int = 64_000_000
    """Most bytes that one answer may hold; beyond it `get_data` answers False."""
    big_reads: int = 2
    """Most answers above 1 MB that are on their way to one caller; four times as many may wait, then it is `busy`."""
    answer_memory: int = 256_000_000
    """Most bytes of all answers above 1 MB together, of all callers, from before they are read until they are sent."""
    max_fields: int = 5_000
    """Most fields that one call may ask for."""
    control: Sequence[Procedure] = ()
    """What an operator may have the node do."""

    added: bool = False
    """Whether the hub has added the node."""
    _counted = ("requests", "errors", "late_answers", "too_large", "busy")
    _flow: Backpressure | None = None
    _router_paces = True

    @cached_property
    def _reads(self) -> CallerLimiter:
        return CallerLimiter(_READS, _READS_WAITING, "answers")

    @cached_property
    def _turns(self) -> CallerLimiter:
        return CallerLimiter(self.big_reads, 4 * self.big_reads, "large answers")

    @cached_property
    def _memory(self) -> MemoryBudget:
        return MemoryBudget(self.answer_memory, _LARGE_WAITING)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def onJoin(self, details: SessionDetails) -> Any:
        """Register the node's procedures, ask the hub to add the node, then call `after_onJoin`."""
        try:
            if self.name is None:
                raise BadRequest(f"{type(self).__name__} has no name; set the class attribute `name`")
            check_node_name(self.name)
            yield probe_for_node(self)
            try:
                yield self._register("get_fields")
            except NameTaken:
                if not (yield self._claim_name()):
                    raise
                yield self._register("get_fields")
            for name in ("get_data", "status", "procedures"):
                yield self._register(name)
            for control in self.control:
                yield self._register_control(control)
            yield self.subscribe(self._announce, self.uri("hub.started"))
            yield self._announce()
        except SisockError as error:
            self.fail_permanently(error)
        except TransportLost:
            return  # the router went while we joined; the runner tries on
        except ApplicationError as error:
            if error.error in (ApplicationError.NOT_AUTHORIZED, ApplicationError.AUTHORIZATION_FAILED):
                # Published nodes for the observatory's open port do not log in.
                who = repr(details.authid) if details.authmethod == "wampcra" else "a session without a login"
                self.fail_permanently(
                    NotAllowed(f"{who} may not serve nodes; log in with the account of the server role")
                )
            elif self.is_attached():
                raise
        if self.failure is None and self.is_attached():
            try:
                yield maybeDeferred(self.after_onJoin, details)
            except Exception:
                self.counters.add("errors")
                log.exception("after_onJoin of node %s failed", self.name)

    def after_onJoin(self, details: SessionDetails) -> Any:
        """Run when the node has joined; for subclasses. May return a Deferred."""

    def get_fields(self, start: float, end: float) -> Any:
        """Return the fields and timelines that have samples in an interval.

        Parameters
        ----------
        start, end : float
            UNIX seconds if positive, otherwise seconds relative to now; half-open.

        Returns
        -------
        tuple of two dicts, or a Deferred of it
            Field name → {description, timeline, type, units}, and timeline name → {interval, field}.
        """
        interval = resolve(start, end, sisock_to_unix_time(0))
        return threads.deferToThread(self._hook("get_fields_blocking"), *interval)

    def get_data(self, field: list[str], start: float, end: float, min_stride: float | None = None) -> Any:
        """Return the samples of some fields in an interval.

        Parameters
        ----------
        field : list of str
        start, end : float
            UNIX seconds if positive, otherwise seconds relative to now; half-open.
        min_stride : float, optional
            Seconds by which successive samples are to be apart at least.

        Returns
        -------
        dict, or False beyond the node's allowance, or a Deferred of it
            ``data``: field name → array; ``timeline``: name → {t, finalized_until}.
        """
        interval = resolve(start, end, sisock_to_unix_time(0))
        return threads.deferToThread(self._hook("get_data_blocking"), field, *interval, min_stride)

    def get_thinned(self, question: Question) -> Any:
        """Return fewer samples of some fields in an interval; for subclasses that need not read all of them for that.

        Parameters
        ----------
        question : Question

        Returns
        -------
        dict, or False beyond the node's allowance, or a Deferred of it
            As `get_data`; each timeline says under ``downsample`` how it was thinned out.
        """
        return self._downsampled(question, None)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _downsampled(self, question: Question, min_stride: float | None) -> Any:
        """Return what `get_data` answers when it is asked for `min_stride`, downsampled unless it states that it is."""
        fields, start, end = question.fields, question.start, question.end
        answer = wire.guard((yield maybeDeferred(self.get_data, fields, start, end, min_stride)), fields)
        if not answer or wire.is_downsampled(answer, question.min_stride):
            return answer
        timeline_of: dict[str, str] = {}
        if not can_be_cut(answer):  # nodes of the published contract say in get_fields alone what is on which timeline
            known, _ = wire.guard_fields((yield maybeDeferred(self.get_fields, start, end)))
            timeline_of = {name: about.get("timeline") for name, about in known.items()}
        how = question.method, question.min_stride, question.max_points
        try:
            return (yield threads.deferToThread(wire.thinned, answer, *how, timeline_of))
        except BadAnswer:
            if question.is_published:
                return answer  # as the node's own code took `min_stride`
            raise

    def cost(self, question: Question) -> Any:
        """Return how many bytes reading an answer takes, or a Deferred of it; 0 where that is known only afterwards.

        For subclasses that can estimate it: an answer above 1 MB is not read before there is memory for it.
        """
        return 0

    def get_fields_blocking(self, start: float, end: float) -> Any:
        """Return the same as `get_fields`; called in a thread, with UNIX seconds. For subclasses."""
        raise NodeFailed(f"node {self.name!r} does not say what its fields are")

    def get_data_blocking(self, field: list[str], start: float, end: float, min_stride: float | None = None) -> Any:
        """Return the same as `get_data`; called in a thread, with UNIX seconds. For subclasses."""
        raise NodeFailed(f"node {self.name!r} does not say what its data are")

    def status(self) -> dict[str, Any]:
        """Return the node's health and counters."""
        return {"name": self.name, "description": self.description, "counters": self.counters.as_dict()}

    def procedures(self) -> list[dict[str, Any]]:
        """Return the node's control procedures: name, description, parameters as a JSON schema."""
        return [procedure.described() for procedure in self.control]

    def _hook(self, name: str) -> Callable[..., Any]:
        """Return the blocking hook, in the older spelling where a subclass overrides that."""
        return getattr(self, f"_{name}", None) or getattr(self, name)  # type: ignore[no-any-return]

    def _register(self, name: str) -> Deferred[Any]:
        # Registered are the guarded procedures; a subclass that overrides the bare ones is guarded as well.
        guarded = self.wrap_procedure(
            name, getattr(self, f"_answer_{name}", None) or self._guarded(getattr(self, name))
        )
        # Who calls, and how, is told only to those that use it: that takes a tenth of a small call.
        asks = name in ("get_fields", "get_data")
        options = RegisterOptions(details_arg="details") if asks else None
        registering = self.register(guarded, self.uri(f"consumer.{self.name}.{name}"), options)

        def refused(failure: Any) -> None:
            error = failure.trap(ApplicationError) and failure.value
            if error.error == ApplicationError.PROCEDURE_ALREADY_EXISTS:
                raise self._name_taken() from error
            raise error

        return registering.addErrback(refused)

    def _register_control(self, procedure: Procedure) -> Deferred[Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if args:
                raise BadRequest(f"{procedure.name} takes its arguments by name")
            return threads.deferToThread(procedure.call, kwargs)

        answered = self.wrap_procedure(procedure.name, self._guarded(run))
        return self.register(answered, self.uri(f"control.{self.name}.{procedure.name}"))

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _announce(self) -> Any:
        try:
            added = yield self.call(
                self.uri("data_node.add"), self.name, self.description, self._session_id, *self._instance()
            )
        except ApplicationError as error:
            if error.error != ApplicationError.NO_SUCH_PROCEDURE:
                raise
            log.info("no hub yet; %s is added as soon as one is there", self.name)
            return
        if not added:
            self.fail_permanently(self._name_taken())
        elif not self.added:
            log.info("%s is added to the hub", self.name)
            self.added = True

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _claim_name(self) -> Any:
        """Return whether our name is free; the hub ends the session that has it, if that is dead or was ours."""
        try:
            return (yield self.call(self.uri("data_node.claim"), self.name, self._session_id, *self._instance()))
        except ApplicationError as error:
            log.warning("the hub does not settle who is %s: %s", self.name, error.error)
            return False

    def _instance(self) -> tuple[str, ...]:
        """Return the id of this node over its sessions, where the runner has made one."""
        instance = (self.config.extra or {}).get("instance")
        return (instance,) if instance else ()

    def _name_taken(self) -> NameTaken:
        return NameTaken(
            f"the name {self.name!r} is taken by another node; give this one another name, or stop that one"
        )

    def _guarded(self, procedure: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(procedure)
        def answer(*args: Any, **kwargs: Any) -> Any:
            answering = procedure(*args, **kwargs)
            return answering.addCallback(wire.plain) if isinstance(answering, Deferred) else wire.plain(answering)

        return answer

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _answer_get_data(
        self,
        field: Any = None,
        start: Any = None,
        end: Any = None,
        min_stride: Any = None,
        *,
        downsample: Any = "first",
        max_points: Any = None,
        encoding: Any = "list",
        details: CallDetails,
        **unknown: Any,
    ) -> Any:
        if unknown:
            raise BadRequest(f"get_data does not know {', '.join(map(repr, sorted(unknown)))}")
        if encoding not in ("list", "packed"):
            raise BadRequest(f"encoding is {encoding!r}; give list or packed")
        names = wire.check_fields(field, self.max_fields)
        resolve(start, end, sisock_to_unix_time(0))
        if min_stride is not None and not (isinstance(min_stride, int | float) and 0 <= min_stride < float("inf")):
            raise BadRequest(f"min_stride is {min_stride!r}; give seconds, 0 or more")
        if max_points is not None and not (isinstance(max_points, int) and max_points >= 2):
            raise BadRequest(f"max_points is {max_points!r}; give a whole number, 2 or more")
        question = Question(names, start, end, method_named(downsample), min_stride or 0.0, max_points)
        read: tuple[Any, ...]
        if not question.is_published:
            read = (self.get_thinned, question)
        elif min_stride:
            read = (self._downsampled, question, min_stride)
        else:
            read = (self.get_data, names, start, end, min_stride)
        cost = yield maybeDeferred(self.cost, question)
        weight = 1 if encoding == "packed" else _AS_LIST
        end_turn = (yield self._large(details.caller, weight * cost)) if cost > CHUNK else None
        try:
            answer = yield self._read(read, names, details.caller)
            if answer is False or wire.values_in(answer) > self.allowance:
                return self._too_large()
            size = wire.size_of(answer)
            if size > self.allowance_bytes:
                return self._too_large()
            if size <= CHUNK:
                return self._within_limit(answer, encoding)
            if end_turn is None:
                end_turn = yield self._large(details.caller, weight * size)
            if details.progress and encoding == "packed" and can_be_cut(answer):
                return (yield self._send_in_chunks(answer, details))
            encoded = self._within_limit(answer, encoding)
            yield self._router_room(details.caller)
            return encoded
        finally:
            if end_turn is not None:
                end_turn()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _large(self, caller: Any, cost: int) -> Any:
        """Wait until a caller may have one more large answer, and there is memory for it; return what ends that.

        Small answers pass by: they wait for neither.
        """
        end_turn = yield self._turn(self._turns.take, caller)
        try:
            return_memory = yield self._turn(self._memory.take, cost)
        except BaseException:
            end_turn()
            raise

        def end() -> None:
            return_memory()
            end_turn()

        return end

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _read(self, read: tuple[Any, ...], names: Sequence[str], caller: Any) -> Any:
        """Return the guarded answer of the node's own code, when it is the caller's turn."""
        end_turn = yield self._turn(self._reads.take, caller)
        try:
            return wire.guard((yield maybeDeferred(*read)), names)
        except BadAnswer as error:
            log.error("node %s: %s", self.name, error.message)
            raise NodeFailed(f"node {self.name!r}: {error.message}") from error
        finally:
            end_turn()

    def _turn(self, take: Callable[[Any], Deferred[Callable[[], None]]], of: Any) -> Deferred[Callable[[], None]]:
        def busy(failure: Failure) -> Failure:
            if failure.check(Busy):
                self.counters.add("busy")
            return failure

        turn: Deferred[Callable[[], None]] = maybeDeferred(take, of)
        return turn.addErrback(busy)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _send_in_chunks(self, answer: dict[str, Any], details: CallDetails) -> Any:
        """Send the samples as progressive results, no faster than transport and caller take them; return the rest."""
        if self._flow is None:
            self._flow = Backpressure(self._transport.transport)
        flow, number = self._flow, 0
        flow.begin()
        try:
            # With room for what is around the arrays and, where the serializer is JSON, for base64.
            for chunk in chunks(answer, min(CHUNK, self._message_limit() * 2 // 3)):
                yield flow.room()
                yield self._router_room(details.caller)
                if not self.is_attached():
                    raise NodeFailed(f"node {self.name!r} lost the router while it answered")
                details.progress(chunk)
                number += 1
        except PayloadExceededError:
            return self._too_large()  # a single row has more than a message carries
        finally:
            flow.end()
        rest = frame(answer, number)
        return rest if self._fits(rest) else self._too_large()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _router_room(self, caller: int | None) -> Any:
        """Wait until the router takes one more chunk for a caller; other routers than ours take all at once."""
        if not self._router_paces or caller is None:
            return
        try:
            yield _not_cancelled(self.call(self.uri("router.room"), caller))
        except TransportLost:
            return
        except ApplicationError as error:
            if self.is_attached():
                log.info("the router does not pace large answers (%s)", error.error)
                self._router_paces = False

    def _too_large(self) -> Literal[False]:
        self.counters.add("too_large")
        return False

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _answer_get_fields(self, start: Any = None, end: Any = None, *, details: CallDetails) -> Any:
        resolve(start, end, sisock_to_unix_time(0))
        try:
            return wire.plain(wire.guard_fields((yield maybeDeferred(self.get_fields, start, end))))
        except BadAnswer as error:
            raise NodeFailed(f"node {self.name!r}: {error.message}") from error

    def _within_limit(self, answer: dict[str, Any], encoding: wire.Encoding) -> Any:
        """Return the encoded answer, or False when its message would be larger than the transport carries."""
        serializer = self._transport._serializer  # noqa: SLF001 - no public way
        encoded = wire.encode(answer, encoding)
        if wire.widest(answer, encoding, serializer.SERIALIZER_ID) <= self._message_limit():
            return encoded
        # The bound is generous; only the serializer knows.
        return encoded if self._fits(encoded) else self._too_large()

    def _fits(self, encoded: dict[str, Any]) -> bool:
        """Whether a message with this answer is one that the transport carries."""
        message, _ = self._transport._serializer.serialize(Yield(1, args=[encoded]))  # noqa: SLF001 - no public way
        return len(message) + 64 <= self._message_limit()

    def _message_limit(self) -> int:
        """Return the bytes that a message to the router may have: autobahn's limit, RawSocket's and the site's."""
        limits = (
            getattr(self._transport, "maxMessagePayloadSize", None),
            getattr(self._transport, "_max_len_send", None),
            self.access.max_message_size,
        )
        return min(limit for limit in limits if limit)
