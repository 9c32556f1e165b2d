"""The process that is measured: a node with two histories, and beside it a bare session with the same bytes."""

import sys

import numpy as np
from serving import serve
from twisted.internet.defer import inlineCallbacks

from sisock import Field, Timeline
from sisock.access import Access
from sisock.node import Node
from sisock.server import HistoryServer
from sisock.settings import HistorySettings
from sisock.testing import ManualSource
from sisock.times import Interval
from sisock.wamp.replies import encode
from sisock.wamp.session import Session

SAMPLES = {"x": 100_000, "long": 1_000_000}


class Bare(Session):
    """Plain autobahn: the same bytes, made once."""

    answer = None

    @inlineCallbacks
    def onJoin(self, details):
        yield self.register(lambda *_, **__: self.answer, self.uri("bare.get_data"))


def main(url, secret):
    access = Access(url, "test_realm", "org.simonsobservatory", "server", secret)
    timelines = [Timeline(name, [Field(name)], follows_clock=False, lateness_s=0.0) for name in SAMPLES]
    source = ManualSource(*timelines)
    node = Node("bench", None, [source], HistorySettings(keep=1e12))
    node.start()
    for name, samples in SAMPLES.items():
        t = 1.7e9 + np.arange(samples) * 0.1
        source.emit(name, t, {name: np.random.default_rng(0).normal(size=samples)})
    Bare.answer = encode(node.history.read(["x"], Interval(0.0, 1e12)), "packed")
    serve(access, (lambda config: HistoryServer(node, config), Bare))


main(*sys.argv[1:])
