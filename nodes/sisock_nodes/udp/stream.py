"""One source of datagrams: what becomes of them."""

import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, FloatArray, Timeline
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock_nodes.records.reader import RecordReader
from sisock_nodes.udp.receiver import Datagrams
from sisock_nodes.udp.settings import SourceSettings

# Seconds without a datagram after which the watermark is emitted.
_QUIET_S = 1.0
# Seconds by which successive times of arrival differ at least, so that none is taken for a repetition. A float64 of
# UNIX seconds resolves a quarter of that.
ARRIVAL_STEP_S = 1e-6
# Seconds ahead of the clock from which on a time of arrival was given while the clock was ahead.
_AHEAD_S = 1.0


class Stream:
    """The datagrams of one source, as samples of one timeline.

    Parameters
    ----------
    name : str
        Of the source and of its timeline; fields are called ``<name>.<value>``.
    settings : SourceSettings
    outages : OutageLog, optional
        Where it is reported that all records are refused.

    Attributes
    ----------
    is_running : bool
        Whether datagrams are taken; otherwise they are counted as ``stopped``.
    counters : Counters
        Those of `RecordReader`, and ``received``, ``wrong_length`` and ``stopped``, which are datagrams.
    lock : Lock
        Held by callers of `take` and `quiet` until the batches are stored: several ports may receive one source.
    """

    def __init__(self, name: str, settings: SourceSettings, *, outages: OutageLog | None = None) -> None:
        self.name, self.settings, self.is_running = name, settings, False
        self._reader = RecordReader(settings, name, settings.max_ahead, outages=outages)
        self.counters: Counters = self._reader.counters
        for count in ("received", "wrong_length", "stopped"):
            self.counters.add(count, 0)
        # The clock alone makes nothing final: the sender's may be wrong, and what arrived may wait in the kernel.
        self.timeline = Timeline(
            name, settings.fields(f"{name}."), lateness_s=settings.lateness, follows_clock=False, live=True
        )
        self.lock = threading.Lock()
        self._newest, self._heard = -math.inf, -math.inf
        self._final = -math.inf  # the newest watermark that was emitted
        self._arrived = -math.inf

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The one timeline of this source."""
        return (self.timeline,)

    def start(self) -> None:
        """Take datagrams."""
        self.is_running = True

    def stop(self) -> None:
        """Count datagrams, and take none."""
        self.is_running = False

    def described(self) -> dict[str, Any]:
        """Return its counts."""
        return {"counters": self.counters.as_dict()}

    def take(self, datagrams: Datagrams, index: NDArray[np.intp], now: float) -> Iterator[Batch]:
        """Yield the samples in those datagrams that are of this source."""
        self.counters.add("received", len(index))
        if not self.is_running:
            self.counters.add("stopped", len(index))
            return
        size = self._reader.layout.size
        whole = (datagrams.lengths[index] % size == 0) & (datagrams.lengths[index] > 0)
        if not whole.all():
            self.counters.add("wrong_length", int((~whole).sum()))
            index = index[whole]
        if not len(index):
            return
        self._forget_ahead(now)
        records = self._reader.layout.records(datagrams.payload(index))
        arrival = datagrams.arrival[index]
        if len(records) > len(index):
            arrival = np.repeat(arrival, datagrams.lengths[index] // size)
        for batch in self._reader.read(records, self._apart(arrival), now):
            newest = batch.t[np.isfinite(batch.t)].max(initial=self._newest)
            self._newest, self._heard = float(newest), now
            yield batch

    def _forget_ahead(self, now: float) -> None:
        """Forget times that are ahead of the clock, which was set back since."""
        if max(self._arrived, self._final) > now + _AHEAD_S:
            self._arrived = self._final = -math.inf

    def _apart(self, arrival: FloatArray) -> FloatArray:
        """Return times of arrival that rise strictly."""
        steps = np.arange(len(arrival)) * ARRIVAL_STEP_S
        first = max(arrival[0], self._arrived + ARRIVAL_STEP_S)
        t = np.maximum.accumulate(np.r_[first, arrival[1:]] - steps) + steps
        self._arrived = float(t[-1])
        return np.asarray(t)

    def quiet(self, now: float, read_until: float) -> Batch | None:
        """Return a batch with nothing but the watermark when no datagram has arrived for a while; None if it is known.

        Parameters
        ----------
        now : float
            UNIX seconds.
        read_until : float
            All that arrived before was taken; UNIX seconds.
        """
        if 0.0 <= now - self._heard < max(_QUIET_S, self.settings.lateness):
            return None
        self._forget_ahead(now)
        if not self.settings.timed_by:
            final, step = read_until - self.settings.lateness, _QUIET_S
            self._arrived = max(self._arrived, final)  # also where the clock is set back a little later
        elif self._newest < now:  # all that came, by the sender's clock
            final, step = math.nextafter(self._newest, math.inf), 0.0
        else:
            final, step = now - self.settings.lateness, _QUIET_S
        if not math.isfinite(final) or final <= self._final + step:
            return None
        self._final = final
        return self.timeline.nothing(final)
