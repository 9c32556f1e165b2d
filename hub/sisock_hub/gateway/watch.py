"""Watches the nodes: which exist, which are stale, which have left, and since when."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from sisock.consumer import Consumer
from sisock.errors import NodeFailed, SisockError, TimedOut
from sisock.outage import age_content, reported_age, reported_health
from sisock.times import SYSTEM_CLOCK, iso
from sisock_hub.gateway.query_client import check

# Seconds between requests to the hub, and between probes of each node; and the timeout of both.
_HUB_S, _NODE_S, _ANSWER_S = 1.0, 1.5, 3.0
# Seconds between searches for nodes that are due, and between requests to the router.
_TICK_S, _ROUTER_S = 0.2, 5.0
# Nodes and events that are remembered.
_MOST_NODES, _MOST_EVENTS = 5000, 10_000
# Events that wait for a reader.
_MOST_WAITING = 1000

State = Literal["live", "online", "stale", "gone"]
"""`live`: samples arrive; `online`: it answers, and no samples are due; `stale`: no answer, or samples are missing."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watched:
    """The state of a node."""

    name: str
    description: str | None
    state: State
    since: float
    """Time since which it is in that state, UNIX seconds."""
    reason: str | None = None
    """Reason why it is stale."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """Its newest status."""
    looked: float = field(default_factory=SYSTEM_CLOCK.monotonic)
    """Time of that status by the monotonic clock."""
    health: Mapping[str, Any] | None = None
    """Its own health: state, since and error; None where it reports none."""

    @property
    def timelines(self) -> Mapping[str, Mapping[str, Any]]:
        """Its timelines in its newest status."""
        known = self.status.get("timelines")
        return {k: v for k, v in known.items() if isinstance(v, Mapping)} if isinstance(known, Mapping) else {}

    @property
    def newest(self) -> float | None:
        """Time of its newest sample, UNIX seconds; None where it has none, or reports none."""
        times = (_number(about.get("newest")) for about in self.timelines.values())
        return max((t for t in times if t is not None), default=None)

    @property
    def age(self) -> float | None:
        """Seconds since the time of its newest sample, by its own clock; None where that time is in the future."""
        return age_content(self._signed_age)["age"]

    @property
    def ahead(self) -> float | None:
        """Seconds by which its newest sample is ahead of its own clock; None where it is not."""
        return age_content(self._signed_age)["ahead"]

    @property
    def work(self) -> dict[str, float | None] | None:
        """Numbers that change when its procedures or its runs do; None where it reports none, see `WorkAnswer`."""
        revision, runs = _count(self.status.get("revision")), self.status.get("operations")
        if revision is None or not isinstance(runs, Mapping):
            return None
        counters = runs.get("counters")
        active = (_count(runs.get(state)) or 0 for state in ("queued", "running", "cancelling"))
        return {
            "started": _number(self.status.get("since")),
            "revision": revision,
            "active": sum(active),
            "runs": _count(counters.get("runs")) if isinstance(counters, Mapping) else None,
        }

    @property
    def alarms(self) -> dict[str, Any] | None:
        """How many alarms it has, by severity and state, and of their changes; None where it reports none."""
        about = self.status.get("alarms")
        if not isinstance(about, Mapping) or not isinstance(about.get("by_severity"), Mapping):
            return None
        counters = about.get("counters")
        return {
            "by_severity": {
                str(severity): {str(state): count for state, each in states.items() if (count := _count(each))}
                for severity, states in about["by_severity"].items()
                if isinstance(states, Mapping)
            },
            "changes": (_count(counters.get("transitions")) or 0) if isinstance(counters, Mapping) else 0,
        }

    @property
    def _signed_age(self) -> float | None:
        age = reported_age(self.status)
        return None if age is None else age + SYSTEM_CLOCK.monotonic() - self.looked


Kind = Literal["arrived", "left", "stale", "live", "online"]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a node."""

    t: float
    """UNIX seconds."""
    node: str
    kind: Kind
    text: str


class Watch:
    """Watches the nodes for as long as it is open.

    Parameters
    ----------
    consumer : Consumer
        Probes the nodes; does not call those that do not answer.
    operator : Consumer, optional
        Does not call those either.
    """

    def __init__(self, consumer: Consumer, operator: Consumer | None = None) -> None:
        self._consumer = consumer
        self._callers = (consumer,) if operator is None else (consumer, operator)
        self._nodes: dict[str, Watched] = {}
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._readers: set[asyncio.Queue[Event]] = set()
        self._unanswered: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._known = False  # whether the hub has answered once
        self._trouble: SisockError | None = None
        self.router: Mapping[str, Any] = {}
        """The router's newest report of its connections; empty where it reports none."""

    @property
    def trouble(self) -> SisockError | None:
        """The outage while nodes cannot be queried: the router or the hub is unreachable, or does not answer."""
        return self._consumer.trouble or self._trouble

    def unanswered(self, node: str) -> str | None:
        """Return the reason why a node is not to be queried: its probe was not answered; None if it was."""
        return self._unanswered.get(node)

    @property
    def nodes(self) -> list[Watched]:
        """The nodes in order of their names, including those that have left since the gateway was started."""
        return sorted(self._nodes.values(), key=lambda node: node.name)

    @property
    def events(self) -> list[Event]:
        """The events since the gateway was started, the oldest first."""
        return list(self._events)

    @asynccontextmanager
    async def following(self) -> AsyncIterator["asyncio.Queue[Event]"]:
        """Provide a queue of the events from now on; when it is full, the oldest are dropped."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_MOST_WAITING)
        self._readers.add(queue)
        try:
            yield queue
        finally:
            self._readers.discard(queue)

    async def __aenter__(self) -> Self:
        """Start watching."""
        watches = (self._watch_hub(), self._watch_nodes(), self._watch_router())
        self._tasks = [asyncio.create_task(each) for each in watches]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Update the list of nodes from the hub.

        Raises
        ------
        NoRouter, NoHub, TimedOut
        """
        check(self._consumer)
        listed = {info.name: info.description for info in await self._consumer.nodes()}
        for name, description in listed.items():
            known = self._nodes.get(name)
            if known is None or known.state == "gone":
                self._nodes[name] = Watched(name, description, "online", SYSTEM_CLOCK.now())
                if self._known:
                    self._report(name, "arrived", f"{name} has arrived")
        for node in self._nodes.values():
            if node.name not in listed and node.state != "gone":
                self._become(node, "gone", None)
        self._known = True
        while len(self._nodes) > _MOST_NODES:
            del self._nodes[min(self._nodes, key=lambda name: (self._nodes[name].state != "gone", name))]

    async def _watch_hub(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await self.refresh()
            except SisockError as error:
                self._trouble = error
            except TimeoutError:
                self._trouble = TimedOut(f"the hub did not list the nodes within {_ANSWER_S:g} s")
                self._suspend(None, self._trouble.message)
            else:
                self._trouble = None
                self._resume(None)
            await SYSTEM_CLOCK.sleep(_HUB_S)

    async def _watch_nodes(self) -> None:
        """Probe each node in a task, so that one that does not answer does not delay the others."""
        looks: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for name in [name for name, task in looks.items() if task.done()]:
                    del looks[name]
                for node in self._nodes.values():
                    if node.state != "gone" and node.name not in looks:
                        looks[node.name] = asyncio.create_task(self._look_and_rest(node))
                await SYSTEM_CLOCK.sleep(_TICK_S)
        finally:
            for task in looks.values():
                task.cancel()
            await asyncio.gather(*looks.values(), return_exceptions=True)

    async def _look_and_rest(self, node: Watched) -> None:
        await self._look(node)
        await SYSTEM_CLOCK.sleep(_NODE_S)

    async def _watch_router(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    self.router = await self._consumer.router_status()
            except (SisockError, TimeoutError):
                self.router = {}
            await SYSTEM_CLOCK.sleep(_ROUTER_S)

    async def _look(self, node: Watched) -> None:
        """Probe a node."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                node.status = await self._consumer.status(node.name)
                node.looked = SYSTEM_CLOCK.monotonic()
                self._answered(node)
                node.health = reported_health(node.status)
            reason = _overdue(node.timelines)
        except NodeFailed:
            self._answered(node)
            reason = None  # a node of the published contract, which has no status
        except TimeoutError:
            if self.trouble is not None:
                return
            reason = f"it did not answer within {_ANSWER_S:g} s"
            self._unanswered[node.name] = message = f"node {node.name!r} did not answer within {_ANSWER_S:g} s"
            self._suspend(node.name, message)
        except SisockError as error:
            if self.trouble is not None:
                return  # nothing is known while the router or the hub is unreachable
            reason = error.message
        except Exception as error:  # the answer of one node must not end the watch of all
            log.exception("node %s cannot be watched", node.name)
            reason = f"its status cannot be read: {error!r}"
        if node.state != "gone":
            is_live = any(about.get("state") == "live" for about in node.timelines.values())
            self._become(node, "stale" if reason else "live" if is_live else "online", reason)

    def _answered(self, node: Watched) -> None:
        self._unanswered.pop(node.name, None)
        self._resume(node.name)

    def _suspend(self, node: str | None, reason: str) -> None:
        for caller in self._callers:
            caller.suspend(node, reason)

    def _resume(self, node: str | None) -> None:
        for caller in self._callers:
            caller.resume(node)

    def _become(self, node: Watched, state: State, reason: str | None) -> None:
        node.reason = reason
        if state == node.state:
            return
        was_well = node.state in ("live", "online")
        node.state, node.since = state, SYSTEM_CLOCK.now()
        if was_well and state in ("live", "online"):
            return  # samples that arrive now and then are not an event each
        if state == "gone":
            self._answered(node)  # another of that name may arrive
            self._report(node.name, "left", f"{node.name} has left")
        else:
            self._report(node.name, state, f"{node.name} is {state}{': ' + reason if reason else ''}")

    def _report(self, node: str, kind: Kind, text: str) -> None:
        event = Event(SYSTEM_CLOCK.now(), node, kind, text)
        self._events.append(event)
        for queue in self._readers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)


def _overdue(timelines: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the timelines that the node reports as stale, as text; None if there are none."""
    stale = [_since(name, about) for name, about in timelines.items() if about.get("state") == "stale"]
    return "; ".join(stale) or None


def _since(timeline: str, about: Mapping[str, Any]) -> str:
    since, every = _number(about.get("silent_since")), _number(about.get("expected_every"))
    text = f"no samples of {timeline}" + (f" since {iso(since)}" if since is not None else "")
    return text + (f", and one is expected every {every:g} s" if every is not None else "")


def _number(value: Any) -> float | None:
    """Return a number that a node reports; None if it is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    """Return a count that a node reports; None if it is not an integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
