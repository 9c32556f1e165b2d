"""Browsers that follow a fast feed through a gateway, and read nothing or all of it: what the gateway's memory does.

``python -m tests.site.browsers --kind sse`` measures it.
"""

import argparse
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from sisock import Field, Timeline
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.site import load_site
from sisock.testing import ManualSource
from sisock.testing.fixtures import RunningRouter, free_ports
from sisock.testing.serving import Serving
from tests.site.bare import memory_of
from tests.site.gateway import wait
from tests.site.stalled import MB, Growth, peak_of


@dataclass
class Served(Growth):
    """Memory of the gateway, the connections that were cut since nothing was read, and what was."""

    sent: int
    """Bytes that the browsers have read."""


def router_with_gateway(folder, extra=""):
    """Return a router (RunningRouter, not started) whose site has a gateway."""
    (port,) = free_ports(1)
    router = RunningRouter(folder, extra=extra)
    with router.site.path.open("a") as file:
        file.write(f"gateway: {{port: {port}}}\n")
    router.site = load_site(folder)
    return router


def measure(router, *, browsers=100, kind="sse", reads=False, rate=10 * MB, duration_s=10.0, back_s=10.0):
    """Return what browsers do to the gateway of a running site (see `router_with_gateway`).

    Parameters
    ----------
    browsers : int
    kind : {"sse", "ws"}
    reads : bool
        Whether they read all that comes; otherwise nothing.
    rate : float
        Bytes per second of the feed: 9 columns, of which each browser follows one.
    duration_s, back_s : float
        Seconds of the feed, and until the memory is looked at after it.
    """
    port = router.site.gateway.port
    names = [f"x{i}" for i in range(9)]
    serving = Serving(router.access("server"))
    source = ManualSource(Timeline("tl", [Field(name) for name in names], lateness_s=0.0, follows_clock=False))
    node = Node(f"fast-{time.monotonic_ns()}", None, [source], HistorySettings(keep=1e12, max_samples=100_000))
    sent, ended = 0, threading.Event()
    gateway = router.processes["gateway"].pid

    def read(connection):
        nonlocal sent
        connection.settimeout(0.2)
        while not ended.is_set():
            try:
                data = connection.recv(1 << 20)
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            sent += len(data)

    with ExitStack() as stack:
        stack.callback(serving.stop)
        serving.serve(node)
        rows = max(1, int(rate * 0.05 / (8 * (len(names) + 1))))
        source.emit("tl", 1e9 - 10.0 + np.arange(10.0), {name: np.zeros(10) for name in names})
        client = stack.enter_context(httpx.Client(base_url=router.site.gateway.url, timeout=30.0))
        wait(lambda: node.name in client.get("/api/v1/nodes").text)
        before = memory_of(gateway)
        threads = []
        for _ in range(browsers):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10.0))
            connection.sendall(_follow(kind, node.name, port))
            if kind == "ws":
                assert b" 101 " in connection.recv(1000)
                connection.sendall(_subscribe(node.name))
            if reads:
                threads.append(threading.Thread(target=read, args=(connection,)))
        wait(lambda: f"sisock_gateway_live_readers {float(browsers)}" in client.get("/metrics").text)
        watched = stack.enter_context(peak_of(lambda: memory_of(gateway)))
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(ended.set)
        start = time.monotonic()
        for number in range(int(duration_s / 0.05)):
            time.sleep(max(0.0, start + number * 0.05 - time.monotonic()))
            t = 1e9 + number * 0.05 + np.arange(rows) * (0.05 / rows)
            source.emit("tl", t, {name: np.random.default_rng(number).random(rows) for name in names})
        time.sleep(back_s)
        after = memory_of(gateway)
        text = client.get("/metrics").text
        cut = sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if "unread_cut" in line)
    return Served(before, watched.peak, after, cut, sent)


def _follow(kind, node, port):
    if kind == "sse":
        return f"GET /api/v1/nodes/{node}/live?field=x0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    return (
        f"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _subscribe(node):
    said = f'{{"op":"subscribe","id":"a","node":"{node}","fields":["x0"]}}'.encode()
    assert len(said) < 126
    return bytes([0x81, 0x80 | len(said)]) + bytes(4) + said


def main():
    """Print one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--browsers", type=int, default=100)
    parser.add_argument("--kind", default="sse")
    parser.add_argument("--reads", action="store_true")
    parser.add_argument("--duration", type=float, default=10.0)
    parser.add_argument("--back", type=float, default=10.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        router = router_with_gateway(Path(folder))
        try:
            router.start("router", "hub", "gateway")
            how = {"kind": given.kind, "reads": given.reads, "duration_s": given.duration, "back_s": given.back}
            done = measure(router, browsers=given.browsers, **how)
        finally:
            router.stop()
            print(router.log()[-1500:])
    print({name: value // MB if name != "cut" else value for name, value in asdict(done).items()})


if __name__ == "__main__":
    main()
