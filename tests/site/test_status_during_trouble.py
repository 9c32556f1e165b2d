"""What the gateway answers while the router is frozen or a node does not answer, with a real router."""

import asyncio
import json
import selectors
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from sisock import Field, Timeline
from sisock.consumer.info import NodeInfo
from sisock.errors import TimedOut
from sisock.node import Node
from sisock.testing import ManualSource
from sisock_hub.gateway import watch as watch_module
from sisock_hub.gateway.watch import Watch
from tests.site.gateway import gateway_of, wait


@pytest.mark.xdist_group("mortal")
def test_status_is_quick_and_honest_while_the_router_is_frozen(mortal_router):
    with gateway_of(mortal_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        processes = [psutil.Process(mortal_router.processes["router"].pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.suspend()
        try:
            wait(lambda: gateway.get("/readyz", timeout=10.0).status_code == 503)
            for path, status in (
                ("/healthz", 200),
                ("/readyz", 503),
                ("/prometheus/-/healthy", 200),
                ("/prometheus/-/ready", 503),
                ("/api/v1/nodes/host/fields", 504),
            ):
                began = time.monotonic()
                answer = gateway.get(path)
                assert (answer.status_code, time.monotonic() - began < 10.0) == (status, True), answer.text
            assert "did not" in gateway.get("/readyz").json()["reason"]
        finally:
            for process in processes:
                process.resume()
        wait(lambda: gateway.get("/readyz").status_code == 200)


def test_node_that_hangs_is_stale_soon_and_each_call_to_it_fails_at_once_until_it_answers(sisock_router, hung):
    node = f"/api/v1/nodes/{hung.name}"
    reason = f"node '{hung.name}' did not answer within 3 s; calls are sent again as soon as it answers"

    def state():
        return next((each["state"] for each in gateway.json("/api/v1/nodes") if each["name"] == hung.name), None)

    with gateway_of(sisock_router.site, operator=True) as gateway:
        wait(lambda: state() == "online")
        began = time.monotonic()
        wait(lambda: state() == "stale")
        assert time.monotonic() - began < 25.0  # 5 s, on a machine that does nothing else
        for ask in (
            lambda: gateway.get(f"{node}/fields"),
            lambda: gateway.get(f"{node}/data", params={"field": "x", "start": "-1h"}),
            lambda: gateway.post(f"{node}/procedures/restart", json={}),
        ):
            began = time.monotonic()
            answer = ask()
            assert time.monotonic() - began < 3.0  # one that is sent takes 30 s
            assert (answer.status_code, answer.json()) == (504, {"error": "timed_out", "message": reason})
        for path in ("/healthz", "/readyz"):
            assert gateway.get(path).status_code == 200
        assert gateway.json("/readyz")["nodes"][hung.name] == "stale: it did not answer within 3 s"
        hung.send_signal(signal.SIGCONT)
        wait(lambda: state() == "online")
        assert gateway.get(f"{node}/fields").status_code == 200
        assert gateway.post(f"{node}/procedures/restart", json={}).json() == "done"


def test_nodes_are_listed_with_their_health(sisock_router, sisock_serve, unique, hung):
    """A node that does not answer costs its own line, after the time of one probe for all such nodes together."""
    source = ManualSource(Timeline("tl", [Field("x")], follows_clock=False))
    node = Node(f"{unique}-well", None, [source])
    sisock_serve(node)
    node.outages.failed("the sensor", "it is unplugged")
    command = [sys.executable, "-m", "sisock", "nodes", "--site", str(sisock_router.site.path)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert found[hung.name]["health"] == {"state": "stale", "since": None, "error": "it did not answer within 3 s"}
    health = found[node.name]["health"]
    assert (health["state"], health["error"]) == ("degraded", "the sensor: it is unplugged")
    assert health["since"] > 1e9
    node.outages.recovered("the sensor")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{hung.name}\tstale: it did not answer within 3 s\t" in done.stdout
    assert f"{node.name}\tok\t" in done.stdout


def test_nodes_and_their_errors_are_named_only_to_those_who_may_read_data(sisock_router, sisock_serve, unique):
    node = Node(unique, None, [ManualSource(Timeline("tl", [Field("x")], follows_clock=False))])
    sisock_serve(node)
    node.outages.failed("the disk of the history in /srv/secret", "it is full")
    tokens = {"tokens": {"grafana": "0123456789abcdef"}}
    bearer = {"Authorization": "Bearer 0123456789abcdef"}
    with gateway_of(sisock_router.site, tokens) as gateway:
        wait(lambda: unique in gateway.get("/readyz", headers=bearer).json()["nodes"])
        told = gateway.get("/readyz", headers=bearer).json()
        assert told["nodes"][unique] == "degraded: the disk of the history in /srv/secret: it is full"
        assert told["unwell"] == len(told["nodes"])
        answer = gateway.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        for path in ("/healthz", "/prometheus/-/healthy", "/prometheus/-/ready"):
            assert gateway.get(path).status_code == 200
        assert answer.json()["unwell"] >= 1
        assert answer.json()["nodes"] == {}


class Consumer:
    """A consumer of some nodes and a hub, each of which answers or hangs."""

    trouble = None

    def __init__(self, *names):
        self.names, self.hanging, self.suspended = list(names), set(), {}

    async def nodes(self):
        await self._answers("hub")
        return [NodeInfo(name, None) for name in self.names]

    async def fields(self, _node):
        return {}

    async def router_status(self):
        return {}

    async def status(self, node):
        await self._answers(node)
        return {"health": {"state": "degraded", "since": 1.0, "error": "the disk is full"}}

    async def _answers(self, who):
        if who in self.hanging:
            await asyncio.Event().wait()

    def suspend(self, node, reason):
        self.suspended[node] = reason

    def resume(self, node):
        self.suspended.pop(node, None)


class QuickLoop(asyncio.SelectorEventLoop):
    """A loop in which it is the time of the next timer as soon as there is nothing else to do."""

    def __init__(self):
        self.ahead = 0.0
        loop = self

        class QuickSelector(selectors.DefaultSelector):
            def select(self, timeout=None):
                found = super().select(0 if timeout else timeout)
                loop.ahead += timeout if timeout and not found else 0.0
                return found

        super().__init__(QuickSelector())

    def time(self):
        return super().time() + self.ahead


def in_no_time(coroutine):
    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        return runner.run(coroutine)


async def until(holds):
    async with asyncio.timeout(50.0):
        while not holds():
            await asyncio.sleep(0.02)


def test_node_that_does_not_answer_is_stale_and_not_asked_until_it_answers():
    async def watched():
        consumer, operator = Consumer("n"), Consumer("n")
        async with Watch(consumer, operator) as watch:
            await until(lambda: watch.nodes and watch.nodes[0].health)
            assert watch.nodes[0].health == {"state": "degraded", "since": 1.0, "error": "the disk is full"}
            consumer.hanging.add("n")
            await until(lambda: watch.nodes[0].state == "stale")
            assert consumer.suspended == operator.suspended == {"n": "node 'n' did not answer within 3 s"}
            assert watch.unanswered("n") == consumer.suspended["n"]
            consumer.hanging.clear()
            await until(lambda: watch.nodes[0].state == "online")
            assert consumer.suspended == operator.suspended == {}
            assert watch.unanswered("n") is None
            assert [event.kind for event in watch.events] == ["stale", "online"]

    in_no_time(watched())


def test_node_that_hangs_delays_the_look_at_no_other(monkeypatch):
    monkeypatch.setattr(watch_module, "_ANSWER_S", 3600.0)

    async def watched():
        consumer = Consumer("a", "b", "c")
        consumer.hanging |= {"a", "b"}
        async with Watch(consumer) as watch:
            await until(lambda: len(watch.nodes) == 3 and watch.nodes[2].health)
            assert [node.health for node in watch.nodes[:2]] == [None, None]

    in_no_time(watched())


def test_node_that_has_gone_is_not_held_back_when_it_comes_again():
    async def watched():
        consumer = Consumer("n")
        consumer.hanging.add("n")
        async with Watch(consumer) as watch:
            await until(lambda: consumer.suspended)
            consumer.names.clear()
            await until(lambda: watch.nodes[0].state == "gone")
            assert consumer.suspended == {}

    in_no_time(watched())


def test_no_node_is_called_while_the_hub_does_not_answer(monkeypatch):
    monkeypatch.setattr(watch_module, "_ANSWER_S", 0.5)

    async def watched():
        consumer = Consumer("n")
        async with Watch(consumer) as watch:
            await until(lambda: watch.nodes)
            consumer.hanging.add("hub")
            await until(lambda: watch.trouble)
            assert isinstance(watch.trouble, TimedOut)
            assert watch.trouble.message == "the hub did not list the nodes within 0.5 s"
            assert consumer.suspended == {None: watch.trouble.message}
            consumer.hanging.add("n")  # what is known of it is that the hub does not answer
            await asyncio.sleep(3.0)
            assert watch.nodes[0].state == "online"
            consumer.hanging.clear()
            await until(lambda: watch.trouble is None)
            assert consumer.suspended == {}

    in_no_time(watched())


@pytest.mark.parametrize("hangs", ["n", "hub"])
def test_node_or_hub_that_hangs_at_any_time_is_noticed_within_5_seconds(hangs):
    async def watched():
        loop, longest = asyncio.get_running_loop(), 0.0
        for moment in np.arange(0.0, 2.0, 0.1):
            consumer = Consumer("n")
            async with Watch(consumer) as watch:
                await until(lambda: watch.nodes and watch.nodes[0].health)
                await asyncio.sleep(float(moment))
                consumer.hanging.add(hangs)
                began = loop.time()
                await until(lambda: watch.trouble if hangs == "hub" else watch.nodes[0].state == "stale")
                longest = max(longest, loop.time() - began)
        return longest

    assert 3.5 < in_no_time(watched()) <= 5.0 + 0.02  # looked at every 0.02 s
