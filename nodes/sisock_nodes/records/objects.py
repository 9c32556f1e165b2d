"""Objects, as JSON and MessagePack carry them, to samples."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from sisock.fields import NO_VALUE, Batch, Column, FieldType, FloatArray, Timeline
from sisock.fields import Field as QuantityField
from sisock.metrics import Counters
from sisock.site import Settings

Name = Annotated[str, Field(min_length=1, max_length=200)]
_TYPES: dict[type, FieldType] = {bool: "bool", int: "number", float: "number", str: "string"}
_NUMBERS = {int, float}
# Fields that a timeline has at the most: keys that are made of data would never end.
_MOST_FIELDS = 10_000


class ObjectTimeSettings(Settings):
    """Where in an object its time is."""

    field: Name | None = None
    """Its key, with dots between the keys of nested objects; by default the time is that of the message."""
    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Seconds in its unit: 0.001 for milliseconds; texts are ISO 8601."""
    offset: float = Field(0.0, allow_inf_nan=False)
    """Seconds to add, after scaling."""


class ValueSettings(Settings):
    """What is known of a value."""

    units: str | None = None
    description: str | None = None
    type: Literal["number", "string", "bool"] | None = None
    """By default that of the first value that comes."""


class ObjectReader:
    """Turns objects, as they come, into samples.

    Nested objects become fields with dots in their names; lists are left out and counted. A key that is new becomes a
    field with the batch in which it comes.

    Parameters
    ----------
    timeline : str
        Fields are called ``<timeline>.<key>``.
    time : ObjectTimeSettings
    values : mapping of str to ValueSettings
    lateness_s, max_ahead_s : float

    Attributes
    ----------
    timeline : Timeline
        With the fields that are known so far.
    counters : Counters
        ``decoded``, the objects that were read; ``untimed``, those without a time; ``ahead``, refused; ``bad_values``,
        of another type than their field; ``filled``, missing texts and flags; ``non_finite``; ``lists``, left out.
    """

    def __init__(
        self,
        timeline: str,
        time: ObjectTimeSettings,
        values: Mapping[str, ValueSettings],
        lateness_s: float,
        max_ahead_s: float,
    ) -> None:
        self.counters = Counters("decoded", "untimed", "ahead", "bad_values", "filled", "non_finite", "lists")
        self._time, self._values, self._max_ahead_s = time, values, max_ahead_s
        self._types: dict[str, FieldType] = {name: each.type for name, each in values.items() if each.type}
        self.timeline = Timeline(timeline, self._fields(timeline), lateness_s=lateness_s, follows_clock=False)

    def read(self, objects: Sequence[Mapping[str, Any]], arrival: FloatArray, now: float) -> Iterator[Batch]:
        """Yield the samples of some objects; `timeline` may have other fields afterwards.

        Parameters
        ----------
        objects : sequence of mappings
        arrival : ndarray of float64, shape (n,)
            Their times, UNIX seconds, where they name none.
        now : float
            UNIX seconds.
        """
        rows = [self._flat(each) for each in objects]
        t = arrival if self._time.field is None else self._times([row.pop(self._time.field, None) for row in rows])
        count = len(rows)
        believed = ~(t > now + self._max_ahead_s) & ~np.isnan(t)
        if not believed.all():
            untimed = int(np.isnan(t).sum())
            self.counters.add("untimed", untimed)
            self.counters.add("ahead", len(t) - int(believed.sum()) - untimed)
            rows, t = [row for row, kept in zip(rows, believed.tolist(), strict=True) if kept], t[believed]
        if rows:
            self._learn(rows)
        columns = {
            field.name: self._column([row.get(key) for row in rows], field.type)
            for key, field in zip(self._types, self.timeline.fields, strict=True)
        }
        if rows and columns:
            yield Batch(self.timeline.name, t, columns)
        self.counters.add("decoded", count)  # once they are stored

    def learn(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Learn the fields of some objects, without making samples of them."""
        rows = [self._flat(each) for each in objects]
        for row in rows:
            row.pop(self._time.field or "", None)
        self._learn(rows)

    def _flat(self, each: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        if not prefix and not any(type(value) in (dict, list) for value in each.values()):
            return dict(each)
        flat: dict[str, Any] = {}
        for key, value in each.items():
            if isinstance(value, dict):
                flat |= self._flat(value, f"{prefix}{key}.")
            elif isinstance(value, list):
                self.counters.add("lists")
            else:
                flat[f"{prefix}{key}"] = value
        return flat

    def _times(self, values: list[Any]) -> FloatArray:
        if set(map(type, values)) <= _NUMBERS:
            return np.array(values, np.float64) * self._time.scale + self._time.offset
        return np.array([self._one_time(value) for value in values])

    def _one_time(self, value: Any) -> float:
        if type(value) in _NUMBERS:
            return float(value) * self._time.scale + self._time.offset
        try:
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() + self._time.offset
        except (TypeError, ValueError, OverflowError):
            return math.nan

    def _learn(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make a field of each key that has not come before."""
        known = self._types.keys()
        new: dict[str, FieldType] = {}
        for row in rows:
            if not row.keys() <= known:
                for key in row.keys() - known - new.keys():
                    kind = _TYPES.get(type(row[key]))
                    if kind and key and len(known) + len(new) < _MOST_FIELDS:
                        new[key] = kind
        if new:
            self._types |= {key: new[key] for key in sorted(new)}
            tl = self.timeline
            self.timeline = replace(tl, fields=self._fields(tl.name))

    def _fields(self, timeline: str) -> list[QuantityField]:
        about = {key: self._values.get(key, ValueSettings()) for key in self._types}
        return [
            QuantityField(f"{timeline}.{key}", kind, about[key].units, about[key].description)
            for key, kind in self._types.items()
        ]

    def _column(self, values: list[Any], kind: FieldType) -> Column:
        types = set(map(type, values))
        if kind == "number":
            if not types <= {int, float, type(None)}:
                values = self._fitting(values, lambda value: type(value) in _NUMBERS, None)
            column: Column = np.array(values, np.float64)  # None becomes NaN
            if lost := len(column) - int(np.count_nonzero(np.isfinite(column))):
                self.counters.add("non_finite", lost)
            return column
        wanted = str if kind == "string" else bool
        if types != {wanted}:
            self.counters.add("filled", sum(value is None for value in values))
            values = self._fitting(values, lambda value: type(value) is wanted, NO_VALUE[kind][0])
        return np.array(values, NO_VALUE[kind][1])

    def _fitting(self, values: list[Any], fits: Callable[[Any], bool], otherwise: Any) -> list[Any]:
        self.counters.add("bad_values", sum(value is not None and not fits(value) for value in values))
        return [value if fits(value) else otherwise for value in values]
