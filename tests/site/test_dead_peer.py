"""A peer whose network drops every packet: its kernel neither acknowledges, nor answers probes, nor closes anything."""

import ctypes
import os
import shutil
import subprocess
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.node import Node
from sisock.testing import ManualSource
from sisock.testing.fixtures import RunningRouter
from sisock.testing.serving import Serving
from tests.site.bare import WELCOME, BareClient
from tests.site.gateway import followed

_NEW_NETWORK = 0x40000000


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A network namespace with an address of its own, connected to this machine by a pair of virtual interfaces."""

    def __init__(self):
        number = os.getpid() % 16000
        self.here, self.there = f"so{number}a", f"so{number}b"
        self.address = f"10.213.{number // 64}.{number % 64 * 4 + 1}"  # of this machine, as the other one sees it
        self._other = f"10.213.{number // 64}.{number % 64 * 4 + 2}"
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "600"])

    def connect(self):
        """Connect it."""
        holder = str(self._holder.pid)
        while os.readlink(f"/proc/{holder}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert self._holder.poll() is None, "unshare failed"
            time.sleep(0.01)
        ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", holder)
        ip("address", "add", f"{self.address}/30", "dev", self.here)
        ip("link", "set", self.here, "up")
        inside = ["nsenter", "--net", "--target", holder, "ip"]
        subprocess.run([*inside, "address", "add", f"{self._other}/30", "dev", self.there], check=True)
        subprocess.run([*inside, "link", "set", self.there, "up"], check=True)

    def run(self, call):
        """Return what a function returns that is called there, in a thread; sockets that it makes stay there."""
        found = []

        def inside():
            with open(f"/proc/{self._holder.pid}/ns/net") as network:
                assert ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _NEW_NETWORK) == 0
            found.append(call())

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        return found[0]

    def drop_all(self):
        """Have every packet that it sends lost, acknowledgements and answers to probes included."""
        inside = ["nsenter", "--net", "--target", str(self._holder.pid), "ip"]
        subprocess.run([*inside, "route", "add", "blackhole", f"{self.address}/32"], check=True)

    def remove(self):
        """Remove it; the interfaces go with it."""
        subprocess.run(["ip", "link", "delete", self.here], check=False, capture_output=True)
        self._holder.kill()
        self._holder.wait()


@pytest.fixture
def machine():
    if os.geteuid() or any(shutil.which(tool) is None for tool in ("ip", "unshare", "nsenter")):
        pytest.skip("needs root, and the tools iproute2 and util-linux")
    machine = Machine()
    try:
        try:
            machine.connect()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network can be made here: {error.stderr}")
        yield machine
    finally:
        machine.remove()


@pytest.mark.long
def test_connections_of_a_machine_that_lost_its_network_end_within_the_heartbeat(machine, tmp_path):
    """On either transport, whether something is sent to it or nothing."""
    settings = f", host: {machine.address}, plain: true, heartbeat: 4s, heartbeat_timeout: 2s, unsent_timeout: 600s"
    router = RunningRouter(tmp_path, extra=settings)
    with ExitStack() as stack:
        stack.callback(router.stop)
        router.start()
        serving = Serving(router.access("server"))
        stack.callback(serving.stop)
        source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
        node = Node("rig", None, [source])
        serving.serve(node)

        def clients():
            made = {}
            for transport in ("rawsocket", "websocket"):
                for kind in ("idle", "subscribed"):
                    client = made[transport, kind] = stack.enter_context(BareClient(router.site, transport))
                    assert client.login(router.access())[0] == WELCOME
                    if kind == "subscribed":
                        client.subscribe(f"{router.site.base_uri}.consumer.rig.feed_packed.tl")
            return made

        consumer = stack.enter_context(BlockingConsumer(router.access()))
        before = consumer.router_status()["connections"]
        machine.run(clients)
        followed(consumer, "rig")
        assert consumer.router_status()["connections"] == before + 4
        machine.drop_all()
        began = time.monotonic()
        ended = {}
        while (left := consumer.router_status()["connections"] - before) and time.monotonic() - began < 60.0:
            source.emit("tl", 1e9 + time.monotonic() + np.arange(10) * 1e-3, {"x": np.arange(10.0)})
            ended.setdefault(left, round(time.monotonic() - began, 1))
            time.sleep(0.2)
        took = time.monotonic() - began
        print(f"all ended after {took:.1f} s; connections left: {ended}")
        assert left == 0
        assert took < 18.0  # 6 s, on a machine that does nothing else
        assert consumer.router_status()["counters"]["not_read"] == 0
