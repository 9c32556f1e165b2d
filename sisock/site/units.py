"""What settings are made of: lengths of time, sizes, paths."""

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from sisock.errors import BadRequest
from sisock.times import parse_span


def as_seconds(value: Any) -> Any:
    """Return a length of time in seconds, if it is a text; for settings that are one."""
    if isinstance(value, str):
        try:
            return parse_span(value)
        except BadRequest as error:
            raise ValueError(error.message) from None
    return value


Seconds = Annotated[float, BeforeValidator(as_seconds), Field(ge=0, allow_inf_nan=False)]
"""A length of time: a number of seconds, or text such as ``500ms``, ``10s``, ``5m``, ``1h30m``, ``2d``."""


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
            raise ValueError(f"{value!r} is no size; give bytes, or a number with kB, MB, GB, TB, KiB, MiB, GiB or TiB")
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
    """What a path in the site file is for, and so what must be there before anything starts."""

    READ = "read"
    WRITE = "write"


InputPath = Annotated[SitePath, PathUse.READ]
"""A path of a file or a folder that is read, and must be there; `sisock check` looks."""
OutputPath = Annotated[SitePath, PathUse.WRITE]
"""A path of a folder that is written to, and made where it can be; `sisock check` looks whether it can."""


class Settings(BaseModel):
    """A part of the site file; keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def unusable_paths(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys of paths that cannot be used, with what is wrong with them, in some settings and those within."""
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
    """Yield what a type is annotated with, also where it is one of several: ``Annotated[Path, …] | None``."""
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
