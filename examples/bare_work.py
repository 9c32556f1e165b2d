"""A client that knows only WAMP: calls a query, a command and an operation with progress, and cancels one.

Any WAMP client in any language does the same; nothing of sisock is imported. Run it beside a site and motor.py:

    eval "$(sisock env --role operator)"  # sets WAMP_URI, WAMP_USER and WAMP_SECRET
    python examples/bare_work.py
"""

import os

from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp import ApplicationError, auth
from autobahn.wamp.types import CallOptions
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, inlineCallbacks
from twisted.internet.task import deferLater

BASE = os.environ.get("BASE_URI", "org.simonsobservatory")
USER, SECRET = os.environ.get("WAMP_USER", "operator"), os.environ["WAMP_SECRET"]
CONTROL, CONSUMER = f"{BASE}.control.motor", f"{BASE}.consumer.motor"


class Operator(ApplicationSession):
    def onConnect(self):
        self.join(self.config.realm, ["wampcra"], USER)

    def onChallenge(self, challenge):
        return auth.compute_wcs(SECRET, challenge.extra["challenge"])

    @inlineCallbacks
    def onJoin(self, details):
        for each in (yield self.call(f"{CONSUMER}.procedures")):
            print(each["kind"], each["name"], "-", each["description"])
        yield self.call(f"{CONTROL}.set_speed", speed=50.0)
        try:
            yield self.call(f"{CONTROL}.set_speed", speed=-1.0)
        except ApplicationError as error:
            print("refused:", error.args[0])
        yield self.call(f"{CONTROL}.scan", points=3, options=CallOptions(on_progress=self.on_progress))
        print("the scan is done")

        scanning = self.call(f"{CONTROL}.scan", step=100.0, options=CallOptions(on_progress=self.on_progress))
        reactor.callLater(0.5, scanning.cancel)
        try:
            yield scanning
        except CancelledError:
            print("the call is cancelled, and its run ends")
        while (yield self.call(f"{CONSUMER}.query.operations", active=True)):
            yield deferLater(reactor, 0.1)
        for run in (yield self.call(f"{CONSUMER}.query.operations", limit=2)):
            print("run", run["id"], run["name"], run["state"], run["error"])
        self.leave()

    def on_progress(self, change):
        """Print a change of the run: {id, seq, state, progress, message, update}."""
        print(change["state"], change["progress"], change["message"], change["update"])

    def onDisconnect(self):
        reactor.stop()


url = os.environ.get("WAMP_URI", "ws://127.0.0.1:8080/ws")
ApplicationRunner(url, os.environ.get("REALM", "test_realm")).run(Operator)
