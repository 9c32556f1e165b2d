"""Work through a real router: commands, updates of operations, and reads beside operations that wait or compute."""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from parts.core import IN_FLIGHT, alternate, join
from parts.history_turns import scratch
from rows import Row
from twisted.internet.defer import DeferredList

from sisock import Field, Timeline
from sisock.alarm.settings import AlarmSettings
from sisock.consumer import in_reactor
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.fixtures import RunningRouter

CALLS = 3000
WATCHERS, UPDATES, PER_SECOND = 10, 5000, 1000.0
EVENTS, EVENTS_PER_SECOND = 50_000, 10_000.0
ALARMS, ALARMS_PER_SECOND, BATCHES = 1000, 10, 200
OPERATIONS, READS, TURNS = 100, 200, 3
# What the operations do while reads are measured, in words, and the goal; computing belongs into processes.
BESIDE = {
    "sleep": ("wait", 1.2),
    "compute_isolated": ("compute in processes", 1.2),
    "compute_arrays": ("compute with NumPy in threads", None),
    "compute": ("compute in Python in threads", None),
}


def calls_per_second(session, uri):
    def spin():
        left = [CALLS]

        def more(_=None):
            if left[0] > 0:
                left[0] -= 1
                return session.call(uri, value=1.0).addCallback(more)
            return None

        return DeferredList([more() for _ in range(IN_FLIGHT)], fireOnOneErrback=True)

    began = time.perf_counter()
    in_reactor(spin).result(60.0)
    return CALLS / (time.perf_counter() - began)


def commands(session):
    """Measure round trips of commands beside those of a bare procedure."""
    rows, bare = [], session.uri("bare.echo")
    for name, what in (("coroutine", "a coroutine"), ("plain", "a function, in a thread")):
        uri = session.uri(f"control.bench.{name}")
        for warm in (uri, bare):
            calls_per_second(session, warm)
        ours, theirs = alternate(
            lambda uri=uri: calls_per_second(session, uri), lambda: calls_per_second(session, bare)
        )
        rows.append(Row(f"command, {what}, {IN_FLIGHT} in flight", ours, "calls/s", theirs, 0.7))
    return rows


class Watcher:
    """A session that follows a run; counts the updates that come."""

    def __init__(self, access):
        self.session, self.seqs = join(access), []
        self.values, self.done = [], threading.Event()

    def follow(self, run):
        topic = self.session.uri(f"consumer.bench.operation.{run}")
        in_reactor(lambda: self.session.subscribe(self.on_change, topic)).result(10.0)

    def on_change(self, change):
        self.seqs.append(change["seq"])
        if change["update"] is not None:
            self.values.append(change["update"])
        if change["state"] == "done":
            self.done.set()


def call(session, name, **arguments):
    return in_reactor(lambda: session.call(session.uri(name), **arguments)).result(60.0)


def updates(session, router):
    """Measure the updates of a run that all watchers get."""
    watchers = [Watcher(router.access("server")) for _ in range(WATCHERS)]
    # It takes its place while the watchers subscribe, so that the run that is measured does not begin without them.
    holder = call(session, "control.bench.hold", _wait=False)
    run = call(session, "control.bench.report", number=UPDATES, per_second=PER_SECOND, _wait=False)
    for watcher in watchers:
        watcher.follow(run)
    call(session, "control.bench.cancel_operation", id=holder)
    for watcher in watchers:
        assert watcher.done.wait(120.0), f"{len(watcher.values)} updates of {UPDATES} came"
    about = call(session, "consumer.bench.query.operation", id=run)
    seconds = about["ended"] - about["started"]
    lost = sum(UPDATES - len(watcher.values) for watcher in watchers)
    for watcher in watchers:
        in_reactor(watcher.session.leave).result(10.0)
    return [
        Row(
            f"updates of an operation, to {WATCHERS} watchers", UPDATES / seconds, "updates/s", None, 0.95 * PER_SECOND
        ),
        Row("lost of them", lost, "updates", None, 0.0, at_most=True),
    ]


def events(session, router):
    """Measure the events of a burst that are kept, and those that a subscriber gets."""
    subscriber, got, done = join(router.access("server")), [0], threading.Event()

    def on_events(events):
        got[0] += sum(event["kind"] == "bench" for event in events)
        if got[0] == EVENTS:
            done.set()

    in_reactor(lambda: subscriber.subscribe(on_events, subscriber.uri("consumer.bench.events"))).result(10.0)
    first = call(session, "consumer.bench.query.events", limit=1)["cursor"]
    began = time.perf_counter()
    call(session, "control.bench.burst", number=EVENTS, per_second=EVENTS_PER_SECOND)
    kept_s = time.perf_counter() - began
    done.wait(60.0)
    published_s = time.perf_counter() - began
    kept, after = 0, first
    while (page := call(session, "consumer.bench.query.events", after=after, kind="bench", limit=1000))["events"]:
        kept, after = kept + len(page["events"]), page["cursor"]
    in_reactor(subscriber.leave).result(10.0)
    return [
        Row("events kept", kept / kept_s, "events/s", None, 0.95 * EVENTS_PER_SECOND),
        Row("events published, to one subscriber", got[0] / published_s, "events/s", None, 0.95 * EVENTS_PER_SECOND),
        Row("lost of them: not kept", EVENTS - kept, "events", None, 0.0, at_most=True),
        Row("lost of them: not published", EVENTS - got[0], "events", None, 0.0, at_most=True),
    ]


def alarm_seconds(number):
    """Return the processor's seconds for a batch of a sample of each field, in a node with so many alarms."""
    names = [f"x{i}" for i in range(ALARMS)]
    source = ManualSource(Timeline("tl", [Field(name) for name in names], follows_clock=False, lateness_s=0.0))
    alarms = {f"high/{name}": AlarmSettings(field=name, above=2.0, clear=1.5) for name in names[:number]}
    node = Node("alarms", None, [source], HistorySettings(keep=1e11), alarms=alarms)
    node.start()
    turns = [
        {name: np.array([value]) for name, value in zip(names, np.sin(np.arange(ALARMS) + turn), strict=True)}
        for turn in range(10)
    ]
    try:
        for turn in range(BATCHES // 10):
            source.emit("tl", np.array([turn + 1.0]), turns[turn % 10])
        began = time.process_time()
        for turn in range(BATCHES):
            source.emit("tl", np.array([turn + 1000.0]), turns[turn % 10])
        return (time.process_time() - began) / BATCHES
    finally:
        node.stop()


def alarms():
    """Measure the load of alarms on one core: the difference that they make to a node."""
    of_alarms, without = alternate(lambda: alarm_seconds(ALARMS), lambda: alarm_seconds(0))
    load = 100.0 * ALARMS_PER_SECOND * (of_alarms - without)
    return [
        Row(
            f"{ALARMS} alarms on {ALARMS} fields at {ALARMS_PER_SECOND} Hz",
            load,
            "% of a core",
            None,
            10.0,
            at_most=True,
        )
    ]


def read_seconds(session):
    """Return how long reads take, one at a time."""
    uri, taken = session.uri("consumer.bench.get_data"), []
    for _ in range(READS):
        began = time.perf_counter()
        in_reactor(lambda: session.call(uri, ["x"], 1.0, 1001.0)).result(60.0)
        taken.append(time.perf_counter() - began)
    return taken


def beside(session, operation):
    """Measure reads while operations run, and without, in turns."""
    busy, idle = [], []
    for _ in range(TURNS):
        idle.append(read_seconds(session))
        runs = [call(session, f"control.bench.{operation}", _wait=False) for _ in range(OPERATIONS)]
        busy.append(read_seconds(session))
        for run in runs:
            # A process that is still being started would notice a request only when it has been.
            call(session, "control.bench.cancel_operation", id=run, hard=operation == "compute_isolated")
        while call(session, "consumer.bench.query.operations", active=True):
            time.sleep(0.05)
    return tuple(1e3 * float(statistics.median(np.percentile(each, 99) for each in taken)) for taken in (busy, idle))


def reads(session):
    rows = []
    for operation, (what, goal) in BESIDE.items():
        busy, idle = beside(session, operation)
        rows.append(Row(f"get_data, p99, {OPERATIONS} operations {what}", busy, "ms", idle, goal, at_most=True))
    return rows


def measure(console):
    with tempfile.TemporaryDirectory() as router_folder, scratch() as folder:
        router = RunningRouter(Path(router_folder))
        router.start()
        access = router.access("server")
        program = Path(__file__).with_name("work_node.py")
        command = [sys.executable, str(program), access.url, access.secret, str(folder), str(OPERATIONS)]
        node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert node.stdout.readline() == "ready\n"
            session, rows = join(access), []
            for what, arguments in (
                *((commands, (session,)), (updates, (session, router)), (events, (session, router))),
                *((reads, (session,)), (alarms, ())),
            ):
                console.print(f"measuring {what.__name__}", style="dim")
                rows += what(*arguments)
            return rows
        finally:
            node.kill()
            node.wait()
            router.stop()
