"""Objects, as JSON and MessagePack carry them, to samples."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from sisock.fields import NO_VALUE, Batch, Column, FieldType, FloatArray, Timeline, as_text, widest
from sisock.fields import Field as QuantityField
from sisock.metrics import Counters
from sisock.site import Settings
from sisock_nodes.records.values import BoolTexts

Name = Annotated[str, Field(min_length=1, max_length=200)]
_TYPES: dict[type, FieldType] = {bool: "bool", int: "number", float: "number", str: "string"}
_NUMBERS = {int, float}
_FITTING: dict[FieldType, set[type]] = {
    "bool": {bool, type(None)},
    "number": {int, float, type(None)},
    "string": {str, type(None)},
}
_BOOLS = BoolTexts()
TEXT = ".text"
"""What the name of the field ends with that has the texts that do not fit into another."""
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
    """By default found from the values that come."""


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
        of another type than their field: missing there, texts in ``<field>.text``; ``filled``, missing texts and flags;
        ``non_finite``; ``lists``, left out.
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
        self._tentative: set[str] = set()  # fields that were only learned of
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
        columns = self._columns(self._learn(rows), len(rows)) if rows else {}
        if rows and columns:
            yield Batch(self.timeline.name, t, columns)
        self.counters.add("decoded", count)  # once they are stored

    def learn(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Learn the fields of some objects, without making samples of them.

        Their types are decided by the first samples.
        """
        rows = [self._flat(each) for each in objects]
        for row in rows:
            row.pop(self._time.field or "", None)
        self._learn(rows, tentative=True)

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

    def _learn(self, rows: Sequence[Mapping[str, Any]], *, tentative: bool = False) -> dict[str, list[Any]]:
        """Make a field of each key that has not come before, have types become wider where values need it.

        Returns the values of the rows by key, None where a row has none.
        """
        types = dict(self._types)
        new: dict[str, None] = {}
        for row in rows:
            if not row.keys() <= types.keys():
                new.update(dict.fromkeys(key for key in row if key and key not in types))
        columns = {key: [row.get(key) for row in rows] for key in (*types, *new)}
        for key, values in columns.items():
            there = set(map(type, values))
            if key in types and there <= _FITTING[types[key]] and key not in self._tentative:
                continue
            if kinds := {_TYPES[each] for each in there if each in _TYPES}:
                # Texts among numbers are faults and marks, and kept in a field of their own.
                self._decide(types, key, "number" if "number" in kinds else widest(kinds), tentative=tentative)
                if types.get(key, "string") != "string" and any(_misfits(values, types[key])):
                    self._decide(types, f"{key}{TEXT}", "string", tentative=False)
        if types != self._types:
            known = {key: types[key] for key in self._types}
            self._types = known | {key: types[key] for key in sorted(types.keys() - known.keys())}
            self.timeline = replace(self.timeline, fields=self._fields(self.timeline.name))
        return columns

    def _decide(self, types: dict[str, FieldType], key: str, kind: FieldType, *, tentative: bool) -> None:
        """Decide the type of a field, from its first values, or because it has to become wider."""
        known, about = types.get(key), self._values.get(key)
        if about is not None and about.type is not None:
            return
        if known is None and len(types) >= _MOST_FIELDS:
            return
        if known is None or (key in self._tentative and not tentative):
            types[key] = kind
        elif (known, kind) == ("bool", "number"):
            types[key] = "number"
        (self._tentative.add if tentative and known is None else self._tentative.discard)(key)

    def _fields(self, timeline: str) -> list[QuantityField]:
        about = {key: self._values.get(key, ValueSettings()) for key in self._types}
        return [
            QuantityField(f"{timeline}.{key}", kind, about[key].units, about[key].description)
            for key, kind in self._types.items()
        ]

    def _columns(self, values: Mapping[str, list[Any]], count: int) -> dict[str, Column]:
        """Return the values of all fields; a text that does not fit its field is in the one for texts beside it."""
        nothing: list[Any] = [None] * count
        columns = {}
        for (key, kind), field in zip(self._types.items(), self.timeline.fields, strict=True):
            found, beside = values.get(key, nothing), key.removesuffix(TEXT)
            if beside != key and self._types.get(beside, "string") != "string" and found.count(None) == count:
                columns[field.name] = _objects(_misfits(values.get(beside, nothing), self._types[beside]))
            else:
                columns[field.name] = self._column(found, kind)
        return columns

    def _column(self, values: list[Any], kind: FieldType) -> Column:
        types = set(map(type, values))
        if kind == "number":
            if not types <= _FITTING["number"]:
                self.counters.add("bad_values", sum(type(v) not in (int, float, bool, type(None)) for v in values))
                values = [float(v) if type(v) in (int, float, bool) else None for v in values]
            column: Column = np.array(values, np.float64)  # None becomes NaN
            if lost := len(column) - int(np.count_nonzero(np.isfinite(column))):
                self.counters.add("non_finite", lost)
            return column
        if types == {str if kind == "string" else bool}:
            return np.array(values, NO_VALUE[kind][1])
        self.counters.add("filled", sum(value is None for value in values))
        if kind == "string":
            return _objects(["" if value is None else as_text(value) for value in values])
        flags = [None if value is None else _BOOLS.read(value) for value in values]
        bad = sum(flag is None and value is not None for flag, value in zip(flags, values, strict=True))
        self.counters.add("bad_values", bad)
        return np.array([flag is True for flag in flags])


def _misfits(values: Sequence[Any], kind: FieldType) -> list[str]:
    """Return the texts that do not fit a field of numbers or bools, and an empty one for each other value."""
    fits = _BOOLS.read if kind == "bool" else lambda _text: None
    return [value if type(value) is str and fits(value) is None else "" for value in values]


def _objects(values: Sequence[str]) -> Column:
    column = np.empty(len(values), object)
    column[:] = values
    return column
