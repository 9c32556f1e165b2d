"""Nodes, fields and procedures as objects: ``c["rig"]["strain.beam"]``."""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sisock.consumer.connection import START
from sisock.consumer.data import Data
from sisock.consumer.html import table
from sisock.consumer.info import FieldInfo, NodeInfo
from sisock.consumer.lists import FieldList, RunList
from sisock.errors import BadRequest, TooLarge
from sisock.fields import Batch
from sisock.patterns import choose_fields, did_you_mean
from sisock.timelike import Time
from sisock.times import iso

if TYPE_CHECKING:
    from sisock.consumer.blocking import BlockingConsumer
    from sisock.consumer.runs import BlockingRunHandle

# How far back the newest sample is looked for in a node without a status, in seconds; then among all.
_LOOKS_S = (60.0, 3600.0, 86_400.0)


class Sample(NamedTuple):
    """One sample of a field."""

    t: float
    """UNIX seconds."""
    value: Any
    units: str | None

    @property
    def time(self) -> datetime:
        """The time in UTC."""
        return datetime.fromtimestamp(self.t, UTC)


class FieldHandle:
    """A field of a node.

    Attributes
    ----------
    node, name : str
    info : FieldInfo
        What its node describes it as: type, units, description, timeline.
    """

    def __init__(self, consumer: "BlockingConsumer", node: str, info: FieldInfo) -> None:
        self._consumer, self.node, self.name, self.info = consumer, node, info.name, info

    @property
    def units(self) -> str | None:
        """Its units; None if it has none."""
        return self.info.units

    def data(self, start: Time = START, end: Time = 0.0, **options: Any) -> Data:
        """Return its samples in an interval, by default of the last hour.

        Parameters
        ----------
        start, end : float, str, datetime, timedelta, pandas.Timestamp or numpy.datetime64
        **options : Any
            `min_stride`, `downsample` and others of `BlockingConsumer.data`.

        Raises
        ------
        BadRequest, TooLarge, NoSuchNode, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> c["rig"]["strain.beam"].data("-10m").plot()  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.data(self.node, self.name, start, end, exact=True, **options)

    def latest(self) -> Sample | None:
        """Return its newest sample; None if it has none.

        Raises
        ------
        NoSuchNode, NodeFailed, NoRouter, TimedOut

        Examples
        --------
        >>> t, value, units = c["host"]["cpu.total"].latest()  # doctest: +SKIP
        """
        __tracebackhide__ = True
        newest = self._consumer.status(self.node).get("timelines", {}).get(self.info.timeline, {}).get("newest")
        looks = (-back for back in _LOOKS_S) if newest is None else (math.nextafter(newest, 0.0),)
        for start in (*looks, 1.0):
            try:
                # Samples ahead of our clock count as well.
                data = self._consumer.data(self.node, self.name, start, 1e11, exact=True)
            except TooLarge:
                if newest is None:
                    raise
                return None
            if len(parts := data.quantities(self.name)):
                at = max(range(len(parts)), key=lambda i: int(parts[i].rows.nonzero()[0][-1]))
                t = data.t(self.name)[parts[at].rows][-1]
                return Sample(float(t), parts[at].values[-1:].tolist()[0], parts[at].field.units)
        return None

    def __repr__(self) -> str:
        units = f" [{self.units}]" if self.units else ""
        return f"<field {self.name!r}{units} of node {self.node!r}>"

    def _repr_html_(self) -> str:
        newest = self.latest()
        about = {
            "field": self.name,
            "node": self.node,
            "timeline": self.info.timeline,
            "type": self.info.type,
            "units": self.units,
            "description": self.info.description,
            "newest sample": newest and f"{newest.value} at {iso(newest.t)}",
        }
        return table(("", ""), [row for row in about.items() if row[1]])


class NodeHandle:
    """A node: its fields, samples, health and procedures.

    Attributes
    ----------
    name : str
    description : str or None
    """

    def __init__(self, consumer: "BlockingConsumer", info: NodeInfo) -> None:
        self._consumer, self.name, self.description = consumer, info.name, info.description

    def fields(self, start: Time = 1.0, end: Time = 0.0) -> FieldList:
        """Return its fields that have samples in an interval; see `BlockingConsumer.fields`.

        Examples
        --------
        >>> c["host"].fields("-10m")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.fields(self.name, start, end)

    def data(self, fields: str | Sequence[str] = "*", start: Time = START, end: Time = 0.0, **options: Any) -> Data:
        """Return samples of some of its fields, by default of all in the last hour; see `BlockingConsumer.data`.

        Examples
        --------
        >>> c["rig"].data("strain.*", "-10m")  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.data(self.name, fields, start, end, **options)

    def subscribe(self, timeline: str, *, buffer: int = 1000) -> Iterator[Batch]:
        """Yield the batches of a timeline as they come; see `BlockingConsumer.subscribe`.

        Examples
        --------
        >>> batch = next(c["host"].subscribe("cpu"))  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.subscribe(self.name, timeline, buffer=buffer)

    def status(self) -> dict[str, Any]:
        """Return its health and counters; see `BlockingConsumer.status`.

        Examples
        --------
        >>> c["host"].status()["health"]  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.status(self.name)

    @property
    def procedures(self) -> "Procedures":
        """Its queries, commands and operations, which are called as functions: ``c["udp"].procedures.sources()``."""
        __tracebackhide__ = True
        return Procedures(self._consumer, self.name)

    def operations(self, active: bool | None = None, limit: int = 100) -> RunList:
        """Return the newest runs of its operations; see `BlockingConsumer.operations`.

        Examples
        --------
        >>> c["stage"].operations(active=True)  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.operations(self.name, active, limit)

    def run(self, id: str) -> "BlockingRunHandle":
        """Return a run of one of its operations; see `BlockingConsumer.run`.

        Examples
        --------
        >>> c["stage"].run("0199d0a1c3f2-5be01c").result()  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._consumer.run(self.name, id)

    def __getitem__(self, field: str) -> FieldHandle:
        """Return a field by its name.

        Raises
        ------
        NoSuchField
            If there is no such field; with the names that are most like it.
        """
        __tracebackhide__ = True
        infos = self.fields()
        if field not in infos and (found := choose_fields(self.name, [field], infos)):
            raise BadRequest(f"{field!r} is a pattern, of {len(found)} fields; read them by .data({field!r}, ...)")
        return FieldHandle(self._consumer, self.name, infos[field])

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields())

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"<node {self.name!r}>"

    def _repr_html_(self) -> str:
        return self.fields()._repr_html_()


class Procedures(Mapping[str, "Procedure"]):
    """The queries, commands and operations of a node, as attributes and as items."""

    def __init__(self, consumer: "BlockingConsumer", node: str) -> None:
        self._node = node
        self._known = {each["name"]: Procedure(consumer, node, each) for each in consumer.procedures(node)}

    def __getitem__(self, name: str) -> "Procedure":
        if name in self._known:
            return self._known[name]
        hint = did_you_mean(name, self._known) or f"it has: {', '.join(self._known) or 'none'}"
        raise BadRequest(f"node {self._node!r} has no procedure {name!r}; {hint}")

    def __getattr__(self, name: str) -> "Procedure":
        if not name.startswith("_") and name in self._known:
            return self._known[name]
        raise AttributeError(f"node {self._node!r} has no procedure {name!r}; it has: {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._known]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        return f"<procedures of node {self._node!r}: {', '.join(self) or 'none'}>"

    def _repr_html_(self) -> str:
        rows = [(each.kind, f"{each.name}{each.__signature__}", each.description) for each in self.values()]
        return table(("kind", "procedure", "description"), rows)


class Procedure:
    """A query, command or operation of a node, which is called with arguments by name.

    Attributes
    ----------
    name, description : str
    kind : {"query", "command", "operation"} or None
        None where the node is of an older version, whose procedures are commands.
    parameters : dict
        As a JSON schema.
    """

    def __init__(self, consumer: "BlockingConsumer", node: str, about: Mapping[str, Any]) -> None:
        self._consumer, self._node = consumer, node
        self.name, self.kind, self.description = about["name"], about.get("kind"), about.get("description", "")
        self.parameters: dict[str, Any] = about["parameters"]
        kind = f"{self.kind} " if self.kind else ""
        self.__doc__ = f"{self.description}\n\n{kind}{self.name}{self.__signature__}"

    @property
    def __signature__(self) -> inspect.Signature:
        """The parameters, for help and completion; of those that Python cannot name, as ``**arguments``."""
        required = self.parameters.get("required", ())
        known = self.parameters.get("properties", {})
        given = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if name in required else about.get("default"),
            )
            for name, about in known.items()
            if name.isidentifier()
        ]
        if len(given) < len(known):
            given.append(inspect.Parameter("arguments", inspect.Parameter.VAR_KEYWORD))
        return inspect.Signature(given)

    def __call__(self, **arguments: Any) -> Any:
        """Return its result, or the run of an operation; see `BlockingConsumer.command` and `operation`."""
        __tracebackhide__ = True
        if self.kind == "query":
            return self._consumer.query(self._node, self.name, **arguments)
        if self.kind == "operation":
            return self._consumer.operation(self._node, self.name, **arguments)
        return self._consumer.command(self._node, self.name, **arguments)

    def __repr__(self) -> str:
        return f"<{self.kind or 'procedure'} {self.name}{self.__signature__} of node {self._node!r}>"
