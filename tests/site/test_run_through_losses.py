"""A run is followed through a kill of the router, which does not cancel it."""

import threading

import pytest

from sisock.consumer import BlockingConsumer
from sisock.node import Node
from sisock.procedure import Operation
from sisock.testing.serving import Serving

pytestmark = pytest.mark.xdist_group("mortal")


def test_run_is_followed_through_a_kill_of_the_router(mortal_router):
    steps = threading.Semaphore(0)

    def count(context):
        for number in range(4):
            assert steps.acquire(timeout=120.0)
            context.checkpoint()
            context.update(number)
        return "counted"

    node = Node("counter", None, [])
    node.work.offer(Operation("count", "Count.", None, None, count))
    serving = Serving(mortal_router.access("server"))
    serving.serve(node)
    try:
        with BlockingConsumer(mortal_router.access("operator"), timeout_s=60.0) as consumer:
            run = consumer.operation("counter", "count")
            steps.release(1)
            changes = run.changes()
            seen = [next(changes) for _ in range(3)]
            mortal_router.kill("router")
            steps.release(2)  # nobody can be informed of these
            mortal_router.start("router")
            steps.release(1)
            seen += changes
            assert run.result(120.0) == "counted"
        assert [change.update for change in seen if change.update is not None] == [0, 1, 2, 3]
        assert [change.seq for change in seen] == list(range(1, len(seen) + 1))
    finally:
        steps.release(10)
        serving.stop()
