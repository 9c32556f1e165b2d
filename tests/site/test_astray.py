"""Programs that were given the gateway's address for the router's."""

import re
from dataclasses import replace

import pytest

from sisock.consumer import BlockingConsumer
from sisock.errors import NoRouter


@pytest.mark.parametrize("path", ["", "/ws", "/api/v1/live"])
def test_address_of_the_gateway_given_for_the_routers_is_an_error_that_says_so(gateway, sisock_router, path):
    url = gateway.url.replace("http://", "ws://") + path
    consumer = BlockingConsumer(replace(sisock_router.access(), url=url), patience_s=30.0)
    router = f"ws://127.0.0.1:{sisock_router.site.router.port}/ws"
    said = f"the server at {url} is a sisock gateway, not a router; the router's address is {router}"
    with pytest.raises(NoRouter, match=f"^{re.escape(said)}$"):
        consumer.nodes()
