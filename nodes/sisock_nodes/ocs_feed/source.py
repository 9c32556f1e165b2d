"""Feeds of OCS agents as a source."""

import logging
import queue
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sisock.errors import BadData
from sisock.fields import Batch, Field, Timeline
from sisock.metrics import Counters
from sisock.outage import LimitedLog, OutageLog
from sisock.source import Emit
from sisock.times import Clock
from sisock.worker import Worker
from sisock_nodes.ocs_feed.feed import HEARTBEAT, Block, Event, event_of
from sisock_nodes.records.learned import COUNTS, LearnedColumns, ValueSettings

if TYPE_CHECKING:
    from sisock_nodes.ocs_feed.settings import OcsFeedSettings

_MOST_WAITING, _TICK_S = 10_000, 0.5

log = logging.getLogger(__name__)


class Subscription(Protocol):
    """The origin of the events."""

    def open(self, put: Callable[[Any], None]) -> None:
        """Call `put` with each event from now on."""
        ...

    def close(self) -> None:
        """Stop calling `put`."""
        ...


class Agent:
    """An agent, by its instance-id.

    Parameters
    ----------
    name : str
    settings : OcsFeedSettings

    Attributes
    ----------
    counters : Counters
        ``events``, ``samples``, ``heartbeats``, ``unrecorded`` (events of feeds that are not to be recorded),
        ``expired`` (how often its heartbeat failed to come), ``bad_blocks`` (that cannot be read), ``bad_columns``
        (without a value for each time), ``untimed`` (samples without a time), and those of `LearnedColumns`.
    """

    def __init__(self, name: str, settings: "OcsFeedSettings") -> None:
        self.name = name
        self.counters = Counters(
            *("events", "samples", "heartbeats", "unrecorded", "expired", "bad_blocks", "bad_columns", "untimed"),
            *COUNTS,
        )
        self.heard: float | None = None
        """When its last heartbeat arrived; None while it is offline."""
        self.gone_since: dict[str, float] = {}
        """The newest sample of each timeline when it went offline: where the gap starts."""
        self._settings = settings
        self._timelines: dict[str, Timeline] = {}
        self._columns: dict[str, LearnedColumns] = {}
        self._owners: dict[str, str] = {}  # which timeline has a field
        self.newest: dict[str, float] = {}

    @property
    def timelines(self) -> Sequence[Timeline]:
        """Its blocks, and whether it is alive."""
        return list(self._timelines.values())

    def alive(self, t: float, *, value: bool, emit: Emit) -> None:
        """Emit whether it is alive."""
        name = self.name
        if name not in self._timelines:
            field = Field(f"{name}.alive", "bool", None, "Whether its heartbeat comes")
            self._timelines[name] = Timeline(name, [field], 1.0, lateness_s=1.0)
            emit.add(self._timelines[name])
        emit(Batch(name, np.array([t]), {f"{name}.alive": np.array([value])}))

    def take(self, feed: str, name: str, block: Block, emit: Emit) -> None:
        """Emit the samples of a block, whose keys and types may be others than before."""
        self.counters.add("bad_columns", block.bad_columns)
        t, values = block.t, block.values
        if not (there := np.isfinite(t)).all():
            self.counters.add("untimed", int((~there).sum()))
            t, values = t[there], {key: list(compress(each, there.tolist())) for key, each in values.items()}
        if not len(t) or not values:
            return
        name = f"{self.name}.{feed}.{name}"
        if name not in self._columns:
            self._columns[name] = LearnedColumns(
                partial(self._field, feed, name), partial(self._about, feed), self._settings.missing, self.counters
            )
        columns = self._columns[name].columns(values, len(t))
        if not columns:
            return
        fields = tuple(self._columns[name].fields)
        if name not in self._timelines or self._timelines[name].fields != fields:
            timeline = Timeline(name, fields, lateness_s=self._settings.lateness, follows_clock=False, live=True)
            emit.add(timeline)
            self._timelines[name] = timeline
        emit(Batch(name, t, columns, self.gone_since.pop(name, None)))
        self.newest[name] = max(self.newest.get(name, -np.inf), float(t.max()))
        self.counters.add("samples", len(t))

    def _field(self, feed: str, timeline: str, key: str) -> str:
        """Return the name of the field of a key, which begins with that of the block if another block has it."""
        name = f"{self.name}.{feed}.{key}"
        return name if self._owners.setdefault(name, timeline) == timeline else f"{timeline}.{key}"

    def _about(self, feed: str, key: str) -> ValueSettings:
        values = self._settings.values
        return values.get(f"{self.name}.{feed}.{key}") or values.get(key) or ValueSettings()

    def left(self) -> None:
        """Remember where the gap starts."""
        self.counters.add("expired")
        self.heard = None
        self.gone_since = dict(self.newest)


class OcsFeeds:
    """The feeds of all agents that are wanted.

    Parameters
    ----------
    settings : OcsFeedSettings
    subscription : Subscription
    clock : Clock
    """

    def __init__(self, settings: "OcsFeedSettings", subscription: Subscription, clock: Clock) -> None:
        self.counters = Counters("events", "bad_events", "unwanted", "overflows", "failures")
        self._settings, self._subscription, self._clock = settings, subscription, clock
        self._agents: dict[str, Agent] = {}
        self._waiting: queue.Queue[Any] = queue.Queue(_MOST_WAITING)
        self._worker = Worker("ocs feeds", self._run, patience_s=5.0)
        self._stopping = self._worker.stopping
        self._invalid = LimitedLog(log)
        self._outages = OutageLog(clock, log, partial(self.counters.add, "failures"))

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The blocks that have come so far."""
        return [timeline for agent in tuple(self._agents.values()) for timeline in agent.timelines]

    @property
    def parts(self) -> Sequence[Agent]:
        """The agents."""
        return list(self._agents.values())

    def start(self, emit: Emit) -> None:
        """Start to receive events."""
        self._worker.start(emit)
        self._subscription.open(self._put)

    def stop(self) -> None:
        """Stop receiving events; those that have arrived are stored."""
        self._subscription.close()
        self._worker.stop()

    def _put(self, argument: Any) -> None:
        try:
            self._waiting.put_nowait(argument)
        except queue.Full:
            self.counters.add("overflows")

    def _run(self, emit: Emit) -> None:
        while not (self._stopping.is_set() and self._waiting.empty()):
            try:
                self._take(self._waiting.get(timeout=_TICK_S), emit)
            except queue.Empty:
                pass  # time to check who is alive
            except BadData as error:
                self.counters.add("bad_events")
                self._invalid.warning(error.message, "%s", error.message)
            except Exception as error:  # noqa: BLE001 - logged with its traceback
                self._outages.failed("storing events of OCS", error)
            else:
                self._outages.recovered("storing events of OCS")
            self._look(emit)

    def _take(self, argument: Any, emit: Emit) -> None:
        event = event_of(argument, self._settings.address_root)
        if self._wanted(event):
            self._take_wanted(event, emit)
        else:
            self.counters.add("unwanted")
        self.counters.add("events")

    def _take_wanted(self, event: Event, emit: Emit) -> None:
        agent = self._agents.get(event.agent)
        if agent is None:
            agent = self._agents.setdefault(event.agent, Agent(event.agent, self._settings))
        if event.feed == HEARTBEAT:
            agent.counters.add("heartbeats")
            agent.heard = self._clock.monotonic()
            agent.alive(self._clock.now(), value=True, emit=emit)
            return
        if not event.blocks and not event.bad_blocks:
            agent.counters.add("unrecorded")
        agent.counters.add("bad_blocks", event.bad_blocks)
        for name, block in event.blocks.items():
            agent.take(event.feed, name, block, emit)
        agent.counters.add("events")

    def _wanted(self, event: Event) -> bool:
        """Whether a feed is named; of an agent any of whose feeds may be, the heartbeat is."""
        if event.feed == HEARTBEAT:
            return any(fnmatchcase(event.agent, pattern.rpartition(".")[0] or "*") for pattern in self._settings.feeds)
        return any(fnmatchcase(f"{event.agent}.{event.feed}", pattern) for pattern in self._settings.feeds)

    def _look(self, emit: Emit) -> None:
        """Emit which agents are offline."""
        for agent in self._agents.values():
            if agent.heard is not None and self._clock.monotonic() > agent.heard + self._settings.expire:
                agent.left()
                log.warning("agent %s is offline: no heartbeat for %g s", agent.name, self._settings.expire)
                agent.alive(self._clock.now(), value=False, emit=emit)
