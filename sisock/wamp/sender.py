"""Answering questions for samples within the limits of a node, and sending no faster than is taken."""

import logging
from collections.abc import Callable
from typing import Any, Literal, Protocol

from autobahn.exception import PayloadExceededError
from autobahn.wamp.types import CallDetails
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from sisock.errors import BadAnswer, Busy, NodeFailed
from sisock.fields import Reply
from sisock.wamp.backpressure import Backpressure, RouterBackpressure
from sisock.wamp.chunks import CHUNK, chunks, envelope, is_chunkable
from sisock.wamp.limiter import CallerLimiter, MemoryBudget
from sisock.wamp.messages import fits, message_limit, serializer_of
from sisock.wamp.question import Question
from sisock.wamp.replies import Size, encode, measure
from sisock.wamp.session import Session

# How much there is shows only when it is read. Half of Twisted's threads are for others, whatever one caller asks.
_READS, _READS_WAITING = 5, 1000
# How many times the bytes of its arrays an answer takes that is sent as lists: Python's numbers, and their encoding.
_AS_LIST = 5
# Large answers of all callers together that may wait for memory.
_LARGE_WAITING = 200
log = logging.getLogger(__name__)


class Answering(Protocol):
    """A node that answers questions, and its limits."""

    name: str | None
    allowance: int
    allowance_bytes: int
    big_reads: int
    answer_memory: int

    def get_reply(self, question: Question) -> Any:
        """Return the reply to a question, False if it is too large, or a Deferred of either."""
        ...

    def cost(self, question: Question) -> Any:
        """Return how many bytes reading a reply takes, or a Deferred of it; 0 where that is not known."""
        ...


class ReplySender:
    """Answers the questions of all callers of a node; used in the reactor's thread only.

    Parameters
    ----------
    node : Answering
    session : Session
        Of that node.
    """

    def __init__(self, node: Answering, session: Session) -> None:
        self._node, self._session = node, session
        self._reads = CallerLimiter(_READS, _READS_WAITING, "answers")
        self._large = CallerLimiter(node.big_reads, 4 * node.big_reads, "large answers")
        self.memory = MemoryBudget(node.answer_memory, _LARGE_WAITING)
        """Memory of the replies above 1 MB, from before they are read until they are sent."""
        self._transport: Backpressure | None = None
        self._router = RouterBackpressure(session)

    @property
    def is_idle(self) -> bool:
        """Whether no question is being answered."""
        sends = self._transport is not None and self._transport.is_used
        return not (self._reads.is_used or self._large.is_used or sends)

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def answer(self, question: Question, details: CallDetails) -> Any:
        """Return the encoded reply to a question; False beyond the allowance, or where no message holds it."""
        cost = yield maybeDeferred(self._node.cost, question)
        weight = 1 if question.encoding == "packed" else _AS_LIST
        release = (yield self._reserve(details.caller, weight * cost)) if cost > CHUNK else None
        try:
            reply = yield self._read(question, details.caller)
            if reply is False or reply.n_values > self._node.allowance:
                return self._too_large()
            size = measure(reply)
            if size.bytes > self._node.allowance_bytes:
                return self._too_large()
            if size.bytes <= CHUNK:
                return self._encoded(reply, size, question)
            if release is None:
                release = yield self._reserve(details.caller, weight * size.bytes)
            if details.progress and question.encoding == "packed" and is_chunkable(reply):
                return (yield self._send_in_chunks(reply, size.bytes, details))
            encoded = self._encoded(reply, size, question)
            yield self._router.room(details.caller)
            return encoded
        finally:
            if release is not None:
                release()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _read(self, question: Question, caller: Any) -> Any:
        """Return the node's reply, when it is the caller's turn."""
        end = yield self._counting_busy(self._reads.take, caller)
        try:
            return (yield maybeDeferred(self._node.get_reply, question))
        except BadAnswer as error:
            log.error("node %s: %s", self._node.name, error.message)
            raise NodeFailed(f"node {self._node.name!r}: {error.message}") from error
        finally:
            end()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _reserve(self, caller: Any, cost: int) -> Any:
        """Wait until a caller may have one more large reply, and there is memory for it; return what releases both.

        Small replies wait for neither.
        """
        end = yield self._counting_busy(self._large.take, caller)
        try:
            return_memory = yield self._counting_busy(self.memory.take, cost)
        except BaseException:
            end()
            raise

        def release() -> None:
            return_memory()
            end()

        return release

    def _counting_busy(
        self, take: Callable[[Any], Deferred[Callable[[], None]]], of: Any
    ) -> Deferred[Callable[[], None]]:
        def count(failure: Failure) -> Failure:
            if failure.check(Busy):
                self._session.counters.add("busy")
            return failure

        taken: Deferred[Callable[[], None]] = maybeDeferred(take, of)
        return taken.addErrback(count)

    def _encoded(self, reply: Reply, size: Size, question: Question) -> dict[str, Any] | Literal[False]:
        encoded = encode(reply, question.encoding)
        if size.at_most(question.encoding, serializer_of(self._session)) <= message_limit(self._session):
            return encoded
        # The bound is generous; only the serializer knows.
        return encoded if fits(self._session, encoded) else self._too_large()

    @inlineCallbacks  # type: ignore[untyped-decorator]
    def _send_in_chunks(self, reply: Reply, total: int, details: CallDetails) -> Any:
        """Send the samples as progressive results, no faster than transport and caller take them; return the rest."""
        if self._transport is None:
            self._transport = Backpressure(self._session._transport.transport)  # noqa: SLF001 - no public way
        number = 0
        self._transport.begin()
        try:
            # With room for what is around the arrays and, where the serializer is JSON, for base64.
            for chunk in chunks(reply, total, min(CHUNK, message_limit(self._session) * 2 // 3)):
                yield self._transport.room()
                yield self._router.room(details.caller)
                if not self._session.is_attached():
                    raise NodeFailed(f"node {self._node.name!r} lost the router while it answered")
                details.progress(chunk)
                number += 1
        except PayloadExceededError:
            return self._too_large()  # a single row has more than a message carries
        finally:
            self._transport.end()
        rest = envelope(reply, number)
        return rest if fits(self._session, rest) else self._too_large()

    def _too_large(self) -> Literal[False]:
        self._session.counters.add("too_large")
        return False
