"""The headers of a table: its first line, and those between its rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sisock.errors import BadData
from sisock_nodes.table.columns import read_rows
from sisock_nodes.table.rows import cells_of, lines_with, read_header, segments
from sisock_nodes.table.settings import TableSettings, TimeSettings
from sisock_nodes.table.times import read_times


def delimiter_of(file: Path, settings: TableSettings) -> str:
    """Return the delimiter of a file."""
    return settings.delimiter or ("\t" if file.suffix.lower() == ".tsv" else ",")


def header_of(file: Path, settings: TableSettings) -> list[str]:
    """Return the names of the columns in the first line of a file.

    Raises
    ------
    BadData
        If the line is not a header.
    """
    with file.open("rb") as opened:
        line = opened.readline(1 << 20)
    try:
        return read_header(line, delimiter_of(file, settings))
    except BadData as error:
        raise BadData(f"{file}: {error.message}") from error


class Headers:
    """Recognizes headers among the rows of a table.

    Parameters
    ----------
    time : TimeSettings
        The columns of the time, which every header names.
    """

    def __init__(self, time: TimeSettings) -> None:
        self._time = time

    def segments(self, data: bytes, names: Sequence[str], delimiter: str) -> Iterator[tuple[bytes | None, bytes]]:
        """Yield rows that have one header, and that header where it is among them."""
        found = []
        for begin, end in lines_with(data, self._time.names[0], delimiter):
            line = data[begin:end]
            if self.is_here(line, delimiter) and not self.has_time(line, names, delimiter):
                found.append((begin, end))
        return segments(data, found)

    def is_here(self, line: bytes, delimiter: str) -> bool:
        """Whether a line is a header: it names the columns of the time."""
        cells = cells_of(line, delimiter)
        return set(self._time.names) <= set(cells)

    def has_time(self, line: bytes, names: Sequence[str], delimiter: str) -> bool:
        """Whether a line is a row that has a time, where the columns have these names."""
        if not set(self._time.names) <= set(names):
            return False
        t, _ = read_times(read_rows(line, names, delimiter).table, self._time)
        return bool(np.isfinite(t).any())
