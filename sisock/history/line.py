"""The history of one timeline: its newest samples in memory, all of them on disk when asked for, and what was lost."""

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from sisock.downsample import Method, binned, decimate, first, joined, keeps_last, shown, stride_between
from sisock.errors import BadHistory, TooLarge
from sisock.fields import (
    NO_VALUE,
    Batch,
    Column,
    Downsampled,
    Epochs,
    Field,
    FloatArray,
    Samples,
    Timeline,
    widened,
)
from sisock.history.catalogue import Catalogue, Reset
from sisock.history.past import Past
from sisock.history.pieces import Rows, alike, concatenated, cut, settled
from sisock.history.ring import Chosen, Ring, View
from sisock.history.segment import PartlyWritten
from sisock.metrics import Counters
from sisock.site import HistorySettings
from sisock.times import Interval

if TYPE_CHECKING:
    from sisock.history.reader import StoreReader
    from sisock.history.store import Store
    from sisock.history.stored import StoredTimeline

log = logging.getLogger(__name__)

# Samples that are looked through at the most, to tell what is late from what is there already.
_MOST_COMPARED = 5_000_000
# Samples that are brought together in memory at the most, for one answer.
_MOST_AT_ONCE = 50_000_000
# Samples that are written to the disk at once, first and at the most, when it takes them again.
_FEWEST_CAUGHT_UP, _MOST_CAUGHT_UP = 1024, 1 << 16
_EVER = Interval(-math.inf, math.inf)
# Seconds after which a write that fails has taken long: disks try for some time before they report an error.
_SLOW_S = 1.0
# Seconds between looks for gaps and losses that are too old to be kept.
_EXPIRE_S = 60.0


class Line:
    """The history of one timeline.

    Parameters
    ----------
    timeline : Timeline
    settings : HistorySettings
    catalogue : Catalogue
        Where gaps and losses are written down.
    store : Store or None
        Where samples are written to; None to keep them in memory only.
    past : Past or None
        Where samples are that are older than those here.
    clock : callable, optional
        See `Ring`.
    grows : bool
        False for a timeline that is on the disk and that nothing is appended to here.
    """

    def __init__(
        self,
        timeline: Timeline,
        settings: HistorySettings,
        catalogue: Catalogue,
        store: "Store | StoreReader | None" = None,
        past: Past | None = None,
        clock: Callable[[], float] = lambda: math.inf,
        *,
        grows: bool = True,
    ) -> None:
        self.name, self.timeline = timeline.name, timeline
        self._catalogue, self._store, self._past, self._keep_s = catalogue, store, past, settings.keep_s
        self._number = catalogue.timeline(timeline) if grows else catalogue.number(timeline.name)
        # What is appended to; a StoreReader only comes with timelines that do not grow here.
        self._disk = cast("Store | None", store if grows else None)
        self._grows = grows
        self._lock = threading.Lock()  # appends, one at a time
        self._names = [field.name for field in timeline.fields]
        self._behind: float | None = None  # from which time on samples could not be written
        self._lost_from: float | None = None  # since when memory could not hold all of them
        self.blind = False
        """Whether it is not known what an earlier run has left, since the disk could not be read."""
        self._was_hidden = False  # what an earlier run has left could be read in part only
        self._retry_at = -math.inf  # by the monotonic clock
        self._what = f"timeline {self.name}"
        self._resumed: float | None = None  # time of the newest sample of an earlier run
        # The number of the newest reset; while one is made, also the watermark before it, which is shown till then.
        self._reset: tuple[int, float | None] = (catalogue.reset(self._number), None)
        self._expired = -math.inf
        self._warn_of_overwritten = True
        disk = self._disk
        keep_s = min(settings.memory, settings.keep_s) if store else settings.keep_s
        self.ring = Ring(timeline, keep_s, settings.max_samples, self._finalized, is_all=store is None, clock=clock)
        self.counters: Counters = self.ring.counters
        if not grows:
            self.ring.load(np.empty(0), {}, math.inf, -math.inf)  # all of it is on the disk
        elif disk:
            self.counters.add("unwritten", 0)
            settled(lambda: self._load(disk))

    def _load(self, disk: "Store") -> None:
        """Take into memory what an earlier run left that is not final yet."""
        if self._catalogue.unreadable:
            self.blind = True
            return
        stored, final = disk.stored(self.name), disk.finalized_until(self.name)
        self._was_hidden = bool(stored.missing)
        span = stored.span()
        if span is not None:
            if self.timeline.live or self.timeline.follows_clock:
                self._resumed = span.end
            t, columns = concatenated(list(stored.rows(self._names, Interval(final, math.inf))))
            if columns.keys() == set(self._names):
                self.ring.load(t, columns, final, final)
            else:  # they have other fields, and become final when the disk takes that
                self.ring.load(np.empty(0), {}, math.nextafter(span.end, math.inf), final)
        elif math.isfinite(final):
            self.ring.load(np.empty(0), {}, final, final)

    def follow(self, other: "Line", now: float) -> bool:
        """Take over, in memory, the samples of the line that this one follows, and what of them is final.

        A field whose type has become wider keeps its values as ones of the new type, see `widened`. Returns False, and
        takes over only what is final, which all of them are then, if a field is no longer there.
        """
        final, span = other.finalized_until(now), other.span()
        names = [field.name for field in other.timeline.fields]
        t, columns = concatenated(other.ring.read(names, _EVER, now).pieces)
        columns = self._as_own(other.timeline.fields, columns, len(t))
        kept = bool(columns)
        known = [-math.inf if final is None else final]
        if span and not kept:
            known.append(math.nextafter(span.end, math.inf))
        self.ring.load(t if kept else np.empty(0), columns, -math.inf if kept else max(known), max(known))
        return kept

    def take_over(self, other: "Line") -> None:
        """Take over what the line that this one follows could not write; without fields for it, it is lost."""
        (t, columns), lost_from = other.unwritten()
        columns = self._as_own(other.timeline.fields, columns, len(t))
        if not len(t) or not columns:
            other.give_up()
            return
        late = int(np.searchsorted(t, self.ring.floor))
        if late:  # by the new epoch, all before it has become final
            other.counters.add("late", late)
            self._catalogue.add_losses(self._number, float(t[0]), late=late)
        self._lost_from = lost_from
        if late < len(t):
            self._behind = self.ring.unwritten_from = float(t[late])
            self.ring.put(t[late:], {name: values[late:] for name, values in columns.items()})

    def unwritten(self) -> tuple[Rows, float | None]:
        """Return what could not be written yet, and since when memory could not hold all of it."""
        with self._lock:
            nothing: Rows = (np.empty(0), {})
            return nothing if self._behind is None else self.ring.copy(self._behind, sys.maxsize), self._lost_from

    def _as_own(self, fields: Sequence[Field], columns: dict[str, Column], n: int) -> dict[str, Column]:
        """Return values of earlier fields as ones of the fields now; nothing if one is no longer there."""
        now_called = {field.name: field for field in self.timeline.fields}
        if not all(field.name in now_called and field.widens_to(now_called[field.name]) for field in fields):
            return {}
        own = {f.name: widened(columns[f.name], f.type, now_called[f.name].type) for f in fields if f.name in columns}
        for field in self.timeline.fields:
            own.setdefault(field.name, np.full(n, *NO_VALUE[field.type]))
        return own

    def append(self, batch: Batch, now: float, steady: float) -> Batch | None:
        """Store what of a batch is neither late nor refused, and return that, in order of time; None if nothing is.

        Parameters
        ----------
        batch : Batch
        now : float
            UNIX seconds.
        steady : float
            UNIX seconds by a clock that does not jump; what is too old goes by it.

        Raises
        ------
        BadData
            If the fields or types are not those of the timeline; nothing of the batch is stored then.
        """
        with self._lock:
            chosen = self.ring.choose(batch, now)
            try:
                gap_from = self._note(batch, chosen, now)
                if self._disk and len(chosen.t):
                    chosen = self._write(self._disk, chosen)
            except BaseException:
                self.ring.leave()
                raise
            self.ring.store(chosen, min(now, steady))
            if self._behind is not None:
                self._count_lost()
            if self._warn_of_overwritten and (example := self.ring.overwritten):
                self._warn_of_overwritten = False
                log.warning("timeline %s: %s", self.name, example)
            if self._store is None and steady - self._expired > _EXPIRE_S:
                self._expired = steady
                self._catalogue.expire(self._number, steady - self._keep_s)
        if not len(chosen.t):
            return None
        final = chosen.finalized_until if math.isfinite(chosen.finalized_until) else None
        reset, _ = self._reset
        return Batch(self.name, chosen.t, chosen.columns, gap_from, batch.dropped, finalized_until=final, reset=reset)

    def read(self, names: Sequence[str], interval: Interval, now: float) -> Samples | None:
        """Return the samples of fields in an interval, as views; None when there are none, and none that were lost.

        Raises
        ------
        TooLarge
            If there are more than can be brought together in memory.
        """
        reset = self._newest_reset()
        view = self.ring.read(names, interval, now)
        final = self._final(view)  # before the samples: what becomes final meanwhile may not be among them
        epochs = self.epochs(names, interval)
        pieces = [rows for rows in self._pieces(view, names, interval) if rows[1]]
        return self._samples_or_losses(pieces, final, epochs, interval, reset)

    def thinned(
        self,
        names: Sequence[str],
        interval: Interval,
        method: Method,
        min_stride: float,
        max_points: int | None,
        now: float,
        most: int | None = None,
    ) -> Samples | None:
        """Return fewer samples of fields in an interval, see `sisock.downsample`; None as `read` does.

        Raises
        ------
        TooLarge
            If that needs more samples than can be brought together in memory, or has more than `most` values.
        """
        most_rows = math.inf if most is None else most / (len(names) + 1)
        stride, span = min_stride, self._reach(interval)
        if span is None:
            return None
        too_many = max_points is not None and self._has_more_than(max_points, interval)
        if not (stride or too_many):
            _check_number(self.count(interval) if most is not None else 0, most_rows)
            samples = self.read(names, interval, now)
            return samples and replace(samples, downsample=Downsampled(method, 0.0))
        reset = self._newest_reset()
        view = self.ring.read(names, interval, now)
        final = self._final(view)
        # After the samples in memory: the newest of them may be the first of an epoch.
        epochs = self.epochs(names, interval)
        changes = _changes(epochs)
        if max_points is not None and too_many:
            low, high = max(interval.start, span.start), min(interval.end, span.end)
            # A bin in which units change becomes two.
            points = max(2, max_points - 2 * len(changes))
            stride = max(stride, stride_between(low, high, points, method))
        has_numbers = any(f.type == "number" for f in self.fields(interval) if f.name in names)
        if method == "first" or not has_numbers:
            ours = self._pieces(view, names, interval, at_once=False)
            pieces, rows_kept = [], 0
            for piece in _first(ours, stride, with_last=method == "minmax" and max_points is not None):
                pieces.append(piece)
                rows_kept += len(piece[0])
                _check_number(rows_kept, most_rows)
            fell_back = [] if method == "first" else list(names)
        elif method == "lttb":
            t, columns, fell_back = decimate(*concatenated(list(self._pieces(view, names, interval))), stride, method)
            pieces = [(t, columns)]
        else:
            t, columns, fell_back = self._binned(
                view, names, interval, stride, method, most_rows, changes, keep_last=keeps_last(max_points)
            )
            pieces = [(t, columns)]
        samples = self._samples_or_losses([rows for rows in pieces if rows[1]], final, epochs, interval, reset)
        if samples is None:
            return None
        there = tuple(name for name in fell_back if name in samples.columns)
        return replace(samples, downsample=Downsampled(method, stride, there))

    def _samples_or_losses(
        self, pieces: list[Rows], final: float, epochs: Epochs, interval: Interval, reset: int
    ) -> Samples | None:
        rows = concatenated(pieces) if pieces else (np.empty(0), {})
        samples = self._samples(*rows, final, epochs, interval, reset)
        return samples if pieces or samples.gaps or samples.dropped or samples.late else None

    def _has_more_than(self, n: int, interval: Interval) -> bool:
        stored, floor = self._stored(), self.ring.floor
        # Counting exactly reads what the interval cuts, which is needless when there are many in between.
        if stored and stored.at_least(Interval(interval.start, min(interval.end, floor))) > n:
            return True
        return self.count(interval) > n

    def count(self, interval: Interval) -> int:
        """Return how many samples are in an interval."""
        count, floor = self.ring.count(interval), self.ring.floor
        stored = self._stored()
        if stored and interval.start < floor:
            count += stored.count(Interval(interval.start, min(interval.end, floor)))
        return count + len(self._past_rows(interval, floor)[0])

    def at_most(self, interval: Interval) -> int:
        """Return an upper bound of `count`, without reading samples."""
        count, floor, stored = self.ring.count(interval), self.ring.floor, self._stored()
        if stored and interval.start < floor:
            count += stored.at_most(Interval(interval.start, min(interval.end, floor)))
        return count + len(self._past_rows(interval, floor)[0])

    def fields(self, interval: Interval) -> list[Field]:
        """Return the fields that have a sample in an interval."""
        found: dict[str, Field] = {}
        floor, stored = self.ring.floor, self._stored()
        if stored and interval.start < floor:
            found = {field.name: field for field in stored.fields(Interval(interval.start, min(interval.end, floor)))}
        if self.ring.count(interval) or self._had_before(interval, floor):
            found |= {field.name: field for field in self.timeline.fields}
        return list(found.values())

    def knows(self, name: str) -> bool:
        """Whether a field of that name was measured at any time."""
        stored = self._stored()
        return name in self._names or bool(stored and name in stored.names())

    def span(self) -> Interval | None:
        """Return the times of the oldest and the newest sample; None while there is none."""
        stored = self._stored()
        spans = [span for span in (stored.span() if stored else None, self.ring.span()) if span]
        return Interval(min(s.start for s in spans), max(s.end for s in spans)) if spans else None

    @property
    def measures_now(self) -> bool:
        """Whether its times are those of the clock: what comes is measured now."""
        return self._grows and (self.timeline.live or self.timeline.follows_clock)

    @property
    def watermark(self) -> float:
        """What is final, without what the clock makes final now; minus infinity while nothing is."""
        final = self.ring.finalized_until(-math.inf)
        return -math.inf if final is None else final

    def newest_before(self, t: float) -> float:
        """Return the time of the newest sample before `t`; minus infinity if there is none."""
        stored = self._stored()
        return max(self.ring.newest_before(t), stored.newest_before(t) if stored else -math.inf)

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
                self._resumed = span.end if span else None
            return moved

    def _set_back(self, reset: Reset) -> int:
        if not self._disk:
            moved = self.ring.set_back(reset.finalized_until, reset.removed_from)
            self._catalogue.set_back(self._number, reset)
            return moved
        self._disk.check_open()
        self._catch_up(self._disk)
        settled = self._disk.settled_before(self.name, reset.removed_from)
        reset = replace(reset, finalized_until=max(reset.finalized_until, settled))
        still = Interval(reset.finalized_until, reset.removed_from)
        rows = concatenated(list(self._disk.stored(self.name).rows(self._names, still)))
        # First, so that nothing is served as final meanwhile that is not.
        undo = self.ring.reload(*rows, reset.finalized_until, reset.finalized_until)
        try:
            return self._disk.set_back(self.name, reset)
        except BaseException:
            undo()
            raise

    def _newest_reset(self) -> int:
        """Return the number of the newest reset; looked at before what is final, it is never too great for that."""
        return self._reset[0] if self._grows else self._catalogue.reset(self._number)

    def _shown_watermark(self, now: float) -> tuple[float | None, int]:
        """Return what is final, and the number of the reset from which on it is."""
        while True:
            shown = self._reset
            number, before = shown
            final = self.finalized_until(now) if before is None or not math.isfinite(before) else before
            if not self._grows:
                return final, self._catalogue.reset(self._number)
            if self._reset is shown:
                return final, number

    def resets(self) -> list[Reset]:
        """Return when the watermark was set back, the newest 10 at most."""
        return self._catalogue.resets(self._number)

    def status(self, now: float) -> dict[str, Any]:
        """Return oldest and newest sample, what is final, resets, what is on the disk, and the counters."""
        try:
            span = self.span()
        except BadHistory:  # the disk does not read, which is in the node's health
            span = self.ring.span()
        final, number = self._shown_watermark(now)
        return {
            "oldest": span.start if span else None,
            "newest": span.end if span else None,
            "finalized_until": final,
            "reset": number,
            "resets": [
                {
                    "number": each.number,
                    "finalized_until": each.finalized_until if math.isfinite(each.finalized_until) else None,
                    "removed_from": each.removed_from if math.isfinite(each.removed_from) else None,
                }
                for each in self.resets()
                if each.number <= number
            ],
            **(self._store.status(self.name) if self._store else {}),
            **self.counters.as_dict(),
        }

    def finalized_until(self, now: float) -> float | None:
        """Return the time before which nothing will change any more; None while nothing is known."""
        if self._grows or self._store is None:
            return self.ring.finalized_until(now)
        final = self._store.finalized_until(self.name)
        return final if math.isfinite(final) else None

    def _final(self, view: View) -> float:
        if self._grows or self._store is None:
            return view.finalized_until
        return self._store.finalized_until(self.name)

    def _stored(self) -> "StoredTimeline | None":
        return self._store.stored(self.name) if self._store else None

    def _reach(self, interval: Interval) -> Interval | None:
        """Return the times of the oldest and the newest sample, those in the past of an interval included."""
        t, _ = self._past_rows(interval, self.ring.floor)
        spans = [span for span in (Interval(float(t[0]), float(t[-1])) if len(t) else None, self.span()) if span]
        return Interval(spans[0].start, spans[-1].end) if spans else None

    def _before(self, interval: Interval, floor: float) -> Interval | None:
        """Return the part of an interval that lies before all samples here; None if there is no such part."""
        span = self.span()
        # Those in memory may have been forgotten since the ring was looked at, which was when `floor` held.
        begin = math.inf if span is None else span.start if self._store else max(span.start, floor)
        before = Interval(interval.start, min(interval.end, begin))
        return before if before.start < before.end else None

    def _had_before(self, interval: Interval, floor: float) -> bool:
        before = self._before(interval, floor) if self._past else None
        return bool(self._past and before and self._past.has(before))

    def _past_rows(self, interval: Interval, floor: float) -> Rows:
        """Return what the source has of an interval from before all samples here."""
        before = self._before(interval, floor) if self._past else None
        if not self._past or not before:
            return np.empty(0), {}
        return self._past.rows(before, self.ring.finalized_until(-math.inf) or -math.inf)

    def _pieces(self, view: View, names: Sequence[str], interval: Interval, *, at_once: bool = True) -> Iterator[Rows]:
        """Yield the samples in an interval, from what the source has before those here."""
        yield from self._past_piece(view, names, interval)
        yield from self._own_pieces(view, names, interval, at_once=at_once)

    def _past_piece(self, view: View, names: Sequence[str], interval: Interval) -> Iterator[Rows]:
        t, columns = self._past_rows(interval, view.floor)
        if len(t):
            yield t, {name: columns[name] for name in names if name in columns}

    def _own_pieces(
        self, view: View, names: Sequence[str], interval: Interval, *, at_once: bool = True
    ) -> Iterator[Rows]:
        """Yield the samples in an interval, from the disk before those in memory."""
        # What is in `view` was on the disk before it was in memory, so nothing is missing between them.
        stored, older = self._stored(), Interval(interval.start, min(interval.end, view.floor))
        if stored and older.start < older.end:
            if at_once and stored.at_most(older) > _MOST_AT_ONCE and stored.count(older) > _MOST_AT_ONCE:
                raise TooLarge(
                    f"timeline {self.name!r} has over {_MOST_AT_ONCE} samples in this interval; ask for a shorter one, "
                    "or for max_points with a method other than lttb"
                )
            yield from stored.rows(names, older)
        yield from view.pieces

    def _binned(
        self,
        view: View,
        names: Sequence[str],
        interval: Interval,
        stride: float,
        method: Method,
        most_rows: float,
        changes: Sequence[float],
        *,
        keep_last: bool,
    ) -> tuple[FloatArray, dict[str, Any], list[str]]:
        stored, older = self._stored(), Interval(interval.start, min(interval.end, view.floor))
        pieces, kept = [], 0
        for bins in stored.bins(names, older, stride, method) if stored and older.start < older.end else ():
            pieces.append(bins)
            kept += len(bins)
            # Two pieces may have parts of one bin.
            _check_number(kept - len(pieces), most_rows)
        in_memory = (*self._past_piece(view, names, interval), *view.pieces)
        pieces += [binned(*rows, stride, method) for piece in in_memory for rows in cut(piece, changes)]
        _check_number(sum(map(len, pieces)) - len(pieces), most_rows)
        pieces = [bins for bins in pieces if bins.columns]
        return shown(joined(pieces, changes), method, keep_last=keep_last) if pieces else (np.empty(0), {}, [])

    def epochs(self, names: Sequence[str], interval: Interval) -> Epochs:
        """Return, for fields that were measured in an interval, since when their type and units were what.

        Only of what is on the disk: in memory they do not change.
        """
        stored = self._stored()
        return stored.epochs(interval, names) if stored else {}

    def _samples(
        self,
        t: FloatArray,
        columns: dict[str, Any],
        final: float,
        epochs: Epochs,
        interval: Interval,
        reset: int,
    ) -> Samples:
        until = None if interval.end <= final or not math.isfinite(final) else final
        gaps = self._catalogue.gaps(self._number, interval)
        dropped, late = self._catalogue.losses(self._number, interval)
        stored = self._stored()
        missing = list(stored.missing) if stored else []  # at present
        if self._lost_from is not None and self._behind is not None:
            missing.append((self._lost_from, self._behind))
        if missing:
            gaps = sorted([*gaps, *(gap for gap in missing if gap[0] < interval.end and gap[1] >= interval.start)])
        units = {field.name: field.units for field in self.timeline.fields if field.name in columns}
        units |= {name: known[-1][1].units for name, known in epochs.items() if name in columns}
        changed = {name: known for name, known in epochs.items() if len(known) > 1}
        return Samples(
            t,
            columns,
            until,
            gaps,
            dropped,
            late,
            epochs=changed,
            units=units,
            reset=reset,
        )

    def _note(self, batch: Batch, chosen: Chosen, now: float) -> float | None:
        """Count and write down what is missing or came too late; return since when nothing came before the batch."""
        late = batch.t[chosen.late]
        if len(late):
            known = self._known(late, {name: batch.columns[name][chosen.late] for name in self._names}, now)
            self.counters.add("repeated", int(known.sum()))
            late = late[~known]
            self.counters.add("late", len(late))
        if batch.dropped:
            self.counters.add("dropped", batch.dropped)
        gap_from = batch.gap_from
        if len(chosen.t):
            gap_from = self._silent_since(float(chosen.t[0])) if gap_from is None else gap_from
            self._resumed = None
        if gap_from is not None and len(chosen.t) and gap_from < chosen.t[0]:
            self._catalogue.add_gap(self._number, gap_from, float(chosen.t[0]))
        if batch.dropped:
            at = next((at for at in (batch.gap_from, *chosen.t[:1].tolist()) if at is not None), now)
            self._catalogue.add_losses(self._number, at, dropped=batch.dropped)
        if len(late):  # counted at their own times; there may be many, but not of many minutes
            minutes, counts = np.unique(late // 60.0, return_counts=True)
            for minute, count in zip(minutes.tolist(), counts.tolist(), strict=True):
                self._catalogue.add_losses(self._number, minute * 60.0, late=count)
        return gap_from

    def _silent_since(self, t: float) -> float | None:
        """Return since when nobody measured, if the first sample of this run comes later than its turn."""
        if self._resumed is None or t - self._resumed <= 1.5 * (self.timeline.interval_s or 0.0):
            return None
        return self._resumed

    def _known(self, t: FloatArray, columns: dict[str, Column], now: float) -> NDArray[np.bool_]:
        """Return which samples, whose times are final, are stored just as they are."""
        interval = Interval(float(t.min()), math.nextafter(t.max(), math.inf))
        if self.count(interval) > _MOST_COMPARED:
            return np.zeros(len(t), bool)  # not worth it
        view = self.ring.read(self._names, interval, now)
        stored_t, stored = concatenated(list(self._own_pieces(view, self._names, interval)))
        if not len(stored_t):
            return np.zeros(len(t), bool)
        at = np.minimum(np.searchsorted(stored_t, t), len(stored_t) - 1)
        known: NDArray[np.bool_] = stored_t[at] == t
        for name, values in columns.items():
            if name not in stored:
                return np.zeros(len(t), bool)
            known &= alike(stored[name][at], values)
        return known

    def _write(self, disk: "Store", chosen: Chosen) -> Chosen:
        """Write to the disk what was chosen, and before that what could not be written earlier.

        While the disk does not take them, samples are in memory only, are counted, and are not final.
        """
        written = self._attempt(disk, chosen)
        if written == len(chosen.t):
            return chosen
        self.counters.add("unwritten", len(chosen.t) - written)
        t = float(chosen.t[written])
        self._behind = t if self._behind is None else min(self._behind, t)
        self.ring.unwritten_from = self._behind
        return replace(chosen, finalized_until=min(chosen.finalized_until, self.watermark))

    def _attempt(self, disk: "Store", chosen: Chosen | None = None) -> int:
        """Write what could not be written earlier, then what was chosen; return how many samples of that are."""
        began = time.monotonic()
        if began < self._retry_at:
            return 0
        try:
            self._catch_up(disk)
            if chosen is not None:
                disk.append(self.name, chosen.t, chosen.columns, chosen.finalized_until)
        except (OSError, BadHistory) as error:
            disk.failed(self._what, f"samples are in memory only, and not final: {error}")
            took = time.monotonic() - began
            if took > _SLOW_S:  # who measures does not wait for such a disk more than a tenth of the time
                self._retry_at = time.monotonic() + 10 * took
            return error.rows if isinstance(error, PartlyWritten) and self._behind is None else 0
        disk.works(self._what)
        return len(chosen.t) if chosen else 0

    def catch_up(self) -> None:
        """Write what could not be written earlier, if the disk takes it now."""
        looks_again = self.blind or self._was_hidden
        if self._disk is None or (self._behind is None and not looks_again):
            return
        with self._lock:
            disk = self._disk
            if looks_again and (span := settled(lambda: disk.stored(self.name).span())):
                unwritten_from = math.inf if self._behind is None else self._behind
                self.ring.raise_floor(min(math.nextafter(span.end, math.inf), unwritten_from))
            self.blind = self._was_hidden = False
            self._attempt(self._disk)

    def _catch_up(self, disk: "Store") -> None:
        """Write what could not be written earlier, as far as it is still in memory."""
        most = _FEWEST_CAUGHT_UP  # little at first: the disk may not take it
        while self._behind is not None:
            t, columns = self.ring.copy(self._behind, most)
            late = int(np.searchsorted(t, disk.finalized_until(self.name)))
            if late:  # other fields have begun meanwhile, by which all before them has become final
                self.counters.add("late", late)
                self._catalogue.add_losses(self._number, float(t[0]), late=late)
            if len(t) > late:
                try:
                    disk.append(self.name, t[late:], {name: v[late:] for name, v in columns.items()}, -math.inf)
                except PartlyWritten as error:
                    self._behind = self.ring.unwritten_from = float(t[late + error.rows])
                    raise
            if self._lost_from is not None:
                self._catalogue.add_gap(self._number, self._lost_from, self._behind)
                self._catalogue.complete()  # before what is in it is final
                self._lost_from = None
            self._behind = math.nextafter(t[-1], math.inf) if len(t) == most else None
            self.ring.unwritten_from = math.inf if self._behind is None else self._behind
            most = min(2 * most, _MOST_CAUGHT_UP)

    def _count_lost(self) -> None:
        """Count what memory could not hold until the disk takes it; it lies in a gap that ends where memory begins."""
        lost, self.ring.lost = self.ring.lost, 0
        if not lost or self._behind is None:
            return
        self._lost_from = self._behind if self._lost_from is None else min(self._lost_from, self._behind)
        self.counters.add("dropped", lost)
        self._catalogue.add_losses(self._number, self._behind, dropped=lost)
        self._behind = self.ring.unwritten_from = max(self._behind, self.ring.floor)

    def _finalized(self, until: float) -> float:
        """Write down the watermark before a reader may see it; return how far it may move.

        It does not pass the samples that are yet to be written.
        """
        if self._disk is None:
            return until
        if self._behind is not None:
            until = min(until, self._behind if self._lost_from is None else self._lost_from)
        try:
            if not self._disk.finalize(self.name, until):
                return -math.inf
        except (OSError, BadHistory) as error:
            self._disk.failed(self._what, f"the watermark stands still: {error}")
            return -math.inf
        if self._behind is None:
            self._disk.works(self._what)
        return until

    def close(self) -> None:
        """Write what could not be written earlier; what still cannot is lost, and a gap says so where it can."""
        with self._lock:
            if self._disk is None or self._behind is None:
                return
            try:
                self._catalogue.complete(at_once=True)
                self._catch_up(self._disk)
            except (OSError, BadHistory) as error:
                log.error("timeline %s: samples from %s on could not be written: %s", self.name, self._behind, error)
                self.give_up()

    def give_up(self) -> None:
        """Count what could not be written as lost; it lies in a gap."""
        if self._behind is None:
            return
        span, start = self.ring.span(), self._behind if self._lost_from is None else self._lost_from
        lost = self.ring.count(Interval(self._behind, math.inf))
        self._catalogue.add_gap(self._number, start, span.end if span else self._behind)
        self._catalogue.add_losses(self._number, self._behind, dropped=lost)
        self.counters.add("dropped", lost)
        self._behind = self._lost_from = None
        self.ring.unwritten_from = math.inf


def _changes(epochs: Epochs) -> list[float]:
    """Return when units changed, in order of time."""
    return sorted({b[0] for known in epochs.values() for a, b in pairwise(known) if a[1].units != b[1].units})


def _first(pieces: Iterator[Rows], stride: float, *, with_last: bool = False) -> Iterator[Rows]:
    """Yield of pieces that follow each other the first sample, then each next one at least `stride` later.

    With `with_last`, also the last sample of all.
    """
    after, last = -math.inf, None
    for t, columns in pieces:
        kept = first(t, stride, after)
        if len(kept):
            after = float(t[kept[-1]])
            yield t[kept], {name: values[kept] for name, values in columns.items()}
        if len(t):
            last = t[-1:], {name: values[-1:] for name, values in columns.items()}
    if with_last and last is not None and last[0][0] > after:
        yield last


def _check_number(rows: int, most: float) -> None:
    if rows > most:
        raise TooLarge(f"an answer would have more than {int(most)} samples of a timeline; ask for fewer, or for less")
