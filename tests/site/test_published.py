"""Nodes written for the published sisock, run as they were: by autobahn's own runner, with its limits."""

import os
import re
import subprocess
import sys
import time

import pytest

from sisock.consumer import BlockingConsumer
from tests.site.links import called

NODE = """
import sys

from autobahn.twisted.wamp import ApplicationRunner

import sisock


class sensors(sisock.base.DataNodeServer):
    name = "published-sensors"
    description = "as it was written then"

    def after_onJoin(self, details):
        print("joined", flush=True)

    def get_fields(self, start, end):
        field = {"description": "", "timeline": "t", "type": "number", "units": "unknown"}
        return {"a": field}, {"t": {"interval": 2.5, "field": ["a"]}}

    def get_data(self, field, start, end, min_stride=None):
        start = sisock.base.sisock_to_unix_time(start)
        n = 200_000 if min_stride is None else 10
        ret = {"data": {f: [] for f in field}, "timeline": {}}
        ret["data"]["a"] = [0.1] * n
        ret["timeline"]["t"] = {"t": [start + i for i in range(n)], "finalized_until": start}
        return ret


ApplicationRunner(sisock.base.WAMP_URI, sisock.base.REALM).run(sensors)
"""

# Nodes with parameters are made by the script, and skip the constructor of the class that they derive from.
OWN_INIT = """
import time
from os import environ

import numpy as np
from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp.types import ComponentConfig

import sisock


class weather(sisock.base.DataNodeServer):
    def __init__(self, config, depth, max_points=None):
        ApplicationSession.__init__(self, config)
        self.depth, self.max_points = depth, max_points
        self.name = "published-weather"
        self.description = "readings by the minute"

    def get_fields(self, start, end):
        about = {"description": None, "timeline": None, "type": "number", "units": None}
        names = ("humidity", "pressure")
        return {n: {**about, "timeline": n} for n in names}, {n: {"interval": None, "field": n} for n in names}

    def _get_data_blocking(self, field, start, end, min_stride=None):
        start = sisock.base.sisock_to_unix_time(start)
        times = {"humidity": np.arange(self.depth) * 60.0, "pressure": np.arange(self.depth) * 60.0 + 30.0}
        return {
            "data": {f: list(range(self.depth)) for f in field if f in times},
            "timeline": {f: {"t": times[f].tolist(), "finalized_until": None} for f in field if f in times},
        }


if __name__ == "__main__":
    runner = ApplicationRunner("ws://%s:%d/ws" % (sisock.base.SISOCK_HOST, sisock.base.SISOCK_PORT), sisock.base.REALM)
    runner.run(weather(ComponentConfig(sisock.base.REALM, {}), depth=1440, max_points=int(environ["MAX_POINTS"])))
"""

FAILS = """
from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp.types import ComponentConfig

import sisock


class node(sisock.base.DataNodeServer):
    name = "published-fails"

    def __init__(self, config):
        ApplicationSession.__init__(self, config)

    {hook}


{run}
"""


@pytest.fixture
def environment(sisock_router):
    site, access = sisock_router.site, sisock_router.access("server")
    url = f"ws://127.0.0.1:{site.router.port}/ws"
    return {**os.environ, "WAMP_URI": url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret}


def run(environment, script=NODE):
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def node_is_there(consumer, name):
    deadline = time.monotonic() + 60.0
    while name not in [node.name for node in consumer.nodes()]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_published_node_is_served_guarded_and_unique(sisock_router, environment):
    with run(environment) as node:
        try:
            lines = iter(node.stdout.readline, "")
            assert any("joined" in line for line in lines)  # autobahn's logger takes what is printed
            with BlockingConsumer(sisock_router.access(), timeout_s=60.0) as consumer:
                fields = consumer.fields("published-sensors")
                assert (fields["a"].units, fields["a"].interval_s) == ("unknown", 2.5)
                data = consumer.data(
                    "published-sensors", ["a", "nix"], -60, min_stride=1.0, downsample="first", exact=True
                )
                assert data["a"].tolist() == [0.1] * 10
                assert len(data["nix"]) == 0
                few = consumer.data("published-sensors", ["a"], -60, max_points=4, downsample="minmax")
                assert len(few["a"]) <= 4
                # More than autobahn's runner lets through: an answer all the same, and not a call that hangs.
                assert len(consumer.data("published-sensors", ["a"], -60)["a"]) == 200_000  # in chunks
                question = ("consumer.published-sensors.get_data", ["a"], -60, 0)
                assert called(sisock_router.access(), *question) is False
                assert consumer.status("published-sensors")["counters"]["too_large"] == 1
            second = subprocess.run(
                [sys.executable, "-c", NODE], env=environment, capture_output=True, text=True, timeout=90, check=False
            )
            assert "the name 'published-sensors' is taken by another node" in second.stdout + second.stderr
        finally:
            node.kill()


def test_published_node_with_a_constructor_of_its_own_is_served(sisock_router, environment):
    del environment["WAMP_URI"]
    port = str(sisock_router.site.router.port)
    environment |= {"CROSSBAR_HOST": "127.0.0.1", "CROSSBAR_TLS_PORT": port, "MAX_POINTS": "1000"}
    with run(environment, OWN_INIT) as node:
        try:
            with BlockingConsumer(sisock_router.access(), timeout_s=60.0) as consumer:
                node_is_there(consumer, "published-weather")
                assert len(consumer.data("published-weather", ["humidity"], 1)["humidity"]) == 1440
                # Two timelines, whose fields only get_fields names, and a stride that the node ignores.
                question = ("consumer.published-weather.get_data", ["humidity", "pressure"], 1, 0, 120.0)
                answer = called(sisock_router.access(), *question)
                assert answer["timeline"]["humidity"]["t"] == [120.0 * i for i in range(720)]
                assert answer["timeline"]["pressure"]["t"] == [120.0 * i + 30.0 for i in range(720)]
                assert answer["data"]["pressure"] == list(range(0, 1440, 2))
                assert answer["timeline"]["pressure"]["downsample"] == {"method": "first", "stride": 120.0}
                few = consumer.data("published-weather", ["humidity", "pressure"], 1, max_points=100, downsample="max")
                assert max(few["humidity"]) == max(few["pressure"]) == 1439
                assert len(few["humidity"]) <= 100
                assert consumer.status("published-weather")["counters"]["errors"] == 0
        finally:
            node.kill()


RUN = "ApplicationRunner(sisock.base.WAMP_URI, sisock.base.REALM).run({})"
INSTANCE = RUN.format("node(ComponentConfig(sisock.base.REALM, {}))")


@pytest.mark.parametrize(
    ("hook", "script", "said"),
    [
        ("def onConnect(self): raise ValueError('no way in')", RUN.format("node"), "onConnect .*ValueError: no way in"),
        ("def onJoin(self, details): self.nix()", INSTANCE, "onJoin .*AttributeError.*nix"),
        ("async def onJoin(self, details): self.nix()", "sisock.run(node)", "onJoin .*AttributeError.*nix"),
        ("def onChallenge(self, challenge): return 1 / 0", INSTANCE, "onChallenge .*ZeroDivisionError"),
        ("def onChallenge(self, challenge): pass", INSTANCE, "onChallenge returned NoneType, not a signature"),
        ("def onChallenge(self, challenge): return 'x'", RUN.format("node"), "refused 'server'"),
        ("name = 'a b'", RUN.format("node"), "'a b' is not a valid name for a node"),
    ],
)
def test_session_that_fails_at_its_start_is_logged_and_ends_the_process(environment, hook, script, said):
    code = FAILS.format(hook=hook, run=script)
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert re.search(said, ended.stdout + ended.stderr)
    assert ended.returncode != 0


def test_serve_on_a_taken_name_prints_one_sentence(sisock_serve, environment, unique):
    from sisock.node import Node

    sisock_serve(Node(unique, "first", []))
    script = f"import sisock; sisock.serve({unique!r})"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    said = f"sisock: the name {unique!r} is taken by another node; give this one another name, or stop that one"
    assert ended.stderr.splitlines()[-1] == said
