"""An agent of the real OCS on our router, and its feed as a node."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from sisock.consumer import BlockingConsumer
from sisock.node import open_node
from sisock.testing.fixtures import RunningRouter, free_ports
from sisock.testing.serving import Serving
from sisock.times import Interval
from sisock_nodes.ocs_feed.settings import OcsFeedSettings

EVER = Interval(0.0, 1e12)
TEMPERATURES = [f"fake-data1.false_temperatures.channel_{i:02d}" for i in range(3)]


class Agent:
    """OCS's fake-data agent."""

    def __init__(self, folder, port, realm):
        (folder / "ocs").mkdir()
        (folder / "ocs" / "default.yaml").write_text(f"""\
hub:
  wamp_server: ws://127.0.0.1:{port}/ws
  wamp_http: http://127.0.0.1:{port}/call
  wamp_realm: {realm}
  address_root: observatory
  registry_address: observatory.registry
hosts:
  localhost:
    agent-instances:
      - agent-class: FakeDataAgent
        instance-id: fake-data1
        arguments: [--mode, acq, --num-channels, 3, --sample-rate, 20, --frame-length, 1]
""")
        self.site = ["--site-file", str(folder / "ocs" / "default.yaml"), "--site-host", "localhost"]
        self._command = [sys.executable, "-m", "ocs.agents.fake_data.agent", "--instance-id", "fake-data1"]
        self._command += self.site
        self._log = (folder / "agent.log").open("ab")
        self._process = None

    def start(self):
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def close(self):
        self.kill()
        self._log.close()


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """A router with a door for OCS, and the door's port."""
    (port,) = free_ports(1)
    router = RunningRouter(tmp_path_factory.mktemp("door"), extra=f", ocs: {{port: {port}}}")
    try:
        router.start()
        yield router, port
    finally:
        router.stop()


@pytest.fixture
def place(door, tmp_path):
    """A router with a door for OCS, an agent, what serves nodes, and the door's port."""
    router, port = door
    agent = Agent(tmp_path, port, router.site.realm)
    serving = Serving(router.access("server"))
    try:
        yield router, agent, serving, port
    finally:
        agent.close()
        serving.stop()


def wait(holds, node, folder, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, (node.status(), (folder / "agent.log").read_text()[-3000:])
        time.sleep(0.05)


def times(node):
    found = node.history.read(TEMPERATURES[:1], EVER).timelines
    return next(iter(found.values())).t if found else np.empty(0)


def test_feed_of_an_agent_is_a_node_with_a_history(place, tmp_path):
    router, agent, serving, port = place
    node = open_node("ocs", OcsFeedSettings(type="ocs-feed", expire=3.0), router.access("server"))
    other = OcsFeedSettings(
        type="ocs-feed", url=f"ws://127.0.0.1:{port}/ws", realm=router.site.realm, feeds=["*.other"]
    )
    empty = open_node("elsewhere", other, router.access("server"))
    serving.serve(node)
    serving.serve(empty)
    agent.start()
    wait(lambda: len(times(node)) >= 60, node, tmp_path)
    (part,) = node.sources[0].parts
    wait(lambda: part.counters["heartbeats"] >= 2 and empty.sources[0].counters["unwanted"] > 0, node, tmp_path)
    with BlockingConsumer(router.access()) as consumer:
        fields = consumer.fields("ocs")
        assert set(TEMPERATURES) <= set(fields)
        assert consumer.data("ocs", ["fake-data1.alive"], -60.0)["fake-data1.alive"].all()
        data = consumer.data("ocs", TEMPERATURES, 1.0)
        assert len(data.timelines) == 1
    t = times(node)
    assert np.all(np.diff(t) > 0.0)
    assert np.median(np.diff(t)) == pytest.approx(1 / 20, rel=0.2)
    assert node.counters["bad_batches"] == node.sources[0].counters["bad_events"] == 0
    assert TEMPERATURES[0] not in {f.name for tl in empty.history.timelines for f in tl.fields}
    status = node.status()["timelines"]
    assert all(each["repeated"] == 0 for each in status.values())  # nothing comes twice

    def alive():
        return (
            node.history.read(["fake-data1.alive"], EVER).timelines["fake-data1"].columns["fake-data1.alive"].tolist()
        )

    agent.kill()
    wait(lambda: alive()[-1] is False, node, tmp_path)
    newest = times(node)[-1]
    agent.start()
    wait(lambda: times(node)[-1] > newest, node, tmp_path)
    timeline = next(iter(node.history.read(TEMPERATURES[:1], EVER).timelines.values()))
    assert any(start == newest for start, _ in timeline.gaps)
    assert alive()[-1] is True


ASK = """
import json, sys
from ocs.ocs_client import OCSClient

client = OCSClient("fake-data1", args=sys.argv[1:])
print(json.dumps(client.acq.status().session))
print(client.set_heartbeat(heartbeat=False).status)
"""


def test_client_of_ocs_reaches_its_agent_through_the_door(place, tmp_path):
    router, agent, serving, _ = place
    node = open_node("ocs", OcsFeedSettings(type="ocs-feed"), router.access("server"))
    serving.serve(node)
    agent.start()
    wait(lambda: len(times(node)) > 0, node, tmp_path)
    command = [sys.executable, "-c", ASK, *agent.site]
    asked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    session, done = asked.stdout.splitlines()
    assert json.loads(session)["op_name"] == "acq"
    assert json.loads(session)["status"] == "running"
    assert done == "0"


def test_feed_is_there_again_after_the_router_was(place, tmp_path):
    router, agent, serving, _ = place
    node = open_node(
        "ocs", OcsFeedSettings(type="ocs-feed", feeds=["fake-*.false_temperatures"]), router.access("server")
    )
    serving.serve(node)
    agent.start()
    wait(lambda: len(times(node)) > 0, node, tmp_path)
    router.kill("router")
    router.start("router")
    before = time.time()
    agent.kill()  # its own way of coming back is not what is tested
    agent.start()
    wait(lambda: times(node)[-1] > before, node, tmp_path)
