"""Key-value trees of nodes, as a consumer follows them: a snapshot of a subtree, then its changes in order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sisock.consumer.events import LOOK_S, EventReading
from sisock.errors import BadAnswer
from sisock.keyvalue import Entry, topic_of


@dataclass(frozen=True, slots=True)
class TreeUpdate:
    """Values of a subtree: all of them, or those that have changed.

    Attributes
    ----------
    entries : list of Entry
        All values by their paths for a snapshot, otherwise changes in order; deletion is a change.
    seq : int
        Number of the newest change of the tree that is included; to be given as `after` to continue from here.
    is_snapshot : bool
        Whether these are all values: values of before that are not among them have been deleted.
    """

    entries: list[Entry]
    seq: int
    is_snapshot: bool


class TreeReading(EventReading):
    """The requests of a reader of a subtree, and when they are due.

    Parameters
    ----------
    node, path : str
    after : int or None
        Number of the newest change that is known; None to begin with a snapshot.
    """

    def __init__(self, node: str, path: str, after: int | None = None) -> None:
        self._below = topic_of(path)
        super().__init__(node, {"path": path}, after)
        self._pages: dict[str, Entry] = {}
        self._read_to: str | None = None  # path of the last value of the pages
        self._begun: int | None = None  # number of the newest change when the first page was made
        self._known: Mapping[str, int] = {}  # numbers of the values of a snapshot that are beyond that

    def _topic(self, _which: Mapping[str, Any]) -> str:
        return self._below

    @property
    def query(self) -> str:  # type: ignore[override]
        """The query of the node that is called."""
        return "list" if self._position is None else "changes"

    def request(self) -> dict[str, Any]:
        """Return the arguments of the next request."""
        if self._position is not None:
            return {**self._which, "after": self._position}
        return self._which if self._read_to is None else {**self._which, "after": self._read_to}

    def answered(self, answer: Any) -> TreeUpdate | None:
        """Return the snapshot, once all its pages have come, or changes; None if there are none.

        Raises
        ------
        BadAnswer
            If it is not of the contract.
        """
        try:
            update = self._snapshot(answer) if self._position is None else self._changes(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswer(f"node {self._node!r} answered something else than values: {error!r}") from error
        self._has_answered = True
        return update

    def _snapshot(self, answer: Any) -> TreeUpdate | None:
        entries = [_entry(each) for each in answer["values"]]
        self._pages |= {entry.path: entry for entry in entries}
        self._begun = int(answer["seq"]) if self._begun is None else self._begun
        self._read_to, self.wait_s = answer["next"], 0.0
        if self._read_to is not None:
            return None
        found, self._position = list(self._pages.values()), self._begun
        # Changes that were made before the later pages are in those already.
        self._known = {entry.path: entry.seq for entry in found if entry.seq > self._begun}
        self._pages, self._begun = {}, None
        return TreeUpdate(found, self._position, is_snapshot=True)

    def _changes(self, answer: Any) -> TreeUpdate | None:
        if answer["changes"] is None or answer["seq"] < (self._position or 0):
            self._position, self.wait_s = None, 0.0  # some are not kept any more, or the tree is another one
            return None
        found = [_entry(each) for each in answer["changes"]]
        new = [entry for entry in found if entry.seq > self._known.get(entry.path, 0)]
        is_at_end = answer["seq"] == self._position
        self._position, self.wait_s = int(answer["seq"]), LOOK_S if is_at_end else 0.0
        if is_at_end:
            self._known = {}
        return TreeUpdate(new, self._position, is_snapshot=False) if new else None


def _entry(content: Mapping[str, Any]) -> Entry:
    expires = content["expires"]
    return Entry(
        str(content["path"]),
        content["value"],
        int(content["seq"]),
        float(content["time"]),
        None if expires is None else float(expires),
        bool(content["deleted"]),
    )
