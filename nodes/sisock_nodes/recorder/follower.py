"""Following one timeline of another node: live batches, and missed samples from the node's history."""

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sisock.errors import BadAnswer, NoSuchNode, SisockError, TooLarge
from sisock.fields import NO_VALUE, Batch, Column, Field, FieldType, Samples, Timeline, type_of, widened
from sisock.metrics import Counters
from sisock.source import Emit
from sisock.times import Clock, Interval

if TYPE_CHECKING:
    from sisock.consumer import Consumer, LiveFeed

# Live batches that are held while the past is fetched; when there are more, it is fetched once more.
_HELD = 256
# Values that are asked for at once; the interval of a question is adapted to that.
_AT_ONCE = 500_000
_FIRST_S, _SHORTEST_S, _LONGEST_S, _GROWTH = 3600.0, 1e-6, 1e10, 4.0
# Losses are counted by the minute.
_MINUTE_S = 60.0
_RETRY_S = 2.0
_NOTHING = Samples(np.empty(0), {})

log = logging.getLogger(__name__)


class Ledger(Protocol):
    """Counters and outages of a recorder."""

    counters: Counters

    def failed(self, what: str, error: SisockError) -> None:
        """Count a failure to record something."""
        ...

    def recovered(self, what: str) -> None:
        """End the outage of something that is recorded again."""
        ...


class Follower:
    """A timeline of another node, on its way into our history.

    Batches are taken from the feed as long as their numbers follow each other. Whenever one is missing, or the node was
    restarted, all samples since the watermark here are fetched from the node's own history; samples that exist already
    replace themselves. So no sample is lost that the node still has.

    Parameters
    ----------
    site : Consumer
    node, timeline : str
    emit : Emit
    ledger : Ledger
    turns : asyncio.Semaphore
        Of which each question to a history takes one.
    since : float or None
        From when on it is fetched, in UNIX seconds, where nothing is recorded yet.
    clock : Clock
    """

    def __init__(
        self,
        site: "Consumer",
        node: str,
        timeline: str,
        emit: Emit,
        ledger: Ledger,
        turns: asyncio.Semaphore,
        *,
        since: float | None,
        clock: Clock,
    ) -> None:
        self.name = f"{node}::{timeline}"
        self.recorded: Timeline | None = None
        """The timeline that it becomes here; None until its fields are known."""
        self._site, self._node, self._timeline = site, node, timeline
        self._emit, self._ledger, self._turns = emit, ledger, turns
        self._since, self._clock = since, clock
        self._run: Any = None  # when the node started
        self._seq = self._heard = 0  # numbers of the batches that were stored, and received, last
        self._ahead: int | None = None  # the number that the node had reached at a look, if beyond ours
        self._settled: tuple[int | None, float | None] = (None, None)
        self._reset = 0  # the number of the node's newest reset that was followed
        self._newest = -math.inf
        self._losses_until = -math.inf
        self._step_s = _FIRST_S
        self._interval_s: float | None = None
        self._behind = asyncio.Event()
        self._fetching = True

    def look(self, run: Any, about: Mapping[str, Any] | None) -> None:
        """Compare with the status of the timeline at the node; None if it reports none, and must be asked each time.

        Parameters
        ----------
        run : object
            When the node started.
        about : mapping or None
            ``seq`` and ``finalized_until`` of the timeline.
        """
        if self._fetching:
            return
        ahead, self._ahead = self._ahead, None
        if (
            about is None
            or run != self._run
            or about["seq"] < self._seq
            or (ahead and self._seq < ahead)
            or about.get("reset", 0) > self._reset
        ):
            self._behind.set()
        elif about["seq"] > self._seq:
            self._ahead = about["seq"]  # still on its way, most likely
        elif self.recorded:
            # The watermark of the last look precedes the number that has not changed since; the present watermark may
            # be due to a batch that is still on its way.
            seq, final = self._settled
            if seq == self._seq and final is not None:
                self._emit(
                    Batch(
                        self.name,
                        _NOTHING.t,
                        _filled(_NOTHING, self.recorded.fields, self._node)[0],
                        finalized_until=final,
                    )
                )
            self._settled = (self._seq, about["finalized_until"])

    async def follow(self, *, fed: bool) -> None:
        """Record for ever; `fed` is whether the node publishes numbered batches."""
        while True:
            try:
                await (self._listen() if fed else self._ask_again())
            except NoSuchNode:
                pass  # it has left; its return is noticed
            except SisockError as error:
                self._ledger.failed(self.name, error)
            await self._clock.sleep(_RETRY_S)

    async def _ask_again(self) -> None:
        while True:
            await self._fetch(None)
            await self._behind.wait()

    async def _listen(self) -> None:
        async with self._site.open_feed(self._node, self._timeline, buffer=_HELD) as feed:
            while True:
                status = await self._site.status(self._node)
                about = status.get("timelines", {}).get(self._timeline)
                if about is None:
                    raise BadAnswer(f"node {self._node!r} has no timeline {self._timeline!r} any more")
                self._run = status.get("since")
                await self._fetch(about)
                self._seq, self._reset = about["seq"], about.get("reset", 0)
                self._settled = (None, None)
                await self._take(feed)

    async def _take(self, feed: "LiveFeed") -> None:
        """Store live batches, until one is missing."""
        while not self._behind.is_set():
            batch = await feed.aget(_RETRY_S)
            if batch is None:
                continue
            went_back, self._heard = batch.seq < self._heard, batch.seq
            another_run = batch.since is not None and batch.since != self._run
            if another_run or went_back or batch.seq > self._seq + 1 or batch.reset > self._reset:
                self._ledger.counters.add("missed", batch.missed)
                return
            if batch.seq <= self._seq:
                continue  # was fetched
            if not self._fits(batch):
                return
            columns = {_name_here(name, self._node): values for name, values in batch.columns.items()}
            self._emit(replace(batch, timeline=self.name, columns=columns))
            self._ledger.counters.add("batches")
            self._seq = batch.seq
            self._newest = max(self._newest, float(batch.t[-1]))

    def _fits(self, batch: Batch) -> bool:
        """Whether the fields of a batch and their types are known; fields that no longer exist are dropped."""
        known = self.recorded.fields if self.recorded else ()
        types = {field.name: field.type for field in known}
        if any(type_of(values) != types.get(_name_here(name, self._node)) for name, values in batch.columns.items()):
            return False
        kept = [field for field in known if field.name in {_name_here(name, self._node) for name in batch.columns}]
        if len(kept) == len(batch.columns) < len(known):
            self._declare(kept)
        return len(kept) == len(batch.columns)

    async def _fetch(self, about: Mapping[str, Any] | None) -> None:
        """Store what the node has from the time on that is final here."""
        self._fetching = True
        self._behind.clear()
        newest = self._clock.now() if about is None else about["newest"]
        if newest is not None:  # something was measured
            await self._fetch_until(math.nextafter(newest, math.inf), about or {})
        self._ledger.recovered(self.name)
        self._fetching = False

    async def _fetch_until(self, stop: float, about: Mapping[str, Any]) -> None:
        fields = await self._fields(math.nextafter(stop, -math.inf) if about else 1.0, stop)
        if not fields:
            return
        self._declare(fields)
        self._follow_resets(about)
        final, oldest = self._declare(fields), about.get("oldest") or 1.0
        start, gap_from = final or max(self._since or 1.0, oldest), None
        if final is not None:
            self._losses_until = max(self._losses_until, _whole_minute(final))
            if oldest > max(final, self._newest):
                start, gap_from = oldest, max(final, self._newest)  # the node has no longer what was between them
        while start < stop:
            samples, end = await self._piece(start, _block_end(start, self._step_s, stop))
            for batch in self._batches(samples, Interval(start, end), gap_from, about):
                self._emit(batch)
            count, start = len(samples.t), end
            if count:
                gap_from, self._newest = None, max(self._newest, float(samples.t[-1]))
            self._ledger.counters.add("fetched", count)

    def _follow_resets(self, about: Mapping[str, Any]) -> None:
        """Set back the watermark here where the node, whose clock was ahead, has set back its own."""
        for reset in about.get("resets") or ():
            removed_from = math.inf if reset["removed_from"] is None else reset["removed_from"]
            until = -math.inf if reset["finalized_until"] is None else reset["finalized_until"]
            moved = self._emit.set_back(self.name, reset["number"], until, removed_from)
            self._newest, self._losses_until = min(self._newest, until), min(self._losses_until, until)
            self._ledger.counters.add("set_back", moved)

    async def _piece(self, start: float, end: float) -> tuple[Samples, float]:
        """Return samples from `start` on, whose fields are declared, and how far they reach: `end`, or less."""
        while True:
            fields = await self._fields(start, end)
            if not fields:
                self._step_s = min((end - start) * _GROWTH, _LONGEST_S)
                return _NOTHING, end
            names = [_name_there(field, self._node) for field in fields]
            try:
                async with self._turns:
                    data = await self._site.data(self._node, names, start, end, exact=True)
            except TooLarge:
                if (end - start) / 2 < _SHORTEST_S:
                    raise
                end = start + (end - start) / 2
                continue
            samples = data.timelines.get(self._timeline, _NOTHING)
            # Samples from before a type became wider are recorded with their former type.
            now = [(field, samples.columns.get(_name_there(field, self._node))) for field in fields]
            then = [replace(field, type=_type_then(field, values)) for field, values in now]
            change = min((since for epochs in samples.epochs.values() for since, _ in epochs[1:]), default=end)
            if start < change < end:
                end = change
                continue
            self._declare(then)
            values = len(samples.t) * (len(fields) + 1)
            self._step_s = min((end - start) * min(_GROWTH, _AT_ONCE / max(values, 1)), _LONGEST_S)
            return samples, end

    async def _fields(self, start: float, end: float) -> list[Field]:
        """Return the fields that the timeline has in an interval, as they are called here."""
        found = await self._site.fields(self._node, start, end)
        infos = [info for info in found.values() if info.timeline == self._timeline and not info.shape]
        if infos:
            self._interval_s = infos[0].interval_s
        return [Field(_name_here(info.name, self._node), info.type, info.units, info.description) for info in infos]

    def _declare(self, fields: Sequence[Field]) -> float | None:
        """Record these fields from now on, and return the watermark here."""
        if self.recorded is None:
            log.info("recording %s", self.name)
        if self.recorded is None or self.recorded.fields != tuple(fields):
            self.recorded = Timeline(self.name, fields, self._interval_s, lateness_s=math.inf, follows_clock=False)
        return self._emit.add(self.recorded)

    def _batches(
        self, samples: Samples, interval: Interval, gap_from: float | None, about: Mapping[str, Any]
    ) -> Iterator[Batch]:
        """Yield the samples that a node has in an interval, cut where they follow a gap, with the watermark."""
        t = samples.t
        columns, missing = _filled(samples, self.recorded.fields if self.recorded else (), self._node)
        self._ledger.counters.add("filled", missing)
        lost = samples.dropped if interval.start >= self._losses_until else 0
        self._losses_until = max(self._losses_until, _whole_minute(interval.end))
        if lost and not len(t):
            gap_from = interval.start  # the time at which they are counted
        for i, j, since in _between_gaps(samples, gap_from):
            part = {name: values[i:j] for name, values in columns.items()}
            final = _finalized(samples, interval.end, about) if j == len(t) else None
            yield Batch(self.name, t[i:j], part, since, 0 if i else lost, finalized_until=final)


def _type_then(field: Field, values: Column | None) -> FieldType:
    """Return the type of some values of a field, which may have another by now."""
    if values is None or not len(values) or (values.dtype.kind == "O" and not any(type(v) is str for v in values)):
        return field.type
    return type_of(values)


def _whole_minute(t: float) -> float:
    return math.ceil(t / _MINUTE_S) * _MINUTE_S


def _block_end(start: float, step_s: float, stop: float) -> float:
    """Return where the next block of samples ends: at a whole minute where possible."""
    until = start + step_s
    return min(stop, whole if (whole := until // _MINUTE_S * _MINUTE_S) > start else until)


def _finalized(samples: Samples, end: float, about: Mapping[str, Any]) -> float | None:
    """Return the watermark once these samples, which are all before `end`, are stored; None if it is unknown."""
    if len(samples.t):
        # Of a node that does not report a watermark, only its samples are known to be final.
        known = end if about else math.nextafter(float(samples.t[-1]), math.inf)
        return known if samples.finalized_until is None else min(known, samples.finalized_until)
    final = about.get("finalized_until")
    return None if final is None else min(end, final)


def _between_gaps(samples: Samples, gap_from: float | None) -> Iterator[tuple[int, int, float | None]]:
    """Yield where the samples between gaps begin and end, and since when the gap before them lasted."""
    begins = {0: gap_from}
    for start, end in samples.gaps:
        if (first := int(np.searchsorted(samples.t, end))) < len(samples.t):
            begins[first] = start
    for i, j in pairwise([*sorted(begins), len(samples.t)]):
        yield i, j, begins[i]


def _name_here(field: str, node: str) -> str:
    return f"{node}::{field}"


def _name_there(field: Field, node: str) -> str:
    return field.name.removeprefix(f"{node}::")


def _filled(samples: Samples, fields: Sequence[Field], node: str) -> tuple[dict[str, Column], int]:
    """Return a column for each field, see `_filled_column`, and how many values were missing."""
    columns, missing = {}, 0
    for field in fields:
        column, count = _filled_column(field, samples.columns.get(_name_there(field, node)), len(samples.t))
        columns[field.name], missing = column, missing + count
    return columns, missing


def _filled_column(field: Field, values: Column | None, rows: int) -> tuple[Column, int]:
    """Return a field's column with NaN, False or "" for missing values, and how many objects were missing."""
    if values is None or not len(values):
        values = np.full(rows, None)
    if values.dtype.kind != "O":
        return values, 0
    empty, dtype = NO_VALUE[field.type]
    is_missing = np.equal(values, np.array(None))
    values = np.where(is_missing, empty, values)
    values = widened(values, "number", "string") if field.type == "string" else values.astype(dtype)
    return values, int(is_missing.sum())
