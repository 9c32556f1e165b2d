"""The samples of targets, queried of all nodes at the same time."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sisock.consumer import Data, FieldInfo
from sisock.errors import NoSuchField, SisockError
from sisock.fields import Column, FieldType, FloatArray, Quantity
from sisock_hub.gateway.downsampling import limit_points
from sisock_hub.gateway.grafana.catalogue import Target
from sisock_hub.gateway.query_client import QueryClient, warning
from sisock_hub.gateway.questions import Question

TIMEOUT_S = 20.0
"""Seconds within which a node must answer; Grafana's own timeout is 30 s."""


def _nothing() -> FloatArray:
    return np.empty(0)


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of a target, or of several where its units changed, those in the same units.

    Attributes
    ----------
    target : Target
    info : FieldInfo or None
        With the units of these samples. None where its node knows of no such field, or did not answer.
    timeline : str or None
        None where there are no samples.
    t : ndarray of float64, shape (n,)
        UNIX seconds.
    values : ndarray, shape (n,)
    error : str or None
        Error because of which there are none.
    """

    target: Target
    info: FieldInfo | None
    timeline: str | None = None
    t: FloatArray = field(default_factory=_nothing)
    values: Column = field(default_factory=_nothing)
    error: str | None = None
    label: str | None = None
    """The field's name with its units, where they changed."""

    @property
    def name(self) -> str:
        """The target as it is shown."""
        return str(self.target if self.label is None else Target(self.target.node, self.label))

    @property
    def kind(self) -> FieldType:
        """Type of the values."""
        match self.values.dtype.kind:
            case "b":
                return "bool"
            case "O":
                return self.info.type if self.info and self.info.type != "number" else "string"
        return self.info.type if self.info and not len(self.values) else "number"


def fields_of(targets: Collection[Target]) -> dict[str, list[str]]:
    """Return the fields of targets, by node."""
    fields: dict[str, list[str]] = {}
    for target in targets:
        fields.setdefault(target.node, []).append(target.field)
    return fields


async def series_of(
    client: QueryClient, asked: Mapping[Question, Collection[Target]]
) -> dict[tuple[Question, Target], list[Series]]:
    """Return the samples of targets, by units where these changed, or the errors.

    Raises
    ------
    SisockError
        If no target has samples or may have some at other times: the error of the first node, or NoSuchField.
    """
    answers = await asyncio.gather(*(client.answers(fields_of(each), question) for question, each in asked.items()))
    series: dict[tuple[Question, Target], list[Series]] = {}
    first: SisockError | None = None
    for (question, targets), (found, errors) in zip(asked.items(), answers, strict=True):
        first = first or next(iter(errors.values()), None)
        lines = {node: _lines(data, question) for node, data in found.items()}
        for target in targets:
            if target.node in errors:
                series[question, target] = [Series(target, None, error=warning(target.node, errors[target.node]))]
            else:
                series[question, target] = _series(target, found[target.node], lines[target.node], question)
    if series and all(each.info is None for found in series.values() for each in found):
        raise first or no_such([target for _, target in series])
    return series


def _lines(data: Data, question: Question) -> dict[str, tuple[FloatArray, dict[str, Column]]]:
    # Nodes of third parties may ignore the requested number.
    return {
        timeline: limit_points(samples.t, samples.columns, question.max_points, question.method)
        for timeline, samples in data.timelines.items()
    }


def _series(
    target: Target,
    data: Data,
    lines: Mapping[str, tuple[FloatArray, Mapping[str, Column]]],
    question: Question,
) -> list[Series]:
    name, info = target.field, data.fields.get(target.field)
    for timeline, (t, columns) in lines.items():
        if name in columns:
            known = info or _unlisted(name, timeline)
            parts = data.timelines[timeline].quantities(name)
            if len(parts) == 1:
                return [Series(target, known, timeline, t, columns[name])]
            return [_of_quantity(target, known, part, data.timelines[timeline].t, question) for part in parts]
    return [Series(target, info, error=None if info else no_such([target]).message)]


def _of_quantity(target: Target, info: FieldInfo, part: Quantity, t: FloatArray, question: Question) -> Series:
    found, columns = limit_points(t[part.rows], {part.label: part.values}, question.max_points, question.method)
    info = replace(info, type=part.field.type, units=part.field.units)
    return Series(target, info, info.timeline, found, columns[part.label], label=part.label)


def _unlisted(name: str, timeline: str) -> FieldInfo:
    """Return the description of a field that its node does not list but has samples of."""
    return FieldInfo(name, "number", None, None, timeline, None)


def no_such(targets: Sequence[Target | str]) -> NoSuchField:
    """Return the error for targets that are not fields."""
    names = list(dict.fromkeys(map(str, targets)))
    listed = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return NoSuchField(f"there is no field {listed}; /grafana/v1/fields lists all fields")
