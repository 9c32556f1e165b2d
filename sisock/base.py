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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import cached_property, wraps
from typing import Any, Literal

from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import CallDetails, CloseDetails, RegisterOptions, SessionDetails
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.threads import deferToThread

from sisock.access import access_from_environment
from sisock.errors import BadAnswer, BadRequest, NameTaken, NodeFailed, NotAllowed, SisockError
from sisock.event import Severity
from sisock.fields import Reply
from sisock.nodetype import check_node_name
from sisock.procedure import Procedure
from sisock.serializable import to_serializable
from sisock.tables import Columns, Table
from sisock.times import SYSTEM_CLOCK, Clock, resolve, sisock_to_unix_time
from sisock.wamp.interest import Interest
from sisock.wamp.nodename import NodeName
from sisock.wamp.offers import OfferedProcedures
from sisock.wamp.probe import probe_for_node
from sisock.wamp.question import Question, validate_question
from sisock.wamp.replies import downsample_reply, has_stride, placed, validate_answer
from sisock.wamp.sender import ReplySender
from sisock.wamp.session import Session
from sisock.work import Work

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

log = logging.getLogger(__name__)


def uri(s: str) -> str:
    """Return the full URI of `s`: ``<BASE_URI>.<s>``."""
    return f"{BASE_URI}.{s}"


class DataNodeServer(Session):
    """A data node on a WAMP router; derive from it and override the blocking hooks.

    A subclass sets `name` and `description` and overrides `get_fields_blocking` and `get_data_blocking`,
    which run in threads, or `get_fields` and `get_data` themselves. Their results are validated and turned
    into wire values here: NumPy arrays and scalars are welcome.
    """

    name: str | None = None
    """Unique name of the node; the hub refuses one that is taken."""
    description: str | None = None
    """Description for people."""
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
    """Queries, commands and operations; those that are offered later come through `offer`."""

    added: bool = False
    """Whether the hub has added the node."""
    _clock: Clock = SYSTEM_CLOCK
    _counted = ("requests", "errors", "late_answers", "too_large", "busy")
    _node_name: NodeName

    @cached_property
    def reply_sender(self) -> ReplySender:
        """Answers the questions for samples, within the limits above."""
        return ReplySender(self, self)

    # With an underscore, since classes of the published contract may have attributes of any other name.
    @cached_property
    def _work(self) -> Work:
        """The work of the node: its procedures, and the runs of its operations."""
        work = Work(self._clock)
        for procedure in self.control:
            work.offers.add(procedure)
        return work

    @cached_property
    def _interest(self) -> Interest:
        """Which topics of the node have subscribers."""
        return Interest(self)

    def offer(self, procedure: Procedure) -> "Future[None]":
        """Offer a query, a command or an operation from now on; see `sisock.work.Work.offer`."""
        return self._work.offer(procedure)

    def withdraw(self, name: str) -> "Future[None]":
        """Offer a procedure no more; see `sisock.work.Work.withdraw`."""
        return self._work.withdraw(name)

    def table(self, name: str, columns: Columns) -> Table:
        """Return a table of the node, which is in memory and ends with this session; see `NodeContext.table`."""
        return self._work.tables.open(name, columns)

    def report(self, kind: str, subject: str, text: str, severity: Severity = "info", **data: Any) -> None:
        """Report an event, which is in memory and ends with this session; see `sisock.event.Events.report`."""
        self._work.report(kind, subject, text, severity, **data)

    @cached_property
    def _offered(self) -> OfferedProcedures:
        return OfferedProcedures(self, str(self.name), self._work, self._interest, self.counters)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def onJoin(self, details: SessionDetails) -> Any:
        """Register the node's procedures, ask the hub to add the node, then call `after_onJoin`."""
        try:
            yield self._register_all()
            yield self.subscribe(self._announce, self.uri("hub.started"))
            yield self._announce()
        except SisockError as error:
            self.fail_permanently(error)
        except TransportLost:
            return  # the router went while we joined; the runner joins again
        except ApplicationError as error:
            if error.error in (ApplicationError.NOT_AUTHORIZED, ApplicationError.AUTHORIZATION_FAILED):
                self.fail_permanently(_not_allowed(details))
            elif self.is_attached():
                raise
        if self.failure is None and self.is_attached():
            try:
                yield maybeDeferred(self.after_onJoin, details)
            except Exception:
                self.counters.add("errors")
                log.exception("after_onJoin of node %s failed", self.name)

    def onLeave(self, details: CloseDetails) -> None:
        """Offer nothing more through this session."""
        self._offered.close()
        super().onLeave(details)

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
        return deferToThread(self._hook("get_fields"), *resolve(start, end, self._clock.now()))

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
        return deferToThread(self._hook("get_data"), field, *resolve(start, end, self._clock.now()), min_stride)

    def get_fields_blocking(self, start: float, end: float) -> Any:
        """Return the same as `get_fields`; called in a thread, with UNIX seconds. For subclasses."""
        raise NodeFailed(f"node {self.name!r} does not implement get_fields")

    def get_data_blocking(self, field: list[str], start: float, end: float, min_stride: float | None = None) -> Any:
        """Return the same as `get_data`; called in a thread, with UNIX seconds. For subclasses."""
        raise NodeFailed(f"node {self.name!r} does not implement get_data")

    def get_reply(self, question: Question) -> Any:
        """Return the reply to a question, or False beyond the node's allowance; for subclasses that know it whole.

        By default it is what `get_data` returns, downsampled where that does not state to be. May return a Deferred.
        """
        stride = question.asked[2] if question.is_published else None
        asked, resolved = ((question.fields, *times, stride) for times in (question.asked[:2], question.interval))
        reply = self._own("get_data", asked, resolved).addCallback(validate_answer, question.fields)
        return reply if question.wants_all else reply.addCallback(self._downsampled, question)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _downsampled(self, reply: Reply | Literal[False], question: Question) -> Any:
        if reply is False or has_stride(reply, question.min_stride):
            return reply
        if reply.unplaced:  # nodes of the published contract state in get_fields alone what is on which timeline
            fields, _ = check_fields((yield self._own("get_fields", question.asked[:2], question.interval)))
            reply = placed(reply, {name: about.get("timeline") for name, about in fields.items()})
        try:
            how = question.method, question.min_stride, question.max_points
            return (yield deferToThread(downsample_reply, reply, *how))
        except BadAnswer:
            if question.is_published:
                return reply  # as the node's own code took `min_stride`
            raise

    def cost(self, question: Question) -> Any:
        """Return how many bytes reading a reply takes, or a Deferred of it; 0 where that is known only afterwards.

        For subclasses that can estimate it: a reply above 1 MB is not read before there is memory for it.
        """
        return 0

    def status(self) -> dict[str, Any]:
        """Return the node's health and counters."""
        counters = self.counters.as_dict()
        return {"name": self.name, "description": self.description, "counters": counters, **self._work.status()}

    def procedures(self) -> list[dict[str, Any]]:
        """Return the node's queries, commands and operations: name, kind, URI, JSON schemas of arguments and result."""
        return self._offered.described()

    def _own(self, name: str, asked: Iterable[Any], resolved: Iterable[Any]) -> Deferred[Any]:
        """Call a procedure that a subclass overrides, with times as asked for, or else its hook, with UNIX seconds."""
        procedure = getattr(self, name)
        if getattr(procedure, "__func__", None) is getattr(DataNodeServer, name):
            return deferToThread(self._hook(name), *resolved)
        return maybeDeferred(procedure, *asked)

    def _hook(self, name: str) -> Callable[..., Any]:
        """Return the blocking hook of a procedure, in the older spelling where a subclass overrides that."""
        return getattr(self, f"_{name}_blocking", None) or getattr(self, f"{name}_blocking")  # type: ignore[no-any-return]

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _register_all(self) -> Any:
        if self.name is None:
            raise BadRequest(f"{type(self).__name__} has no name; set the class attribute `name`")
        check_node_name(self.name)
        yield probe_for_node(self)
        self._node_name = NodeName(self, self.name, self.description)
        # The details of a call take a tenth of a small one, so that only procedures that use them get them.
        details = RegisterOptions(details_arg="details")
        yield self._node_name.register_first(
            "get_fields", self.wrap_procedure("get_fields", self._answer_get_fields), details
        )
        yield self._node_name.register("get_data", self.wrap_procedure("get_data", self._answer_get_data), details)
        for name in ("status", "procedures"):
            yield self._node_name.register(name, self.wrap_procedure(name, _serializable(getattr(self, name))))
        yield self._offered.open()

    def _answer_get_data(
        self,
        field: Any = None,
        start: Any = None,
        end: Any = None,
        min_stride: Any = None,
        *,
        details: CallDetails,
        **options: Any,
    ) -> Any:
        question = validate_question(self._clock.now(), self.max_fields, field, start, end, min_stride, **options)
        return self.reply_sender.answer(question, details)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _answer_get_fields(self, start: Any = None, end: Any = None, *, details: CallDetails) -> Any:
        interval = resolve(start, end, self._clock.now())
        try:
            return to_serializable(check_fields((yield self._own("get_fields", (start, end), interval))))
        except BadAnswer as error:
            raise NodeFailed(f"node {self.name!r}: {error.message}") from error

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _announce(self) -> Any:
        try:
            self.added = yield self._node_name.announce()
        except NameTaken as error:
            self.fail_permanently(error)


def _not_allowed(details: SessionDetails) -> NotAllowed:
    # Published nodes for the observatory's open port do not log in.
    who = repr(details.authid) if details.authmethod == "wampcra" else "a session without a login"
    return NotAllowed(f"{who} may not serve nodes; log in with the account of the server role")


def check_fields(answer: Any) -> Sequence[dict[str, Any]]:
    """Return the result of a node's own `get_fields`, if it is two dicts.

    Raises
    ------
    BadAnswer
        If it is not.
    """
    if not (isinstance(answer, list | tuple) and len(answer) == 2 and all(isinstance(a, dict) for a in answer)):
        raise BadAnswer(f"get_fields returned {type(answer).__name__}, not two dicts")
    return answer


def _serializable(procedure: Callable[..., Any]) -> Callable[..., Any]:
    """Return a procedure whose result can be serialized."""

    @wraps(procedure)
    def answer(*args: Any, **kwargs: Any) -> Any:
        result = procedure(*args, **kwargs)
        return result.addCallback(to_serializable) if isinstance(result, Deferred) else to_serializable(result)

    return answer
