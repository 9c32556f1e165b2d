"""Names for the values that distinguish samples: sensors in a column of a table, devices in the messages of a topic."""

import hashlib
import re
from collections.abc import Sequence

# A name has parts between dots; control characters do not belong in names.
_UNSAFE = re.compile(r"[^\w +\-/()\[\]%°µ#@:,=~]")
_LONGEST = 100


def key_name(values: Sequence[str]) -> str:
    """Return the name of a key: its values, joined with dots.

    Control characters, dots and other characters that names should not have become ``_``; a value that was changed by
    that, or cut at 100 characters, ends with a hash of itself, so that different keys have different names. Blanks
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
