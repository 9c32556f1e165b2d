"""The axes of `sisock get --plot`: round ticks, and a constant in the middle."""

import io

import numpy as np
import pytest
from rich.console import Console

from sisock.cli import show
from sisock.consumer.data import Data
from sisock.consumer.info import FieldInfo
from sisock.fields import Samples


def drawn(values):
    """Return the labels of the axis of values, from the top down, and the lines of the plot."""
    t = 1_772_366_400.0 + np.arange(float(len(values)))
    info = FieldInfo("x", "number", None, None, "tl", None)
    out = io.StringIO()
    show.as_plot(
        Console(file=out, width=80), Data("rig", {"tl": Samples(t, {"x": np.array(values)}, None)}, [], {"x": info})
    )
    lines = [line for line in out.getvalue().splitlines() if "┤" in line or "│" in line]
    return [line.partition("┤")[0].strip() for line in lines if "┤" in line], lines


def test_constant_is_in_the_middle_of_a_small_range():
    ticks, lines = drawn([2793.5] * 20)
    assert ticks == ["2820", "2810", "2800", "2790", "2780", "2770"]
    (at,) = [i for i, line in enumerate(lines) if any("\u2801" <= c <= "\u28ff" for c in line)]
    assert abs(at - (len(lines) - 1) / 2) <= 1


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 100.0], ["100", "80", "60", "40", "20", "0"]),
        ([-3.7, 4.9], ["4", "2", "0", "-2"]),
        ([0.0, 0.0], ["1", "0.5", "0", "-0.5", "-1"]),
        ([1e9, 1e9 + 0.6], ["1000000000.6", "1000000000.5", "1000000000.4", "1000000000.3", "1000000000.2"]),
    ],
)
def test_ticks_are_round(values, ticks):
    found = drawn(values)[0]
    assert found[: len(ticks)] == ticks


@pytest.mark.parametrize("values", [[5e-324, 5e-324], [1.0, np.nextafter(1.0, 2.0)]])
def test_values_that_floats_hardly_tell_apart_are_drawn(values):
    assert len(drawn(values)[1]) > 5
