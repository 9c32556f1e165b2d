"""The gateway beside bare decimation and a bare uvicorn: a month, many panels at once, Arrow, many browsers."""

import asyncio
import http.client
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
from parts.history_turns import LONG_AGO, median, scratch
from rows import Row
from tsdownsample import MinMaxDownsampler
from websockets.asyncio.client import connect

from sisock.testing.fixtures import RunningRouter, free_ports

HERE = Path(__file__).parent
MONTH, INTERVAL_S = 26_000_000, 0.1
SPAN_S = MONTH * INTERVAL_S
REQUESTS, PANELS, PANEL_S, ROUNDS = 200, 20, 4.0, 5
BROWSERS, DEAF, WATCH_S, LIVE_HZ = 200, 20, 20.0, 20
ARROW = {"Accept": "application/vnd.apache.arrow.stream", "Accept-Encoding": "identity"}

_number = itertools.count()


def month(points):
    """Return the path of a question about the month; no two are the same, so that no answer is known already."""
    start = LONG_AGO + 0.001 * SPAN_S + next(_number)
    asked = {"field": "x", "start": start, "end": start + 0.99 * SPAN_S, "max_points": points}
    return "/api/v1/nodes/bench/data?" + urlencode(asked)


def fetch(web, path, headers=None):
    web.request("GET", path, headers=headers or {"Accept-Encoding": "identity"})
    answer = web.getresponse()
    body = answer.read()
    assert answer.status == 200, body[:300]
    return body


def one_field(port):
    web = http.client.HTTPConnection("127.0.0.1", port)
    body = fetch(web, month(2000))
    assert 1000 < len(json.loads(body)["timelines"]["tl"]["t"]) <= 2000
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        fetch(web, month(2000))
        taken.append(time.perf_counter() - began)
    web.close()
    bare = np.random.default_rng(0).normal(size=MONTH)
    decimation = median(lambda: MinMaxDownsampler().downsample(bare, n_out=2000))
    p95 = statistics.quantiles(taken, n=20)[-1]
    name = "a month at 10 Hz, 26 million points on disk, to 2,000 through router and gateway"
    return [
        Row(f"{name}: median", statistics.median(taken) * 1e3, "ms"),
        Row(f"{name}: p95", p95 * 1e3, "ms", None, 40.0, at_most=True),
        Row("the same, beside tsdownsample alone, in memory", p95 * 1e3, "ms", decimation * 1e3, 3.0, at_most=True),
    ]


async def _ask_for(port, path, until):
    """Ask over one connection as often as there is time, and return how often."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.perf_counter() < until:
        writer.write(f"GET {path()} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        body = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), body
        count += 1
    writer.close()
    return count


def at_once(port, path):
    """Return the answers per second over as many connections as there are panels."""

    async def ask():
        until = time.perf_counter() + PANEL_S
        return sum(await asyncio.gather(*(_ask_for(port, path, until) for _ in range(PANELS))))

    return asyncio.run(ask()) / PANEL_S


@contextmanager
def constant(length):
    """Run a bare uvicorn that answers with so many bytes, and yield its port."""
    command = [sys.executable, str(HERE / "history_web.py"), str(length)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bare:
        try:
            yield int(bare.stdout.readline())
        finally:
            bare.kill()


def panels(port):
    web = http.client.HTTPConnection("127.0.0.1", port)
    size = len(fetch(web, month(1000)))
    web.close()
    with constant(size) as bare:
        rates = [(at_once(port, lambda: month(1000)), at_once(bare, lambda: "/")) for _ in range(3)]
    ours, plain = (statistics.median(column) for column in zip(*rates, strict=True))
    values = np.random.default_rng(0).normal(size=MONTH)
    decimation = 1.0 / median(lambda: MinMaxDownsampler().downsample(values, n_out=1000))
    # What is left when each answer takes the time of the constant one and that of its decimation, one after the other.
    both = 1.0 / (1.0 / plain + 1.0 / decimation)
    return [
        Row(f"{PANELS} panels of 1,000 points at once", ours, "answers/s (constant, then downsampled)", both, 0.9),
        Row("the same, beside a constant answer of that size", ours, "answers/s", plain),
    ]


def arrow(port):
    path = "/api/v1/nodes/bench/data?" + urlencode({"field": "long", "start": LONG_AGO - 1, "end": LONG_AGO + 1e6})
    web = http.client.HTTPConnection("127.0.0.1", port)
    size = len(fetch(web, path, ARROW))
    with constant(size) as bare_port:
        bare = http.client.HTTPConnection("127.0.0.1", bare_port)
        results = []
        for i in range(ROUNDS):
            began = time.perf_counter()
            # A little longer each time, so that no answer is known already.
            fetch(web, path.replace("end=", f"end={i + 1}"), ARROW)
            ours = time.perf_counter() - began
            began = time.perf_counter()
            fetch(bare, "/")
            results.append((size / ours / 1e6, size / (time.perf_counter() - began) / 1e6))
        bare.close()
    web.close()
    ours, plain = (statistics.median(column) for column in zip(*results, strict=True))
    return [Row("a million points as Arrow", ours, "MB/s (bare uvicorn)", plain, 0.5)]


def metric(port, name):
    web = http.client.HTTPConnection("127.0.0.1", port)
    text = fetch(web, "/metrics").decode()
    web.close()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def _browse(port, stop, counts, deaf):
    how = {"max_queue": 1 if deaf else 16, "compression": None}
    async with connect(f"ws://127.0.0.1:{port}/api/v1/live", **how) as socket:
        await socket.send(
            json.dumps({"op": "subscribe", "id": "a", "node": "bench", "fields": ["live"], "every": 0.02})
        )
        await socket.recv()
        while not stop.is_set():
            if deaf:
                await asyncio.sleep(0.2)
                continue
            try:
                async with asyncio.timeout(1.0):
                    await socket.recv()
                counts.append(1)
            except TimeoutError:
                pass


def browsers(port, pid):
    process, stop, counts = psutil.Process(pid), threading.Event(), []

    async def all_of_them():
        tasks = [_browse(port, stop, counts, deaf=i < DEAF) for i in range(BROWSERS)]
        await asyncio.gather(*tasks)

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    while metric(port, "sisock_gateway_live_readers") < BROWSERS:
        time.sleep(0.1)
    time.sleep(WATCH_S / 4)
    before, counted, began = process.memory_info().rss, len(counts), time.perf_counter()
    time.sleep(WATCH_S)
    after, heard = process.memory_info().rss, len(counts) - counted
    feeds = metric(port, "sisock_gateway_live_feeds")
    rate = heard / (time.perf_counter() - began) / (BROWSERS - DEAF)
    stop.set()
    thread.join()
    return [
        Row(f"{BROWSERS} browsers on one live field: subscriptions at the router", feeds, "", 1.0, 1.0, at_most=True),
        Row(f"the same: messages to each of the {BROWSERS - DEAF} that read (20 batches/s)", rate, "messages/s"),
        Row(
            f"the same: memory after {WATCH_S:.0f} s beside before, {DEAF} never reading",
            after / 1e6,
            "MB",
            before / 1e6,
            1.1,
            True,
        ),
    ]


def measure(console):
    rows = []
    with ExitStack() as stack:
        folder = stack.enter_context(scratch())
        (folder / "router").mkdir()
        router = RunningRouter(folder / "router")
        stack.callback(router.stop)
        (port,) = free_ports(1)
        path = router.site.path
        path.write_text(path.read_text() + f"gateway: {{port: {port}}}\n")
        router.start("router", "hub")
        access = router.access("server")
        console.print(f"making a month at 10 Hz, {MONTH / 1e6:.0f} million samples", style="dim")
        command = [sys.executable, str(HERE / "gateway_node.py"), access.url, access.secret, str(folder / "history")]
        node = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(node.kill)
        assert node.stdout.readline() == "ready\n"
        command = [sys.executable, "-m", "sisock", "gateway", "--site", os.fspath(path)]
        gateway = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        stack.callback(gateway.kill)
        while not _is_ready(port):
            time.sleep(0.1)
        for name, what in (
            ("one field over a month", lambda: one_field(port)),
            ("panels", lambda: panels(port)),
            ("Arrow", lambda: arrow(port)),
            ("browsers", lambda: browsers(port, gateway.pid)),
        ):
            console.print(f"measuring {name}", style="dim")
            rows += what()
    return rows


def _is_ready(port):
    web = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        web.request("GET", "/readyz")
        return web.getresponse().status == 200
    except OSError:
        return False
    finally:
        web.close()
