"""A gateway on a port of its own, in the process of a test, with a real router."""

import json
import time
from contextlib import contextmanager
from dataclasses import replace

import httpx
from websockets.sync.client import connect

from sisock.site import GatewaySecrets, GatewaySettings
from sisock_hub.gateway.app import make_app
from sisock_hub.gateway.server import OPTIONS
from tests.hub.gateway.serving import served


def wait(holds, seconds=60.0):
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def followed(asked, node, timeline="tl", *, by_anybody=True):
    """Wait until a node knows that somebody follows a timeline; what it takes before is published to nobody.

    `asked` is a BlockingConsumer or a Gateway; with `by_anybody` false, wait until nobody follows it any more.
    """
    wait(lambda: asked.status(node)["timelines"][timeline]["subscribed"] is by_anybody)


class Gateway:
    """A gateway that is served, and how it is asked."""

    def __init__(self, url, consumer):
        self.url, self.consumer = url, consumer
        self.http = httpx.Client(base_url=url, timeout=60.0)

    def get(self, path, **how):
        return self.http.get(path, **how)

    def post(self, path, **how):
        return self.http.post(path, **how)

    def json(self, path, **params):
        answer = self.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, node):
        return self.json(f"/api/v1/nodes/{node}/status")

    @contextmanager
    def socket(self, **how):
        with connect(self.url.replace("http", "ws", 1) + "/api/v1/live", open_timeout=60, **how) as socket:
            yield Socket(socket)


class Socket:
    """A WebSocket for live data."""

    def __init__(self, socket):
        self.socket = socket

    def say(self, **what):
        self.socket.send(json.dumps(what))

    def hear(self, timeout=60.0):
        return json.loads(self.socket.recv(timeout=timeout))

    def hear_of(self, name):
        while (message := self.hear()).get("id") != name:
            pass
        return message


@contextmanager
def gateway_of(site, secrets=None, **settings):
    """Serve the gateway of a site; `secrets` is the content of the section `gateway` of its secrets file."""
    settings = GatewaySettings(**settings)
    site = replace(site, gateway=settings)
    if secrets is not None:
        own = {"secret": site.secrets.gateway.secret}
        known = GatewaySecrets.model_validate(own | secrets)
        site.__dict__["secrets"] = site.secrets.model_copy(update={"gateway": known})
    app = make_app(site, settings)
    with served(app, **OPTIONS, **app.state.connections.protocols(), lifespan="on") as url:
        gateway = Gateway(url, app.state.consumer)
        with gateway.http:
            yield gateway
