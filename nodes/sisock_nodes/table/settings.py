"""The settings of ``type: table``."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from sisock.nodetype import NodeSettings
from sisock.settings import HistorySettings, InputPath, Seconds, Settings
from sisock_nodes.records.learned import ValueSettings

Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_FOR_EVER = 1000 * 365.25 * 86400.0


class TimeSettings(Settings):
    """Which columns are the time, and how it is written."""

    column: str | None = None
    """Name of the column; the first one when not given."""
    columns: list[str] | None = Field(None, min_length=2, max_length=10)
    """Names of several columns, such as a date and a time; `format` is of their texts with a blank between them."""
    format: str = "iso"
    """``iso`` (ISO 8601, dates alone included), ``unix`` (seconds), ``unix_ms``, or a strptime pattern."""
    scales: list[Scale] | None = None
    """Of several columns of format ``unix``: seconds in the unit of each, such as ``[1, 1.0e-9]``; they are added."""
    timezone: str = "UTC"
    """Zone of times that are written without one, such as ``Europe/Paris``."""

    @property
    def scale(self) -> float:
        """Seconds in the unit of times that are numbers."""
        return self.scales[0] if self.scales else 1e-3 if self.format == "unix_ms" else 1.0

    @property
    def names(self) -> Sequence[str]:
        """Names of the columns that are the time; none when it is the first one."""
        return self.columns or ([self.column] if self.column is not None else [])

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.columns and self.column is not None:
            raise ValueError("column and columns are both given; give one of them")
        if self.scales is not None and (self.format != "unix" or len(self.scales) != len(self.columns or [None])):
            raise ValueError("scales are for format unix, one for each of columns")
        if self.columns and self.format.startswith("unix") and self.scales is None:
            raise ValueError(
                f"columns of format {self.format} need format unix and scales: seconds in the unit of each"
            )
        return self

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{name!r} is not a time zone; give one such as UTC or Europe/Paris") from None
        return name


class PivotSettings(Settings):
    """A long table, of one row for each measured value: which column names the field, and which has its value."""

    name: str
    """Column with the name of what was measured; each name is a field of a timeline of its own."""
    value: str
    """Column with the values; other columns are left out."""


class TableSettings(NodeSettings):
    """A table on disk, CSV or TSV, or a folder of them; what is appended to it is served as well."""

    type: Literal["table"]
    description: str | None = "A table on disk"
    path: InputPath
    """The file, or the folder whose ``*.csv`` and ``*.tsv`` files are served."""
    time: TimeSettings = TimeSettings()
    fields: dict[str, ValueSettings] = Field({})
    """Units, description and type by column; with `pivot`, by ``<value>.<column>`` as well."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """The delimiter of cells; a tab in ``.tsv`` files and a comma in others when not given."""
    pivot: str | list[str] | PivotSettings | None = None
    """Column, or columns, whose values distinguish what was measured: each value has a timeline with fields of its own,
    called ``<value>.<column>``. With `name` and `value`, each name is a field of that name."""
    pivot_limit: int = Field(1000, ge=1, le=100_000)
    """Most values of `pivot` that have a timeline; rows of others are left out and counted."""
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")
    """Texts that mean that there is no value, as an empty one always does; numbers match however they are written."""
    together: bool = False
    """In a folder: files with one header are one timeline, read in the order of their names (daily logs)."""
    reread: Annotated[Seconds, Field(ge=0.05)] = 2.0
    """Seconds between looks at whether a file has grown."""
    history: HistorySettings = HistorySettings(keep=_FOR_EVER)
    """How much is kept; by default everything, however old."""

    @property
    def pivots(self) -> Sequence[str]:
        """Names of the columns whose values distinguish what was measured."""
        if isinstance(self.pivot, PivotSettings):
            return [self.pivot.name]
        return [self.pivot] if isinstance(self.pivot, str) else self.pivot or []

    @property
    def value_column(self) -> str | None:
        """Name of the column that has the values of a long table; None if all columns are fields."""
        return self.pivot.value if isinstance(self.pivot, PivotSettings) else None

    @field_validator("delimiter")
    @classmethod
    def _can_separate(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (not delimiter.isascii() or delimiter in '"\r\n'):
            raise ValueError(f"{delimiter!r} cannot separate cells; give an ASCII character such as ; or a tab")
        return delimiter
