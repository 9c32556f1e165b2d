"""Strings as codes and a dictionary of the words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sisock.fields import Column

Codes = NDArray[np.int32]


class Words:
    """A dictionary of words that grows; a word's code is its place."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.words = list(words)
        """By code; only ever appended to, so that a reader may go on using what it has seen."""
        self._code_of = {word: code for code, word in enumerate(self.words)}

    def encode(self, values: Column) -> Codes:
        """Return the code of each value; words that are new get the next ones."""
        distinct, inverse = np.unique(values.astype(np.str_), return_inverse=True)
        return np.array([self._code(str(word)) for word in distinct], np.int32)[inverse]

    def _code(self, word: str) -> int:
        code = self._code_of.get(word)
        if code is None:
            code = self._code_of[word] = len(self.words)
            self.words.append(word)
        return code


def spelled(codes: Codes, words: Sequence[str]) -> Column:
    """Return the words that codes stand for: ndarray of object holding str."""
    used, inverse = np.unique(codes, return_inverse=True)
    distinct = np.empty(len(used), object)
    distinct[:] = [words[code] for code in used]
    return distinct[inverse]
