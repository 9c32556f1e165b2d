"""Values of any type, by key, to columns: fields appear, and their types become wider, as the values ask for it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from sisock.fields import NO_VALUE, Column, FieldType, FloatArray, as_text, widest
from sisock.fields import Field as QuantityField
from sisock.metrics import Counters
from sisock.settings import Settings
from sisock_nodes.records.values import TEXT, BoolPair, BoolTexts, MissingMarks

Name = Annotated[str, Field(min_length=1, max_length=200)]
Values = Sequence[Any]
"""One value a sample; None where there is none."""
COUNTS = ("bad_values", "filled", "non_finite", "excess")
"""Counters of `LearnedColumns`."""
MOST_FIELDS = 10_000
"""Fields that a timeline has at the most: keys that are made of data would never end."""
_TYPES: dict[type, FieldType] = {bool: "bool", int: "number", float: "number", str: "string"}
_NUMBERS = {int, float, type(None)}


class ValueSettings(Settings):
    """Units, description and type of a value."""

    units: str | None = None
    description: str | None = None
    type: FieldType | None = None
    """``number``, ``string`` or ``bool``; found from the values that come when not given."""
    bool_texts: BoolPair | None = None
    """The text that is true and the text that is false, such as ``[open, closed]``; the value is a bool then."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bool_texts and self.type not in (None, "bool"):
            raise ValueError(f"bool_texts are for bools, not for type {self.type}")
        return self

    @property
    def known_type(self) -> FieldType | None:
        """The type that is set."""
        return "bool" if self.bool_texts else self.type


@dataclass(slots=True)
class _Value:
    """State of the values of a key."""

    field: QuantityField
    bools: BoolTexts
    is_set: bool
    """Whether the settings say of which type it is."""
    is_tentative: bool
    """Whether its type is decided by the samples that come."""
    has_samples: bool = False
    text: QuantityField | None = None
    """The field of what does not fit, once there was something."""


class LearnedColumns:
    """The fields of a timeline, learned from values that come by key.

    The type of a field is that of the first values of its key, unless the settings have it; bools among which numbers
    come become numbers. A value that does not fit is missing, counted, and a text in the field ``<field>.text``, which
    appears with the first of them.

    Parameters
    ----------
    name : callable
        Returns the name of the field of a key.
    about : callable
        Returns the settings of a key.
    missing : sequence of str
        Marks, see `MissingMarks`.
    counters : Counters
        ``bad_values``, of another type than their field; ``filled``, missing texts and bools; ``non_finite``, numbers
        that are missing or not finite; ``excess``, values beyond `MOST_FIELDS`.
    """

    def __init__(
        self,
        name: Callable[[str], str],
        about: Callable[[str], ValueSettings],
        missing: Sequence[str],
        counters: Counters,
    ) -> None:
        self._name, self._about, self._counters = name, about, counters
        self._marks = MissingMarks(missing)
        self._is_marked = len(self._marks.texts) > 1  # the empty text always is
        self._values: dict[str, _Value] = {}
        self._taken: set[str] = set()
        self.fields: Sequence[QuantityField] = ()
        """The fields that are known so far."""

    def declare(self, key: str, kind: FieldType, *, tentative: bool = False) -> None:
        """Have a field for a key, of a type."""
        self._add(key, kind, tentative=tentative)
        self._tell()

    def learn(self, values: Mapping[str, Values]) -> None:
        """Learn the fields of some values; their types are decided by the first samples."""
        for key in sorted(values.keys() - self._values.keys()):
            if (kind := self._kind(self._present(values[key]))) and len(self._values) < MOST_FIELDS:
                self._add(key, kind, tentative=True)
        self._tell()

    def columns(self, values: Mapping[str, Values], count: int) -> dict[str, Column]:
        """Return a column for each field; `fields` may be others afterwards.

        Parameters
        ----------
        values : mapping of str to sequence
            `count` values for each key; a key that does not come has none.
        count : int
        """
        for key in sorted(values.keys() - self._values.keys()):
            self._meet(key, values[key])
        found: dict[str, Column] = {}
        for key, value in self._values.items():
            column, misfits = self._column(value, values.get(key), count)
            found[value.field.name] = column
            if misfits is not None and value.text is None:
                value.text = QuantityField(self._free(f"{value.field.name}{TEXT}"), "string")
            if value.text is not None:
                found[value.text.name] = np.full(count, "", object) if misfits is None else misfits
        self._tell()
        return found

    def _meet(self, key: str, values: Values) -> None:
        """Make a field of a key that has not come before, if it has values that one can have."""
        if not any(type(value) in _TYPES for value in self._present(values)):
            self._counters.add("bad_values", sum(value is not None and type(value) not in _TYPES for value in values))
        elif len(self._values) >= MOST_FIELDS:
            self._counters.add("excess", sum(value is not None for value in values))
        else:
            self._add(key, "number", tentative=True)

    def _add(self, key: str, kind: FieldType, *, tentative: bool) -> None:
        """Have a field for a key; `fields` does not have it yet."""
        about = self._about(key)
        is_set, kind = about.known_type is not None, about.known_type or kind
        field = QuantityField(self._free(self._name(key)), kind, about.units, about.description)
        self._values[key] = _Value(field, BoolTexts(about.bool_texts), is_set, tentative and not is_set)

    def _column(self, value: _Value, values: Values | None, count: int) -> tuple[Column, Column | None]:
        """Return the values of a field, and the texts of those that do not fit, if there are any."""
        if values is None:
            self._decide(value, None)
            empty, dtype = NO_VALUE[value.field.type]
            self._counters.add("non_finite" if value.field.type == "number" else "filled", count)
            return np.full(count, empty, dtype), None
        if value.is_tentative:
            self._decide(value, self._kind(self._present(values)))
        kind, types = value.field.type, set(map(type, values))
        if kind == "number" and types <= _NUMBERS:
            return self._numbers(values), None
        if kind == "string" and types == {str} and not self._is_marked:
            return as_objects(values), None
        if kind == "bool" and types == {bool} and not self._is_marked:
            return np.array(values, bool), None
        values = self._present(values)
        self._decide(value, self._kind(values))
        return (self._texts(values), None) if value.field.type == "string" else self._fitting(value, values)

    def _decide(self, value: _Value, kind: FieldType | None) -> None:
        """Decide the type of a field, by that of its values now."""
        known = decided = value.field.type
        if value.is_tentative:
            # Values that were missing so far were missing numbers.
            decided = widest(["number", kind or "number"]) if value.has_samples or kind is None else kind
            value.is_tentative = kind is None
        elif (known, kind) == ("bool", "number") and not value.is_set:
            decided = "number"
        value.has_samples = True
        if decided != known:
            value.field = replace(value.field, type=decided)

    def _fitting(self, value: _Value, values: Values) -> tuple[Column, Column | None]:
        """Return numbers or bools, and the texts of what does not fit, if there are any."""
        marks, kind = self._marks, value.field.type
        values = [None if each is None or marks.is_missing(each, kind) else each for each in values]
        read = value.bools.read if kind == "bool" else _as_number
        fitting = [None if each is None else read(each) for each in values]
        column: Column = self._numbers(fitting) if kind == "number" else np.array([each is True for each in fitting])
        if kind == "bool":
            self._counters.add("filled", values.count(None))
        misfits = [i for i, each in enumerate(fitting) if each is None and values[i] is not None]
        self._counters.add("bad_values", len(misfits))
        texts = np.full(len(values), "", object)
        for i in misfits:
            texts[i] = _as_text(values[i]) or ""
        return column, texts if any(texts) else None

    def _numbers(self, values: Values) -> FloatArray:
        column = as_floats(values)
        if self._marks.numbers and (missing := np.isin(column, self._marks.numbers)).any():
            column[missing] = np.nan
        if lost := len(column) - int(np.count_nonzero(np.isfinite(column))):
            self._counters.add("non_finite", lost)
        return column

    def _texts(self, values: Values) -> Column:
        marks = self._marks
        texts = [None if each is None or marks.is_missing(each, "string") else _as_text(each) for each in values]
        bad = sum(each is not None and type(each) not in _TYPES for each in values)
        self._counters.add("bad_values", bad)
        self._counters.add("filled", texts.count(None) - bad)
        return as_objects([text or "" for text in texts])

    def _present(self, values: Values) -> Values:
        """Return the values, with None where a mark means that there is none in a field of any type."""
        if not self._is_marked:
            return values
        # A text that is a mark as a number is one only in fields of numbers and bools.
        return [None if type(each) in _TYPES and self._marks.is_missing(each, "string") else each for each in values]

    def _kind(self, values: Values) -> FieldType | None:
        """Return the type of a field for some values; None where all are missing."""
        kinds = {_TYPES[kind] for kind in set(map(type, values)) if kind in _TYPES}
        if "string" in kinds and all(self._marks.is_missing(each, "number") for each in values if type(each) is str):
            kinds.discard("string")
        # Texts among numbers are faults and marks, and kept in a field of their own.
        return None if not kinds else "number" if "number" in kinds else widest(kinds)

    def _free(self, name: str) -> str:
        """Return a name that no field has yet, made of this one, and take it."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _tell(self) -> None:
        fields = [each for value in self._values.values() for each in (value.field, value.text) if each is not None]
        if fields != self.fields:
            self.fields = fields


def as_floats(values: Values) -> FloatArray:
    """Return numbers, bools and None, which becomes NaN; integers beyond float64 become infinite."""
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return np.array([_as_number(value) for value in values], np.float64)


def as_objects(values: Sequence[str]) -> Column:
    """Return texts as a column."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _as_number(value: Any) -> float | None:
    """Return a number or a bool as a number, anything else as None."""
    if type(value) not in (int, float, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _as_text(value: Any) -> str | None:
    """Return a text, a number or a bool as a text, anything else as None."""
    return as_text(value) if type(value) in _TYPES else None
