"""The units of site values (durations, sizes, paths), and the settings that every node has."""

import ipaddress
import math
import os
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from sisock.errors import BadRequest
from sisock.times import parse_span


def as_seconds(value: Any) -> Any:
    """Return a duration in seconds if it is a text; for settings that are durations."""
    if isinstance(value, str):
        try:
            return parse_span(value)
        except BadRequest as error:
            raise ValueError(error.message) from None
    return value


Seconds = Annotated[float, BeforeValidator(as_seconds), Field(ge=0, allow_inf_nan=False)]
"""A duration: a number of seconds, or text such as ``500ms``, ``10s``, ``5m``, ``1h30m``, ``2d``."""


_UNITS = {
    "": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b|)\s*", value.lower())
        if not match:
            raise ValueError(
                f"{value!r} is not a size; give bytes, or a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB"
            )
        return int(float(match[1]) * _UNITS[match[2]])
    return value


Size = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
"""A size: a number of bytes, or text such as ``64MB`` or ``1.5GiB``."""


def _from_site_folder(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("a path cannot have a null character in it")
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path


SitePath = Annotated[Path, AfterValidator(_from_site_folder)]
"""A path; a relative one starts from the folder of the site file."""


class PathUse(Enum):
    """The use of a path in the site file, which decides what must exist before anything starts."""

    READ = "read"
    WRITE = "write"


InputPath = Annotated[SitePath, PathUse.READ]
"""A path of a file or a folder that is read, and must be there; `sisock check` looks."""
OutputPath = Annotated[SitePath, PathUse.WRITE]
"""A path of a folder that is written to, and made where it can be; `sisock check` looks whether it can."""


class Settings(BaseModel):
    """A part of the site file; keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class HistorySettings(Settings):
    """How much a node remembers, and where."""

    path: OutputPath | None = None
    """Folder of the history on disk, of this node alone; without it the history is in memory and ends with the node."""
    keep: Seconds | None = None
    """How far back samples are kept: 6 h when in memory, without limit when on disk, if not given."""
    max_samples: int = Field(10_000_000, ge=1)
    """Most samples that a timeline keeps in memory, whatever their age."""
    memory: Seconds = 3600.0
    """How much of a history on disk is kept in memory as well; its end is answered from there."""
    memory_size: Annotated[Size, Field(ge=2**20)] = 256 * 10**6
    """Most bytes of a history on disk that are kept in memory, of all its timelines together."""
    max_size: Size = 10 * 10**9
    """Most bytes that the history may take on disk; beyond it, the oldest samples are removed."""
    segment: Annotated[Size, Field(ge=2**16, le=2**32)] = 64 * 2**20
    """Bytes of a timeline's samples that are gathered before they are compressed into one sealed segment."""
    sync: Literal["none", "interval", "always"] = "interval"
    """When samples are forced onto the disk: by the system alone, at intervals, or before each is acknowledged."""
    sync_interval: Annotated[Seconds, Field(gt=0)] = 1.0
    """Seconds between writes to the disk when `sync` is ``interval``."""

    @property
    def keep_s(self) -> float:
        """How far back samples are kept, in seconds; infinite for no limit."""
        if self.keep is not None:
            return self.keep
        return math.inf if self.path else 6 * 3600.0


class TableSettings(Settings):
    """How much of a node's tables is kept, such as those of its events and operations; each table on its own."""

    keep: Seconds | None = None
    """How far back rows are kept on disk; without limit if not given."""
    max_size: Annotated[Size, Field(ge=2**16)] = 500 * 10**6
    """Most bytes that a table may take on disk; beyond it, the oldest rows are removed."""
    memory_size: Annotated[Size, Field(ge=2**16)] = 16 * 10**6
    """Most bytes of a table that are kept in memory; older rows are read from the disk."""


class AllowanceSettings(Settings):
    """How much a node answers at once; beyond it, it answers False."""

    values: int = Field(5_000_000, ge=1)
    """Most values, times included, in one answer."""
    bytes: Size = 64 * 10**6
    """Most bytes in one answer."""
    big_reads: int = Field(2, ge=1)
    """Most answers above 1 MB on their way to one caller; four times as many may wait, then the node is busy."""
    memory: Annotated[Size, Field(ge=2**20)] = 256 * 10**6
    """Most bytes of all answers above 1 MB together, of all callers; 200 more may wait, then the node is busy."""


class WorkSettings(Settings):
    """How much of a node's work is done at once; what exceeds the limits is refused as busy."""

    queries: int = Field(8, ge=1)
    """Most queries that run at a time."""
    commands: int = Field(8, ge=1)
    """Most commands that run at a time."""
    operations: int = Field(64, ge=1)
    """Most runs of operations at a time; coroutines are not counted."""
    active_runs: int = Field(1000, ge=1)
    """Most runs of operations that are queued or running."""
    threads: int = Field(8, ge=1)
    """Most functions of the node type's own at a time, see `NodeContext.executor`."""
    waiting: int = Field(1000, ge=0)
    """Most queries, and most commands, that wait."""


def unusable_paths(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys and errors of unusable paths in some settings and those within."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from (((name, *keys), message) for keys, message in unusable_paths(value))
        elif isinstance(value, Path):
            marks = _metadata(field.annotation, field.metadata)
            use = next((each for each in marks if isinstance(each, PathUse)), None)
            if use and (message := unusable(value, use)):
                yield (name,), message


def _metadata(annotation: Any, metadata: Iterable[Any]) -> Iterator[Any]:
    """Yield the annotations of a type, also within a union: ``Annotated[Path, …] | None``."""
    yield from metadata
    for each in get_args(annotation):
        yield from _metadata(each, getattr(each, "__metadata__", ()))


def unusable(path: Path, use: PathUse) -> str | None:
    """Return why a path cannot be used; None if it can."""
    try:
        if use is PathUse.READ:
            if not path.exists():
                return f"{path} does not exist; a relative path starts from the folder of the site file"
            return None if os.access(path, os.R_OK) else f"{path} cannot be read by this user; see its permissions"
        there = next(each for each in (path, *path.parents) if each.exists())
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if not there.is_dir():
        return f"{there} is a file; give a folder"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written to by this user; see its permissions, or give another folder"
    return None


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
