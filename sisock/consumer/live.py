"""Batches of a feed on their way from the reactor's thread to their reader."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sisock.fields import Batch
from sisock.wamp import wire
from sisock.watermark import Watermark, watermark_of

_NO_TIMES = np.empty(0)
BUFFER_BYTES = 64_000_000
"""Bytes that wait for a reader by default at the most."""


class LiveFeed:
    """The batches of one feed that wait for their reader: the newest ones, and how many it has missed.

    Filled in the reactor's thread, emptied in the reader's.

    Parameters
    ----------
    timeline : str
    most : int
        Most batches that wait; the oldest are dropped.
    most_bytes : int
        Most bytes of them; the newest batch is kept however large it is.
    """

    def __init__(self, timeline: str, most: int, most_bytes: int = BUFFER_BYTES) -> None:
        self.timeline, self._most, self._most_bytes = timeline, most, most_bytes
        self._batches: deque[Batch] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._seq: int | None = None
        self._since: float | None = None
        self._wake: Callable[[], object] | None = None
        self._closed = False
        self.has_watermarks = False
        """Whether batches without samples are among those that wait: watermarks of the timeline."""

    def put(self, event: Any) -> None:
        """Take an event of the feed; called in the reactor's thread."""
        batch = wire.batch_of(self.timeline, event)
        size = wire.batch_size(batch)
        with self._changed:
            # Unknown after a restart of the node, which a smaller number also shows.
            last = self._seq if batch.since == self._since else None
            missed = 0 if last is None else max(0, batch.seq - last - 1)
            self._seq, self._since = batch.seq, batch.since
            self._batches.append(replace(batch, missed=missed))
            self._sizes.append(size)
            self._bytes += size
            while len(self._batches) > 1 and (len(self._batches) > self._most or self._bytes > self._most_bytes):
                # The reader is too slow: it gets the newest, and the number of those that it missed.
                dropped = self._next()
                oldest = self._batches[0]
                self._batches[0] = replace(oldest, missed=oldest.missed + dropped.missed + bool(len(dropped)))
            self._notify()

    def put_watermark(self, event: Any) -> None:
        """Take an event of the watermarks of the timeline; called in the reactor's thread."""
        self.add_watermark(watermark_of(event))

    def add_watermark(self, mark: Watermark) -> None:
        """Take a watermark of the timeline: a batch without samples, in order with the others."""
        batch = Batch(
            self.timeline,
            _NO_TIMES,
            {},
            seq=mark.seq,
            finalized_until=mark.finalized_until,
            reset=mark.reset,
            since=mark.since,
        )
        with self._changed:
            if self._batches and not len(self._batches[-1]):
                self._batches[-1] = replace(batch, missed=self._batches[-1].missed)
            else:
                self._batches.append(batch)
                self._sizes.append(0)
            self._notify()

    def _notify(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()

    @property
    def is_closed(self) -> bool:
        """Whether nothing comes any more."""
        return self._closed

    def close(self) -> None:
        """Let the reader end."""
        with self._changed:
            self._closed = True
            self._notify()

    def get(self, timeout_s: float | None = None) -> Batch | None:
        """Return the next batch, waiting for it; None when that time is over or the feed is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed, timeout_s)
            return self._next() if self._batches else None

    async def aget(self, timeout_s: float | None = None) -> Batch | None:
        """Return the next batch, waiting for it in asyncio; None when that time is over or the feed is closed."""
        await self.wait(timeout_s)
        with self._changed:
            return self._next() if self._batches else None

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait in asyncio for a batch, until that time is over or the feed is closed."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            if self._batches or self._closed:
                return
            self._wake = lambda: loop.call_soon_threadsafe(ready.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ready.wait()
        except TimeoutError:
            return
        finally:
            with self._changed:
                self._wake = None

    def take(self) -> list[Batch]:
        """Return all batches that wait."""
        with self._changed:
            batches = list(self._batches)
            self._batches.clear()
            self._sizes.clear()
            self._bytes = 0
            return batches

    def _next(self) -> Batch:
        self._bytes -= self._sizes.popleft()
        return self._batches.popleft()
