"""Definitions of alarms, as the site file and commands give them, and their texts."""

import math
import re
import string
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from sisock.errors import BadRequest
from sisock.fields import Field as DataField
from sisock.settings import Seconds, Settings

Severity = Literal["info", "warning", "error", "critical"]
"""Severity of an alarm, from the lowest to the highest."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

_LONGEST_NAME, _LONGEST_TEXT, _LONGEST_UNITS = 200, 1000, 200
# Integers that every message carries.
_SMALLEST_INT, _LARGEST_INT = -(1 << 63), (1 << 64) - 1
_NAME = re.compile(r"[\w\-.:]+(/[\w\-.:]+)*")
_CONDITIONS = ("above", "below", "equals", "not_equals", "stale_after")
# No width: it would make a text of any length.
_FORMAT = re.compile(r"\+?,?(\.\d{1,2})?[dfeg%]?")
_PLACEHOLDERS = ("value", "limit", "units", "field", "alarm")


def _valid_name(name: str) -> str:
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} is not a valid name for an alarm; use letters, digits, -, _, . and :, with / between "
            f"a group and its alarms, {_LONGEST_NAME} characters at most"
        )
    return name


AlarmName = Annotated[str, AfterValidator(_valid_name)]
"""Name of an alarm; a group is what stands before ``/``: ``room/temperature``."""


def _valid_text(text: str) -> str:
    for _, name, spec, conversion in string.Formatter().parse(text):
        if name is not None and name not in _PLACEHOLDERS:
            known = ", ".join(f"{{{each}}}" for each in _PLACEHOLDERS)
            raise ValueError(f"text has {{{name}}}; known: {known}; write {{{{ for a brace")
        if name is not None and (conversion or not _FORMAT.fullmatch(spec or "")):
            raise ValueError(f"text has {{{name}}} with the format {spec or conversion!r}; give one such as .1f")
    return text


def _check_comparable(name: str, value: Any) -> None:
    """Raise ValueError for a value that a sample cannot have, or that no message carries."""
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} is NaN, which equals nothing; use stale_after for values that are missing")
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"{name} is {value}; use above or below, which infinite values raise as well")
    if isinstance(value, int) and not _SMALLEST_INT <= value <= _LARGEST_INT:
        raise ValueError(f"{name} is an integer of more than 64 bits, which no field has")
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ValueError(f"{name} has {len(value)} characters; give {_LONGEST_TEXT} at most")


class AlarmSettings(Settings):
    """An alarm: a condition on one field of its node, and what is reported when it holds."""

    field: str = Field(min_length=1, max_length=_LONGEST_TEXT)
    """Field of the node."""
    above: float | None = Field(None, allow_inf_nan=False)
    """Raise when a number is above this."""
    below: float | None = Field(None, allow_inf_nan=False)
    """Raise when a number is below this."""
    equals: StrictBool | StrictInt | StrictFloat | StrictStr | None = None
    """Raise when the value is this number, text, or true or false."""
    not_equals: StrictBool | StrictInt | StrictFloat | StrictStr | None = None
    """Raise when the value is anything else."""
    stale_after: Annotated[Seconds, Field(gt=0)] | None = None
    """Raise when no value has arrived for so long."""
    clear: float | None = Field(None, allow_inf_nan=False)
    """With `above` or `below`: clear when the number is here again (hysteresis); by default at that limit."""
    on_delay: Seconds = Field(0.0, alias="for")
    """Raise when the condition has held for so long without a break (on-delay)."""
    clear_for: Seconds = 0.0
    """Clear when the condition has not held for so long without a break (off-delay)."""
    latch: bool = False
    """Whether an operator has to reset the alarm after its condition has cleared."""
    severity: Severity = "warning"
    """Severity of the event that reports it: info, warning, error, critical."""
    text: Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT), AfterValidator(_valid_text)] | None = None
    """Text for operators, in which {value}, {limit}, {units}, {field} and {alarm} are replaced: `at {value:.1f}`."""
    units: Annotated[str, Field(max_length=_LONGEST_UNITS)] | None = None
    """Units that the field must have; by default those that it has when the alarm first sees it."""

    @model_validator(mode="after")
    def _has_one_condition(self) -> Self:
        given = [name for name in _CONDITIONS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"has {' and '.join(given)}" if given else "has no condition"
            raise ValueError(f"an alarm {found}; give one of {', '.join(_CONDITIONS)}, and further alarms for others")
        if self.clear is not None:
            if self.above is None and self.below is None:
                raise ValueError(f"clear belongs to above and below; leave it out with {given[0]}")
            if self.above is not None and self.clear > self.above:
                raise ValueError(f"clear ({self.clear:g}) must not be above the limit ({self.above:g})")
            if self.below is not None and self.clear < self.below:
                raise ValueError(f"clear ({self.clear:g}) must not be below the limit ({self.below:g})")
        if self.stale_after is not None and self.on_delay:
            raise ValueError("stale_after is a delay already; leave out for")
        for name in ("equals", "not_equals"):
            _check_comparable(name, getattr(self, name))
        return self

    @property
    def condition(self) -> str:
        """The key of its condition."""
        return next(name for name in _CONDITIONS if getattr(self, name) is not None)

    @property
    def limit(self) -> float | str:
        """The value of its condition."""
        limit: float | str = getattr(self, self.condition)
        return limit

    def as_content(self) -> dict[str, Any]:
        """Return its keys as in a site file, without those that have their defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def mismatch(self, field: DataField) -> str | None:
        """Return the error if the condition does not fit the type of its field; None if it does."""
        if self.stale_after is not None:
            return None
        kind = "number" if self.condition in ("above", "below") else _type_of(self.limit)
        if kind == field.type:
            return None
        return f"field {field.name!r} is a {field.type}, and {self.condition}: {shown(self.limit)} needs a {kind}"


def _type_of(value: float | str) -> str:
    return "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"


def shown(value: Any) -> str:
    """Return a value as text for people: numbers with six digits, ``true`` and ``false``, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class _Text(string.Formatter):
    """Replaces the placeholders of a text; a format that does not suit the value is left out."""

    def format_field(self, value: Any, format_spec: str) -> str:
        try:
            return format(value, format_spec) if format_spec else shown(value)
        except (ValueError, TypeError):  # TypeError: there is no value yet
            return shown(value)


def text_of(name: str, settings: AlarmSettings, value: Any, units: str | None) -> str:
    """Return the text of an alarm with the value that raised it.

    Parameters
    ----------
    name : str
    settings : AlarmSettings
    value : float, bool, str or None
        None where no value has come.
    units : str or None
    """
    is_number = not isinstance(settings.limit, bool | str)
    unit = f" {units}" if is_number and units and units != "1" else ""
    if settings.stale_after is not None:
        measured = f"{settings.field} has no value for {shown(settings.stale_after)} s"
    else:
        measured = f"{settings.field} is {shown(value)}{unit}"
    if settings.text is None:
        what = "" if settings.stale_after is not None else f", {phrase(settings)}{unit}"
        return f"{measured}{what}"
    names: Mapping[str, Any] = {
        "value": value,
        "limit": settings.limit,
        "units": units or "",
        "field": settings.field,
        "alarm": name,
    }
    text = _Text().vformat(settings.text, (), names)
    has_value = any(each == "value" for _, each, _, _ in string.Formatter().parse(settings.text))
    return text if has_value else f"{text} ({measured})"


def phrase(settings: AlarmSettings) -> str:
    """Return the condition of an alarm as text: ``above 60``, ``stale after 30 s``."""
    seconds = " s" if settings.stale_after is not None else ""
    return f"{settings.condition.replace('_', ' ').replace('equals', 'equal to')} {shown(settings.limit)}{seconds}"


def parse_alarm(name: str, content: Mapping[str, Any]) -> AlarmSettings:
    """Return the settings of an alarm from plain values, those of a command or of a file.

    Raises
    ------
    BadRequest, pydantic.ValidationError
        If the name or the settings are not valid.
    """
    try:
        _valid_name(name)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return AlarmSettings.model_validate(content)
