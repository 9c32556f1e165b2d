"""Conditions on the rows of a table: ``[column, op, value]``, or as a text: ``energy > 2.5``, ``target like gold*``."""

import json
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sisock.errors import BadRequest
from sisock.fields import Column
from sisock.patterns import did_you_mean, expanded
from sisock.tables.columns import Columns, ColumnType
from sisock.times import parse_time

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OPS = (*_ORDER, "in", "contains", "like")
"""The comparisons; `contains`: a part of a text, an element of JSON; `like`: a shell pattern, or alternatives."""
_OF_TEXT = ("contains", "like")
_NUMERIC = ("time", "number", "integer")
_MOST, _LONGEST = 100, 100_000
_TEXT = re.compile(
    r"\s*(?P<column>\w[\w.-]*)\s*(?:(?P<op>==|!=|<=|>=|<|>|=)|(?<=\s)(?P<word>in|contains|like)\s)\s*(?P<value>.*?)\s*",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True)
class Condition:
    """A condition, validated.

    Attributes
    ----------
    column : str
    op : str
        One of `OPS`.
    value : any
        Of the type of the column; for ``in`` a list of such values.
    type : str
        Of the column.
    """

    column: str
    op: str
    value: Any
    type: ColumnType

    @property
    def is_slow(self) -> bool:
        """Whether it is evaluated value by value: of texts and JSON."""
        return self.type in ("text", "json")

    def holds(self, values: Column) -> NDArray[np.bool_]:
        """Return for which values of the column it holds; for JSON, values are as encoded."""
        if values.dtype.kind != "O":
            if self.op == "in":
                return np.isin(values, self.value)
            return _ORDER[self.op](values, self.value)  # type: ignore[no-any-return]
        holds = cache(self._predicate())  # texts of a column repeat
        return np.fromiter(map(holds, values.tolist()), bool, len(values))

    def may_hold(self, least: float, greatest: float) -> bool:
        """Whether it may hold for numbers in a closed range."""
        match self.op:
            case "<" | "<=":
                return bool(_ORDER[self.op](least, self.value))
            case ">" | ">=":
                return bool(_ORDER[self.op](greatest, self.value))
        return True

    def _predicate(self) -> Callable[[Any], bool]:
        value, op = self.value, self.op
        if op == "like":
            patterns = [shell.compiled().match for shell in expanded(value)]
            return lambda text: text is not None and any(match(text) for match in patterns)
        if self.type == "json":
            return lambda text: _compare(op, json.loads(text), value)
        return lambda text: _compare(op, text, value)


def _compare(op: str, there: Any, value: Any) -> bool:
    if op == "in":
        return there in value
    if op == "contains":
        return (
            isinstance(there, str | list | dict)
            and (not isinstance(there, str) or isinstance(value, str))
            and (value in there)
        )
    try:
        return bool(_ORDER[op](there, value))
    except TypeError:  # values of different types have no order
        return False


def parse(columns: Columns, conditions: Iterable[Sequence[Any]], now: float) -> list[Condition]:
    """Return conditions on columns, validated.

    Parameters
    ----------
    columns : mapping of str to ColumnType
    conditions : iterable of [column, op, value], or of str
    now : float
        UNIX seconds; times may be texts such as ``-1h``, see `parse_time`.

    Raises
    ------
    BadRequest
        If one is malformed, or names a column, an op or a value that does not fit.
    """
    found = [_parse(columns, _from_text(columns, each) if isinstance(each, str) else each, now) for each in conditions]
    if len(found) > _MOST:
        raise BadRequest(f"there are {len(found)} conditions; give at most {_MOST}")
    return found


def _from_text(columns: Columns, text: str) -> tuple[str, str, Any]:
    """Return column, op and value of a condition that is written as a text."""
    found = _TEXT.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        ops = ", ".join(OPS)
        raise BadRequest(
            f"{text[:80]!r} is not a valid condition; write a column, one of {ops}, and a value: 'energy>2.5'"
        )
    column, op, value = found["column"], found["op"] or found["word"], found["value"]
    kind, op = columns.get(column, "text"), "==" if op == "=" else op
    values = [_value_of(kind, each.strip()) for each in value.split(",")] if op == "in" else None
    return column, op, values if values is not None else value if op == "like" else _value_of(kind, value)


def _value_of(kind: ColumnType, text: str) -> Any:
    """Return the value of a column's type that a text stands for; the text itself where it stands for none."""
    if kind in ("number", "integer", "bool", "json"):
        with suppress(ValueError):
            return json.loads(text)
    return text


def nearest(column: Any, columns: Iterable[str]) -> str:
    """Return the names that are most like that of a column that does not exist, and all that do."""
    names = list(columns)
    hint = f"{meant} " if (meant := did_you_mean(str(column), names)) else ""
    return f"{hint}there are: {', '.join(names)}"


def _parse(columns: Columns, condition: Sequence[Any], now: float) -> Condition:
    if not isinstance(condition, Sequence) or len(condition) != 3:
        raise BadRequest(f"{condition!r} is not a valid condition; give [column, op, value]")
    column, op, value = condition
    if not isinstance(column, str) or column not in columns:
        raise BadRequest(f"a condition names the column {column!r}, which does not exist; {nearest(column, columns)}")
    kind = columns[column]
    offered = [each for each in OPS if kind == "text" or (each != "like" and (kind == "json" or each != "contains"))]
    if op not in offered:
        raise BadRequest(
            f"condition {condition!r}: {op!r} cannot be asked of a column of type {kind}; give {', '.join(offered)}"
        )
    if op == "in" and (isinstance(value, str) or not isinstance(value, Sequence)):
        raise BadRequest(f"condition {condition!r}: give a list of values for 'in'")
    values = [_time(each, now) if kind == "time" else each for each in (value if op == "in" else [value])]
    for each in values:
        if not _fits(kind, each) or (op == "like" and each is None):
            raise BadRequest(f"condition {condition!r}: {each!r} is not a value of a column of type {kind}")
    if op == "like":
        expanded(value)  # raises for too many alternatives
    return Condition(column, op, values if op == "in" else values[0], kind)


def _time(value: Any, now: float) -> Any:
    """Return UNIX seconds for a time that is written as a text."""
    if not isinstance(value, str):
        return value
    time = parse_time(value)
    return time if time > 0 else now + time


def _fits(kind: ColumnType, value: Any) -> bool:
    if kind in _NUMERIC:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool":
        return isinstance(value, bool)
    return kind == "json" or value is None or isinstance(value, str)
