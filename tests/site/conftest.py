"""What the tests of whole sites share."""

import os
import signal
import subprocess
import sys

import pytest

from sisock.consumer import BlockingConsumer
from sisock.testing.fixtures import RunningRouter
from tests.site.gateway import gateway_of, wait

HANGS = """
import sys

from twisted.internet.defer import inlineCallbacks

import sisock


class node(sisock.DataNodeServer):
    name = sys.argv[1]

    @inlineCallbacks
    def onJoin(self, details):
        yield self.register(lambda: "done", self.uri(f"control.{self.name}.restart"))
        yield super().onJoin(details)

    def get_fields(self, start, end):
        return {"x": {"type": "number", "timeline": "tl"}}, {"tl": {"interval": 1.0, "field": ["x"]}}

    def get_data(self, field, start, end, min_stride=None):
        return {"data": {"x": [1.0]}, "timeline": {"tl": {"t": [1.0], "finalized_until": None}}}


sisock.run(node)
"""


@pytest.fixture(scope="module")
def gateway(sisock_router):
    """Provide the gateway of the router that all tests share."""
    with gateway_of(sisock_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        yield gateway


@pytest.fixture(scope="session")
def _mortal(tmp_path_factory):
    router = RunningRouter(tmp_path_factory.mktemp("mortal"))
    try:
        yield router
    finally:
        router.stop()


@pytest.fixture
def mortal_router(_mortal):
    """Provide a router and a hub that a test may kill or freeze, and has to itself; what was killed runs again."""
    if missing := [part for part in ("router", "hub") if part not in _mortal.processes]:
        _mortal.start(*missing)
    return _mortal


@pytest.fixture
def hung(sisock_router, unique):
    """A node in a process of its own that is frozen once the hub knows it."""
    access = sisock_router.access("server")
    environment = {**os.environ, "WAMP_URI": access.url, "WAMP_USER": access.user, "WAMP_SECRET": access.secret}
    process = subprocess.Popen([sys.executable, "-c", HANGS, unique], env=environment)
    try:
        with BlockingConsumer(sisock_router.access()) as consumer:
            wait(lambda: unique in [info.name for info in consumer.nodes()])
            consumer.fields(unique)
        process.send_signal(signal.SIGSTOP)
        process.name = unique
        yield process
    finally:
        process.kill()
        process.wait()
