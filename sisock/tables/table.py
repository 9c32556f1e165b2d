"""A table: rows that are appended, numbered for ever, and read by number and by conditions."""

import logging
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadHistory, BadRequest
from sisock.fields import Column
from sisock.metrics import Counters
from sisock.outage import DiskOutage, OutageLog
from sisock.settings import TableSettings
from sisock.tables.columns import DTYPES, Arrays, Columns, as_arrays, decoded
from sisock.tables.conditions import nearest, parse
from sisock.tables.memory import RowMemory, pieces
from sisock.tables.reading import Part, Selection
from sisock.tables.rows import Rows
from sisock.tables.segment import SegmentFile
from sisock.tables.segments import TableFiles
from sisock.times import Clock, SystemClock

log = logging.getLogger(__name__)

_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # of a column
_TABLE_NAME = re.compile(r"(?=.{1,100}\Z)\w[\w-]*(\.[\w-]+)*", re.ASCII)  # ends a URI
_MOST_COLUMNS = 1000
_SEGMENT = 4 << 20
# Rows of a line in a file: damage costs a line.
_LINE = 1024


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of a table.

    Attributes
    ----------
    numbers : ndarray of int64, shape (n,)
    columns : dict of str to ndarray, each of shape (n,)
        Of text: object holding str or None; of JSON: object holding the values.
    cursor : int
        To be given as `after` to read on: the number after the last row that was looked at; read in descending order,
        the number of the next row of the table.
    oldest : int
        Number of the oldest row that is kept, or of the next one if there is none.
    more : bool
        Whether further rows may follow, in the order that was asked for.
    """

    numbers: NDArray[np.int64]
    columns: dict[str, Column]
    cursor: int
    oldest: int
    more: bool = False

    def __len__(self) -> int:
        return len(self.numbers)


class Table:
    """Rows with typed columns; may be used from any thread.

    A row is in memory when `append` returns, and on the disk after the next `write`, which `Tables` calls again and
    again from a thread of its own: nobody who appends waits for a disk.

    Parameters
    ----------
    name : str
        Letters, digits, ``_``, ``.`` and ``-``.
    columns : mapping of str to ColumnType
    folder : Path, optional
        Where its files are, for this table alone; without it, it is in memory and ends with the process.
    clock : Clock, optional
        One that a jump forward does not move: it must not make everything too old.
    settings : TableSettings, optional
    outage : DiskOutage, optional
        Where a disk that does not take rows is reported.
    on_append : callable, optional
        Called with the table and the number of the first row after rows were appended.

    Attributes
    ----------
    counters : Counters
        ``appended`` rows; ``lost`` ones, which left the memory before the disk took them; and those of `TableFiles`.

    Raises
    ------
    BadRequest
        If the name or the columns are not valid.
    """

    def __init__(
        self,
        name: str,
        columns: Columns,
        folder: Path | None = None,
        clock: Clock | None = None,
        settings: TableSettings | None = None,
        outage: DiskOutage | None = None,
        on_append: "Callable[[Table, int], object] | None" = None,
    ) -> None:
        if not _TABLE_NAME.fullmatch(name):
            raise BadRequest(f"{name!r} is not a valid name for a table; use letters, digits, _, - and single dots")
        if len(columns) > _MOST_COLUMNS or (unknown := sorted(set(columns.values()) - DTYPES.keys())):
            what = f"a column of type {unknown[0]!r}" if len(columns) <= _MOST_COLUMNS else f"{len(columns)} columns"
            raise BadRequest(f"table {name} has {what}; give at most {_MOST_COLUMNS}, of types {', '.join(DTYPES)}")
        if not columns or any(not _NAME.fullmatch(column) or column == "row" for column in columns):
            raise BadRequest(f"{[*columns]} are not valid names of columns; use letters, digits, _, . and -, not 'row'")
        self.name, self.columns, self._settings = name, dict(columns), settings or TableSettings()
        self._clock, self._on_append = clock or SystemClock(), on_append
        self.counters = Counters("appended", "lost", "cut", "damaged", "quarantined", "sealed", "expired")
        self._what = f"table {name}"
        self._outage = outage or DiskOutage(f"the disk of table {name}", OutageLog(self._clock, log))
        self._lock, self._writing = threading.Lock(), threading.RLock()  # of the memory; one writes
        self.waits = False
        """Whether `append` waits for the disk rather than lose rows that memory cannot hold until they are written."""
        segment = min(_SEGMENT, self._settings.max_size // 8)
        self._files = None if folder is None else TableFiles(folder, name, self.columns, segment, self.counters)
        self._memory = RowMemory(self.columns, self._settings.memory_size)
        if self._files is not None:
            self._restore(self._files)
        self._written = self._memory.next
        self._is_closed = False

    def _restore(self, files: TableFiles) -> None:
        try:
            self._memory.restore(*files.open())
        except (OSError, BadHistory) as error:
            self._outage.failed(self._what, f"it cannot be opened, rows are in memory only: {error}")
            # Beyond all numbers that may be on the disk; below 2**53, which JavaScript can count to.
            self._memory.next = int(self._clock.now()) << 20

    @property
    def next(self) -> int:
        """Number of the next row."""
        return self._memory.next

    def append(self, rows: Mapping[str, Sequence[Any]]) -> int:
        """Append rows, given by column, and return the number of the first one.

        Raises
        ------
        BadData
            If they do not fit the columns; then none is appended.
        """
        n, arrays = as_arrays(self.columns, rows)
        if self._files is None or not self.waits:
            first = self._put(n, arrays)
        else:
            numbers = [self._put_patiently(*piece) for piece in pieces(n, arrays, self._settings.memory_size // 4)]
            first = numbers[0] if numbers else self.next
        self.counters.add("appended", n)
        if self._on_append is not None:
            self._on_append(self, first)
        return first

    def _put_patiently(self, n: int, arrays: Arrays) -> int:
        """Keep rows, once at most a quarter of the memory waits for the disk, or that takes nothing."""
        if 4 * self._unwritten_size() > self._settings.memory_size and not self._outage.failing(self._what):
            self.write()
        return self._put(n, arrays)

    def _unwritten_size(self) -> float:
        with self._lock:
            rows = max(1, self._memory.next - self._memory.first)
            return self._memory.size * (self._memory.next - self._written) / rows

    def _put(self, n: int, arrays: Arrays) -> int:
        with self._lock:
            first, oldest = self._memory.next, self._memory.first
            self._memory.put(n, arrays)
            if self._files is not None:
                lost = n if self._is_closed else max(0, self._memory.first - max(self._written, oldest))
                self.counters.add("lost", lost)
                self._written = self._memory.next if self._is_closed else max(self._written, self._memory.first)
            return first

    def read(
        self,
        columns: Sequence[str] | None = None,
        conditions: Sequence[Sequence[Any]] = (),
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        order: Literal["ascending", "descending"] = "ascending",
        max_size: float = math.inf,
    ) -> TableRows:
        """Return rows by their numbers and by conditions.

        Parameters
        ----------
        columns : sequence of str, optional
            All if not given.
        conditions : sequence of [column, op, value] or of str, optional
            All of which hold; the ops are ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in`` (a list), ``contains``
            (a part of a text, an element of JSON), ``like`` (a shell pattern). A text is ``energy > 2.5``.
        after : int, optional
            The cursor of an earlier answer: rows from that number on. One beyond the end is of a table that was lost,
            and stands for all rows.
        before : int, optional
            Rows before that number.
        limit : int, optional
            Most rows.
        order : {"ascending", "descending"}
            By number; with a limit, the oldest or the newest are returned.
        max_size : float, optional
            Bytes, as they are in memory, with which no more rows are returned.

        Raises
        ------
        BadRequest
            If a parameter is not valid.
        BadHistory
            If the disk does not read them now.
        MissingExtra
            If some of them are sealed, and pyarrow is not installed.
        """
        names = _chosen(self, columns, after, before, limit, order)
        asked = parse(self.columns, conditions, self._clock.now())
        with self._lock:
            blocks, first, end = list(self._memory.blocks()), self._memory.first, self._memory.next
        segments = [each for each in self._files.segments if each.first < first] if self._files is not None else []
        oldest = min(segments[0].first, first) if segments else first
        start = after if after is not None and after <= end else oldest
        stop = end if before is None else min(before, end)
        parts = [
            *(self._part(each, first) for each in segments if each.next > start and each.first < stop),
            *(_part_in_memory(number, rows, arrays) for number, rows, arrays in blocks if number + rows > start),
        ]
        is_descending, most = order == "descending", math.inf if limit is None else limit
        time = self._files.reader.time if self._files is not None else None
        wanted = Selection(names, asked, start, stop, most, max_size, is_descending, time)
        found, more = wanted.rows(self.columns, parts[::-1] if is_descending else parts)
        cursor = int(found.numbers[-1]) + 1 if more and not is_descending else end
        return TableRows(found.numbers, decoded(self.columns, found.arrays), cursor, oldest, more)

    def newest(self, after: int, max_size: float) -> TableRows:
        """Return the rows from a number on that are in memory, the oldest of them first, without waiting for a disk."""
        with self._lock:
            blocks, first, end = list(self._memory.blocks(after)), self._memory.first, self._memory.next
        wanted = Selection([*self.columns], (), after, end, math.inf, max_size, descending=False, time=None)
        found, more = wanted.rows(self.columns, [_part_in_memory(*block) for block in blocks])
        cursor = int(found.numbers[-1]) + 1 if more else end
        return TableRows(found.numbers, decoded(self.columns, found.arrays), cursor, first, more)

    def _part(self, segment: SegmentFile, before: int) -> Part:
        """Return the rows of a file with numbers below `before`; the others are in memory."""
        files = self._files
        assert files is not None  # noqa: S101 - the segment is one of its
        return Part(partial(_rows_before, before, partial(files.read, segment)), partial(files.reader.span, segment))

    def write(self) -> bool:
        """Write rows that are in memory only, and return whether all are on the disk now; without a folder, True."""
        if self._files is None or self._is_closed:
            return True
        with self._writing:
            try:
                if not self._files.is_open:
                    self._reopen(self._files)
                while blocks := self._unwritten():
                    for first, rows, arrays in blocks:
                        for at, n, part in _lines(first, rows, arrays):
                            self._files.write(at, n, part)
                            with self._lock:
                                self._written = max(self._written, at + n)
            except (OSError, BadHistory) as error:
                self._outage.failed(self._what, f"rows are in memory only: {error}")
                return False
            self._outage.works(self._what)
            return True

    def _reopen(self, files: TableFiles) -> None:
        _, after = files.open()
        with self._lock:
            first = self._written
        if after > first:
            files.close()
            raise BadHistory(f"the newest row on the disk has the number {after - 1}, and the oldest in memory {first}")

    def _unwritten(self) -> list[tuple[int, int, Arrays]]:
        with self._lock:
            return list(self._memory.blocks(self._written))

    def sync(self) -> None:
        """Force onto the disk what was written.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        if self._files is not None and self._files.is_open:
            self._files.sync()

    def maintain(self) -> None:
        """Seal what has gathered, and remove what is too old or too much.

        Raises
        ------
        OSError, BadHistory
            If the disk does not allow it.
        """
        if self._files is not None and self._files.is_open:
            keep = math.inf if self._settings.keep is None else self._settings.keep
            try:
                self._files.seal()
            finally:  # it makes room for what is sealed
                self._files.expire(self._settings.max_size, self._clock.now() - keep)

    def close(self) -> None:
        """Write what is in memory only, and let others write here; what the disk does not take is lost, and counted."""
        if self._files is None or self._is_closed:
            return
        with self._writing:
            self.write()
            with self._lock:
                self._is_closed, lost = True, self._memory.next - self._written
                self._written = self._memory.next
            if lost:
                self.counters.add("lost", lost)
                log.error("table %s: %d rows could not be written, and are lost", self.name, lost)
            try:
                self._files.close()
            except OSError as error:
                log.error("table %s could not be completed: %s", self.name, error)

    def status(self) -> dict[str, Any]:
        """Return the numbers of the oldest and the next row, the bytes that they take, and the counters."""
        with self._lock:
            first, end, memory = self._memory.first, self._memory.next, self._memory.size
            unwritten = end - self._written
        segments = self._files.segments if self._files is not None else ()
        return {
            "oldest": min(segments[0].first, first) if segments else first,
            "next": end,
            "memory_bytes": memory,
            "bytes": sum(each.size for each in segments),
            "unwritten": unwritten if self._files is not None else 0,
            **self.counters.as_dict(),
        }


def _rows_before(number: int, load: Callable[[Sequence[str]], Rows | None], names: Sequence[str]) -> Rows | None:
    """Return the rows of a file that are not in memory."""
    rows = load(names)
    if rows is None or not len(rows.numbers) or rows.numbers[-1] < number:
        return rows
    n = int(np.searchsorted(rows.numbers, number))
    return Rows(rows.numbers[:n], {name: values[:n] for name, values in rows.arrays.items()})


def _lines(first: int, rows: int, arrays: Arrays) -> Iterator[tuple[int, int, Arrays]]:
    """Yield number of the first row, number of rows, and arrays of the lines in which rows are written."""
    for at in range(0, rows, _LINE):
        part = {name: values[at : min(at + _LINE, rows)] for name, values in arrays.items()}
        yield first + at, min(_LINE, rows - at), part


def _part_in_memory(first: int, rows: int, arrays: Arrays) -> Part:
    there = Rows(np.arange(first, first + rows), arrays)
    return Part(lambda _: there)


def _chosen(
    table: Table, columns: Sequence[str] | None, after: int | None, before: int | None, limit: int | None, order: str
) -> list[str]:
    for name, value, least in (("after", after, 0), ("before", before, 0), ("limit", limit, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise BadRequest(f"{name} is {value!r}; give a whole number from {least} on")
    if order not in ("ascending", "descending"):
        raise BadRequest(f"order is {order!r}; give ascending or descending")
    names = list(table.columns) if columns is None else list(columns)
    if unknown := [name for name in names if name not in table.columns]:
        raise BadRequest(f"table {table.name} has no column {unknown[0]!r}; {nearest(unknown[0], table.columns)}")
    return names
