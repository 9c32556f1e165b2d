"""Sessions and their connections over a router and transports in memory, with a clock that is stepped."""

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallOptions, RegisterOptions, SubscribeOptions
from twisted.internet.defer import Deferred

from sisock.errors import Refused
from sisock.testing.memory import MemoryReactor, runs_in_reactor
from sisock.testing.router import MemoryRouter
from sisock.wamp.connection import Connection
from sisock.wamp.session import Session

ACCOUNTS = {"server": "s", "consumer": "c"}


@pytest.fixture
def reactor():
    return MemoryReactor(MemoryRouter(ACCOUNTS))


def joined(reactor, user="server"):
    connection = Connection(reactor.router.access(user), Session, reactor=reactor)
    connection.start()
    reactor.settle()
    assert connection.session.is_attached()
    return connection


@runs_in_reactor
async def test_session_joins_and_leaves(reactor):
    connection = joined(reactor)
    assert connection.session.challenged
    assert len(reactor.router.clients) == 1
    reactor.until(connection.stop())
    assert not reactor.router.clients


@runs_in_reactor
async def test_wrong_secret_is_refused_for_good(reactor):
    access = reactor.router.access("server")
    reactor.router.accounts = {"server": "another"}
    connection = Connection(access, Session, reactor=reactor)
    connection.start()
    with pytest.raises(Refused):
        reactor.until(connection.ended)
    reactor.advance(3600.0)
    assert len(reactor.attempts) == 1


@runs_in_reactor
async def test_router_that_refuses_is_tried_again_with_a_delay_of_2_s_at_most(reactor):
    reactor.refuses = True
    connection = Connection(reactor.router.access("server"), Session, reactor=reactor)
    connection.start()
    reactor.pump([0.01] * 6000)
    delays = [b - a for a, b in zip(reactor.attempts, reactor.attempts[1:], strict=False)]
    assert len(delays) > 25
    assert max(delays) <= 2.02
    assert min(delays[8:]) >= 1.5
    reactor.refuses = False
    reactor.pump([0.01] * 210)
    assert connection.session.is_attached()
    reactor.until(connection.stop())


@runs_in_reactor
async def test_lost_session_is_joined_again_at_once(reactor):
    connection = joined(reactor)
    first = connection.session
    reactor.router.disconnect()
    reactor.settle()
    assert not first.is_attached()
    reactor.pump([0.01] * 100)
    assert connection.session is not first
    assert connection.session.is_attached()
    reactor.until(connection.stop())


@runs_in_reactor
async def test_stopped_connection_is_made_no_more(reactor):
    reactor.refuses = True
    connection = Connection(reactor.router.access("server"), Session, reactor=reactor)
    connection.start()
    reactor.settle()
    reactor.until(connection.stop())
    made = len(reactor.attempts)
    reactor.advance(3600.0)
    assert len(reactor.attempts) == made


@runs_in_reactor
async def test_calls_name_their_caller_and_may_progress(reactor):
    server, consumer = joined(reactor).session, joined(reactor, "consumer").session

    def double(x, details):
        details.progress(x)
        return [2 * x, details.caller_authid]

    reactor.until(server.register(double, "double", RegisterOptions(details_arg="details")))
    progress = []
    called = consumer.call("double", 4, options=CallOptions(on_progress=progress.append))
    assert reactor.until(called) == [8, "consumer"]
    assert progress == [4]
    with pytest.raises(ApplicationError, match="no_such_procedure"):
        reactor.until(consumer.call("treble", 4))
    with pytest.raises(ApplicationError, match="procedure_already_exists"):
        reactor.until(consumer.register(print, "double"))


@runs_in_reactor
async def test_call_whose_callee_leaves_is_an_error(reactor):
    connection, consumer = joined(reactor), joined(reactor, "consumer").session
    reactor.until(connection.session.register(Deferred, "never"))
    called = consumer.call("never")
    reactor.settle()
    connection.stop()
    with pytest.raises(ApplicationError, match="canceled"):
        reactor.until(called)


@pytest.mark.parametrize(
    ("match", "uri"), [("exact", "a.b.c"), ("prefix", "a.b"), ("wildcard", "a..c")], ids=lambda value: value
)
@runs_in_reactor
async def test_events_reach_the_subscribers_that_match(reactor, match, uri):
    server, consumer = joined(reactor).session, joined(reactor, "consumer").session
    events = []
    subscription = reactor.until(consumer.subscribe(events.append, uri, SubscribeOptions(match=match)))
    server.publish("a.b.c", 1)
    server.publish("a.x.y", 2)
    reactor.settle()
    assert events == [1]
    reactor.until(subscription.unsubscribe())
    server.publish("a.b.c", 3)
    reactor.settle()
    assert events == [1]
