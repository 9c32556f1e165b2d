"""What settings are made of: lengths of time, sizes, paths."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from sisock.errors import BadRequest
from sisock.times import parse_span


def _span(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_span(value)
        except BadRequest as error:
            raise ValueError(error.message) from None
    return value


Seconds = Annotated[float, BeforeValidator(_span), Field(ge=0, allow_inf_nan=False)]
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


class Settings(BaseModel):
    """A part of the site file; keys that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
