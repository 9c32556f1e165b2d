"""The settings of ``type: table``."""

from collections.abc import Sequence
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from sisock.errors import MissingExtra
from sisock.fields import FieldType
from sisock.site import HistorySettings, NodeSettings, Seconds, Settings, SitePath, Surroundings
from sisock.source import Source

_FOR_EVER = 1000 * 365.25 * 86400.0


class TimeSettings(Settings):
    """Which column is the time, and how it is written."""

    column: str | None = None
    """Name of the column; the first one when not given."""
    format: str = "iso"
    """``iso`` (ISO 8601, dates alone included), ``unix`` (seconds), ``unix_ms``, or a strptime pattern."""
    timezone: str = "UTC"
    """Zone of times that are written without one, such as ``Europe/Paris``."""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{name!r} is no time zone; give one such as UTC or Europe/Paris") from None
        return name


class ColumnSettings(Settings):
    """What a column is."""

    units: str | None = None
    description: str | None = None
    type: FieldType | None = None
    """``number``, ``string`` or ``bool``; found from the first rows when not given."""


class TableSettings(NodeSettings):
    """A table on disk, CSV or TSV, or a folder of them; what is appended to it is served as well."""

    type: Literal["table"]
    description: str | None = "A table on disk"
    path: SitePath
    """The file, or the folder whose ``*.csv`` and ``*.tsv`` files are served."""
    time: TimeSettings = TimeSettings()
    fields: dict[str, ColumnSettings] = Field({})
    """Units, description and type by column."""
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    """What separates cells; a tab in ``.tsv`` files and a comma in others when not given."""
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")
    """Texts that mean that there is no value."""
    together: bool = False
    """In a folder: files with one header are one timeline, read in the order of their names (daily logs)."""
    reread: Annotated[Seconds, Field(ge=0.05)] = 2.0
    """Seconds between looks at whether a file has grown."""
    history: HistorySettings = HistorySettings(keep=_FOR_EVER)
    """How much is kept; by default everything, however old."""

    def make_sources(self, here: Surroundings) -> Sequence[Source]:
        """Make a source for each table that is there.

        Raises
        ------
        MissingExtra
            If pyarrow is not installed.
        BadData
            If there is no table, or it has no header that can be used.
        """
        try:
            from sisock_nodes.table.source import table_sources
        except ModuleNotFoundError as error:
            if error.name != "pyarrow":
                raise
            raise MissingExtra("type table needs pyarrow; run: pip install 'sisock-nodes[table]'") from error
        return table_sources(self, here.clock)
