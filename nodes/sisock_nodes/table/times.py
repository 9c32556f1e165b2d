"""Texts to times; whole columns at a time."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sisock.fields import FloatArray
from sisock.times import read_iso
from sisock_nodes.records.values import BoolTexts, MissingMarks
from sisock_nodes.table.columns import to_values
from sisock_nodes.table.settings import TimeSettings

_NO_MARKS, _NO_BOOLS = MissingMarks(()), BoolTexts()


def read_times(table: pa.Table, settings: TimeSettings) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the times of some rows, shape (n,), and which of them are local ones.

    Local ones, which name no zone, are what the clock showed, as seconds since it showed 1970; others are UNIX seconds;
    NaN stands for what cannot be read.

    Parameters
    ----------
    table : pyarrow.Table
        Of strings, with the columns of the settings.
    settings : TimeSettings
        With at least one column.
    """
    columns = [table[name] for name in settings.names]
    if settings.format in ("unix", "unix_ms"):
        scales = settings.scales or [1e-3 if settings.format == "unix_ms" else 1.0]
        numbers = [to_values(texts, "number", _NO_MARKS, _NO_BOOLS).values for texts in columns]
        seconds = sum((each * scale for each, scale in zip(numbers, scales, strict=True)), np.zeros(len(table)))
        return np.asarray(seconds), np.zeros(len(table), bool)
    texts = columns[0]
    if len(columns) > 1:
        texts = pc.binary_join_element_wise(*(pc.utf8_trim_whitespace(each) for each in columns), " ")
    if settings.format == "iso":
        for given in (texts, pc.utf8_trim_whitespace(texts)):
            try:
                stamps = pc.cast(given, pa.timestamp("us")).to_numpy()
            except pa.ArrowInvalid:
                continue  # some have blanks around, are written with a zone, or not at all
            return np.asarray(stamps, "datetime64[us]").astype(np.int64) / 1e6, np.ones(len(table), bool)
    texts = pc.utf8_trim_whitespace(texts)
    # Log files repeat few of their times, but a mapping still spares the daily ones of many stations.
    known = {text: _moment(text, settings.format) for text in pc.unique(texts).to_pylist()}
    read = [known[text] for text in texts.to_pylist()]
    return np.array([t for t, _ in read], np.float64), np.array([is_local for _, is_local in read], bool)


def _moment(text: str, pattern: str) -> tuple[float, bool]:
    try:
        if pattern == "iso":
            seconds, names_zone = read_iso(text)
            return seconds, not names_zone
        moment = datetime.strptime(text, pattern)  # noqa: DTZ007
        if moment.tzinfo:
            return moment.timestamp(), False
        return moment.replace(tzinfo=UTC).timestamp(), True
    except (ValueError, OverflowError):
        return float("nan"), False
