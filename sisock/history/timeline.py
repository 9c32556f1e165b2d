"""A timeline that grows, with what was lost of it, and one that is only read."""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Batch, Column, Field, Timeline, widened
from sisock.history.archive_cache import ArchiveCache
from sisock.history.backlog import Backlog
from sisock.history.blocks import Block, concatenated
from sisock.history.entry import Reset
from sisock.history.freshness import Arrivals
from sisock.history.ledger import Ledger
from sisock.history.manifest import Manifest
from sisock.history.reading import Disk, ReadableTimeline
from sisock.history.ring import Ring, View
from sisock.settings import HistorySettings
from sisock.times import Interval

if TYPE_CHECKING:
    from sisock.history.store import Store

log = logging.getLogger(__name__)

_EVER = Interval(-math.inf, math.inf)
# Samples of an earlier run by which it is known how often there is one.
_MOST_EARLIER = 32
# Seconds between looks for gaps and losses that are too old to be kept.
_EXPIRE_S = 60.0


class TimelineHistory(ReadableTimeline):
    """A timeline that is appended to.

    Parameters
    ----------
    timeline : Timeline
    settings : HistorySettings
    manifest : Manifest
        Where gaps and losses are written down.
    store : Store or None
        Where samples are written to; None to keep them in memory only.
    past : ArchiveCache or None
        Where samples are that are older than those here.
    clock : callable, optional
        See `Ring`.
    since : float
        Since when samples are waited for, by the monotonic clock.
    """

    def __init__(
        self,
        timeline: Timeline,
        settings: HistorySettings,
        manifest: Manifest,
        store: "Store | None" = None,
        past: ArchiveCache | None = None,
        clock: Callable[[], float] = lambda: math.inf,
        *,
        since: float = 0.0,
    ) -> None:
        keep_s = min(settings.memory, settings.keep_s) if store else settings.keep_s
        most, in_memory = settings.max_samples, store is None
        ring = Ring(timeline, keep_s, most, self._finalized, is_all=in_memory, clock=clock)
        super().__init__(timeline, ring, manifest, manifest.timeline(timeline), store, past)
        self._store, self._keep_s = store, settings.keep_s
        self._lock = threading.Lock()  # appends, one at a time
        self.arrivals = Arrivals(since)
        self._ledger = Ledger(timeline, manifest, self._number, self.counters)
        self._backlog = Backlog(self.name, store, ring, self._ledger) if store else None
        self.blind = False
        """Whether it is not known what an earlier run has left, since the disk could not be read."""
        self._was_hidden = False  # samples of an earlier run could be read in part only
        # The number of the newest reset; while one is made, also the watermark before it, which is shown till then.
        self._reset: tuple[int, float | None] = (manifest.reset(self._number), None)
        self._expired = -math.inf
        self._warn_of_overwritten = True
        if store is not None:
            self._load(store)

    def _load(self, store: "Store") -> None:
        """Take into memory what an earlier run left that is not final yet."""
        if self._manifest.unreadable:
            self.blind = True
            return
        stored, final = store.stored(self.name), store.finalized_until(self.name)
        self._was_hidden = bool(stored.missing)
        span = stored.span()
        if span is not None:
            if self.measures_now:
                self._ledger.resumed = span.end
                self.arrivals.seed(stored.newest_times(_MOST_EARLIER))
            t, columns = concatenated(list(stored.rows(self._names, Interval(final, math.inf))))
            if columns.keys() == set(self._names):
                self.ring.load(t, columns, final, final)
            else:  # they have other fields, and become final when the disk takes that
                self.ring.load(np.empty(0), {}, math.nextafter(span.end, math.inf), final)
        elif math.isfinite(final):
            self.ring.load(np.empty(0), {}, final, final)

    # Its predecessor, when its fields have changed

    def follow(self, other: "TimelineHistory", now: float) -> bool:
        """Take over, in memory, the samples of the timeline that this one follows, and what of them is final.

        A field whose type has become wider keeps its values as ones of the new type, see `widened`. Returns False, and
        takes over only the watermark, behind which all of them are then, if a field no longer exists.
        """
        final, span = other.finalized_until(now), other.span()
        names = [field.name for field in other.timeline.fields]
        t, columns = concatenated(other.ring.read(names, _EVER, now).pieces)
        columns = as_own(self.timeline.fields, other.timeline.fields, columns, len(t))
        kept = bool(columns)
        known = [-math.inf if final is None else final]
        if span and not kept:
            known.append(math.nextafter(span.end, math.inf))
        self.ring.load(t if kept else np.empty(0), columns, -math.inf if kept else max(known), max(known))
        return kept

    def take_over(self, other: "TimelineHistory") -> None:
        """Take over what the timeline that this one follows could not write; without fields for it, it is lost."""
        if self._backlog is None:
            return
        (t, columns), lost_from = other.unwritten()
        columns = as_own(self.timeline.fields, other.timeline.fields, columns, len(t))
        if not len(t) or not columns:
            other.give_up()
            return
        late = int(np.searchsorted(t, self.ring.floor))
        if late:  # by the new epoch, all before it has become final
            self._ledger.late(float(t[0]), late)
        self._backlog.take((t[late:], {name: values[late:] for name, values in columns.items()}), lost_from)

    def unwritten(self) -> tuple[Block, float | None]:
        """Return the samples that are not written yet, and the time from which memory could not hold all of them."""
        with self._lock:
            return self._backlog.rows() if self._backlog is not None else ((np.empty(0), {}), None)

    def give_up(self) -> None:
        """Count what could not be written as lost."""
        if self._backlog is not None:
            self._backlog.give_up()

    # Appending: prepare, record losses, write, commit

    def append(self, batch: Batch, now: float, steady: float, seq: int = 0, since: float | None = None) -> Batch | None:
        """Store what of a batch is neither late nor refused, and return that, in order of time; None if nothing is.

        Parameters
        ----------
        batch : Batch
        now : float
            UNIX seconds.
        steady : float
            UNIX seconds by a clock that does not jump; what is too old goes by it.
        seq, since : int and float or None
            Those of the returned batch.

        Raises
        ------
        BadData
            If the fields or types are not those of the timeline; nothing of the batch is stored then.
        """
        with self._lock:
            prepared = self.ring.prepare(batch, now)
            try:
                gap_from = self._ledger.record_losses(batch, prepared, self._repeated(batch, prepared.late, now), now)
                if self._backlog is not None and len(prepared.t):
                    prepared = self._backlog.write(prepared, self.watermark)
            except BaseException:
                self.ring.rollback()
                raise
            self.ring.commit(prepared, min(now, steady))
            if self._backlog:
                self._backlog.count_lost()
            if self._warn_of_overwritten and (example := self.ring.overwritten):
                self._warn_of_overwritten = False
                log.warning("timeline %s: %s", self.name, example)
            if self._store is None and steady - self._expired > _EXPIRE_S:
                self._expired = steady
                self._manifest.expire(self._number, steady - self._keep_s)
        if not len(prepared.t):
            return None
        final = prepared.finalized_until if math.isfinite(prepared.finalized_until) else None
        more = (gap_from, batch.dropped, seq, final, 0, self._reset[0], since)  # by position, which is quicker
        return Batch(self.name, prepared.t, prepared.columns, *more)

    def catch_up(self) -> None:
        """Write what could not be written earlier, if the disk takes it now."""
        looks_again = self.blind or self._was_hidden
        if self._backlog is None or not (self._backlog or looks_again):
            return
        with self._lock:
            if looks_again and (stored := self._stored()) and (span := stored.span()):
                self.ring.raise_floor(min(math.nextafter(span.end, math.inf), self._backlog.since))
            self.blind = self._was_hidden = False
            self._backlog.attempt()

    def close(self) -> None:
        """Write samples that could not be written earlier; those that still cannot are lost, and lie in a gap."""
        with self._lock:
            if self._backlog is not None:
                self._backlog.close()

    # The watermark

    @property
    def measures_now(self) -> bool:
        """Whether its times are those of the clock: what comes is measured now."""
        return self.timeline.live or self.timeline.follows_clock

    @property
    def watermark(self) -> float:
        """The watermark, without moving it on with the clock; minus infinity while there is none."""
        final = self.ring.finalized_until(-math.inf)
        return -math.inf if final is None else final

    def finalized_until(self, now: float) -> float | None:
        """Return the time before which nothing will change any more; None while nothing is known."""
        return self.ring.finalized_until(now)

    def _final(self, view: View) -> float:
        return view.finalized_until

    def _finalized(self, until: float) -> float:
        return until if self._backlog is None else self._backlog.finalize(until)

    def _unwritten_gaps(self) -> list[tuple[float, float]]:
        return self._backlog.gaps() if self._backlog is not None else []

    def _newest_reset(self) -> int:
        return self._reset[0]

    def shown_watermark(self, now: float) -> tuple[float | None, int]:
        """Return the watermark, and the number of the reset since which it holds."""
        while True:
            shown = self._reset
            number, before = shown
            final = self.finalized_until(now) if before is None or not math.isfinite(before) else before
            if self._reset is shown:
                return final, number

    def set_back(self, reset: Reset) -> int:
        """Have the watermark stand at an earlier time, and quarantine samples; return how many.

        Of a history in memory they are forgotten.

        Raises
        ------
        OSError, SisockError
            If the disk takes nothing; the history on it is as it was then.
        """
        with self._lock:
            number, before = self._reset
            self._reset = number, self.watermark if before is None else before
            moved = self._set_back(reset)
            self._reset = reset.number, None
            self.counters.add("quarantined", moved)
            if moved and self.measures_now:
                span = self.span()
                self._ledger.resumed = span.end if span else None
            return moved

    def _set_back(self, reset: Reset) -> int:
        if self._store is None or self._backlog is None:
            moved = self.ring.set_back(reset.finalized_until, reset.removed_from)
            self._manifest.set_back(self._number, reset)
            return moved
        self._store.check_open()
        self._backlog.catch_up()
        settled_before = self._store.settled_before(self.name, reset.removed_from)
        reset = replace(reset, finalized_until=max(reset.finalized_until, settled_before))
        still = Interval(reset.finalized_until, reset.removed_from)
        rows = concatenated(list(self._store.stored(self.name).rows(self._names, still)))
        # First, so that nothing is served as final meanwhile that is not.
        undo = self.ring.reload(*rows, reset.finalized_until, reset.finalized_until)
        try:
            return self._store.set_back(self.name, reset)
        except BaseException:
            undo()
            raise


class ReadOnlyTimeline(ReadableTimeline):
    """A timeline that is on the disk and that nothing is appended to here: of an earlier run, or of another process.

    Parameters
    ----------
    name : str
    interval_s : float or None
    manifest : Manifest
    disk : Disk
    """

    def __init__(self, name: str, interval_s: float | None, manifest: Manifest, disk: Disk) -> None:
        timeline = Timeline(name, (), interval_s, follows_clock=False)
        ring = Ring(timeline, 0.0, 1, is_all=False)
        ring.load(np.empty(0), {}, math.inf, -math.inf)  # all of it is on the disk
        super().__init__(timeline, ring, manifest, manifest.number(name), disk)
        self._on_disk = disk

    def finalized_until(self, now: float) -> float | None:
        """Return the watermark when it was last written to; None while there is none."""
        final = self._on_disk.finalized_until(self.name)
        return final if math.isfinite(final) else None

    def _newest_reset(self) -> int:
        return self._manifest.reset(self._number)

    def shown_watermark(self, now: float) -> tuple[float | None, int]:
        """Return the watermark, and the number of the reset since which it holds."""
        return self.finalized_until(now), self._newest_reset()

    def _final(self, view: View) -> float:
        return self._on_disk.finalized_until(self.name)


def as_own(now: Sequence[Field], before: Sequence[Field], columns: Mapping[str, Column], n: int) -> dict[str, Column]:
    """Return values of earlier fields as ones of the fields now; nothing if one of those no longer exists."""
    now_called = {field.name: field for field in now}
    if not all(field.name in now_called and field.widens_to(now_called[field.name]) for field in before):
        return {}
    own = {f.name: widened(columns[f.name], f.type, now_called[f.name].type) for f in before if f.name in columns}
    for field in now:
        own.setdefault(field.name, field.nothing(n))
    return own


def accept_reset(growing: TimelineHistory, reset: Reset) -> int:
    """Set back the watermark of a timeline as its origin has set back its own; return how many samples that removes.

    Returns 0 for a reset that was accepted before, see `History.set_back`.

    Raises
    ------
    SisockError
        If the disk takes nothing.
    """
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
            f"the watermark of timeline {growing.name!r} cannot be set back at present: {error}"
        ) from error
