"""Which fields the nodes have, remembered for some seconds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from sisock.consumer.info import FieldInfo
from sisock.errors import SisockError, TimedOut
from sisock.times import Clock
from sisock_hub.gateway.asking import Watchful, check

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""How long a node may take to list its fields, in seconds."""
REMEMBERED_S = 5.0
"""How long a node's fields, or that it failed, are remembered, in seconds."""
# Of one node at a time; it serves two large answers to one caller, lets a few wait, and refuses more.
_QUESTIONS = 2

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Known:
    """What is known of one node."""

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_QUESTIONS))
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    until: float = -1.0
    fields: Mapping[str, FieldInfo] = field(default_factory=dict)
    trouble: str | None = None


class Directory:
    """Asks nodes, each with a limit of time, so that one that fails costs only its own fields.

    Parameters
    ----------
    asker : Watchful
    clock : Clock
    timeout_s : float
        How long a node may take for an answer, in seconds.
    """

    def __init__(self, asker: Watchful, clock: Clock, timeout_s: float) -> None:
        self._asker, self._clock, self._timeout_s = asker, clock, timeout_s
        self._known: dict[str, _Known] = {}

    async def fields(
        self, wanted: Callable[[str], bool] = lambda _node: True
    ) -> tuple[dict[str, Mapping[str, FieldInfo]], list[str]]:
        """Return the fields of all nodes whose name is `wanted`, and warnings about those that did not answer.

        Raises
        ------
        SisockError
            If nobody can say which nodes there are.
        """
        check(self._asker)
        try:
            async with asyncio.timeout(self._timeout_s):
                names = [info.name for info in await self._asker.nodes()]
        except TimeoutError as error:
            raise TimedOut("the hub did not say in time which nodes there are") from error
        self._known = {name: self._known.get(name) or _Known() for name in names}
        asked = [name for name in names if wanted(name)]
        known = await asyncio.gather(*(self._of(name, self._known[name]) for name in asked))
        found = {name: each.fields for name, each in zip(asked, known, strict=True) if each.trouble is None}
        return found, [each.trouble for each in known if each.trouble is not None]

    async def _of(self, name: str, known: _Known) -> _Known:
        async with known.asking:
            if self._clock.monotonic() >= known.until:
                fields, known.trouble = await self.ask(name, lambda: self._asker.fields(name))
                known.fields = fields or {}
                known.until = self._clock.monotonic() + REMEMBERED_S
        return known

    async def ask(self, node: str, question: Callable[[], Awaitable[Answer]]) -> tuple[Answer | None, str | None]:
        """Return a node's answer or, where there is none, a warning that says why."""
        turns = self._known[node].turns if node in self._known else asyncio.Semaphore(1)
        try:
            async with asyncio.timeout(self._timeout_s), turns:
                return await question(), None
        except SisockError as error:
            return None, f"node {node!r}: {error}"
        except TimeoutError:
            return None, f"node {node!r} did not answer within {self._timeout_s:g} s"
        except Exception as error:  # whatever a node's answer breaks is this node's trouble alone
            log.exception("asking node %s failed", node)
            return None, f"node {node!r}: {type(error).__name__}: {error}"
