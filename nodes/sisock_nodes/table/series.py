"""The rows of one timeline to batches: fields appear, and their types widen, as the cells ask for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from sisock.fields import NO_VALUE, Batch, Column, Field, FieldType, FloatArray, Timeline
from sisock_nodes.records.learned import ValueSettings
from sisock_nodes.records.values import BoolTexts, MissingMarks
from sisock_nodes.table.columns import Values, as_digits, guess_type, has_bools, has_numbers, to_values
from sisock_nodes.table.localtime import LocalTimes


@dataclass(slots=True)
class _Column:
    """A column of the table, as a field."""

    field: Field
    bools: BoolTexts
    is_set: bool
    """Whether the settings say of which type it is."""
    is_known: bool
    """Whether it has had a value, so that its type is more than a guess."""
    has_samples: bool = False
    """Whether it has had samples, if only missing ones."""
    was_bool: bool = False
    """Whether its bools are numbers: there were others, or missing ones."""
    misfits: Field | None = None
    """The field of the texts that do not fit, once there was one."""

    def widen(self, kind: FieldType) -> None:
        self.field = replace(self.field, type=kind)


@dataclass(frozen=True, slots=True)
class Misfits:
    """Cells of a field that do not fit its type: how many, and one of them."""

    field: Field
    count: int
    example: str


class Series:
    """A timeline of a table: its times, and its columns as fields.

    The type of a column is that of the first values in it, unless the settings have it: numbers, bools, or strings; as
    long as all cells are empty it is numbers. Bools among which there are other numbers become numbers. A text that
    does not fit is missing, and is the value of the field ``<field>.text``, which appears with the first of them.

    Parameters
    ----------
    name : str
        Of the timeline.
    named : callable
        Returns the name of a column's field.
    about : callable
        Returns the settings of a column.
    marks : MissingMarks
    zone : str
        Of times without one.
    """

    def __init__(
        self,
        name: str,
        named: Callable[[str], str],
        about: Callable[[str], ValueSettings],
        marks: MissingMarks,
        zone: str,
    ) -> None:
        self._named, self._about, self._marks, self._zone = named, about, marks, zone
        self._columns: dict[str, _Column] = {}
        self.timeline = Timeline(name, (), lateness_s=0.0, follows_clock=False)
        self.times = LocalTimes(zone)

    def forget_times(self) -> None:
        """Reset local times, as the rows come again from the first on."""
        self.times = LocalTimes(self._zone)

    def learn(self, rows: pa.Table) -> None:
        """Learn the columns of some rows, and what they are."""
        for name in rows.column_names:
            if name not in self._columns:
                about = self._about(name)
                kind = about.known_type
                field = Field(self._named(name), kind or "number", about.units, about.description)
                self._columns[name] = _Column(field, BoolTexts(about.bool_texts), kind is not None, kind is not None)
            column = self._columns[name]
            if not column.is_known and (kind := guess_type(rows[name], self._marks)):
                column.is_known = True
                # Values that were missing so far were missing numbers.
                column.was_bool = column.has_samples if kind == "bool" else kind == "number" and has_bools(rows[name])
                column.widen("number" if column.was_bool else kind)
        self._tell()

    def batch(self, t: FloatArray, rows: pa.Table) -> tuple[Batch, Sequence[Misfits], int]:
        """Return the samples of some rows, what does not fit in them, and how many missing bools are false.

        `timeline` may have other fields afterwards.

        Parameters
        ----------
        t : ndarray of float64, shape (n,)
            UNIX seconds.
        rows : pyarrow.Table
            Of strings, n rows; what is missing of the columns so far is missing in all rows.
        """
        self.learn(rows)
        columns: dict[str, Column] = {}
        misfits, filled = [], 0
        for name, column in self._columns.items():
            found = self._values(column, rows[name]) if name in rows.column_names else _nothing(column.field, len(t))
            column.has_samples = True
            filled += found.filled
            columns[column.field.name] = found.values
            if found.misfit is None and column.misfits is None:
                continue
            texts = np.full(len(t), "", object)
            if found.misfit is not None:
                texts[found.misfit] = rows[name].to_numpy()[found.misfit]
                misfits.append(Misfits(column.field, int(found.misfit.sum()), texts[np.argmax(found.misfit)]))
                column.misfits = column.misfits or Field(self._free(f"{column.field.name}.text"), "string")
            if column.misfits is not None:
                columns[column.misfits.name] = texts
        self._tell()
        return Batch(self.timeline.name, t, columns), misfits, filled

    def _values(self, column: _Column, texts: pa.ChunkedArray) -> Values:
        found = to_values(as_digits(texts) if column.was_bool else texts, column.field.type, self._marks, column.bools)
        if found.misfit is None or column.is_set or column.was_bool:
            return found
        others, kind = texts.filter(pa.array(found.misfit)), column.field.type
        if has_numbers(others) if kind == "bool" else kind == "number" and has_bools(others):
            column.was_bool = True
            column.widen("number")
            return self._values(column, texts)
        return found

    def _free(self, name: str) -> str:
        taken = {field.name for field in self.timeline.fields}
        while name in taken:
            name += "_"
        return name

    def _tell(self) -> None:
        columns = self._columns.values()
        fields = [*(column.field for column in columns), *(column.misfits for column in columns if column.misfits)]
        if list(self.timeline.fields) != fields:
            self.timeline = replace(self.timeline, fields=fields)


def _nothing(field: Field, n: int) -> Values:
    value, dtype = NO_VALUE[field.type]
    return Values(np.full(n, value, dtype), None, n if field.type == "bool" else 0)
