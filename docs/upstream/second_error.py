"""Show that a call that was cancelled ends its caller's session when the callee dies.

Needs autobahn and a Crossbar router on which anonymous sessions may call and register, such as the one that
`crossbar init` makes:

    python second_error.py ws://127.0.0.1:8080/ws realm1
"""

import os
import signal
import subprocess
import sys

from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp.exception import ApplicationError
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, inlineCallbacks

URL, REALM = sys.argv[1:3]
PROCEDURE = "com.example.hangs"


class Callee(ApplicationSession):
    @inlineCallbacks
    def onJoin(self, details):
        yield self.register(lambda: None, PROCEDURE)
        print("registered", flush=True)


class Caller(ApplicationSession):
    @inlineCallbacks
    def onJoin(self, details):
        callee = subprocess.Popen([sys.executable, __file__, URL, REALM, "callee"], stdout=subprocess.PIPE)
        assert b"registered" in callee.stdout.readline()
        callee.send_signal(signal.SIGSTOP)
        call = self.call(PROCEDURE)
        reactor.callLater(0.5, call.cancel)
        try:
            yield call
        except (CancelledError, ApplicationError) as error:
            print("the call has ended:", repr(error))
        yield task.deferLater(reactor, 0.5, lambda: None)
        print("the callee is killed")
        callee.kill()
        yield task.deferLater(reactor, 2.0, lambda: None)
        alive = self.is_attached()
        print("the caller's session lives on" if alive else "the caller's session has been dropped")
        sys.stdout.flush()
        os._exit(0 if alive else 1)


ApplicationRunner(URL, REALM).run(Callee if len(sys.argv) > 3 else Caller)
