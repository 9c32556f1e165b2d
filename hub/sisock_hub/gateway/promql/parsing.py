"""Parsing of queries into expressions; the grammar is that of the package promql-parser."""

import re
from typing import get_args

import numpy as np
import promql_parser as grammar

from sisock.errors import BadRequest, NotSupported
from sisock_hub.gateway.promql.expressions import (
    AGGREGATIONS,
    ARITHMETIC,
    Aggregated,
    Calculated,
    Expression,
    Vector,
)
from sisock_hub.gateway.promql.matching import Matcher, Operator, Selector
from sisock_hub.gateway.promql.query import Query
from sisock_hub.gateway.promql.selection import LOOKBACK_S, Selection, Use
from sisock_hub.gateway.promql.series import NAME

MOST_CHARACTERS = 50_000
"""Most characters of a query."""
MOST_WORDS = 500
"""Most words of a query: names, numbers, quoted strings, signs."""

_FUNCTIONS: tuple[Use, ...] = tuple(use for use in get_args(Use) if use != "instant")
_WORD = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`|[\w.:]+|\S""")
_OPERATORS: dict[str, Operator] = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
_SUPPORTED = (
    f"selectors with offset; {', '.join(_FUNCTIONS)}; {', '.join(AGGREGATIONS)} with by or without; "
    f"{' '.join(ARITHMETIC)} with a constant"
)


def parse(text: str) -> Query:
    """Read a query.

    Raises
    ------
    BadRequest
        If it is not PromQL.
    NotSupported
        If it is PromQL that the gateway does not support.
    """
    return Query(text, _expression(_parsed(text)))


def parse_selector(text: str) -> Selector:
    """Read a selector of series, the value of ``match[]``.

    Raises
    ------
    BadRequest
        If it is something else.
    """
    parsed = _parsed(text)
    if not isinstance(parsed, grammar.VectorSelector) or parsed.offset is not None or parsed.at is not None:
        raise BadRequest(f'{text!r} is not a selector of series; give one such as sisock_field{{node="host"}}')
    return _selector(parsed)


def _parsed(text: str) -> grammar.Expr:
    # The parser recurses into nested expressions, and a stack overflow ends the process.
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(f"the query has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    if sum(1 for _ in _WORD.finditer(text)) > MOST_WORDS:
        raise BadRequest(f"the query has more than {MOST_WORDS} words and signs; shorten it")
    try:
        parsed: grammar.Expr = grammar.parse(text)
    except (ValueError, OverflowError) as error:
        raise BadRequest(f"{text!r} is not PromQL: {error}") from error
    return parsed


def _not_supported(what: str) -> NotSupported:
    return NotSupported(f"{what} is not supported; supported are: {_SUPPORTED}")


def _expression(parsed: grammar.Expr) -> Expression:
    while isinstance(parsed, grammar.ParenExpr):
        parsed = parsed.expr
    match parsed:
        case grammar.NumberLiteral():
            return float(parsed.val)
        case grammar.VectorSelector():
            return _selection(parsed, "instant", LOOKBACK_S)
        case grammar.UnaryExpr():
            of = _expression(parsed.expr)
            return -of if isinstance(of, float) else Calculated("*", -1.0, of)
        case grammar.BinaryExpr():
            return _calculated(parsed)
        case grammar.AggregateExpr():
            return _aggregated(parsed)
        case grammar.Call():
            return _called(parsed)
        case grammar.MatrixSelector():
            raise _not_supported("a range of samples as the result")
        case grammar.SubqueryExpr():
            raise _not_supported("a subquery")
        case grammar.StringLiteral():
            raise _not_supported("a string as the result")
    raise _not_supported(type(parsed).__name__)


def _calculated(parsed: grammar.BinaryExpr) -> Expression:
    operator = str(parsed.op)
    if operator not in ARITHMETIC:
        raise _not_supported(f"the operator {operator}")
    left, right = _expression(parsed.lhs), _expression(parsed.rhs)
    if isinstance(left, float) and isinstance(right, float):
        with np.errstate(all="ignore"):
            return float(ARITHMETIC[operator](np.float64(left), np.float64(right)))
    if isinstance(left, float) or isinstance(right, float):
        return Calculated(operator, left, right)
    raise _not_supported(f"{operator} between two vectors")


def _aggregated(parsed: grammar.AggregateExpr) -> Expression:
    operation = str(parsed.op)
    if operation not in AGGREGATIONS:
        raise _not_supported(f"the aggregation {operation}")
    of = _vector(parsed.expr)
    if parsed.modifier is None:
        return Aggregated(operation, of)
    keeps = parsed.modifier.type == grammar.AggModifierType.By
    return Aggregated(operation, of, tuple(parsed.modifier.labels), keeps)


def _called(parsed: grammar.Call) -> Expression:
    name = parsed.func.name
    use = next((use for use in _FUNCTIONS if use == name), None)
    if use is None:
        raise _not_supported(f"the function {name}")
    over = parsed.args[0]
    while isinstance(over, grammar.ParenExpr):
        over = over.expr
    if not isinstance(over, grammar.MatrixSelector):
        raise _not_supported(f"{name} of a subquery")
    try:
        span_s = over.range.total_seconds()
    except (AttributeError, OverflowError) as error:
        raise BadRequest(f"the range of {name} is too long") from error
    return _selection(over.vector_selector, use, span_s)


def _vector(parsed: grammar.Expr) -> Vector:
    of = _expression(parsed)
    if isinstance(of, float):
        raise BadRequest("an aggregation needs series, not a constant")
    return of


def _selection(parsed: grammar.VectorSelector, use: Use, span_s: float) -> Selection:
    if parsed.at is not None:
        raise _not_supported("the modifier @")
    offset = parsed.offset
    return Selection(_selector(parsed), use, span_s, offset.total_seconds() if offset is not None else 0.0)


def _selector(parsed: grammar.VectorSelector) -> Selector:
    if parsed.matchers.or_matchers:
        raise _not_supported("or between matchers")
    named = [Matcher(NAME, "=", parsed.name)] if parsed.name is not None else []
    rest = [Matcher(m.name, _OPERATORS[str(m.op)], m.value) for m in parsed.matchers.matchers]
    return Selector((*named, *rest))
