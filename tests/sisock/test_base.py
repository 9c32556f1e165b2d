"""The session's own parts, without a router."""

import base64
import hashlib
import hmac
import importlib

import pytest
from autobahn.wamp.types import Challenge, ComponentConfig

import sisock
from sisock.base import DataNodeServer, Session, uri
from sisock.site import Access


def test_constants_come_from_the_environment(monkeypatch):
    for name, value in {
        "WAMP_USER": "me",
        "WAMP_SECRET": "s",
        "WAMP_URI": "ws://x:1/ws",
        "REALM": "r3a",
        "BASE_URI": "org.x",
    }.items():
        monkeypatch.setenv(name, value)
    base = importlib.reload(sisock.base)
    assert (base.WAMP_USER, base.WAMP_SECRET, base.WAMP_URI, base.REALM) == ("me", "s", "ws://x:1/ws", "r3a")
    assert base.uri("consumer.get_data_node") == "org.x.consumer.get_data_node"
    monkeypatch.undo()
    importlib.reload(sisock.base)


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
