"""Following timelines, for notebooks and scripts."""

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from sisock.consumer.asynchronous import Consumer
from sisock.consumer.blocking_tables import BlockingTables
from sisock.consumer.connection import documented_as, shortened
from sisock.consumer.delivered import Position
from sisock.consumer.following import Following
from sisock.consumer.merged import Merged
from sisock.errors import SisockError
from sisock.fields import Field
from sisock.metrics import Counters
from sisock.timelike import Time
from sisock.times import SYSTEM_CLOCK, Clock


class LoopThread:
    """An event loop in a thread of its own, so that asynchronous iterators can be read by threads, and in notebooks.

    The thread starts with the first coroutine, and ends with the program at the latest.
    """

    def __init__(self) -> None:
        self._lock, self._loop, self._is_closed = threading.Lock(), asyncio.new_event_loop(), False
        self.iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        """Asynchronous iterators that are closed with the loop."""
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> "concurrent.futures.Future[Any]":
        """Run a coroutine in the thread, and return its future, which is cancelled when the loop is closed."""
        with self._lock:
            if self._is_closed:
                coroutine.close()
                ended: concurrent.futures.Future[Any] = concurrent.futures.Future()
                ended.cancel()
                return ended
            if not self._thread.is_alive():
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel all coroutines, and end the thread."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if self._thread.is_alive():
                    self._loop.call_soon_threadsafe(self._loop.stop)
                else:
                    self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        closing = [each.aclose() for each in self.iterators]  # from the outside in, which asyncio does not do
        self._loop.run_until_complete(asyncio.gather(*tasks, *closing, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class _Steps(Iterator[Any]):
    """The items of an asynchronous iterator, which lives in a loop of another thread.

    A step that is interrupted, by Ctrl-C, is waited for again at the next one.
    """

    def __init__(self, loop: LoopThread, items: "Following | AsyncGenerator[Any, None]") -> None:
        self._loop, self._step = loop, items.__anext__
        loop.iterators.add(items)
        self._pending: concurrent.futures.Future[Any] | None = None

    def __next__(self) -> Any:
        __tracebackhide__ = True
        if self._pending is None:
            self._pending = self._loop.start(self._step())
        try:
            item = self._pending.result()
        except (StopAsyncIteration, concurrent.futures.CancelledError):
            self._pending = None
            raise StopIteration from None
        except SisockError as error:
            self._pending = None
            raise shortened(error) from None
        self._pending = None
        return item


class BlockingFollowing(_Steps):
    """The samples of a timeline of a node, in batches, as an iterator without end; see `Following`."""

    def __init__(self, loop: LoopThread, following: Following) -> None:
        super().__init__(loop, following)
        self._following = following
        self._close = weakref.finalize(self, _close, loop, following)

    @property
    def node(self) -> str:
        """The node that is followed."""
        return self._following.node

    @property
    def timeline(self) -> str:
        """The timeline that is followed."""
        return self._following.timeline

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of the batches that come now; empty until the first one."""
        return self._following.fields

    @property
    def position(self) -> Position:
        """Where it stands after the batch that was delivered last."""
        return self._following.position

    @property
    def finalized_until(self) -> float | None:
        """The watermark: all samples before it were delivered; None while nothing is known."""
        return self._following.finalized_until

    @property
    def forgotten(self) -> int:
        """See `Following.forgotten`."""
        return self._following.forgotten

    @property
    def counters(self) -> Counters:
        """See `Following.counters`."""
        return self._following.counters

    def close(self) -> None:
        """End the subscription; a reader that waits for the next batch ends, too."""
        if self._pending is not None:
            self._pending.cancel()
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _close(loop: LoopThread, following: Following) -> None:
    loop.start(following.aclose())


class BlockingFollow(BlockingTables):
    """The methods of `BlockingConsumer` that follow timelines."""

    @cached_property
    def _loop(self) -> LoopThread:
        loop = LoopThread()
        weakref.finalize(self, loop.close)
        return loop

    def _end_following(self) -> None:
        """End all followings; new ones get another thread."""
        if (loop := self.__dict__.pop("_loop", None)) is not None:
            loop.close()

    @documented_as(Consumer.follow)
    def follow(
        self,
        node: str,
        timeline: str,
        start: Time | None = None,
        *,
        position: Position | Mapping[str, Any] | None = None,
        fields: str | Sequence[str] | Callable[[Field], bool] | None = None,
        wait: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> BlockingFollowing:
        """See `Consumer.follow`."""
        __tracebackhide__ = True
        following = self._followings.follow(node, timeline, start, position, fields, wait=wait, clock=clock)
        return BlockingFollowing(self._loop, following)

    @documented_as(Consumer.follow_merged)
    def follow_merged(
        self,
        timelines: Sequence[tuple[str, str]],
        start: Time | None = None,
        *,
        patience_s: float = 10.0,
        wait: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Iterator[Merged]:
        """See `Consumer.follow_merged`."""
        __tracebackhide__ = True
        parts = self._followings.merged(timelines, start, patience_s, wait=wait, clock=clock)
        try:
            yield from _Steps(self._loop, parts)
        finally:
            self._loop.start(parts.aclose())
