"""The newest rows of a table, in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sisock.tables.columns import DTYPES, Arrays, Columns, sizes
from sisock.tables.rows import Rows

# Rows of the first block; each further one has twice as many, up to the last of these, as long as the limit allows it:
# few rows take little room, and conditions on many are evaluated on large arrays.
_FEWEST, _MOST = 1024, 1 << 16


@dataclass(slots=True)
class Block:
    """Consecutive rows; the first `rows` of its arrays do not change any more, so that they are read without a lock.

    Attributes
    ----------
    first : int
        Number of its first row.
    arrays : dict of str to ndarray, each of shape (room,)
    room : int
    rows, size : int
        How many rows there are, and the bytes that they take.
    """

    first: int
    arrays: Arrays
    room: int
    rows: int = 0
    size: int = 0

    @property
    def next(self) -> int:
        """Number of the row after the last one."""
        return self.first + self.rows


class RowMemory:
    """Rows in blocks, the oldest of which are dropped when they take too much.

    Not for several threads at once, but for what `blocks` has returned.

    Parameters
    ----------
    columns : mapping of str to ColumnType
    limit : int
        Most bytes.
    """

    def __init__(self, columns: Columns, limit: int) -> None:
        self._columns, self._limit = columns, limit
        self._blocks: list[Block] = []
        self._room = _FEWEST
        self._most = max(_FEWEST, min(_MOST, limit // 8 // (8 * len(columns))))
        self.size = 0
        """Bytes that the rows take."""
        self.next = 0
        """Number of the next row."""

    @property
    def first(self) -> int:
        """Number of the oldest row in memory, or of the next one if there is none."""
        return self._blocks[0].first if self._blocks else self.next

    def put(self, rows: int, arrays: Arrays) -> None:
        """Append rows, and drop the oldest of those that are too many."""
        row_sizes, at = sizes(arrays), 0
        while at < rows:
            block = self._open_block()
            n = min(rows - at, block.room - block.rows)
            ends = np.cumsum(row_sizes[at : at + n])
            # A block ends early if its rows are large, since it is dropped as a whole.
            n = max(1, int(np.searchsorted(ends, max(0, self._limit // 8 - block.size), "right")))
            for name, values in arrays.items():
                block.arrays[name][block.rows : block.rows + n] = values[at : at + n]
            block.size += int(ends[n - 1])
            self.size += int(ends[n - 1])
            block.rows += n  # last: then readers may use them
            self.next += n
            at += n
        while self.size > self._limit and len(self._blocks) > 1:
            self.size -= self._blocks.pop(0).size

    def restore(self, rows: Rows, after: int) -> None:
        """Take rows that were stored earlier, and continue with the number `after`."""
        runs = np.flatnonzero(np.diff(rows.numbers) != 1) + 1
        for start, stop in zip([0, *runs], [*runs, len(rows.numbers)], strict=True):
            if stop > start:
                self.next = int(rows.numbers[start])
                self.put(stop - start, {name: values[start:stop] for name, values in rows.arrays.items()})
        self.next = after

    def _open_block(self) -> Block:
        last = self._blocks[-1] if self._blocks else None
        if last is None or last.next != self.next or last.rows == last.room or last.size >= self._limit // 8:
            if last is not None and last.rows == last.room:
                self._room = min(2 * last.room, self._most)
            arrays = {name: np.empty(self._room, DTYPES[kind]) for name, kind in self._columns.items()}
            last = Block(self.next, arrays, self._room)
            self._blocks.append(last)
        return last

    def blocks(self, start: int = 0) -> Iterator[tuple[int, int, Arrays]]:
        """Yield number of the first row, number of rows, and arrays of the blocks that reach beyond row `start`."""
        for block in self._blocks:
            if block.next > start:
                at = max(0, start - block.first)
                arrays = {name: values[at : block.rows] for name, values in block.arrays.items()}
                yield block.first + at, block.rows - at, arrays


def pieces(rows: int, arrays: Arrays, most: int) -> Iterator[tuple[int, Arrays]]:
    """Yield rows in pieces of about `most` bytes: number of rows, and arrays."""
    size = int(sizes(arrays).sum()) if rows else 0
    step = rows if size <= most else max(1, rows * most // size)
    for at in range(0, rows, max(1, step)):
        n = min(step, rows - at)
        yield n, {name: values[at : at + n] for name, values in arrays.items()}
