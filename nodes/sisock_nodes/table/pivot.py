"""The timelines of a table: one, or one for each value of the columns that it is pivoted by."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sisock.metrics import Counters
from sisock.outage import LimitedLog
from sisock_nodes.records.keys import KeyNames
from sisock_nodes.records.learned import ValueSettings
from sisock_nodes.records.values import MissingMarks
from sisock_nodes.table.series import Series
from sisock_nodes.table.settings import TableSettings, TimeSettings


class Pivot:
    """Assigns the rows of a table to timelines.

    Parameters
    ----------
    name : str
        Name of the timeline, or before the names of the timelines.
    prefix : str
        Before each column's name, to make the field's.
    settings : TableSettings
    time : TimeSettings
    counters : Counters
        ``unpivoted`` counts rows beyond `pivot_limit`.
    notices : LimitedLog

    Attributes
    ----------
    series : dict of str to Series
        The timelines that are known so far, by key.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        settings: TableSettings,
        time: TimeSettings,
        counters: Counters,
        notices: LimitedLog,
    ) -> None:
        self.series: dict[str, Series] = {}
        self._name, self._prefix, self._settings, self._time = name, prefix, settings, time
        self._counters, self._notices = counters, notices
        self._marks, self._keys = MissingMarks(settings.missing), KeyNames(settings.pivot_limit)

    def split(self, table: pa.Table, *, count: bool = False) -> Iterator[tuple[Series, NDArray[np.intp] | None]]:
        """Yield each timeline that some rows are of, and the numbers of its rows; None for all."""
        if not self._settings.pivots:
            yield self._series_of(""), None
            return
        if not len(table):
            return
        columns = [pc.utf8_trim_whitespace(table[name]) for name in self._settings.pivots if name in table.column_names]
        codes = np.zeros(len(table), np.intp)
        for column in columns:
            encoded = column.combine_chunks().dictionary_encode()
            codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
            _, codes = np.unique(codes, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        for index in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            key = [column[int(index[0])].as_py() for column in columns]
            if name := self._keys.name(key):
                yield self._series_of(name), index
            elif count:
                self._counters.add("unpivoted", len(index))
                self._notices.warning(
                    "pivot",
                    "rows of %s are left out, since there are over %d others; raise `pivot_limit` to serve them",
                    *(" ".join(map(repr, key)), self._settings.pivot_limit),
                )

    def _series_of(self, key: str) -> Series:
        if key not in self.series:
            name = f"{self._name}.{key}" if key else self._name
            named, about = partial(self._field, key), partial(self._about, key)
            self.series[key] = Series(name, named, about, self._marks, self._time.timezone)
        return self.series[key]

    def _field(self, key: str, column: str) -> str:
        if not key:
            return self._prefix + column
        return self._prefix + (key if column == self._settings.value_column else f"{key}.{column}")

    def _about(self, key: str, column: str) -> ValueSettings:
        fields = self._settings.fields
        if column == self._settings.value_column and key in fields:
            return fields[key]
        return fields.get(f"{key}.{column}") or fields.get(column) or ValueSettings()

    def measured(self, table: pa.Table) -> pa.Table:
        """Return the columns that are fields."""
        if (value := self._settings.value_column) is not None:
            return table.select([value] if value in table.column_names else [])
        return table.drop_columns(
            [name for name in (*self._time.names, *self._settings.pivots) if name in table.column_names]
        )
