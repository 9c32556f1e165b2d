"""Plain WAMP sessions of a test, with what is on the wire."""

from contextlib import contextmanager

from sisock.consumer import in_reactor
from sisock.consumer.router_thread import RouterThread, the_reactor


@contextmanager
def opened_link(access):
    """Provide a connection of a test's own, which is used in the reactor's thread."""
    link = RouterThread(access, the_reactor())
    in_reactor(link.open).result(10.0)
    try:
        yield link
    finally:
        in_reactor(link.close).result(10.0)


def called(access, procedure, *args, timeout_s=10.0, **more):
    """Call a procedure as a plain WAMP client does, and return what is on the wire."""
    with opened_link(access) as link:
        return in_reactor(lambda: link.call(timeout_s, procedure, *args, **more)).result(timeout_s + 20.0)
