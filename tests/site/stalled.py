"""Clients that never read, against a real router: how much its memory grows, and whether it comes back.

``python -m tests.site.stalled --clients 100`` measures it; `measure` is for the fault driver.
"""

import argparse
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.node import Node
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource
from sisock.testing.fixtures import RunningRouter
from sisock.testing.serving import Serving
from tests.site.bare import WELCOME, BareClient, router_memory

MB = 1_000_000


@dataclass
class Growth:
    """Memory of the router in bytes before, at its worst and after, and the number of clients that were cut."""

    before: int
    peak: int
    after: int
    cut: int

    @property
    def grown(self):
        """Bytes by which it grew at its worst."""
        return self.peak - self.before


class Watched:
    """Something that is measured again and again.

    Attributes
    ----------
    peak : float
        The most that it was.
    """

    peak = 0


@contextmanager
def peak_of(memory):
    """Call `memory` again and again in a thread of its own, and provide the most that it has returned (`Watched`)."""
    watched, ended = Watched(), threading.Event()

    def watch():
        while not ended.wait(0.02):
            watched.peak = max(watched.peak, memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()


def measure(router, *, clients=100, transport="rawsocket", calls=False, rate=10 * MB, duration_s=6.0, back_s=20.0):
    """Return what clients that never read do to a running router (RunningRouter).

    Parameters
    ----------
    clients : int
    transport : {"rawsocket", "websocket"}
    calls : bool
        The clients ask for a large answer, and again; otherwise they are subscribed to a feed.
    rate : float
        Bytes per second of the feed, for each client.
    duration_s, back_s : float
        Seconds of the attack, and the longest time after it until all clients are cut; callers are not cut.
    """
    serving = Serving(router.access("server"))
    n = 125_000  # rows of 8 bytes
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    allowance = AllowanceSettings(values=10_000_000, bytes=200_000_000)
    history = HistorySettings(keep=1e12, max_samples=4_000_000 if calls else 2 * n)
    node = Node(f"stalled-{time.monotonic_ns()}", None, [source], history, allowance=allowance)
    with ExitStack() as stack:
        stack.callback(serving.stop)
        serving.serve(node)
        base = router.site.base_uri
        stalled = [stack.enter_context(BareClient(router.site, transport)) for _ in range(clients)]
        for client in stalled:
            assert client.login(router.access())[0] == WELCOME
        if calls:
            source.emit("tl", 1e9 + np.arange(30 * n) * 0.01, {"x": np.random.default_rng(1).random(30 * n)})
        else:
            for client in stalled:
                client.subscribe(f"{base}.consumer.{node.name}.feed_packed.tl")
        with BlockingConsumer(router.access()) as consumer:
            cut_before = _cut(consumer)
        before = router_memory(router)
        watched = stack.enter_context(peak_of(lambda: router_memory(router)))
        start = time.monotonic()
        if calls:
            for client in stalled:
                for number in range(2):
                    client.call(number + 1, f"{base}.consumer.{node.name}.get_data", ["x"], 1.0, 2e9, encoding="packed")
            time.sleep(duration_s)
        rows = n // 4
        for number in range(0 if calls else int(duration_s * rate / (rows * 16))):
            time.sleep(max(0.0, start + number * rows * 16 / rate - time.monotonic()))
            source.emit("tl", 1e9 + number * 1000.0 + np.arange(rows) * 0.01, {"x": np.arange(float(rows))})
        with BlockingConsumer(router.access()) as consumer:
            deadline = time.monotonic() + back_s
            while (cut := _cut(consumer) - cut_before) < clients and time.monotonic() < deadline:
                time.sleep(0.1)
        time.sleep(6.0)  # until the process has given back what is free
        after = router_memory(router)
    return Growth(before, watched.peak, after, cut)


def _cut(consumer):
    counters = consumer.router_status()["counters"]
    return counters["not_read"] + counters["not_read_total"]


def main():
    """Print one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--transport", default="rawsocket")
    parser.add_argument("--calls", action="store_true")
    parser.add_argument("--duration", type=float, default=6.0)
    parser.add_argument("--back", type=float, default=20.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        router = RunningRouter(Path(folder))
        try:
            router.start()
            done = measure(
                router,
                clients=given.clients,
                transport=given.transport,
                calls=given.calls,
                duration_s=given.duration,
                back_s=given.back,
            )
        finally:
            router.stop()
            print(router.log()[-1500:])
    print({name: value // MB if name != "cut" else value for name, value in asdict(done).items()})


if __name__ == "__main__":
    main()
