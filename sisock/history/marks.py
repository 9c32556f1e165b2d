"""The newest commit record of a timeline, in a file of its own, so that it outlives the segment."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

_MARK = struct.Struct("<8sQQdd")  # magic, segment, length of its commit record, times of its oldest and newest row
_MAGIC = b"sisockmk"


@dataclass(frozen=True, slots=True)
class Mark:
    """The newest commit record of an open segment.

    Attributes
    ----------
    number : int
        Of the segment.
    record : bytes
    first, last : float
        Times of its oldest and newest row.
    """

    number: int
    record: bytes
    first: float
    last: float

    def packed(self) -> bytes:
        """Return the content of the file."""
        data = _MARK.pack(_MAGIC, self.number, len(self.record), self.first, self.last) + self.record
        return data + zlib.crc32(data).to_bytes(4, "little")


def marks_path(folder: Path) -> Path:
    """Return the file of a timeline's mark."""
    return folder / "marks"


def read_mark(folder: Path) -> Mark | None:
    """Return the mark of a timeline; None if it is damaged or missing."""
    try:
        data = marks_path(folder).read_bytes()
        magic, number, length, first, last = _MARK.unpack_from(data)
    except (OSError, struct.error):
        return None
    end = _MARK.size + length
    checksum = int.from_bytes(data[end : end + 4], "little")
    if magic != _MAGIC or len(data) < end + 4 or zlib.crc32(data[:end]) != checksum:
        return None
    return Mark(number, data[_MARK.size : end], first, last)
