"""The content types of answers, and which of them a request asks for."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Query
from starlette.exceptions import HTTPException

ARROW, CSV, JSON = "application/vnd.apache.arrow.stream", "text/csv", "application/json"
Format = Annotated[
    Literal["json", "csv", "arrow"] | None,
    Query(description="Format of the answer, for links without `Accept`."),
]
_FORMATS: Mapping[str, str] = {"json": JSON, "csv": CSV, "arrow": ARROW}


def media_type(format: str | None, accept: str) -> str:
    """Return the content type of a format, or the first accepted one that is available.

    Raises
    ------
    HTTPException
        If none of those that are accepted is available.
    """
    if format is not None:
        return _FORMATS[format]
    for each in accept.split(","):
        kind = each.partition(";")[0].strip().lower()
        if kind in (ARROW, CSV, JSON):
            return kind
        if kind in ("*/*", "application/*"):
            return JSON
    raise HTTPException(406, f"none of {accept[:100]!r} is available; accept one of {JSON}, {CSV}, {ARROW}")
