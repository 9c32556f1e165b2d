"""Several targets over one column of times, as JSON columns and as CSV."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from sisock.fields import Column
from sisock_hub.gateway.encoding import json_bytes
from sisock_hub.gateway.grafana.series import Series

Times = Literal["ms", "iso"]
"""Format of times: whole milliseconds since 1970, or ISO 8601 to the millisecond, in UTC."""

# Bits of the number that distinguishes samples of one timeline within the same millisecond.
_NUMBER_BITS = 20


class Wide:
    """A table of targets: a row for each time at which one of them has a value, in order of time.

    Parameters
    ----------
    series : sequence of Series

    Attributes
    ----------
    times : ndarray of int64, shape (n,)
        Milliseconds since 1970.
    columns : dict of str to ndarray, each of shape (n,)
        Where a target has no value, numbers are NaN and others None.
    """

    def __init__(self, series: Sequence[Series]) -> None:
        keys = {id(each.t): _keys(each.t) for each in series}
        everything = np.unique(np.concatenate(list(keys.values()))) if keys else np.empty(0, np.int64)
        self.times: NDArray[np.int64] = everything >> _NUMBER_BITS
        self.columns: dict[str, Column] = {each.name: _spread(each, keys[id(each.t)], everything) for each in series}

    def json(self, times: Times) -> bytes:
        """Return ``{"time": […], "node::field": […], …}``."""
        return json_bytes({"time": self._written(times), **self.columns})

    def csv(self, times: Times) -> bytes:
        """Return CSV with a header; where a target has no value, the cell is empty."""
        moments = self._written(times)
        if times == "iso":
            moments = np.char.add(np.datetime_as_string(moments, unit="ms"), "Z").astype(object)
        arrays = [pyarrow.array(moments), *(_arrow(column) for column in self.columns.values())]
        sink = pyarrow.BufferOutputStream()
        arrow_csv.write_csv(pyarrow.Table.from_arrays(arrays, ["time", *self.columns]), sink)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    def _written(self, times: Times) -> NDArray[Any]:
        return self.times if times == "ms" else self.times.astype("datetime64[ms]")


def _keys(t: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each sample its millisecond and, below that, its number within the millisecond."""
    moments = np.round(t * 1000.0).astype(np.int64)
    if np.any(np.diff(moments) < 0):
        moments = np.sort(moments)
    numbers = np.arange(len(moments)) - np.searchsorted(moments, moments, side="left")
    keys: NDArray[np.int64] = (moments << _NUMBER_BITS) + numbers
    return keys


def _spread(series: Series, keys: NDArray[np.int64], everything: NDArray[np.int64]) -> Column:
    """Return the values of a target at all times."""
    values = series.values[np.argsort(series.t, kind="stable")] if np.any(np.diff(series.t) < 0) else series.values
    if len(keys) == len(everything):
        return values
    number = series.kind == "number"
    column = np.full(len(everything), np.nan if number else None, np.float64 if number else object)
    column[np.searchsorted(everything, keys)] = values
    return column


def _arrow(column: Column) -> pyarrow.Array:
    if column.dtype.kind == "O":
        kinds = {type(value) for value in column.tolist()} - {type(None)}
        if kinds - {bool}:  # strings, or several types
            return pyarrow.array([None if v is None else str(v) for v in column.tolist()], pyarrow.string())
        return pyarrow.array(column.tolist(), pyarrow.bool_())
    if column.dtype.kind == "f":
        column = np.where(np.isfinite(column), column, np.nan)
    return pyarrow.array(np.ascontiguousarray(column), from_pandas=True)
