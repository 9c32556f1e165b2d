"""A node that hangs and is then killed, while somebody waits for its answer."""

import threading
from dataclasses import replace

import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer, in_reactor
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
        session = in_reactor(consumer._link.session).result(10.0)
        feed = consumer.subscribe(f"{unique}-well", "tl")
        reading = threading.Thread(target=lambda: batches.append(next(feed)))
        reading.start()
        followed(node)
        with pytest.raises(TimedOut):
            in_reactor(lambda: consumer._link.call(0.3, f"consumer.{hung.name}.get_data", ["x"], 1, 0)).result(15.0)
        hung.kill()
        wait(lambda: consumer.counters()["late_answers"] == 1)
        assert in_reactor(consumer._link.session).result(10.0) is session
        source.emit("tl", [1.0], {"x": [2.0]})
        reading.join(30.0)
        feed.close()
        assert batches[0]["x"].tolist() == [2.0]


def test_gateway_keeps_its_session(sisock_router, hung):
    with gateway_of(sisock_router.site) as gateway:
        wait(lambda: gateway.get("/readyz").status_code == 200)
        link = gateway.consumer._link
        session = in_reactor(link.session).result(10.0)
        with pytest.raises(TimedOut):
            in_reactor(lambda: link.call(0.3, f"consumer.{hung.name}.get_data", ["x"], 1, 0)).result(15.0)
        hung.kill()
        wait(lambda: "sisock_gateway_late_answers_total 1.0" in gateway.get("/metrics").text)
        assert in_reactor(link.session).result(10.0) is session
