"""Runs of operations as objects: their state, their changes, their result, and their cancellation."""

import asyncio
import math
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from sisock.consumer.connection import Connected, documented_as, shortened
from sisock.consumer.follower import RunFollower
from sisock.consumer.progress import show_bar
from sisock.consumer.router_thread import later_in_reactor
from sisock.errors import SisockError, TimedOut
from sisock.runs import Change
from sisock.times import SYSTEM_CLOCK

# Seconds between two looks for Ctrl-C.
_SLICE_S = 1.0


class FollowedRun:
    """A run of an operation: what is known of it.

    Attributes
    ----------
    missed : int
        Number of the changes that iterations did not get: the node keeps the newest 1000.
    """

    def __init__(self, consumer: Connected, follower: RunFollower) -> None:
        self._consumer, self._follower = consumer, follower
        self.missed = 0
        self._leave = weakref.finalize(self, later_in_reactor, follower.close)
        self._leave.atexit = False

    def close(self) -> None:
        """Follow the run no more, which continues; done as well when this object is collected.

        Examples
        --------
        >>> run.close()  # doctest: +SKIP
        """
        self._leave()

    @property
    def id(self) -> str:
        """Its id, by which `run` of a consumer returns it again."""
        return self._follower.id

    @property
    def node(self) -> str:
        """The name of the node."""
        return self._follower.node

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self._follower.name

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``cancelling``, ``done``, ``failed`` or ``cancelled``, as last known."""
        return self._follower.state

    @property
    def progress(self) -> float | None:
        """A fraction from 0 to 1, as last reported."""
        return self._follower.progress

    @property
    def message(self) -> str | None:
        """The text of the last progress."""
        return self._follower.message

    @property
    def update(self) -> Any:
        """The last update."""
        return self._follower.update

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or cannot be followed any more."""
        return self._follower.over.done()

    @property
    def about(self) -> Mapping[str, Any]:
        """The run as its node has last described it: ``arguments``, ``caller``, ``started``, ``error`` and others."""
        return self._follower.about

    def _next(self, seq: int) -> list[Change]:
        """Return the changes after a number, and count those that are missing."""
        changes = self._follower.after(seq)
        if changes:
            self.missed += changes[0].seq - seq - 1
        return changes

    def _is_finished(self, seq: int) -> bool:
        """Return whether all changes after a number have been read; raise the error that kept some from coming."""
        if not self.is_over or self._follower.after(seq):
            return False
        if self._follower.error is not None:
            raise self._follower.error
        return True

    def _late(self, timeout_s: float | None) -> TimedOut:
        return TimedOut(f"run {self.id} of {self.name} is {self.state} after {timeout_s:g} s; it continues")

    def __repr__(self) -> str:
        parts = [self.state, *([f"{self.progress:.0%}"] if self.progress is not None else [])]
        text = f": {self.message}" if self.message else ""
        return f"<run {self.id} of {self.name} of node {self.node!r}, {' '.join(parts)}{text}>"


class RunHandle(FollowedRun):
    """A run of an operation, for asyncio; iterating over it yields its changes, from the first on, until it ends.

    A change has `seq`, `state`, `progress`, `message` and `update`, which is None where it is one of state or progress.
    Nothing but `cancel` ends the run: neither a time-out, nor the end of the consumer, nor the loss of the router.
    """

    async def changes(self, after: int = 0) -> AsyncIterator[Change]:
        """Yield the changes after a number, as they come, until the run has ended.

        Parameters
        ----------
        after : int
            Number of the last change that is known.

        Raises
        ------
        NotOpen
            If the consumer is closed meanwhile; the run continues.
        NoSuchRun, NotAllowed, BadAnswer

        Examples
        --------
        >>> async for change in run.changes(after=7):  # doctest: +SKIP
        ...     print(change.update)
        """
        while not self._is_finished(after):
            for change in self._next(after):
                after = change.seq
                yield change
            await asyncio.wrap_future(self._follower.changed(after))

    def __aiter__(self) -> AsyncIterator[Change]:
        return self.changes()

    async def result(self, timeout_s: float | None = None) -> Any:
        """Return the result of the run, waiting for it.

        Parameters
        ----------
        timeout_s : float, optional
            Seconds to wait; by default, until the run ends.

        Raises
        ------
        RunFailed, RunCancelled
            If the run failed, or was cancelled.
        TimedOut
            If it has not ended in that time; it continues.
        NotOpen
            If the consumer is closed meanwhile; the run continues.
        NoSuchRun, NotAllowed, BadAnswer

        Examples
        --------
        >>> await run.result(timeout_s=60.0)  # doctest: +SKIP
        """
        over = asyncio.shield(asyncio.wrap_future(self._follower.over))
        try:
            async with asyncio.timeout(timeout_s):
                await over
        except TimeoutError:
            raise self._late(timeout_s) from None
        return self._follower.outcome()

    async def cancel(self, *, hard: bool = False) -> None:
        """Ask the run to end, for the operator's role; `result` waits until it has.

        Parameters
        ----------
        hard : bool
            End its code by force: kill its process, or cancel its coroutine where it waits.

        Raises
        ------
        NotSupported
            If `hard`, and it runs in a thread; it is asked to end all the same.
        NotAllowed, NoSuchRun, NoRouter, TimedOut

        Examples
        --------
        >>> await run.cancel()  # doctest: +SKIP
        """
        await asyncio.wrap_future(self._consumer.ask_to_end(self.node, self.id, hard=hard))


class BlockingRunHandle(FollowedRun):
    """A run of an operation, for notebooks and scripts; iterating over it yields its changes until it ends.

    A change has `seq`, `state`, `progress`, `message` and `update`, which is None where it is one of state or progress.
    Nothing but `cancel` ends the run: neither a time-out, nor the end of the consumer, nor the loss of the router, nor
    Ctrl-C.
    """

    @documented_as(RunHandle.changes)
    def changes(self, after: int = 0) -> Iterator[Change]:
        """See `RunHandle.changes`."""
        __tracebackhide__ = True
        while not self._shortly(partial(self._is_finished, after)):
            for change in self._next(after):
                after = change.seq
                yield change
            self._wait(self._follower.changed(after))

    def __iter__(self) -> Iterator[Change]:
        return self.changes()

    def result(self, timeout_s: float | None = None) -> Any:
        """Return the result of the run, waiting for it; meanwhile, show a progress bar.

        Parameters
        ----------
        timeout_s : float, optional
            Seconds to wait; by default, until the run ends.

        Raises
        ------
        RunFailed, RunCancelled
            If the run failed, or was cancelled.
        TimedOut
            If it has not ended in that time; it continues.
        NotOpen
            If the consumer is closed meanwhile; the run continues.
        NoSuchRun, NotAllowed, BadAnswer

        Examples
        --------
        >>> c.operation("stage", "scan").result()  # doctest: +SKIP
        """
        __tracebackhide__ = True
        over = self._follower.over
        if not self._wait(over, timeout_s, shows=getattr(self._consumer, "show_progress", False)):
            raise self._late(timeout_s)
        return self._shortly(self._follower.outcome)

    @documented_as(RunHandle.cancel)
    def cancel(self, *, hard: bool = False) -> None:
        """See `RunHandle.cancel`."""
        __tracebackhide__ = True
        self._shortly(self._consumer.ask_to_end(self.node, self.id, hard=hard).result)

    def _wait(self, future: "Future[None]", timeout_s: float | None = None, *, shows: bool = False) -> bool:
        """Block until a future is done, at most for a time; return whether it is."""
        deadline = None if timeout_s is None else SYSTEM_CLOCK.monotonic() + timeout_s

        def is_done(seconds: float) -> bool:
            """Return whether there is no need to wait any more, after some seconds at the most."""
            left = math.inf if deadline is None else deadline - SYSTEM_CLOCK.monotonic()
            return bool(wait([future], max(0.0, min(seconds, left))).done) or left <= seconds

        try:
            if shows:
                show_bar(is_done, self._draw, desc=self.name, bar_format="{l_bar}{bar}| {elapsed}")
            while not is_done(_SLICE_S):  # in slices, so that Ctrl-C is seen on every platform
                pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"run {self.id} of {self.name} continues; .run({self.node!r}, {self.id!r}) of a consumer follows it "
                "again, and its .cancel() ends it"
            ) from None
        return future.done()

    def _draw(self, bar: Any) -> None:
        if self.progress is not None and bar.total is None:
            bar.reset(100)
        if self.progress is not None:
            bar.update(100 * self.progress - bar.n)
        state = "" if self.state == "running" else f" {self.state}"
        bar.set_description(f"{self.name}{state}{f': {self.message}' if self.message else ''}", refresh=False)

    def _shortly(self, make: Callable[[], Any]) -> Any:
        """Call a function and return its result; its error comes without the frames in which it was raised."""
        __tracebackhide__ = True
        try:
            return make()
        except SisockError as error:
            raise shortened(error) from None
