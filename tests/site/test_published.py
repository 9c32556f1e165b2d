"""Nodes written for the published sisock, run as they were: by autobahn's own runner, with its limits."""

import os
import subprocess
import sys

import pytest

from sisock.consumer import BlockingConsumer, in_reactor

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


@pytest.fixture
def environment(sisock_router):
    site, access = sisock_router.site, sisock_router.access("server")
    url = f"ws://127.0.0.1:{site.router.port}/ws"
    return {**os.environ, "WAMP_URI": url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret}


def run(environment):
    return subprocess.Popen(
        [sys.executable, "-c", NODE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_published_node_is_served_guarded_and_unique(sisock_router, environment):
    with run(environment) as node:
        try:
            lines = iter(node.stdout.readline, "")
            assert any("joined" in line for line in lines)  # autobahn's logger takes what is printed
            with BlockingConsumer(sisock_router.access(), timeout_s=60.0) as consumer:
                fields = consumer.fields("published-sensors")
                assert (fields["a"].units, fields["a"].interval_s) == ("unknown", 2.5)
                data = consumer.data("published-sensors", ["a", "nix"], -60, min_stride=1.0)
                assert data["a"].tolist() == [0.1] * 10
                assert len(data["nix"]) == 0
                few = consumer.data("published-sensors", ["a"], -60, max_points=4, downsample="minmax")
                assert len(few["a"]) <= 4
                # More than autobahn's runner lets through: an answer all the same, and not a call that hangs.
                assert len(consumer.data("published-sensors", ["a"], -60)["a"]) == 200_000  # in chunks
                question = ("consumer.published-sensors.get_data", ["a"], -60, 0)
                assert in_reactor(lambda: consumer._link.call(10.0, *question)).result(15.0) is False
                assert consumer.status("published-sensors")["counters"]["too_large"] == 1
            second = subprocess.run(
                [sys.executable, "-c", NODE], env=environment, capture_output=True, text=True, timeout=90, check=False
            )
            assert "the name 'published-sensors' is taken by another node" in second.stdout + second.stderr
        finally:
            node.kill()
