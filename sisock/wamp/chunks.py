"""Large replies in chunks: cut by the node, put together again by the consumer. Pure functions of arrays."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sisock.errors import BadAnswer
from sisock.fields import Column, Reply
from sisock.serializable import to_serializable
from sisock.wamp.replies import statement
from sisock.wamp.wire import bytes_of, pack, text_sizes, unpack

CHUNK = 2**20
"""Bytes above which an answer is sent in chunks, and of which each has at most about as many."""


def is_chunkable(reply: Reply) -> bool:
    """Whether a reply states which of its fields are on which timeline."""
    named = len(reply.timelines) == 1 or all(samples.names_fields for samples in reply.timelines.values())
    return named and not reply.unplaced


def chunks(reply: Reply, total: int, size: int = CHUNK) -> Iterator[dict[str, Any]]:
    """Yield the samples of a reply in packed chunks: each has consecutive rows of one timeline.

    Parameters
    ----------
    reply : Reply
        For which `is_chunkable` holds.
    total : int
        Bytes of all its values, see `sisock.wamp.replies.measure`.
    size : int
        Bytes that a chunk has at the most, as long as one row does not have more.
    """
    for name, samples in reply.timelines.items():
        t, columns = samples.t, samples.columns
        for part in _parts([t, *columns.values()], size):
            yield {
                "timeline": name,
                "at": part.start,
                "rows": len(t),
                "bytes": total,
                "t": pack(t[part]),
                "data": {field: pack(values[part]) for field, values in columns.items()},
            }


def envelope(reply: Reply, number: int) -> dict[str, Any]:
    """Return the rest of a reply, which follows its `number` chunks: all but the samples."""
    return {
        "data": {name: [] for name in reply.empty},
        "timeline": {
            name: {"finalized_until": to_serializable(samples.finalized_until), **statement(samples)}
            for name, samples in reply.timelines.items()
        },
        "chunks": number,
    }


def _parts(columns: list[Column], size: int) -> Iterator[slice]:
    """Yield consecutive slices of some columns, each of as many rows as `size` bytes hold, and of one at least."""
    rows, numbers = (
        len(columns[0]),
        sum(values.itemsize * math.prod(values.shape[1:]) for values in columns if values.dtype.kind != "O"),
    )
    texts = [text_sizes(values) for values in columns if values.dtype.kind == "O"]
    if not texts:
        step = max(1, size // numbers)
        yield from (slice(at, min(at + step, rows)) for at in range(0, rows, step))
        return
    # Texts are of any length, so that the same number of rows may be next to nothing, or more than a message holds.
    ends, at, before = np.cumsum(np.sum(texts, axis=0) + numbers), 0, 0
    while at < rows:
        end = max(at + 1, int(np.searchsorted(ends, before + size, "right")))
        yield slice(at, end)
        at, before = end, int(ends[end - 1])


class Assembly:
    """Puts chunks together again, into arrays of their final size."""

    def __init__(self) -> None:
        self.received = 0
        """Bytes so far."""
        self.total = 0
        """Bytes that are to come altogether."""
        self._number = 0
        self._timelines: dict[str, _Rows] = {}

    def add(self, chunk: Any) -> None:
        """Take the next chunk.

        Raises
        ------
        BadAnswer
            If it is none, or one before it is missing.
        """
        try:
            name, at, rows, total = chunk["timeline"], chunk["at"], chunk["rows"], int(chunk["bytes"])
            t, columns = _piece(chunk["t"]), {field: _piece(values) for field, values in chunk["data"].items()}
            if name not in self._timelines:
                self._timelines[name] = _Rows(name, rows, t, columns)
            self._timelines[name].put(at, rows, t, columns)
        except (KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
            raise BadAnswer(f"a chunk of an answer cannot be read: {error!r}") from error
        self.total = total
        self._number += 1
        self.received += bytes_of([t, *columns.values()])

    def whole(self, answer: Any) -> Any:
        """Return the answer with the samples of all chunks; one that came without chunks, or is False, as it is.

        Raises
        ------
        BadAnswer
            If chunks are missing.
        """
        if not self._number or answer is False:
            return answer
        if not isinstance(answer, Mapping) or answer.get("chunks") != self._number:
            raise BadAnswer(f"an answer came in {self._number} chunks, and its end does not state so")
        frames, data = answer.get("timeline") or {}, dict(answer.get("data") or {})
        timelines = {name: {**timeline, "t": np.empty(0)} for name, timeline in frames.items()}
        for name, timeline in self._timelines.items():
            if timeline.filled != timeline.rows or name not in timelines:
                raise BadAnswer(f"of timeline {name!r} {timeline.filled} of {timeline.rows} samples came")
            timelines[name]["t"] = timeline.t
            # Texts as they come without chunks, so that they are read in the same way.
            data |= {f: v.tolist() if v.dtype.kind == "O" else v for f, v in timeline.columns.items()}
        return {"data": data, "timeline": timelines}


class _Rows:
    """The samples of one timeline, filled from the first row on."""

    def __init__(self, name: str, rows: int, t: Column, columns: Mapping[str, Column]) -> None:
        self.name, self.rows, self.filled = name, rows, 0
        self.t = np.empty(rows, t.dtype)
        self.columns = {field: np.empty((rows, *values.shape[1:]), values.dtype) for field, values in columns.items()}

    def put(self, at: int, rows: int, t: Column, columns: Mapping[str, Column]) -> None:
        end = at + len(t)
        if at != self.filled or rows != self.rows or end > rows:
            raise BadAnswer(f"chunk of timeline {self.name!r} has rows from {at}, expected {self.filled}")
        if any(len(values) != len(t) for values in columns.values()):
            raise BadAnswer(f"chunk of timeline {self.name!r} has fields of another length than its times")
        if _types(t, columns) != _types(self.t, self.columns):
            raise BadAnswer(f"chunk of timeline {self.name!r} has other fields, or types, than the first")
        self.t[at:end] = t
        for field, values in columns.items():
            self.columns[field][at:end] = values
        self.filled = end


def _types(t: Column, columns: Mapping[str, Column]) -> tuple[Any, dict[str, Any]]:
    return t.dtype, {field: (values.dtype, values.shape[1:]) for field, values in columns.items()}


def _piece(value: Any) -> Column:
    """Return a part of a column; texts stay as they are, since their type follows from the whole column only."""
    if isinstance(value, Mapping):
        return unpack(value)
    if not isinstance(value, list | tuple):
        raise BadAnswer(f"a chunk holds {type(value).__name__} instead of a packed array or a list")
    piece = np.empty(len(value), object)
    piece[:] = value
    return piece
