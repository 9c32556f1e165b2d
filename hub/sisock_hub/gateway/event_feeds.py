"""Events of nodes as they come: each node is followed once, for all clients that follow it."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from sisock.errors import SisockError
from sisock.event import SEVERITIES, EventPage, Severity
from sisock.jsontext import size_of
from sisock.patterns import expanded
from sisock.times import SYSTEM_CLOCK
from sisock_hub.gateway.work_client import GATEWAY_ITSELF, WorkClient

# Seconds after a request that has failed.
_RETRY_S = 2.0
# Events of a node that are kept for its readers, their bytes, and the events of a request; a reader that is slower
# requests those that it lacks from the node.
_MOST_KEPT, _MOST_BYTES, _MOST_READ = 2000, 8_000_000, 500

EventContent = Mapping[str, Any]
"""An event: time, seq, kind, subject, text, severity and data."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """A selection of events.

    Attributes
    ----------
    severity : str
        This one or worse.
    kind, subject : str
        Names, shell patterns, or alternatives ``{a,b}``.
    """

    severity: Severity = "debug"
    kind: str = "*"
    subject: str = "*"

    def compiled(self) -> Callable[[EventContent], bool]:
        """Return a function that returns whether an event is selected.

        Raises
        ------
        BadRequest
            If a pattern is too long, or has too many alternatives.
        """
        severities = frozenset(SEVERITIES[SEVERITIES.index(self.severity) :])
        patterns = {
            key: [shell.compiled() for shell in expanded(pattern)]
            for key, pattern in (("kind", self.kind), ("subject", self.subject))
            if pattern != "*"
        }

        def selects(event: EventContent) -> bool:
            return event["severity"] in severities and all(
                any(each.match(str(event[key])) for each in alternatives) for key, alternatives in patterns.items()
            )

        return selects


class EventFeeds:
    """The events of the nodes that clients follow.

    Parameters
    ----------
    work : WorkClient

    Attributes
    ----------
    missed : int
        Events that clients did not get, since their nodes did not keep them until the clients had read those before.
    """

    def __init__(self, work: WorkClient) -> None:
        self._work = work
        self._feeds: dict[str, _Feed] = {}
        self.missed = 0

    def __len__(self) -> int:
        """Return the number of nodes whose events are followed."""
        return len(self._feeds)

    async def __aenter__(self) -> Self:
        """Serve clients."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End all feeds."""
        feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            feed.task.cancel()
        await asyncio.gather(*(feed.task for feed in feeds), return_exceptions=True)

    async def follow(
        self, node: str, selection: Selection, after: int | None = None
    ) -> AsyncGenerator[dict[str, Any] | None]:
        """Yield None once the events of a node are followed, then the events, in order.

        Parameters
        ----------
        node : str
        selection : Selection
        after : int, optional
            The cursor of an earlier answer, to begin there.

        Yields
        ------
        dict or None
            The event, and as ``missed`` the number of events before it that the node did not keep long enough,
            whether they were selected or not.

        Raises
        ------
        NoSuchNode, NoSuchProcedure, BadRequest, NoRouter, TimedOut
        """
        selects = selection.compiled()
        async with self._feed(node) as feed:
            yield None
            position, missed = feed.cursor if after is None else after, 0
            while True:
                events, position, lost = await feed.read(position)
                missed += lost
                self.missed += lost
                for event in filter(selects, events):
                    yield {**event, "missed": missed}
                    missed = 0

    @asynccontextmanager
    async def _feed(self, node: str) -> AsyncIterator["_Feed"]:
        feed = self._feeds.get(node)
        if feed is None:
            feed = self._feeds[node] = _Feed(self._work, node)
        feed.readers += 1
        try:
            await feed.opened()
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers and self._feeds.get(node) is feed:
                del self._feeds[node]
                feed.task.cancel()


class _Feed:
    """The newest events of a node."""

    def __init__(self, work: WorkClient, node: str) -> None:
        self._work, self._node = work, node
        self.readers = 0
        self.cursor = 0
        """The number of the next event."""
        self._first = 0  # all events from this number on are kept here
        self._kept: deque[tuple[EventContent, int]] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())

    async def opened(self) -> None:
        """Wait until the node has answered."""
        await asyncio.shield(self._open)

    async def read(self, position: int) -> tuple[list[EventContent], int, int]:
        """Return the events from a position on, once there are any, the next position, and how many are lost."""
        async with self._changed:
            await self._changed.wait_for(lambda: position != self.cursor)
        if position > self.cursor:  # the node has lost its events, and begins again
            position = 0
        if position < self._first:
            return await self._request(position)
        return [event for event, _ in self._kept if event["seq"] >= position], self.cursor, 0

    async def _request(self, position: int) -> tuple[list[EventContent], int, int]:
        try:
            page = await self._work.events(self._node, GATEWAY_ITSELF, after=position, limit=_MOST_READ)
        except SisockError as error:
            if not error.retriable:
                raise
            await SYSTEM_CLOCK.sleep(_RETRY_S)
            return [], position, 0
        # Later events come from the feed.
        events = [event for event in page["events"] if event["seq"] < self.cursor]
        return events, min(page["cursor"], self.cursor), max(0, min(page["oldest"], self.cursor) - position)

    async def _run(self) -> None:
        try:
            self.cursor = self._first = (await self._work.events(self._node, GATEWAY_ITSELF, limit=1))["cursor"]
        except SisockError as error:
            self._open.set_exception(error)
            return
        self._open.set_result(None)
        while True:
            try:
                async for page in self._work.follow_events(self._node, self.cursor):
                    await self._take(page)
            except SisockError as error:  # the node keeps no events now, or the gateway has lost its rights
                log.debug("events of %s are not followed: %s", self._node, error)
            await SYSTEM_CLOCK.sleep(_RETRY_S)

    async def _take(self, page: EventPage) -> None:
        async with self._changed:
            if page.cursor < self.cursor or page.oldest > self.cursor:  # the events between are not known here
                self._kept.clear()
                self._bytes = 0
                self._first = page.events[0].seq
            for event in page.events:
                content = event.as_dict()
                self._kept.append((content, size := size_of(content)))
                self._bytes += size
            while len(self._kept) > _MOST_KEPT or self._bytes > _MOST_BYTES:
                dropped, size = self._kept.popleft()
                self._bytes -= size
                self._first = dropped["seq"] + 1
            self.cursor = page.cursor
            self._changed.notify_all()
