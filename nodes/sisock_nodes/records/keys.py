"""Names for the values that distinguish samples: sensors in a column of a table, devices in the messages of a topic."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from sisock.metrics import Counters
from sisock.outage import LimitedLog
from sisock.settings import Settings

Reader = TypeVar("Reader")
log = logging.getLogger(__name__)

# A name has parts between dots; control characters do not belong in names.
_UNSAFE = re.compile(r"[^\w +\-/()\[\]%°µ#@:,=~]")
_LONGEST = 100


def key_name(values: Sequence[str]) -> str:
    """Return the name of a key: its values, joined with dots.

    Control characters, dots and other characters that names should not have become ``_``; a value that was changed by
    that, or cut at 100 characters, ends with its hash, so that different keys have different names. Blanks
    around a value do not count, and an empty value is called ``none``.

    Parameters
    ----------
    values : sequence of str
        At least one.

    Examples
    --------
    >>> key_name(["north"]), key_name(["hall 2", "roof"])
    ('north', 'hall 2.roof')
    >>> key_name(["10.0.0.7"])
    '10_0_0_7-130e4dab'
    """
    return ".".join(_part(value.strip()) for value in values)


def _part(value: str) -> str:
    if not value:
        return "none"
    name = _UNSAFE.sub("_", value)[:_LONGEST]
    if name == value != "none":
        return name
    return f"{name}-{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()[:8]}"


class KeyNames:
    """The names of the keys that have come so far, bounded in number.

    Parameters
    ----------
    limit : int
        Most keys that get a name.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: dict[tuple[str, ...], str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def name(self, values: Sequence[str]) -> str | None:
        """Return the name of a key, the same each time; None for a new one beyond the limit."""
        key = tuple(value.strip() for value in values)
        if key not in self._names and len(self._names) < self._limit:
            self._names[key] = key_name(key)
        return self._names.get(key)


def _listed(given: Any) -> Any:
    names = [given] if isinstance(given, str) else given
    return {"values": names} if isinstance(names, list) else given


class KeySettings(Settings):
    """The key of the devices or sensors whose messages share a topic."""

    values: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=10)
    """Values of a message, by name."""
    message: bool = False
    """Whether the key of a message distinguishes, before its values."""
    limit: int = Field(1000, ge=1, le=100_000)
    """Most keys that have a timeline; samples of others are left out and counted."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.values and not self.message:
            raise ValueError("key names nothing; give the name of a value, a list of names, or {message: true}")
        return self


Key = Annotated[KeySettings, BeforeValidator(_listed)]
"""Setting: the name of a value, a list of names, or all of `KeySettings`."""


class Keyed(Generic[Reader]):
    """A reader for each key, bounded in number.

    Parameters
    ----------
    limit : int
        Most keys that have a reader.
    make : callable
        Makes the reader of a key, by its name.
    counters : Counters
        ``unkeyed``, samples of keys beyond the limit, are counted there.
    only : frozenset of str, optional
        The names of the only keys that are read, whatever the limit is; others are not counted then.
    """

    def __init__(
        self, limit: int, make: Callable[[str], Reader], counters: Counters, only: frozenset[str] | None = None
    ) -> None:
        self._limit, self._names, self._make, self._only = limit, KeyNames(limit), make, only
        self._counters, self._notices = counters, LimitedLog(log)
        self._readers: dict[str, Reader] = {}
        counters.add("unkeyed", 0)

    def groups(self, keys: Iterable[tuple[str, ...]]) -> Iterator[tuple[Reader, NDArray[np.intp]]]:
        """Yield the readers of some samples, by the keys of these, and which samples are of each."""
        by_key: dict[tuple[str, ...], list[int]] = {}
        for i, key in enumerate(keys):
            by_key.setdefault(key, []).append(i)
        for key, index in by_key.items():
            reader = self._reader(key, len(index))
            if reader is not None:
                yield reader, np.array(index)

    def _reader(self, key: tuple[str, ...], count: int) -> Reader | None:
        if self._only is not None:
            name = wanted if (wanted := key_name(key)) in self._only else None
        elif (name := self._names.name(key)) is None:
            self._counters.add("unkeyed", count)
            self._notices.warning(
                "limit",
                "samples of the key %s are left out, since there are over %d others; raise `key.limit` to serve them",
                *(" ".join(map(repr, key)), self._limit),
            )
        if name is None:
            return None
        if name not in self._readers:
            self._readers[name] = self._make(name)
        return self._readers[name]
