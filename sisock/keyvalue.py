"""A tree of values with sequence numbers: a snapshot of a subtree, then its changes in order. Pure; knows no disk.

Paths are names joined by ``/``. Each change of a value has a number, and numbers rise without gaps over the whole tree;
deletion is a change. A snapshot and the changes after its number have every change exactly once.
"""

import heapq
import itertools
import json
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sisock.errors import BadRequest, Conflict, TooLarge
from sisock.jsontext import size_of

LARGEST_VALUE = 1_000_000
"""Most bytes of a value."""
_LONGEST_PATH, _DEEPEST = 1000, 64
_MOST_CHANGES = 100_000
# Names that can be a component of a topic; those that belong to every node cannot, see `sisock.nodetype`.
_TOPIC = re.compile(r"(?!(query|events|feed|feed_packed|watermark|operation|table)$)[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of the tree, or its deletion.

    Attributes
    ----------
    path : str
    value : any
        None where it was deleted.
    seq : int
        Number of the change that made it.
    time : float
        UNIX seconds of that change.
    expires : float or None
        UNIX seconds from which on it is deleted.
    is_deleted : bool
    """

    path: str
    value: Any
    seq: int
    time: float
    expires: float | None = None
    is_deleted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, as it goes over the wire."""
        return {
            "path": self.path,
            "value": self.value,
            "seq": self.seq,
            "time": self.time,
            "expires": self.expires,
            "deleted": self.is_deleted,
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The values of a subtree at one moment.

    Attributes
    ----------
    seq : int
        Number of the newest change of the whole tree at that moment; changes after it are not in the snapshot.
    entries : list of Entry
        In the order of their paths.
    """

    seq: int
    entries: list[Entry]


def check_path(path: Any) -> str:
    """Return a path.

    Raises
    ------
    BadRequest
        If it is not a text, has an empty name, blanks at the ends of a name, or control characters, or is too long.
    """
    if not isinstance(path, str):
        raise BadRequest(f"a path is a text, and this is {type(path).__name__}")
    names = path.split("/")
    if any(not name or name != name.strip() or not name.isprintable() for name in names):
        raise BadRequest(f"{path!r} is not a valid path; write names joined by /, without empty ones: hall/door/state")
    if len(path) > _LONGEST_PATH or len(names) > _DEEPEST:
        raise BadRequest(
            f"the path {path[:50]!r}… has {len(path)} characters and {len(names)} names; at most {_LONGEST_PATH} and "
            f"{_DEEPEST} are taken"
        )
    return path


def _int64(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"{text:.30} has more than 64 bits")
    return number


def _check_value(path: str, value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
        json.loads(text, parse_int=_int64)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRequest(f"the value of {path} cannot be kept: {error}; give a value of JSON") from error


def topic_of(path: str) -> str:
    """Return the topic, below that of a node, on which all changes at and below a path are published."""
    first = path.partition("/")[0]
    return f"changes.{first}" if _TOPIC.fullmatch(first) else "changes"


class Tree:
    """Values by their paths, and the newest changes.

    Parameters
    ----------
    entries : iterable of Entry
        What it holds at first, such as from a disk.
    seq : int
        Number of the newest change so far.
    keep : int
        Most changes that are kept for `changes`.
    """

    def __init__(self, entries: Iterable[Entry] = (), seq: int = 0, keep: int = _MOST_CHANGES) -> None:
        self._entries = {entry.path: entry for entry in entries}
        self.seq = max([seq, *(entry.seq for entry in self._entries.values())])
        self._first = self.seq + 1  # number of the oldest change that is kept
        self._changes: deque[Entry] = deque(maxlen=keep)
        self._undo: list[tuple[str, Entry | None]] | None = None
        self._numbers = itertools.count()
        self._expiring = [(e.expires, next(self._numbers), e) for e in self._entries.values() if e.expires is not None]
        heapq.heapify(self._expiring)

    def __len__(self) -> int:
        return len(self._entries)

    def mark(self) -> int:
        """Begin to remember how changes are undone, and return a mark of the present state for `revert`."""
        self._undo = []
        return self.seq

    def forget_mark(self) -> None:
        """Undo nothing any more."""
        self._undo = None

    def revert(self, mark: int) -> None:
        """Undo all changes since the newest mark."""
        for path, before in reversed(self._undo or ()):
            if before is None:
                self._entries.pop(path, None)
            else:
                self._entries[path] = before
                if before.expires is not None:
                    heapq.heappush(self._expiring, (before.expires, next(self._numbers), before))
        for _ in range(self.seq - mark):
            self._changes.pop()
        self.seq, self._undo = mark, None

    def get(self, path: str) -> Entry | None:
        """Return the value at a path; None if there is none."""
        return self._entries.get(check_path(path))

    def snapshot(self, subtree: str = "") -> Snapshot:
        """Return all values at and below a path; the whole tree for an empty one."""
        if not subtree:
            found: Iterable[Entry] = self._entries.values()
        else:
            below = f"{check_path(subtree)}/"
            found = (e for e in self._entries.values() if e.path == subtree or e.path.startswith(below))
        return Snapshot(self.seq, sorted(found, key=lambda entry: entry.path))

    def set(
        self, path: str, value: Any, now: float, *, expected: int | None = None, time_to_live: float | None = None
    ) -> Entry:
        """Set a value, and return it with its number.

        Parameters
        ----------
        path : str
        value : any
            A value of JSON; not None.
        now : float
            UNIX seconds.
        expected : int, optional
            Number of the change that the present value must be of; 0: there must be none.
        time_to_live : float, optional
            Seconds until it is deleted.

        Raises
        ------
        BadRequest, TooLarge
            If path, value or time to live are not valid.
        Conflict
            If the present value is of another change than `expected`.
        """
        check_path(path)
        if value is None:
            raise BadRequest(f"the value of {path} is null; delete it to have none")
        if (size := size_of(value)) > LARGEST_VALUE:
            raise TooLarge(f"the value of {path} has {size} bytes; at most {LARGEST_VALUE} are taken")
        _check_value(path, value)
        if time_to_live is not None and not time_to_live > 0:
            raise BadRequest(f"the time to live of {path} is {time_to_live}; give seconds above 0")
        self._check(path, expected)
        expires = None if time_to_live is None else now + time_to_live
        return self._apply(Entry(path, value, self.seq + 1, now, expires))

    def delete(self, path: str, now: float, *, expected: int | None = None) -> Entry | None:
        """Delete a value, and return the change; None if there is none.

        Raises
        ------
        Conflict
            If the present value is of another change than `expected`.
        """
        check_path(path)
        self._check(path, expected)
        if path not in self._entries:
            return None
        return self._apply(Entry(path, None, self.seq + 1, now, is_deleted=True))

    def expire(self, now: float) -> list[Entry]:
        """Delete the values whose time has come, and return the changes."""
        changes = []
        while self._expiring and self._expiring[0][0] <= now:
            entry = heapq.heappop(self._expiring)[2]
            if self._entries.get(entry.path) is entry:
                changes.append(self._apply(Entry(entry.path, None, self.seq + 1, now, is_deleted=True)))
        return changes

    def next_expiry(self) -> float | None:
        """Return when the next value may expire, in UNIX seconds; None if none does."""
        return self._expiring[0][0] if self._expiring else None

    def changes(self, subtree: str, after: int) -> list[Entry] | None:
        """Return the changes at and below a path after a number, in order; None where some are not kept any more."""
        if after + 1 < self._first:
            return None
        below = f"{check_path(subtree)}/" if subtree else ""
        newer = itertools.islice(self._changes, max(0, after + 1 - self._first), None)
        return [e for e in newer if not subtree or e.path == subtree or e.path.startswith(below)]

    def _check(self, path: str, expected: int | None) -> None:
        present = self._entries.get(path)
        seq = 0 if present is None else present.seq
        if expected is not None and expected != seq:
            raise Conflict(f"{path} is of change {seq}, not {expected}; read it again, then decide")

    def _apply(self, entry: Entry) -> Entry:
        self.seq = entry.seq
        if self._undo is not None:
            self._undo.append((entry.path, self._entries.get(entry.path)))
        if len(self._changes) == self._changes.maxlen:
            self._first += 1
        self._changes.append(entry)
        if entry.is_deleted:
            del self._entries[entry.path]
        else:
            self._entries[entry.path] = entry
            if entry.expires is not None:
                heapq.heappush(self._expiring, (entry.expires, next(self._numbers), entry))
        return entry
