"""The context of a node type: all that it gets from its node."""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sisock.access import Access
from sisock.alarm.alarms import Alarms
from sisock.child import Child
from sisock.errors import BadRequest, NoRouter
from sisock.event import Events
from sisock.executor import Executor
from sisock.procedure import Procedure
from sisock.tables import Columns, Table
from sisock.timelike import Time
from sisock.times import Clock
from sisock.work import Work


class NodeSecrets(Mapping[str, str]):
    """The secrets of a node by key, as `secrets.yaml` has them below ``nodes``; its text shows the keys only.

    Parameters
    ----------
    node : str
    secrets : mapping of str to str
    """

    def __init__(self, node: str = "", secrets: Mapping[str, str] | None = None) -> None:
        self._node, self._secrets = node, dict(secrets or {})

    def __getitem__(self, key: str) -> str:
        if key not in self._secrets:
            raise BadRequest(f"secrets.yaml has no {key!r} for node {self._node!r}; add it below nodes: {self._node}:")
        return self._secrets[key]

    def __contains__(self, key: object) -> bool:
        return key in self._secrets

    def get(self, key: str, default: Any = None) -> Any:
        """Return the secret of a key, or a default where there is none."""
        return self._secrets.get(key, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"NodeSecrets({', '.join(self)})"


class Belongings:
    """The means behind a context; the consumer and the children that were opened are closed with the node.

    Parameters
    ----------
    open_consumer : callable, optional
        Makes the node's consumer.
    """

    def __init__(self, open_consumer: Callable[[], Any] | None = None) -> None:
        self._open_consumer, self._lock = open_consumer, threading.Lock()
        self._consumer: Any = None
        self._children: list[Child] = []
        self.publish: Callable[[str, Any], object] | None = None
        """Publishes; None where the node is not that of a service."""
        self.alarms: Alarms | None = None

    def consumer(self) -> Any:
        """Return the consumer, which is opened with its first request."""
        with self._lock:
            if self._consumer is None:
                if self._open_consumer is None:
                    raise NoRouter("this context belongs to no node, and so has no router; make a Consumer")
                self._consumer = self._open_consumer()
            return self._consumer

    def child(self, child: Child) -> Child:
        """Keep a child, to be stopped with the node, and return it."""
        with self._lock:
            self._children = [other for other in self._children if not other.ended.done()]
            self._children.append(child)
        return child

    def close(self) -> None:
        """Stop the children, and close the consumer."""
        with self._lock:
            children, self._children, consumer = self._children, [], self._consumer
        for child in children:
            child.begin_stop()
        for child in children:
            child.stop()
        if consumer is not None:
            consumer.close()


@dataclass(frozen=True, slots=True)
class NodeContext:
    """All that a node type gets."""

    name: str
    """The name of the node."""
    clock: Clock
    """The only clock that the node may read and wait by."""
    access: Access
    """How a program in the role ``server`` reaches the router."""
    folder: Path | None = None
    """Where the node may keep what is to survive a restart; None where nothing is to."""
    secrets: Mapping[str, str] = field(default_factory=NodeSecrets)
    """The node's secrets by key, from ``secrets.yaml``."""
    work: Work = None  # type: ignore[assignment]  # that of a context without a node is made below
    """Its procedures and the runs of its operations."""
    belongings: Belongings = field(default_factory=Belongings, repr=False, compare=False)

    def __post_init__(self) -> None:
        if getattr(self, "work", None) is None:
            object.__setattr__(self, "work", Work(self.clock))

    @property
    def node(self) -> str:
        """The name of the node, as node types before `NodeType` read it."""
        warnings.warn("NodeContext.node is deprecated; read NodeContext.name", DeprecationWarning, stacklevel=2)
        return self.name

    @property
    def events(self) -> Events:
        """Where the node reports what happens in it: ``events.report(kind, subject, text)``."""
        return self.work.events

    @property
    def alarms(self) -> Alarms:
        """Alarms on its fields: those of the site file, to which the node may add: ``alarms.set(name, settings, by)``.

        Raises
        ------
        BadRequest
            If the node is that of a service, which has no fields.
        """
        if self.belongings.publish is not None:
            raise BadRequest(f"node {self.name} is a service; it has no fields, and so no alarms")
        if self.belongings.alarms is None:  # a context without a node
            self.belongings.alarms = Alarms(self.name, {}, self.clock, self.events)
        return self.belongings.alarms

    @property
    def executor(self) -> Executor:
        """Threads for the node's own code, separate from those of reads, commands and operations."""
        return self.work.executor

    def table(self, name: str, columns: Columns) -> Table:
        """Return a table of the node, to which rows are appended; it continues that of an earlier run.

        Parameters
        ----------
        name : str
            Letters, digits, ``_`` and ``-``, with single dots between them.
        columns : mapping of str to str
            Types by name: ``time`` (UNIX seconds), ``number``, ``integer``, ``bool``, ``text`` or ``json``.

        Raises
        ------
        BadRequest
            If a name or a type is not valid, the table is open with other columns, or a column had another type in an
            earlier run.
        """
        table = self.work.tables.open(name, columns)
        table.waits = True
        return table

    def offer(self, procedure: Procedure) -> "Future[None]":
        """Offer a query, a command or an operation; see `Work.offer`."""
        return self.work.offer(procedure)

    def withdraw(self, name: str) -> "Future[None]":
        """Offer a procedure no more; see `Work.withdraw`."""
        return self.work.withdraw(name)

    def publish(self, topic: str, value: Any) -> None:
        """Publish a value that can be serialized on ``consumer.<node>.<topic>``; for services, in any thread.

        Raises
        ------
        BadRequest
            If the topic is not one of `Service.publishes`.
        """
        if self.belongings.publish is None:
            raise BadRequest(f"node {self.name} is not that of a service; its source emits samples instead")
        self.belongings.publish(topic, value)

    def consumer(self) -> Any:
        """Return a `BlockingConsumer` with the rights of a node, shared by all code of the node."""
        return self.belongings.consumer()

    def follow(
        self,
        node: str,
        timeline: str,
        start: Time | None = None,
        *,
        position: Any = None,
        fields: Any = None,
        wait: bool = True,
    ) -> Any:
        """Return a `BlockingFollowing` of a timeline of another node, which ends with this node.

        The parameters are those of `Consumer.follow`; a node that does not exist yet is waited for.
        """
        more = {"position": position, "fields": fields, "wait": wait, "clock": self.clock}
        return self.consumer().follow(node, timeline, start, **more)

    def child(self, *arguments: Any, **settings: Any) -> Child:
        """Return a `Child` of these arguments that is stopped with the node; the caller starts it."""
        return self.belongings.child(Child(*arguments, **settings))
