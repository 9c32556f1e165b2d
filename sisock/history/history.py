"""The history of a node: its timelines in memory and, when asked for, on disk."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from sisock.errors import BadData
from sisock.fields import Batch, Timeline
from sisock.history.entry import Reset
from sisock.history.factory import TimelineFactory
from sisock.history.fitting import refuse_arrays
from sisock.history.freshness import CURRENT_S, Expectations
from sisock.history.guard import ClockGuard
from sisock.history.manifest import Manifest
from sisock.history.readable import ReadableHistory
from sisock.history.refusals import Refusals
from sisock.history.timeline import ReadOnlyTimeline, TimelineHistory, accept_reset
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.source import Archive
from sisock.times import Clock, SystemClock

if TYPE_CHECKING:
    from sisock.history.reader import StoreReader
    from sisock.history.store import Store

    OpenStore = Callable[[HistorySettings, Sequence[Timeline], Clock, OutageLog], Store]

log = logging.getLogger(__name__)


class History(ReadableHistory):
    """The samples of a node, by timeline.

    Parameters
    ----------
    timelines : iterable of Timeline
        Their fields' names are unique over all of them.
    settings : HistorySettings, optional
        How much is kept, and where.
    clock : Clock, optional
        Moves finality on while nothing arrives.
    store : StoreReader, optional
        What is read and not written, see `open_history`.
    archive : Archive, optional
        Where samples are that are older than those kept.
    outages : OutageLog, optional
        Where a disk that does not take samples, and a retention that waits for the clock, are reported.
    expect_every : mapping of str to float, optional
        How often a sample is expected, in seconds, infinite for never, by timeline or pattern of timelines; of others
        as they say, or as samples came so far.
    open_store : callable, optional
        Called with `settings`, `timelines`, a clock that a jump forward does not move, and `outages`, where
        `settings` have a `path`; returns the `Store` that is written to. By default, one with its own upkeep.

    Raises
    ------
    BadData
        If a timeline or a field is named twice.
    BadHistory
        If the folder of a history on disk cannot be used.
    MissingExtra
        If what a history on disk needs is not installed.
    """

    def __init__(
        self,
        timelines: Iterable[Timeline],
        settings: HistorySettings | None = None,
        clock: Clock | None = None,
        store: "StoreReader | None" = None,
        archive: Archive | None = None,
        outages: OutageLog | None = None,
        expect_every: Mapping[str, float] | None = None,
        open_store: "OpenStore | None" = None,
    ) -> None:
        settings = settings or HistorySettings()
        timelines = list(timelines)
        _check_names(timelines)
        for timeline in timelines if settings.path is not None else ():
            refuse_arrays(timeline, "`history.path`")
        self._clock = clock or SystemClock()
        self._outages = outages or OutageLog(self._clock, log)
        self._refusals = Refusals(settings.keep_s, self._outages)
        self._guard = ClockGuard(
            self._clock,
            self._outages,
            "If it is right, "
            + ("confirm it: sisock call NODE confirm_clock" if settings.path else "restart the node"),
        )
        self._store: Store | StoreReader | None = store
        if store is None and settings.path is not None:
            self._store = (open_store or _open_store)(settings, timelines, self._guard.checked, self._outages)
        self._manifest = self._store.manifest if self._store else Manifest()
        self._adding = threading.Lock()
        # A StoreReader only comes without timelines that grow.
        self._factory = TimelineFactory(
            settings, self._manifest, cast("Store | None", self._store), archive, self._guard.checked
        )
        self._expectations = Expectations(expect_every or {}, self._clock)
        self._growing = {tl.name: self._factory.made(tl) for tl in timelines}
        self._ended: dict[str, ReadOnlyTimeline] = {}
        self._add_stored()
        self.timelines: list[Timeline] = timelines
        """All timelines that may grow, in the order given."""
        self._of_field = self._by_field()
        self._factory.share_memory(self.timelines, self._growing)
        if self._store is not None and store is None:
            cast("Store", self._store).on_upkeep = self._catch_up
        if store is None:
            self._guard.begin(self._manifest, lambda: [self._growing[timeline.name] for timeline in self.timelines])

    def add(self, timeline: Timeline) -> float | None:
        """Accept batches of a new timeline, or of one with other fields; return its watermark, None if it has none.

        With other fields, what is on the disk stays, and is served beside the new; what is in memory only stays where
        fields are added, their values so far being NaN, False or "", or where types become wider (bool, number,
        string), and is forgotten otherwise.

        Raises
        ------
        BadData
            If one of its fields is on another timeline already.
        BadHistory
            If the history on disk cannot take it.
        """
        with self._adding:
            others = [other for other in self.timelines if other.name != timeline.name]
            _check_names([*others, timeline])
            known = self._growing.get(timeline.name)
            if known is None or known.timeline != timeline:
                is_new = known is None and timeline.name not in self._ended
                self._growing = {**self._growing, timeline.name: self._factory.successor(timeline, known, self._now())}
                self._ended = {name: other for name, other in self._ended.items() if name != timeline.name}
                self.timelines = [*others, timeline]
                self._of_field = self._by_field()
                self._factory.share_memory(self.timelines, self._growing)
                if is_new:  # other fields say nothing of the clock
                    self._guard.judge()
        return self.finalized_until(timeline.name)

    def _by_field(self) -> dict[str, TimelineHistory]:
        return {field.name: self._growing[tl.name] for tl in self.timelines for field in tl.fields}

    def append(self, batch: Batch, seq: int = 0, since: float | None = None) -> Batch | None:
        """Store `batch` and return the samples of it that were stored, in order of time; None if none were.

        When this returns, samples on disk are acknowledged, as `history.sync` defines it.

        Parameters
        ----------
        batch : Batch
        seq, since : int and float or None
            Those of the returned batch, see `Batch`.

        Raises
        ------
        BadData
            If the batch does not fit its timeline; nothing of it is stored then.
        """
        timeline = self._growing.get(batch.timeline)
        if timeline is None:
            raise BadData(f"there is no timeline {batch.timeline!r}; known: {', '.join(self._growing)}")
        now = self._now()
        stored = timeline.append(batch, now, self._guard.steady(), seq, since)
        if stored is not None and (timeline.measures_now or now - stored.t[-1] <= CURRENT_S):
            timeline.arrivals.add(self._clock.monotonic())  # older samples may be imported as fast as they are read
        self._refusals.check(batch, stored, now)
        return stored

    def maintain(self) -> None:
        """Seal what has gathered and is final, and remove what is too old or too much; done in the background anyway.

        Raises
        ------
        OSError, SisockError
            If the disk takes nothing.
        """
        if self._store:
            cast("Store", self._store).maintain()

    def close(self) -> None:
        """Write everything to the disk, and let others write there; nothing can be appended any more."""
        if self._store:
            for timeline in self._growing.values():
                timeline.close()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _add_stored(self) -> None:
        """Serve timelines that are on the disk only: of an earlier run, or of another process."""
        for name, interval_s in self._store.timelines() if self._store else ():
            if self._store and name not in self._growing and name not in self._ended:
                ended = ReadOnlyTimeline(name, interval_s, self._manifest, self._store)
                self._ended = {**self._ended, name: ended}

    def _catch_up(self) -> None:
        """Write what could not be written earlier, if the disk takes it now."""
        with self._adding:
            self._add_stored()  # a disk that was broken at the start may have more by now
        for timeline in tuple(self._growing.values()):
            timeline.catch_up()

    def set_back(self, timeline: str, reset: Reset) -> int:
        """Set back the watermark of a timeline whose origin has set its own back, once for each reset.

        Samples are quarantined from a time on that no other reset has: by it a reset is known again, since the numbers
        of an origin that keeps its history in memory begin again with each of its runs.

        Returns
        -------
        int
            How many samples were quarantined.

        Raises
        ------
        SisockError
            If the disk takes nothing; the history is as it was then, and the reset may be tried again.
        """
        return accept_reset(self._growing[timeline], reset)

    def confirm_clock(self) -> None:
        """Believe the clock as it is, also where it has jumped or is far ahead of the samples; for operators."""
        if self._store:
            cast("Store", self._store).confirm_clock()
        self._guard.confirm()

    @property
    def quarantined_segments(self) -> int:
        """How many damaged segments were quarantined since it was opened."""
        return cast("Store", self._store).counters["quarantined"] if self._store else 0

    def _now(self) -> float:
        return self._guard.now()


def open_history(path: str | Path) -> History:
    """Return the history in a folder, to be read while its node, or nobody, writes to it; close it, or use ``with``.

    Raises
    ------
    BadHistory
        If there is no history in the folder, or it is of a newer format.
    MissingExtra
        If what it needs is not installed.

    Examples
    --------
    >>> with open_history("history/host") as history:  # doctest: +SKIP
    ...     reply = history.downsampled(["cpu.total"], Interval(t - 86400, t), "minmax", max_points=500)
    """
    from sisock.history.reader import StoreReader

    return History((), store=StoreReader(Path(path)))


def _check_names(timelines: Sequence[Timeline]) -> None:
    for what, names in (
        ("timeline", [tl.name for tl in timelines]),
        ("field", [field.name for tl in timelines for field in tl.fields]),
    ):
        name, count = (Counter(names).most_common(1) or [("", 0)])[0]
        if count > 1:
            raise BadData(f"{what} {name!r} exists {count} times; give each a name of its own")


def _open_store(settings: HistorySettings, timelines: Sequence[Timeline], clock: Clock, outages: OutageLog) -> "Store":
    from sisock.history.store import Store

    return Store(settings, timelines, clock, outages)
