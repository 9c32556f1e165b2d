"""What the processes of measured nodes share: their sessions, and the line that they are ready."""

from sisock.wamp.connection import Connection


def serve(access, makers):
    """Serve sessions until the process is stopped; print a line when all have joined.

    Parameters
    ----------
    access : sisock.access.Access
    makers : sequence of callable
        Each makes a session from an autobahn ComponentConfig.
    """
    from twisted.internet import reactor

    waiting = [len(makers)]

    def ready(*_):
        waiting[0] -= 1
        if waiting[0] == 0:
            print("ready", flush=True)

    def watched(make):
        def made(config):
            session = make(config)
            session.on("ready", ready)
            return session

        return made

    for make in makers:
        Connection(access, watched(make)).start()
    reactor.run()
