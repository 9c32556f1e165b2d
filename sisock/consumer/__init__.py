"""Asking and subscribing: `Consumer` for asyncio, `BlockingConsumer` for notebooks and scripts.

Both speak through one connection that lives in Twisted's reactor, in a thread of its own where the program
does not run one itself; so they work in any event loop, and beside data nodes in the same process.
"""

import asyncio
import concurrent.futures
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from twisted.internet.defer import Deferred

from sisock.consumer.cache import FinalAnswers
from sisock.consumer.data import Data, FieldInfo, NodeInfo
from sisock.consumer.link import Link, in_reactor, the_reactor
from sisock.consumer.live import BUFFER_BYTES, LiveFeed
from sisock.consumer.requests import Progress, Requests
from sisock.downsample import Method
from sisock.errors import NoRouter, SisockError, TimedOut
from sisock.fields import Batch
from sisock.site import Where, find_access

__all__ = ["BlockingConsumer", "Consumer", "Data", "FieldInfo", "LiveFeed", "NodeInfo", "Progress", "in_reactor"]

TIMEOUT_S = 30.0
"""How long an answer may take by default, in seconds, waiting for a router that went away included."""
CACHE_BYTES = 64 * 10**6
"""How much of what is final a consumer keeps by default, in bytes."""
PATIENCE_S = 5.0
"""How long to try to reach the router at first by default, in seconds."""


class _Consumer:
    def __init__(
        self,
        site: Where | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._access = find_access(site)
        self._final = FinalAnswers(cache_bytes)
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._link: Link | None = None
        self._requests: Requests

    def _opening(self) -> "concurrent.futures.Future[Any]":
        def opened() -> Deferred[Any] | None:
            self._link = Link(self._access, the_reactor())
            self._requests = Requests(self._link, self._final)
            self._link.open()
            if not self._patience_s:
                return None
            waiting = self._link.session()

            def out_of_time(result: Any, _timeout: float) -> Any:
                assert self._link is not None  # noqa: S101 - just made
                trouble = self._link.trouble
                raise trouble or TimedOut(
                    f"the router at {self._access.url} did not let us in within {self._patience_s:g} s"
                )

            waiting.addTimeout(self._patience_s, the_reactor(), out_of_time)
            return waiting

        return in_reactor(opened)

    def _closing(self) -> "concurrent.futures.Future[Any]":
        def closed() -> Deferred[None] | None:
            if self._link is None:
                return None
            self._requests.end()
            return self._link.close()

        return in_reactor(closed)

    def _request(self, name: str, *args: Any) -> "concurrent.futures.Future[Any]":
        if self._link is None:
            raise NoRouter(f"this consumer is not open; use it in a `with` block: with {type(self).__name__}(...) as c")
        return in_reactor(lambda: getattr(self._requests, name)(*args))

    @property
    def trouble(self) -> SisockError | None:
        """Why the router is not there at the moment; None while it is."""
        if self._link is None:
            return NoRouter("this consumer is not open")
        if self._link.is_joined:
            return None
        return self._link.trouble or NoRouter(f"the router at {self._access.url} has not let us in yet")

    def counters(self) -> dict[str, int]:
        """Return counters of the connection: ``late_answers`` to calls that had ended, which were dropped."""
        return self._link.counters.as_dict() if self._link else {}

    def suspend(self, node: str | None, reason: str) -> None:
        """Have all calls to a node but those of its status fail at once as `TimedOut`, until `resume`.

        Parameters
        ----------
        node : str or None
            None for all nodes, such as while the router does not answer.
        reason : str
        """
        self._requests.suspended[node] = reason

    def resume(self, node: str | None) -> None:
        """End the suspension of a node; with None, that of all nodes together."""
        self._requests.suspended.pop(node, None)

    def cache_info(self) -> dict[str, int]:
        """Return how often an answer was known already (``hits``) or not (``misses``), and how much is kept."""
        return self._final.info()


class Consumer(_Consumer):
    """Asks the nodes of a site, from asyncio.

    Parameters
    ----------
    site : str, path or sisock.site.Access, optional
        The folder or the file of a site, or how its router is reached; found as the commands do when not given, see
        `sisock.site.find_access`.
    timeout_s : float
        How long nothing may be heard of an answer, in seconds.
    patience_s : float
        How long to try to reach the router at first, in seconds; 0 goes on at once, and it is reached when it is there.
    cache_bytes : int
        Bytes of answers that are final and kept, so that asking again makes no call; 0 keeps none.

    Examples
    --------
    >>> async with Consumer("lab") as c:  # doctest: +SKIP
    ...     data = await c.data("host", ["cpu.total"], start=-600)
    """

    async def __aenter__(self) -> Self:
        try:
            await asyncio.wrap_future(self._opening())
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the router."""
        await asyncio.wrap_future(self._closing())

    async def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows."""
        return await asyncio.wrap_future(self._request("nodes", self._timeout_s))

    async def fields(self, node: str, start: float = 1.0, end: float = 0.0) -> dict[str, FieldInfo]:
        """Return the fields of `node` that have samples in an interval, by name; by default, of all times."""
        return await asyncio.wrap_future(self._request("fields", node, start, end, self._timeout_s))

    async def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float = 0.0,
        min_stride: float | None = None,
        *,
        downsample: Method = "first",
        max_points: int | None = None,
        progress: Progress | None = None,
    ) -> Data:
        """Return samples of some fields of `node`.

        Parameters
        ----------
        node : str
        fields : sequence of str
        start, end : float
            UNIX seconds if positive, otherwise seconds relative to now; half-open.
        min_stride : float, optional
            Seconds by which successive samples are to be apart at least.
        downsample : {"first", "mean", "min", "max", "minmax", "lttb"}
            How samples are thinned out; ``minmax`` loses no spike.
        max_points : int, optional
            Most samples that each timeline may have; the node chooses the stride.
        progress : callable, optional
            Called, in another thread, with the bytes of a large answer that have come and those that are to come.

        Raises
        ------
        NoSuchNode, BadRequest, TooLarge, NodeFailed, NoRouter, TimedOut
        """
        question = (node, fields, start, end, min_stride, downsample, max_points)
        request = self._request("data", *question, progress, self._timeout_s)
        return await asyncio.wrap_future(request)

    async def status(self, node: str) -> dict[str, Any]:
        """Return the health and the counters of `node`; empty where the node has no `status`."""
        return await asyncio.wrap_future(self._request("status", node, self._timeout_s))

    async def router_status(self) -> dict[str, Any]:
        """Return the connections, limits and counters of the router; empty where it does not report them."""
        return await asyncio.wrap_future(self._request("router_status", self._timeout_s))

    async def procedures(self, node: str) -> list[dict[str, Any]]:
        """Return the control procedures of `node`: name, description, parameters as a JSON schema.

        Empty where the node has no `procedures`.
        """
        return await asyncio.wrap_future(self._request("procedures", node, self._timeout_s))

    async def call(self, node: str, procedure: str, /, **arguments: Any) -> Any:
        """Have `node` do something, see `procedures`; for those who log in as operator, or as a node.

        Raises
        ------
        NotAllowed, BadRequest, NoSuchNode, NodeFailed, NoRouter, TimedOut
        """
        return await asyncio.wrap_future(self._request("call", self._timeout_s, node, procedure, arguments))

    async def subscribe(self, node: str, timeline: str, *, buffer: int = 1000) -> AsyncIterator[Batch]:
        """Yield the batches of a timeline as they come, for ever; a reconnect goes on by itself.

        Parameters
        ----------
        node, timeline : str
        buffer : int
            Most batches that wait for a slow reader, of 64 MB altogether; beyond that the oldest are dropped, and
            `missed` of the next batch is their number.

        Raises
        ------
        NoSuchNode, NoSuchTimeline
        """
        async with self.following(node, timeline, buffer=buffer) as feed:
            while (batch := await feed.aget()) is not None:
                yield batch

    @asynccontextmanager
    async def following(
        self, node: str, timeline: str, *, buffer: int = 1000, buffer_bytes: int = BUFFER_BYTES
    ) -> AsyncIterator[LiveFeed]:
        """Subscribe to a timeline at once, where `subscribe` begins with the first wait.

        The batches wait in the feed that this returns: ``async with c.following(...) as feed: await feed.aget(5.0)``.
        The errors and the other parameters are those of `subscribe`.

        Parameters
        ----------
        buffer_bytes : int
            Most bytes of the batches that wait, beyond which the oldest are dropped as well.
        """
        feed = LiveFeed(timeline, buffer, buffer_bytes)
        subscribing = self._request("subscribe", node, timeline, feed, self._timeout_s)
        try:
            unsubscribe = await asyncio.shield(asyncio.wrap_future(subscribing))
        except asyncio.CancelledError:
            subscribing.add_done_callback(_undo)  # in the reactor it goes on
            raise
        try:
            yield feed
        finally:
            in_reactor(unsubscribe)


def _undo(subscribing: "concurrent.futures.Future[Any]") -> None:
    """End a subscription that nobody waits for any more, once it is there."""
    if not subscribing.cancelled() and subscribing.exception() is None:
        the_reactor().callFromThread(subscribing.result())


class BlockingConsumer(_Consumer):
    """Asks the nodes of a site, from plain scripts and notebooks; see `Consumer` for what the methods do.

    Examples
    --------
    >>> with BlockingConsumer("lab") as c:  # doctest: +SKIP
    ...     c.data("host", ["cpu.total"], start=-600).to_pandas()
    """

    def __enter__(self) -> Self:
        try:
            self._opening().result()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the router."""
        self._closing().result(5.0)

    def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows."""
        return self._request("nodes", self._timeout_s).result()  # type: ignore[no-any-return]

    def fields(self, node: str, start: float = 1.0, end: float = 0.0) -> dict[str, FieldInfo]:
        """Return the fields of `node` that have samples in an interval, by name; by default, of all times."""
        return self._request("fields", node, start, end, self._timeout_s).result()  # type: ignore[no-any-return]

    def data(
        self,
        node: str,
        fields: Sequence[str],
        start: float,
        end: float = 0.0,
        min_stride: float | None = None,
        *,
        downsample: Method = "first",
        max_points: int | None = None,
        progress: Progress | None = None,
    ) -> Data:
        """Return samples of some fields of `node`; see `Consumer.data`."""
        question = (node, fields, start, end, min_stride, downsample, max_points)
        request = self._request("data", *question, progress, self._timeout_s)
        return request.result()  # type: ignore[no-any-return]

    def status(self, node: str) -> dict[str, Any]:
        """Return the health and the counters of `node`."""
        return self._request("status", node, self._timeout_s).result()  # type: ignore[no-any-return]

    def router_status(self) -> dict[str, Any]:
        """Return the connections, limits and counters of the router; empty where it does not report them."""
        return self._request("router_status", self._timeout_s).result()  # type: ignore[no-any-return]

    def procedures(self, node: str) -> list[dict[str, Any]]:
        """Return the control procedures of `node`: name, description, parameters as a JSON schema."""
        return self._request("procedures", node, self._timeout_s).result()  # type: ignore[no-any-return]

    def call(self, node: str, procedure: str, /, **arguments: Any) -> Any:
        """Have `node` do something; see `Consumer.call`."""
        return self._request("call", self._timeout_s, node, procedure, arguments).result()

    def subscribe(self, node: str, timeline: str, *, buffer: int = 1000) -> Iterator[Batch]:
        """Yield the batches of a timeline as they come, for ever; see `Consumer.subscribe`."""
        feed = LiveFeed(timeline, buffer)
        unsubscribe = self._request("subscribe", node, timeline, feed, self._timeout_s).result()
        try:
            # In slices, so that Ctrl-C is seen on every platform.
            while (batch := feed.get(1.0)) is not None or not feed.is_closed:
                if batch is not None:
                    yield batch
        finally:
            if not sys.is_finalizing():  # the reactor is gone, and the subscription with it
                in_reactor(unsubscribe)
