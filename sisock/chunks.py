"""Large answers in chunks: cut by the node, put together again by the consumer. Pure functions of arrays."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sisock.errors import BadAnswer
from sisock.fields import Column
from sisock.wire import pack, plain, size_of, unpack

CHUNK = 2**20
"""Bytes above which an answer is sent in chunks, and of which each has at most about as many."""


def can_be_cut(answer: Mapping[str, Any]) -> bool:
    """Whether a guarded answer says which of its fields are on which timeline."""
    return len(answer["timeline"]) == 1 or all("field" in timeline for timeline in answer["timeline"].values())


def chunks(answer: Mapping[str, Any], size: int = CHUNK) -> Iterator[dict[str, Any]]:
    """Yield the samples of a guarded answer in packed chunks: each has consecutive rows of one timeline.

    Parameters
    ----------
    answer : mapping
        For which `can_be_cut` holds.
    size : int
        Bytes that a chunk has at the most, as long as one row does not have more.
    """
    total = size_of(answer)
    for name, timeline in answer["timeline"].items():
        t, columns = timeline["t"], {field: answer["data"][field] for field in _fields(answer, timeline)}
        rows = max(1, size * len(t) // (size_of({"data": columns, "timeline": {name: timeline}}) or 1))
        for at in range(0, len(t), rows):
            part = slice(at, at + rows)
            yield {
                "timeline": name,
                "at": at,
                "rows": len(t),
                "bytes": total,
                "t": pack(t[part]),
                "data": {field: pack(values[part]) for field, values in columns.items()},
            }


def frame(answer: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return what of an answer comes after its `number` chunks: all but the samples."""
    chunked = {field for timeline in answer["timeline"].values() for field in _fields(answer, timeline)}
    return {
        "data": {name: [] for name in answer["data"] if name not in chunked},
        "timeline": {
            name: {key: plain(value) for key, value in timeline.items() if key != "t"}
            for name, timeline in answer["timeline"].items()
        },
        "chunks": number,
    }


def _fields(answer: Mapping[str, Any], timeline: Mapping[str, Any]) -> list[str]:
    wanted = timeline.get("field")
    names = list(answer["data"]) if wanted is None else [name for name in wanted if name in answer["data"]]
    return [name for name in names if len(answer["data"][name]) == len(timeline["t"])]


class Assembly:
    """Puts chunks together again, into arrays of their final size."""

    def __init__(self) -> None:
        self.received = 0
        """Bytes so far."""
        self.total = 0
        """Bytes that are to come altogether."""
        self._number = 0
        self._times: dict[str, Column] = {}
        self._data: dict[str, Column] = {}
        self._filled: dict[str, int] = {}

    def add(self, chunk: Any) -> None:
        """Take the next chunk.

        Raises
        ------
        BadAnswer
            If it is none, or one before it is missing.
        """
        try:
            name, at, rows = chunk["timeline"], chunk["at"], chunk["rows"]
            times = unpack(chunk["t"])
            columns = {field: unpack(values) for field, values in chunk["data"].items()}
            if at != self._filled.get(name, 0) or at + len(times) > rows:
                raise BadAnswer(f"chunk of timeline {name!r} has rows from {at}, expected {self._filled.get(name, 0)}")
            if any(len(values) != len(times) for values in columns.values()):
                raise BadAnswer(f"chunk of timeline {name!r} has fields of another length than its times")
            self._put(self._times, name, times, at, rows)
            for field, values in columns.items():
                self._put(self._data, field, values, at, rows)
            self.total = int(chunk["bytes"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswer(f"a chunk of an answer cannot be read: {error!r}") from error
        self._filled[name] = at + len(times)
        self._number += 1
        self.received += times.nbytes + sum(values.nbytes for values in columns.values())

    @staticmethod
    def _put(arrays: dict[str, Column], name: str, values: Column, at: int, rows: int) -> None:
        whole = arrays.get(name)
        if whole is None or whole.dtype != np.result_type(whole, values):
            # Lists of a chunk without numbers, or without text, may look like another type than the whole.
            wide = np.empty(rows, values.dtype if whole is None else np.result_type(whole, values))
            wide[:at] = whole[:at] if whole is not None else wide[:at]
            whole = arrays[name] = wide
        whole[at : at + len(values)] = values

    def whole(self, answer: Any) -> Any:
        """Return the answer with the samples of all chunks; one that came without chunks as it is.

        Raises
        ------
        BadAnswer
            If chunks are missing.
        """
        if not self._number:
            return answer
        if not isinstance(answer, Mapping) or answer.get("chunks") != self._number:
            raise BadAnswer(f"an answer came in {self._number} chunks and did not end as such")
        for name, t in self._times.items():
            if self._filled[name] != len(t) or name not in answer["timeline"]:
                raise BadAnswer(f"of timeline {name!r} {self._filled[name]} of {len(t)} samples came")
        timelines = {
            name: {**timeline, "t": self._times.get(name, np.empty(0))} for name, timeline in answer["timeline"].items()
        }
        return {"data": {**answer["data"], **self._data}, "timeline": timelines}
