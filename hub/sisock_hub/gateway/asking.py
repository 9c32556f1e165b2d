"""Whom the gateway asks, and how: several nodes at the same time, not too much of one at once."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from sisock.consumer import Progress
from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.downsample import Method
from sisock.errors import BadRequest, Busy, NodeFailed, NoSuchField, SisockError, TimedOut
from sisock.times import Interval
from sisock_hub.gateway.caller import has_left
from sisock_hub.gateway.questions import Question

log = logging.getLogger(__name__)

# Questions to one node at a time; it lets a few wait, and refuses more, while a dashboard asks for all its panels.
_QUESTIONS = 2


class Asker(Protocol):
    """What the gateway needs of `sisock.consumer.Consumer`."""

    async def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows."""
        ...

    async def fields(self, node: str) -> dict[str, FieldInfo]:
        """Return all fields of `node`, by name."""
        ...

    async def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float = 0.0,
        min_stride: float | None = None,
        *,
        downsample: Method | None = None,
        max_points: int | None = None,
        progress: Progress | None = None,
        exact: bool = False,
    ) -> Data:
        """Return samples of some fields of `node`; without `exact`, names may be patterns."""
        ...


class Watchful(Asker, Protocol):
    """An `Asker` that knows whether the router is there."""

    @property
    def trouble(self) -> SisockError | None:
        """Why the router is not there at the moment; None while it is."""
        ...


def check(consumer: Watchful) -> None:
    """Raise NoRouter at once while the router is away, where the consumer would wait for it."""
    if consumer.trouble is not None:
        raise consumer.trouble


class Asking:
    """Asks nodes for samples.

    Parameters
    ----------
    consumer : sisock.consumer.Consumer
    timeout_s : float
        How long a node may take for an answer, in seconds, waiting for its turn included.
    """

    def __init__(self, consumer: Watchful, timeout_s: float) -> None:
        self._consumer, self._timeout_s = consumer, timeout_s
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def check(self) -> None:
        """Raise NoRouter at once while the router is away; see `check`."""
        check(self._consumer)

    async def data(
        self, node: str, fields: Sequence[str], question: Question, progress: Progress | None = None
    ) -> Data:
        """Return the samples of a node; an exception of `progress` ends the question, see `Consumer.data`.

        Raises
        ------
        SisockError
            NoRouter, TimedOut, and what `Consumer.data` raises.
        """
        self.check()
        turns = self._turns.setdefault(node, asyncio.Semaphore(_QUESTIONS))
        how = {"downsample": question.method, "max_points": question.max_points} if question.thins else {}
        try:
            async with asyncio.timeout(self._timeout_s), turns:
                if await has_left():
                    raise Busy("who asked has left before their turn came")
                return await self._consumer.data(
                    node,
                    fields,
                    *question.interval,
                    question.min_stride,
                    progress=progress,
                    exact=True,
                    **how,  # type: ignore[arg-type]
                )
        except TimeoutError as error:
            if isinstance(error, SisockError):
                raise
            raise TimedOut(f"node {node!r} did not answer within {self._timeout_s:g} s") from error

    async def answers(
        self, fields: Mapping[str, Sequence[str]], question: Question
    ) -> tuple[dict[str, Data], dict[str, SisockError]]:
        """Ask several nodes at the same time.

        Parameters
        ----------
        fields : mapping of str to sequence of str
            What is asked for, by node.
        question : Question

        Returns
        -------
        found : dict of str to Data
            The answers, by node.
        troubles : dict of str to SisockError
            Why nodes did not answer; one that fails does not keep the others from it.
        """
        answers = await asyncio.gather(
            *(self.data(node, names, question) for node, names in fields.items()), return_exceptions=True
        )
        found: dict[str, Data] = {}
        troubles: dict[str, SisockError] = {}
        for node, answer in zip(fields, answers, strict=True):
            if isinstance(answer, SisockError):
                troubles[node] = answer
            elif isinstance(answer, Exception):
                log.error("asking node %s failed", node, exc_info=answer)
                troubles[node] = NodeFailed(f"what node {node!r} answered cannot be read: {answer!r}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[node] = answer
        return found, troubles

    async def on_one_timeline(
        self, node: str, names: Sequence[str], interval: Interval | None = None
    ) -> list[FieldInfo]:
        """Return what a node says of some fields; what they were in an interval, if one is given.

        Raises
        ------
        NoSuchField
            If it has not all of them.
        BadRequest
            If they are on several timelines.
        """
        self.check()
        known = await self._consumer.fields(node)
        if missing := [name for name in names if name not in known]:
            raise NoSuchField(f"node {node!r} has no field {', '.join(map(repr, missing[:5]))}")
        timelines = {known[name].timeline for name in names}
        if len(timelines) > 1:
            said = ", ".join(sorted(timelines))
            raise BadRequest(f"these fields are on several timelines ({said}); ask for those of each alone")
        infos = [known[name] for name in dict.fromkeys(names)]
        return [info.within(interval) for info in infos] if interval else infos
