"""Background work of a history on disk: syncing, sealing, removing, and retrying."""

import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sisock.errors import SisockError
from sisock.metrics import Counters
from sisock.outage import DiskOutage
from sisock.times import Clock
from sisock.worker import Worker

log = logging.getLogger(__name__)

_TICK_S = 0.5
# Seconds before what of the upkeep has failed is tried again.
_RETRY_S = 1.0
# Seconds between attempts to open a history for writing.
_REOPEN_S = 0.5


class Work(Protocol):
    """The work that is repeated."""

    @property
    def is_open(self) -> bool:
        """Whether the history is open for writing."""

    def reopen(self) -> None:
        """Open it for writing if it can be done now."""

    def sync(self) -> None:
        """Force onto the disk what was appended."""

    def maintain(self) -> None:
        """Seal what has gathered, and remove what is too old or too much."""

    def look_again(self) -> None:
        """Look whether what could not be read can be."""

    def write_behind(self) -> None:
        """Write what is in memory only."""


class Upkeep:
    """A thread that does it.

    Parameters
    ----------
    path : Path
        The folder of the history.
    work : Work
    sync_interval : float
        Seconds between syncs.
    outage : DiskOutage
        Where work that fails is reported.
    counters : Counters
        Of which `failures` counts it.
    clock : Clock
    stopping : Event
        Set when the thread is to end.
    """

    def __init__(
        self,
        path: Path,
        work: Work,
        sync_interval: float,
        outage: DiskOutage,
        counters: Counters,
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        self._path, self._work, self._sync_interval = path, work, sync_interval
        self._outage, self._counters, self._clock, self._stopping = outage, counters, clock, stopping
        self.worker = Worker(f"history {path}", self._run, wake=self.wake, stopping=stopping)
        self._wake = threading.Event()
        self._synced = self._maintained = -math.inf

    def start(self) -> None:
        """Begin."""
        self.worker.start()

    def wake(self) -> None:
        """Do it now."""
        self._wake.set()

    def stop(self) -> None:
        """End, once what is being done is done."""
        self.worker.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._work.is_open:
                self._clock.wait(self._stopping, _REOPEN_S)
                self._attempt("opening it", self._work.reopen)
                continue
            self._clock.wait(self._wake, min(_TICK_S, self._sync_interval))
            self._wake.clear()
            self._turn(self._clock.monotonic())

    def _turn(self, now: float) -> None:
        if now - self._synced >= self._sync_interval:
            self._synced = now
            self._attempt("syncing", self._work.sync)
        if now >= self._maintained:
            done = self._attempt("its upkeep", self._work.maintain)
            # Failing work takes a tenth of the time at the most, and is done soon after the disk works again.
            self._maintained = now if done else now + max(_RETRY_S, 10 * (self._clock.monotonic() - now))
        self._attempt("reading it", self._work.look_again)
        self._attempt("writing what is in memory", self._work.write_behind)

    def _attempt(self, what: str, work: Callable[[], None]) -> bool:
        """Do some of the work; report when it fails, and whether it did not."""
        try:
            work()
        except Exception as error:
            self._counters.add("failures")
            if not self._outage.failing(what) and not isinstance(error, OSError | SisockError):
                log.exception("the history in %s: %s failed", self._path, what)
            self._outage.failed(what, error)
            return False
        self._outage.works(what)
        return True
