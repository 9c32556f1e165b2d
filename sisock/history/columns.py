"""The values of a field in memory, in arrays that grow."""

from collections.abc import Callable

import numpy as np

from sisock.dtypes import as_numbers, common_dtype, continued
from sisock.fields import Column, Field
from sisock.history.string_dictionary import StringDictionary, spelled


class Values:
    """The values of a number or bool field; the dtype is that of the data, widened when it must.

    Integers and floats that no dtype has room for without rounding are kept as Python's numbers.

    A view is taken under the ring's lock and evaluated after it: nothing that it refers to is written again.
    """

    def __init__(self, field: Field, dtype: np.dtype[np.generic], capacity: int) -> None:
        self.field = field
        self._array = np.empty((capacity, *field.shape), dtype)

    def put(self, at: int, values: Column) -> None:
        """Write values from a place on."""
        known = self._array.dtype
        if values.dtype != known and known.kind != "O" and continued(known, values) != known:
            wide = common_dtype([self._array[:at], values])
            self._array = self._array.astype(wide or (float if self.field.shape else object))
        self._array[at : at + len(values)] = values

    def view(self, start: int, end: int) -> Callable[[], Column]:
        """Return a function that returns the values of a range, which is not written again."""
        view = self._array[start:end]
        return lambda: view

    def copy(self, start: int, end: int) -> Callable[[], Column]:
        """Return a function that returns a copy of the values of a range."""
        copy = self._array[start:end].copy()
        return lambda: copy

    def move(self, index: slice, capacity: int) -> None:
        """Keep a range only, at the beginning of a new array."""
        kept = self._array[index]
        if kept.dtype.kind == "O" and (numbers := as_numbers(kept)) is not None:
            kept = numbers
        self._array = np.empty((capacity, *self.field.shape), kept.dtype)
        self._array[: len(kept)] = kept


class Texts:
    """The values of a string field: a code for each sample and a dictionary of the words."""

    def __init__(self, field: Field, capacity: int) -> None:
        self.field = field
        self._codes = np.empty(capacity, np.int32)
        self._words = StringDictionary()

    @property
    def size(self) -> int:
        """Bytes that the words take; no value has a part of its own in them."""
        return self._words.size

    def put(self, at: int, values: Column) -> None:
        """Write values from a place on."""
        self._codes[at : at + len(values)] = self._words.encode(values)

    def view(self, start: int, end: int) -> Callable[[], Column]:
        """Return a function that returns the values of a range, which is not written again."""
        codes, words = self._codes[start:end], self._words.words
        return lambda: spelled(codes, words)

    def copy(self, start: int, end: int) -> Callable[[], Column]:
        """Return a function that returns a copy of the values of a range."""
        codes, words = self._codes[start:end].copy(), self._words.words
        return lambda: spelled(codes, words)

    def move(self, index: slice, capacity: int) -> None:
        """Keep a range only, at the beginning of a new array."""
        used, inverse = np.unique(self._codes[index], return_inverse=True)
        self._words = StringDictionary([self._words.words[code] for code in used])  # unused words are forgotten
        self._codes = np.empty(capacity, np.int32)
        self._codes[: len(inverse)] = inverse
