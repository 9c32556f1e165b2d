"""A consumer that knows only WAMP: lists the nodes, asks one of them, and prints its feed.

Any WAMP client in any language does the same; nothing of sisock is imported. Run it beside a site:

    eval "$(sisock env)"  # sets WAMP_URI, WAMP_USER and WAMP_SECRET
    python examples/bare_wamp.py host cpu.total
"""

import os
import sys

from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp import auth
from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

BASE = os.environ.get("BASE_URI", "org.simonsobservatory")
USER, SECRET = os.environ.get("WAMP_USER", "consumer"), os.environ["WAMP_SECRET"]
NODE, FIELD = sys.argv[1:3]
EVENTS = 3


class Reader(ApplicationSession):
    seen = 0

    def onConnect(self):
        self.join(self.config.realm, ["wampcra"], USER)

    def onChallenge(self, challenge):
        return auth.compute_wcs(SECRET, challenge.extra["challenge"])

    @inlineCallbacks
    def onJoin(self, details):
        nodes = yield self.call(f"{BASE}.consumer.get_data_node")
        print("nodes:", ", ".join(sorted(node["name"] for node in nodes)))
        fields, timelines = yield self.call(f"{BASE}.consumer.{NODE}.get_fields", 1, 0)
        timeline = fields[FIELD]["timeline"]
        print(f"{FIELD} [{fields[FIELD]['units']}] is on {timeline}, with {timelines[timeline]['field']}")
        answer = yield self.call(f"{BASE}.consumer.{NODE}.get_data", [FIELD], -60, 0)
        print("last minute:", len(answer["data"][FIELD]), "samples")
        yield self.subscribe(self.on_feed, f"{BASE}.consumer.{NODE}.feed.{timeline}")

    def on_feed(self, event):
        print("feed:", event["seq"], event["t"], event["data"][FIELD])
        self.seen += 1
        if self.seen == EVENTS:
            self.leave()

    def onDisconnect(self):
        reactor.stop()


url = os.environ.get("WAMP_URI", "ws://127.0.0.1:8080/ws")
ApplicationRunner(url, os.environ.get("REALM", "test_realm")).run(Reader)
