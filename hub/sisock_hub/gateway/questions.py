"""The parameters of a query in a URL: fields, interval, downsampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query

from sisock.downsample import METHODS, Method, methods_help
from sisock.errors import BadRequest
from sisock.times import FARTHEST_S, SYSTEM_CLOCK, Interval, parse_time, resolve

SEPARATOR = "::"
"""Between the names of a node and of its field."""
MOST_TARGETS = 500
"""Most fields that one request may ask for."""
MOST_POINTS = 1_000_000
"""Most samples of a timeline that one request may ask for by `max_points`."""

Downsample = Annotated[
    str,
    Query(max_length=100, description=f"How to downsample. {methods_help()}.", json_schema_extra={"enum": [*METHODS]}),
]
"""A parameter that names a downsampling method."""


@dataclass(frozen=True, slots=True)
class Question:
    """Interval and downsampling of a query.

    Attributes
    ----------
    interval : Interval
        UNIX seconds, above 0.
    min_stride : float or None
        Seconds.
    max_points : int or None
    method : Method
    """

    interval: Interval
    min_stride: float | None = None
    max_points: int | None = None
    method: Method = "minmax"

    @property
    def downsamples(self) -> bool:
        """Whether samples are to be downsampled."""
        return bool(self.min_stride or self.max_points)


def interval(start: str, end: str) -> Interval:
    """Return the interval between two times in the notations of `sisock.times.parse_time`.

    Raises
    ------
    BadRequest
        If one of them is not a time, or the end lies before the start.
    """
    for name, text in (("start", start), ("end", end)):
        if abs(parse_time(text)) > FARTHEST_S:
            raise BadRequest(f"{name} is {text}; times are in seconds, not in milliseconds or less")
    asked = resolve(parse_time(start), parse_time(end), SYSTEM_CLOCK.now())
    # On the wire 0 and less are seconds ago.
    return Interval(max(asked.start, 1e-6), max(asked.end, 1e-6))


def by_node(targets: Sequence[str]) -> dict[str, list[str]]:
    """Return the fields of targets, by node.

    Raises
    ------
    BadRequest
        If a target is not written as ``node::field``, or there are too many.
    """
    if len(targets) > MOST_TARGETS:
        raise BadRequest(f"there are {len(targets)} targets; give at most {MOST_TARGETS}")
    fields: dict[str, dict[str, None]] = {}
    for target in targets:
        node, separator, field = target.partition(SEPARATOR)
        if not node or not separator or not field:
            raise BadRequest(f"target {target!r} is not written as node{SEPARATOR}field")
        fields.setdefault(node, {})[field] = None
    return {node: list(names) for node, names in fields.items()}
