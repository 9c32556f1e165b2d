"""A source driven by hand, and a clock that is stepped."""

import threading
from collections.abc import Sequence
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
    """A clock that stands still until it is stepped; who waits for it is woken when its time has come.

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
        self._waiting: list[float] = []  # until when, of each thread that waits

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
        """Move the clock on, and wake whoever waits for the new time.

        Parameters
        ----------
        seconds : float
            By which monotonic time moves on.
        wall : float, optional
            By which the wall clock moves meanwhile, as when it is slewed or stepped; `seconds` if not given.
        """
        with self._changed:
            self._now += seconds if wall is None else wall
            self._monotonic += seconds
            self._changed.notify_all()

    def jump(self, seconds: float) -> None:
        """Set the clock forward (or back), as a correction of the machine's clock does."""
        with self._changed:
            self._now += seconds
            self._changed.notify_all()

    def wait(self, until: float, stop: threading.Event) -> bool:
        """Block until the clock is stepped to `until`; True when `stop` was set meanwhile."""
        with self._changed:
            self._waiting.append(until)
            self._changed.notify_all()
            try:
                # `stop` is an event of its own: looked at often enough that nobody notices.
                while not stop.is_set() and self._now < until:
                    self._changed.wait(0.02)
            finally:
                self._waiting.remove(until)
        return stop.is_set()

    def wait_for_sleepers(self, number: int = 1, timeout_s: float = 30.0) -> None:
        """Block until that many threads wait for this clock.

        Raises
        ------
        TimeoutError
            If they do not within `timeout_s` (real) seconds.
        """

        def sleeping() -> int:
            # Those whose time has come are awake, though they may not have run yet.
            return sum(until > self._now for until in self._waiting)

        with self._changed:
            if not self._changed.wait_for(lambda: sleeping() >= number, timeout_s):
                raise TimeoutError(f"{sleeping()} of {number} threads wait for the clock after {timeout_s} s")
