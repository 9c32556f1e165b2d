"""What the gateway answers while the router is frozen or a node does not answer, with a real router."""

import asyncio
import time

import psutil
import pytest

from sisock.consumer.data import NodeInfo
from sisock.testing.fixtures import RunningRouter
from sisock_hub.gateway.watch import Watch
from tests.site.gateway import gateway_of, wait


@pytest.fixture
def own_router(tmp_path):
    router = RunningRouter(tmp_path)
    router.start()
    yield router
    router.stop()


def test_status_is_quick_and_honest_while_the_router_is_frozen(own_router):
    with gateway_of(own_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        processes = [psutil.Process(own_router._processes["router"].pid)]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.suspend()
        try:
            wait(lambda: gateway.get("/readyz", timeout=10.0).status_code == 503)
            for path, status in (("/healthz", 200), ("/readyz", 503), ("/api/v1/nodes/host/fields", 504)):
                began = time.monotonic()
                answer = gateway.get(path)
                assert (answer.status_code, time.monotonic() - began < 10.0) == (status, True), answer.text
            assert "did not" in gateway.get("/readyz").json()["reason"]
        finally:
            for process in processes:
                process.resume()
        wait(lambda: gateway.get("/readyz").status_code == 200)


class Consumer:
    """A consumer of one node, which answers or hangs."""

    trouble = None

    def __init__(self):
        self.hangs, self.suspended = asyncio.Event(), {}

    async def nodes(self):
        return [NodeInfo("n", None)]

    async def fields(self, _node):
        return {}

    async def router_status(self):
        return {}

    async def status(self, _node):
        if self.hangs.is_set():
            await asyncio.Event().wait()
        return {"health": {"state": "degraded", "since": 1.0, "error": "the disk is full"}}

    def suspend(self, node, reason):
        self.suspended[node] = reason

    def resume(self, node):
        self.suspended.pop(node, None)


def test_node_that_does_not_answer_is_stale_and_not_asked_until_it_answers():
    async def watched():
        consumer = Consumer()

        async def until(holds):
            async with asyncio.timeout(50.0):
                while not holds():
                    await asyncio.sleep(0.05)

        async with Watch(consumer) as watch:
            await until(lambda: watch.nodes and watch.nodes[0].health)
            assert watch.nodes[0].health == {"state": "degraded", "since": 1.0, "error": "the disk is full"}
            consumer.hangs.set()
            await until(lambda: watch.nodes[0].state == "stale")
            assert consumer.suspended == {"n": "node 'n' did not answer within 3 s"}
            assert watch.unanswered("n") == consumer.suspended["n"]
            consumer.hangs.clear()
            await until(lambda: watch.nodes[0].state == "live")
            assert consumer.suspended == {}

    asyncio.run(watched())
