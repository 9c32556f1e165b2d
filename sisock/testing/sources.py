"""A source driven by hand, and a clock that is stepped."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sisock.fields import Timeline, as_batch
from sisock.metrics import Counters
from sisock.source import Emit


class ManualSource:
    """A source that emits what a test tells it to.

    Parameters
    ----------
    *timelines : Timeline
    """

    def __init__(self, *timelines: Timeline) -> None:
        self.timelines: Sequence[Timeline] = timelines
        self.counters = Counters("batches")
        self._emit: Emit | None = None

    def start(self, emit: Emit) -> None:
        """Take the node's `emit`."""
        self._emit = emit

    def stop(self) -> None:
        """Emit no more."""
        self._emit = None

    def emit(self, timeline: str, t: Any, columns: dict[str, Any], **more: Any) -> None:
        """Emit samples: `t` and each column array-like, shape (n,); `more` as in `sisock.fields.Batch`."""
        self._started()(as_batch(timeline, t, columns, **more))
        self.counters.add("batches")

    def add(self, timeline: Timeline) -> float | None:
        """Emit samples of another timeline, too; see `sisock.source.Emit.add`."""
        return self._started().add(timeline)

    def _started(self) -> Emit:
        if self._emit is None:
            raise RuntimeError("the source is not started; serve its node, or start the node")
        return self._emit


class StepClock:
    """A clock that stands still until it is stepped; then it wakes the threads and coroutines whose time has come.

    Wall and monotonic time move apart by `jump`, and by `step` with another number of seconds for the wall clock.

    Parameters
    ----------
    now : float
        UNIX seconds at the beginning.
    monotonic : float
        Seconds since the machine was started, at the beginning.
    synchronised : bool, optional
        Whether the wall clock is kept by a time server; unknown if not given. `is_synchronised` may be set later.
    boot : str, optional
        What identifies the run of the machine; unknown if not given.
    """

    def __init__(
        self,
        now: float = 1_700_000_000.0,
        monotonic: float = 0.0,
        *,
        synchronised: bool | None = None,
        boot: str | None = None,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self.is_synchronised, self._boot = synchronised, boot
        self._changed = threading.Condition()
        self._sleepers: list[_Sleeper] = []

    def now(self) -> float:
        """Return UNIX seconds."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds that were stepped so far."""
        return self._monotonic

    def synchronised(self) -> bool | None:
        """Return what `is_synchronised` was set to."""
        return self.is_synchronised

    def boot(self) -> str | None:
        """Return what identifies the run of the machine."""
        return self._boot

    def step(self, seconds: float, wall: float | None = None) -> None:
        """Advance the clock, and wake the threads and the coroutines whose time has come.

        Parameters
        ----------
        seconds : float
            By which monotonic time advances.
        wall : float, optional
            By which the wall clock advances meanwhile, as when it is slewed or stepped; `seconds` if not given.
        """
        with self._changed:
            self._now += seconds if wall is None else wall
            self._monotonic += seconds
            for sleeper in self._sleepers:
                if sleeper.until <= self._monotonic:
                    sleeper.wake()
            self._changed.notify_all()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back), as a correction of the machine's clock does; nobody is woken."""
        self._now += seconds

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Block until `event` is set, or the clock is stepped by `timeout_s`; return whether the event is set."""
        with self._sleeping(_Sleeper(self._monotonic + timeout_s)) as sleeper, self._changed:
            # The event does not notify this clock, so it is checked often.
            while not event.is_set() and self._monotonic < sleeper.until:
                self._changed.wait(0.02)
        return event.is_set()

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling coroutine of asyncio until the clock is stepped by `seconds`."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        with self._sleeping(_Sleeper(self._monotonic + seconds, lambda: loop.call_soon_threadsafe(woken.set))):
            if seconds <= 0.0:
                loop.call_soon(woken.set)
            await woken.wait()

    @contextmanager
    def _sleeping(self, sleeper: "_Sleeper") -> "Iterator[_Sleeper]":
        with self._changed:
            self._sleepers.append(sleeper)
            self._changed.notify_all()
        try:
            yield sleeper
        finally:
            with self._changed:
                self._sleepers.remove(sleeper)

    def wait_for_sleepers(self, number: int = 1, timeout_s: float = 30.0) -> None:
        """Block until so many threads and coroutines wait for this clock.

        Raises
        ------
        TimeoutError
            If they do not within `timeout_s` (real) seconds.
        """

        def sleeping() -> int:
            # Those whose time has come are awake, though they may not have run yet.
            return sum(sleeper.until > self._monotonic for sleeper in self._sleepers)

        with self._changed:
            if not self._changed.wait_for(lambda: sleeping() >= number, timeout_s):
                raise TimeoutError(f"{sleeping()} of {number} sleepers wait for the clock after {timeout_s} s")


@dataclass(eq=False)
class _Sleeper:
    """A thread or a coroutine that waits for a `StepClock`."""

    until: float
    """When it is to be woken, by the monotonic clock."""
    wake: Callable[[], object] = lambda: None
