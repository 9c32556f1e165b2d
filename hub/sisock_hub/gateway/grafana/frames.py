"""Samples in the shapes that Grafana turns into data frames, written from arrays.

References
----------
`toDataFrame` in https://github.com/grafana/grafana, packages/grafana-data/src/dataframe/processDataFrame.ts
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from sisock.fields import Column, FieldType, FloatArray
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.grafana.series import Series
from sisock_hub.gateway.grafana.units import grafana_unit
from sisock_hub.gateway.grafana.wide import Wide

_TYPES: Mapping[FieldType, str] = {"number": "number", "string": "string", "bool": "boolean"}


def milliseconds(t: FloatArray) -> NDArray[np.int64]:
    """Return UNIX seconds as whole milliseconds."""
    return np.round(t * 1000.0).astype(np.int64)


def meta(notices: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of a frame: notices, which Grafana shows in the corner of the panel."""
    if not notices:
        return {}
    return {"meta": {"notices": [{"severity": "warning", "text": text} for text in dict.fromkeys(notices)]}}


def frames(ref_id: str | None, series: Sequence[Series], notices: Sequence[str]) -> list[dict[str, Any]]:
    """Return data frames, one for each timeline, each units of a field that changed, and each target without samples.

    Parameters
    ----------
    ref_id : str or None
        The query's name in its panel.
    series : sequence of Series
    notices : sequence of str
        Warnings about the query as a whole.
    """
    groups: dict[object, list[Series]] = {}
    for each in series:
        key = (each.target.node, each.timeline, id(each.t)) if each.timeline else each.target
        groups.setdefault(key, []).append(each)
    found = []
    for group in groups.values():
        texts = [*notices, *(each.error for each in group if each.error)]
        notices = []
        found.append(_frame(ref_id, group, texts))
    if notices:
        found.append(_frame(ref_id, [], notices))
    return found


def _frame(ref_id: str | None, group: Sequence[Series], notices: Sequence[str]) -> dict[str, Any]:
    times = milliseconds(group[0].t) if group else np.empty(0, np.int64)
    names = [each.name for each in group]
    schema = {
        "refId": ref_id,
        "name": names[0] if len(names) == 1 else group[0].target.node if group else None,
        **meta(notices),
        "fields": [{"name": "time", "type": "time", "config": {}}, *map(_field, group)],
    }
    return {"schema": schema, "data": {"values": [times, *(each.values for each in group)]}}


def _field(series: Series) -> dict[str, Any]:
    name, info = series.name, series.info
    config = {"displayNameFromDS": name}
    if info and (unit := grafana_unit(info.units)):
        config["unit"] = unit
    if info and info.description:
        config["description"] = info.description
    labels = {"node": series.target.node, "field": series.target.field}
    if series.label is not None and info and info.units:
        labels["units"] = info.units
    return {"name": name, "type": _TYPES[series.kind], "labels": labels, "config": config}


def time_series(ref_id: str | None, series: Sequence[Series], notices: Sequence[str]) -> list[dict[str, Any]]:
    """Return each target as ``{target, datapoints: [[value, ms], …]}``; bools are 0 and 1."""
    found = []
    for each in series:
        texts = [*notices, *([each.error] if each.error else [])]
        notices = []
        unit = grafana_unit(each.info.units) if each.info else None
        found.append(
            {
                "target": each.name,
                "datapoints": _points(each),
                "refId": ref_id,
                **({"unit": unit} if unit else {}),
                **meta(texts),
            }
        )
    if notices:
        found.append({"target": "", "datapoints": [], "refId": ref_id, **meta(notices)})
    return found


def _points(series: Series) -> NDArray[np.float64] | orjson.Fragment:
    times = milliseconds(series.t)
    if series.values.dtype.kind == "O":
        return _rows([series.values, times])
    return np.column_stack([series.values.astype(np.float64), times.astype(np.float64)])


def table(ref_id: str | None, series: Sequence[Series], notices: Sequence[str]) -> dict[str, Any]:
    """Return targets as one table, a row for each time at which one of them has a value."""
    wide = Wide(series)
    columns: list[Column] = [wide.times, *wide.columns.values()]
    described = [{"text": "Time", "type": "time"}]
    for each in series:
        unit = grafana_unit(each.info.units) if each.info else None
        column = {"text": each.name, "type": _TYPES[each.kind]}
        described.append(column | {"unit": unit} if unit else column)
    numbers = all(column.dtype.kind in "iuf" for column in columns)
    return {
        "type": "table",
        "refId": ref_id,
        "columns": described,
        "rows": np.column_stack([c.astype(np.float64) for c in columns]) if numbers else _rows(columns),
        **meta([*notices, *(each.error for each in series if each.error)]),
    }


def _rows(columns: Sequence[Column]) -> orjson.Fragment:
    """Return columns as JSON of their rows, put together from the text of each column."""
    if not len(columns[0]):
        return orjson.Fragment(b"[]")
    count, width = len(columns[0]), 2 * len(columns)
    pieces: list[bytes] = [b","] * (count * width)
    for i, column in enumerate(columns):
        pieces[2 * i :: width] = _texts(column)
    pieces[width - 1 :: width] = repeat(b"],[", count)
    pieces[-1] = b"]]"
    return orjson.Fragment(b"[[" + b"".join(pieces))


def _texts(column: Column) -> list[bytes]:
    """Return the JSON of each value."""
    if column.dtype.kind != "O":
        return json_bytes(np.ascontiguousarray(column))[1:-1].split(b",")
    written: dict[Any, bytes] = {}
    return list(_written(column, written))


def _written(column: Column, written: dict[Any, bytes]) -> Iterator[bytes]:
    # Most strings of a field occur many times.
    for value in column.tolist():
        key = (type(value), value)
        if key not in written:
            written[key] = orjson.dumps(value)
        yield written[key]
