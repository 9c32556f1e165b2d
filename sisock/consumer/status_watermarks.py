"""Watermarks of nodes that do not publish them: from their status, every 2 s."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from sisock.consumer.live import LiveFeed
from sisock.errors import SisockError
from sisock.times import Clock
from sisock.watermark import Watermark

_LOOK_S = 2.0

Look = Callable[[], Awaitable[tuple[float | None, Mapping[str, Any]] | None]]
"""Returns when a node started, and the status of a timeline; None if it reports none."""


@asynccontextmanager
async def watermarks_from_status(
    feed: LiveFeed, look: Look, clock: Clock, failed: Callable[[SisockError], object]
) -> AsyncIterator[None]:
    """Put watermarks among the batches of a feed within a block, unless the node publishes them."""
    if feed.has_watermarks:
        yield
        return
    looking = asyncio.create_task(_put(feed, look, clock, failed))
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


async def _put(feed: LiveFeed, look: Look, clock: Clock, failed: Callable[[SisockError], object]) -> None:
    last: Watermark | None = None
    while True:
        await clock.sleep(_LOOK_S)
        try:
            seen = await look()
        except SisockError as error:
            failed(error)
            continue
        if seen is None:
            continue
        since, about = seen
        now = Watermark(about["seq"], about.get("finalized_until"), since, int(about.get("reset") or 0))
        if last is not None:
            # A number that was there 2 s ago has come, or is missing. Its watermark precedes it if it has not changed
            # since; the present one may be due to a batch that is still on its way.
            is_same = (now.seq, now.since, now.reset) == (last.seq, last.since, last.reset)
            final = last.finalized_until if is_same else None
            feed.add_watermark(Watermark(last.seq, final, now.since, now.reset))
        last = now
