"""Any value as JSON, for records and events: nothing is refused, secrets are redacted, and large values truncated."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

# Bytes of an array beyond which only its ends are written.
_LARGE_ARRAY = 64 << 10
_DEEPEST = 5
# Characters of a value that is kept whole, and of the start of one that is not.
_LONGEST, _SHOWN = 64 << 10, 1000
# Levels of nesting of JSON, and integers, that every serializer carries.
_MOST_LEVELS = 100
_SMALLEST_INT, _LARGEST_INT = -(1 << 63), (1 << 64) - 1
# Digits of an integer that may have more than 64 bits.
_MANY_DIGITS = re.compile(r"\d{19}")


class Encoded(str):
    """JSON, rather than a text of which it is to be made."""

    __slots__ = ()


def as_json(value: Any, depth: int = 0) -> Encoded:
    """Return a value as JSON, with NaN and infinities; never raises.

    Values of NumPy and pydantic are read, without their secrets; other values that JSON lacks become texts, and so do
    keys. Lone surrogates become question marks, integers of more than 64 bits texts, and what is nested more than a
    hundred levels deep is truncated and marked, so that every message can carry the value.
    """
    if type(value) is Encoded:
        return value
    try:
        text = _ENCODER.encode(value)
    except Exception:  # noqa: BLE001 - the code of whoever made the value, or a value that contains itself
        text = _ENCODER.encode(_without_unreadable(value, depth))
    text = as_encodable(text)
    if text.count("[") + text.count("{") > _MOST_LEVELS or _MANY_DIGITS.search(text):
        text = _as_carried(text)
    return Encoded(text)


def _as_carried(text: str) -> str:
    """Return JSON that every serializer carries."""
    try:
        return _ENCODER.encode(_carried(json.loads(text), _MOST_LEVELS))
    except (RecursionError, ValueError):  # ValueError: more digits of an integer than Python reads
        return _ENCODER.encode(truncated(text, len(text)))


def _carried(value: Any, levels: int) -> Any:
    """Return a value of JSON as one that every serializer carries."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if _SMALLEST_INT <= value <= _LARGEST_INT else str(value)
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return truncated(text := as_text(value), len(text))
    if isinstance(value, dict):
        return {key: _carried(item, levels - 1) for key, item in value.items()}
    return [_carried(item, levels - 1) for item in value]


def _without_unreadable(value: Any, depth: int) -> Any:
    """Return a value with texts for its parts that have no JSON."""
    try:
        if isinstance(value, BaseModel):
            value = dict(value)
        if isinstance(value, Mapping) and depth < _DEEPEST:
            return {as_text(key): json.loads(as_json(item, depth + 1)) for key, item in value.items()}
    except Exception:  # noqa: BLE001 - as above
        return as_text(value)
    return as_text(value)


def dumped(model: BaseModel) -> Any:
    """Return a model as values of JSON, with secrets redacted; never raises."""
    try:
        return model.model_dump(mode="json")
    except Exception:  # noqa: BLE001 - bytes that are not UTF-8, and the code of whoever wrote the model
        return json.loads(as_json(model))


def as_encodable(text: str) -> str:
    """Return a text that can be encoded: a lone surrogate becomes a question mark."""
    return text if text.isascii() or text.isprintable() else text.encode(errors="replace").decode()


def as_text(value: object) -> str:
    """Return a value as text, whatever it raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the code of whoever made the value
        return f"<{type(value).__name__}>"


def truncated(text: str, size: int) -> dict[str, Any]:
    """Return the value that is kept in place of one that is too large.

    Parameters
    ----------
    text : str
        The value as text, or as JSON.
    size : int
        Its bytes, about.
    """
    return {"truncated": True, "bytes": size, "start": text[:_SHOWN]}


def recorded(value: Any, depth: int = 0) -> Any:
    """Return a value as records keep it: above 64 KiB it is truncated and marked; never raises."""
    size = size_of(value)
    if size > _LONGEST and type(value) is dict and depth < _DEEPEST:
        value = {key: recorded(item, depth + 1) for key, item in value.items()}
        size = size_of(value)
    if size <= _LONGEST:
        return value
    return truncated(value if isinstance(value, str) else as_json(value), size)


def size_of(value: Any) -> int:
    """Return about how many bytes a value has in a message; never raises."""
    if value is None or isinstance(value, bool | int | float):
        return 8
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    try:
        return len(_SIZER.encode(value))
    except Exception:  # noqa: BLE001 - the code of whoever made the value, or a value that contains itself
        return len(as_json(value))


def _as_large(value: Any) -> Any:
    """Return a value that JSON lacks as one that it has and that is about as large."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def _as_plain(value: Any) -> Any:
    """Return a value that JSON lacks as one that it has."""
    if isinstance(value, np.ndarray) and value.nbytes > _LARGE_ARRAY:
        return {"truncated": True, "bytes": value.nbytes, "start": str(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, BaseModel):
        return dict(value)  # so that its secrets stay secrets
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return list(value)
    return as_text(value)


_SIZER = json.JSONEncoder(default=_as_large, skipkeys=True)
_ENCODER = json.JSONEncoder(default=_as_plain, ensure_ascii=False)
