"""Objects, as JSON and MessagePack carry them, to samples."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, compress
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from sisock.fields import Batch, FloatArray, Timeline
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.settings import Settings
from sisock.times import read_iso
from sisock_nodes.records.learned import COUNTS, MOST_FIELDS, LearnedColumns, Name, Values, ValueSettings, as_floats
from sisock_nodes.records.refusals import Refusals
from sisock_nodes.records.settings import Scale, scales_of

_NESTED = {dict, list}
_NUMBERS = {int, float}
_EMPTY: Mapping[str, Any] = {}
# Objects within each other that become names with dots.
_DEEPEST = 32


class ObjectTimeSettings(Settings):
    """Where in an object its time is."""

    field: Name | Annotated[list[Name], Field(min_length=2, max_length=10)] | None = None
    """Its key, with dots between the keys of nested objects; several are added, each in its unit. By default the time
    is that of the message."""
    scale: Scale = 1.0
    """Seconds in its unit: 0.001 for milliseconds; one for each of several fields. Texts are ISO 8601."""
    offset: float = Field(0.0, allow_inf_nan=False)
    """Seconds to add, after scaling."""

    @model_validator(mode="after")
    def _consistent(self) -> "ObjectTimeSettings":
        scales_of(self.scale, len(self.fields), "time.field")
        return self

    @property
    def fields(self) -> Sequence[str]:
        """The keys that are the time; none where it is that of the message."""
        return [self.field] if isinstance(self.field, str) else self.field or []


class ObjectReader:
    """CallerLimiter objects, as they come, into samples.

    Nested objects become fields with dots in their names; lists are left out and counted. A key that is new becomes a
    field with the batch in which it comes.

    Parameters
    ----------
    timeline : str
        Fields are called ``<timeline>.<key>``.
    time : ObjectTimeSettings
    values : mapping of str to ValueSettings
    lateness_s, max_ahead_s : float
    missing : sequence of str
        Marks that mean that a value is missing.
    without : sequence of str
        Keys that become no fields.
    declared : bool
        Whether values whose type is set have a field before they come.
    counters : Counters, optional
        Where others are counted as well.
    outages : OutageLog, optional
        Where it is reported that all samples are refused.

    Attributes
    ----------
    timeline : Timeline
        With the fields that are known so far.
    counters : Counters
        ``decoded``, the objects that were read; ``untimed``, those without a time; ``ahead``, refused; ``lists`` and
        ``deep`` (objects within more than 32 others), left out; and those of `LearnedColumns`.
    """

    def __init__(
        self,
        timeline: str,
        time: ObjectTimeSettings,
        values: Mapping[str, ValueSettings],
        lateness_s: float,
        max_ahead_s: float,
        *,
        missing: Sequence[str] = (),
        without: Sequence[str] = (),
        declared: bool = True,
        counters: Counters | None = None,
        outages: OutageLog | None = None,
    ) -> None:
        self.counters = counters or Counters()
        for count in ("decoded", "untimed", "ahead", "lists", "deep", *COUNTS):
            self.counters.add(count, 0)
        self._time, self._max_ahead_s = time, max_ahead_s
        self._scales = scales_of(time.scale, len(time.fields), "time.field")
        self._refusals = outages and Refusals(outages, f"source {timeline}", self._scales, "time.scale")
        self._without = [*without, *time.fields]
        about = ValueSettings()
        self._columns = LearnedColumns(
            lambda key: f"{timeline}.{key}", lambda key: values.get(key, about), missing, self.counters
        )
        for key, each in values.items() if declared else ():
            if kind := each.known_type:
                self._columns.declare(key, kind)
        self.timeline = Timeline(timeline, self._columns.fields, lateness_s=lateness_s, follows_clock=False)

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
        values = flattened(objects, self.counters)
        t = self._times(values, arrival)
        self._drop(values)
        believed = ~(t > now + self._max_ahead_s) & ~np.isnan(t)
        if self._refusals:
            self._refusals.saw(t, believed, now)
        if not believed.all():
            untimed = int(np.isnan(t).sum())
            self.counters.add("untimed", untimed)
            self.counters.add("ahead", len(t) - int(believed.sum()) - untimed)
            kept = believed.tolist()
            t, values = t[believed], {key: list(compress(each, kept)) for key, each in values.items()}
        if len(t):
            columns = self._columns.columns(values, len(t))
            self._tell()
            if columns:
                yield Batch(self.timeline.name, t, columns)
        self.counters.add("decoded", len(objects))  # once they are stored

    def learn(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Learn the fields of some objects, without making samples of them.

        Their types are decided by the first samples.
        """
        values = flattened(objects, Counters())
        self._drop(values)
        self._columns.learn(values)
        self._tell()

    def _drop(self, values: dict[str, Values]) -> None:
        for key in ("", *self._without):
            values.pop(key, None)

    def _tell(self) -> None:
        if self.timeline.fields != (fields := tuple(self._columns.fields)):
            self.timeline = replace(self.timeline, fields=fields)

    def _times(self, values: Mapping[str, Values], arrival: FloatArray) -> FloatArray:
        if not self._time.fields:
            return arrival
        t = np.full(len(arrival), self._time.offset)
        for key, scale in zip(self._time.fields, self._scales, strict=True):
            found = values.get(key)
            t += np.nan if found is None else _seconds(found, scale)
        return t


def _seconds(values: Values, scale: float) -> FloatArray:
    """Return times in seconds, NaN where there is none."""
    if set(map(type, values)) <= _NUMBERS:
        return as_floats(values) * scale
    return np.array([_moment(value, scale) for value in values])


def _moment(value: Any, scale: float) -> float:
    if type(value) in _NUMBERS:
        return float(as_floats([value])[0]) * scale
    try:
        return read_iso(value)[0]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def flattened(objects: Sequence[Mapping[str, Any]], counters: Counters) -> dict[str, Values]:
    """Return the values of some objects by key, with dots between the keys of nested ones.

    Parameters
    ----------
    objects : sequence of mappings
    counters : Counters
        ``lists``, ``deep`` and ``excess`` are counted there.
    """
    found: dict[str, Values] = {}
    if objects:
        _flatten(objects, "", 0, found, counters)
    return found


def _flatten(
    objects: Sequence[Mapping[str, Any]], prefix: str, depth: int, found: dict[str, Values], counters: Counters
) -> None:
    for key, values in _transposed(objects, counters).items():
        types, name = set(map(type, values)), f"{prefix}{key}"
        if not types.isdisjoint(_NESTED):
            inner = [value if type(value) is dict else _EMPTY for value in values]
            if list in types:
                counters.add("lists", sum(type(value) is list for value in values))
            if dict in types and depth < _DEEPEST:
                _flatten(inner, f"{name}.", depth + 1, found, counters)
            elif dict in types:
                counters.add("deep", sum(type(value) is dict for value in values))
            if not types <= _NESTED:
                _add(found, name, [None if type(value) in _NESTED else value for value in values])
        else:
            _add(found, name, values)


def _add(found: dict[str, Values], name: str, values: Values) -> None:
    """Add the values of a key, which may be written as one with dots and as nested ones."""
    if name in found:
        values = [before if value is None else value for before, value in zip(found[name], values, strict=True)]
    found[name] = values


def _transposed(objects: Sequence[Mapping[str, Any]], counters: Counters) -> Mapping[str, Values]:
    """Return the values of some objects by key, None where one has no value."""
    first = objects[0]
    if set(map(len, objects)) == {len(first)}:
        try:  # most messages have the same keys
            return {key: [each[key] for each in objects] for key in first}
        except KeyError:
            pass
    keys = list(dict.fromkeys(chain.from_iterable(objects)))
    if len(keys) > MOST_FIELDS:
        counters.add("excess", sum(each.get(key) is not None for key in keys[MOST_FIELDS:] for each in objects))
    return {key: [each.get(key) for each in objects] for key in keys[:MOST_FIELDS]}
