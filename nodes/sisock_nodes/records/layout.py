"""Records of a fixed layout in bytes: Python's struct formats, and HBM's Catman."""

import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadRequest
from sisock.fields import Column, FieldType
from sisock.metrics import Counters
from sisock_nodes.records.texts import as_text

_ITEM = re.compile(r"\s*(\d*)([xcbB?hHiIlLqQnNefdsp])")
_INTEGERS, _FLOATS, _TEXTS = "bBhHiIlLqQnN", "efd", "csp"
# Catman's header: the number of the device, how many channels follow, a counter.
CATMAN_HEADER = np.dtype([("id", "<u2"), ("channels", "<u2"), ("counter", "<u4")])


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a record.

    Attributes
    ----------
    name : str
    code : str
        Its character in the struct format.
    offset : int
        Bytes from the beginning of the record.
    dtype : numpy.dtype
        As it lies there.
    """

    name: str
    code: str
    offset: int
    dtype: np.dtype[Any]

    @property
    def type(self) -> FieldType:
        """The type of the field that it becomes."""
        return "bool" if self.code == "?" else "string" if self.code in _TEXTS else "number"


class Layout:
    """How a record lies in bytes.

    Parameters
    ----------
    values : sequence of Value
    size : int
        Bytes of a record.
    header : numpy.dtype, optional
        What lies before the values.
    """

    def __init__(self, values: Sequence[Value], size: int, header: np.dtype[Any] | None = None) -> None:
        self.values, self.size = tuple(values), size
        names = [*(header.names or () if header else ()), *(f"value {i}" for i in range(len(values)))]
        formats = [*([header[name] for name in header.names or ()] if header else ()), *(v.dtype for v in values)]
        offsets = [*([header.fields[n][1] for n in header.names or ()] if header and header.fields else ())]
        offsets += [value.offset for value in values]
        self.dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
        """Of a record; values are called ``value 0``, ``value 1`` and so on."""

    def records(self, data: bytes | NDArray[np.uint8]) -> NDArray[Any]:
        """Return the records in some bytes, whose number is a multiple of `size`: structured array, shape (n,)."""
        return np.frombuffer(data, self.dtype)

    def column(self, records: NDArray[Any], index: int, counters: Counters | None = None) -> Column:
        """Return the values at an index of each record, in their own type: ndarray, shape (n,).

        Texts are read as `as_text` reads them; their ``bad_bytes`` are counted where there are counters.
        """
        value, raw = self.values[index], records[f"value {index}"]
        if value.code == "?":
            return np.asarray(raw != 0)
        if value.type == "string":
            texts = raw.tolist()
            if value.code == "p":  # Pascal's: its length comes first, and NULs at its end are lost in NumPy's bytes
                most = value.dtype.itemsize - 1
                texts = [text[1 : 1 + text[0]].ljust(min(text[0], most), b"\0") if text else b"" for text in texts]
            read = [as_text(text) for text in texts]
            if counters is not None and (bad := sum(n for _, n in read)):
                counters.add("bad_bytes", bad)
            return np.array([text for text, _ in read], object)
        return np.asarray(raw.astype(value.dtype.newbyteorder("=")))


def struct_layout(byte_format: str, names: Sequence[str]) -> Layout:
    """Return the layout of records in a format of Python's ``struct``.

    Parameters
    ----------
    byte_format : str
        Begins with its byte order, one of ``<>!=@``; a repeat count stands for that many values.
    names : sequence of str
        Of all values, in order of their bytes.

    Raises
    ------
    BadRequest
        If the format cannot be used, or has another number of values than there are names.

    References
    ----------
    https://docs.python.org/3/library/struct.html#format-strings
    """
    order = byte_format[:1]
    if order not in "<>!=@" or not order:
        raise BadRequest(f"byte_format {byte_format!r} has no byte order; put < (little endian) or > (big) before it")
    at, items = 1, []
    while at < len(byte_format.rstrip()):
        match = _ITEM.match(byte_format, at)
        if match is None:
            rest = byte_format[at:].strip()
            wrong = rest.lstrip("0123456789")[:1] or rest
            raise BadRequest(f"byte_format {byte_format!r} has {wrong!r}, which is not the type of a value")
        items.append((match.start(), match[1], match[2]))
        at = match.end()
    try:
        size = struct.calcsize(byte_format)
        # Counted before they are made, since a format of a few letters may stand for any number of them.
        _check_names(sum(_number(count, code) for _, count, code in items), names, f"byte_format {byte_format!r}")
        values = [value for start, count, code in items for value in _values(byte_format[:start], order, count, code)]
    except struct.error as error:
        raise BadRequest(f"byte_format {byte_format!r} cannot be used: {error}") from error
    return Layout([Value(name, *value) for name, value in zip(names, values, strict=True)], size)


def catman_layout(names: Sequence[str], *, single: bool = False) -> Layout:
    """Return the layout of records as HBM's Catman sends them by UDP: ``<HHI`` and the channels.

    Parameters
    ----------
    names : sequence of str
        Of the channels.
    single : bool
        Whether they are float32; otherwise float64.
    """
    dtype, code = (np.dtype("<f4"), "f") if single else (np.dtype("<f8"), "d")
    first = CATMAN_HEADER.itemsize
    values = [Value(name, code, first + i * dtype.itemsize, dtype) for i, name in enumerate(names)]
    _check_names(len(names), names, "a Catman record")
    return Layout(values, first + len(names) * dtype.itemsize, CATMAN_HEADER)


def _number(count: str, code: str) -> int:
    """Return how many values an item of a format stands for."""
    n = int(count or 1)
    return 0 if code == "x" else min(n, 1) if code in "sp" else n


def _values(before: str, order: str, count: str, code: str) -> list[tuple[str, int, np.dtype[Any]]]:
    """Return code, offset and dtype of the values that an item of a format stands for."""
    n = _number(count, code)
    if not n:
        return []
    # With a count of 0 an item only aligns.
    first = struct.calcsize(f"{before}0{code}")
    if code in "sp":
        return [(code, first, np.dtype(f"S{int(count or 1)}"))]
    size = struct.calcsize(order + code)
    little = "=" if order in "=@" else ">" if order in ">!" else "<"
    kind = "u" if code in "?BHILQN" else "i" if code in _INTEGERS else "f" if code in _FLOATS else "S"
    return [(code, first + i * size, np.dtype(f"{little}{kind}{size}")) for i in range(n)]


def _check_names(values: int, names: Sequence[str], what: str) -> None:
    if values != len(names):
        raise BadRequest(f"{what} has {values} values, input_names has {len(names)} names; give one for each")
    if not values:
        raise BadRequest(f"{what} has no values; give at least one")
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise BadRequest(f"input_names has {', '.join(map(repr, twice))} more than once")
    if "" in names:
        raise BadRequest("input_names has an empty name")
