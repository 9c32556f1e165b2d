"""Jumps of a clock, and the time without them."""

import threading

from sisock.times import Clock

# Seconds by which the clock may move otherwise than evenly, between two looks at it, before that is a jump.
_JUMP_S = 1.0
# Seconds of even running after which a clock that jumped is believed; fewer where the kernel calls it synchronised.
_CONFIRM_S, _SYNCHRONISED_S = 7200.0, 60.0


class ClockWatch:
    """Detects jumps of a clock, and continues evenly over them until the clock is confirmed.

    A clock that jumped is confirmed when it has run evenly for two hours, or for a minute if it is synchronised. May be
    used from any thread.

    Parameters
    ----------
    clock : Clock
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._offset = self._believed = clock.now() - clock.monotonic()
        self._jumped: float | None = None  # monotonic time of the newest jump that is not confirmed

    def jump(self) -> tuple[float, float] | None:
        """Return when and by how many seconds the clock has jumped since the last call; None if it has not."""
        with self._lock:
            before = self._clock.monotonic()
            now = self._clock.now()
            even = self._clock.monotonic()
            if even - before > _JUMP_S / 10:
                return None  # this thread was held up, so the difference is not that of the clock
            change = now - even - self._offset
            self._offset = now - even
            if abs(change) > _JUMP_S:
                self._jumped = even
                return now, change
            if self._jumped is None or self._is_confirmed(even - self._jumped):
                self._believed, self._jumped = self._offset, None  # a clock that is slewed does not jump
            return None

    def _is_confirmed(self, ran: float) -> bool:
        return ran >= _CONFIRM_S or (ran >= _SYNCHRONISED_S and self._clock.synchronised() is True)

    def confirm(self) -> None:
        """Believe the clock as it is now."""
        with self._lock:
            self._offset = self._believed = self._clock.now() - self._clock.monotonic()
            self._jumped = None

    @property
    def ahead_s(self) -> float:
        """Seconds by which a clock that is not confirmed is ahead of the one that is believed; 0 when it is behind."""
        return max(0.0, self._offset - self._believed) if self._jumped is not None else 0.0

    def steady(self) -> float:
        """Return UNIX seconds by a clock that does not jump, and follows a jump when it is confirmed."""
        return self._believed + self._clock.monotonic()

    def checked(self) -> float:
        """Return UNIX seconds that are not ahead of the steady clock: a jump forward does not move them."""
        return min(self._clock.now(), self.steady())


class CheckedClock:
    """A clock that a jump forward does not move, see `ClockWatch.checked`; in all else the one that is watched.

    Parameters
    ----------
    clock : Clock
    watch : ClockWatch
        Of that clock.
    """

    def __init__(self, clock: Clock, watch: ClockWatch) -> None:
        self.now, self.monotonic = watch.checked, clock.monotonic
        self.wait, self.wake, self.sleep, self.hold = clock.wait, clock.wake, clock.sleep, clock.hold
        self.synchronised, self.boot = clock.synchronised, clock.boot
