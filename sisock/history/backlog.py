"""Samples that could not be written to the disk yet, and writing them as soon as the disk takes them."""

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from sisock.errors import BadHistory
from sisock.history.blocks import Block
from sisock.history.layout import PartlyWritten
from sisock.history.ledger import Ledger
from sisock.history.ring import Prepared, Ring
from sisock.metrics import Counters
from sisock.times import SYSTEM_CLOCK, Interval

if TYPE_CHECKING:
    from sisock.history.store import Store

log = logging.getLogger(__name__)

# Samples that are written to the disk at once, first and at the most, when it takes them again.
_FEWEST_CAUGHT_UP, _MOST_CAUGHT_UP = 1024, 1 << 16
# Seconds after which a write that fails has taken long: disks try for some time before they report an error.
_SLOW_S = 1.0


class Backlog:
    """Writes a timeline to the disk; while the disk takes nothing, samples are in memory only, and not final.

    Its owner lets one thread in at a time, but for `finalize` and `gaps`.

    Parameters
    ----------
    name : str
        Of the timeline.
    store : Store
    ring : Ring
        Where what could not be written is.
    ledger : Ledger
        Where losses are recorded.
    """

    def __init__(self, name: str, store: "Store", ring: Ring, ledger: Ledger) -> None:
        self._name, self._what, self._store, self._ring, self._ledger = name, f"timeline {name}", store, ring, ledger
        self._counters: Counters = ring.counters
        self._counters.add("unwritten", 0)
        self._since: float | None = None  # time of the first sample that could not be written
        self._lost_from: float | None = None  # time of the first that memory could not hold
        self._retry_at = -math.inf  # by the monotonic clock

    def __bool__(self) -> bool:
        return self._since is not None

    @property
    def since(self) -> float:
        """Time of the first sample that could not be written; infinity if all are."""
        return math.inf if self._since is None else self._since

    def gaps(self) -> list[tuple[float, float]]:
        """Return where samples are lost that no gap names yet."""
        since, lost_from = self._since, self._lost_from
        return [] if since is None or lost_from is None else [(lost_from, since)]

    def rows(self) -> tuple[Block, float | None]:
        """Return the samples that are not written yet, and the time from which memory could not hold all of them."""
        nothing: Block = (np.empty(0), {})
        return nothing if self._since is None else self._ring.copy(self._since, 2**62), self._lost_from

    def take(self, rows: Block, lost_from: float | None) -> None:
        """Have more samples to write, in order of time."""
        self._lost_from = lost_from
        if len(rows[0]):
            self._begin_at(float(rows[0][0]))
            self._ring.put(*rows)

    def write(self, prepared: Prepared, watermark: float) -> Prepared:
        """Write samples that could not be written earlier, then those that were prepared; return these.

        Samples that cannot be written are counted, and the watermark does not move for them.
        """
        written = self.attempt(prepared)
        if written == len(prepared.t):
            return prepared
        self._counters.add("unwritten", len(prepared.t) - written)
        self._begin_at(min(self.since, float(prepared.t[written])))
        return prepared._replace(finalized_until=min(prepared.finalized_until, watermark))

    def attempt(self, prepared: Prepared | None = None) -> int:
        """Write what could not be written earlier, then what was prepared; return how many samples of that are."""
        began = SYSTEM_CLOCK.monotonic()
        if began < self._retry_at:
            return 0
        try:
            self.catch_up()
            if prepared is not None:
                self._store.append(self._name, prepared.t, prepared.columns, prepared.finalized_until)
        except (OSError, BadHistory) as error:
            self._store.outage.failed(self._what, f"samples are in memory only, and not final: {error}")
            took = SYSTEM_CLOCK.monotonic() - began
            if took > _SLOW_S:  # a source waits for such a disk for a tenth of the time at most
                self._retry_at = SYSTEM_CLOCK.monotonic() + 10 * took
            return error.rows if isinstance(error, PartlyWritten) and self._since is None else 0
        self._store.outage.works(self._what)
        return len(prepared.t) if prepared else 0

    def catch_up(self) -> None:
        """Write what could not be written earlier, as far as it is still in memory.

        Raises
        ------
        OSError, BadHistory
            If the disk does not take it.
        """
        most = _FEWEST_CAUGHT_UP  # little at first: the disk may not take it
        while self._since is not None:
            if self._lost_from is not None:
                self._ledger.complete()  # where this fails, so would the gap below, and the samples be written again
            t, columns = self._ring.copy(self._since, most)
            late = int(np.searchsorted(t, self._store.finalized_until(self._name)))
            if late:  # other fields have begun meanwhile, by which all before them has become final
                self._ledger.late(float(t[0]), late)
            if len(t) > late:
                try:
                    self._store.append(self._name, t[late:], {name: v[late:] for name, v in columns.items()}, -math.inf)
                except PartlyWritten as error:
                    self._begin_at(float(t[late + error.rows]))
                    raise
            if self._lost_from is not None:
                self._ledger.gap(self._lost_from, self._since)
                self._ledger.complete()  # before what is in it is final
                self._lost_from = None
            self._begin_at(math.nextafter(t[-1], math.inf) if len(t) == most else None)
            most = min(2 * most, _MOST_CAUGHT_UP)

    def count_lost(self) -> None:
        """Count what memory could not hold until the disk takes it; it lies in a gap that ends where memory begins."""
        lost, self._ring.lost = self._ring.lost, 0
        if not lost or self._since is None:
            return
        self._lost_from = self._since if self._lost_from is None else min(self._lost_from, self._since)
        self._ledger.dropped(self._since, lost)
        self._begin_at(max(self._since, self._ring.floor))

    def finalize(self, until: float) -> float:
        """Write down the watermark before a reader may see it; return how far it may move.

        It does not pass the samples that are yet to be written.
        """
        if self._since is not None:
            until = min(until, self._since if self._lost_from is None else self._lost_from)
        try:
            if not self._store.finalize(self._name, until):
                return -math.inf
        except (OSError, BadHistory) as error:
            self._store.outage.failed(self._what, f"the watermark stands still: {error}")
            return -math.inf
        if self._since is None:
            self._store.outage.works(self._what)
        return until

    def close(self) -> None:
        """Write samples that could not be written earlier; those that still cannot are lost, and lie in a gap."""
        if self._since is None:
            return
        try:
            self._ledger.complete(at_once=True)
            self.catch_up()
        except (OSError, BadHistory) as error:
            log.error("timeline %s: samples from %s on could not be written: %s", self._name, self._since, error)
            self.give_up()

    def give_up(self) -> None:
        """Count what could not be written as lost; it lies in a gap."""
        if self._since is None:
            return
        span, start = self._ring.span(), self._since if self._lost_from is None else self._lost_from
        self._ledger.gap(start, span.end if span else self._since)
        self._ledger.dropped(self._since, self._ring.count(Interval(self._since, math.inf)))
        self._lost_from = None
        self._begin_at(None)

    def _begin_at(self, t: float | None) -> None:
        self._since = t
        self._ring.unwritten_from = self.since
