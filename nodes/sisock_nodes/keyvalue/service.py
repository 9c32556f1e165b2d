"""The service of ``type: keyvalue``: queries `get`, `list` and `changes`, commands `set` and `delete`, publication."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sisock.context import NodeContext
from sisock.errors import BadRequest
from sisock.executor import deferred_of
from sisock.jsontext import size_of
from sisock.keyvalue import Entry, Tree, topic_of
from sisock.outage import Health
from sisock.procedure import Command, Procedure, Query
from sisock.service import Service
from sisock_nodes.keyvalue.settings import KeyValueSettings
from sisock_nodes.keyvalue.store import Store

# Bytes of an answer, about, and those of an entry without its path and value.
_ANSWER_SIZE, _ENTRY_SIZE = 4 << 20, 64


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class _Which(_Arguments):
    path: str
    """Names joined by /."""


class _Subtree(_Arguments):
    path: str = ""
    """The subtree; by default the whole tree."""


class _Listing(_Subtree):
    after: str | None = None
    """The ``next`` of an earlier answer: values whose paths follow it."""


class _Since(_Subtree):
    after: int = Field(ge=0)
    """Number of the newest change that is known."""


class _Value(_Which):
    value: Any
    """A value of JSON, except null."""
    expected: int | None = Field(None, ge=0)
    """Number of the change that the present value must be of; 0: there must be none."""
    time_to_live: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Seconds until it is deleted."""


class _Deletion(_Which):
    expected: int | None = Field(None, ge=1)
    """Number of the change that the present value must be of."""


class KeyValueService(Service):
    """A tree of values: each change is on the disk before it is confirmed, read or published.

    Parameters
    ----------
    settings : KeyValueSettings
    """

    publishes = ("changes", "changes.*")

    def __init__(self, settings: KeyValueSettings) -> None:
        self._settings = settings
        self._store: Store
        self._context: NodeContext

    def start(self, context: NodeContext) -> None:
        """Open the file.

        Raises
        ------
        BadRequest
            If the node has no folder to keep it in.
        BadHistory
            If it cannot be opened.
        """
        if context.folder is None:
            raise BadRequest(f"node {context.name} has no folder, and the tree must be kept; run it in a site")
        self._context = context
        path = Path(context.folder) / "values.sqlite"
        self._store = Store(path, context.clock, self._publish, context.work.outages, self._settings.keep_changes)
        self._store.start()
        self.offers: Sequence[Procedure] = (
            Query("get", "Return the value at a path with its number; null if there is none.", _Which, None, self._get),
            Query("list", "Return the values at and below a path, and the newest number.", _Listing, None, self._list),
            Query("changes", "Return the changes at and below a path after a number.", _Since, None, self._changes),
            Command("set", "Set a value.", _Value, None, self._set),
            Command("delete", "Delete a value.", _Deletion, None, self._delete),
        )

    def stop(self) -> None:
        """Write what waits, and close the file."""
        self._store.stop()

    def status(self) -> Health | None:
        """Return how many values there are, and the counters; a disk that fails is an outage of the node."""
        return Health("ok", self._context.clock.now(), details=self._store.status())

    def _get(self, which: _Which) -> dict[str, Any] | None:
        entry = self._store.get(which.path)
        return None if entry is None else entry.as_dict()

    def _list(self, which: _Listing) -> dict[str, Any]:
        found = self._store.snapshot(which.path)
        entries = found.entries
        if which.after is not None:
            entries = entries[bisect_right(entries, which.after, key=lambda entry: entry.path) :]
        listed = _of_a_message(entries)
        more = listed[-1].path if len(listed) < len(entries) else None
        return {"seq": found.seq, "values": [entry.as_dict() for entry in listed], "next": more}

    def _changes(self, which: _Since) -> dict[str, Any]:
        changes, seq = self._store.changes(which.path, which.after)
        if changes is None:
            return {"seq": seq, "changes": None}
        listed = _of_a_message(changes)
        return {"seq": seq if len(listed) == len(changes) else listed[-1].seq, "changes": [e.as_dict() for e in listed]}

    async def _set(self, which: _Value) -> dict[str, Any]:
        def make(tree: Tree, now: float) -> Entry:
            return tree.set(which.path, which.value, now, expected=which.expected, time_to_live=which.time_to_live)

        entry = await deferred_of(self._store.change(make))
        return {"seq": entry.seq, "expires": entry.expires}

    async def _delete(self, which: _Deletion) -> dict[str, Any]:
        entry = await deferred_of(
            self._store.change(lambda tree, now: tree.delete(which.path, now, expected=which.expected))
        )
        return {"seq": None if entry is None else entry.seq}

    def _publish(self, changes: Sequence[Entry]) -> None:
        """Publish changes: all together, and those of each subtree whose name can be part of a topic."""
        content = [change.as_dict() for change in changes]
        self._context.publish("changes", content)
        below: dict[str, list[dict[str, Any]]] = {}
        for change in content:
            below.setdefault(topic_of(change["path"]), []).append(change)
        for topic, those in below.items():
            if topic != "changes":
                self._context.publish(topic, those)


def _of_a_message(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the first entries, as many as an answer may have; at least one."""
    size = 0
    for number, entry in enumerate(entries):
        size += _ENTRY_SIZE + len(entry.path) + size_of(entry.value)
        if size > _ANSWER_SIZE and number:
            return entries[:number]
    return entries
