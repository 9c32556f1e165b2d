"""Sources of samples. A source only emits batches; it does not know their listeners."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

from sisock.control import Procedure
from sisock.fields import Batch, Timeline, as_batch
from sisock.metrics import Counters
from sisock.outage import Health, OutageLog
from sisock.times import Clock, Interval, SystemClock
from sisock.worker import Worker

log = logging.getLogger(__name__)

# Seconds for which a reading under way is waited for at a stop.
_PATIENCE_S = 2.0


class Emit(Protocol):
    """Called by a source with its batches, from any thread."""

    def __call__(self, batch: Batch) -> None:
        """Take a batch of one of the source's timelines."""
        ...

    def add(self, timeline: Timeline) -> float | None:
        """Take batches of another timeline from now on, or of a known one with other fields.

        Returns
        -------
        float or None
            Watermark of the timeline, in UNIX seconds: samples before it need not be emitted again. None while there
            is none.

        Raises
        ------
        BadData
            If one of its fields is on another timeline already.
        BadHistory
            If the history on disk cannot take it.
        """
        ...

    def set_back(self, timeline: str, number: int, finalized_until: float, removed_from: float = math.inf) -> int:
        """Have the watermark of a timeline stand at an earlier time, since its origin has set its own back.

        Parameters
        ----------
        timeline : str
        number : int
            Of the reset, as its origin counts them; one that is known already changes nothing.
        finalized_until : float
            Where the watermark goes, UNIX seconds.
        removed_from : float
            From when on samples are quarantined.

        Returns
        -------
        int
            How many samples were quarantined.
        """
        ...


class Source(Protocol):
    """Something that measures."""

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that this source feeds from the start; others come through `Emit.add`."""
        ...

    @property
    def counters(self) -> Counters:
        """Counters of the source: readings, failures, losses."""
        ...

    def start(self, emit: Emit) -> None:
        """Begin to measure. Returns at once; batches come through `emit` until `stop`."""
        ...

    def stop(self) -> None:
        """End measuring; when it returns, `emit` is called no more."""
        ...


class Part(Protocol):
    """A part of a source."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that it feeds."""
        ...

    @property
    def counters(self) -> Counters:
        """Its counters."""
        ...


class Composite(Source, Protocol):
    """A source of several parts, each of which is counted for itself."""

    @property
    def parts(self) -> Sequence[Part]:
        """The parts that there are at the moment."""
        ...


class Controlled(Source, Protocol):
    """A source with procedures."""

    @property
    def procedures(self) -> Sequence[Procedure]:
        """Its procedures; the node offers them to operators."""
        ...


class Reporting(Source, Protocol):
    """A source that knows more of its condition than that it was started."""

    def status(self) -> Health:
        """Return its health at present; called often and from any thread, so it does not wait."""
        ...


class Archive(Protocol):
    """Samples that are older than the history of a node, such as those of the log that a source reads.

    A source may be one; its node asks it when somebody asks the node for such a time.
    """

    def past(self, timeline: str, interval: Interval) -> Sequence[Batch]:
        """Return all samples of a timeline in an interval, in any order; there may be others around it.

        Raises
        ------
        SisockError
            If they cannot be had; what would be too many is `TooLarge`.
        """
        ...

    def has_past(self, timeline: str, interval: Interval) -> bool:
        """Whether `past` may have a sample there, found out without reading them."""
        ...


def parts_of(source: Source) -> Sequence[Part]:
    """Return the parts of a source; none if it is no `Composite`."""
    return getattr(source, "parts", ())


def archive_of(source: Source) -> Archive | None:
    """Return a source as an `Archive`; None if it is none."""
    return cast("Archive", source) if hasattr(source, "past") else None


def health_of(source: Source) -> Health | None:
    """Return the health that a source reports; None if it is not `Reporting`."""
    status = getattr(source, "status", None)
    return status() if callable(status) else None


def procedures_of(source: Source) -> Sequence[Procedure]:
    """Return the procedures of a source; none if it is not `Controlled`."""
    return getattr(source, "procedures", ())


class InThread:
    """The base of a source whose `_run` is called in a thread of its own, from its start on.

    `_run` ends soon after the event `_stop` is set.

    Parameters
    ----------
    name : str
        Of the thread.
    patience_s : float, optional
        How long a stop waits for it, in seconds; until it has ended when not given.
    """

    def __init__(self, name: str, patience_s: float | None = None) -> None:
        self._worker = Worker(name, self._run, patience_s=patience_s)
        self._stop = self._worker.stopping

    def start(self, emit: Emit) -> None:
        """Begin to emit."""
        self._worker.start(emit)

    def stop(self) -> None:
        """Emit no more."""
        self._worker.stop()

    @property
    def is_running(self) -> bool:
        """Whether its thread is running."""
        return self._worker.is_alive

    def _run(self, emit: Emit) -> None:
        raise NotImplementedError


class Polled(InThread):
    """A source that is read at a fixed interval, in a thread of its own.

    Parameters
    ----------
    timeline : Timeline
        Its `interval_s` is the time between readings.
    read : callable
        Returns the values by field name, or None if this reading is not a sample. What it raises is counted and
        opens a gap; it is called again at the next interval.
    clock : Clock, optional
    """

    def __init__(
        self, timeline: Timeline, read: Callable[[], Mapping[str, Any] | None], clock: Clock | None = None
    ) -> None:
        if not timeline.interval_s or timeline.interval_s <= 0:
            raise ValueError(f"timeline {timeline.name!r} is polled, so it needs an interval above 0 s")
        super().__init__(f"poll {timeline.name}", _PATIENCE_S)
        self.timelines: Sequence[Timeline] = (timeline,)
        self.counters = Counters("readings", "failures")
        self._timeline, self._interval = timeline, timeline.interval_s
        self._read = read
        self._clock = clock or SystemClock()
        self._outages = OutageLog(self._clock, log, partial(self.counters.add, "failures"))

    def _run(self, emit: Emit) -> None:
        reading = f"reading {self._timeline.name}"
        due = self._clock.monotonic()  # a wall clock that is set back would leave nothing to do until it has caught up
        while not self._stop.is_set():
            try:
                values = self._read()
                # Stamped after the reading: a slow one must not arrive as if it were late.
                now = self._clock.now()
                if values is not None and not self._stop.is_set():
                    columns = {k: [v] for k, v in values.items()}
                    emit(as_batch(self._timeline.name, [now], columns, gap_from=self._outages.since(reading)))
            except Exception as error:  # noqa: BLE001 - logged with its traceback
                self._outages.failed(reading, error)
            else:
                self.counters.add("readings")
                self._outages.recovered(reading)
            # Readings stay on the grid of the first one; those that a slow reading overran are left out.
            due += self._interval * max(1.0, (self._clock.monotonic() - due) // self._interval + 1)
            self._clock.wait(self._stop, due - self._clock.monotonic())
