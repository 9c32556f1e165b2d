"""Segments and resets, as a manifest lists them."""

from dataclasses import dataclass
from typing import Literal

from sisock.fields import Field

State = Literal["open", "sealed"]
Level = tuple[int, int]
"""A level of a pyramid: the width of its bins in seconds, as a power of two, and its checksum."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A segment, as the manifest knows it.

    Attributes
    ----------
    id : int
        Also the name of its files; a later segment has a greater one.
    state : {"open", "sealed"}
    fields : tuple of Field
        As they were when it was written.
    first, last : float or None
        Times of its first and last sample; None while it is open.
    rows, bytes : int
    levels : tuple of Level
        Of its pyramid, from fine to coarse.
    extra : str
        Of an open one, the description of its layout, as the file has it; of a sealed one, the CRC-32 of its footer
        in hexadecimal, empty when it is not known.
    """

    id: int
    state: State
    fields: tuple[Field, ...]
    first: float | None
    last: float | None
    rows: int
    bytes: int
    levels: tuple[Level, ...] = ()
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """A watermark that went back.

    Attributes
    ----------
    number : int
        Counts the resets of a timeline, from 1 on.
    finalized_until : float
        Where the watermark went, UNIX seconds.
    removed_from : float
        From when on samples were quarantined, UNIX seconds; infinity if none were.
    """

    number: int
    finalized_until: float
    removed_from: float
