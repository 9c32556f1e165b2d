"""Samples put onto even times, which all timelines share then."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sisock.consumer.info import FieldInfo
from sisock.errors import BadRequest
from sisock.fields import Column, Field

if TYPE_CHECKING:
    from sisock.consumer.data import Data

How = Literal["mean", "min", "max", "first", "last"]


def _mean(values: Column, starts: Any) -> Column:
    known = ~np.isnan(values)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    totals = np.add.reduceat(np.where(known, values, 0.0), starts)
    means: Column = np.divide(totals, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means


_NUMBERS: Mapping[str, Callable[[Column, Any], Column]] = {
    "mean": _mean,
    "min": np.fmin.reduceat,
    "max": np.fmax.reduceat,
}


def resampled(data: "Data", every: float, how: How) -> "Data":
    """Return the samples of each bin as one; see `Data.resample`.

    Parameters
    ----------
    data : Data
    every : float
        Seconds.
    how : {"mean", "min", "max", "first", "last"}

    Raises
    ------
    BadRequest
        If there is no such way.
    """
    if how not in (*_NUMBERS, "first", "last"):
        raise BadRequest(f"how is {how!r}; give mean, min, max, first or last")
    timelines = {}
    empty = [name for name in data if not len(data[name])]
    fields = {name: data.fields[name] for name in empty if name in data.fields}
    for name, samples in data.timelines.items():
        # A field whose units changed is one for each of them, as they have no mean together.
        parts = [part for field in samples.columns for part in data.quantities(field)]
        bins = np.floor(samples.t / every)
        starts = np.flatnonzero(np.diff(bins, prepend=-np.inf))
        ends = np.append(starts[1:], len(bins))[: len(starts)] - 1
        columns = {part.label: _binned(part.spread(), starts, ends, how) for part in parts}
        units = {part.label: part.field.units for part in parts}
        timelines[name] = replace(
            samples, t=bins[starts] * every, columns=columns, units=units, epochs={}, downsample=None
        )
        fields |= {part.label: _described(data, part.label, part.field, every) for part in parts}
    return type(data)(data.node, timelines, empty, fields)


def _binned(values: Column, starts: Any, ends: Any, how: How) -> Column:
    if how in ("first", "last") or values.dtype.kind not in "iuf" or not len(starts):
        kept: Column = values[starts if how == "first" else ends]
        return kept
    return _NUMBERS[how](values.astype(np.float64, copy=False), starts)


def _described(data: "Data", label: str, field: Field, every: float) -> Any:
    info = data.fields.get(field.name)
    if info is None:
        return FieldInfo(label, field.type, field.units, field.description, "", every)
    return replace(info, name=label, type=field.type, units=field.units, interval_s=every, epochs=())
