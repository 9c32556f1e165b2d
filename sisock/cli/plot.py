"""Lines in the terminal: over time, and over the axis of an array."""

import math
import os
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from sisock.downsample import downsampled, stride_for
from sisock.fields import FloatArray
from sisock.shapes import Axis
from sisock.times import iso

_HEIGHT, _MOST_WIDTH = 15, 160
# Intervals between the ticks of an axis.
_MOST_TICKS = 6
# Points for each column of the terminal, beyond which minimum and maximum are drawn.
_POINTS = 4


def over_time(console: Console, title: str, t: FloatArray, values: FloatArray) -> None:
    """Draw finite values over their times, UNIX seconds."""
    ticks = np.linspace(t[0], t[-1], max(2, _width(console) // 28)).tolist()
    digits = 19 if ticks[-1] - ticks[0] > 5 else 23
    _draw(console, title, t, values, ticks, [iso(tick)[:digits].replace("T", " ") for tick in ticks])


def over_axis(console: Console, title: str, axis: Axis | None, values: NDArray[np.float64]) -> None:
    """Draw an array over its axis, or over the numbers of its values; values that are not finite are left out."""
    numbers = np.arange(len(values), dtype=np.float64)
    most = _POINTS * _width(console)
    kept, columns, _ = downsampled(numbers, {"": values}, stride_for(numbers, most, "minmax"), "minmax")
    along = np.asarray(axis.values) if axis else numbers
    x, y = along[kept.astype(np.intp)], columns[""]
    good = np.isfinite(y)
    scale = _scale(float(along.min()), float(along.max()))
    ticks = scale[2] if scale else [float(along[0]), float(along[-1])]
    units = f" {axis.units}" if axis and axis.units and axis.units != "1" else ""
    _draw(console, title, x[good], y[good], ticks, [label + units for label in _tick_labels(ticks)])


def _width(console: Console) -> int:
    return min(console.width, _MOST_WIDTH)


def _draw(
    console: Console, title: str, x: FloatArray, values: FloatArray, ticks: list[float], labels: Sequence[str]
) -> None:
    import plotext

    colours = console.is_terminal and not os.environ.get("NO_COLOR")
    plotext.clear_figure()
    plotext.plotsize(_width(console), _HEIGHT)
    plotext.theme("pro" if colours else "clear")
    plotext.title(title)
    plotext.plot(x.tolist(), values.tolist(), marker="braille")
    if (scale := _scale(float(values.min()), float(values.max()))) is not None:
        low, high, heights = scale
        plotext.ylim(low, high)
        plotext.yticks(heights, _tick_labels(heights))
    plotext.xticks(ticks, labels)
    drawn = plotext.build().rstrip("\n")
    console.out(drawn if colours else plotext.uncolorize(drawn), highlight=False)


def _scale(low: float, high: float) -> tuple[float, float, list[float]] | None:
    """Return the ends of an axis and its ticks at round numbers; None if floats are too coarse for them.

    A constant is in the middle of an axis that is 1 % of it to both sides.
    """
    if low == high:
        around = abs(low) * 0.01 or 1.0
        low, high = low - around, high + around
    apart = (high - low) / _MOST_TICKS
    if not (math.isfinite(high - low) and apart > max(abs(low), abs(high)) * 1e-14 and apart > sys.float_info.min):
        return None
    power = 10.0 ** math.floor(math.log10(apart))
    step = next(each * power for each in (1.0, 2.0, 5.0, 10.0) if each * power >= apart * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return low, high, [i * step for i in range(first, last + 1)]


def _tick_labels(ticks: Sequence[float]) -> list[str]:
    """Return numbers with enough digits to distinguish them, at least six."""
    digits = 6
    while digits < 17 and len({f"{tick:.{digits}g}" for tick in ticks}) < len(ticks):
        digits += 1
    return [f"{tick:.{digits}g}" for tick in ticks]
