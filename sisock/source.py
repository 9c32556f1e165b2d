"""Sources of samples. A source only emits batches; it does not know their listeners."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

from sisock.fields import Batch, Timeline, as_batch
from sisock.metrics import Counters
from sisock.outage import Health, OutageLog
from sisock.poller import Poll, poll_shared
from sisock.procedure import Procedure
from sisock.times import SYSTEM_CLOCK, Clock, Interval
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


class Polled:
    """A source that is read at a fixed interval, in one of the threads that all such sources of a process share.

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
        self.timelines: Sequence[Timeline] = (timeline,)
        self.counters = Counters("readings", "failures")
        self._timeline, self._interval = timeline, timeline.interval_s
        self._read = read
        self._clock = clock or SYSTEM_CLOCK
        self._outages = OutageLog(self._clock, log, partial(self.counters.add, "failures"))
        self._poll: Poll | None = None

    def start(self, emit: Emit) -> None:
        """Begin to read."""
        self._poll = poll_shared(self._clock, self._timeline.name, lambda: self._take(emit), self._interval)

    def stop(self) -> None:
        """Read no more; a reading that is under way is waited for."""
        if self._poll is not None:
            self._poll.stop(_PATIENCE_S)

    def _take(self, emit: Emit) -> None:
        reading = f"reading {self._timeline.name}"
        try:
            values = self._read()
            # Stamped after the reading: a slow one must not arrive as if it were late.
            now = self._clock.now()
            if values is not None and not self._is_stopped:
                columns = {k: [v] for k, v in values.items()}
                emit(as_batch(self._timeline.name, [now], columns, gap_from=self._outages.since(reading)))
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            self._outages.failed(reading, error)
        else:
            self.counters.add("readings")
            self._outages.recovered(reading)

    @property
    def _is_stopped(self) -> bool:
        return self._poll is not None and self._poll.is_stopped


def source_status(source: Source) -> Iterator[dict[str, Any]]:
    """Yield timelines and counters of a source, and of each part of it."""
    yield {"timelines": [timeline.name for timeline in source.timelines], "counters": source.counters.as_dict()}
    for part in parts_of(source):
        timelines = [timeline.name for timeline in part.timelines]
        yield {"part": part.name, "timelines": timelines, "counters": part.counters.as_dict()}


class Archives:
    """The archives of some sources, each for the timelines of its source."""

    def __init__(self, archives: Mapping[Source, Archive]) -> None:
        self._archives = archives

    def past(self, timeline: str, interval: Interval) -> Sequence[Batch]:
        """Return the samples of a timeline in an interval; see `Archive.past`."""
        return [batch for archive in self._of(timeline) for batch in archive.past(timeline, interval)]

    def has_past(self, timeline: str, interval: Interval) -> bool:
        """Return whether a timeline has samples in an interval; see `Archive.has_past`."""
        return any(archive.has_past(timeline, interval) for archive in self._of(timeline))

    def _of(self, timeline: str) -> Iterator[Archive]:
        for source, archive in self._archives.items():
            if timeline in {tl.name for tl in source.timelines}:
                yield archive
