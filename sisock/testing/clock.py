"""A clock that is stepped."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from sisock.times import SYSTEM_CLOCK


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
        self._holds: set[int] = set()
        self._held = 0

    def now(self) -> float:
        """Return UNIX seconds."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds that were stepped so far."""
        return self._monotonic

    def synchronised(self) -> bool | None:
        """Return the value of `is_synchronised`."""
        return self.is_synchronised

    def boot(self) -> str | None:
        """Return the identifier of the run of the machine."""
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

    def run(self, seconds: float, patience_s: float = 30.0) -> None:
        """Advance from the time of one sleeper to that of the next, and wait each time until the woken sleep again.

        So each thread and coroutine that sleeps when this begins does all that it does in that time.

        Parameters
        ----------
        seconds : float
        patience_s : float, optional
            How long a sleeper may be awake, in seconds of real time.

        Raises
        ------
        TimeoutError
            If one is awake for longer.
        """
        end = self._monotonic + seconds
        while True:
            with self._changed:
                due = min((each.until for each in self._sleepers), default=math.inf)
                woken = {each.who for each in self._sleepers if each.until == due}
            if due > end:
                break
            self.step(max(0.0, due - self._monotonic))
            self._wait_until_asleep(woken, patience_s)
        self.step(end - self._monotonic)

    def _wait_until_asleep(self, woken: "set[threading.Thread | asyncio.Task[object]]", patience_s: float) -> None:
        def awake() -> set[threading.Thread | asyncio.Task[object]]:
            asleep = {each.who for each in self._sleepers if each.until > self._monotonic}
            ended = {who for who in woken if (who.done() if isinstance(who, asyncio.Task) else not who.is_alive())}
            return woken - asleep - ended

        deadline = SYSTEM_CLOCK.monotonic() + patience_s
        with self._changed:  # one that ends does not notify this clock, so it is checked often
            while awake() or self._holds:
                if SYSTEM_CLOCK.monotonic() > deadline:
                    raise TimeoutError(
                        f"after {patience_s} s these do not sleep again: {awake()}, and {len(self._holds)} holds last"
                    )
                self._changed.wait(0.02)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back), as a correction of the machine's clock does; nobody is woken."""
        self._now += seconds

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Block until `event` is set, or the clock is stepped by `timeout_s`; return whether the event is set."""
        with self._sleeping(_Sleeper(self._monotonic + timeout_s, event=event)) as sleeper, self._changed:
            # The event does not notify this clock, so it is checked often.
            while not event.is_set() and self._monotonic < sleeper.until:
                self._changed.wait(0.02)
        return event.is_set()

    def wake(self, event: threading.Event) -> None:
        """Set an event, and wake the threads that wait for it by `wait`."""
        with self._changed:
            event.set()
            for sleeper in self._sleepers:
                if sleeper.event is event:
                    sleeper.until = self._monotonic  # it is awake from now on
            self._changed.notify_all()

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling coroutine of asyncio until the clock is stepped by `seconds`."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in one
        wake = partial(loop.call_soon_threadsafe, woken.set)
        with self._sleeping(_Sleeper(self._monotonic + seconds, wake, who=task)):
            if seconds <= 0.0:
                loop.call_soon(woken.set)
            await woken.wait()

    def hold(self) -> Callable[[], None]:
        """Have `run` and `wait_for_sleepers` wait until the returned function is called."""
        with self._changed:
            number = self._held = self._held + 1
            self._holds.add(number)

        def release() -> None:
            with self._changed:
                self._holds.discard(number)
                self._changed.notify_all()

        return release

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
            if not self._changed.wait_for(lambda: sleeping() >= number and not self._holds, timeout_s):
                raise TimeoutError(f"{sleeping()} of {number} sleepers wait for the clock after {timeout_s} s")


@dataclass(eq=False)
class _Sleeper:
    """A thread or a coroutine that waits for a `StepClock`."""

    until: float
    """When it is to be woken, by the monotonic clock."""
    wake: Callable[[], object] = lambda: None
    event: threading.Event | None = None
    """The event that it waits for as well."""
    who: "threading.Thread | asyncio.Task[object]" = field(default_factory=threading.current_thread)
