"""A node that hangs and is then killed, while somebody waits for its answer."""

import re
import threading
from dataclasses import replace

import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.errors import TimedOut
from sisock.node import Node
from sisock.testing import ManualSource
from tests.site.gateway import followed, gateway_of, wait


@pytest.mark.parametrize("scheme", ["unix", "ws", "rs"])
def test_session_of_the_caller_and_its_feeds_live_on(sisock_router, sisock_serve, unique, hung, scheme):
    site, access = sisock_router.site, sisock_router.access()
    urls = {"ws": f"ws://127.0.0.1:{site.router.port}/ws", "rs": f"rs://127.0.0.1:{site.rawsocket_port}"}
    batches = []
    source = ManualSource(Timeline("tl", [Field("x")], follows_clock=False))
    node = Node(f"{unique}-well", "answers", [source])
    sisock_serve(node)
    with BlockingConsumer(replace(access, url=urls.get(scheme, access.url)), timeout_s=10.0) as consumer:
        feed = consumer.subscribe(f"{unique}-well", "tl")
        reading = threading.Thread(target=lambda: batches.append(next(feed)))
        reading.start()
        followed(consumer, node.name)
        consumer.timeout_s = 0.3
        with pytest.raises(TimedOut):
            consumer.data(hung.name, ["x"], 1.0, 0.0)
        hung.kill()
        wait(lambda: consumer.counters()["late_answers"] == 1)
        assert consumer.counters()["joins"] == 1
        source.emit("tl", [1.0], {"x": [2.0]})
        reading.join(30.0)
        feed.close()
        assert batches[0]["x"].tolist() == [2.0]


def test_gateway_keeps_its_session(sisock_router, hung):
    with gateway_of(sisock_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        gateway.consumer.timeout_s = 0.3
        assert gateway.get(f"/api/v1/nodes/{hung.name}/fields").status_code == 504
        gateway.consumer.timeout_s = 30.0
        hung.kill()
        # Probes that were sent meanwhile may be late as well.
        wait(lambda: re.search(r"sisock_gateway_late_answers_total [1-9]", gateway.get("/metrics").text))
        assert "sisock_gateway_joins_total 1.0" in gateway.get("/metrics").text
