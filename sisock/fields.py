"""The nouns of the data: fields, timelines, batches of samples, and the reply to a question."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sisock.dtypes import as_column
from sisock.errors import BadData, BadRequest
from sisock.shapes import Axis, check_name, checked_shape

FieldType = Literal["number", "string", "bool"]
FloatArray = NDArray[np.float64]
Column = NDArray[Any]
"""One field's values: float64, float32, int64 or other numeric dtypes, bool, or object holding str."""
NO_VALUE: Mapping[FieldType, tuple[Any, type]] = {
    "number": (math.nan, float),
    "bool": (False, bool),
    "string": ("", object),
}
"""The placeholder of a missing value, and the dtype of a column with missing values."""

_WIDTH: dict[FieldType, int] = {"bool": 0, "number": 1, "string": 2}


def widest(types: Iterable[FieldType]) -> FieldType:
    """Return the type that has room for the values of some types: bool fits into number, and both into string."""
    return max(types, key=_WIDTH.__getitem__)


def widened(values: Column, before: FieldType, after: FieldType) -> Column:
    """Return the values of a field as ones of a wider type; a missing number is an empty text, never the text ``nan``.

    Parameters
    ----------
    values : ndarray, shape (n,)
    before, after : {"bool", "number", "string"}
        `after` is as wide as `before`, or wider.
    """
    if before == after:
        return values
    if after == "number":
        return values.astype(np.float64)
    return np.array([as_text(value) for value in values.tolist()], object)


def as_text(value: float | str) -> str:
    """Return a value as a text: ``true``, ``21.5``, and nothing for NaN."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value != value else str(value)  # noqa: PLR0124 - NaN


@dataclass(frozen=True, slots=True)
class Field:
    """One named quantity of a node; with `shape`, each sample is an array of numbers, see `sisock.shapes`."""

    name: str
    type: FieldType = "number"
    units: str | None = None
    description: str | None = None
    shape: tuple[int, ...] = ()
    axis: Axis | None = None

    def __post_init__(self) -> None:
        check_name("field", self.name)
        if self.type not in ("number", "string", "bool"):
            raise BadRequest(f"field {self.name!r} has type {self.type!r}; give number, string or bool")
        if self.shape or self.axis:
            object.__setattr__(self, "shape", checked_shape(self.name, self.shape, self.axis))
            if self.type != "number":
                raise BadRequest(f"field {self.name!r} has a shape, and is a {self.type}; arrays are of numbers")

    @property
    def size(self) -> int:
        """How many values a sample has."""
        return math.prod(self.shape)

    def nothing(self, n: int) -> Column:
        """Return a column of `n` missing values."""
        value, dtype = NO_VALUE[self.type]
        return np.full((n, *self.shape), value, dtype)

    def widens_to(self, other: "Field") -> bool:
        """Whether `other` is this field, perhaps with a wider type."""
        return replace(self, type=other.type) == other and _WIDTH[self.type] <= _WIDTH[other.type]


Epochs = dict[str, list[tuple[float, Field]]]
"""By field: since when, in UNIX seconds, it was what."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time stamps that some fields of a node share.

    Attributes
    ----------
    name : str
        Unique within the node.
    fields : sequence of Field
        All fields that are measured at these times.
    interval_s : float or None
        Mean seconds between readings; None if aperiodic.
    lateness_s : float
        How late a sample may arrive, in seconds, and still be stored; earlier times are final. Infinite
        if only the source sets the watermark, see `Batch.finalized_until`.
    follows_clock : bool
        Whether finality moves on with the wall clock when nothing arrives. False for sources such as files,
        whose past may be delivered at any time: there it moves with the data, no farther than the clock.
    live : bool
        Whether samples of a time without the node are missed, and a gap. Always true if the watermark follows the
        clock.
    expect_every : float or None
        Interval in which a sample is expected, in seconds, infinite for never: after three times that without one the
        timeline is stale. None to use `interval_s`, or else past samples.
    """

    name: str
    fields: Sequence[Field]
    interval_s: float | None = None
    lateness_s: float = 1.0
    follows_clock: bool = True
    live: bool = False
    expect_every: float | None = None

    def __post_init__(self) -> None:
        check_name("timeline", self.name)
        if self.expect_every is not None and not self.expect_every > 0:
            raise BadRequest(f"timeline {self.name!r} has expect_every {self.expect_every}; give seconds above 0")
        object.__setattr__(self, "fields", tuple(self.fields))
        names = [f.name for f in self.fields]
        if twice := sorted(n for n, count in Counter(names).items() if count > 1):
            raise BadRequest(f"timeline {self.name!r} names {', '.join(map(repr, twice))} more than once")

    def nothing(self, finalized_until: float | None = None) -> "Batch":
        """Return a batch without samples, which may carry a watermark."""
        columns: dict[str, Column] = {field.name: field.nothing(0) for field in self.fields}
        return Batch(self.name, np.empty(0), columns, finalized_until=finalized_until)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive samples of one timeline, as columns.

    Attributes
    ----------
    timeline : str
        The timeline of the samples.
    t : ndarray of float64, shape (n,)
        UNIX seconds.
    columns : mapping of str to ndarray, each of shape (n,)
        The values of each field; strings as an object array of str.
    gap_from : float or None
        When the source knows that it was silent or lossy before this batch: since when, in UNIX seconds.
    dropped : int
        How many samples the source knows to have lost in that gap.
    seq : int
        On a live feed: the count of batches that the node has taken on this timeline.
    finalized_until : float or None
        The watermark: samples before it do not change. From the source, if it knows; on a live feed, from the node.
    missed : int
        On a live feed: how many batches this reader lost between the batch before and this one.
    reset : int
        On a live feed: the number of the timeline's newest reset, see `Samples.reset`.
    since : float or None
        On a live feed: start of the node, UNIX seconds, if the node reports it; each run counts `seq` from the start.
    """

    timeline: str
    t: FloatArray
    columns: Mapping[str, Column]
    gap_from: float | None = None
    dropped: int = 0
    seq: int = 0
    finalized_until: float | None = None
    missed: int = 0
    reset: int = 0
    since: float | None = None

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]


def as_batch(timeline: str, t: Any, columns: Mapping[str, Any], **more: Any) -> Batch:
    """Make a batch from anything array-like, checking that all columns have the length of `t`.

    Raises
    ------
    BadData
        If `t` is not one-dimensional, or a column has another length.
    """
    times = np.atleast_1d(np.asarray(t, dtype=np.float64))
    if times.ndim != 1:
        raise BadData(f"timeline {timeline!r}: t has {times.ndim} dimensions; give one")
    arrays = {name: as_column(values) for name, values in columns.items()}
    for name, values in arrays.items():
        if values.shape[:1] != times.shape:
            raise BadData(f"timeline {timeline!r}: field {name!r} has shape {values.shape}, its times {times.shape}")
    return Batch(timeline, times, arrays, **more)


@dataclass(frozen=True, slots=True)
class Downsampled:
    """How samples were downsampled.

    Attributes
    ----------
    method : str
    stride : float
        Seconds.
    first : tuple of str
        Fields of bools and strings, of which a sample of each bin was kept.
    """

    method: str
    stride: float
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one timeline in an interval.

    Attributes
    ----------
    t : ndarray of float64, shape (n,)
        UNIX seconds, ascending.
    columns : dict of str to ndarray, each of shape (n,)
    finalized_until : float or None
        What lies before it will never change; None when all of this is final.
    gaps : list of (float, float)
        Spans in which the source is known to have been silent or lossy, both ends included.
    dropped : int
        Samples known to be lost in this interval, to the minute.
    late : int
        Samples of this interval, to the minute, that came after their time was final and were not stored.
    downsample : Downsampled or None
        How they were downsampled; None if they were not.
    epochs : dict of str to list of (float, Field)
        Of fields whose type or units changed in this interval: since when they were what.
    units : dict of str to str or None
        Units of the fields at the end of this interval; empty where a node does not state them with its samples.
    reset : int
        The number of the timeline's newest reset, 0 if there was none: its watermark was set back, so that answers with
        a smaller number are not final.
    names_fields : bool
        Whether the node states which fields are on the timeline; where not, clients take that from ``get_fields``.
    other : dict of str to any
        What else a third party's node states of the timeline; sent as it is.
    """

    t: FloatArray
    columns: dict[str, Column]
    finalized_until: float | None = None
    gaps: list[tuple[float, float]] = field(default_factory=list)
    dropped: int = 0
    late: int = 0
    downsample: Downsampled | None = None
    epochs: Epochs = field(default_factory=dict)
    units: dict[str, str | None] = field(default_factory=dict)
    reset: int = 0
    names_fields: bool = True
    other: Mapping[str, Any] = field(default_factory=dict)

    def quantities(self, name: str) -> "list[Quantity]":
        """Return the samples of a field by its units, and texts separate from numbers and bools.

        One where neither changed in this interval; then in the order in which they came.
        """
        values, epochs = self.columns[name], self.epochs.get(name, [])
        labels = labelled(epochs)
        if not labels:
            own = Field(name, type_of(values), self.units.get(name))
            return [Quantity(name, own, np.ones(len(values), bool), values)]
        kinds = [kind_of(then) for _, then in epochs]
        number = np.searchsorted([since for since, _ in epochs[1:]], self.t, side="right")
        found = []
        for label, field_then in labels.items():
            rows = np.isin(number, [i for i, kind in enumerate(kinds) if kind == kind_of(field_then)])
            if rows.any():
                found.append(Quantity(label, field_then, rows, _typed(values[rows], field_then.type)))
        return found if len(found) != 1 else [replace(found[0], label=name)]


@dataclass(frozen=True, slots=True)
class Quantity:
    """The samples of a field that have the same units, and are all texts or none.

    Attributes
    ----------
    label : str
        The name of the field; with its units, and where needed its type, where there are several of one field.
    field : Field
        With the units and the type of these samples.
    rows : ndarray of bool, shape (n,)
        Which samples of the timeline these are.
    values : ndarray, shape (m,)
        Theirs alone.
    """

    label: str
    field: Field
    rows: NDArray[np.bool_]
    values: Column

    def spread(self) -> Column:
        """Return a value for each sample of the timeline, shape (n,): where it is not one of these, NaN or None."""
        if len(self.values) == len(self.rows):
            return self.values
        if self.values.dtype.kind in "iuf":
            spread: Column = np.full((len(self.rows), *self.values.shape[1:]), np.nan)
        else:
            spread = np.full(len(self.rows), None, object)
        spread[self.rows] = self.values
        return spread


def type_of(values: Column) -> FieldType:
    """Return the type of a field with these values."""
    match values.dtype.kind:
        case "b":
            return "bool"
        case "O":
            there = next((value for value in values.tolist() if value is not None), "")
            return "string" if isinstance(there, str) else "bool" if isinstance(there, bool) else "number"
    return "number"


def kind_of(field: Field) -> tuple[str | None, bool]:
    """Return the key of values under one name: units, and whether they are texts."""
    return field.units, field.type == "string"


def labelled(epochs: Iterable[tuple[float, Field]]) -> dict[str, Field]:
    """Return each kind that a field had, once, by a label; the type is the widest of its kind.

    The label is the name of the field; with its units, and where needed its type, if it was of several kinds.
    """
    kinds: dict[tuple[str | None, bool], Field] = {}
    for _, then in epochs:
        known = kinds.setdefault(kind_of(then), then)
        kinds[kind_of(then)] = replace(known, type=widest((known.type, then.type)))
    return {_label(then, kinds): then for then in kinds.values()}


def _label(field: Field, kinds: Collection[tuple[str | None, bool]]) -> str:
    has_both = sum(units == field.units for units, _ in kinds) > 1
    # Pure numbers, whose units are 1, are shown without, unless they had none at another time.
    has_units = field.units and (field.units != "1" or any(not units for units, _ in kinds))
    about = [*([field.units] if field.units and has_units else []), *([field.type] if has_both else [])]
    return f"{field.name} [{', '.join(about)}]" if about and len(kinds) > 1 else field.name


def _typed(values: Column, kind: FieldType) -> Column:
    """Return values as a column of their type, where each has one; missing numbers are NaN."""
    if values.dtype.kind != "O" or kind == "string":
        return values
    if kind == "number":
        return np.array([math.nan if value is None or isinstance(value, str) else value for value in values], float)
    return values.astype(bool) if all(isinstance(value, bool) for value in values.tolist()) else values


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one question: samples by timeline, and the fields that have none.

    Attributes
    ----------
    timelines : dict of str to Samples
        Only timelines with at least one sample in the interval, or with samples that were lost.
    empty : tuple of str
        Fields asked for that are unknown or have no sample in the interval.
    unplaced : dict of str to ndarray
        Fields of which the node does not state on which of its timelines they are.
    """

    timelines: dict[str, Samples] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    unplaced: dict[str, Column] = field(default_factory=dict)

    @property
    def n_values(self) -> int:
        """Number of values, times included."""
        placed = sum(len(s.t) + sum(v.size for v in s.columns.values()) for s in self.timelines.values())
        return placed + sum(values.size for values in self.unplaced.values())
