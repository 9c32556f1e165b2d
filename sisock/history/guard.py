"""Keeping the watermarks of a history right under a clock that jumps, or was ahead."""

import logging
import math
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from sisock.clockwatch import CheckedClock, ClockWatch
from sisock.errors import BadHistory, SisockError
from sisock.history.clock import ClockEpoch, Proof, found_ahead
from sisock.history.entry import Reset
from sisock.history.manifest import Manifest
from sisock.history.timeline import TimelineHistory
from sisock.outage import OutageLog
from sisock.times import Clock, iso

log = logging.getLogger(__name__)

# Seconds between looks at a clock that is not trusted, and whether it is synchronised.
_LOOK_S = 1.0
# Seconds ahead of the clock within which samples are left where they are.
_MARGIN_S = 1.0
_CLOCK = "the clock of this machine"


class ClockGuard:
    """Reads the clock for a history, writes down how it runs, and sets watermarks back where it was ahead.

    Parameters
    ----------
    clock : Clock
    outages : OutageLog
        Where a clock that is not trusted is reported.
    remedy : str
        What to do if the clock is right, in a sentence.
    """

    def __init__(self, clock: Clock, outages: OutageLog, remedy: str) -> None:
        self._clock, self._outages, self._remedy, self._watch = clock, outages, remedy, ClockWatch(clock)
        self.checked = CheckedClock(clock, self._watch)
        """The clock as a jump forward does not move it."""
        self._boot = clock.boot() or str(uuid.uuid4())
        self._looking, self._looked, self._undecided = threading.Lock(), clock.monotonic(), False
        self._present: ClockEpoch | None = None
        self._found: list[ClockEpoch] = []  # those in which the clock was ahead, going by the present one
        self._manifest: Manifest
        self._all: Callable[[], Sequence[TimelineHistory]]

    def begin(self, manifest: Manifest, timelines: Callable[[], Sequence[TimelineHistory]]) -> None:
        """Write down in a manifest how the clock runs, and watch over the timelines that grow."""
        self._manifest, self._all = manifest, timelines
        self._begin_epoch()
        self.judge()

    def steady(self) -> float:
        """Return UNIX seconds by a clock that does not jump."""
        return self._watch.steady()

    def now(self) -> float:
        """Look at the clock, and return UNIX seconds that a jump forward does not move."""
        jump = self._watch.jump()
        if jump and self._present is not None:
            at, seconds = jump
            log.warning("the clock jumped by %+.1f s", seconds)
            try:
                if self._all():
                    self._manifest.add_clock_jump(at, seconds)
                self._begin_epoch()
            except BadHistory as error:
                log.error("%s", error.message)
            self.judge()
        elif self._present is not None and self._clock.monotonic() - self._looked >= _LOOK_S:
            self._look(self._present)
        return self._watch.checked()

    def judge(self) -> None:
        """Look whether watermarks are ahead of the clock, and set them back where the clock was ahead."""
        self._check(judge=True)

    def confirm(self) -> None:
        """Believe the clock as it is: what is ahead of it was measured while it was ahead."""
        self._watch.confirm()
        self._check(judge=True, confirmed=True)
        log.warning("the clock was confirmed at %s", iso(self._clock.now()))

    def _begin_epoch(self) -> None:
        """Write down that the clock runs evenly from now on, as far as is known."""
        number = 1 + max((epoch.id for epoch in self._manifest.clock_epochs()), default=0)
        now = (self._clock.now(), self._clock.monotonic(), self._boot)
        self._present, self._found = ClockEpoch(number, *now, self._clock.synchronised()), []
        self._manifest.write_clock_epoch(self._present)

    def _look(self, present: ClockEpoch) -> None:
        """Look whether the clock is synchronised by now; now and then."""
        self._looked = self._clock.monotonic()
        judge = self._undecided
        if not present.synchronised and (synchronised := self._clock.synchronised()) is not present.synchronised:
            self._present, judge = replace(present, synchronised=synchronised), True
            try:
                self._manifest.write_clock_epoch(self._present)
            except BadHistory as error:
                log.error("%s", error.message)
        if judge or self._outages.failing(_CLOCK) or self._watch.ahead_s:
            self._check(judge=judge)

    def _check(self, *, judge: bool, confirmed: bool = False) -> None:
        """Set back watermarks that are ahead of the clock, where it was ahead; report a clock that is not trusted."""
        if not self._looking.acquire(blocking=confirmed):
            return  # somebody does it
        try:
            if judge:
                self._undecided = True
                self._set_back_what_is_ahead(confirmed=confirmed)
                self._undecided = False
        except (OSError, SisockError) as error:
            why = f"samples that are ahead of it cannot be quarantined: {error}; samples until then are late"
            self._outages.failed(_CLOCK, why)
            return
        finally:
            self._looking.release()
        now = self._clock.now()
        behind = max((timeline.watermark - now for timeline in self._of_the_clock()), default=-math.inf)
        if behind > 0:
            self._outages.failed(
                _CLOCK,
                f"it is {behind:.1f} s behind the watermark; samples are late until it has caught up. {self._remedy}",
            )
        elif self._watch.ahead_s > 1.0:
            self._outages.failed(
                _CLOCK,
                f"it has jumped ahead by {self._watch.ahead_s:.1f} s; the watermark goes by the time before until it "
                f"has run evenly for two hours or is synchronised. {self._remedy}",
            )
        else:
            self._outages.recovered(_CLOCK)

    def _of_the_clock(self) -> list[TimelineHistory]:
        """Return the timelines whose watermark follows from the clock."""
        return [each for each in self._all() if math.isfinite(each.timeline.lateness_s)]

    def _newest_before(self, t: float) -> float:
        measured = (timeline.newest_before(t) for timeline in self._of_the_clock() if timeline.measures_now)
        return max(measured, default=-math.inf)

    def _set_back_what_is_ahead(self, *, confirmed: bool) -> None:
        """Quarantine the samples that were taken while the clock was ahead and that are still ahead of it."""
        now, timelines, present = self._clock.now(), self._of_the_clock(), self._present
        if present is None or not timelines:
            return
        # A sender's clock may be a little ahead.
        is_final = any(timeline.watermark > now + 1.0 for timeline in timelines)
        newest = self._newest_before(math.inf)
        if not is_final and newest <= now + 1.0:
            return
        epochs = [epoch for epoch in self._manifest.clock_epochs() if epoch.id != present.id]
        before = [epoch for epoch in epochs if epoch.ahead_until is None]
        elapsed = self._clock.monotonic() - present.monotonic
        proof: Proof = "confirmed" if confirmed else "likely" if is_final else "certain"
        ahead_until = max(newest, *(timeline.watermark for timeline in timelines))
        found = found_ahead(before, present, now, elapsed, self._newest_before, proof)
        self._found = self._found or found
        if not self._found:
            return
        began = min(epoch.wall for epoch in self._found)
        for timeline in timelines:
            # Others may store samples of now meanwhile.
            now = self._clock.now()
            since = max(now + _MARGIN_S, began)
            removed_from = since if timeline.measures_now else math.inf
            moved_on = timeline.watermark > max(now, since - timeline.timeline.lateness_s)
            if not moved_on and timeline.newest_before(math.inf) < removed_from:
                continue
            number = 1 + max((reset.number for reset in timeline.resets()), default=0)
            until = min(timeline.watermark, now - timeline.timeline.lateness_s)
            moved = timeline.set_back(Reset(number, until, removed_from))
            log.warning(
                "timeline %s: the clock was ahead; %d samples from %s on are quarantined, its watermark is now %s",
                *(timeline.name, moved, iso(since), iso(until)),
            )
        for epoch in found:  # only now: after a kill before that, it is judged again
            self._manifest.write_clock_epoch(replace(epoch, ahead_until=ahead_until))
        if found:
            self._watch.confirm()
