"""Selecting rows of a table, from its files and from memory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.tables.columns import Arrays, Columns, sizes
from sisock.tables.conditions import Condition
from sisock.tables.rows import Rows, joined


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are in one place.

    Attributes
    ----------
    load : callable
        Returns the rows with the columns of some names, or more; None if they are not there any more.
    span : callable
        Returns the minimum and the maximum of the times; infinite where it is unknown.
    """

    load: Callable[[Sequence[str]], Rows | None]
    span: Callable[[], tuple[float, float]] = lambda: (-np.inf, np.inf)


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows that are wanted.

    Attributes
    ----------
    names : sequence of str
        Of the columns.
    conditions : sequence of Condition
    start, stop : int
        Numbers of the first row, and of the one after the last.
    limit : int
        Most rows.
    max_size : float
        Bytes in memory with which no more rows are taken.
    descending : bool
    time : str or None
        The column that the spans of parts are of.
    """

    names: Sequence[str]
    conditions: Sequence[Condition]
    start: int
    stop: int
    limit: float
    max_size: float
    descending: bool
    time: str | None

    def rows(self, columns: Columns, parts: Iterable[Part]) -> tuple[Rows, bool]:
        """Return the rows of parts, which are in the order wanted, and whether more may follow."""
        numbers: list[Any] = []
        arrays: list[Arrays] = []
        limit, room = self.limit, self.max_size
        for part in parts:
            if any(each.column == self.time and not each.may_hold(*part.span()) for each in self.conditions):
                continue
            found = self._of_part(part)
            if found is None:
                continue
            n = int(min(len(found.numbers), limit))
            taken = {name: values[:n] for name, values in found.arrays.items()}
            ends = np.cumsum(sizes(taken)) if taken else np.zeros(n)
            n = min(n, int(np.searchsorted(ends, room, "left")) + 1)  # at least one, also if it is larger than all
            numbers.append(found.numbers[:n])
            arrays.append({name: values[:n] for name, values in taken.items()})
            limit -= n
            room -= float(ends[n - 1])
            if limit <= 0 or room <= 0 or n < len(found.numbers):
                return joined({name: columns[name] for name in self.names}, numbers, arrays), True
        return joined({name: columns[name] for name in self.names}, numbers, arrays), False

    def _of_part(self, part: Part) -> Rows | None:
        """Return the rows of a part, in the order wanted; None if there are none."""
        asked = list(dict.fromkeys(each.column for each in self.conditions))
        rows = part.load(asked or self.names)
        if rows is None:
            return None
        first, last = np.searchsorted(rows.numbers, (self.start, self.stop))
        chosen = _chosen(rows.arrays, self.conditions, int(first), int(last))
        if not len(chosen):
            return None
        missing = [name for name in self.names if name not in rows.arrays]
        more = part.load(missing) if missing else rows
        if more is None or len(more.numbers) != len(rows.numbers):
            return None  # it was removed meanwhile
        if self.descending:
            chosen = chosen[::-1]
        columns: Arrays = {**rows.arrays, **more.arrays}
        return Rows(rows.numbers[chosen], {name: columns[name][chosen] for name in self.names})


def _chosen(arrays: Arrays, conditions: Sequence[Condition], first: int, last: int) -> NDArray[np.intp]:
    """Return the rows between two for which all conditions hold."""
    # A comparison of numbers costs little on whole columns, one of texts much for each row.
    kept = np.ones(last - first, bool)
    for each in (each for each in conditions if not each.is_slow):
        kept &= each.holds(arrays[each.column][first:last])
    chosen = np.flatnonzero(kept) + first
    for each in (each for each in conditions if each.is_slow):
        if not len(chosen):
            break
        chosen = chosen[each.holds(arrays[each.column][chosen])]
    return chosen
