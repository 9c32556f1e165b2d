"""Requests to nodes as coroutines, of any kind of consumer."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.consumer.live import LiveFeed
from sisock.consumer.router_thread import later_in_reactor, the_reactor
from sisock.errors import NodeFailed

Request = Callable[..., "concurrent.futures.Future[Any]"]
"""Sends a request of a consumer by its name, with its arguments."""


class NodeRequests:
    """Requests to nodes as coroutines, for any kind of consumer and any event loop.

    Parameters
    ----------
    request : callable
    timeout_s : callable
        Returns how long an answer may take, in seconds.
    """

    def __init__(self, request: Request, timeout_s: Callable[[], float]) -> None:
        self._request, self._timeout_s = request, timeout_s

    async def status(self, node: str) -> dict[str, Any]:
        """Return the status of a node; empty if it has none."""
        try:
            status: dict[str, Any] = await asyncio.wrap_future(self._request("status", node, self._timeout_s()))
        except NodeFailed:
            return {}  # it speaks the published contract alone
        return status

    async def fields(self, node: str, start: float, end: float) -> dict[str, FieldInfo]:
        """Return the fields that have samples in an interval."""
        found: dict[str, FieldInfo] = await asyncio.wrap_future(
            self._request("fields", node, start, end, self._timeout_s())
        )
        return found

    async def data(self, node: str, fields: Sequence[str], start: float, end: float) -> Data:
        """Return all samples of some fields in an interval."""
        question = (node, fields, start, end, None, "first", None, None, self._timeout_s())
        data: Data = await asyncio.wrap_future(self._request("data", *question, exact=True))
        return data

    @asynccontextmanager
    async def feed(self, node: str, feed: LiveFeed, *, watermarks: bool = False) -> AsyncIterator[LiveFeed]:
        """Fill a feed with the live batches of its timeline within a block."""
        subscribing = self._request("subscribe", node, feed.timeline, feed, self._timeout_s(), watermarks=watermarks)
        try:
            unsubscribe = await asyncio.shield(asyncio.wrap_future(subscribing))
        except asyncio.CancelledError:
            subscribing.add_done_callback(_undo)  # it continues in the reactor
            raise
        try:
            yield feed
        finally:
            later_in_reactor(unsubscribe)


def _undo(subscribing: "concurrent.futures.Future[Any]") -> None:
    """End an abandoned subscription once it is made."""
    if not subscribing.cancelled() and subscribing.exception() is None:
        the_reactor().callFromThread(subscribing.result())
