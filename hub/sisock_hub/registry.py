"""The nodes and the sessions that serve them. Pure; independent of WAMP."""

from collections.abc import Callable
from dataclasses import dataclass

from sisock.errors import BadRequest
from sisock.nodetype import check_node_name
from sisock.times import SYSTEM_CLOCK

LONGEST_DESCRIPTION = 2000
MOST_DEPARTED = 1000
"""Most nodes whose departure is kept; beyond it, the oldest departures are dropped."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered node."""

    name: str
    description: str | None
    session: int
    instance: tuple[str, str] | None = None
    """Identity of the node over its sessions: account, and the id that it generated; None if it has none."""

    def as_dict(self) -> dict[str, str | None]:
        """Return the entry in the form for consumers."""
        return {"name": self.name, "description": self.description}


class Registry:
    """The registered nodes, by name.

    Parameters
    ----------
    most : int
        Most nodes; more are refused with an error.
    clock : callable, optional
        Returns UNIX seconds.
    """

    def __init__(self, most: int = 10_000, clock: Callable[[], float] = SYSTEM_CLOCK.now) -> None:
        self._most, self._clock = most, clock
        self._entries: dict[str, Entry] = {}
        self._departed: dict[str, float] = {}

    def add(self, name: str, description: str | None, session: int, instance: tuple[str, str] | None = None) -> bool:
        """Add a node; False when its name is taken by another session. Adding it again changes nothing.

        Raises
        ------
        BadRequest
            If `name` cannot be part of a URI, `description` is not text or too long, or there are too many.
        """
        check_node_name(name)
        if description is not None and not isinstance(description, str):
            raise BadRequest(f"the description of node {name!r} is {type(description).__name__}; give text or nothing")
        if description is not None and len(description) > LONGEST_DESCRIPTION:
            raise BadRequest(f"the description of node {name!r} has over {LONGEST_DESCRIPTION} characters")
        if name in self._entries:
            return self._entries[name].session == session
        if len(self._entries) >= self._most:
            raise BadRequest(f"there are already {self._most} nodes")
        self._entries[name] = Entry(name, description, session, instance)
        self._departed.pop(name, None)
        return True

    def get(self, name: str) -> Entry | None:
        """Return the node of that name, if there is one."""
        return self._entries.get(name)

    def subtract(self, name: str, session: int) -> Entry | None:
        """Remove a node and return it; None when `session` serves no node of that name."""
        entry = self._entries.get(name)
        if entry is None or entry.session != session:
            return None
        self._remove(entry)
        return entry

    def leave(self, session: int) -> list[Entry]:
        """Remove and return all nodes that `session` served."""
        gone = [entry for entry in self._entries.values() if entry.session == session]
        for entry in gone:
            self._remove(entry)
        return gone

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.name]
        self._departed[entry.name] = self._clock()
        if len(self._departed) > MOST_DEPARTED:
            del self._departed[next(iter(self._departed))]

    def departed(self) -> dict[str, float]:
        """Return when nodes left that have not come back: UNIX seconds by name, of the last `MOST_DEPARTED`."""
        return dict(self._departed)

    def list(self) -> list[Entry]:
        """Return all nodes, in the order of their arrival."""
        return list(self._entries.values())
