"""A question for samples, as it is once it has been validated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sisock.downsample import Method, method_named
from sisock.errors import BadRequest
from sisock.times import Interval, resolve
from sisock.wamp.wire import Encoding


@dataclass(frozen=True, slots=True)
class Question:
    """A validated request for samples; nobody validates it again.

    Attributes
    ----------
    fields : sequence of str
        Each once.
    interval : Interval
        Half-open, in UNIX seconds by the node's clock when the question came.
    method : Method
        See `sisock.downsample.METHODS`.
    min_stride : float
        Seconds, 0 or more.
    max_points : int or None
        Most samples that each timeline may have, 2 or more.
    encoding : {"list", "packed"}
        How the reply is sent.
    asked : tuple of (float, float, float or None)
        Start, end and min_stride as the caller gave them, for third parties' code that resolves times itself.
    """

    fields: Sequence[str]
    interval: Interval
    method: Method = "first"
    min_stride: float = 0.0
    max_points: int | None = None
    encoding: Encoding = "list"
    asked: tuple[float, float, float | None] = (1.0, 0.0, None)

    @property
    def is_published(self) -> bool:
        """Whether the published contract knows it: ``first`` by stride only."""
        return self.method == "first" and self.max_points is None

    @property
    def wants_all(self) -> bool:
        """Whether every sample is asked for."""
        return self.is_published and not self.min_stride


def validate_question(
    now: float,
    max_fields: int,
    field: Any,
    start: Any,
    end: Any,
    min_stride: Any,
    /,
    downsample: Any = "first",
    max_points: Any = None,
    encoding: Any = "list",
    **unknown: Any,
) -> Question:
    """Return the question that the arguments of a call of ``get_data`` stand for.

    Parameters
    ----------
    now : float
        UNIX seconds by the node's clock.
    max_fields : int
        Most fields that one call may ask for.
    field, start, end, min_stride, downsample, max_points, encoding
        As a client gave them.

    Raises
    ------
    BadRequest
        If an argument is unknown or invalid.
    """
    if unknown:
        raise BadRequest(f"get_data does not know {', '.join(map(repr, sorted(unknown)))}")
    if encoding not in ("list", "packed"):
        raise BadRequest(f"encoding is {encoding!r}; give list or packed")
    names = validate_fields(field, max_fields)
    interval = resolve(start, end, now)
    if min_stride is not None and not (isinstance(min_stride, int | float) and 0 <= min_stride < float("inf")):
        raise BadRequest(f"min_stride is {min_stride!r}; give seconds, 0 or more")
    method = method_named(downsample)
    if max_points is not None and not (isinstance(max_points, int) and max_points >= 2):
        raise BadRequest(f"max_points is {max_points!r}; give a whole number, 2 or more")
    return Question(names, interval, method, min_stride or 0.0, max_points, encoding, (start, end, min_stride))


def validate_fields(field: Any, most: int) -> list[str]:
    """Return the names in a request's field list, once each.

    Raises
    ------
    BadRequest
        If it is not a list of strings, or has more than `most` names.
    """
    if isinstance(field, str) or not isinstance(field, Sequence):
        raise BadRequest(f"field is {type(field).__name__}; give a list of field names")
    if len(field) > most:
        raise BadRequest(f"{len(field)} fields asked for at once; at most {most} are answered, so ask in parts")
    if invalid := [name for name in field if not isinstance(name, str)]:
        raise BadRequest(f"field names are strings, not {invalid[0]!r}")
    return list(dict.fromkeys(field))
