"""The words of an open segment's string fields, which its rows have as codes; see docs/history-format.md."""

import json
import threading
from pathlib import Path

import numpy as np

from sisock.errors import BadHistory
from sisock.fields import Column
from sisock.history.layout import Unreadable, words_checksum, words_path
from sisock.history.string_dictionary import spelled


class SegmentWords:
    """Reads the file of words, which grows.

    Parameters
    ----------
    path : Path
        Of the segment.
    columns : int
        Number of its fields.
    number : int
        Of the segment; 0 in format 1.
    version : int
        Of the format.
    """

    def __init__(self, path: Path, columns: int, number: int, version: int) -> None:
        self._path, self._number, self._version = path, number, version
        self._words: list[list[str | None]] = [[] for _ in range(columns)]
        self._read_until = 0  # bytes
        self._lock = threading.Lock()

    def spelled(self, column: int, codes: Column) -> Column:
        """Return the words that codes stand for: ndarray of object holding str.

        Raises
        ------
        BadHistory
            If some of them are damaged or missing.
        """
        if not self.are_known(column, codes):
            raise BadHistory(f"{words_path(self._path)} is damaged in words that {self._path} uses")
        return spelled(codes, self._words[column])

    def are_known(self, column: int, codes: Column) -> bool:
        """Whether the words of all codes are known."""
        if not len(codes):
            return True
        with self._lock:
            words = self._words[column]
            if codes.max() >= len(words):
                self._read()
        if codes.min() < 0 or codes.max() >= len(words):
            return False
        return None not in words or all(words[code] is not None for code in np.unique(codes).tolist())

    def _read(self) -> None:
        """Read what was added to the file of words; a last line that is not whole yet is left for the next time."""
        try:
            with words_path(self._path).open("rb") as file:
                file.seek(self._read_until)
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            for line in data.splitlines():
                self._take_word(line)
        except FileNotFoundError as error:
            raise BadHistory(f"{words_path(self._path)} is missing") from error
        except OSError as error:
            text = f"{words_path(self._path)} cannot be read: {error}; it is left as it is, ask again later"
            raise Unreadable(text) from error
        self._read_until += len(data)

    def _take_word(self, line: bytes) -> None:
        """Add a line of the file of words; the word of a damaged line is None."""
        try:
            column, *code, word = json.loads(line[:-9] if self._version > 1 else line)
            words = self._words[column]
            if self._version > 1:
                if line[-9:] + b"\n" != words_checksum(line[:-9], self._number) or not isinstance(word, str):
                    return
                words += [None] * (code[0] - len(words))
                words[code[0] :] = [word, *words[code[0] + 1 :]]
            else:
                words.append(word if isinstance(word, str) else None)
        except (ValueError, IndexError, TypeError):
            return
