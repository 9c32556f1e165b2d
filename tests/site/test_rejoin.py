"""What happens when the router is killed."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.errors import SisockError
from sisock.node import Node
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.testing.serving import Serving

pytestmark = pytest.mark.xdist_group("mortal")
FOR_EVER = HistorySettings(keep=1e11)
KILLS = 3  # `make bench ONLY=core` does 20


def wait_until_known(consumer, name):
    """Wait until the hub is back and knows the node; `make bench ONLY=core` says how long that takes."""
    began = time.monotonic()
    while time.monotonic() < began + 60.0:
        try:
            if name in [node.name for node in consumer.nodes()]:
                return
        except SisockError:
            pass  # the hub is not back yet
        time.sleep(0.02)
    raise AssertionError(f"{name} did not come back")


@pytest.mark.long
def test_every_node_is_back_after_each_kill_and_no_sample_is_missing(mortal_router):
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    node = Node("survivor", None, [source], FOR_EVER)
    serving = Serving(mortal_router.access("server"))
    serving.serve(node)
    count = 0

    def emit(n):
        nonlocal count
        source.emit("tl", np.arange(count, count + n) + 1.0, {"x": np.arange(count, count + n, dtype=float)})
        count += n

    try:
        for _ in range(KILLS):
            emit(10)
            mortal_router.kill("router")
            emit(10)  # while there is no router
            mortal_router.start("router")
            with BlockingConsumer(mortal_router.access(), timeout_s=30.0) as consumer:
                wait_until_known(consumer, "survivor")
                emit(10)
                data = consumer.data("survivor", ["x"], 1.0, 0.0, exact=True)
            np.testing.assert_array_equal(data["x"], np.arange(count))
    finally:
        serving.stop()


NODE = """
import sys
from sisock.base import DataNodeServer
from sisock.runner import run
from sisock.site import load_site

class Slow(DataNodeServer):
    name = "slow"

    def get_fields_blocking(self, start, end):
        field = {"description": "", "timeline": "tl", "type": "number", "units": None}
        return {"x": field}, {"tl": {"interval": None, "field": ["x"]}}

    def get_data_blocking(self, field, start, end, min_stride=None):
        print("asked", flush=True)
        sys.stdin.readline()
        print("answers", flush=True)
        return {"data": {}, "timeline": {}}

run(Slow, load_site(SITE).access("server"))
"""


def lines_until(last, process):
    said = []
    for line in process.stdout:
        said.append(line)
        if last in line:
            break
    return said


def test_node_whose_router_goes_while_it_answers_says_no_more_than_that(mortal_router):
    script = NODE.replace("SITE", repr(str(mortal_router.site.path)))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([sys.executable, "-c", script], **pipes, text=True) as node:
        try:
            with BlockingConsumer(mortal_router.access(), timeout_s=60.0) as consumer:
                wait_until_known(consumer, "slow")

                def ask():
                    with pytest.raises(SisockError):
                        consumer.data("slow", ["x"], -60, exact=True)

                asking = threading.Thread(target=ask)
                asking.start()
                said = lines_until("asked", node)
                mortal_router.kill("router")
                said += lines_until("lost the router", node)
                node.stdin.write("\n")
                node.stdin.flush()
                said += lines_until("answers", node)
                mortal_router.start("router")
                wait_until_known(consumer, "slow")
                asking.join()
        finally:
            node.terminate()
        said += node.stdout
    assert "Unhandled" not in "".join(said)
    assert "Traceback" not in "".join(said)


def test_consumer_rides_through_a_kill_and_its_feed_goes_on(mortal_router):
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    serving = Serving(mortal_router.access("server"))
    serving.serve(Node("source", None, [source], FOR_EVER))
    got, running = [], threading.Event()
    with BlockingConsumer(mortal_router.access(), timeout_s=60.0) as consumer:

        def follow():
            for batch in consumer.subscribe("source", "tl"):
                got.append(batch)
                running.set()
                if batch["x"][-1] == 2.0:
                    return

        def emit_until(arrived, value):
            deadline, t = time.monotonic() + 60.0, 10.0 * value
            while not arrived():
                assert time.monotonic() < deadline
                t += 0.001
                source.emit("tl", [t], {"x": [value]})
                time.sleep(0.02)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        emit_until(running.is_set, 1.0)
        mortal_router.kill("router")
        source.emit("tl", [15.0, 15.1], {"x": [1.5, 1.5]})  # nobody hears this
        mortal_router.start("router")
        wait_until_known(consumer, "source")
        assert len(consumer.data("source", ["x"], 1.0, 0.0, exact=True)["x"]) >= 3
        emit_until(lambda: not follower.is_alive(), 2.0)
    serving.stop()
    assert sum(batch.missed for batch in got) >= 1  # and what was missed is told
