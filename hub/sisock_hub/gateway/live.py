"""Live data: one subscription to a feed, for all clients that follow it."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from sisock.consumer import Consumer
from sisock.downsample import Method
from sisock.dtypes import together
from sisock.errors import BadRequest, SisockError
from sisock.fields import Batch, Column, FloatArray, type_of, widened, widest
from sisock.times import SYSTEM_CLOCK
from sisock.wamp.wire import batch_size
from sisock_hub.gateway.array_values import ArrayLimit
from sisock_hub.gateway.downsampling import limit_points
from sisock_hub.gateway.query_client import QueryClient

Units = dict[str, str | None]
"""By field; the same object as long as no units change."""
# Batches of a feed that wait for the gateway, and their bytes.
_BUFFER, _BUFFER_BYTES = 1000, 16_000_000
READERS_BYTES = 16_000_000
"""Most bytes of the batches that wait for all readers together; each has an equal share of them."""
_LARGEST_SHARE = 4_000_000
MOST_FIELDS = 200
"""Most fields of one subscription."""


@dataclass(frozen=True, slots=True)
class Update:
    """The samples of a timeline since the update before.

    Attributes
    ----------
    timeline : str
    t : ndarray of float64, shape (n,)
        UNIX seconds.
    columns : dict of str to ndarray, each of shape (n,)
    finalized_until : float or None
    missed : int
        Samples that were dropped because the client reads too slowly.
    lost : int
        Batches that did not reach the gateway.
    gaps : list of (float, float)
        Spans in which the source is known to have been silent.
    reset : int
        The number of the timeline's newest reset.
    units : dict of str to str or None
        Units of the fields, the same for all of these samples.
    reduced : dict of str to dict
        How the arrays of fields were reduced, see `ArrayLimit`.
    """

    timeline: str
    t: FloatArray
    columns: dict[str, Column]
    finalized_until: float | None
    missed: int
    lost: int
    gaps: list[tuple[float, float]]
    reset: int
    units: Units
    reduced: dict[str, dict[str, Any]]


class Reader:
    """The queue of a client that follows some fields of a timeline; a slow client gets the newest samples.

    Parameters
    ----------
    timeline : str
    fields : sequence of str
    every_s : float
        Seconds between updates.
    max_points : int or None
        Most samples of one update.
    method : Method
    limit : ArrayLimit or None
        Most values of arrays.
    share : callable
        Returns the most bytes that may be queued at present.
    """

    def __init__(
        self,
        timeline: str,
        fields: Sequence[str],
        every_s: float,
        max_points: int | None,
        method: Method,
        limit: ArrayLimit | None,
        share: Callable[[], int],
    ) -> None:
        self.timeline, self.fields = timeline, tuple(fields)
        self._every_s, self._max_points, self._method = every_s, max_points, method
        self._limit, self._share = limit, share
        self._batches: deque[tuple[Batch, Units]] = deque()
        self._bytes = self._missed = self._lost = 0
        self._some = asyncio.Event()

    def put(self, batch: Batch, units: Units) -> None:
        """Queue a batch of the timeline, with the units of its fields."""
        # The arrays of other fields are not kept in memory.
        own = replace(batch, columns={name: batch.columns[name] for name in self.fields if name in batch.columns})
        self._batches.append((own, units))
        self._bytes += batch_size(own)
        self._lost += batch.missed
        while self._bytes > self._share() and len(self._batches) > 1:
            dropped, _ = self._batches.popleft()
            self._bytes -= batch_size(dropped)
            self._missed += len(dropped)
        self._some.set()

    async def updates(self) -> AsyncIterator[Update]:
        """Yield updates until the client leaves."""
        while True:
            await self._some.wait()
            yield self._taken()
            await SYSTEM_CLOCK.sleep(self._every_s)

    def _taken(self) -> Update:
        batches, missed, lost = list[Batch](), self._missed, self._lost
        units, reset = self._batches[0][1], self._batches[-1][0].reset
        while self._batches and self._batches[0][1] is units:
            batches.append(self._batches.popleft()[0])
        self._bytes -= sum(map(batch_size, batches))
        self._missed = self._lost = 0
        if not self._batches:
            self._some.clear()
        # The history no longer has the samples from before the watermark was set back.
        batches = [batch for batch in batches if batch.reset == reset]
        t, columns = _joined(batches, self.fields)
        t, columns = limit_points(t, columns, self._max_points, self._method)
        columns, reduced = self._limit.apply(columns) if self._limit else (columns, {})
        gaps = [(b.gap_from, float(b.t[0])) for b in batches if b.gap_from is not None and len(b)]
        final = max((b.finalized_until for b in batches if b.finalized_until is not None), default=None)
        own = {name: units.get(name) for name in self.fields}
        return Update(self.timeline, t, columns, final, missed, lost, gaps, reset, own, reduced)


class Live:
    """The feeds that clients follow, each subscribed to once.

    Parameters
    ----------
    consumer : Consumer
    client : QueryClient
    """

    def __init__(self, consumer: Consumer, client: QueryClient) -> None:
        self._consumer, self._client = consumer, client
        self._feeds: dict[tuple[str, str], _Feed] = {}

    async def __aenter__(self) -> Self:
        """Serve clients."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End all subscriptions."""
        feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            feed.task.cancel()
        await asyncio.gather(*(feed.task for feed in feeds), return_exceptions=True)

    @property
    def subscriptions(self) -> int:
        """Number of feeds that are subscribed to."""
        return len(self._feeds)

    @property
    def readers(self) -> int:
        """Number of clients that follow them."""
        return sum(len(feed.readers) for feed in self._feeds.values())

    def _share(self) -> int:
        return min(_LARGEST_SHARE, READERS_BYTES // max(1, self.readers))

    @asynccontextmanager
    async def reading(
        self,
        node: str,
        fields: Sequence[str],
        *,
        every_s: float = 0.1,
        max_points: int | None = None,
        method: Method = "minmax",
        limit: ArrayLimit | None = None,
    ) -> AsyncIterator[Reader]:
        """Follow some fields of a node that are on one timeline.

        Parameters
        ----------
        node : str
        fields : sequence of str
        every_s : float
            Minimum seconds between updates.
        max_points : int, optional
            Most samples of one update; more are downsampled.
        method : Method
        limit : ArrayLimit, optional
            Most values of arrays.

        Raises
        ------
        NoSuchNode, NoSuchField, BadRequest, NoRouter
        """
        if not 0 < len(fields) <= MOST_FIELDS:
            raise BadRequest(f"{len(fields)} fields are requested; give 1 to {MOST_FIELDS}")
        infos = await self._client.on_one_timeline(node, fields)
        timeline = infos[0].timeline
        reader = Reader(timeline, fields, every_s, max_points, method, limit, self._share)
        key = (node, timeline)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = _Feed(self._consumer, self._client, *key)
        feed.units.update({info.name: info.units for info in infos})
        feed.readers.append(reader)  # before it is open, so that the last reader to leave does not close it
        try:
            await feed.opened()
            yield reader
        finally:
            feed.readers.remove(reader)
            if not feed.readers and self._feeds.get(key) is feed:
                del self._feeds[key]
                feed.task.cancel()


class _Feed:
    """A subscription to a feed, which hands its batches to all readers."""

    def __init__(self, consumer: Consumer, client: QueryClient, node: str, timeline: str) -> None:
        self.readers: list[Reader] = []
        self.units: Units = {}
        self._consumer, self._client, self._node, self._timeline = consumer, client, node, timeline
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())

    async def opened(self) -> None:
        """Wait until the subscription exists."""
        await asyncio.shield(self._open)

    async def _run(self) -> None:
        try:
            async with self._consumer.open_feed(
                self._node, self._timeline, buffer=_BUFFER, buffer_bytes=_BUFFER_BYTES
            ) as feed:
                self._open.set_result(None)
                before: Batch | None = None
                has_units = False
                while (batch := await feed.aget()) is not None:
                    another_run = before is not None and (batch.seq <= before.seq or batch.since != before.since)
                    if another_run and batch.gap_from is None and before is not None and len(before):
                        # Nothing is known of the time between the runs of the node.
                        batch = replace(batch, gap_from=float(before.t[-1]))
                    # A node of an older version does not report that it was restarted; a batch is missing then.
                    if not has_units or before is None or another_run or batch.seq != before.seq + 1:
                        has_units = await self._learn_units()
                    before = batch
                    for reader in self.readers:
                        reader.put(batch, self.units)
        except Exception as error:
            if self._open.done():
                raise
            self._open.set_exception(error)

    async def _learn_units(self) -> bool:
        """Update the units of the followed fields, and return whether the node has listed them."""
        try:
            known = await self._client.fields(self._node)
        except SisockError:
            known = {}  # no units, rather than old ones; queried again with the next batch
        units = {name: known[name].units if name in known else None for name in self.units}
        if units != self.units:
            self.units = units  # a new dictionary, by which readers notice the change
        return bool(known)


def _joined(batches: Sequence[Batch], fields: Iterable[str]) -> tuple[FloatArray, dict[str, Column]]:
    if not batches:
        return np.empty(0), {}
    columns: dict[str, Any] = {}
    for name in fields:
        parts = [batch.columns[name] if name in batch.columns else np.full(len(batch), np.nan) for batch in batches]
        if len(types := {type_of(part) for part in parts}) > 1:  # it became wider meanwhile
            parts = [widened(part, type_of(part), widest(types)) for part in parts]
        columns[name] = parts[0] if len(parts) == 1 else together(parts)
    return batches[0].t if len(batches) == 1 else np.concatenate([batch.t for batch in batches]), columns
