"""The timelines of some data as frames: one each, or joined to one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sisock.errors import BadRequest
from sisock.fields import Column, FloatArray, Quantity, Samples

if TYPE_CHECKING:
    import pandas

    from sisock.consumer.data import Data

Align = Literal["nearest", "ffill", "outer"]
# For how many intervals of its timeline a sample stands for the time around it, or after it.
_HELD = 3.0


def frame_of(pandas: Any, t: FloatArray, parts: Mapping[str, Column], units: Mapping[str, str | None]) -> Any:
    """Return a frame over UTC times; bools of which some are missing are nullable, and arrays are objects."""
    index = pandas.DatetimeIndex(datetimes(t), tz="UTC", name="time")
    columns = {label: _nullable(pandas, values) for label, values in parts.items()}
    frame = pandas.DataFrame(columns, index=index)
    frame.attrs["units"] = dict(units)
    return frame


def _nullable(pandas: Any, values: Column) -> Any:
    if values.ndim > 1:
        return list(values)
    if values.dtype.kind != "O" or not len(values):
        return values
    kinds = {type(value) for value in values.tolist()} - {type(None)}
    return pandas.array(values, dtype="boolean") if kinds == {bool} else values


def joined(data: "Data", align: Align, pandas: Any) -> "pandas.DataFrame":
    """Return all timelines as one frame.

    Parameters
    ----------
    data : Data
    align : {"nearest", "ffill", "outer"}
        See `Data.to_pandas`.
    pandas : module

    Raises
    ------
    BadRequest
        If there is no such way.
    """
    if align not in ("nearest", "ffill", "outer"):
        raise BadRequest(f"align is {align!r}; give nearest, ffill or outer")
    lines = [samples for samples in data.timelines.values() if len(samples.t)]
    if align == "nearest" or len(lines) == 1:
        times = max((samples.t for samples in lines), key=len, default=np.empty(0))
    else:
        times = np.unique(np.concatenate([np.empty(0), *(samples.t for samples in lines)]))
    columns: dict[str, Column] = {name: np.full(len(times), np.nan) for name in data if not len(data[name])}
    units = {name: data.units(name) for name in columns}
    for samples in lines:
        parts = [part for name in samples.columns for part in data.quantities(name)]
        interval = next((i.interval_s for n in samples.columns if (i := data.fields.get(n)) and i.interval_s), None)
        rows = _rows(samples, times, align, interval)
        columns |= {part.label: _taken(part, rows) for part in parts}
        units |= {part.label: part.field.units for part in parts}
    return frame_of(pandas, times, columns, units)  # type: ignore[no-any-return]


def _rows(samples: Samples, times: FloatArray, align: Align, interval: float | None) -> Any:
    """Return which sample stands at each of some times, shape (n,); -1 for none."""
    t = samples.t
    if times is t:
        return np.arange(len(t))
    before = np.searchsorted(t, times, side="right") - 1
    if align == "outer":
        return np.where((before >= 0) & (t[before] == times), before, -1)
    # Downsampled samples are farther from each other than those that were measured.
    spacing = max(interval or 0.0, float(np.median(np.diff(t))) if len(t) > 1 else 0.0)
    if align == "ffill":
        rows = np.where((before >= 0) & (times - t[before] <= _HELD * spacing), before, -1)
    else:
        after = np.minimum(before + 1, len(t) - 1)
        nearest = np.where((before < 0) | (np.abs(t[after] - times) < np.abs(times - t[before])), after, before)
        rows = np.where(np.abs(t[nearest] - times) <= _HELD * spacing / 2, nearest, -1)
    starts, ends = np.reshape(np.array(samples.gaps, np.float64), (-1, 2)).T
    first, last = np.searchsorted(times, starts, side="right"), np.searchsorted(times, ends, side="left")
    for i, j in zip(first.tolist(), last.tolist(), strict=True):
        # Samples before and after a gap do not stand for times within it.
        rows[i:j] = -1
    return rows


def _taken(part: Quantity, rows: Any) -> Column:
    """Return the values of some samples; where there is none, NaN, or None for what is not a number."""
    values, missing = part.spread(), rows < 0
    taken: Column = values[np.maximum(rows, 0)]
    if missing.any():
        is_number = values.dtype.kind in "iuf"
        taken = taken.astype(float if is_number else object)
        taken[missing] = np.nan if is_number else None
    return taken


def datetimes(t: FloatArray) -> Column:
    """Return UNIX seconds as NumPy's datetimes, to the microsecond."""
    moments: Column = np.round(t * 1e6).astype("datetime64[us]")
    return moments
