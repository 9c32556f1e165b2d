"""The past of a followed timeline: pieces of the history of its node, with where samples are missing."""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.errors import TooLarge
from sisock.fields import NO_VALUE, Column, Field, FieldType, Samples, type_of, widened

# Values that are asked for at once; the interval of a question is adapted to that.
_AT_ONCE = 500_000
_FIRST_S, _SHORTEST_S, _LONGEST_S, _GROWTH = 3600.0, 1e-6, 1e10, 4.0
# Losses are counted by the minute.
_MINUTE_S = 60.0
_NOTHING = Samples(np.empty(0), {})


class Asks(Protocol):
    """Asks a node; `sisock.consumer.node_requests.NodeRequests` does."""

    async def fields(self, node: str, start: float, end: float) -> dict[str, FieldInfo]:
        """Return the fields that have samples in an interval."""
        ...

    async def data(self, node: str, fields: Sequence[str], start: float, end: float) -> Data:
        """Return all samples of some fields in an interval."""
        ...


class Past:
    """Fetches the samples of a timeline from the history of its node, in pieces of a limited size.

    Parameters
    ----------
    asks : Asks
    node, timeline : str
    turns : callable
        Returns a semaphore of which each question takes a turn.
    is_wanted : callable
        Whether a field is followed.
    """

    def __init__(
        self,
        asks: Asks,
        node: str,
        timeline: str,
        turns: Callable[[], asyncio.Semaphore],
        is_wanted: Callable[[Field], bool],
    ) -> None:
        self.interval_s: float | None = None
        """Mean seconds between samples, as the node states it."""
        self._left_out: set[str] = set()  # names of fields that are not followed
        self._is_wanted = is_wanted
        self._asks, self._node, self._timeline, self._turns = asks, node, timeline, turns
        self._step_s = _FIRST_S

    async def fields(self, start: float, end: float) -> tuple[Field, ...]:
        """Return the fields that the timeline has in an interval."""
        found = await self._asks.fields(self._node, start, end)
        infos = [info for info in found.values() if info.timeline == self._timeline]
        if infos:
            self.interval_s = infos[0].interval_s
        fields = [Field(info.name, info.type, info.units, info.description, info.shape, info.axis) for info in infos]
        wanted = tuple(filter(self._is_wanted, fields))
        self._left_out |= {field.name for field in fields} - {field.name for field in wanted}
        return wanted

    def followed(self, columns: Mapping[str, Column]) -> Mapping[str, Column]:
        """Return those columns whose fields are not left out."""
        if self._left_out.isdisjoint(columns):
            return columns
        return {name: values for name, values in columns.items() if name not in self._left_out}

    async def piece(self, start: float, stop: float) -> tuple[Samples, tuple[Field, ...], float]:
        """Return samples from `start` on, their fields as they were then, and how far they reach: `stop`, or less."""
        end = self._block_end(start, stop)
        while True:
            fields = await self.fields(start, end)
            if not fields:
                self._step_s = min((end - start) * _GROWTH, _LONGEST_S)
                return _NOTHING, (), end
            try:
                async with self._turns():
                    data = await self._asks.data(self._node, [field.name for field in fields], start, end)
            except TooLarge:
                if (end - start) / 2 < _SHORTEST_S:
                    raise
                end = start + (end - start) / 2
                continue
            samples = data.timelines.get(self._timeline, _NOTHING)
            change = min((since for epochs in samples.epochs.values() for since, _ in epochs[1:]), default=end)
            if start < change < end:
                end = change
                continue
            values = len(samples.t) * (1 + sum(field.size for field in fields))
            self._step_s = min((end - start) * min(_GROWTH, _AT_ONCE / max(values, 1)), _LONGEST_S)
            # Samples from before a type became wider have their former type.
            then = tuple(replace(field, type=_type_then(field, samples.columns.get(field.name))) for field in fields)
            return samples, then, end

    def _block_end(self, start: float, stop: float) -> float:
        """Return where the next piece ends: at a whole minute where possible."""
        until = start + self._step_s
        return min(stop, whole if (whole := until // _MINUTE_S * _MINUTE_S) > start else until)


def whole_minute(t: float) -> float:
    """Return the end of the minute in which a time is: losses are counted by the minute."""
    return math.ceil(t / _MINUTE_S) * _MINUTE_S


def between_gaps(samples: Samples, gap_from: float | None) -> Iterator[tuple[int, int, float | None]]:
    """Yield where the samples between gaps begin and end, and since when the gap before them lasted."""
    begins = {0: gap_from}
    for start, end in samples.gaps:
        if (first := int(np.searchsorted(samples.t, end))) < len(samples.t):
            begins[first] = start
    for i, j in pairwise([*sorted(begins), len(samples.t)]):
        yield i, j, begins[i]


def final_after(samples: Samples, end: float, about: Any) -> float | None:
    """Return the watermark once these samples, which are all before `end`, are delivered; None if it is unknown.

    Parameters
    ----------
    samples : Samples
    end : float
    about : mapping
        Status of the timeline; empty if the node reports none.
    """
    if len(samples.t):
        # Of a node that does not report a watermark, only its samples are known to be final.
        known = end if about else math.nextafter(float(samples.t[-1]), math.inf)
        return known if samples.finalized_until is None else min(known, samples.finalized_until)
    final = about.get("finalized_until")
    return None if final is None else min(end, final)


def fitting(fields: Sequence[Field], columns: Mapping[str, Column]) -> tuple[Field, ...] | None:
    """Return the fields of live columns, if these are known, with their types; None if not."""
    kept = tuple(field for field in fields if field.name in columns)
    if len(kept) != len(columns):
        return None
    for field in kept:
        values = columns[field.name]
        if type_of(values) != field.type or values.shape[1:] != field.shape:
            return None
    return kept


def filled(samples: Samples, fields: Sequence[Field]) -> tuple[dict[str, Column], int]:
    """Return a column of each field's type, with NaN, False or "" for missing values, and how many were missing."""
    columns, missing = {}, 0
    for field in fields:
        columns[field.name], count = _filled_column(field, samples.columns.get(field.name), len(samples.t))
        missing += count
    return columns, missing


def _filled_column(field: Field, values: Column | None, rows: int) -> tuple[Column, int]:
    if values is None or not len(values):
        return field.nothing(rows), rows
    if values.dtype.kind != "O":
        return values, 0
    empty, dtype = NO_VALUE[field.type]
    is_missing = np.equal(values, np.array(None))
    values = np.where(is_missing, empty, values)
    values = widened(values, "number", "string") if field.type == "string" else values.astype(dtype)
    return values, int(is_missing.sum())


def _type_then(field: Field, values: Column | None) -> FieldType:
    """Return the type of some values of a field, which may have another by now."""
    if values is None or not len(values) or (values.dtype.kind == "O" and not any(type(v) is str for v in values)):
        return field.type
    return type_of(values)
