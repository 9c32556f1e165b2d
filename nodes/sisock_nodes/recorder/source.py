"""Following other nodes: which of them, which of their timelines, and their outages."""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sisock.errors import NodeFailed, NoRouter, NoSuchNode, SisockError
from sisock.fields import Timeline
from sisock.metrics import Counters
from sisock.outage import OutageLog
from sisock.source import Emit
from sisock.times import Clock
from sisock.worker import Worker
from sisock_nodes.recorder.recording import OF, Recording

if TYPE_CHECKING:
    from sisock.consumer import Consumer
    from sisock_nodes.recorder.settings import RecorderSettings

# Seconds between checks of the hub, and of each node for new timelines.
_LOOK_S = 2.0

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
        self._recordings: dict[str, Recording] = {}
        self._nodes: set[str] = set()  # that the hub knew at the last look
        self._outages = OutageLog(clock, log)
        self._worker = Worker("recorder", self._run, patience_s=5.0, wake=self._cancel)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    @property
    def timelines(self) -> Sequence[Timeline]:
        """The timelines that are recorded, known once they are found."""
        return [recording.recorded for recording in tuple(self._recordings.values()) if recording.recorded]

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
        since = 1.0 if self._settings.backfill is None else self._clock.now() - self._settings.backfill
        self._recordings = {}

        def record(node: str, timeline: str) -> None:
            recording = self._recordings[f"{node}{OF}{timeline}"] = Recording(node, timeline, emit, self.counters)
            tasks.create_task(self._record(site, node, timeline, recording, since))

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
                    tasks.create_task(self._follow_node(site, node, record))
            await self._clock.sleep(_LOOK_S)

    async def _follow_node(self, site: "Consumer", node: str, record: Callable[[str, str], None]) -> None:
        """Begin to record the timelines of a node, and those that it has later."""
        while True:
            try:
                for timeline in await _timelines(site, node) if node in self._nodes else ():
                    is_new = f"{node}{OF}{timeline}" not in self._recordings
                    if is_new and is_recorded(self._settings.record, node, timeline):
                        record(node, timeline)
                self.recovered(node)
            except NoSuchNode:
                self._nodes.discard(node)  # has just left
            except SisockError as error:
                self.failed(node, error)
            await self._clock.sleep(_LOOK_S)

    async def _record(self, site: "Consumer", node: str, timeline: str, recording: Recording, since: float) -> None:
        following = site.follow(
            node,
            timeline,
            since,
            fields=lambda field: not field.shape,  # histories on disk have no arrays
            wait=True,
            stored_until=recording.stored_until,
            counters=self.counters,
            outages=_Noted(self),
            clock=self._clock,
        )
        async with following:
            await recording.record(following)

    def failed(self, what: str, error: SisockError) -> None:
        """Count a failure to record something; the first of an outage is logged."""
        self.counters.add("failures")
        self.note(what, error)

    def note(self, what: str, error: SisockError) -> None:
        """Log the first failure of an outage."""
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
        nodes, _, timelines = pattern.partition(OF)
        if not fnmatchcase(node, nodes):
            continue
        if timeline is None or (
            fnmatchcase(timeline, timelines or "*") and (OF not in timeline or not set(nodes) & set("*?["))
        ):
            return True
    return False


async def _timelines(site: "Consumer", node: str) -> Collection[str]:
    """Return the names of the timelines of a node."""
    try:
        status = await site.status(node)
    except NodeFailed:
        status = {}  # it speaks the published contract alone
    if "timelines" in status:
        return status["timelines"]  # type: ignore[no-any-return]
    return {info.timeline for info in (await site.fields(node)).values()}


class _Noted:
    """The outages of what is followed, whose failures are counted already."""

    def __init__(self, source: RecorderSource) -> None:
        self.failed, self.recovered = source.note, source.recovered
