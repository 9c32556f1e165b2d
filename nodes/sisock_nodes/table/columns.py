"""Rows of a table to columns: pure, and whole columns at a time."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as pacsv

from sisock.fields import Column, FieldType, FloatArray
from sisock_nodes.records.values import BoolTexts, MissingMarks

_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|(?i:inf|infinity|nan))$"


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of some rows, as texts.

    Attributes
    ----------
    table : pyarrow.Table
        A column of strings for each name; a row that is too short has empty cells at its end.
    short : int
        Rows with fewer cells than there are names.
    extra : int
        Cells beyond the last name that hold something.
    """

    table: pa.Table
    short: int = 0
    extra: int = 0


def read_rows(data: bytes, names: Sequence[str], delimiter: str) -> Cells:
    """Return the cells of whole rows of UTF-8, by the names of their columns."""
    if not data or data.isspace():
        return Cells(pa.schema({name: pa.string() for name in names}).empty_table())
    # Rows that all end with a delimiter, or all have a column more, are as quick as others.
    first = data[: data.find(b"\n") + 1 or len(data)]
    width = first.count(delimiter.encode()) + 1
    width = width if b'"' not in first and len(names) <= width <= 2 * len(names) + 8 else len(names)
    texts, others = _parsed(data, width, delimiter)
    table, extra = _named(texts, names)
    if not others:
        return Cells(table, 0, extra)
    numbers = np.delete(np.arange(1, len(table) + len(others) + 1), [number - 1 for number, _, _ in others])
    by_width = defaultdict(list)
    for number, cells, text in others:
        by_width[cells].append((number, text))
    tables, order, short = [table], [numbers], 0
    for cells, rows in by_width.items():
        texts, _ = _parsed("\n".join(text for _, text in rows).encode(), cells, delimiter)
        table, more = _named(texts, names)
        tables.append(table)
        order.append(np.array([number for number, _ in rows]))
        extra, short = extra + more, short + (len(rows) if cells < len(names) else 0)
    return Cells(pa.concat_tables(tables).take(np.argsort(np.concatenate(order))), short, extra)


def _parsed(data: bytes, width: int, delimiter: str) -> tuple[pa.Table, list[tuple[int, int, str]]]:
    """Return the rows of so many cells, and of each other row its number from 1 on, how many it has, and its text."""
    others: list[tuple[int, int, str]] = []

    def skip(row: pacsv.InvalidRow) -> str:
        others.append((row.number, row.actual_columns, row.text))
        return "skip"

    names = [str(i) for i in range(width)]
    table = pacsv.read_csv(
        BytesIO(data),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=max(1 << 20, 2 * len(data)), column_names=names),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pacsv.ConvertOptions(
            strings_can_be_null=False, quoted_strings_can_be_null=False, column_types=dict.fromkeys(names, pa.string())
        ),
    )
    return table, others


def _named(table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, int]:
    """Return a column for each name, and how many cells beyond them hold something."""
    columns = table.columns[: len(names)]
    columns += [pa.chunked_array([pa.repeat("", len(table))]) for _ in range(len(names) - len(columns))]
    extra = sum(pc.sum(pc.not_equal(column, "")).as_py() or 0 for column in table.columns[len(names) :])
    return pa.table(columns, names=list(names)), extra


def guess_type(texts: pa.ChunkedArray, marks: MissingMarks) -> FieldType | None:
    """Return the type of a column of texts: numbers or bools if all texts are, otherwise strings; None if it is empty.

    Bools are ``true`` and ``false`` only: ``N`` may be the north, and ``0`` is a number. Bools among numbers are
    numbers.
    """
    texts = pc.unique(pc.utf8_trim_whitespace(texts))
    there = texts.filter(pc.invert(pc.is_in(texts, pa.array(marks.texts))))
    if marks.numbers:
        there = pa.array([text for text in there.to_pylist() if not marks.is_missing(text, "number")], pa.string())
    if not len(there):
        return None
    if pc.all(pc.is_in(pc.utf8_lower(there), pa.array(["true", "false"]))).as_py():
        return "bool"
    return "number" if pc.all(pc.match_substring_regex(as_digits(there), _NUMBER)).as_py() else "string"


def has_bools(texts: pa.ChunkedArray) -> bool:
    """Return whether ``true`` or ``false`` is among some texts."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(pc.unique(texts)))
    return bool(pc.any(pc.is_in(lower, pa.array(["true", "false"]))).as_py())


def has_numbers(texts: pa.ChunkedArray) -> bool:
    """Return whether a number is among some texts."""
    return bool(pc.any(pc.match_substring_regex(pc.utf8_trim_whitespace(pc.unique(texts)), _NUMBER)).as_py())


def as_digits(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts with 1 for ``true`` and 0 for ``false``."""
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    return pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", texts))


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a column.

    Attributes
    ----------
    values : ndarray, shape (n,)
        NaN, false or "" where a value is missing or does not fit.
    misfit : ndarray of bool, shape (n,), or None
        Where a text is there that does not fit the type; None where all do.
    filled : int
        Missing bools, which are false.
    """

    values: Column
    misfit: NDArray[np.bool_] | None = None
    filled: int = 0


def to_values(texts: pa.ChunkedArray, kind: FieldType, marks: MissingMarks, bools: BoolTexts) -> Values:
    """Return the values of a column of texts."""
    if kind == "number":
        return _numbers(texts, marks)
    trimmed = pc.utf8_trim_whitespace(texts)
    absent = pc.is_in(trimmed, pa.array(marks.texts))
    if kind == "string":
        return Values(pc.if_else(absent, "", texts).to_numpy().astype(object))
    return _bools(trimmed, absent, marks, bools)


def _numbers(texts: pa.ChunkedArray, marks: MissingMarks) -> Values:
    misfit = None
    try:  # most columns are neither padded nor have anything else in them
        values = _cast(texts, pc.is_in(texts, pa.array(marks.texts)))
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(texts)
        absent = pc.is_in(trimmed, pa.array(marks.texts))
        good = pc.match_substring_regex(trimmed, _NUMBER)
        values = _cast(trimmed, pc.or_(absent, pc.invert(good)))
        misfit = pc.invert(pc.or_(good, absent)).to_numpy()
        misfit = misfit if misfit.any() else None
    if marks.numbers and (missing := np.isin(values, marks.numbers)).any():
        values = np.where(missing, np.nan, values)
    return Values(values, misfit)


def _cast(texts: pa.ChunkedArray, absent: pa.ChunkedArray) -> FloatArray:
    numbers = pc.cast(pc.if_else(absent, None, texts), pa.float64())
    return np.asarray(numbers.to_numpy(), np.float64)


def _bools(texts: pa.ChunkedArray, absent: pa.ChunkedArray, marks: MissingMarks, bools: BoolTexts) -> Values:
    lower = pc.utf8_lower(texts)
    missing = absent.to_numpy()
    true, false = (pc.is_in(lower, pa.array(each)).to_numpy() & ~missing for each in (bools.true, bools.false))
    other = ~(true | false | missing)
    if other.any():  # numbers that are written otherwise, such as 1.0
        read = {}
        for text in pc.unique(texts.filter(pa.array(other))).to_pylist():
            read[text] = None if marks.is_missing(text, "bool") else ("?" if (v := bools.read(text)) is None else v)
        found = [read[text] for text in texts.filter(pa.array(other)).to_pylist()]
        at = np.flatnonzero(other)
        true[at], missing[at] = [v is True for v in found], [v is None for v in found]
        other[at] = [v == "?" for v in found]
    return Values(true, other if other.any() else None, int(missing.sum()))
