"""What every node has: its type, its history, what it answers at once, where it sends on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationInfo

from sisock.errors import BadRequest
from sisock.sink import Sink
from sisock.site.access import Access
from sisock.site.units import OutputPath, Seconds, Settings, Size, as_seconds
from sisock.source import Source
from sisock.times import Clock

# By default, and at least: a sign of life comes every 2 s, and later where a node has much to do.
_WATCHDOG_S, _SHORTEST_WATCHDOG_S = 30.0, 10.0


class HistorySettings(Settings):
    """How much a node remembers, and where."""

    path: OutputPath | None = None
    """Folder of the history on disk, of this node alone; without it the history is in memory and ends with the node."""
    keep: Seconds | None = None
    """How far back samples are kept: 6 h when in memory, without limit when on disk, if not given."""
    max_samples: int = Field(10_000_000, ge=1)
    """Most samples that a timeline keeps in memory, whatever their age."""
    memory: Seconds = 3600.0
    """How much of a history on disk is kept in memory as well; its end is answered from there."""
    memory_size: Annotated[Size, Field(ge=2**20)] = 256 * 10**6
    """Most bytes of a history on disk that are kept in memory, of all its timelines together."""
    max_size: Size = 10 * 10**9
    """Most bytes that the history may take on disk; beyond it, the oldest samples are removed."""
    segment: Annotated[Size, Field(ge=2**16, le=2**32)] = 64 * 2**20
    """Bytes of a timeline's samples that are gathered before they are compressed into one sealed segment."""
    sync: Literal["none", "interval", "always"] = "interval"
    """When samples are forced onto the disk: by the system alone, at intervals, or before each is acknowledged."""
    sync_interval: Annotated[Seconds, Field(gt=0)] = 1.0
    """Seconds between writes to the disk when `sync` is ``interval``."""

    @property
    def keep_s(self) -> float:
        """How far back samples are kept, in seconds; infinite for no limit."""
        if self.keep is not None:
            return self.keep
        return math.inf if self.path else 6 * 3600.0


class SinkSettings(Settings):
    """What every sink has; each type of sink derives its own settings from this.

    A type is published as an entry point in the group ``sisock.sinks``, its name being the key below ``publish_to`` and
    its value the settings class.
    """

    def check(self) -> None:
        """Raise BadRequest for what only the packages that do the work can tell; see `NodeSettings.check`."""

    def make_sink(self, here: "Surroundings") -> Sink:
        """Make the sink; called once, in the node's own process."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its sink is")


def _sinks(content: Any, info: ValidationInfo) -> Any:
    if not isinstance(content, dict):
        return content
    kinds = {point.name: point for point in entry_points(group="sisock.sinks")}
    parsed = {}
    for kind, settings in content.items():
        if kind not in kinds:
            raise ValueError(f"sink {kind!r} is not known; installed: {', '.join(kinds) or 'none'}")
        is_parsed = isinstance(settings, SinkSettings)
        parsed[kind] = settings if is_parsed else kinds[kind].load().model_validate(settings, context=info.context)
    return parsed


Sinks = Annotated[dict[str, SerializeAsAny[SinkSettings]], BeforeValidator(_sinks)]
"""Sinks by their types."""


def _long_enough(watchdog: float) -> float:
    if 0 < watchdog < _SHORTEST_WATCHDOG_S:
        raise ValueError(f"a node that is busy may take that long; give {_SHORTEST_WATCHDOG_S:g} s or more, or 0")
    return watchdog


class AllowanceSettings(Settings):
    """How much a node answers at once; beyond it, it answers False."""

    values: int = Field(5_000_000, ge=1)
    """Most values, times included, in one answer."""
    bytes: Size = 64 * 10**6
    """Most bytes in one answer."""
    big_reads: int = Field(2, ge=1)
    """Most answers above 1 MB on their way to one caller; four times as many may wait, then the node is busy."""
    memory: Annotated[Size, Field(ge=2**20)] = 256 * 10**6
    """Most bytes of all answers above 1 MB together, of all callers; 200 more may wait, then the node is busy."""


def _expectations(content: Any) -> Any:
    by_timeline = content if isinstance(content, dict) else {"*": content}
    return {name: _expectation(seconds) for name, seconds in by_timeline.items()}


def _expectation(seconds: Any) -> Any:
    if seconds is None or seconds == "never":
        return math.inf
    if isinstance(seconds, bool):
        raise ValueError("give a length of time such as 10s, or never")  # noqa: TRY004 - what pydantic reports
    return as_seconds(seconds)


Expectations = Annotated[dict[str, Annotated[float, Field(gt=0)]], BeforeValidator(_expectations)]
"""How often samples are expected, in seconds, by timeline or pattern of timelines; infinite for never."""


class NodeSettings(Settings):
    """What every node has; each node type derives its own settings from this.

    A type is published as an entry point in the group ``sisock.nodes``, its name being the type and its
    value the settings class.
    """

    type: str
    description: str | None = None
    """What consumers are told about the node; the first line of the type's documentation when not given."""
    history: HistorySettings = HistorySettings()
    allowance: AllowanceSettings = AllowanceSettings()
    publish_to: Sinks = Field(default_factory=dict)
    """Where all that the node stores goes as well, by type of sink."""
    expect_every: Expectations = Field(default_factory=dict)
    """How often a sample is expected, of all timelines or by timeline; `never`, or a length of time. Three times that
    without one, and the timeline is stale. If not given, as the source says, or as samples came so far.
    """
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

    def claims(self) -> Sequence[str]:
        """Return what of this machine the node needs for itself alone, in words: a port, a device."""
        return ()

    def check(self) -> None:
        """Raise BadRequest for what only the packages that do the work can tell; `sisock check` asks this.

        Nothing outside is asked or opened: the site may be running.
        """

    def make_sources(self, here: "Surroundings") -> Sequence[Source]:
        """Make the sources of this node; called once, in the node's own process.

        Heavy packages are imported here and not with the settings, so that checking a site file stays quick.
        """
        raise NotImplementedError(f"node type {self.type!r} does not say what its sources are")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the sources of a node may know of where they run."""

    node: str
    """The name of their node."""
    clock: Clock
    access: Access
    """How a program in the role ``server`` reaches the router."""
    folder: Path | None = None
    """Where the node may keep what is to survive a restart; None where nothing is to."""


def node_types() -> dict[str, EntryPoint]:
    """Return the node types that are installed, by name."""
    return {point.name: point for point in sorted(entry_points(group="sisock.nodes"), key=lambda p: p.name)}


def check_node_name(name: str) -> None:
    """Raise BadRequest unless `name` can be a part of a URI: no blanks, no ``#``, no empty component."""
    if not isinstance(name, str):
        raise BadRequest(f"{name!r} is no text, and so no name for a node; write it in quotes")
    if not name or any(c.isspace() or c == "#" or not c.isprintable() for c in name):
        raise BadRequest(f"{name!r} is no name for a node; use letters, digits, -, _ and single dots")
    if "" in name.split(".") or len(name) > 200:
        raise BadRequest(f"{name!r} is no name for a node; it has an empty part between dots or is over 200 characters")
