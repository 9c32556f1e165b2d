"""Texts that mean that a value is missing, and texts that are true or false."""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from sisock.fields import FieldType

TRUE_TEXTS = ("true", "1", "on", "yes", "t", "y")
FALSE_TEXTS = ("false", "0", "off", "no", "f", "n")
TEXT = ".text"
"""Suffix of the field that has, as texts, the values that do not fit into another field."""


def _distinct(texts: tuple[str, str]) -> tuple[str, str]:
    if _folded(texts[0]) == _folded(texts[1]):
        raise ValueError(f"{texts[0]!r} cannot be both true and false; give two texts that differ in more than case")
    return texts


_Text = Annotated[str, Field(min_length=1, max_length=200)]
BoolPair = Annotated[tuple[_Text, _Text], AfterValidator(_distinct)]
"""Setting: the text that is true, and the text that is false."""


class MissingMarks:
    """The marks that mean that there is no value.

    Marks and texts are compared without the blanks around them; an empty text is always missing. Outside of fields of
    strings, a mark that is a number matches each way to write that number.

    Parameters
    ----------
    marks : iterable of str
        Such as ``NA`` or ``-9999``.

    Attributes
    ----------
    texts : tuple of str
        The marks as they are compared, the empty text included.
    numbers : tuple of float
        The marks that are finite numbers.
    """

    def __init__(self, marks: Iterable[str]) -> None:
        self.texts = tuple(sorted({"", *(mark.strip() for mark in marks)}))
        self.numbers = tuple(sorted({number for text in self.texts if (number := _as_number(text)) is not None}))

    def is_missing(self, value: Any, kind: FieldType) -> bool:
        """Return whether a value of a field of some type is missing.

        Parameters
        ----------
        value : str, int, float, bool or None
            None is always missing, and a bool is compared as the text ``true`` or ``false``.
        kind : {"number", "string", "bool"}
        """
        if value is None:
            return True
        if isinstance(value, bool):
            return str(value).lower() in self.texts
        if isinstance(value, str):
            text = value.strip()
            return text in self.texts or (kind != "string" and _as_number(text) in self.numbers)
        return value in self.numbers


class BoolTexts:
    """The values that are true, and those that are false.

    Parameters
    ----------
    pair : tuple of str, optional
        The text that is true, and the text that is false; by default `TRUE_TEXTS` and `FALSE_TEXTS`. Neither case nor
        blanks around matter.

    Attributes
    ----------
    true, false : tuple of str
        In lower case.
    """

    def __init__(self, pair: Sequence[str] | None = None) -> None:
        self.true = (_folded(pair[0]),) if pair else TRUE_TEXTS
        self.false = (_folded(pair[1]),) if pair else FALSE_TEXTS
        self.numeric = pair is None
        """Whether the numbers 1 and 0 are true and false, however they are written."""

    def read(self, value: Any) -> bool | None:
        """Return the bool that a text, a number or a bool represents; None if it is neither true nor false."""
        if isinstance(value, bool):
            return value
        text = value if isinstance(value, str) else _number_text(value) if isinstance(value, int | float) else ""
        folded = _folded(text)
        if folded in self.true or folded in self.false:
            return folded in self.true
        number = _as_number(folded) if self.numeric else None
        return bool(number) if number in (0.0, 1.0) else None


def _folded(text: str) -> str:
    return text.strip().lower()


def _number_text(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:  # an integer beyond float64
        return ""


def _as_number(text: str) -> float | None:
    """Return a text as a finite number; None if it is none."""
    try:
        number = float(text) if "_" not in text else math.nan  # Python's own notation for thousands
    except ValueError:
        return None
    return number if math.isfinite(number) else None
