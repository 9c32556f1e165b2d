"""A whole site on a WAMP router that is not Crossbar."""

import os
import subprocess
import threading
import time

import httpx
import numpy as np
import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.errors import NotAllowed
from sisock.node import Node
from sisock.site import load_site
from sisock.testing import ManualSource
from sisock.testing.fixtures import free_ports
from sisock.testing.serving import Serving
from tests.commands import sisock
from tests.nexus.router import Nexus, build, go
from tests.site.gateway import followed, wait
from tests.site.test_up import SISOCK, process

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("nexus")]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if go() is None:
        if "nexus" in os.environ.get("SISOCK_TEST_REQUIRE", ""):
            pytest.fail("SISOCK_TEST_REQUIRE asks for nexus, but go is not installed")
        pytest.skip("needs Go, which builds the router nexus")
    return build(tmp_path_factory.mktemp("nexus"))


@pytest.fixture
def nexus(program):
    nexus = Nexus(program)
    try:
        yield nexus
    finally:
        nexus.stop()


@pytest.mark.long
def test_all_that_a_router_lacks_is_in_one_message_and_the_site_works_once_it_is_there(nexus, tmp_path, unique):
    gateway_port, udp_port = free_ports(2)
    nexus.write_site(
        tmp_path,
        f"""\
hub: true
gateway: {{port: {gateway_port}}}
nodes:
  host: {{type: host, intervals: {{cpu: 0.2}}, history: {{path: history}}}}
  rig: {{type: udp, port: {udp_port}}}
""",
    )
    nexus.start("disclosure", "progress", "session_events", "subscription_events")
    log = tmp_path / "up.log"
    with log.open("w") as file:
        up = subprocess.Popen([*SISOCK, "up", tmp_path], stdout=file, stderr=file, start_new_session=True)
    try:
        wait(lambda: log.read_text().count(" lacks ") == 3, 180.0)  # of the hub and two nodes
        time.sleep(5.0)  # meanwhile they look again
        said = log.read_text()
        (of_hub,) = [line for line in said.splitlines() if " lacks " in line and " hub " in line]
        assert (
            f"the router at {nexus.url} lacks what sisock needs: callers are not disclosed: have it disclose " in of_hub
        )
        assert "org.simonsobservatory.; calls below org.simonsobservatory. have no progressive results: " in of_hub
        assert "the event wamp.session.on_leave is missing" in of_hub
        of_nodes = [line for line in said.splitlines() if " lacks " in line and " hub " not in line]
        assert len(of_nodes) == 2
        assert all(
            "callers are not disclosed" in line and "below wamp.subscription. are missing" in line for line in of_nodes
        )
        assert "| ready in " not in said
        assert "the hub is ready" not in said
        assert "ended" not in said
        assert "Traceback" not in said
        nexus.stop()
        nexus.start()
        wait(lambda: "the hub is ready" in log.read_text(), 60.0)
        whole_site_works(nexus, load_site(tmp_path), unique, f"http://127.0.0.1:{gateway_port}/")
    finally:
        up.terminate()
        assert up.wait(60.0) == 0


def whole_site_works(nexus, site, unique, gateway):
    serving = Serving(site.access("server"))
    source = ManualSource(Timeline("tl", (Field("x", "number", "m"), Field("s", "string")), 1.0, follows_clock=False))
    n = 400_000
    x = np.arange(n) * 0.5
    try:
        node = Node(unique, "A test.", [source])
        serving.serve(node)
        t = time.time() - 0.5 + np.arange(n) * 1e-6
        source.emit("tl", t, {"x": x, "s": np.array(["ä"] * n, dtype=object)})
        with BlockingConsumer(site.access()) as consumer:
            assert {info.name for info in wait(lambda: len(consumer.nodes()) == 3 and consumer.nodes())} == {
                "host",
                "rig",
                unique,
            }
            progress = []
            data = consumer.data(unique, ["x"], 1.0, progress=lambda *done: progress.append(done))
            assert len(progress) > 2  # it came in chunks
            assert data["x"].tolist() == x.tolist()
            assert consumer.data(unique, ["s"], -2000.0, max_points=10)["s"].tolist()[0] == "ä"
            feed = consumer.subscribe(unique, "tl")
            first = next_of(
                feed, lambda: (followed(consumer, unique), source.emit("tl", [t[-1] + 1], {"x": [7.0], "s": ["b"]}))
            )
            assert (first["x"].tolist(), first["s"].tolist()) == ([7.0], ["b"])
            names = [each["name"] for each in consumer.procedures("rig")]
            with pytest.raises(NotAllowed):
                consumer.call("rig", names[0])
            assert wait(lambda: len(consumer.data("host", ["cpu.total"], -60.0, exact=True)["cpu.total"]))
        with BlockingConsumer(site.access("operator")) as operator:
            assert operator.call("rig", "list_sources") == []
        with httpx.Client(base_url=gateway, timeout=60.0) as http:
            assert wait(lambda: http.get("readyz").status_code == 200)
            asked = http.get(f"api/v1/nodes/{unique}/data", params={"field": "x", "start": "-3600", "max_points": 100})
            assert asked.status_code == 200, asked.text
            with http.stream("GET", "api/v1/nodes/host/live", params={"field": "cpu.total"}) as stream:
                assert next(line for line in stream.iter_lines() if line.startswith("data:"))
        # The hub knows who leaves.
        serving.stop()
        with BlockingConsumer(site.access()) as consumer:
            wait(lambda: unique not in [info.name for info in consumer.nodes()])
    finally:
        serving.stop()


def next_of(feed, act):
    """Return the next batch of a feed, which `act` brings about."""
    found = []
    thread = threading.Thread(target=lambda: found.append(next(feed)), daemon=True)
    thread.start()  # it subscribes
    act()
    thread.join(60.0)
    assert found, "no batch has come"
    return found[0]


def test_router_without_wampcra_is_not_reported_as_a_wrong_secret(nexus, tmp_path):
    nexus.write_site(tmp_path, "nodes: {host: {type: host}}\n")
    nexus.start("wampcra")
    for command in (("nodes",), ("hub",), ("node", "run", "host")):
        done = process(*command, cwd=tmp_path)
        assert done.returncode == 2
        assert "it did not ask for the secret; it does not offer wampcra, or not to that user" in done.stderr
        assert "is wrong" not in done.stderr


def test_wrong_secret_is_reported_as_one(nexus, tmp_path):
    nexus.write_site(tmp_path)
    nexus.start()
    done = sisock("nodes", cwd=tmp_path, env={**os.environ, "SISOCK_CONSUMER_SECRET": "another"})
    assert "user or secret is wrong" in done.stderr


def test_rawsocket_of_the_other_router_works(nexus, tmp_path, unique):
    nexus.write_site(tmp_path)
    nexus.start()
    environment = {**os.environ, "WAMP_URI": nexus.rawsocket_url}
    hub = subprocess.Popen([*SISOCK, "hub"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        while "ready" not in (line := hub.stderr.readline()):
            assert line
    finally:
        hub.kill()
        hub.communicate()
