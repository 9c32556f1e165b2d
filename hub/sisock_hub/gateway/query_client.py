"""Queries to nodes: several nodes at the same time, and few queries to one node at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from typing import Self, TypeVar
from weakref import WeakValueDictionary

from sisock.consumer import TIMEOUT_S, Consumer, Progress
from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.errors import BadRequest, Busy, NodeFailed, NoSuchField, SisockError, TimedOut
from sisock.times import Interval
from sisock_hub.gateway.disconnects import client_disconnected
from sisock_hub.gateway.questions import Question

log = logging.getLogger(__name__)

# Queries to one node at a time. A node serves two large answers to one caller, queues a few and refuses more, while a
# dashboard queries for all its panels at once.
_QUERIES_PER_NODE = 2

Answer = TypeVar("Answer")


def check(consumer: Consumer) -> None:
    """Raise NoRouter at once while the router is unreachable, where the consumer would wait for it."""
    if consumer.trouble is not None:
        raise consumer.trouble


class QueryClient:
    """Queries nodes for fields and samples, at most two queries to one node at a time.

    A process has one, so that the limit holds for all its interfaces together; `with_timeout` returns the same client
    with another timeout.

    Parameters
    ----------
    consumer : Consumer
    timeout_s : float
        Seconds within which a node must answer; they include the wait for the queries before.
    """

    def __init__(self, consumer: Consumer, timeout_s: float = TIMEOUT_S) -> None:
        self._consumer, self.timeout_s = consumer, timeout_s
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def with_timeout(self, timeout_s: float) -> Self:
        """Return a client with another timeout, which shares the consumer and the limit of queries with this one."""
        other = copy(self)
        other.timeout_s = timeout_s
        return other

    def check(self) -> None:
        """Raise NoRouter at once while the router is unreachable; see `check`."""
        check(self._consumer)

    async def nodes(self) -> list[str]:
        """Return the names of the nodes that the hub knows.

        Raises
        ------
        SisockError
            NoRouter, TimedOut, and the errors of `Consumer.nodes`.
        """
        self.check()
        try:
            async with asyncio.timeout(self.timeout_s):
                return [info.name for info in await self._consumer.nodes()]
        except SisockError:
            raise
        except TimeoutError as error:
            raise TimedOut("the hub did not list the nodes in time") from error

    async def fields(self, node: str, interval: Interval | None = None) -> dict[str, FieldInfo]:
        """Return the fields of a node that have samples in an interval, by name; by default those of all times.

        Raises
        ------
        SisockError
            NoRouter, TimedOut, and the errors of `Consumer.fields`.
        """
        return await self._limited(node, lambda: self._consumer.fields(node, *(interval or ())))

    async def data(
        self, node: str, fields: Sequence[str], question: Question, progress: Progress | None = None
    ) -> Data:
        """Return samples of a node; an exception raised by `progress` ends the query, see `Consumer.data`.

        Raises
        ------
        Busy
            If the HTTP client has disconnected before the query was sent.
        SisockError
            NoRouter, TimedOut, and the errors of `Consumer.data`.
        """

        async def query() -> Data:
            if await client_disconnected():
                raise Busy("the client disconnected before its query was sent")
            return await self._consumer.data(
                node,
                fields,
                *question.interval,
                question.min_stride,
                downsample=question.method if question.downsamples else "first",
                max_points=question.max_points,
                progress=progress,
                exact=True,
            )

        return await self._limited(node, query)

    async def _limited(self, node: str, query: Callable[[], Awaitable[Answer]]) -> Answer:
        """Run a query when fewer than two of the node are running, and within the timeout."""
        self.check()
        slots = self._slots.setdefault(node, asyncio.Semaphore(_QUERIES_PER_NODE))
        try:
            async with asyncio.timeout(self.timeout_s), slots:
                return await query()
        except SisockError:
            raise
        except TimeoutError as error:
            raise TimedOut(f"node {node!r} did not answer within {self.timeout_s:g} s") from error
        except Exception as error:  # an answer that the consumer cannot read must cost the samples of its node only
            log.exception("query to node %s failed", node)
            raise NodeFailed(f"node {node!r}: the answer cannot be read: {error!r}") from error

    async def answers(
        self, fields: Mapping[str, Sequence[str]], question: Question
    ) -> tuple[dict[str, Data], dict[str, SisockError]]:
        """Query several nodes at the same time; one that fails does not affect the others.

        Parameters
        ----------
        fields : mapping of str to sequence of str
            Names of fields, by node.
        question : Question

        Returns
        -------
        found : dict of str to Data
            The answers, by node.
        errors : dict of str to SisockError
            The errors of the other nodes, by node.
        """
        answers = await asyncio.gather(
            *(self.data(node, names, question) for node, names in fields.items()), return_exceptions=True
        )
        found: dict[str, Data] = {}
        errors: dict[str, SisockError] = {}
        for node, answer in zip(fields, answers, strict=True):
            if isinstance(answer, SisockError):
                errors[node] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[node] = answer
        return found, errors

    async def on_one_timeline(
        self, node: str, names: Sequence[str], interval: Interval | None = None
    ) -> list[FieldInfo]:
        """Return some fields of a node, with their units and types in an interval if one is given.

        Raises
        ------
        NoSuchField
            If the node lacks one of them.
        BadRequest
            If they are on several timelines.
        """
        known = await self.fields(node)
        if missing := [name for name in names if name not in known]:
            raise NoSuchField(f"node {node!r} has no field {', '.join(map(repr, missing[:5]))}")
        timelines = {known[name].timeline for name in names}
        if len(timelines) > 1:
            listed = ", ".join(sorted(timelines))
            raise BadRequest(f"these fields are on several timelines ({listed}); request those of each separately")
        infos = [known[name] for name in dict.fromkeys(names)]
        return [info.within(interval) for info in infos] if interval else infos


def warning(node: str, error: SisockError) -> str:
    """Return the text that names the node and the error of its query."""
    named = f"node {node!r}"
    return error.message if error.message.startswith(named) else f"{named}: {error.message}"
