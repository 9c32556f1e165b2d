"""Several followed timelines, merged by time."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sisock.consumer.delivered import chosen
from sisock.consumer.following import Following
from sisock.errors import BadRequest
from sisock.fields import Batch
from sisock.times import Clock
from sisock.wamp.wire import batch_size

# Samples that wait for other timelines, of each one.
_MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Merged:
    """The samples of several timelines in an interval, which is final in all that were waited for.

    Attributes
    ----------
    start, end : float
        UNIX seconds; each interval begins where the last one ended. The first begins at minus infinity.
    batches : mapping of (str, str) to tuple of Batch
        By node and timeline: their samples in the interval, in order; empty where there are none.
    late : int
        Samples of the timelines, so far, that came after their interval, and are left out.
    """

    start: float
    end: float
    batches: Mapping[tuple[str, str], tuple[Batch, ...]]
    late: int


class _Held:
    """The samples that a following has delivered and that are not released yet."""

    def __init__(self, following: Following, changed: asyncio.Event, clock: Clock) -> None:
        self.following, self.until, self.late = following, -math.inf, 0
        self.moved = clock.monotonic()
        """When the watermark moved last."""
        self._batches: deque[Batch] = deque()
        self._bytes, self._changed, self._clock = 0, changed, clock
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def fill(self) -> None:
        """Take the batches of the following, while there is room; until the consumer is closed."""
        while True:
            await self._has_room.wait()
            try:
                item = await self.following.next_item()
            except StopAsyncIteration:
                return
            if not isinstance(item, Batch):
                continue  # released samples stay so; those that come again are late
            if len(item):
                self._batches.append(item)
                self._bytes += batch_size(item)
                if self._bytes > _MOST_BYTES:
                    self._has_room.clear()
            final = self.following.finalized_until
            if final is not None and final > self.until:
                self.until, self.moved = final, self._clock.monotonic()
            self._changed.set()

    def release(self, start: float, end: float) -> tuple[Batch, ...]:
        """Return the samples before `end`, in order of time; those before `start` are late."""
        if not self._batches:
            return ()
        released, kept = [], deque[Batch]()
        for batch in self._batches:
            if batch.t[0] >= end:
                kept.append(batch)
                continue
            if batch.t[-1] >= end:
                kept.append(chosen(batch, batch.t >= end))
            if len(part := chosen(batch, (batch.t >= start) & (batch.t < end))):
                released.append(part)
            self.late += int(np.count_nonzero(batch.t < start))
        self._batches, self._bytes = kept, sum(map(batch_size, kept))
        if self._bytes <= _MOST_BYTES:
            self._has_room.set()
        return tuple(sorted(released, key=lambda batch: float(batch.t[0])))


async def merged(followings: Sequence[Following], patience_s: float, clock: Clock) -> AsyncGenerator[Merged, None]:
    """Yield the samples of followings interval by interval; see `Consumer.follow_merged`.

    Raises
    ------
    BadRequest
        If there is nothing to follow, or the same timeline twice.
    """
    keys = [(each.node, each.timeline) for each in followings]
    if not keys or len(set(keys)) < len(keys):
        raise BadRequest("give at least one timeline to follow, and each only once")
    changed = asyncio.Event()
    held = [_Held(following, changed, clock) for following in followings]
    tasks = [asyncio.create_task(each.fill()) for each in held]
    for task in tasks:
        task.add_done_callback(lambda _: changed.set())
    ticking = asyncio.create_task(_tick(changed, clock, max(0.05, patience_s / 4)))
    start = -math.inf
    try:
        while not all(task.done() for task in tasks):
            await changed.wait()
            changed.clear()
            for task in tasks:
                if task.done():
                    task.result()  # raises the error by which it ended
            end = _released_until(held, clock.monotonic() - patience_s)
            if end > start:
                batches = {key: each.release(start, end) for key, each in zip(keys, held, strict=True)}
                yield Merged(start, end, batches, sum(each.late for each in held))
                start = end
    finally:
        for task in (*tasks, ticking):
            task.cancel()
        await asyncio.wait([*tasks, ticking])
        for following in followings:
            await following.aclose()


def _released_until(held: Sequence[_Held], waited_since: float) -> float:
    """Return until when samples may be released: the watermark of all that are waited for."""
    awaited = [each.until for each in held if each.moved > waited_since]
    # Those that stand still do not hold up others; where all do, the farthest has waited long enough.
    until = min(awaited, default=max(each.until for each in held))
    return until if math.isfinite(until) else -math.inf


async def _tick(changed: asyncio.Event, clock: Clock, seconds: float) -> None:
    while True:
        await clock.sleep(seconds)
        changed.set()
