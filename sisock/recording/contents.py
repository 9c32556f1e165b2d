"""The metadata of recordings, the same in every format."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sisock.errors import BadData, BadRequest, SisockError
from sisock.fields import Batch, Column, Field, Timeline
from sisock.times import Interval

VERSION, SEVERAL = 1, 2
"""Versions of the metadata, the newer one with several timelines in one table; others are refused."""
KEY = "sisock.recording"
"""Name of the metadata of a recording, where the format has metadata by name."""

Gap = tuple[float, float]

# NumPy reads some texts for a dtype as Python, hence SyntaxError.
_READING = (
    *(OSError, ValueError, KeyError, IndexError, TypeError),
    *(AttributeError, RuntimeError, MemoryError, SyntaxError),
)
_WRITING = (ValueError, TypeError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recording comes from: the node, and the interval that was asked for."""

    node: str | None = None
    interval: Interval | None = None


@dataclass(slots=True)
class RecordedTimeline:
    """One timeline of a recording: what it is, the dtypes of its columns by field, how much there is of it."""

    timeline: Timeline
    dtypes: dict[str, np.dtype[Any]]
    samples: int = 0
    gaps: set[Gap] = field(default_factory=set)


class Writer(Protocol):
    """Writing of a format; its exceptions are translated by the caller."""

    def begin(self, recorded: RecordedTimeline) -> None:
        """Make room for a timeline."""
        ...

    def put(self, recorded: RecordedTimeline, batch: Batch) -> None:
        """Write samples, whose columns have the dtypes of the timeline."""
        ...

    def widen(self, recorded: RecordedTimeline) -> None:
        """Convert the written samples to the present dtypes of the timeline."""
        ...

    def finish(self, origin: Origin, contents: list[RecordedTimeline]) -> None:
        """Write the metadata; the file is complete then."""
        ...

    def close(self) -> None:
        """Close the file, complete or not."""
        ...


class Reader(Protocol):
    """Reading of a format."""

    origin: Origin
    contents: list[RecordedTimeline]
    left_out: list[str]
    """Columns that are not numbers, bools or strings."""
    filled: int
    """Bools and strings that were missing in what was read so far, and are given as false and ""."""

    def read(self, recorded: RecordedTimeline, rows: int) -> Iterator[Batch]:
        """Yield the samples of a timeline, at most `rows` at once."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def origin_head(origin: Origin) -> dict[str, Any]:
    """Return the metadata of an origin, as values for JSON."""
    return {"version": VERSION, "node": origin.node, "interval": origin.interval}


def timeline_head(recorded: RecordedTimeline) -> dict[str, Any]:
    """Return the metadata of a timeline, as values for JSON."""
    return {
        "timeline": recorded.timeline.name,
        "interval_s": recorded.timeline.interval_s,
        "samples": recorded.samples,
        "gaps": sorted(recorded.gaps),
    }


def spelled(head: dict[str, Any]) -> str:
    """Return values as one line of JSON."""
    return json.dumps(head, ensure_ascii=False)


def spelled_out(text: str | bytes) -> dict[str, Any]:
    """Return the values that a line of JSON holds."""
    return dict(json.loads(text))


def read_origin(text: str | bytes) -> tuple[Origin, dict[str, Any]]:
    """Return the origin in the metadata of a file, and all of the metadata.

    Raises
    ------
    BadData
        If it was written by a newer version.
    """
    head = spelled_out(text)
    if head["version"] > SEVERAL:
        raise BadData(
            f"is a recording of version {head['version']}, and this sisock reads up to {SEVERAL}; update sisock"
        )
    return Origin(head.get("node"), Interval(*head["interval"]) if head.get("interval") else None), head


def read_timeline(head: dict[str, Any], fields: list[Field], dtypes: dict[str, np.dtype[Any]]) -> RecordedTimeline:
    """Return the timeline in the metadata of a file; its watermark moves with its data, not with the clock."""
    timeline = Timeline(head["timeline"], fields, head.get("interval_s"), lateness_s=0.0, follows_clock=False)
    return RecordedTimeline(timeline, dtypes, int(head["samples"]), {(float(a), float(b)) for a, b in head["gaps"]})


def time_name(fields: list[str]) -> str:
    """Return the name of the column of times: ``t``, with underscores before it where a field has that name."""
    name = "t"
    while name in fields:
        name = f"_{name}"
    return name


def absent(field: Field, n: int) -> tuple[Column, int]:
    """Return `n` values that are missing, and how many of them the type cannot represent as missing.

    A number is NaN; a bool, which knows no such value, is false, and a string "".
    """
    match field.type:
        case "number":
            return np.full(n, np.nan), 0
        case "bool":
            return np.zeros(n, np.bool_), n
        case "string":
            return np.full(n, "", object), n


def fitted(field: Field, values: Column) -> tuple[Column, int]:
    """Return values with the type of their field, and how many bools and strings were missing.

    A number that is missing is NaN, a bool false, a string "".

    Raises
    ------
    BadData
        If they are something else.
    """
    if values.ndim > 1:
        raise BadData(f"samples of field {field.name!r} are arrays, which files do not hold so far; leave it out")
    try:
        match field.type:
            case "number":
                return values.astype(_number(values.dtype), copy=False), 0
            case "bool":
                if values.dtype.kind == "b":
                    return values, 0
                numbers = values.astype(np.float64)  # None becomes NaN
                missing = np.isnan(numbers)
                return (numbers != 0) & ~missing, int(missing.sum())
            case "string":
                if values.dtype.kind != "O":
                    return values.astype(np.str_).astype(object), 0
                missing = values == None  # noqa: E711 - of each element
                return (np.where(missing, "", values) if missing.any() else values), int(missing.sum())
    except (TypeError, ValueError) as error:
        raise BadData(f"field {field.name!r} is declared as {field.type}, and is not: {error}") from error


def _number(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype for such numbers that this machine and every format know."""
    if dtype.kind == "b":
        return np.dtype(np.int8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        return np.dtype(np.float64)
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize < 4 else dtype.newbyteorder("=")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged or foreign file leads to into BadData that names it."""
    try:
        yield
    except SisockError as error:
        raise BadData(f"{path}: {error.message}") from error
    except FileNotFoundError as error:
        raise BadData(f"there is no file {path}") from error
    except _READING as error:
        raise BadData(f"{path}: cannot be read, is it damaged? {_first_line(error)}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate exceptions of writing into errors that name the file."""
    try:
        yield
    except SisockError:
        raise
    except OSError as error:
        raise BadRequest(f"cannot write {path}: {error.strerror or _first_line(error)}") from error
    except _WRITING as error:
        raise BadData(f"cannot write {path}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
