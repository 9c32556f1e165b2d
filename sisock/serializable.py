"""Values as WAMP's serializers carry them."""

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from sisock.errors import BadRequest
from sisock.jsontext import as_text

_PLAIN = frozenset((str, int, bool, type(None), bytes))


def as_list(array: "np.ndarray[Any, Any]") -> list[Any]:
    """Return a column as plain values, None for what is not finite."""
    # Counting is quicker than `all`, which matters to the many small batches of feeds.
    if array.dtype.kind == "f" and np.count_nonzero(np.isfinite(array)) < array.size:
        boxed = array.astype(object)
        boxed[~np.isfinite(array)] = None
        return boxed.tolist()  # type: ignore[no-any-return]
    return array.tolist()  # type: ignore[no-any-return]


def to_serializable(value: Any) -> Any:  # noqa: PLR0911 - a case for each kind
    """Return `value` with NumPy's arrays and scalars replaced by what serializers know."""
    # By exact type first: every answer of every node passes here, and checks against abstract classes are slow.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is dict:
        return {
            key if type(key) is str else str(key): item if type(item) in _PLAIN else to_serializable(item)
            for key, item in value.items()
        }
    if isinstance(value, Mapping):
        return to_serializable(dict(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [to_serializable(item) for item in value]
    if isinstance(value, np.ndarray):
        return to_serializable(as_list(value))
    if isinstance(value, np.generic):
        return to_serializable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def serializable_copy(value: Any) -> tuple[Any, int]:
    """Return a value as serializers know it, which nobody else can change, and its bytes in a message.

    Raises
    ------
    BadRequest
        If no message can carry it: it contains itself, or something else than numbers (integers of at most 64 bits),
        flags, texts, bytes, lists, and objects of these.
    """
    try:
        plain = to_serializable(value)
        return plain, len(msgpack.packb(plain))
    except RecursionError as error:
        raise BadRequest("it contains itself, or is nested too deeply; give a value that ends") from error
    except Exception as error:  # the packer's, and those of whoever made the value
        raise BadRequest(
            f"it cannot be sent: {as_text(error)}; give numbers (integers of at most 64 bits), flags, texts, lists, "
            "and objects of these"
        ) from error
