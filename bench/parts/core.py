"""The core through a real router: calls, feeds, rejoining, starting."""

import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rows import Row
from twisted.internet.defer import DeferredList

from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import SisockError
from sisock.testing.fixtures import RunningRouter
from sisock.wamp.connection import Connection
from sisock.wamp.publisher import feed_topic
from sisock.wamp.session import Session

IN_FLIGHT, CALLS, ROUNDS = 64, 3000, 5
SUBSCRIBERS, BATCHES = 10, 200
KILLS, NODES = 20, 5


def join(access):
    """Return a joined plain session."""
    joined = threading.Event()

    def make(config):
        session = Session(config)
        session.on("ready", lambda *_: joined.set())
        return session

    def begin():
        connection = Connection(access, make)
        connection.start()
        return connection

    connection = in_reactor(begin).result(10.0)
    assert joined.wait(10.0)
    return connection.session


def calls_per_second(session, procedure):
    def spin():
        left = [CALLS]

        def more(_=None):
            if left[0] > 0:
                left[0] -= 1
                return session.call(procedure).addCallback(more)
            return None

        return DeferredList([more() for _ in range(IN_FLIGHT)], fireOnOneErrback=True)

    began = time.perf_counter()
    in_reactor(spin).result(60.0)
    return CALLS / (time.perf_counter() - began)


def alternate(first, second):
    """Return the medians of two measurements, taken in turns so that the machine's moods meet both."""
    results = [(first(), second()) for _ in range(ROUNDS)]
    return tuple(statistics.median(column) for column in zip(*results, strict=True))


def calls(router):
    session = join(router.access("server"))
    base = session.uri
    calls_per_second(session, base("consumer.bench.status"))
    ours, bare = alternate(
        lambda: calls_per_second(session, base("consumer.bench.status")),
        lambda: calls_per_second(session, base("bare.status")),
    )
    return Row(f"status, {IN_FLIGHT} in flight", ours, "calls/s", bare, 0.8)


def feeds(router):
    control = join(router.access("server"))
    rates = {}
    for name, topic in (("ours", feed_topic("bench", "wave")), ("bare", "bare.feed")):
        subscribers = [join(router.access("server")) for _ in range(SUBSCRIBERS)]
        expected = SUBSCRIBERS * BATCHES
        got, done = [0], threading.Event()

        def receive(event, got=got, done=done):
            got[0] += 1
            if got[0] == SUBSCRIBERS * BATCHES:
                done.set()

        for subscriber in subscribers:
            in_reactor(lambda s=subscriber, t=topic: s.subscribe(receive, s.uri(t))).result(10.0)
        results = []
        for _ in range(ROUNDS):
            got[0] = 0
            done.clear()
            began = time.perf_counter()
            in_reactor(lambda n=name: control.call(control.uri(f"bare.burst_{n}"), BATCHES)).result(60.0)
            assert done.wait(60.0), f"{got[0]} of {expected} deliveries of {name} came"
            results.append(expected / (time.perf_counter() - began))
        rates[name] = statistics.median(results)
        for subscriber in subscribers:
            in_reactor(subscriber.leave).result(10.0)
    return Row(
        f"feed, {SUBSCRIBERS} subscribers, 100 samples of 10 fields", rates["ours"], "deliveries/s", rates["bare"], 0.7
    )


def first_accept(path):
    """Return when the router's socket accepts its first connection."""
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.005)
            else:
                return time.perf_counter()


def rejoin(router, console):
    seconds = []
    with console.status("") as status:
        for kill in range(1, KILLS + 1):
            status.update(f"rejoin: kill {kill} of {KILLS}")
            router.kill("router")
            waiting = threading.Thread(target=lambda: router.start("router"), daemon=True)
            waiting.start()
            began = first_accept(router.site.socket_path)
            while True:
                try:
                    with BlockingConsumer(router.access(), timeout_s=1.0, patience_s=1.0) as consumer:
                        while len(consumer.nodes()) < NODES + 1:
                            time.sleep(0.005)
                        break
                except SisockError:
                    time.sleep(0.005)
            seconds.append(time.perf_counter() - began)
            waiting.join()
    goal = {"goal": 5.0, "at_most": True}
    return [
        Row(f"rejoin of {NODES + 1} nodes after kill 1", seconds[0], "s", **goal),
        Row(f"rejoin of {NODES + 1} nodes after kill {KILLS}", seconds[-1], "s", **goal),
        Row(f"the longest of {KILLS}", max(seconds), "s", **goal),
    ]


def start(folder):
    """Measure from `sisock up` to the first answer, beside the time that Crossbar alone takes to accept."""
    bare = RunningRouter(folder / "bare")
    began = time.perf_counter()
    threading.Thread(target=lambda: bare.start("router"), daemon=True).start()
    crossbar = first_accept(bare.site.socket_path) - began
    time.sleep(2.0)
    bare.stop()
    site = RunningRouter(folder / "up").site
    path = site.path
    path.write_text(path.read_text() + "gateway: false\nnodes:\n  host: {type: host}\n")
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "sisock", "up", str(path)], stdout=subprocess.DEVNULL) as up:
        while True:
            try:
                with BlockingConsumer(site.access(), patience_s=0.5) as consumer:
                    if len(consumer.data("host", ["cpu.total"], -60, exact=True)["cpu.total"]):
                        break
            except SisockError:
                time.sleep(0.01)
        whole = time.perf_counter() - began
        up.send_signal(signal.SIGINT)
    return Row("start: `sisock up` to the first answered get_data", whole, "s (Crossbar alone)", crossbar)


def measure(console):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("router", "bare", "up"):
            (folder / part).mkdir()
        router = RunningRouter(folder / "router")
        router.start()
        access = router.access("server")
        node = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("core_node.py")), access.url, access.secret, str(NODES)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert node.stdout.readline() == "ready\n"
            rows = []
            for what in (calls, feeds):
                console.print(f"measuring {what.__name__}", style="dim")
                rows.append(what(router))
            rows += rejoin(router, console)
        finally:
            node.kill()
            node.wait()
            router.stop()
        console.print("measuring the start", style="dim")
        return [*rows, start(folder)]
