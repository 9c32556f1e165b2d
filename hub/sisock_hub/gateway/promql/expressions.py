"""The expressions of supported queries."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from sisock_hub.gateway.promql.selection import Selection

Aggregation = Literal["sum", "avg", "min", "max"]
AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)

ARITHMETIC: dict[str, np.ufunc] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.power,
}
"""Of float64, with C's and Go's sign of a remainder."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """Series aggregated by their labels.

    Attributes
    ----------
    operation : {"sum", "avg", "min", "max"}
    of : Expression
    labels : tuple of str
    keeps : bool
        Whether the labels are kept (``by``) or removed (``without``).
    """

    operation: Aggregation
    of: "Vector"
    labels: tuple[str, ...] = ()
    keeps: bool = True


@dataclass(frozen=True, slots=True)
class Calculated:
    """Each value of series and a constant, in the order of the query; one of the two is a float."""

    operator: str
    left: "Expression"
    right: "Expression"


Vector: TypeAlias = Selection | Aggregated | Calculated
Expression: TypeAlias = float | Vector
