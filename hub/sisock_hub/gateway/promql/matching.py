"""Selection of series by their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic_core import SchemaError, SchemaValidator, core_schema

from sisock.errors import BadRequest
from sisock_hub.gateway.promql.series import NAME

Operator = Literal["=", "!=", "=~", "!~"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; a missing label is empty.

    Raises
    ------
    BadRequest
        If the pattern of ``=~`` or ``!~`` is not a regular expression.

    References
    ----------
    Prometheus anchors patterns at both ends and lets the dot match line breaks (RE2). pydantic's regular
    expressions are Rust's: the same language, and linear in time whatever the pattern is.
    """

    label: str
    operator: Operator
    value: str

    def __post_init__(self) -> None:
        if self.operator in ("=~", "!~"):
            _compiled(self.value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series with these labels is selected."""
        text = labels.get(self.label, "")
        match self.operator:
            case "=":
                return text == self.value
            case "!=":
                return text != self.value
            case "=~":
                return _compiled(self.value).isinstance_python(text)
        return not _compiled(self.value).isinstance_python(text)

    def __str__(self) -> str:
        return f'{self.label}{self.operator}"{self.value}"'


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> SchemaValidator:
    try:
        # Compiled by itself first: brackets that match only together with ours would undo the anchors.
        SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        return SchemaValidator(core_schema.str_schema(pattern=f"^(?s:{pattern})$", regex_engine="rust-regex"))
    except SchemaError as error:
        detail = str(error).splitlines()[-1].strip()
        raise BadRequest(f"{pattern!r} is not a regular expression: {detail}; the syntax is that of RE2") from error


@dataclass(frozen=True, slots=True)
class Selector:
    """All conditions on a series; the metric's name is the label ``__name__``."""

    matchers: tuple[Matcher, ...]

    @property
    def metric(self) -> str | None:
        """The metric's name, where the selector has it in full."""
        return next((m.value for m in self.matchers if m.label == NAME and m.operator == "="), None)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether a series with these labels is selected."""
        return all(matcher.matches(labels) for matcher in self.matchers)

    def may_match(self, known: Mapping[str, str]) -> bool:
        """Return whether a series may be selected of which only these labels are known."""
        return all(matcher.matches(known) for matcher in self.matchers if matcher.label in known)

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self.matchers)) + "}"


def matching(selectors: Sequence[Selector], label_sets: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the label sets that at least one selector selects; all of them if there is no selector."""
    if not selectors:
        return list(label_sets)
    return [labels for labels in label_sets if any(selector.matches(labels) for selector in selectors)]
