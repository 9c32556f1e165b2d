"""Following timelines, for asyncio."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from sisock.consumer.asynchronous_tables import AsyncTables
from sisock.consumer.delivered import Position
from sisock.consumer.following import Following, StoredUntil
from sisock.consumer.merged import Merged
from sisock.fields import Field
from sisock.metrics import Counters
from sisock.outage import Outages
from sisock.timelike import Time
from sisock.times import SYSTEM_CLOCK, Clock


class AsyncFollow(AsyncTables):
    """The methods of `Consumer` that follow timelines."""

    def follow(
        self,
        node: str,
        timeline: str,
        start: Time | None = None,
        *,
        position: Position | Mapping[str, Any] | None = None,
        fields: str | Sequence[str] | Callable[[Field], bool] | None = None,
        wait: bool = False,
        stored_until: StoredUntil | None = None,
        counters: Counters | None = None,
        outages: Outages | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Following:
        """Follow a timeline from a time on: in order, without gaps that its node could fill, and each sample once.

        Live batches are delivered as they come. Those that are missed, while the router or the node is unreachable or
        this program is slow, are fetched from the node's history. `Consumer.subscribe` delivers live batches only.

        Parameters
        ----------
        node, timeline : str
        start : float, str, datetime, timedelta, pandas.Timestamp or numpy.datetime64, optional
            Time of the first sample, as in `data`; with the samples measured from now on if not given.
        position : Position or mapping, optional
            `Following.position` of an earlier following, or its `as_dict`, which is continued.
        fields : str, sequence of str, or callable, optional
            Names or patterns of the fields that are followed, or whether a `Field` is; all if not given.
        wait : bool
            Whether to wait for a node or a timeline that does not exist yet.
        stored_until : callable, optional
            For readers that store the samples in a history: returns its watermark, from which missing ones are fetched;
            the history then recognizes those that come twice.
        counters : sisock.metrics.Counters, optional
            Where it counts; see `sisock.consumer.following.COUNTED`.
        outages : sisock.outage.OutageLog, optional
            Where outages are noted.
        clock : Clock, optional

        Returns
        -------
        Following
            An asynchronous iterator of `Batch`, each with at least one sample, with `position`, `fields`,
            `finalized_until` and `counters`. Its `next_item` returns watermarks and set-backs as well.

        Raises
        ------
        BadRequest
            If `start` is not a time, or the position is of another timeline or cannot be read.

        Examples
        --------
        >>> async for batch in c.follow("rig", "strain", "-1h"):  # doctest: +SKIP
        ...     print(batch.t[-1], batch["strain.beam"].max())
        """
        more: dict[str, Any] = {"stored_until": stored_until, "counters": counters, "outages": outages}
        return self._followings.follow(node, timeline, start, position, fields, wait=wait, clock=clock, **more)

    async def follow_merged(
        self,
        timelines: Sequence[tuple[str, str]],
        start: Time | None = None,
        *,
        patience_s: float = 10.0,
        wait: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> AsyncIterator[Merged]:
        """Follow several timelines, also of several nodes, together: interval by interval, each final in all of them.

        Parameters
        ----------
        timelines : sequence of (str, str)
            Node and timeline of each.
        start : float, str, datetime, timedelta, pandas.Timestamp or numpy.datetime64, optional
            As for `follow`.
        patience_s : float
            Seconds for which the others wait for one whose watermark stands still. Its samples of intervals that were
            yielded meanwhile are counted as ``late``, and left out.
        wait : bool
            As for `follow`.
        clock : Clock, optional

        Yields
        ------
        Merged
            An interval `start` to `end`, `batches` by (node, timeline), and `late`.

        Raises
        ------
        NoSuchNode, NoSuchTimeline, BadRequest, NotAllowed, NoRouter, TimedOut

        Examples
        --------
        >>> async for part in c.follow_merged([("rig", "strain"), ("host", "cpu")], "-1h"):  # doctest: +SKIP
        ...     strain, cpu = part.batches["rig", "strain"], part.batches["host", "cpu"]
        """
        async for part in self._followings.merged(timelines, start, patience_s, wait=wait, clock=clock):
            yield part
