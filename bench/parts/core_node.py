"""The process that is measured: a node, and beside it a bare session that does the same without sisock."""

import sys

import numpy as np
from autobahn.wamp.types import PublishOptions
from serving import serve
from twisted.internet.defer import inlineCallbacks

from sisock import Field, Timeline
from sisock.access import Access
from sisock.node import Node
from sisock.server import HistoryServer
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.wamp.session import Session

FIELDS, SAMPLES = 10, 100
VALUES = {f"x{i}": np.sin(np.arange(SAMPLES) + i) for i in range(FIELDS)}  # made once, for ours and for the bare one


class Bare(Session):
    """Plain autobahn: the same dictionary, the same payload."""

    node = source = None
    count = 0

    @inlineCallbacks
    def onJoin(self, details):
        answer = HistoryServer(self.node).status()
        yield self.register(lambda: answer, self.uri("bare.status"))
        yield self.register(self.burst_bare, self.uri("bare.burst_bare"))
        yield self.register(self.burst_ours, self.uri("bare.burst_ours"))

    def columns(self):
        t = np.arange(self.count, self.count + SAMPLES) + 1.0
        Bare.count += SAMPLES
        return t, VALUES

    def burst_bare(self, batches):
        t, columns = self.columns()
        event = {
            "t": t.tolist(),
            "data": {name: values.tolist() for name, values in columns.items()},
            "seq": 1,
            "finalized_until": 0.0,
        }
        for _ in range(batches):
            self.publish(self.uri("bare.feed"), event, options=PublishOptions(acknowledge=False))

    def burst_ours(self, batches):
        for _ in range(batches):
            self.source.emit("wave", *self.columns())


def main(url, secret, others):
    access = Access(url, "test_realm", "org.simonsobservatory", "server", secret)
    source = ManualSource(
        Timeline("wave", [Field(f"x{i}") for i in range(FIELDS)], follows_clock=False, lateness_s=0.0)
    )
    node = Node("bench", "is measured", [source], HistorySettings(keep=1e11))
    node.start()
    Bare.node, Bare.source = node, source
    makers = [lambda config: HistoryServer(node, config), Bare]
    for i in range(int(others)):
        idle = Node(f"idle-{i}", None, [ManualSource(Timeline("tl", [Field(f"y{i}")]))])
        makers.append(lambda config, idle=idle: HistoryServer(idle, config))
    serve(access, makers)


main(*sys.argv[1:])
