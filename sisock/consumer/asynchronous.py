"""The consumer for asyncio."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

from sisock.consumer.asynchronous_follow import AsyncFollow
from sisock.consumer.connection import START
from sisock.consumer.data import Data
from sisock.consumer.events import events_asked, events_of
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.consumer.live import BUFFER_BYTES, LiveFeed
from sisock.consumer.node_requests import NodeRequests
from sisock.consumer.requests import Progress
from sisock.downsample import Method
from sisock.event import EventPage, Severity
from sisock.fields import Batch
from sisock.timelike import Span, Time

__all__ = ["Consumer"]


class Consumer(AsyncFollow):
    """Reads and calls the nodes of a site, from asyncio.

    Parameters
    ----------
    site : str, path or sisock.access.Access, optional
        The folder or the file of a site, or how its router is reached; found as the commands do when not given, see
        `sisock.site.find_access`.
    role : {"consumer", "operator"}
        The account of the site to log in with; only an operator may call commands. Not with an
        `Access`, which has an account.
    timeout_s : float
        Seconds without any part of an answer after which a call fails.
    patience_s : float
        Seconds to wait for the router when opening; with 0 the consumer opens immediately and joins later.
    cache_bytes : int
        Bytes of final answers to cache; 0 disables the cache.

    Examples
    --------
    >>> async with Consumer("lab") as c:  # doctest: +SKIP
    ...     data = await c.data("host", ["cpu.total"], start="-10m")
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
        """Leave the router.

        Examples
        --------
        >>> await c.close()  # doctest: +SKIP
        """
        await asyncio.wrap_future(self._closing())

    async def nodes(self) -> list[NodeInfo]:
        """Return the nodes that the hub knows.

        Returns
        -------
        list of NodeInfo
            Each with `name` and `description`.

        Raises
        ------
        NoHub
            If the router has no hub.
        NoRouter, TimedOut

        Examples
        --------
        >>> [node.name for node in await c.nodes()]  # doctest: +SKIP
        ['host', 'weather']
        """
        return await asyncio.wrap_future(self._request("nodes", self._timeout_s))

    async def fields(self, node: str, start: Time = 1.0, end: Time = 0.0) -> dict[str, FieldInfo]:
        """Return the fields of a node that have samples in an interval, by default at any time.

        Parameters
        ----------
        node : str
        start, end : float, str, datetime, timedelta, pandas.Timestamp or numpy.datetime64
            As in `data`.

        Returns
        -------
        dict of str to FieldInfo
            By name; each with `type`, `units`, `description`, `timeline` and `interval_s`.

        Raises
        ------
        NoSuchNode
            If there is no such node; with the names that are most like it.
        BadRequest
            If a bound is not a time.
        BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> (await c.fields("host"))["cpu.total"].units  # doctest: +SKIP
        '%'
        """
        return await asyncio.wrap_future(self._request_fields(node, start, end))

    async def data(
        self,
        node: str,
        fields: str | Sequence[str],
        start: Time = START,
        end: Time = 0.0,
        min_stride: Span | None = None,
        *,
        downsample: Method | None = None,
        max_points: int | None = None,
        progress: Progress | None = None,
        exact: bool = False,
    ) -> Data:
        """Return samples of some fields of a node.

        Parameters
        ----------
        node : str
        fields : str or sequence of str
            Names, or patterns of the names of fields that have samples: ``*`` is any text, ``?`` any character,
            ``[12]`` one of these, ``{a,b}`` alternatives.
        start, end : float, str, datetime, timedelta, pandas.Timestamp or numpy.datetime64
            Half-open; by default, the last hour. Numbers are UNIX seconds if positive, otherwise seconds relative to
            now. Strings are ``"now"``, spans before now such as ``"-1h30m"``, or ISO 8601. What names no zone is in
            UTC. A timedelta is negative, and relative to now.
        min_stride : float, str or timedelta, optional
            Width of the bins of the downsampling, such as ``10`` or ``"10s"``.
        downsample : Method, optional
            How samples are downsampled where `min_stride` or `max_points` is given; by default ``minmax``, which loses
            no spike.
        max_points : int, optional
            Most samples that each timeline may have; the node chooses the stride.
        progress : callable, optional
            Called, in another thread, with the bytes of a large answer that have come and those that are to come.
        exact : bool
            Whether fields are names and not patterns, and ones that do not exist have no samples.

        Returns
        -------
        Data
            A mapping of names to arrays, with times, units and gaps.

        Raises
        ------
        NoSuchNode, NoSuchField
            If there is no such node or field; with the names that are most like it.
        BadRequest
            If a bound is not a time, or another parameter is invalid.
        TooLarge
            If the answer is beyond the allowance of the node.
        BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> data = await c.data("rig", ["strain.*"], "-1h", max_points=2000)  # doctest: +SKIP
        >>> data["strain.beam"], data.t("strain.beam"), data.units("strain.beam")  # doctest: +SKIP
        """
        options = min_stride, downsample, max_points, progress
        return await asyncio.wrap_future(self._request_data(node, fields, start, end, *options, exact=exact))

    async def status(self, node: str) -> dict[str, Any]:
        """Return the health and the counters of a node; empty where the node has no `status`.

        Parameters
        ----------
        node : str

        Returns
        -------
        dict
            With ``health``, ``counters``, and the newest samples of each of its ``timelines``.

        Raises
        ------
        NoSuchNode
            If there is no such node; with the names that are most like it.
        BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> (await c.status("host"))["health"]["state"]  # doctest: +SKIP
        'ok'
        """
        return await asyncio.wrap_future(self._request("status", node, self._timeout_s))

    async def router_status(self) -> dict[str, Any]:
        """Return the connections, limits and counters of the router; empty where it does not report them.

        Returns
        -------
        dict

        Raises
        ------
        NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> (await c.router_status())["connections"]  # doctest: +SKIP
        """
        return await asyncio.wrap_future(self._request("router_status", self._timeout_s))

    async def events(
        self,
        node: str,
        start: Time | None = None,
        end: Time | None = None,
        *,
        severity: Severity | None = None,
        kind: str | None = None,
        subject: str | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> EventPage:
        """Return events of a node: the oldest that follow the cursor `after`, without it the newest.

        Parameters
        ----------
        node : str
        start, end : Time, optional
            Half-open; without limit if not given.
        severity : {"debug", "info", "warning", "error", "critical"}, optional
            This one or worse.
        kind, subject : str, optional
            Names, shell patterns (``room/*``), or alternatives (``{alarm,run}``).
        after, before : int, optional
            The `cursor` of an earlier page; the number before which the events lie.
        limit : int, optional
            Most events, up to 1000; 100 if not given.

        Returns
        -------
        EventPage
            ``events`` by their numbers, ``cursor``, and the number of the ``oldest`` event that is kept.

        Raises
        ------
        NoSuchNode, BadRequest, BadAnswer, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> [event.text for event in (await c.events("rig", severity="warning")).events]  # doctest: +SKIP
        """
        which = {"severity": severity, "kind": kind, "subject": subject, "after": after, "before": before}
        asked = events_asked(start, end, {**which, "limit": limit})
        answer = await asyncio.wrap_future(self._request("query", self._timeout_s, node, "events", asked))
        return events_of(node, answer)

    async def subscribe(self, node: str, timeline: str, *, buffer: int = 1000) -> AsyncIterator[Batch]:
        """Yield the batches of a timeline as they arrive, without end; the feed continues after a reconnect.

        Parameters
        ----------
        node, timeline : str
        buffer : int
            Most batches that wait for a slow reader, of 64 MB altogether; beyond that the oldest are dropped, and
            `missed` of the next batch is their number.

        Yields
        ------
        Batch
            A mapping of names to arrays, with times `t`.

        Raises
        ------
        NoSuchNode, NoSuchTimeline
            If there is no such node or timeline; with those that exist.
        NotAllowed, NoRouter, TimedOut

        Examples
        --------
        >>> async for batch in c.subscribe("host", "cpu"):  # doctest: +SKIP
        ...     print(batch.t, batch["cpu.total"])
        """
        async with self.open_feed(node, timeline, buffer=buffer) as feed:
            while (batch := await feed.aget()) is not None:
                yield batch

    @asynccontextmanager
    async def open_feed(
        self, node: str, timeline: str, *, buffer: int = 1000, buffer_bytes: int = BUFFER_BYTES
    ) -> AsyncIterator[LiveFeed]:
        """Subscribe to a timeline on entry; `subscribe` subscribes at its first wait.

        Parameters
        ----------
        node, timeline : str
        buffer, buffer_bytes : int
            Most batches that wait, and most bytes of them, beyond which the oldest are dropped.

        Yields
        ------
        LiveFeed
            In which the batches wait.

        Raises
        ------
        NoSuchNode, NoSuchTimeline, NotAllowed, NoRouter, TimedOut

        Examples
        --------
        >>> async with c.open_feed("host", "cpu") as feed:  # doctest: +SKIP
        ...     batch = await feed.aget(5.0)
        """
        requests = NodeRequests(self._request, lambda: self._timeout_s)
        async with requests.feed(node, LiveFeed(timeline, buffer, buffer_bytes)) as feed:
            yield feed

    def following(self, node: str, timeline: str, **options: int) -> AbstractAsyncContextManager[LiveFeed]:
        """Return `open_feed`, under its earlier name."""
        warnings.warn("Consumer.following is named open_feed", DeprecationWarning, stacklevel=2)
        return self.open_feed(node, timeline, **options)
