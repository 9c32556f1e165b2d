"""Histories: appending, reading, decimating; in memory."""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from autobahn.twisted.wamp import ApplicationRunner
from autobahn.wamp.serializer import JsonSerializer
from autobahn.wamp.types import ComponentConfig
from parts.core import join
from rows import Row
from tsdownsample import MinMaxDownsampler

from sisock.base import Session
from sisock.consumer import in_reactor
from sisock.downsample import decimate, stride_for
from sisock.fields import Batch, Field, Timeline
from sisock.history import History
from sisock.site import HistorySettings
from sisock.testing.fixtures import RunningRouter
from sisock.times import Interval

FIELDS, BATCH = 50, 1000
ROUNDS = 5
MONTH = 26_000_000


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternate(first, second):
    """Return the medians of the seconds of two pieces of work, done in turns."""
    results = [(seconds(first), seconds(second)) for _ in range(ROUNDS)]
    return tuple(statistics.median(column) for column in zip(*results, strict=True))


def appended(batch, batches):
    names = [f"x{i}" for i in range(FIELDS)]
    timeline = Timeline("tl", [Field(name) for name in names], lateness_s=0.0, follows_clock=False)
    history = History([timeline], HistorySettings(keep=1e12))
    columns = {name: np.random.default_rng(0).normal(size=batch) for name in names}
    steps = [Batch("tl", np.arange(i * batch, (i + 1) * batch, dtype=np.float64), columns) for i in range(batches)]
    return lambda: [history.append(step) for step in steps]


def written(folder, batch, batches):
    column = np.random.default_rng(0).normal(size=batch)

    def work():
        files = [(folder / f"{i}.bin").open("wb", buffering=0) for i in range(FIELDS + 1)]
        for _ in range(batches):
            for file in files:
                column.tofile(file)
        for file in files:
            file.close()

    return work


def appends(folder):
    rows = []
    for batch, batches, goal in ((BATCH, 200, 0.5), (10, 2000, None)):
        results = [(seconds(appended(batch, batches)), seconds(written(folder, batch, batches))) for _ in range(ROUNDS)]
        ours, raw = (statistics.median(column) for column in zip(*results, strict=True))
        values = FIELDS * batch * batches / 1e6
        name = f"append in memory, {FIELDS} fields, batches of {batch:,}"
        rows.append(Row(name, values / ours, "1e6 values/s (ndarray.tofile)", values / raw, goal))
    return rows


def month():
    """Return a row for a month at 10 Hz, from the ring to 2,000 points."""
    timeline = Timeline("tl", [Field("x")], interval_s=0.1, lateness_s=0.0, follows_clock=False)
    history = History([timeline], HistorySettings(keep=1e12, max_samples=2 * MONTH))
    random, piece = np.random.default_rng(0), 1_000_000
    for i in range(MONTH // piece):
        t = 1.7e9 + np.arange(i * piece, (i + 1) * piece) * 0.1
        history.append(Batch("tl", t, {"x": random.normal(size=piece)}))
    ever = Interval(0.0, 1e12)
    bare = history.read(["x"], ever).timelines["tl"].columns["x"].copy()

    def ours():
        samples = history.read(["x"], ever).timelines["tl"]
        stride = stride_for(samples.t, 2000, "minmax")
        return decimate(samples.t, samples.columns, stride, "minmax")

    def reference():
        return bare[MinMaxDownsampler().downsample(bare, n_out=2000)]

    mine, theirs = alternate(ours, reference)
    return Row(
        "a month at 10 Hz, in memory, to 2,000 points by minmax",
        mine * 1e3,
        "ms (tsdownsample)",
        theirs * 1e3,
        1.3,
        at_most=True,
    )


def joined_by_json(access, port):
    """Return a session as a plain client has it: WebSocket and JSON."""
    joined, sessions = threading.Event(), []
    plain = replace(access, url=f"ws://127.0.0.1:{port}/ws")

    def make(config):
        session = Session(ComponentConfig(plain.realm, {"access": plain}))
        session.on("ready", lambda *_: joined.set())
        sessions.append(session)
        return session

    limits = {"maxFramePayloadSize": 2**24, "maxMessagePayloadSize": 2**24, "perMessageCompressionOffers": []}
    runner = ApplicationRunner(plain.url, plain.realm, serializers=[JsonSerializer()], websocket_options=limits)
    in_reactor(lambda: runner.run(make, start_reactor=False)).result(10.0)
    assert joined.wait(10.0)
    return sessions[0]


def answers():
    """Return the rows of get_data with 100,000 float64 and their times, through a router."""
    with tempfile.TemporaryDirectory() as folder:
        router = RunningRouter(Path(folder))
        router.start()
        access = router.access("server")
        script = str(Path(__file__).with_name("history_node.py"))
        node = subprocess.Popen([sys.executable, script, access.url, access.secret], stdout=subprocess.PIPE, text=True)
        try:
            assert node.stdout.readline() == "ready\n"
            packed, plain = join(access), joined_by_json(access, router.site.router.port)

            def ask(session, procedure, **more):
                call = (session.uri(procedure), ["x"], 1.0, 1.9e9)
                in_reactor(lambda: session.call(*call, **more)).result(60.0)

            def ours():
                ask(packed, "consumer.bench.get_data", encoding="packed")

            ours()
            with_lists = alternate(ours, lambda: ask(plain, "consumer.bench.get_data"))
            with_bare = alternate(ours, lambda: ask(packed, "bare.get_data"))
        finally:
            node.kill()
            node.wait()
            router.stop()
    name = "get_data, 100,000 float64 and their times"
    return [
        Row(f"{name}, packed", 1 / with_lists[0], "answers/s (JSON lists)", 1 / with_lists[1], 50.0),
        Row(f"{name}, packed", 1 / with_bare[0], "answers/s (bare procedure)", 1 / with_bare[1], 0.5),
    ]


def measure(console):
    console.print("measuring histories", style="dim")
    with tempfile.TemporaryDirectory() as folder:
        rows = appends(Path(folder))
    return [*rows, month(), *answers()]
