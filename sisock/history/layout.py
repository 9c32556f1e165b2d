"""Where in the file of an open segment what is, and what its commit records and words say."""

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Column, Field

FORMAT = 2
MAGIC = b"sisocksg"
BLOCK = 1 << 16
"""Rows of a block; each column's part of it has a checksum."""
PAGE = 4096
HEAD = struct.Struct("<8sIIII")  # magic, format, length of the description, its CRC-32, zero
COMMIT = struct.Struct("<Qd")  # rows, finalized_until; then a running CRC-32 per column, then one of the record
CODES = "<i4"
# Of the columns, the one that has the times.
TIMES = -1


class NewerFormat(BadHistory):
    """A file of a format that a later version of sisock has written; it is left as it is."""

    name = "newer_format"


class Unreadable(BadHistory):
    """A file that the disk does not read at present; its contents may be intact."""

    name = "unreadable"
    retriable = True


class PartlyWritten(BadHistory):
    """Only the first `rows` samples could be written."""

    name = "partly_written"

    def __init__(self, message: str, rows: int = 0) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True)
class Layout:
    """Where in the file of a segment what is.

    Attributes
    ----------
    timeline : str
    fields : tuple of Field
    dtypes : tuple of str
        NumPy's type string of each field's values, little-endian; of strings, that of their codes.
    capacity : int
        Most rows.
    number : int or None
        Of the segment; None in format 1.
    """

    timeline: str
    fields: tuple[Field, ...]
    dtypes: tuple[str, ...]
    capacity: int
    number: int | None = None

    @cached_property
    def description(self) -> bytes:
        """The description in the file."""
        fields = [
            {"name": f.name, "type": f.type, "units": f.units, "description": f.description, "dtype": dtype}
            for f, dtype in zip(self.fields, self.dtypes, strict=True)
        ]
        about = {"timeline": self.timeline, "capacity": self.capacity, "fields": fields}
        return json.dumps(about if self.number is None else {**about, "number": self.number}).encode()

    @cached_property
    def records(self) -> int:
        """Where the commit records begin: two that are written in turns, then the newest known to be on the disk."""
        return _aligned(HEAD.size + len(self.description), 64)

    @cached_property
    def record_size(self) -> int:
        """Bytes of a commit record."""
        return COMMIT.size + 4 * (len(self.fields) + 1) + 4

    @cached_property
    def checksums(self) -> int:
        """Where the table of the whole blocks' checksums begins: a CRC-32 per block and column, times last."""
        return _aligned(self.records + 3 * self.record_size, 64)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each column begins, times last."""
        blocks = -(-self.capacity // BLOCK)
        offsets = [_aligned(self.checksums + 4 * blocks * (len(self.fields) + 1), PAGE)]
        for dtype in self.dtypes:
            offsets.append(_aligned(offsets[-1] + self.capacity * np.dtype(dtype).itemsize, 64))
        return tuple(offsets)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.offsets[-1] + 8 * self.capacity

    def belongs_to(self, timeline: str, number: int) -> bool:
        """Whether this is the segment of that number; of format 1 only the timeline is known."""
        return self.timeline == timeline and self.number in (None, number)

    @classmethod
    def of(cls, description: bytes) -> "Layout":
        """Return the layout that a file's description stands for."""
        about = json.loads(description)
        fields = tuple(Field(f["name"], f["type"], f["units"], f["description"]) for f in about["fields"])
        dtypes = tuple(f["dtype"] for f in about["fields"])
        return cls(about["timeline"], fields, dtypes, about["capacity"], about.get("number"))


def row_size(dtypes: Sequence[str]) -> int:
    """Return the bytes of a row whose values have these types, its time included."""
    return 8 + sum(np.dtype(dtype).itemsize for dtype in dtypes)


def _aligned(at: int, step: int) -> int:
    return -(-at // step) * step


def stored_dtype(field: Field, values: Column) -> str:
    """Return how the values of a field are stored."""
    if field.type == "string":
        return CODES
    # Half and extended precision are known to few readers.
    dtype = np.dtype(np.float64) if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8) else values.dtype
    return dtype.newbyteorder("<").str


@dataclass(frozen=True, slots=True)
class Commit:
    """The content of a commit record."""

    rows: int
    finalized_until: float
    running: tuple[int, ...]
    """CRC-32 of each column's part in the last block, which is not whole, times last."""

    @classmethod
    def of(cls, record: bytes, layout: Layout) -> "Commit | None":
        """Return the content of a record of a segment; None if it is not whole."""
        if len(record) != layout.record_size or zlib.crc32(record[:-4]) != int.from_bytes(record[-4:], "little"):
            return None
        rows, final = COMMIT.unpack_from(record)
        if rows > layout.capacity:
            return None
        return cls(rows, final, struct.unpack_from(f"<{len(layout.fields) + 1}I", record, COMMIT.size))


def words_path(path: Path) -> Path:
    """Return the file of a segment's words: a line of JSON ``[column, code, word]`` and its checksum for each."""
    return path.with_suffix(".words")


def words_number(path: Path, numbers: Iterable[int]) -> int | None:
    """Return the one of some segments that the words in a file belong to; None if no line is whole."""
    with path.open("rb") as file:
        for line in file:
            for number in numbers:
                if line[-10:] == words_checksum(line[:-10], number):
                    return number
    return None


def words_checksum(line: bytes, number: int) -> bytes:
    """Return how a line of words ends; of no two segments alike."""
    return b" %08x\n" % zlib.crc32(line, number)
