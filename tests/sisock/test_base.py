"""The session's own parts, without a router."""

import base64
import hashlib
import hmac
from importlib.util import find_spec, module_from_spec

import pytest
from autobahn.twisted.wamp import ApplicationSession
from autobahn.wamp import message
from autobahn.wamp.exception import ProtocolError, TransportLost
from autobahn.wamp.types import Challenge, ComponentConfig
from twisted.internet.defer import CancelledError, Deferred

import sisock
from sisock.access import Access
from sisock.base import DataNodeServer, Session, uri
from sisock.errors import BadRequest
from sisock.wamp.backpressure import RouterBackpressure


def read_anew():
    """Return the module base as the present environment makes it; not in the place of the one that others have."""
    spec = find_spec("sisock.base")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_constants_come_from_the_environment(monkeypatch):
    for name, value in {
        "WAMP_USER": "me",
        "WAMP_SECRET": "s",
        "WAMP_URI": "ws://x:1/ws",
        "REALM": "r3a",
        "BASE_URI": "org.x",
    }.items():
        monkeypatch.setenv(name, value)
    base = read_anew()
    assert (base.WAMP_USER, base.WAMP_SECRET, base.WAMP_URI, base.REALM) == ("me", "s", "ws://x:1/ws", "r3a")
    assert base.uri("consumer.get_data_node") == "org.x.consumer.get_data_node"


def test_addresses_of_published_scripts_come_from_the_environment(monkeypatch):
    assert (sisock.base.SISOCK_HOST, sisock.base.SISOCK_PORT, sisock.base.OCS_PORT) == ("sisock_crossbar", 8080, 8001)
    for name, value in {"CROSSBAR_HOST": "h", "CROSSBAR_TLS_PORT": "18080", "CROSSBAR_OCS_PORT": "18001"}.items():
        monkeypatch.setenv(name, value)
    base = read_anew()
    assert (base.SISOCK_HOST, base.SISOCK_PORT, base.OCS_PORT) == ("h", 18080, 18001)
    monkeypatch.setenv("CROSSBAR_OCS_PORT", "all")
    with pytest.raises(BadRequest, match="CROSSBAR_OCS_PORT is 'all'; give the number of a port"):
        read_anew()


def test_hooks_that_are_not_overridden_raise_a_runtime_error():
    node = DataNodeServer()
    with pytest.raises(RuntimeError, match="does not implement get_fields"):
        node.get_fields_blocking(1.0, 2.0)
    with pytest.raises(RuntimeError, match="does not implement get_data"):
        node.get_data_blocking(["x"], 1.0, 2.0)


def test_nothing_of_a_session_depends_on_its_constructor():
    class Published(DataNodeServer):
        def __init__(self, config):
            ApplicationSession.__init__(self, config)
            self.name = "published"

    node = Published(ComponentConfig("realm", {}))
    assert set(node.status()["counters"].values()) == {0}
    assert (node.failure, node.added, node.access.realm) == (None, False, "realm")


def test_uri_begins_with_the_base():
    assert uri("data_node.add") == "org.simonsobservatory.data_node.add"


def test_wampcra_challenge_is_signed_with_the_secret():
    access = Access("ws://x/ws", "realm", "org.x", "me", "secret")
    session = Session(ComponentConfig("realm", {"access": access}))
    signature = session.onChallenge(Challenge("wampcra", {"challenge": "{}"}))
    assert signature == base64.b64encode(hmac.new(b"secret", b"{}", hashlib.sha256).digest()).decode()


def test_any_other_challenge_raises():
    with pytest.raises(Exception, match="Invalid authmethod ticket"):
        Session().onChallenge(Challenge("ticket", {}))


def test_node_server_can_be_made_without_anything():
    node = DataNodeServer()
    assert node.name is None
    assert node.procedures() == []
    assert node.uri("x") == "org.simonsobservatory.x"


class Transport:
    """A transport that keeps what is sent."""

    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)

    def isOpen(self):
        return True


@pytest.fixture
def session():
    """A session that has joined, and has made and ended the requests 1 to 5."""
    session = Session()
    session._transport, session._session_id = Transport(), 1  # noqa: SLF001 - of autobahn
    ended = session.call("a.b")
    ended.addErrback(lambda failure: None)
    session.onMessage(message.Error(message.Call.MESSAGE_TYPE, 1, "wamp.error.canceled"))
    subscribing = session.subscribe(lambda: None, "a.b")
    session.onMessage(message.Subscribed(2, 77))
    unsubscribing = subscribing.result.unsubscribe()
    session.onMessage(message.Unsubscribed(3))
    assert unsubscribing.called
    registering = session.register(lambda: None, "a.c")
    session.onMessage(message.Registered(4, 88))
    registering.result.unregister()
    session.onMessage(message.Unregistered(5))
    return session


LATE = [
    message.Error(message.Call.MESSAGE_TYPE, 1, "wamp.error.canceled"),
    message.Result(1, args=[5]),
    message.Result(1, args=[5], progress=True),
    message.Subscribed(2, 77),
    message.Error(message.Subscribe.MESSAGE_TYPE, 2, "wamp.error.canceled"),
    message.Unsubscribed(3),
    message.Registered(4, 88),
    message.Unregistered(5),
    message.Event(77, 1, args=[5]),
]


@pytest.mark.parametrize("late", LATE, ids=lambda late: type(late).__name__.lower())
def test_late_answer_is_dropped_and_counted(session, late):
    session.onMessage(late)
    assert session.counters["late_answers"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        message.Error(message.Call.MESSAGE_TYPE, 7, "wamp.error.canceled"),
        message.Result(7, args=[5]),
        message.Subscribed(7, 1),
        message.Unsubscribed(7),
        message.Registered(7, 1),
        message.Unregistered(7),
        message.Published(7, 1),
        message.Event(78, 1),
        message.Result(6),  # of what is a subscription
    ],
    ids=lambda late: type(late).__name__.lower(),
)
def test_answer_to_a_request_that_was_never_made_is_a_violation(session, wrong):
    session.subscribe(lambda: None, "a.d")
    with pytest.raises(ProtocolError):
        session.onMessage(wrong)
    assert session.counters["late_answers"] == 0


def test_call_that_is_cancelled_cancels_no_question_to_the_router_itself():
    cancelled, errors = [], []
    asking = Deferred(cancelled.append)  # Crossbar's own sessions cannot take an INTERRUPT, and log a traceback
    session = Session()
    session.call = lambda *_args: asking
    answering = RouterBackpressure(session).room(7)
    answering.addErrback(lambda failure: errors.append(failure.type))
    answering.cancel()
    assert cancelled == []
    assert errors == [CancelledError]
    asking.errback(TransportLost())  # what comes of it later is nobody's


def test_node_waits_for_what_the_router_answers():
    asking, ended = Deferred(), []
    session = Session()
    session.call = lambda *_args: asking
    RouterBackpressure(session).room(7).addBoth(ended.append)
    assert ended == []
    asking.callback(None)
    assert ended == [None]
