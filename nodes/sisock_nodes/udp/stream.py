"""One source of datagrams: what becomes of them."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Batch, Timeline
from sisock.metrics import Counters
from sisock_nodes.records.reader import RecordReader
from sisock_nodes.udp.receiver import Datagrams
from sisock_nodes.udp.settings import SourceSettings

# Seconds without a datagram after which what came is taken to be all until then.
_IDLE_S = 1.0


class Stream:
    """The datagrams of one source, as samples of one timeline.

    Parameters
    ----------
    name : str
        Of the source and of its timeline; fields are called ``<name>.<value>``.
    settings : SourceSettings

    Attributes
    ----------
    running : bool
        Whether datagrams are taken; otherwise they are counted as ``stopped``.
    counters : Counters
        Those of `RecordReader`, and ``received``, ``wrong_length`` and ``stopped``, which are datagrams.
    """

    def __init__(self, name: str, settings: SourceSettings, *, running: bool = True) -> None:
        self.name, self.settings, self.running = name, settings, running
        self._reader = RecordReader(settings, name, settings.max_ahead)
        self.counters: Counters = self._reader.counters
        for count in ("received", "wrong_length", "stopped"):
            self.counters.add(count, 0)
        # By the sender's own clock nothing is final until it has gone on: that clock may be wrong.
        by_arrival = settings.timed_by is None
        self.timeline = Timeline(
            name, settings.fields(f"{name}."), lateness_s=settings.lateness, follows_clock=by_arrival
        )
        self._newest, self._heard = -math.inf, -math.inf
        self._idle = True

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The one timeline of this source."""
        return (self.timeline,)

    def take(self, datagrams: Datagrams, index: NDArray[np.intp], now: float) -> Iterator[Batch]:
        """Yield the samples in those datagrams that are of this source."""
        self.counters.add("received", len(index))
        if not self.running:
            self.counters.add("stopped", len(index))
            return
        size = self._reader.layout.size
        whole = (datagrams.lengths[index] % size == 0) & (datagrams.lengths[index] > 0)
        if not whole.all():
            self.counters.add("wrong_length", int((~whole).sum()))
            index = index[whole]
        if not len(index):
            return
        records = self._reader.layout.records(datagrams.payload(index))
        arrival = datagrams.arrival[index]
        if len(records) > len(index):
            arrival = np.repeat(arrival, datagrams.lengths[index] // size)
        for batch in self._reader.read(records, arrival, now):
            newest = batch.t[np.isfinite(batch.t)].max(initial=self._newest)
            self._newest, self._heard, self._idle = float(newest), now, False
            yield batch

    def idle(self, now: float) -> Batch | None:
        """Return a batch that only says what is final, once after nothing has come for a while; otherwise None."""
        waited = now - self._heard
        if self._idle or waited < max(_IDLE_S, self.settings.lateness) or not math.isfinite(self._newest):
            return None
        self._idle = True
        empty = self._reader.layout.records(b"")
        columns = {
            field.name: self._reader.layout.column(empty, index)
            for field, index in zip(self.timeline.fields, self.settings.kept, strict=True)
        }
        return Batch(self.name, np.empty(0), columns, finalized_until=math.nextafter(self._newest, math.inf))
