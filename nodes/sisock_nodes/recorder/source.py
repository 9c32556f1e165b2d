"""Following other nodes: which of them, which of their timelines, and their outages."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from sisock.errors import NodeFailed, NoRouter, NoSuchNode, SisockError
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.source import Emit
from sisock.times import Clock
from sisock.worker import Worker
from sisock_nodes.recorder.follower import Follower

if TYPE_CHECKING:
    from sisock.consumer import Consumer
    from sisock_nodes.recorder.settings import RecorderSettings

# Between a node's name and that of its timeline or field.
_OF = "::"
# Seconds between checks of the hub and of each node; changes that no feed reports are noticed within two of them.
_LOOK_S = 2.0
# Large answers that are asked for at the same time.
_FETCHES = 2

log = logging.getLogger(__name__)


class RecorderSource:
    """Records the timelines of other nodes, live, and missed samples from their histories.

    Parameters
    ----------
    settings : RecorderSettings
    own_name : str
        The node that this is the source of; it does not follow itself.
    consumer : callable
        Makes the consumer that the other nodes are asked through.
    clock : Clock
    """

    def __init__(
        self, settings: "RecorderSettings", own_name: str, consumer: "Callable[[], Consumer]", clock: Clock
    ) -> None:
        self.counters = Counters("batches", "missed", "fetched", "filled", "set_back", "failures")
        self._settings, self._own_name, self._consumer, self._clock = settings, own_name, consumer, clock
        self._followers: dict[str, Follower] = {}
        self._nodes: set[str] = set()  # that the hub knew at the last look
        self._outages = OutageLog(clock, log)
        self._worker = Worker("recorder", self._run, patience_s=5.0, wake=self._cancel)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that are recorded, known once they are found."""
        return [follower.recorded for follower in tuple(self._followers.values()) if follower.recorded]

    def start(self, emit: Emit) -> None:
        """Start to follow."""
        up = threading.Event()
        self._worker.start(emit, up)
        up.wait()

    def stop(self) -> None:
        """Stop following."""
        self._worker.stop()

    def _cancel(self) -> None:
        if self._loop is not None and self._main is not None:
            self._loop.call_soon_threadsafe(self._main.cancel)

    def _run(self, emit: Emit, up: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
            up.set()
            await self._follow(emit)

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            log.debug("the recorder is stopped")

    async def _follow(self, emit: Emit) -> None:
        while True:
            try:
                async with self._consumer() as site, asyncio.TaskGroup() as tasks:
                    self.recovered("the site")
                    await self._follow_site(site, tasks, emit)
            except SisockError as error:
                self.failed("the site", error)
            except Exception as error:  # noqa: BLE001 - logged with its traceback
                self.counters.add("failures")
                self._outages.failed("recording", error)
            await self._clock.sleep(_LOOK_S)

    async def _follow_site(self, site: "Consumer", tasks: asyncio.TaskGroup, emit: Emit) -> None:
        turns = asyncio.Semaphore(_FETCHES)
        since = None if self._settings.backfill is None else self._clock.now() - self._settings.backfill
        self._followers = {}

        def follow(node: str, timeline: str, fed: bool) -> Follower:
            made = Follower(site, node, timeline, emit, self, turns, since=since, clock=self._clock)
            tasks.create_task(made.follow(fed=fed))
            return made

        followed: set[str] = set()
        while True:
            try:
                self._nodes = {info.name for info in await site.nodes()} - {self._own_name}
            except SisockError as error:
                self.failed("the hub", error)
            else:
                self.recovered("the hub")
                self._outages.recovered("recording")
            for node in sorted(self._nodes - followed):
                if is_recorded(self._settings.record, node):
                    followed.add(node)
                    tasks.create_task(self._follow_node(site, node, follow))
            await self._clock.sleep(_LOOK_S)

    async def _follow_node(self, site: "Consumer", node: str, follow: Callable[[str, str, bool], Follower]) -> None:
        while True:
            try:
                if node in self._nodes:
                    since, timelines, fed = await _timelines(site, node)
                    for timeline, about in timelines.items():
                        key = f"{node}{_OF}{timeline}"
                        if key not in self._followers and is_recorded(self._settings.record, node, timeline):
                            self._followers[key] = follow(node, timeline, fed)
                        if key in self._followers:
                            self._followers[key].look(since, about)
                    self.recovered(node)
            except NoSuchNode:
                self._nodes.discard(node)  # has just left
            except SisockError as error:
                self.failed(node, error)
            await self._clock.sleep(_LOOK_S)

    def failed(self, what: str, error: SisockError) -> None:
        """Count a failure to record something; the first of an outage is logged."""
        self.counters.add("failures")
        if not isinstance(error, NoRouter):  # which the node's own session logs
            self._outages.failed(f"recording {what}", error)

    def recovered(self, what: str) -> None:
        """End the outage of something that can be recorded again."""
        self._outages.recovered(f"recording {what}")


def is_recorded(patterns: Sequence[str], node: str, timeline: str | None = None) -> bool:
    """Whether a node, or a timeline of it, is to be recorded.

    Timelines that a recorder has recorded of other nodes are taken only from a node that is named without ``*``, ``?``
    or ``[``.
    """
    for pattern in patterns:
        nodes, _, timelines = pattern.partition(_OF)
        if not fnmatchcase(node, nodes):
            continue
        if timeline is None or (
            fnmatchcase(timeline, timelines or "*") and (_OF not in timeline or not set(nodes) & set("*?["))
        ):
            return True
    return False


async def _timelines(site: "Consumer", node: str) -> tuple[Any, Mapping[str, Any], bool]:
    """Return when a node started, the status of its timelines, and whether their feeds are numbered."""
    try:
        status = await site.status(node)
    except NodeFailed:
        status = {}  # it speaks the published contract alone
    timelines = status.get("timelines")
    if isinstance(timelines, dict) and all("seq" in about for about in timelines.values()):
        return status.get("since"), timelines, True
    fields = await site.fields(node)
    return None, {info.timeline: None for info in fields.values()}, False
