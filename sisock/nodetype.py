"""Node types and their context: the page that a third party's package is written from.

A package adds a node type by an entry point in the group ``sisock.nodes``, whose name is the ``type`` of the site file
and whose value is a `NodeType`; and a type of sink by one in the group ``sisock.sinks``, whose value is a `SinkType`.
"""

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationInfo

from sisock.alarm.settings import AlarmName, AlarmSettings
from sisock.context import NodeContext
from sisock.errors import BadRequest
from sisock.service import Service
from sisock.settings import (
    AllowanceSettings,
    HistorySettings,
    Seconds,
    Settings,
    TableSettings,
    WorkSettings,
    as_seconds,
)
from sisock.sink import Sink
from sisock.source import Source

__all__ = [
    "RESERVED_COMPONENTS",
    "Expectations",
    "NodeContext",
    "NodeSettings",
    "NodeType",
    "Service",
    "SinkSettings",
    "SinkType",
    "Sinks",
    "check_node_name",
    "load_node_type",
    "load_sink_type",
    "node_type_of",
    "node_types",
    "sink_types",
]

# By default, and at least: a sign of life comes every 2 s, and later where a node has much to do.
_WATCHDOG_S, _SHORTEST_WATCHDOG_S = 30.0, 10.0

RESERVED_COMPONENTS = frozenset({"query", "events", "feed", "feed_packed", "watermark", "operation", "table"})
"""Components that the name of a node may only begin with: in a URI they stand after the name."""

NodeSettingsT = TypeVar("NodeSettingsT", bound="NodeSettings")
SinkSettingsT = TypeVar("SinkSettingsT", bound="SinkSettings")


def _accept(settings: Any) -> None:
    """Accept all settings."""


@dataclass(frozen=True, slots=True)
class NodeType(Generic[NodeSettingsT]):
    """A node type: its settings in the site file, and the sources that they make.

    Attributes
    ----------
    settings : subclass of NodeSettings
    make_sources : callable
        Returns the sources of a node from its settings and its `NodeContext`; called once, in the node's own process.
        Heavy packages are imported in it and not with the settings, so that checking a site file stays quick.
    make_service : callable
        In place of `make_sources`, where a node of the type has no sources: returns a `Service`, or a function that
        makes the session of a `sisock.base.DataNodeServer` from autobahn's ComponentConfig.
    check : callable
        Raises BadRequest for errors in the settings that only the packages which do the work can find; called by
        `sisock check`. The site may be running, so it opens no port, file or connection.
    replaced_by : str, optional
        The present name of the type, where this entry point is its former one; `sisock check` warns of that.
    """

    settings: type[NodeSettingsT]
    make_sources: Callable[[NodeSettingsT, NodeContext], Sequence[Source]] | None = None
    check: Callable[[NodeSettingsT], None] = _accept
    replaced_by: str | None = None
    make_service: Callable[[NodeSettingsT, NodeContext], Service | Callable[[Any], Any]] | None = None

    def __post_init__(self) -> None:
        if (self.make_sources is None) == (self.make_service is None):
            raise BadRequest(f"the node type of {self.settings.__name__} needs either make_sources or make_service")


@dataclass(frozen=True, slots=True)
class SinkType(Generic[SinkSettingsT]):
    """A type of sink: its settings below ``publish_to``, and the sink that they make.

    Attributes
    ----------
    settings : subclass of SinkSettings
    make_sink : callable
        Returns the sink of a node from its settings and the node's `NodeContext`; called once, in the node's own
        process.
    check : callable
        As in `NodeType`.
    """

    settings: type[SinkSettingsT]
    make_sink: Callable[[SinkSettingsT, NodeContext], Sink]
    check: Callable[[SinkSettingsT], None] = _accept


class SinkSettings(Settings):
    """The settings that every sink has; those of each type derive from it."""

    def check(self) -> None:
        """Accept the settings. Deprecated: give `SinkType` a `check`."""


def _sinks(content: Any, info: ValidationInfo) -> Any:
    if not isinstance(content, dict):
        return content
    known = sink_types()
    parsed = {}
    for kind, settings in content.items():
        if kind not in known:
            raise ValueError(f"sink {kind!r} is not known; installed: {', '.join(known) or 'none'}")
        model = load_sink_type(known[kind]).settings
        is_parsed = isinstance(settings, SinkSettings)
        parsed[kind] = settings if is_parsed else model.model_validate(settings, context=info.context)
    return parsed


Sinks = Annotated[dict[str, SerializeAsAny[SinkSettings]], BeforeValidator(_sinks)]
"""Sinks by their types."""


def _long_enough(watchdog: float) -> float:
    if 0 < watchdog < _SHORTEST_WATCHDOG_S:
        raise ValueError(f"a node that is busy may take that long; give {_SHORTEST_WATCHDOG_S:g} s or more, or 0")
    return watchdog


def _expectations(content: Any) -> Any:
    by_timeline = content if isinstance(content, dict) else {"*": content}
    return {name: _expectation(seconds) for name, seconds in by_timeline.items()}


def _expectation(seconds: Any) -> Any:
    if seconds is None or seconds == "never":
        return math.inf
    if isinstance(seconds, bool):
        raise ValueError("give a duration such as 10s, or never")  # noqa: TRY004 - what pydantic reports
    return as_seconds(seconds)


Expectations = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_expectations)]
"""How often samples are expected, in seconds, by timeline or pattern of timelines; infinite for never."""


class NodeSettings(Settings):
    """The settings that every node has; those of each node type derive from it."""

    type: str
    description: str | None = None
    """Description for consumers; by default the first line of the type's documentation."""
    history: HistorySettings = HistorySettings()
    allowance: AllowanceSettings = AllowanceSettings()
    work: WorkSettings = WorkSettings()
    tables: TableSettings = TableSettings()
    publish_to: Sinks = Field(default_factory=dict)
    """Sinks for all samples that the node stores, by type."""
    expect_every: Expectations = Field(default_factory=dict)
    """How often a sample is expected, of all timelines or by timeline; `never`, or a duration. Three times that
    without one, and the timeline is stale. By default from the source, or from past samples.
    """
    alarms: dict[AlarmName, AlarmSettings] = Field(default_factory=dict)
    """Alarms on the fields of the node, by name."""
    watchdog: Annotated[Seconds, AfterValidator(_long_enough)] | None = None
    """Seconds without a sign of life after which `sisock up` restarts the node; 0: never. If not given, 30 s with a
    history on disk, never without one, which would lose its samples.
    """

    @property
    def watchdog_s(self) -> float:
        """Seconds without a sign of life after which the node is restarted; 0 for never."""
        if self.watchdog is not None:
            return self.watchdog
        return _WATCHDOG_S if self.history.path else 0.0

    def exclusive_resources(self) -> Sequence[str]:
        """Return the resources of this machine that only one node can use, in words: a port, a device."""
        return self.claims()

    def claims(self) -> Sequence[str]:
        """Return no resources. Deprecated: override `exclusive_resources`."""
        return ()

    def check(self) -> None:
        """Accept the settings. Deprecated: give `NodeType` a `check`."""


def node_types() -> dict[str, EntryPoint]:
    """Return the node types that are installed, by name."""
    return _installed("sisock.nodes")


def sink_types() -> dict[str, EntryPoint]:
    """Return the types of sinks that are installed, by name."""
    return _installed("sisock.sinks")


def _installed(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in _points(group, tuple(sys.path))}


@cache
def _points(group: str, _path: tuple[str, ...]) -> list[EntryPoint]:
    """Return the entry points of a group; packages are read once per import path, since each node is looked up here."""
    return sorted(entry_points(group=group), key=lambda point: point.name)


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except AttributeError as error:
        raise BadRequest(f"{point.value} names nothing") from error


def load_node_type(point: EntryPoint) -> NodeType[Any]:
    """Return the node type of an entry point.

    Raises
    ------
    BadRequest
        If it is none.
    """
    found = _loaded(point)
    if isinstance(found, NodeType):
        return found
    if isinstance(found, type) and issubclass(found, NodeSettings) and hasattr(found, "make_sources"):
        return _node_type_of_class(found)
    raise BadRequest(f"node type {point.name!r} is {point.value}, which is not a sisock.nodetype.NodeType")


def load_sink_type(point: EntryPoint) -> SinkType[Any]:
    """Return the type of sink of an entry point.

    Raises
    ------
    BadRequest
        If it is none.
    """
    found = _loaded(point)
    if isinstance(found, SinkType):
        return found
    if isinstance(found, type) and issubclass(found, SinkSettings) and hasattr(found, "make_sink"):
        _warn_of_class(found, "make_sink", "SinkType")
        return SinkType(found, lambda settings, context: settings.make_sink(context), found.check)
    raise BadRequest(f"sink {point.name!r} is {point.value}, which is not a sisock.nodetype.SinkType")


def node_type_of(settings: NodeSettings) -> NodeType[Any]:
    """Return the node type that some settings are of.

    Raises
    ------
    BadRequest
        If no such type is installed.
    """
    if hasattr(settings, "make_sources"):
        return _node_type_of_class(type(settings))
    known = node_types()
    if settings.type not in known:
        raise BadRequest(f"node type {settings.type!r} is not installed; installed: {', '.join(known) or 'none'}")
    return load_node_type(known[settings.type])


def _node_type_of_class(settings: type[NodeSettings]) -> NodeType[Any]:
    """Return the node type of a settings class that makes its sources itself, as they were before `NodeType`."""
    _warn_of_class(settings, "make_sources", "NodeType")
    return NodeType(settings, lambda given, context: given.make_sources(context), settings.check)


def _warn_of_class(settings: type[Settings], method: str, new: str) -> None:
    where = f"{settings.__module__}:{settings.__qualname__}"
    warnings.warn(
        f"{where} has {method}, which is deprecated: make it a function, and let the entry point name a "
        f"sisock.nodetype.{new} of the settings class and that function",
        DeprecationWarning,
        stacklevel=3,
    )


def check_node_name(name: str) -> None:
    """Raise BadRequest unless `name` can be a part of a URI: no blanks, no ``#``, no empty component."""
    if not isinstance(name, str):
        raise BadRequest(f"{name!r} is not a text, and so not a valid name for a node; write it in quotes")
    if not name or any(c.isspace() or c == "#" or not c.isprintable() for c in name):
        raise BadRequest(f"{name!r} is not a valid name for a node; use letters, digits, -, _ and single dots")
    reserved = RESERVED_COMPONENTS.intersection(name.split(".")[1:])
    if reserved:
        raise BadRequest(
            f"{name!r} is not a valid name for a node: after the first dot, {min(reserved)!r} belongs to URIs of a "
            "node whose name ends before it; choose another word"
        )
    if "" in name.split(".") or len(name) > 200:
        raise BadRequest(
            f"{name!r} is not a valid name for a node; it has an empty part between dots or is over 200 characters"
        )
