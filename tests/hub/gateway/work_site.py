"""A gateway over a site in this process, whose node has a query, a command and operations."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
from pydantic import BaseModel, SecretStr

from sisock.alarm.settings import AlarmSettings
from sisock.fields import Field, Timeline
from sisock.node import Node
from sisock.procedure import Command, Operation, Query
from sisock.site import GatewaySecrets, GatewaySettings
from sisock.testing import ManualSource
from sisock.times import wait_until
from sisock_hub.gateway.app import make_app
from sisock_hub.gateway.server import OPTIONS
from tests.hub.gateway.serving import served


class Move(BaseModel):
    to: float


class Channels(BaseModel):
    channels: list[int] = []
    gain: float = 1.0


class Scan(BaseModel):
    steps: int = 3
    password: SecretStr | None = None


class Stage:
    """A node of a stage: runs of `hold` wait for `go`."""

    def __init__(self, site):
        self.position, self.callers, self.go = 0.0, [], threading.Event()
        self.source = ManualSource(Timeline("tl", [Field("load")], lateness_s=1e6))
        alarms = {"too_heavy": AlarmSettings(field="load", above=5.0, severity="critical")}
        self.node = Node("stage", "a stage", [self.source], alarms=alarms)
        for procedure in (
            Query("position", "Return the position.", None, None, lambda: self.position),
            Query("sum", "Return a sum.", Channels, None, lambda given: sum(given.channels) * given.gain),
            Command("move", "Move at once.", Move, None, self.move, destructive=True),
            Operation("scan", "Scan.", Scan, None, self.scan),
            Operation(
                "hold", "Hold until it is released.", Scan, None, self.hold, exclusive="axis", when_busy="refuse"
            ),
        ):
            self.node.work.offer(procedure)
        site.serve(self.node)

    def move(self, move, context):
        self.position = move.to
        self.callers.append(context.caller)
        return {"position": move.to}

    def scan(self, scan, context):
        for number in range(scan.steps):
            context.progress(number / scan.steps, f"step {number}")
            context.update(number)
        return {"steps": scan.steps}

    def hold(self, scan, context):
        for number in range(scan.steps):
            context.update(number)
        while not self.go.is_set():
            context.wait(0.01)
        for number in range(scan.steps, 2 * scan.steps):
            context.update(number)
        return "held"


@contextmanager
def gateway_of(site, folder, operator=True, **secrets):
    """Serve a gateway of a stepped site; provides a client of it, with its `consumer`."""
    settings = GatewaySettings(operator=operator)
    known = SimpleNamespace(
        access=site.access,
        state=folder,
        url=site.access("consumer").url,
        secrets=SimpleNamespace(gateway=GatewaySecrets(**secrets), accounts={}),
    )
    app = make_app(known, settings)
    with (
        served(app, **OPTIONS, **app.state.connections.protocols(), lifespan="on") as url,
        httpx.Client(base_url=url, timeout=60.0) as client,
    ):
        assert wait_until(lambda: client.get("/readyz").status_code == 200, 60.0)
        client.consumer = app.state.consumer
        yield client
