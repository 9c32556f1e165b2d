"""A node: sources, their history and their counters.

Acquisition belongs to the process (`Node`), not to the WAMP session (`sisock.server.HistoryServer`): sessions come
and go with the router, and no sample is lost by that.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sisock.access import Access, access_from_environment
from sisock.alarm.alarms import Alarms
from sisock.alarm.commands import alarm_procedures
from sisock.alarm.notify import Notifier, Target
from sisock.alarm.settings import AlarmSettings
from sisock.errors import BadData, BadRequest
from sisock.fields import Batch, Timeline
from sisock.history import History, Reset
from sisock.history.fitting import refuse_arrays
from sisock.incidents import Incidents
from sisock.listener import Listener, SinkListener
from sisock.metrics import Counters
from sisock.node_context import make_context
from sisock.nodetype import NodeContext, NodeSettings, check_node_name, load_sink_type, node_type_of, sink_types
from sisock.outage import Health, LimitedLog, OutageLog, outage_logs_made, worst
from sisock.procedure import Command, Procedure
from sisock.process import earlier_runs
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.sink import Sink
from sisock.sink import health_of as health_of_sink
from sisock.source import Archives, Source, archive_of, health_of, procedures_of, source_status
from sisock.times import Clock, SystemClock, iso
from sisock.watermark import Watermark
from sisock.work import Work

log = logging.getLogger(__name__)


class _Sequence:
    """The number of a timeline's newest batch; its lock is held while a batch is stored and passed on."""

    __slots__ = ("lock", "seq")

    def __init__(self) -> None:
        self.lock, self.seq = threading.Lock(), 0


class Node:
    """Sources, what they have measured, and the counts of it.

    Parameters
    ----------
    name : str
        Unique among the nodes of the site.
    description : str or None
        What it is, for people.
    sources : sequence of Source
    history : HistorySettings, optional
    clock : Clock, optional
    allowance : AllowanceSettings, optional
        How much is answered at once.
    sinks : sequence of Sink
        Where all that is stored goes as well.
    expect_every : mapping of str to float, optional
        How often a sample is expected, in seconds, infinite for never, by timeline or pattern of timelines; of others
        as they say, or as samples came so far.
    work : Work, optional
        Its procedures, runs and events, which may have a folder; those of an own one are in memory. Not with a
        `context`, which has one.
    alarms : Alarms, or mapping of str to AlarmSettings, optional
        Alarms on its fields, or their definitions by name; with definitions their states end with the node.
    context : NodeContext, optional
        The one that its sources have; it holds the node's work.
    """

    def __init__(
        self,
        name: str,
        description: str | None,
        sources: Sequence[Source],
        history: HistorySettings | None = None,
        clock: Clock | None = None,
        allowance: AllowanceSettings | None = None,
        sinks: Sequence[Sink] = (),
        expect_every: Mapping[str, float] | None = None,
        work: Work | None = None,
        alarms: Alarms | Mapping[str, AlarmSettings] | None = None,
        context: NodeContext | None = None,
    ) -> None:
        check_node_name(name)
        self.name, self.description, self.sources, self.sinks = name, description, tuple(sources), tuple(sinks)
        self.clock = clock or (context.clock if context else SystemClock())
        self.context = context or NodeContext(
            name, self.clock, access_from_environment(), work=work or Work(self.clock)
        )
        self.offer, self.withdraw = self.context.work.offer, self.context.work.withdraw
        self.work = self.context.work
        """The work of the node: its procedures, the runs of its operations, and its events."""
        self.allowance = allowance or AllowanceSettings()
        self.outages = self.work.outages
        """Outages of the node, from which its health follows."""
        archives = {source: archive for source in self.sources if (archive := archive_of(source))}
        self.history = History(
            [tl for source in sources for tl in source.timelines],
            history,
            self.clock,
            archive=Archives(archives) if archives else None,
            outages=self.outages,
            expect_every=expect_every,
        )
        self.counters = Counters("batches", "bad_batches")
        self._incidents = Incidents(self.history, self.work.report, self.clock.monotonic)
        if not isinstance(alarms, Alarms):
            alarms = Alarms(name, alarms or {}, self.clock, self.work, self.outages)
        self.alarms = self.context.belongings.alarms = alarms
        """Alarms on the fields of the node."""
        for procedure in self._procedures():
            self.work.offers.add(procedure)
        self._started: list[Source] = []
        self._listeners: tuple[Listener, ...] = ()
        self._sequences: dict[str, _Sequence] = {}  # by timeline
        self._listening, self._judging = threading.Lock(), threading.Lock()
        self._refusals = LimitedLog(log)
        self._since: float | None = None

    def _procedures(self) -> Iterator[Procedure]:
        for source in self.sources:
            yield from procedures_of(source)
        if self.history.on_disk:
            yield Command(
                "confirm_clock",
                "Confirm that this machine's clock is right, also after a jump or a long time off.",
                None,
                None,
                self.history.confirm_clock,
            )
        yield from alarm_procedures(self.alarms, self.clock)

    def start(self) -> None:
        """Start all sources; when one cannot be started, those before it are stopped again."""
        for timeline in self.history.timelines if self.sinks else ():
            refuse_arrays(timeline, "`publish_to`")
        self._since = self.clock.now()
        self.work.events.start()
        self.listen(self.alarms)
        self.alarms.start()
        for sink in self.sinks:
            sink.start()
            self.listen(SinkListener(sink))
        for source in self.sources:
            try:
                source.start(_Emit(self))
            except BaseException:
                self._stop_sources()
                self.alarms.stop()
                raise
            self._started.append(source)
        ended = earlier_runs().get("last_exit")
        text = f"node {self.name} has started{f' again ({ended})' if ended else ''}"
        self.work.report("node", self.name, text, "warning" if ended else "info", **earlier_runs())

    def stop(self) -> None:
        """Stop all sources, and write what is not on the disk yet; a node is not started again."""
        self.work.close()
        self._stop_sources()
        self.context.belongings.close()
        self.alarms.stop()
        for sink in self.sinks:
            sink.stop()
        self.history.close()
        self._incidents.look()
        self.work.report("node", self.name, f"node {self.name} has stopped")
        self.work.close_tables()

    def _stop_sources(self) -> None:
        while self._started:
            self._started.pop().stop()

    def ingest(self, batch: Batch) -> None:
        """Store a batch and pass its stored samples on; called by sources, from any thread.

        A batch waits for others of its timeline only.
        """
        sequence = self._sequence(batch.timeline)
        try:
            with sequence.lock:  # so that listeners get the batches in the order of their numbers
                stored = self.history.append(batch, sequence.seq + 1, self._since)
                self.counters.add("batches")
                if stored is not None:
                    sequence.seq += 1
                    for listener in self._listeners:
                        listener.on_batch(stored)
        except BadData as error:
            self.counters.add("bad_batches")
            self._refusals.warning(error.message, "a batch is refused: %s", error.message)
        self._incidents.look_now_and_then()  # without the lock: it goes through all timelines

    def add(self, timeline: Timeline) -> float | None:
        """Take batches of another timeline as well; see `sisock.source.Emit.add`."""
        if self.sinks:
            refuse_arrays(timeline, "`publish_to`")
        with self._sequence(timeline.name).lock:  # its batches wait until every listener knows it
            final = self.history.add(timeline)
            with self._listening:
                for listener in self._listeners:
                    listener.add(timeline)
            return final

    def listen(self, listener: Listener) -> None:
        """Notify `listener` of all timelines, and of every batch that is stored from now on."""
        with self._listening:
            for timeline in self.history.timelines:
                listener.add(timeline)
            self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Listener) -> None:
        """Notify `listener` no more, except of batches that are being passed on at this moment."""
        with self._listening:
            self._listeners = tuple(other for other in self._listeners if other != listener)

    def take_watermark(self, timeline: str, pass_on: Callable[[Watermark], object]) -> bool:
        """Pass on a watermark between two batches of its timeline; return False while one is being stored."""
        sequence = self._sequence(timeline)
        if not sequence.lock.acquire(blocking=False):
            return False
        try:
            final, reset = self.history.watermark(timeline)
            pass_on(Watermark(sequence.seq, final, self._since or 0.0, reset))
        finally:
            sequence.lock.release()
        return True

    def _sequence(self, timeline: str) -> _Sequence:
        return self._sequences.get(timeline) or self._sequences.setdefault(timeline, _Sequence())

    def health(self) -> Health:
        """Return how the node is: the worst of its own outages and of what its sources and sinks report.

        Timelines that are stale are among its outages.
        """
        return self._health(self.history.status())

    def _health(self, timelines: Mapping[str, Mapping[str, Any]]) -> Health:
        if self._since is None:
            return Health("starting", self.clock.now())
        of_sources = [health for source in self.sources if (health := health_of(source))]
        self._report_stale(timelines)
        of_sinks = [health for sink in self.sinks if (health := health_of_sink(sink))]
        return worst([self.outages.health(), *of_sources, *of_sinks])

    def _report_stale(self, timelines: Mapping[str, Mapping[str, Any]]) -> None:
        """Open and close the outages of timelines that are stale; none is opened where the source has one already."""
        with self._judging:
            for name, about in timelines.items():
                key = f"samples of {name}"
                if about["state"] != "stale":
                    self.outages.recovered(key)
                elif not self.outages.failing(key) and not self._is_explained(name):
                    every, since = about["expected_every"], about["silent_since"]
                    self.outages.failed(key, f"none since {iso(since)}, and one is expected every {every:g} s")

    def _is_explained(self, timeline: str) -> bool:
        """Whether it is reported already why nothing comes: a source has an outage, or all samples are refused."""
        if self.outages.failing(f"timeline {timeline}"):
            return True
        feeding = [source for source in self.sources if any(tl.name == timeline for tl in source.timelines)]
        healths = [health_of(source) for source in feeding or self.sources]
        return any(health is not None and health.state not in ("ok", "degraded") for health in healths)

    def status(self) -> dict[str, Any]:
        """Return since when the node runs, its health, and the counters of its sources and timelines."""
        self._incidents.look_now_and_then()
        # Read first: a client that asks for samples as of these numbers gets at least all that were numbered so far.
        seq = {name: sequence.seq for name, sequence in tuple(self._sequences.items())}
        timelines = {name: {"seq": seq.get(name, 0), **counts} for name, counts in self.history.status().items()}
        return {
            "since": self._since,
            "health": self._health(timelines).as_dict(),
            **({"process": runs} if (runs := dict(earlier_runs())) else {}),
            "counters": self.counters.as_dict(),
            "sources": [status for source in self.sources for status in source_status(source)],
            "sinks": [sink.status() for sink in self.sinks],
            "history": self.history.summary(),
            "alarms": self.alarms.status(),
            "timelines": timelines,
        }


class _Emit:
    """How a source reaches its node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __call__(self, batch: Batch) -> None:
        self._node.ingest(batch)

    def add(self, timeline: Timeline) -> float | None:
        return self._node.add(timeline)

    def set_back(self, timeline: str, number: int, finalized_until: float, removed_from: float = math.inf) -> int:
        return self._node.history.set_back(timeline, Reset(number, finalized_until, removed_from))


def open_node(
    name: str,
    settings: NodeSettings,
    access: Access | None = None,
    *,
    clock: Clock | None = None,
    folder: Path | None = None,
    notifications: Sequence[Target] = (),
    secrets: Mapping[str, str] | None = None,
) -> Node:
    """Make the node that a site file describes.

    Parameters
    ----------
    name : str
    settings : NodeSettings
    access : Access, optional
        How the router is reached, for sources that ask other nodes; from the environment when not given.
    clock : Clock, optional
    folder : Path, optional
        Where the node may keep what is to survive a restart; nothing is kept when not given.
    notifications : sequence of Target
        Targets of notifications of alarms.
    secrets : mapping of str to str, optional
        The node's secrets by key.

    Raises
    ------
    BadRequest
        If nodes of its type have no sources; see `sisock.runner.serve_settings`.
    """
    context = make_context(name, access, settings, clock=clock, folder=folder, secrets=secrets)
    kind, known = node_type_of(settings), sink_types()
    if kind.make_sources is None:
        raise BadRequest(f"{name!r} is of type {settings.type}, which has no sources; serve it by `sisock node run`")
    work = context.work
    path = folder / "alarms.json" if folder else None
    notifiers = _notifiers(notifications, context.clock, work.outages)
    alarms = context.belongings.alarms = Alarms(
        name, settings.alarms, context.clock, work, work.outages, path, notifiers
    )
    with outage_logs_made() as outage_logs:
        sources = kind.make_sources(settings, context)
        sinks = [load_sink_type(known[each]).make_sink(given, context) for each, given in settings.publish_to.items()]
    for outages in outage_logs:
        outages.report_to(context.events.report_outage)
    return Node(
        name,
        settings.description,
        sources,
        settings.history,
        context.clock,
        settings.allowance,
        sinks,
        settings.expect_every,
        alarms=alarms,
        context=context,
    )


def _notifiers(targets: Sequence[Target], clock: Clock, outages: OutageLog) -> list[Notifier]:
    if not targets:
        return []
    from sisock.alarm.delivery import sender  # with HTTP and SMTP, which few nodes need

    return [Notifier(target, clock, outages, sender(target)) for target in targets]
