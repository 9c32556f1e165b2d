"""Plots by matplotlib: one panel for each units, lines that break where the source was silent."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sisock.consumer.align import datetimes
from sisock.errors import BadRequest, MissingExtra
from sisock.fields import Column, FloatArray, Quantity, Samples

if TYPE_CHECKING:
    from sisock.consumer.data import Data


def plotted(data: "Data", ax: Any = None, **options: Any) -> Any:
    """Draw the numbers and bools of some data; see `Data.plot`."""
    try:
        from matplotlib import dates, pyplot
    except ImportError as error:
        raise MissingExtra("matplotlib is not installed; run: pip install 'sisock[plot]'") from error

    panels: dict[str, list[tuple[Samples, Quantity]]] = {}
    for samples in data.timelines.values():
        for part in (part for name in samples.columns for part in data.quantities(name)):
            if part.values.ndim == 1 and (part.field.type == "bool" or part.values.dtype.kind in "iufb"):
                units = "true or false" if part.field.type == "bool" else part.field.units or ""
                panels.setdefault("" if units == "1" else units, []).append((samples, part))
    if not panels:
        raise BadRequest(f"there is nothing to plot: no numbers or bools among {', '.join(data) or 'no fields'}")
    if ax is not None:
        axes = np.atleast_1d(ax)
        if len(axes) != len(panels):
            raise BadRequest(f"{len(panels)} axes are needed, one for each units, and {len(axes)} were given")
    else:
        size = (8.0, 1.0 + 2.5 * len(panels))
        _, axes = pyplot.subplots(len(panels), 1, sharex=True, squeeze=False, figsize=size, layout="constrained")
        axes = axes[:, 0]
    for each, (units, lines) in zip(axes, panels.items(), strict=True):
        for samples, part in lines:
            t, values = _broken(samples, part)
            style = "steps-post" if part.field.type == "bool" else "default"
            marker = "." if len(t) == 1 else None
            each.plot(datetimes(t), values, label=part.label, drawstyle=style, **{"marker": marker, **options})
        each.set_ylabel(units)
        each.legend(loc="best")
        each.xaxis.set_major_formatter(dates.ConciseDateFormatter(each.xaxis.get_major_locator()))
    axes[-1].set_xlabel("UTC")
    axes[0].set_title(data.node)
    return axes[0] if len(axes) == 1 and np.ndim(ax) == 0 else axes


def _broken(samples: Samples, part: Quantity) -> tuple[FloatArray, Column]:
    """Return times and values with a NaN within each gap, where the line breaks."""
    t, values = samples.t[part.rows], part.values.astype(np.float64)
    middles = np.array([(start + end) / 2 for start, end in samples.gaps])
    if not len(middles):
        return t, values
    at = np.searchsorted(t, middles)
    return np.insert(t, at, middles), np.insert(values, at, np.nan)
