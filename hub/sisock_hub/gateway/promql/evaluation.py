"""Evaluation of expressions on samples, at given times."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sisock.errors import NotSupported
from sisock.fields import FloatArray
from sisock_hub.gateway.promql.expressions import ARITHMETIC, Aggregated, Calculated, Vector
from sisock_hub.gateway.promql.functions import FUNCTIONS
from sisock_hub.gateway.promql.selection import Selection
from sisock_hub.gateway.promql.series import NAME, Track
from sisock_hub.gateway.promql.windows import Flags, windows

Samples = Mapping[Selection, Sequence[Track]]
Labels = Mapping[str, str]

_KEEP_THEIR_NAME = ("instant", "last_over_time")


class Row(NamedTuple):
    """One series at all times.

    Attributes
    ----------
    labels : mapping of str to str
    values : ndarray of float64, shape (m,)
    there : ndarray of bool, shape (m,)
        Whether there is a value.
    """

    labels: Labels
    values: FloatArray
    there: Flags


def rows(expression: Vector, samples: Samples, times: FloatArray) -> list[Row]:
    """Return the series of an expression at `times`, an ndarray of float64, shape (m,), in UNIX seconds.

    Raises
    ------
    NotSupported
        If two series have the same labels.
    """
    with np.errstate(all="ignore"):  # overflow and division by 0 yield infinity or NaN, as in Prometheus
        return _rows(expression, samples, times)


def _rows(expression: Vector, samples: Samples, times: FloatArray) -> list[Row]:
    match expression:
        case Selection():
            found = [_read(expression, track, times) for track in samples.get(expression, ())]
            return found if expression.use in _KEEP_THEIR_NAME else _distinct(found)
        case Aggregated():
            return _aggregated(expression, _rows(expression.of, samples, times))
        case Calculated(operator, float(constant), (Selection() | Aggregated() | Calculated()) as right):
            return _calculated(operator, _rows(right, samples, times), constant, constant_first=True)
        case Calculated(operator, (Selection() | Aggregated() | Calculated()) as left, float(constant)):
            return _calculated(operator, _rows(left, samples, times), constant, constant_first=False)
    raise AssertionError(expression)


def look_back(selection: Selection, stride_s: float) -> float:
    """Return how far back samples matter, in seconds.

    For downsampled samples, an instant selector looks back at least two strides.
    """
    return max(selection.span_s, 2 * stride_s) if selection.use == "instant" else selection.span_s


def _read(selection: Selection, track: Track, times: FloatArray) -> Row:
    over = windows(track.t, times - selection.offset_s, look_back(selection, track.stride_s))
    values, there = FUNCTIONS[selection.use](track.t, track.values, over)
    labels = track.labels if selection.use in _KEEP_THEIR_NAME else _unnamed(track.labels)
    return Row(labels, values, there)


def _unnamed(labels: Labels) -> Labels:
    return {label: value for label, value in labels.items() if label != NAME}


def _distinct(found: list[Row]) -> list[Row]:
    """Return the rows if all have different labels, which may not be so after names are dropped."""
    seen = set()
    for row in found:
        if (key := frozenset(row.labels.items())) in seen:
            raise NotSupported(
                f"two series have the same labels {dict(row.labels)} once the metric's name is dropped; name one metric"
            )
        seen.add(key)
    return found


def _calculated(operator: str, of: list[Row], constant: float, *, constant_first: bool) -> list[Row]:
    operation = ARITHMETIC[operator]
    return _distinct(
        [
            Row(
                _unnamed(row.labels),
                operation(constant, row.values) if constant_first else operation(row.values, constant),
                row.there,
            )
            for row in of
        ]
    )


def _aggregated(expression: Aggregated, of: list[Row]) -> list[Row]:
    groups: dict[frozenset[tuple[str, str]], list[Row]] = {}
    for row in of:
        labels = frozenset(
            (label, value)
            for label, value in row.labels.items()
            if (label in expression.labels) is expression.keeps and (expression.keeps or label != NAME)
        )
        groups.setdefault(labels, []).append(row)
    return [Row(dict(sorted(labels)), *_together(expression.operation, group)) for labels, group in groups.items()]


def _together(operation: str, group: Iterable[Row]) -> tuple[FloatArray, Flags]:
    members = iter(group)
    first = next(members)
    neutral = 0.0 if operation in ("sum", "avg") else np.nan
    combine = {"sum": np.add, "avg": np.add, "min": np.fmin, "max": np.fmax}[operation]
    values, there = np.where(first.there, first.values, neutral), first.there
    number = there.astype(np.intp)
    for row in members:
        values = combine(values, np.where(row.there, row.values, neutral))
        there = there | row.there
        number += row.there
    return values / np.maximum(number, 1) if operation == "avg" else values, there
