"""The history of a node: its timelines in memory and, when asked for, on disk."""

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from sisock.downsample import Method
from sisock.errors import BadData, BadHistory, BadRequest
from sisock.fields import Batch, Epochs, FloatArray, Reply, Samples, Timeline
from sisock.history.catalogue import Catalogue, Reset
from sisock.history.freshness import CURRENT_S, Arrivals, expected, freshness, is_pattern
from sisock.history.guard import ClockGuard
from sisock.history.past import Past
from sisock.history.reading import ReadableTimeline
from sisock.history.timeline import GrowingTimeline, ReadOnlyTimeline
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.source import Archive
from sisock.times import FARTHEST_S, Clock, Interval, SystemClock, guess_unit, iso, refusal

if TYPE_CHECKING:
    from sisock.history.reader import StoreReader
    from sisock.history.store import Store

log = logging.getLogger(__name__)


class History:
    """What a node has seen, by timeline.

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
        Where samples are that are older than what is kept.
    outages : OutageLog, optional
        Where a disk that does not take samples, and a retention that waits for the clock, are reported.
    expect_every : mapping of str to float, optional
        How often a sample is expected, in seconds, infinite for never, by timeline or pattern of timelines; of others
        as they say, or as samples came so far.

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
    ) -> None:
        settings = settings or HistorySettings()
        timelines = list(timelines)
        _check_names(timelines)
        self._clock = clock or SystemClock()
        self._outages = outages or OutageLog(self._clock, log)
        self._refused: set[str] = set()  # timelines of which every sample is, at present
        self._guard = ClockGuard(
            self._clock,
            self._outages,
            "If it is right, "
            + ("confirm it: sisock call NODE confirm_clock" if settings.path else "restart the node"),
        )
        self._store: Store | StoreReader | None = store or _open_store(
            settings, timelines, self._guard.checked, self._outages
        )
        self._catalogue = self._store.catalogue if self._store else Catalogue()
        self._settings, self._archive, self._adding = settings, archive, threading.Lock()
        self._expect_every, self._since = expect_every or {}, self._clock.monotonic()
        # Replaced as wholes when a timeline is added, since others read them meanwhile.
        self._growing = {tl.name: self._made(tl) for tl in timelines}
        self._ended: dict[str, ReadOnlyTimeline] = {}
        self._add_stored()
        self.timelines: list[Timeline] = timelines
        """All timelines that may grow, in the order given."""
        self._of_field = self._by_field()
        self._share_memory()
        if self._store is not None and store is None:
            cast("Store", self._store).on_upkeep = self._catch_up
        if store is None:
            self._guard.begin(self._catalogue, lambda: [self._growing[timeline.name] for timeline in self.timelines])

    @property
    def on_disk(self) -> bool:
        """Whether samples are on disk, so that looking for them takes time."""
        return self._store is not None

    def add(self, timeline: Timeline) -> float | None:
        """Have `timeline` grow as well, or go on with other fields; return what of it is final, None while nothing is.

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
                self._growing = {**self._growing, timeline.name: self._successor(timeline, known)}
                self._ended = {name: other for name, other in self._ended.items() if name != timeline.name}
                self.timelines = [*others, timeline]
                self._of_field = self._by_field()
                self._share_memory()
                if is_new:  # other fields say nothing of the clock
                    self._guard.judge()
        return self.finalized_until(timeline.name)

    def _successor(self, timeline: Timeline, before: GrowingTimeline | None) -> GrowingTimeline:
        try:
            if self._store:
                if before is not None:
                    before.catch_up()
                cast("Store", self._store).add(timeline)
            new = self._made(timeline)
        except OSError as error:
            raise BadHistory(f"timeline {timeline.name!r} cannot be added to the history: {error}") from error
        if before is not None:
            if self._store is not None:
                new.take_over(before)
            elif not new.follow(before, self._now()):
                log.warning("timeline %s has other fields from now on; its samples so far are forgotten", timeline.name)
            for name, count in before.counters.as_dict().items():
                new.counters.add(name, count)
            new.arrivals = before.arrivals
        return new

    def _made(self, timeline: Timeline) -> GrowingTimeline:
        past = Past(self._archive, timeline.name) if self._archive else None
        store = cast("Store | None", self._store)  # a StoreReader only comes without timelines that grow
        since = self._clock.monotonic()
        return GrowingTimeline(
            timeline, self._settings, self._catalogue, store, past, self._guard.checked.now, since=since
        )

    def _share_memory(self) -> None:
        """Give each timeline of a history on disk the same part of the memory; what is older is read from the disk."""
        if self._store is None or not self.timelines:
            return
        share = self._settings.memory_size // len(self.timelines)
        for timeline in self.timelines:
            self._growing[timeline.name].ring.limit(share, self._settings.max_samples)

    def _by_field(self) -> dict[str, GrowingTimeline]:
        return {field.name: self._growing[tl.name] for tl in self.timelines for field in tl.fields}

    def _all(self) -> dict[str, ReadableTimeline]:
        return {**self._growing, **self._ended}

    def append(self, batch: Batch) -> Batch | None:
        """Store `batch` and return what of it was stored, in order of time; None if nothing was.

        When this returns, what is stored on disk is acknowledged, as `history.sync` means it.

        Raises
        ------
        BadData
            If the batch does not fit its timeline; nothing of it is stored then.
        """
        timeline = self._growing.get(batch.timeline)
        if timeline is None:
            raise BadData(f"there is no timeline {batch.timeline!r}; known: {', '.join(self._growing)}")
        now = self._now()
        stored = timeline.append(batch, now, self._guard.steady())
        if stored is not None and (timeline.measures_now or now - stored.t[-1] <= CURRENT_S):
            timeline.arrivals.add(self._clock.monotonic())  # what is older may be imported as fast as it is read
        # What is stored and not too old is accepted; what is final already is late or repeated, and not refused.
        if stored is not None and stored.t[-1] >= now - self._settings.keep_s:
            if timeline.name in self._refused:
                self._refused.discard(timeline.name)
                self._outages.recovered(f"timeline {timeline.name}")
        elif len(batch) and (stored is not None or not np.any(np.abs(batch.t) <= FARTHEST_S)):
            self._refused.add(timeline.name)
            why = self._why_refused(batch.t if stored is None else stored.t, now)
            self._outages.failed(f"timeline {timeline.name}", why)
        return stored

    def _why_refused(self, t: FloatArray, now: float) -> str:
        """Return why samples with such times are all refused; which unit their source takes them for is not known."""
        last = float(t[-1])
        scale = next((each for each in (1.0, 1e-3, 1e-6, 1e-9) if guess_unit(last, now, each)), None)
        if scale is None and abs(last) <= FARTHEST_S:
            keep_s = self._settings.keep_s
            return f"all samples are older than history.keep, which is {keep_s:g} s; there is one of {iso(last)}"
        remedy = lambda guess: f"Their times are to be multiplied by {guess.scale / (scale or 1.0):g}"  # noqa: E731
        return refusal(t[:1000].tolist(), now, scale or 1.0, remedy)

    def read(self, fields: Sequence[str], interval: Interval) -> Reply:
        """Return the samples of `fields` in `interval`, as views that nobody changes.

        Raises
        ------
        TooLarge
            If there are more than can be brought together in memory.
        """
        now = self._now()
        return self._reply(fields, interval, lambda timeline, names: timeline.read(names, interval, now))

    def thinned(
        self,
        fields: Sequence[str],
        interval: Interval,
        method: Method,
        min_stride: float = 0.0,
        max_points: int | None = None,
        most: int | None = None,
    ) -> Reply:
        """Return fewer samples of `fields` in `interval`; from summaries, where they are on disk and many.

        Parameters
        ----------
        fields : sequence of str
        interval : Interval
        method : Method
            See `sisock.downsample.METHODS`.
        min_stride : float
            Seconds, 0 or more.
        max_points : int, optional
            Most samples that each timeline may have, 2 or more; the stride is widened until they are.
        most : int, optional
            Values, times included, above which an answer is not brought together.

        Raises
        ------
        BadRequest
            If `max_points` is below 2.
        TooLarge
            If that needs more samples than can be brought together in memory, or has more than `most` values.
        """
        if max_points is not None and max_points < 2:
            raise BadRequest(f"max_points is {max_points}; give 2 or more")
        now = self._now()
        return self._reply(
            fields,
            interval,
            lambda timeline, names: timeline.thinned(names, interval, method, min_stride, max_points, now, most),
        )

    def count(self, fields: Sequence[str], interval: Interval) -> int:
        """Return how many values, times included, `read` would return at the most."""
        asked = self._that_have(fields, interval)
        return sum(timeline.count(interval) * (len(names) + 1) for timeline, names in asked)

    def at_most(self, fields: Sequence[str], interval: Interval) -> int:
        """Return an upper bound of `count`, without reading samples."""
        asked = self._that_have(fields, interval)
        return sum(timeline.at_most(interval) * (len(names) + 1) for timeline, names in asked)

    def within(self, interval: Interval) -> list[Timeline]:
        """Return the timelines that have at least one sample in `interval`, with the fields that do."""
        self._check_readable()
        found = [(each.timeline, each.fields(interval)) for each in self._all().values()]
        return [replace(timeline, fields=fields) for timeline, fields in found if fields]

    def epochs(self, interval: Interval) -> dict[str, Epochs]:
        """Return, by timeline, the fields whose type or units changed in `interval`, and since when they were what."""
        known = [(each, [field.name for field in each.fields(interval)]) for each in self._all().values()]
        found = {each.name: each.epochs(fields, interval) for each, fields in known}
        return {
            timeline: {name: known for name, known in epochs.items() if len(known) > 1}
            for timeline, epochs in found.items()
        }

    def _check_readable(self) -> None:
        if self._catalogue.unreadable or any(each.blind for each in self._growing.values()):
            why = self._catalogue.unreadable or "it has only just become readable"
            raise BadHistory(f"the history cannot be read at present: {why}; ask again later")

    def finalized_until(self, timeline: str) -> float | None:
        """Return the time before which `timeline` will never change; None while nothing is known."""
        known = self._growing.get(timeline) or self._ended[timeline]
        return known.finalized_until(self._now())

    def status(self) -> dict[str, Any]:
        """Return, by timeline: oldest and newest sample, how fresh they are, what is final and on the disk, counters.

        Timelines of which samples are expected are listed before there are any.
        """
        now = self._now()
        status = {name: each.status(now) for name, each in self._all().items()}
        for name, seconds in self._expect_every.items():
            if not is_pattern(name) and math.isfinite(seconds):
                status.setdefault(name, {"oldest": None, "newest": None})
        return {name: {**about, **self._freshness(name, about["newest"], now)} for name, about in status.items()}

    def _freshness(self, name: str, newest: float | None, now: float) -> dict[str, Any]:
        expect_every, monotonic = expected(self._expect_every, name), self._clock.monotonic()
        growing = self._growing.get(name)
        if growing is None:  # it has ended, or has yet to come
            expect_every = math.inf if name in self._ended or expect_every is None else expect_every
            return freshness(Arrivals(self._since), newest, expect_every, None, now, monotonic).as_dict()
        own = growing.timeline
        if expect_every is None:
            expect_every = own.expect_every
        fresh = freshness(
            *(growing.arrivals, newest, expect_every, own.interval_s, now, monotonic), measures_now=growing.measures_now
        )
        return fresh.as_dict()

    def summary(self) -> dict[str, Any]:
        """Return where the history is, what it takes, and when the clock jumped, by how many seconds."""
        in_memory = sum(each.ring.size for each in self._growing.values())
        about = {
            "memory_bytes": in_memory,
            "clock_jumps": [list(jump) for jump in self._catalogue.clock_jumps()],
            "clock_epochs": [asdict(epoch) for epoch in self._catalogue.clock_epochs()],
        }
        return {**(self._store.summary() if self._store else {"path": None}), **about}

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
                ended = ReadOnlyTimeline(name, interval_s, self._catalogue, self._store)
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
        of an origin that keeps its history in memory begin anew with each of its runs.

        Returns
        -------
        int
            How many samples were quarantined.

        Raises
        ------
        SisockError
            If the disk takes nothing; the history is as it was then, and the reset may be tried again.
        """
        growing = self._growing[timeline]
        known = growing.resets()
        newest = max((each.number for each in known), default=0)
        if math.isinf(reset.removed_from):
            if reset.number <= newest:
                return 0
        elif any(each.removed_from == reset.removed_from for each in known):
            return 0
        until = min(reset.finalized_until, growing.watermark)
        try:
            return growing.set_back(replace(reset, number=max(reset.number, newest + 1), finalized_until=until))
        except OSError as error:
            raise BadHistory(
                f"the watermark of timeline {timeline!r} cannot be set back at present: {error}"
            ) from error

    def confirm_clock(self) -> None:
        """Believe the clock as it is, also where it has jumped or is far ahead of the samples; for operators."""
        if self._store:
            cast("Store", self._store).confirm_clock()
        self._guard.confirm()

    def _now(self) -> float:
        return self._guard.now()

    def _reply(
        self, fields: Sequence[str], interval: Interval, ask: Callable[[ReadableTimeline, list[str]], Samples | None]
    ) -> Reply:
        found: dict[str, Samples] = {}
        for timeline, names in self._that_have(fields, interval):
            samples = ask(timeline, names)
            if samples is not None:
                found[timeline.name] = samples
        there = {name for samples in found.values() for name in samples.columns}
        return Reply(found, tuple(name for name in dict.fromkeys(fields) if name not in there))

    def _that_have(self, fields: Sequence[str], interval: Interval) -> Iterator[tuple[ReadableTimeline, list[str]]]:
        """Yield the timelines that have these fields, with those that each has."""
        self._check_readable()
        wanted: dict[ReadableTimeline, list[str]] = {}
        for name in dict.fromkeys(fields):
            if timeline := self._that_has(name, interval):
                wanted.setdefault(timeline, []).append(name)
        yield from wanted.items()

    def _that_has(self, name: str, interval: Interval) -> ReadableTimeline | None:
        """Return the timeline that a field is on; of several that it was on, the one that has it in the interval."""
        now = self._of_field.get(name)
        if self._store is None:
            return now
        known = [each for each in self._all().values() if each.knows(name)]
        if len(known) > 1:
            known = [each for each in known if any(f.name == name for f in each.fields(interval))]
        return now if now in known or not known else known[-1]


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
    ...     reply = history.thinned(["cpu.total"], Interval(t - 86400, t), "minmax", max_points=500)
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
            raise BadData(f"{what} {name!r} is there {count} times; give each a name of its own")


def _open_store(
    settings: HistorySettings, timelines: Sequence[Timeline], clock: Clock, outages: OutageLog
) -> "Store | None":
    if settings.path is None:
        return None
    from sisock.history.store import Store

    return Store(settings, timelines, clock, outages)
