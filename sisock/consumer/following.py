"""Following a timeline of a node: its samples from a time on, in order, each once, through all losses."""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self

import numpy as np

from sisock.consumer.delivered import Delivered, Position, chosen
from sisock.consumer.live import LiveFeed
from sisock.consumer.node_requests import NodeRequests
from sisock.consumer.past import Past, between_gaps, filled, final_after, fitting, whole_minute
from sisock.consumer.status_watermarks import watermarks_from_status
from sisock.errors import BadRequest, NoHub, NoRouter, NoSuchNode, NoSuchTimeline, NotOpen, SisockError
from sisock.fields import Batch, Field, FloatArray, Samples
from sisock.metrics import Counters
from sisock.outage import OutageLog, Outages
from sisock.times import SYSTEM_CLOCK, Clock
from sisock.watermark import SetBack, set_backs_of

# Live batches that are held while the past is fetched; when there are more, it is fetched once more.
_HELD = 256
# Seconds until a node that failed is asked again, and between looks at one that publishes no watermarks.
_RETRY_S, _LOOK_S = 2.0, 2.0
# Seconds without any event, after which a node is asked whether it is still there.
_SILENT_S = 10.0
# The wait between repairs that follow each other, without a live batch in between, grows.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

COUNTED = ("batches", "fetched", "missed", "duplicates", "dropped", "gaps", "filled", "set_back", "repairs", "failures")
"""Live batches, samples that were fetched, batches that the feed missed, samples that would have come twice, those that
the source lost, gaps before samples, values that were missing, samples that a reset removed, repairs from the history,
requests that failed."""
StoredUntil = Callable[[Sequence[Field]], float | None]
"""Returns the watermark of a history that stores the samples, once their fields are known; None while it has none."""

log = logging.getLogger(__name__)


def _all_fields(_field: Field) -> bool:
    return True


class Following:
    """The samples of a timeline of a node, in batches, as an asynchronous iterator without end.

    Live batches are delivered as long as their numbers follow each other. Whenever one is missing, or the node was
    restarted, the samples from the watermark on are fetched from the node's history, and those that were delivered
    already are left out. So no sample is lost that the node still has, and none comes twice. A slow reader is not
    waited for: what has no room is fetched later. Nodes that know the published contract alone are asked every 2 s.

    Made by `Consumer.follow`; close it, or use it in an ``async with`` block, where it is not iterated to the end of
    the program.

    Parameters
    ----------
    requests : NodeRequests
    node, timeline : str
    turns : callable
        Returns a semaphore of which each question to a history takes a turn.
    start : float, optional
        UNIX seconds of the first sample; the first that is measured from now on if not given.
    position : Position, optional
        Of an earlier following, which is continued.
    fields : callable, optional
        Whether a field is followed; all are if not given.
    wait : bool
        Whether a node or timeline that does not exist yet is waited for, where it is an error otherwise.
    stored_until : callable, optional
        Where the reader is a history, which recognizes samples that it has: its watermark, from which missing samples
        are fetched.
    counters : Counters, optional
        Where it counts.
    outages : Outages, optional
    clock : Clock, optional
    """

    def __init__(
        self,
        requests: NodeRequests,
        node: str,
        timeline: str,
        turns: Callable[[], asyncio.Semaphore],
        *,
        start: float | None = None,
        position: Position | None = None,
        fields: Callable[[Field], bool] = _all_fields,
        wait: bool = False,
        stored_until: StoredUntil | None = None,
        counters: Counters | None = None,
        outages: Outages | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if position is not None and (position.node, position.timeline) != (node, timeline):
            of = f"{position.node}::{position.timeline}"
            raise BadRequest(f"this position is of {of}, and {node}::{timeline} is to be followed")
        self.node, self.timeline = node, timeline
        self.fields: tuple[Field, ...] = ()
        """The fields of the batches that come now; empty until the first one."""
        self.counters = counters or Counters(*COUNTED)
        """The counts of `COUNTED`."""
        self._requests, self._wait, self._stored_until, self._clock = requests, wait, stored_until, clock
        self._outages = outages or OutageLog(clock, log)
        self._start, self._is_new = start, position is None or not math.isfinite(position.until)
        self._delivered = Delivered(position.until, position.delivered, position.resets) if position else Delivered()
        self._past = Past(requests, node, timeline, turns, fields)
        self._name = f"{node}::{timeline}"
        self._run: Any = None  # when the node started
        # Numbers of the batches that were delivered and received last, and of the newest reset.
        self._seq = self._received = self._reset = 0
        self._newest = self._fetched_until = self._losses_until = -math.inf
        self._has_answered = False
        self._pause_s = 0.0
        self._items: AsyncGenerator[Batch | SetBack, None] | None = None

    @property
    def interval_s(self) -> float | None:
        """Mean seconds between samples, as the node states it; None if aperiodic or not known yet."""
        return self._past.interval_s

    @property
    def finalized_until(self) -> float | None:
        """The watermark: all samples before it were delivered; None while nothing is known."""
        return self._delivered.until if math.isfinite(self._delivered.until) else None

    @property
    def forgotten(self) -> int:
        """How many delivered samples that are not final would not be recognized if they came again."""
        return self._delivered.forgotten

    @property
    def position(self) -> Position:
        """Where it stands after the batch that was delivered last."""
        delivered = self._delivered
        until = max(delivered.until, self._start or -math.inf)
        return Position(self.node, self.timeline, until, delivered.times(), tuple(delivered.resets))

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        while True:
            item = await self.next_item()
            if isinstance(item, Batch) and len(item):
                return item

    async def next_item(self) -> Batch | SetBack:
        """Return the next batch, which without samples is a watermark, or that the timeline was set back.

        Raises
        ------
        NoSuchNode, NoSuchTimeline
            If there is none, unless that is waited for.
        NotAllowed, NoRouter, TimedOut
            If the first request fails; later failures are counted, logged once, and the request is repeated.
        """
        if self._items is None:
            self._items = self._follow()
        return await anext(self._items)

    async def aclose(self) -> None:
        """End the subscription."""
        if self._items is not None:
            await self._items.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def _follow(self) -> AsyncGenerator[Batch | SetBack, None]:
        while True:
            try:
                async with aclosing(self._deliver()) as items:
                    async for item in items:
                        yield item
            except (NoSuchNode, NoSuchTimeline):
                if not (self._wait or self._has_answered):
                    raise
            except NotOpen:
                if not (self._wait or self._has_answered):
                    raise
                return
            except SisockError as error:
                if not (self._wait or self._has_answered):
                    raise
                self._failed(error)
            await self._clock.sleep(_RETRY_S)

    async def _deliver(self) -> AsyncGenerator[Batch | SetBack, None]:
        delivering = self._ask_again() if await self._look() is None else self._listen()
        async with aclosing(delivering) as items:
            async for item in items:
                yield item

    async def _look(self) -> tuple[float | None, Mapping[str, Any]] | None:
        """Return when the node started, and the status of the timeline; None if it does not number its batches."""
        status = await self._requests.status(self.node)
        timelines = status.get("timelines")  # nodes of third parties report none
        if timelines is None or not all("seq" in about for about in timelines.values()):
            return None
        if self.timeline not in timelines:
            known = ", ".join(timelines) or "none with a feed"
            raise NoSuchTimeline(f"node {self.node!r} has no timeline {self.timeline!r}; it has: {known}")
        return status.get("since"), timelines[self.timeline]

    async def _ask_again(self) -> AsyncGenerator[Batch | SetBack, None]:
        while True:
            async for item in self._fetch(None):
                yield item
            await self._clock.sleep(_LOOK_S)

    async def _listen(self) -> AsyncGenerator[Batch | SetBack, None]:
        async with (
            self._requests.feed(self.node, LiveFeed(self.timeline, _HELD), watermarks=True) as feed,
            watermarks_from_status(feed, self._look, self._clock, self._failed),
        ):
            while seen := await self._look():
                self._run, about = seen
                async for item in self._fetch(about):
                    yield item
                self._seq, self._reset = about["seq"], int(about.get("reset") or 0)
                async for item in self._take(feed):
                    yield item
                if feed.is_closed:
                    raise NotOpen("the consumer was closed")
                self.counters.add("repairs")
                await self._clock.sleep(self._pause_s)
                self._pause_s = min(_LONGEST_PAUSE_S, 2.0 * self._pause_s or _FIRST_PAUSE_S)

    async def _take(self, feed: LiveFeed) -> AsyncGenerator[Batch, None]:
        """Deliver live batches, until one is missing."""
        while True:
            await feed.wait(_SILENT_S)
            batches = feed.take()
            if not batches:
                if feed.is_closed or await self._is_behind():
                    return
                continue
            for batch in batches:
                if self._misses_some(batch):
                    self.counters.add("missed", batch.missed)
                    return
                if not len(batch):
                    if batch.seq == self._seq and batch.finalized_until is not None:
                        self._delivered.advance(batch.finalized_until)
                        if self.fields:
                            yield self._watermark(batch.finalized_until)
                    continue
                if batch.seq <= self._seq:
                    continue  # was fetched
                columns = self._past.followed(batch.columns)
                if (fields := fitting(self.fields, columns)) is None:
                    return
                self.fields, self._seq, self._pause_s = fields, batch.seq, 0.0
                if columns:
                    self.counters.add("batches")
                    yield self._live(batch if columns is batch.columns else replace(batch, columns=columns))

    def _misses_some(self, batch: Batch) -> bool:
        """Whether batches are missing before a live batch or watermark."""
        if batch.reset > self._reset or (batch.since is not None and batch.since != self._run):
            return True
        if not len(batch):
            return batch.seq > self._seq
        went_back, self._received = batch.seq < self._received, batch.seq
        return went_back or batch.seq > self._seq + 1

    async def _is_behind(self) -> bool:
        seen = await self._look()
        return seen is None or seen[0] != self._run or seen[1]["seq"] != self._seq

    def _live(self, batch: Batch) -> Batch:
        if batch.t[0] < self._fetched_until:
            batch = self._undelivered(batch)
        self._newest = max(self._newest, float(batch.t[-1])) if len(batch) else self._newest
        self._count(batch)
        return batch

    def _undelivered(self, batch: Batch) -> Batch:
        """Return the samples of a batch that were not delivered and are not before the start."""
        which = self._delivered.new(batch.t) if self._stored_until is None else slice(None)
        if self._start is not None and len(batch) and batch.t[0] < self._start:
            is_wanted = batch.t >= self._start
            which = is_wanted if isinstance(which, slice) else which & is_wanted
        left = chosen(batch, which)
        self.counters.add("duplicates", len(batch) - len(left))
        return left

    def _count(self, batch: Batch) -> None:
        """Count the samples of a batch as delivered, and its watermark."""
        if len(batch) and self._stored_until is None:
            self._delivered.add(batch.t)
        if batch.finalized_until is not None:
            self._delivered.advance(batch.finalized_until)
        if batch.gap_from is not None and len(batch):
            self.counters.add("gaps")
        if batch.dropped:
            self.counters.add("dropped", batch.dropped)

    def _watermark(self, finalized_until: float) -> Batch:
        columns = {field.name: field.nothing(0) for field in self.fields}
        return Batch(self.timeline, np.empty(0), columns, finalized_until=finalized_until)

    async def _fetch(self, about: Mapping[str, Any] | None) -> AsyncGenerator[Batch | SetBack, None]:
        """Deliver what the node has from the time on that is final here."""
        newest = self._clock.now() if about is None else about["newest"]
        if self._is_new and self._start is None and self._stored_until is None:
            self._start = -math.inf if newest is None else math.nextafter(newest, math.inf)
        if newest is not None:  # something was measured
            async for item in self._fetch_until(math.nextafter(newest, math.inf), about or {}):
                yield item
        elif about is not None:
            for back in self._set_backs(about):
                yield back
        self._has_answered = True
        self._outages.recovered(self._name)
        self._is_new = False

    async def _fetch_until(self, stop: float, about: Mapping[str, Any]) -> AsyncGenerator[Batch | SetBack, None]:
        fields = await self._past.fields(math.nextafter(stop, -math.inf) if about else 1.0, stop)
        if not fields:
            if not about and not (self._wait or self._has_answered):
                raise NoSuchTimeline(f"node {self.node!r} has no timeline {self.timeline!r} with samples")
            return
        self.fields = fields
        for back in self._set_backs(about):
            yield back
        start, gap_from = self._first_missing(about)
        self._fetched_until = max(self._fetched_until, stop, self._start or -math.inf)
        while start < stop:
            samples, then, end = await self._past.piece(start, stop)
            if then:
                self.fields = then
            for batch in self._cut(samples, start, end, gap_from, about):
                yield batch
            if len(samples.t):
                gap_from, self._newest = None, max(self._newest, float(samples.t[-1]))
            start = end
        self.fields = fields

    def _first_missing(self, about: Mapping[str, Any]) -> tuple[float, float | None]:
        """Return from when on samples are fetched, and since when those that the node has no longer are missing."""
        oldest = about.get("oldest") or 1.0
        final = self.finalized_until if self._stored_until is None else self._stored_until(self.fields)
        if final is None:
            return max(self._start or 1.0, oldest), None
        self._losses_until = max(self._losses_until, whole_minute(final))
        final = max(final, self._start or -math.inf) if self._stored_until is None else final
        if oldest > max(final, self._newest):
            return oldest, max(final, self._newest)  # the node has no longer what was between them
        return final, None

    def _set_backs(self, about: Mapping[str, Any]) -> list[SetBack]:
        """Set back the watermark where the node, whose clock was ahead, has set back its own."""
        resets = set_backs_of(about.get("resets"))
        if self._stored_until is None:
            resets = [each for each in resets if not self._delivered.is_known(each.removed_from)]
            if self._is_new:
                return []  # they were before the first sample
            for back in resets:
                self.counters.add("set_back", self._delivered.set_back(back.finalized_until, back.removed_from))
        for back in resets:
            until = back.finalized_until
            self._newest, self._losses_until = min(self._newest, until), min(self._losses_until, until)
        return resets

    def _cut(
        self, samples: Samples, start: float, end: float, gap_from: float | None, about: Mapping[str, Any]
    ) -> list[Batch]:
        """Return the new samples of a piece in batches, cut where they follow a gap, with the watermark."""
        t: FloatArray = samples.t
        columns, missing = filled(samples, self.fields)
        self.counters.add("filled", missing)
        lost = samples.dropped if start >= self._losses_until else 0
        self._losses_until = max(self._losses_until, whole_minute(end))
        if lost and not len(t):
            gap_from = start  # the time at which they are counted
        batches = []
        for i, j, since in between_gaps(samples, gap_from):
            part = {name: values[i:j] for name, values in columns.items()}
            final = final_after(samples, end, about) if j == len(t) else None
            batch = Batch(self.timeline, t[i:j], part, since, 0 if i else lost, finalized_until=final)
            batch = self._undelivered(batch)
            self._count(batch)
            self.counters.add("fetched", len(batch))
            if len(batch) or batch.dropped or (final is not None and len(self.fields)):
                batches.append(batch)
        return batches

    def _failed(self, error: SisockError) -> None:
        self.counters.add("failures")
        if self._has_answered or not isinstance(error, NoRouter | NoHub):  # a site starts in any order
            self._outages.failed(self._name, error)
