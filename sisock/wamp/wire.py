"""Columns and batches as values that every WAMP serializer carries, and back.

Lists are for anyone; packed arrays are for those who know them: ``{dtype, shape, data}``, with NumPy's type
string, little-endian. In lists, what JSON cannot carry (NaN and the infinities) is null.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sisock.dtypes import as_column
from sisock.errors import BadAnswer
from sisock.fields import Batch, Column, Field, as_batch
from sisock.serializable import as_list
from sisock.shapes import Axis

Encoding = Literal["list", "packed"]


def pack(array: Column) -> dict[str, Any] | list[Any]:
    """Return a column as a packed array; strings stay lists."""
    if array.dtype.kind not in "iufb":
        return as_list(array)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {"dtype": little.dtype.str, "shape": list(little.shape), "data": little.tobytes()}


def unpack(value: Any) -> Column:
    """Return the column that a list or a packed array stands for; null in a list of numbers is NaN.

    Raises
    ------
    BadAnswer
        If a packed array is not of its stated dtype and shape.
    """
    if not isinstance(value, np.ndarray) and isinstance(value, Mapping):
        try:
            dtype = np.dtype(value["dtype"])
            if dtype.kind not in "iufb":
                raise BadAnswer(f"a packed array has dtype {value['dtype']!r}; known are integers, floats and bools")
            return np.frombuffer(value["data"], dtype).reshape(value["shape"])
        except (KeyError, TypeError, ValueError, SyntaxError) as error:  # NumPy reads some dtypes as Python
            raise BadAnswer(f"a packed array cannot be read: {error}") from error
    return column(value)


def column(values: Any) -> Column:
    """Return a sequence of numbers, bools or strings as a column; None among numbers becomes NaN."""
    if not isinstance(values, np.ndarray):
        values = list(values)
        if values and isinstance(values[0], str) and set(map(type, values)) == {str}:
            # NumPy would make every text as wide as the longest before it takes them as objects.
            return np.array(values, object)
    array = as_column(values)
    if array.ndim > 1 and array.dtype.kind == "O":  # nested lists with null
        return array.astype(np.float64)
    if array.dtype.kind != "O" or not any(value is None for value in array):
        return array
    if all(value is None or isinstance(value, int | float | np.number) for value in array):
        return np.array([math.nan if value is None else value for value in array], np.float64)
    return array


def encode_column(array: Column, encoding: Encoding) -> dict[str, Any] | list[Any]:
    """Return a column as a list or as a packed array."""
    return pack(array) if encoding == "packed" else as_list(array)


def axis_content(axis: Axis) -> dict[str, Any]:
    """Return the coordinate of an array field as wire values."""
    return {"name": axis.name, "values": list(axis.values), "units": axis.units}


def axis_of(content: Any) -> Axis | None:
    """Return the coordinate of an array field from wire values, if there is one."""
    return Axis(str(content["name"]), tuple(content["values"]), content.get("units")) if content else None


def epoch_content(since: float, then: Field) -> dict[str, Any]:
    """Return type and units of a field from a time on, as wire values."""
    return {"from": since, "type": then.type, "units": then.units}


def epochs_of(name: str, known: Any) -> list[tuple[float, Field]]:
    """Return type and units of a field by the time from which on it had them, from wire values."""
    return [(float(each["from"]), Field(name, each["type"], each["units"])) for each in known]


def text_sizes(values: Column) -> NDArray[np.int64]:
    """Return the bytes that each text of a column takes in UTF-8, and one for what is around it."""
    texts: list[str] = values.tolist()
    if set(map(type, texts)) != {str}:
        texts = list(map(str, texts))
    if not "".join(texts).isascii():
        return np.fromiter((len(text.encode(errors="replace")) + 1 for text in texts), np.int64, len(texts))
    return np.fromiter(map(len, texts), np.int64, len(texts)) + 1


def bytes_of(columns: Iterable[Column]) -> int:
    """Return the bytes of the values of some columns; texts as in UTF-8, each with one more."""
    return sum(int(text_sizes(values).sum()) if values.dtype.kind == "O" else values.nbytes for values in columns)


def batch_size(batch: Batch) -> int:
    """Return the bytes that a batch occupies in memory; each text has 56 of its own and a reference."""
    columns = (batch.t, *batch.columns.values())
    return sum(
        values.nbytes + int(text_sizes(values).sum()) + 56 * len(values) if values.dtype.kind == "O" else values.nbytes
        for values in columns
    )


def event_of(batch: Batch, encoding: Encoding = "list") -> dict[str, Any]:
    """Return a batch as the one argument of a feed's event; what is 0 or nothing is left out."""
    more = {"gap_from": batch.gap_from, "dropped": batch.dropped, "reset": batch.reset, "since": batch.since}
    return {
        "t": encode_column(batch.t, encoding),
        "data": {name: encode_column(values, encoding) for name, values in batch.columns.items()},
        "seq": batch.seq,
        "finalized_until": batch.finalized_until,
        **{key: value for key, value in more.items() if value},
    }


def batch_of(timeline: str, event: Any) -> Batch:
    """Return the batch that a feed's event stands for.

    Raises
    ------
    BadAnswer
        If it is not of the contract.
    """
    try:
        columns = {name: unpack(values) for name, values in event["data"].items()}
        more = {key: event[key] for key in ("finalized_until", "gap_from", "dropped", "reset", "since") if key in event}
        return as_batch(timeline, unpack(event["t"]), columns, seq=int(event["seq"]), **more)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"an event of feed {timeline!r} cannot be read: {error!r}") from error
