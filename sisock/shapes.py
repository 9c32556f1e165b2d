"""The names of fields, the shape of those whose samples are arrays of numbers, and the coordinate along them."""

import math
from dataclasses import dataclass

from sisock.errors import BadRequest

MOST_VALUES = 10**6
"""Values that one sample of a field has at the most."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The coordinate of the last dimension of an array field, such as the frequencies of a spectrum.

    Attributes
    ----------
    name : str
    values : tuple of float
        One for each place of that dimension; anything that `tuple` takes may be given.
    units : str or None
    """

    name: str
    values: tuple[float, ...]
    units: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(map(float, self.values)))
        check_name("axis of a field", self.name)
        if not all(map(math.isfinite, self.values)):
            raise BadRequest(f"axis {self.name!r} has values that are not finite")


def checked_shape(field: str, shape: object, axis: Axis | None) -> tuple[int, ...]:
    """Return the shape of a field as a tuple.

    Raises
    ------
    BadRequest
        If it is not one or two lengths above 0, with at most `MOST_VALUES` values, or does not fit the axis.
    """
    lengths = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if len(lengths) > 2 or not all(type(n) is int and n > 0 for n in lengths) or math.prod(lengths) > MOST_VALUES:
        raise BadRequest(
            f"field {field!r} has shape {shape!r}; give (n,) or (n, m), with 1 to {MOST_VALUES} values in all"
        )
    if axis is not None and (not lengths or len(axis.values) != lengths[-1]):
        raise BadRequest(f"axis {axis.name!r} of field {field!r} has {len(axis.values)} values; its shape is {lengths}")
    return lengths


def check_name(what: str, name: str) -> None:
    """Raise BadRequest if a name is empty or cannot be encoded."""
    if not name:
        raise BadRequest(f"a {what} needs a name")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name!r} is not a valid name for a {what}: it contains a lone surrogate") from error
