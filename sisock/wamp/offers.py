"""The procedures that a node offers, on the wire: registered at each join and while the node runs, and called."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.types import CallDetails, RegisterOptions
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, inlineCallbacks
from twisted.python.failure import Failure

from sisock.access import GATEWAY
from sisock.errors import BadRequest, NameTaken, NotAllowed
from sisock.jsontext import size_of
from sisock.metrics import Counters
from sisock.procedure import Caller, Operation, Principal, Procedure
from sisock.serializable import to_serializable
from sisock.wamp.backpressure import RouterBackpressure
from sisock.wamp.event_publisher import EventPublisher
from sisock.wamp.interest import Interest
from sisock.wamp.limiter import CallerLimiter
from sisock.wamp.outbox import NextTurn
from sisock.wamp.runs import UNPACED, RunCall, RunPublisher, check_size
from sisock.wamp.session import Session
from sisock.wamp.table_publisher import TablePublisher
from sisock.wamp.table_queries import Ready, table_queries
from sisock.work import Work

# Calls of one caller that run at a time, and that wait.
_AT_ONCE, _WAITING = 64, 1000

log = logging.getLogger(__name__)


class OfferedProcedures:
    """Registers what a node offers while a session is joined, and answers the calls.

    Parameters
    ----------
    session : Session
        Joined.
    node : str
    work : Work
    interest : Interest
    counters : Counters
    """

    def __init__(self, session: Session, node: str, work: Work, interest: Interest, counters: Counters) -> None:
        from twisted.internet import reactor

        self._session, self._node, self._work, self._reactor = session, node, work, reactor
        self._runs = RunPublisher(session, node, work.operations, interest, counters)
        self._events = EventPublisher(session, node, counters, interest)
        self._tables = TablePublisher(session, node, work.tables, interest, counters)
        self._limiter = CallerLimiter(_AT_ONCE, _WAITING, "calls")
        self._large = CallerLimiter(1, _AT_ONCE, "large results")
        self._router = RouterBackpressure(session)
        self._registrations: dict[str, list[Any]] = {}  # by name of the procedure
        self._changing: dict[str, DeferredLock] = {}  # by name
        self._ended: deque[Callable[[], None]] = deque()  # the answers of calls whose code has ended in a thread
        self._answer_ended = NextTurn(self._answer_all_ended)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def open(self) -> Any:
        """Register all procedures; those whose URI is taken are reported and left out."""
        self._work.listen(self._on_offer)
        self._runs.open()
        self._tables.open()
        self._work.events.listen(self._events.on_events)
        procedures = [*self._work.offers.all(), *table_queries(self._work.tables)]
        outcomes = yield DeferredList([self._change(each, offered=True) for each in procedures], consumeErrors=True)
        for procedure, (succeeded, failure) in zip(procedures, outcomes, strict=True):
            if succeeded:
                self._work.outages.recovered(_outage(procedure))
            elif failure.check(NameTaken):
                self._work.outages.failed(_outage(procedure), failure.value)
            else:
                failure.raiseException()

    def close(self) -> None:
        """Offer nothing more through this session."""
        self._work.unlisten(self._on_offer)
        self._runs.close()
        self._tables.close()
        self._work.events.unlisten(self._events.on_events)

    def _on_offer(self, procedure: Procedure, offered: bool) -> "Future[Any]":
        """Register or unregister a procedure, in the reactor's thread."""
        confirmed: Future[Any] = Future()

        def change() -> None:
            if not self._session.is_attached():
                confirmed.set_result(None)  # the next session registers what is offered then
                return
            self._change(procedure, offered=offered).addCallbacks(confirmed.set_result, failed)

        def failed(failure: Failure) -> None:
            if failure.check(TransportLost):
                confirmed.set_result(None)
            else:
                confirmed.set_exception(failure.value)

        self._reactor.callFromThread(change)
        return confirmed

    def _change(self, procedure: Procedure, *, offered: bool) -> "Deferred[Any]":
        """Register or unregister a procedure; the changes of a name are made one after the other."""
        lock = self._changing.setdefault(procedure.name, DeferredLock())

        def changed(result: Any) -> Any:
            if not lock.locked:
                self._changing.pop(procedure.name, None)
            return result

        changing: Deferred[Any] = lock.run(self._register if offered else self._unregister, procedure)
        return changing.addBoth(changed)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _register(self, procedure: Procedure) -> Any:
        if procedure.name in self._registrations:
            return  # it was offered while the session was opened
        yield self._check_owner(procedure)
        options = RegisterOptions(details_arg="_details")
        answer = self._session.wrap_procedure(procedure.name, self._answering(procedure))
        self._registrations[procedure.name] = registrations = []
        for uri in self.uris(procedure):
            try:
                registrations.append((yield self._session.register(answer, uri, options)))
            except ApplicationError as error:
                yield self._unregister(procedure)
                if error.error != ApplicationError.PROCEDURE_ALREADY_EXISTS:
                    raise
                raise NameTaken(f"{uri} is taken by another session; give the {procedure.kind} another name") from error

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _unregister(self, procedure: Procedure) -> Any:
        for registration in self._registrations.pop(procedure.name, ()):
            yield registration.unregister()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _check_owner(self, procedure: Procedure) -> Any:
        """Raise NameTaken where the URI of a procedure with dots in its name is one of another node's."""
        first, *more = procedure.name.split(".")[:-1] or [""]
        if not first:
            return
        owners = {f"{self._node}.{'.'.join([first, *more[:count]])}" for count in range(len(more) + 1)}
        try:
            nodes = yield self._session.call(self._session.uri("consumer.get_data_node"))
        except ApplicationError:
            return  # no hub yet; a URI that is taken is refused by the router
        for node in nodes:
            if node["name"] in owners:
                uri = self._session.uri(f"control.{self._node}.{procedure.name}")
                raise NameTaken(f"{uri} belongs to node {node['name']!r}; give the {procedure.kind} another name")

    def uris(self, procedure: Procedure) -> list[str]:
        """Return the URIs of a procedure; a query has two, since published clients call everything below control."""
        control = self._session.uri(f"control.{self._node}.{procedure.name}")
        if procedure.kind != "query":
            return [control]
        return [self._session.uri(f"consumer.{self._node}.query.{procedure.name}"), control]

    def described(self) -> list[dict[str, Any]]:
        """Return the procedures of the node's own with their URIs, without those that every node has."""
        return [
            {**each.described(), "uri": self.uris(each)[0]} for each in self._work.offers.all() if not each.is_builtin
        ]

    def _answering(self, procedure: Procedure) -> Callable[..., Any]:
        def answer(*args: Any, _details: CallDetails, **kwargs: Any) -> Any:
            if args:
                raise BadRequest(f"{procedure.name} takes its arguments by name")
            caller = caller_of(_details, kwargs.pop("_principal", None), procedure)
            if isinstance(procedure, Operation):
                return self._answer_operation(procedure, kwargs, caller, _details)
            return self._answer_call(procedure, kwargs, caller)

        return answer

    def _answer_call(self, procedure: Procedure, arguments: Mapping[str, Any], caller: Caller) -> Any:
        end = self._limiter.take_now(caller.session)
        if end is not None:
            return self._call(procedure, arguments, caller, end)
        waiting: Deferred[Any] = self._limiter.take(caller.session)
        return waiting.addCallback(lambda end: self._call(procedure, arguments, caller, end))

    def _call(self, procedure: Procedure, arguments: Mapping[str, Any], caller: Caller, end: Callable[[], None]) -> Any:
        """Call a procedure; return its result, or a Deferred of it, and end the turn of the caller with it."""
        try:
            future = self._work.call(procedure, arguments, caller)
        except BaseException:
            end()
            raise
        if future.done():  # that of a coroutine that has not waited for anything
            try:
                result = self._wire_result(procedure, future.result(), caller)
            except BaseException:
                end()
                raise
            if not isinstance(result, Deferred):
                end()
                return result
            answer = result
        else:
            answer = self._deferred(future).addCallback(lambda result: self._wire_result(procedure, result, caller))

        def ended(outcome: Any) -> Any:
            end()
            return outcome

        return answer.addBoth(ended)

    def _wire_result(self, procedure: Procedure, result: Any, caller: Caller) -> Any:
        """Return a result as it is sent; a Deferred of it where it is large."""
        shaped = result.content if isinstance(result, Ready) else procedure.shaped(result)
        size = result.size if isinstance(result, Ready) else size_of(shaped)
        check_size(self._session, procedure.name, size)
        content = shaped if isinstance(result, Ready) else to_serializable(shaped)
        return content if size <= UNPACED else self._paced(content, caller)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _paced(self, content: Any, caller: Caller) -> Any:
        """Return a large result when the router takes it for the caller: it cuts those for whom too much waits."""
        end = yield self._large.take(caller.session)
        try:
            yield self._router.room(caller.session)
            return content
        finally:
            self._reactor.callFromThread(end)  # when it has been sent

    def _answer_operation(
        self, operation: Operation, arguments: dict[str, Any], caller: Caller, details: CallDetails
    ) -> Any:
        waits = arguments.pop("_wait", True)
        if not isinstance(waits, bool):
            raise BadRequest(f"_wait is {waits!r}; give False to get the id of the run at once")
        run = self._work.operations.start(operation, arguments, caller)
        if not waits:
            return run.id
        return RunCall(self._session, self._work.operations, run, caller, details, self._router).answer

    def _deferred(self, future: "Future[Any]") -> "Deferred[Any]":
        """Return a Deferred of a future; cancelling it cancels what has not begun."""
        deferred: Deferred[Any] = Deferred(lambda _: future.cancel())

        def fire() -> None:
            if deferred.called or future.cancelled():
                return
            error = future.exception()
            if error is None:
                deferred.callback(future.result())
            else:
                deferred.errback(error)

        def ended(_: Any) -> None:
            self._ended.append(fire)
            self._answer_ended()

        future.add_done_callback(ended)
        return deferred

    def _answer_all_ended(self) -> None:
        for _ in range(len(self._ended)):
            self._ended.popleft()()


def caller_of(details: CallDetails, principal: Any, procedure: Procedure) -> Caller:
    """Return the caller of a procedure.

    Parameters
    ----------
    details : autobahn.wamp.types.CallDetails
    principal : any
        The argument ``_principal`` of the call.
    procedure : Procedure

    Raises
    ------
    NotAllowed
        If anybody but the gateway names somebody for whom it calls, or that person may not call the procedure.
    BadRequest
        If the gateway names nobody who can be recorded.
    """
    account, role = details.caller_authid, details.caller_authrole
    if account != GATEWAY:
        if principal is not None:
            raise NotAllowed(f"only the gateway may give _principal, and the caller is {account!r}; leave it out")
        return Caller(account, role, details.caller)
    user, named_role = (principal.get(key) if isinstance(principal, dict) else None for key in ("user", "role"))
    if not isinstance(user, str) or not user or named_role not in ("consumer", "operator"):
        raise BadRequest("the gateway must give _principal={user, role} with every call, role consumer or operator")
    if procedure.kind != "query" and named_role != "operator":
        raise NotAllowed(f"{user!r} is {named_role}, and {procedure.name} is for operators")
    return Caller(account, role, details.caller, Principal(user, named_role))


def _outage(procedure: Procedure) -> str:
    return f"the registration of {procedure.name}"
