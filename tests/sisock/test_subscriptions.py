"""The topics that a consumer follows, and the subscriptions that its router has of them."""

import pytest
from autobahn.wamp.exception import ApplicationError
from twisted.internet.defer import CancelledError

from sisock.consumer.subscriptions import Subscriptions
from sisock.testing.memory import MemoryReactor, runs_in_reactor
from sisock.testing.router import MemoryRouter
from sisock.wamp.connection import Connection
from sisock.wamp.session import Session

TOPIC = "consumer.rig.operation.7"


@pytest.fixture
def reactor():
    return MemoryReactor(MemoryRouter({"server": "s"}))


def joined(reactor):
    connection = Connection(reactor.router.access("server"), Session, reactor=reactor)
    connection.start()
    reactor.settle()
    return connection


def subscribed(reactor):
    return len(reactor.router.matching(f"{reactor.router.base_uri}.{TOPIC}"))


@runs_in_reactor
async def test_topic_that_is_left_before_it_is_confirmed_is_not_subscribed(reactor):
    connection = joined(reactor)
    topics, events = Subscriptions(), []
    topics.move_to(connection.session)
    for times in range(3):
        added = topics.add(TOPIC, events.append)
        reactor.until(topics.remove(TOPIC, events.append))
        reactor.until(added)
        assert (subscribed(reactor), len(topics)) == (0, 0), times
    reactor.until(connection.stop())


@runs_in_reactor
async def test_topic_that_is_taken_again_before_its_end_is_confirmed_stays_subscribed(reactor):
    connection = joined(reactor)
    topics, events, later = Subscriptions(), [], []
    topics.move_to(connection.session)
    reactor.until(topics.add(TOPIC, events.append))
    topics.remove(TOPIC, events.append)
    reactor.until(topics.add(TOPIC, later.append))
    reactor.settle()
    assert subscribed(reactor) == 1
    reactor.router.publish(f"{reactor.router.base_uri}.{TOPIC}", {"seq": 1})
    reactor.settle()
    assert (events, later) == ([], [{"seq": 1}])
    reactor.until(connection.stop())


@runs_in_reactor
async def test_every_handler_waits_for_the_confirmation_and_gets_the_refusal(reactor):
    connection = joined(reactor)
    topics, events, others = Subscriptions(), [], []
    topics.move_to(connection.session)
    reactor.router.refused = {f"{reactor.router.base_uri}.{TOPIC}"}
    adding = [topics.add(TOPIC, events.append), topics.add(TOPIC, others.append)]
    assert not any(each.called for each in adding)
    for each in adding:
        with pytest.raises(ApplicationError, match="not_authorized"):
            reactor.until(each)
    assert len(topics) == 0
    reactor.router.refused = set()
    reactor.until(topics.add(TOPIC, events.append))
    assert subscribed(reactor) == 1
    reactor.until(connection.stop())


@runs_in_reactor
async def test_handler_that_does_not_wait_any_longer_is_not_subscribed(reactor):
    connection = joined(reactor)
    topics, events = Subscriptions(), []
    topics.move_to(connection.session)
    added = topics.add(TOPIC, events.append)
    added.cancel()
    with pytest.raises(CancelledError):
        reactor.until(added)
    reactor.settle()
    assert (subscribed(reactor), len(topics)) == (0, 0)
    reactor.until(connection.stop())


@runs_in_reactor
async def test_topics_are_subscribed_again_after_a_loss_and_those_left_meanwhile_are_not(reactor):
    connection = joined(reactor)
    topics, events = Subscriptions(), []
    topics.move_to(connection.session)
    reactor.until(topics.add(TOPIC, events.append))
    reactor.until(topics.add("consumer.rig.feed.load", events.append))
    reactor.router.disconnect()
    reactor.settle()
    topics.remove("consumer.rig.feed.load", events.append)
    reactor.pump([0.01] * 100)
    reactor.until(topics.move_to(connection.session))
    assert subscribed(reactor) == 1
    assert not reactor.router.matching(f"{reactor.router.base_uri}.consumer.rig.feed.load")
    reactor.router.publish(f"{reactor.router.base_uri}.{TOPIC}", 3)
    reactor.settle()
    assert events == [3]
    reactor.until(connection.stop())
