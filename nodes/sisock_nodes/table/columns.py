"""Bytes of a table to columns: pure, and whole columns at a time."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv

from sisock.errors import BadData
from sisock.fields import Column, Field, FieldType, FloatArray
from sisock_nodes.table.settings import TimeSettings

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Inf|INF|infinity)$"
_TRUE, _FALSE = pa.array(["true", "True", "TRUE"]), pa.array(["false", "False", "FALSE"])


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a table are written."""

    delimiter: str
    missing: tuple[str, ...]


def whole_rows(data: bytes) -> int:
    """Return how many bytes of `data` are whole rows: up to the last line break that is not within quotes."""
    end = len(data)
    while (end := data.rfind(b"\n", 0, end)) >= 0:
        if data.count(b'"', 0, end) % 2 == 0:
            return end + 1
    return 0


def read_header(line: bytes, delimiter: str) -> list[str]:
    """Return the names of the columns.

    Raises
    ------
    BadData
        If the line is not UTF-8, is empty, or names a column twice or not at all.
    """
    if not line.strip():
        raise BadData("it has no header; its first line must name the columns")
    try:
        names = [cell.strip() for cell in next(csv.reader([line.decode()], delimiter=delimiter))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadData(f"its header cannot be read: {error}") from error
    if "" in names or len(set(names)) < len(names):
        raise BadData(f"its header names a column twice or not at all: {', '.join(map(repr, names))}")
    return names


def read_rows(data: bytes, names: Sequence[str], delimiter: str) -> tuple[pa.Table, int]:
    """Return whole rows as a table of texts, and how many rows were left out for their number of cells."""
    texts = {name: pa.string() for name in names}
    if not data.strip():
        return pa.schema(texts).empty_table(), 0
    wrong = 0

    def skip(_row: pacsv.InvalidRow) -> str:
        nonlocal wrong
        wrong += 1
        return "skip"

    table = pacsv.read_csv(
        BytesIO(data),
        read_options=pacsv.ReadOptions(use_threads=False, block_size=max(1 << 20, 2 * len(data)), column_names=names),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pacsv.ConvertOptions(
            strings_can_be_null=False, quoted_strings_can_be_null=False, column_types=texts
        ),
    )
    return table, wrong


def guess_type(texts: pa.ChunkedArray, missing: tuple[str, ...]) -> FieldType:
    """Return what a column of texts is: numbers if all that are there are, bools likewise, otherwise strings."""
    there = texts.filter(pc.invert(pc.is_in(texts, pa.array(missing, pa.string()))))
    if len(there) and pc.all(pc.or_(pc.is_in(there, _TRUE), pc.is_in(there, _FALSE))).as_py():
        return "bool"
    if pc.all(pc.match_substring_regex(pc.utf8_trim_whitespace(there), _NUMBER)).as_py() is not False:
        return "number"
    return "string"


def to_column(texts: pa.ChunkedArray, field: Field, missing: tuple[str, ...]) -> tuple[Column, int]:
    """Return the values of `field`, and how many texts could not be read as such (NaN or false then)."""
    if field.type == "string":
        return texts.to_numpy().astype(object), 0
    absent = pc.is_in(texts, pa.array(missing, pa.string()))
    if field.type == "bool":
        true = pc.is_in(texts, _TRUE)
        bad = pc.invert(pc.or_(true, pc.is_in(texts, _FALSE)))
        return true.to_numpy(), pc.sum(bad).as_py() or 0
    trimmed = pc.utf8_trim_whitespace(texts)
    good = pc.match_substring_regex(trimmed, _NUMBER)
    values = pc.cast(pc.if_else(good, trimmed, None), pa.float64())
    bad = pc.and_(pc.invert(good), pc.invert(absent))
    return values.to_numpy(zero_copy_only=False).astype(np.float64), pc.sum(bad).as_py() or 0


def to_times(texts: pa.ChunkedArray, settings: TimeSettings) -> FloatArray:
    """Return UNIX seconds, shape (n,); NaN for what cannot be read as a time."""
    texts = pc.utf8_trim_whitespace(texts)
    if settings.format in ("unix", "unix_ms"):
        seconds, _ = to_column(texts, Field("t"), ())
        return seconds / (1000.0 if settings.format == "unix_ms" else 1.0)
    if settings.format == "iso" and settings.timezone == "UTC":
        try:
            stamps = pc.cast(texts, pa.timestamp("us")).to_numpy()
            return np.asarray(stamps, "datetime64[us]").astype(np.int64) / 1e6
        except pa.ArrowInvalid:
            pass  # some are written with a zone, or not at all: one by one, then
    zone = ZoneInfo(settings.timezone)
    # Log files repeat few of their times, but a mapping still spares the daily ones of many stations.
    known: Mapping[str, float] = {text: _moment(text, settings.format, zone) for text in pc.unique(texts).to_pylist()}
    return np.array([known[text] for text in texts.to_pylist()], np.float64)


def _moment(text: str, pattern: str, zone: ZoneInfo) -> float:
    try:
        moment = datetime.fromisoformat(text) if pattern == "iso" else datetime.strptime(text, pattern)  # noqa: DTZ007
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
