"""Strings as codes and a dictionary of the words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Column

Codes = NDArray[np.int32]


class StringDictionary:
    """A dictionary of words that grows; a word's code is its place."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.words = list(words)
        """By code; only ever appended to, so that a reader may continue to use those it has."""
        self._code_of = {word: code for code, word in enumerate(self.words)}
        self.size = sum(map(_size, self.words))
        """Bytes that they take in memory, about."""

    def encode(self, values: Column) -> Codes:
        """Return the code of each value; words that are new get the next ones."""
        texts: list[str] = values.tolist()
        if not set(map(type, texts)) <= {str}:
            texts = list(map(str, texts))
        for word in dict.fromkeys(texts):
            if word not in self._code_of:
                # A lone surrogate cannot be written anywhere.
                clean = word.encode(errors="replace").decode()
                self._code_of[word] = self._code_of.setdefault(clean, len(self.words))
                if self._code_of[clean] == len(self.words):
                    self.words.append(clean)
                    self.size += _size(clean)
        return np.fromiter(map(self._code_of.__getitem__, texts), np.int32, len(texts))


def _size(word: str) -> int:
    # A string object, its place in the list and its entry in the dictionary.
    return len(word) + 160


def spelled(codes: Codes, words: Sequence[str | None]) -> Column:
    """Return the words that codes stand for: ndarray of object holding str."""
    if len(words) <= len(codes):
        return np.array(words, object)[codes]
    used, inverse = np.unique(codes, return_inverse=True)
    return np.array([words[code] for code in used], object)[inverse]
