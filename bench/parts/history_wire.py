"""Answers of a node's history through a real router."""

import http.client
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from autobahn.twisted.wamp import ApplicationRunner
from autobahn.wamp.serializer import JsonSerializer
from autobahn.wamp.types import ComponentConfig
from parts.core import join
from parts.history_turns import alternate, scratch
from rows import Row

from sisock.consumer import BlockingConsumer, in_reactor
from sisock.testing.fixtures import RunningRouter
from sisock.wamp.session import Session

POINTS, ROUNDS = 1_000_000, 15


@contextmanager
def running(script, *args):
    """Run a script beside this file; what comes back is the first line that it prints."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


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


def answers(router, access):
    """Return the rows of get_data with 100,000 float64 and their times."""
    packed, plain = join(access), joined_by_json(access, router.site.router.port)

    def ask(session, procedure, **more):
        call = (session.uri(procedure), ["x"], 1.0, 1.9e9)
        in_reactor(lambda: session.call(*call, **more)).result(60.0)

    def ours():
        ask(packed, "consumer.bench.get_data", encoding="packed")

    ours()
    with_lists = alternate(ours, lambda: ask(plain, "consumer.bench.get_data"))
    with_bare = alternate(ours, lambda: ask(packed, "bare.get_data"), ROUNDS)
    name = "get_data, 100,000 float64 and their times, packed"
    return [
        Row(name, 1 / with_lists[0], "answers/s (JSON lists)", 1 / with_lists[1], 50.0),
        Row(name, 1 / with_bare[0], "answers/s (bare procedure)", 1 / with_bare[1], 0.5),
    ]


def chunks(router):
    """Return the row of an answer that comes in chunks, beside a web server that sends the same bytes at once."""
    size = 16 * POINTS
    with running("history_web.py", str(size)) as port, BlockingConsumer(router.access(), cache_bytes=0) as consumer:
        web = http.client.HTTPConnection("127.0.0.1", int(port))

        def ours():
            data = consumer.data("bench", ["long"], 1.0, 1.9e9)
            assert data["long"].nbytes + data.t("long").nbytes == size

        def reference():
            web.request("GET", "/")
            assert len(web.getresponse().read()) == size

        ours()
        reference()
        mine, theirs = alternate(ours, reference, ROUNDS)
        web.close()
    name = "get_data, 1e6 float64 and their times, in chunks"
    return Row(name, size / mine / 1e6, "MB/s (bare uvicorn)", size / theirs / 1e6, 0.4)


def measure():
    with scratch() as folder:
        router = RunningRouter(folder)
        router.start()
        access = router.access("server")
        try:
            with running("history_node.py", access.url, access.secret) as said:
                assert said == "ready"
                return [*answers(router, access), chunks(router)]
        finally:
            router.stop()
