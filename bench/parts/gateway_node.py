"""The process that the gateway asks: a node with a month on disk, a million samples in memory, and a live feed."""

import sys
import threading
import time
from pathlib import Path

import numpy as np
from twisted.internet import reactor

from sisock import Field, Timeline
from sisock.access import Access
from sisock.history import History
from sisock.node import Node
from sisock.server import HistoryServer
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource
from sisock.wamp.connection import Connection

sys.path.insert(0, str(Path(__file__).parents[1]))
from parts.history_turns import LONG_AGO, fill, seal

MONTH, INTERVAL_S, LONG = 26_000_000, 0.1, 1_000_000
LIVE_HZ, LIVE_BATCH = 20, 10


def live(source):
    while True:
        t = time.time()
        source.emit("live", t + np.arange(LIVE_BATCH) * 1e-4, {"live": np.random.default_rng().normal(size=LIVE_BATCH)})
        time.sleep(1.0 / LIVE_HZ)


def main(url, secret, folder):
    access = Access(url, "test_realm", "org.simonsobservatory", "server", secret)
    month = Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False)
    settings = HistorySettings(path=Path(folder), max_size=20 * 10**9)
    with History([month], settings) as history:
        fill(history, MONTH, INTERVAL_S)
        seal(history)
    source = ManualSource(
        month, Timeline("long", [Field("long")], lateness_s=0.0, follows_clock=False), Timeline("live", [Field("live")])
    )
    node = Node("bench", None, [source], settings, None, AllowanceSettings(values=10**8, bytes=10**9))
    node.start()
    t = LONG_AGO + np.arange(LONG) * INTERVAL_S
    source.emit("long", t, {"long": np.random.default_rng(0).normal(size=LONG)})
    threading.Thread(target=live, args=(source,), daemon=True).start()

    def made(config):
        session = HistoryServer(node, config)
        session.on("ready", lambda *_: print("ready", flush=True))
        return session

    Connection(access, made).start()
    reactor.run()


main(*sys.argv[1:])
