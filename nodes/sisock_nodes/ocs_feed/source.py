"""Feeds of OCS agents as a source."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sisock.errors import BadData
from sisock.fields import NO_VALUE, Batch, Column, Field, FieldType, FloatArray, Timeline
from sisock.metrics import Counters
from sisock.source import Emit
from sisock.times import Clock
from sisock_nodes.ocs_feed.feed import HEARTBEAT, Event, event_of

if TYPE_CHECKING:
    from sisock_nodes.ocs_feed.settings import OcsFeedSettings

_MOST_WAITING, _TICK_S = 10_000, 0.5
_KINDS: dict[str, FieldType] = {"b": "bool", "i": "number", "u": "number", "f": "number", "O": "string"}

log = logging.getLogger(__name__)


def _kind(values: Column) -> FieldType:
    return _KINDS.get(values.dtype.kind, "string")


class Subscription(Protocol):
    """Where the events come from."""

    def open(self, put: Callable[[Any], None]) -> None:
        """Hand each event to `put` from now on."""
        ...

    def close(self) -> None:
        """Hand over no more."""
        ...


class Agent:
    """An agent, by its instance-id.

    Attributes
    ----------
    counters : Counters
        ``events``, ``samples``, ``heartbeats``, ``unrecorded`` (events of feeds that are not to be recorded),
        ``expired`` (how often its heartbeat failed to come), ``filled`` (values that a block did not have) and
        ``bad_values`` (of another type than their field).
    """

    def __init__(self, name: str, lateness_s: float) -> None:
        self.name = name
        self.counters = Counters("events", "samples", "heartbeats", "unrecorded", "expired", "filled", "bad_values")
        self.heard: float | None = None
        """When its heartbeat came last; None while it is gone."""
        self.gone_since: dict[str, float] = {}
        """Of timelines that it fed before it was gone: since when nothing came."""
        self._lateness_s = lateness_s
        self._timelines: dict[str, Timeline] = {}
        self._names: dict[str, dict[str, str]] = {}  # of the fields of each timeline, by their keys in the block
        self.newest: dict[str, float] = {}

    @property
    def timelines(self) -> Sequence[Timeline]:
        """Its blocks, and whether it is alive."""
        return list(self._timelines.values())

    def alive(self, t: float, *, value: bool, emit: Emit) -> None:
        """Tell whether it is alive."""
        name = self.name
        if name not in self._timelines:
            field = Field(f"{name}.alive", "bool", None, "Whether its heartbeat comes")
            self._timelines[name] = Timeline(name, [field], 1.0, lateness_s=1.0)
            emit.add(self._timelines[name])
        emit(Batch(name, np.array([t]), {f"{name}.alive": np.array([value])}))

    def take(self, feed: str, block: str, t: FloatArray, columns: Mapping[str, Column], emit: Emit) -> None:
        """Emit the samples of a block, whose keys may be others than before."""
        name = f"{self.name}.{feed}.{block}"
        if not columns.keys() <= self._names.get(name, {}).keys():
            self._declare(name, feed, columns, emit)
        fields = {field.name: field for field in self._timelines[name].fields}
        named = {}
        for key, own in self._names[name].items():
            empty, dtype = NO_VALUE[fields[own].type]
            values = columns.get(key)
            if values is not None and _kind(values) == fields[own].type:
                named[own] = values
            else:
                named[own] = np.full(len(t), empty, dtype)
                self.counters.add("filled" if values is None else "bad_values", len(t))
        emit(Batch(name, t, named, self.gone_since.pop(name, None)))
        self.newest[name] = max(self.newest.get(name, -np.inf), float(t.max(initial=-np.inf)))
        self.counters.add("samples", len(t))

    def _declare(self, name: str, feed: str, columns: Mapping[str, Column], emit: Emit) -> None:
        """Declare a block with all keys so far; names of fields begin with that of the block, too, if need be."""
        known = self._names.get(name, {})
        for prefix in (f"{self.name}.{feed}.", f"{name}."):
            names = known | {key: prefix + key for key in columns if key not in known}
            before = self._timelines[name].fields if name in self._timelines else ()
            fields = [*before, *(Field(names[key], _kind(columns[key])) for key in columns if key not in known)]
            timeline = Timeline(name, fields, lateness_s=self._lateness_s, follows_clock=False, live=True)
            try:
                emit.add(timeline)
            except BadData:  # another block of the feed has a field of that name
                if prefix == f"{name}.":
                    raise
            else:
                self._timelines[name], self._names[name] = timeline, names
                return

    def left(self) -> None:
        """Remember since when nothing comes."""
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
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._said: set[str] = set()

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The blocks that have come so far."""
        return [timeline for agent in tuple(self._agents.values()) for timeline in agent.timelines]

    @property
    def parts(self) -> Sequence[Agent]:
        """The agents."""
        return list(self._agents.values())

    def start(self, emit: Emit) -> None:
        """Begin to listen."""
        self._thread = threading.Thread(target=self._run, args=(emit,), name="ocs feeds", daemon=True)
        self._thread.start()
        self._subscription.open(self._put)

    def stop(self) -> None:
        """Listen no more; what has come is stored."""
        self._subscription.close()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5.0)

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
                pass  # it is time to look who is alive
            except BadData as error:
                self.counters.add("bad_events")
                if error.message not in self._said and len(self._said) < 100:
                    self._said.add(error.message)
                    log.warning("%s (said once)", error.message)
            except Exception:
                self.counters.add("failures")
                log.exception("an event of OCS could not be stored; going on")
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
            agent = self._agents.setdefault(event.agent, Agent(event.agent, self._settings.lateness))
        if event.feed == HEARTBEAT:
            agent.counters.add("heartbeats")
            agent.heard = self._clock.now()
            agent.alive(agent.heard, value=True, emit=emit)
            return
        if not event.blocks:
            agent.counters.add("unrecorded")
        for block, (t, columns) in event.blocks.items():
            if len(t) and columns:
                agent.take(event.feed, block, t, columns, emit)
        agent.counters.add("events")

    def _wanted(self, event: Event) -> bool:
        """Whether a feed is named; of an agent any of whose feeds may be, the heartbeat is."""
        if event.feed == HEARTBEAT:
            return any(fnmatchcase(event.agent, pattern.rpartition(".")[0] or "*") for pattern in self._settings.feeds)
        return any(fnmatchcase(f"{event.agent}.{event.feed}", pattern) for pattern in self._settings.feeds)

    def _look(self, emit: Emit) -> None:
        """Tell which agents are gone."""
        now = self._clock.now()
        for agent in self._agents.values():
            if agent.heard is not None and now > agent.heard + self._settings.expire:
                agent.left()
                log.warning("agent %s is gone: no heartbeat for %g s", agent.name, self._settings.expire)
                agent.alive(now, value=False, emit=emit)
