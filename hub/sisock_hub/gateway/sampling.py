"""Fetches the samples that a selection needs."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.errors import SisockError, TooLarge
from sisock.times import Interval
from sisock_hub.gateway.field_directory import FieldDirectory
from sisock_hub.gateway.promql.naming import label_sets
from sisock_hub.gateway.promql.selection import MOST_SAMPLES, Need, Selection
from sisock_hub.gateway.promql.series import Track
from sisock_hub.gateway.query_client import QueryClient, warning
from sisock_hub.gateway.questions import Question

MOST_IN_ALL = 20_000_000
"""Most samples of one query; with many series each may have fewer."""
MOST_VALUES = 10_000_000
"""Most values, steps times series, of one answer."""
# By default, nodes refuse answers of more than 5 million values, times included.
_VALUES_AT_ONCE = 4_000_000

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A field that a selection selects, under one name or both."""

    info: FieldInfo
    labels: tuple[Labels, ...]


def label_sets_of(node: str, info: FieldInfo) -> list[Labels]:
    """Return the labels of the series of a field, for each units that it had; strings have none.

    Numbers are series, and bools, as 0 and 1.
    """
    numeric = dict.fromkeys(then.units for then in info.columns.values() if then.type != "string")
    return [labels for units in numeric for labels in label_sets(node, info.name, units)]


class Sampler:
    """Fetches the samples of selections.

    Parameters
    ----------
    client : QueryClient
    directory : FieldDirectory
    most_samples : int
        Most samples of one series; more are downsampled by the nodes.
    """

    def __init__(self, client: QueryClient, directory: FieldDirectory, most_samples: int = MOST_SAMPLES) -> None:
        self._client, self._directory, self._most_samples = client, directory, most_samples

    async def tracks(
        self, selection: Selection, start: float, end: float, step_s: float
    ) -> tuple[list[Track], list[str]]:
        """Return the samples that a selection needs for times from `start` to `end`, and warnings.

        Parameters
        ----------
        selection : Selection
        start, end : float
            UNIX seconds.
        step_s : float
            Seconds between the times; 0 when there is one.

        Raises
        ------
        TooLarge
            If there are too many samples for the use, or the answer would have too many values.
        """
        selector = selection.selector
        fields, warnings = await self._directory.fields(lambda node: selector.may_match({"node": node}))
        wanted = {node: _wanted(selection, node, infos) for node, infos in fields.items()}
        number = sum(len(each.labels) for of_node in wanted.values() for each in of_node)
        steps = (round((end - start) / step_s) if step_s else 0) + 1
        if number * steps > MOST_VALUES:
            raise TooLarge(
                f"{selector} has {number:,} series; at {steps:,} times each that is more than {MOST_VALUES:,} values; "
                "select fewer, or take a longer step"
            )
        most = min(self._most_samples, MOST_IN_ALL // max(number, 1))
        questions = [
            self._of_node(node, _by_need(of_node, selection, start, end, step_s, most), selection, most)
            for node, of_node in wanted.items()
        ]
        tracks: list[Track] = []
        for found, more in await asyncio.gather(*questions):
            tracks += found
            warnings += more
        return tracks, warnings

    async def _of_node(
        self, node: str, needs: Mapping[Need, Sequence[_Wanted]], selection: Selection, most: int
    ) -> tuple[list[Track], list[str]]:
        tracks: list[Track] = []
        warnings: list[str] = []
        for need, wanted in needs.items():
            at_once = max(1, _VALUES_AT_ONCE // max(need.expected, 1) - 1)
            for i in range(0, len(wanted), at_once):
                piece = wanted[i : i + at_once]
                data, problem = await self._query(node, need, [each.info.name for each in piece])
                if data is None:
                    return tracks, [*warnings, problem or ""]
                for each in piece:
                    found, problem = _tracks(data, each, need, selection, most)
                    tracks += found
                    warnings += [f"node {node!r}: {problem}"] if problem else []
        return tracks, warnings

    async def _query(self, node: str, need: Need, fields: list[str]) -> tuple[Data | None, str | None]:
        """Return a node's answer, or the warning that there is none."""
        question = Question(Interval(need.start, need.end), need.min_stride, need.max_points, need.downsample)
        try:
            return await self._client.data(node, fields, question), None
        except SisockError as error:
            return None, warning(node, error)


def _wanted(selection: Selection, node: str, infos: Mapping[str, FieldInfo]) -> list[_Wanted]:
    meant = (
        (info, tuple(labels for labels in label_sets_of(node, info) if selection.selector.matches(labels)))
        for info in infos.values()
    )
    return [_Wanted(info, labels) for info, labels in meant if labels]


def _by_need(
    wanted: Sequence[_Wanted], selection: Selection, start: float, end: float, step_s: float, most: int
) -> dict[Need, list[_Wanted]]:
    needs: dict[Need, list[_Wanted]] = {}
    for each in wanted:
        need = selection.need(start, end, step_s, each.info.interval_s, most)
        if need.min_stride is not None:
            selection.check_stride(need.min_stride, most, method_holds=_holds(need, each.info))
        needs.setdefault(need, []).append(each)
    return needs


def _holds(need: Need, info: FieldInfo) -> bool:
    return info.type == "number" or need.downsample == "first"


def _tracks(data: Data, wanted: _Wanted, need: Need, selection: Selection, most: int) -> tuple[list[Track], str | None]:
    name, t = wanted.info.name, data.t(wanted.info.name)
    samples = data.timelines.get(wanted.info.timeline)
    if samples is None or name not in samples.columns:
        return [Track(labels, t, data[name], 0.0) for labels in wanted.labels], None
    numeric = [part for part in samples.quantities(name) if part.field.type != "string"]
    if not numeric:
        return [], f"field {name!r} holds no numbers in this interval"
    how = samples.downsample
    stride_s = how.stride if how is not None else need.min_stride or 0.0
    if need.max_points is not None and stride_s:
        selection.check_stride(stride_s, most, method_holds=_holds(need, wanted.info))
    is_stated = name in samples.epochs or name in samples.units
    return [
        Track(labels, t[part.rows], part.values.astype(np.float64, copy=False), stride_s)
        for part in numeric
        for labels in label_sets(data.node, name, part.field.units if is_stated else wanted.info.units)
        if selection.selector.matches(labels)
    ], None
