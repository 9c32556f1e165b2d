"""The runs of operations on the wire: calls that wait for one, and the publication of their changes."""

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from autobahn.wamp.exception import ApplicationError, TransportLost
from autobahn.wamp.message import Cancel
from autobahn.wamp.types import CallDetails
from twisted.internet.defer import Deferred, inlineCallbacks

from sisock.errors import TooLarge
from sisock.metrics import Counters
from sisock.operation import Operations
from sisock.procedure import Caller
from sisock.runs import Run
from sisock.wamp.backpressure import RouterBackpressure
from sisock.wamp.interest import Interest
from sisock.wamp.messages import message_limit
from sisock.wamp.outbox import NextTurn, publish
from sisock.wamp.session import Session

UNPACED = 1 << 18
"""Bytes that are sent to a caller before the router is asked whether it takes more."""

log = logging.getLogger(__name__)


def check_size(session: Session, name: str, size: int) -> None:
    """Raise TooLarge where a result does not fit a message.

    Parameters
    ----------
    session : Session
    name : str
        Of the procedure.
    size : int
        Bytes of the result, about.
    """
    if size > (limit := message_limit(session)):
        raise TooLarge(
            f"the result of {name} has about {size} bytes, and a message to the router holds {limit}; return less, or "
            "emit samples and return their interval"
        )


class RunCall:
    """A call that waits for the end of a run, and gets its changes as progressive results if it asks for them.

    Parameters
    ----------
    session : Session
        Which the call came to.
    operations : Operations
    run : Run
    caller : Caller
    details : autobahn.wamp.types.CallDetails
    router : RouterBackpressure

    Attributes
    ----------
    answer : Deferred
        Fires with the result of the run; never, where nobody waits for it any more.
    """

    def __init__(
        self,
        session: Session,
        operations: Operations,
        run: Run,
        caller: Caller,
        details: CallDetails,
        router: RouterBackpressure,
    ) -> None:
        self._session, self._operations, self._run, self._caller = session, operations, run, caller
        self._router = router
        self._unpaced = 0  # bytes that were sent since the router was asked whether it takes more
        self._is_paused = self._is_result_paced = False
        self._progress = details.progress
        self._request = session.take_interrupts(self._interrupted)
        self._seq = 0
        self._is_over = False
        self._schedule = NextTurn(self._flush)
        self.answer: Deferred[Any] = Deferred()
        run.listen(self._on_change)
        self._flush()

    def _on_change(self, _run: Run) -> None:
        self._schedule()

    def _flush(self) -> None:
        if self._is_over or self._is_paused:
            return
        if not self._session.is_attached():
            self._close()
            return
        is_ended = self._run.is_ended  # read first: the changes that are sent now include the last one then
        if self._progress is not None:
            for change in self._run.changes(self._seq):
                if self._unpaced > UNPACED:
                    self._pause()
                    return
                self._seq = change.seq
                self._unpaced += change.bytes
                self._send(self._run.as_published(change))
        if is_ended and self._run.bytes > UNPACED and not self._is_result_paced:
            self._is_result_paced = True
            self._pause()
        elif is_ended:
            self._close()
            self._give_answer()

    def _pause(self) -> None:
        """Send no more until the router takes more for the caller: it cuts those for whom too much waits."""
        self._is_paused, self._unpaced = True, 0
        self._router.room(self._caller.session).addBoth(self._resume)

    def _resume(self, _result: Any) -> None:
        self._is_paused = False
        self._schedule()

    def _send(self, change: Mapping[str, Any]) -> None:
        """Send a change to the caller; one that cannot be sent must not keep back the others, nor the answer."""
        try:
            self._progress(change)
        except Exception as error:  # noqa: BLE001 - logged, and the caller sees the gap in `seq`
            log.error("change %d of run %s cannot be sent to its caller: %s", change["seq"], self._run.id, error)

    def _give_answer(self) -> None:
        run = self._run
        if run.exception is not None:
            self.answer.errback(run.exception)
            return
        try:
            check_size(self._session, run.operation.name, run.bytes)
        except TooLarge as error:
            self.answer.errback(error)
        else:
            self.answer.callback(run.result)

    def _close(self, *, drop: bool = False) -> None:
        self._is_over = True
        self._run.unlisten(self._on_change)
        self._session.leave_interrupts(self._request, drop=drop)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _interrupted(self, mode: str | None) -> Any:
        """Cancel the run where its caller has asked for that; the router sends the same when a caller has left."""
        # After a CANCEL the router takes any message, even a progressive result, for the end of the call.
        self._progress = None
        if mode != Cancel.KILL and not (yield self._is_joined()):
            self._close(drop=True)
            return
        self._operations.cancel(self._run.id, self._caller)
        if mode != Cancel.KILL and not self._is_over:
            self._close()
            self.answer.errback(ApplicationError(ApplicationError.CANCELED, "cancelled by the caller"))

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _is_joined(self) -> Any:
        """Return whether the session of the caller is joined; False if that is not known: then the run continues."""
        try:
            yield self._session.call("wamp.session.get", self._caller.session)
        except ApplicationError as error:
            if error.error != "wamp.error.no_such_session":
                log.warning("cannot find out whether a caller has left (%s); its run continues", error.error)
            return False
        except TransportLost:
            return False
        return True


class RunPublisher:
    """Publishes the changes of runs while a session is joined: ``consumer.<node>.operation.<id>``.

    Parameters
    ----------
    session : Session
        Joined.
    node : str
    operations : Operations
    interest : Interest
    counters : Counters
        ``published`` and ``unpublished_changes`` are counted there.
    """

    def __init__(
        self, session: Session, node: str, operations: Operations, interest: Interest, counters: Counters
    ) -> None:
        self._session, self._node, self._operations = session, node, operations
        self._interest, self._counters = interest, counters
        self._changed: deque[Run] = deque()
        self._published: dict[str, int] = {}  # number of the last change that was published, by run
        self._finished: WeakSet[Run] = WeakSet()  # their last change was published; one more notification may come
        self._schedule = NextTurn(self._flush)

    def open(self) -> None:
        """Publish changes from now on."""
        self._operations.listen(self._on_change)

    def close(self) -> None:
        """Publish no more."""
        self._operations.unlisten(self._on_change)

    def _on_change(self, run: Run) -> None:
        self._changed.append(run)  # atomic
        self._schedule()

    def _flush(self) -> None:
        changed: dict[str, Run] = {}
        while self._changed:
            run = self._changed.popleft()
            if run not in self._finished:
                changed[run.id] = run
        for run in changed.values():
            topic = self._session.uri(f"consumer.{self._node}.operation.{run.id}")
            is_ended = run.is_ended  # read first: the changes that are published now include the last one then
            if run.id not in self._published:
                self._published[run.id] = 0
                self._interest.add(topic)
            if self._interest.wants(topic):
                self._publish(topic, run)
            if is_ended:
                self._interest.remove(topic)
                self._published.pop(run.id)
                self._finished.add(run)

    def _publish(self, topic: str, run: Run) -> None:
        for change in run.wire_changes(self._published[run.id]):
            self._counters.add("unpublished_changes", change["seq"] - self._published[run.id] - 1)
            self._published[run.id] = change["seq"]
            error = publish(self._session, topic, change)
            self._counters.add("published" if error is None else "unpublished_changes")
            if error is not None and not isinstance(error, TransportLost):
                log.error("a change of run %s cannot be published: %s", run.id, error)
