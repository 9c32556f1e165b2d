"""The hub and the router's roles, with real sessions."""

import os
import re
import socket
import threading
import time
from contextlib import ExitStack
from datetime import datetime

import psutil
import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, SubscribeOptions

from sisock import DataNodeServer
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import BadRequest, NoSuchNode, NotAllowed, Refused
from sisock.testing.serving import Serving
from sisock.wamp.connection import Connection
from sisock.wamp.session import Session


def connected_to(port):
    """Return the descriptors of this process that are connected to a port."""
    return {each.fd for each in psutil.Process().net_connections() if each.raddr and each.raddr.port == port}


DENIED = "wamp.error.not_authorized"


class Plain:
    """A joined session that does what a test says."""

    def __init__(self, access):
        self._joined = threading.Event()

        def make(config):
            session = Session(config)
            session.on("ready", lambda *_: self._joined.set())
            return session

        self._connection = in_reactor(lambda: self._begin(access, make)).result(10.0)
        assert self._joined.wait(60.0)
        self.session = self._connection.session

    @staticmethod
    def _begin(access, make):
        connection = Connection(access, make)
        connection.start()
        return connection

    def do(self, method, *args, **kwargs):
        return in_reactor(lambda: getattr(self.session, method)(*args, **kwargs)).result(10.0)

    def call(self, procedure, *args):
        return self.do("call", self.session.uri(procedure), *args)

    @property
    def id(self):
        return self.session.session_id

    def close(self):
        in_reactor(self._connection.stop).result(10.0)


@pytest.fixture
def join(sisock_router):
    joined = []

    def joining(role):
        joined.append(Plain(sisock_router.access(role)))
        return joined[-1]

    yield joining
    for plain in joined:
        plain.close()


def names(plain):
    return [node["name"] for node in plain.call("consumer.get_data_node")]


def wait_until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_added_node_is_listed_and_told_and_taken_names_are_refused(join, unique):
    node, other, consumer = join("server"), join("server"), join("consumer")
    events = []
    for event in ("data_node_added", "data_node_subtracted"):
        uri = consumer.session.uri(f"consumer.{event}")
        consumer.do("subscribe", lambda node, event=event: events.append((event, node)), uri)
    assert node.call("data_node.add", unique, "what it is", node.id) is True
    assert node.call("data_node.add", unique, "what it is", node.id) is True  # again, by the same session
    assert other.call("data_node.add", unique, "another", other.id) is False
    assert {"name": unique, "description": "what it is"} in consumer.call("consumer.get_data_node")
    node.call("data_node.subtract", unique, node.id)
    assert unique not in names(consumer)
    told = {"name": unique, "description": "what it is"}
    wait_until(lambda: len([e for e in events if e[1] == told]) == 2)
    assert [e for e in events if e[1] == told] == [("data_node_added", told), ("data_node_subtracted", told)]


def test_node_that_left_is_told_with_the_time_when_it_did(join, unique, sisock_router):
    node = join("server")
    node.call("data_node.add", unique, None, node.id)
    before = time.time()
    node.close()
    with BlockingConsumer(sisock_router.access()) as consumer:
        wait_until(lambda: unique not in list(consumer))
        for ask in (lambda: consumer[unique], lambda: consumer.fields(unique)):
            with pytest.raises(NoSuchNode) as caught:
                ask()
            found = re.match(rf"node '{unique}' left at (\S+) \([\d.]+ s ago\); known: ", caught.value.message)
            assert before - 1.0 < datetime.fromisoformat(found[1]).timestamp() < time.time() + 1.0


def test_node_whose_session_leaves_is_subtracted(join, unique):
    node, consumer = join("server"), join("consumer")
    node.call("data_node.add", unique, None, node.id)
    assert unique in names(consumer)
    node.close()
    wait_until(lambda: unique not in names(consumer))


def test_session_id_that_is_not_ones_own_is_refused(join, unique):
    node, other = join("server"), join("server")
    with pytest.raises(NotAllowed, match="cannot act for session"):
        other.call("data_node.add", unique, None, node.id)
    assert node.call("data_node.add", unique, None, node.id) is True
    for claimed in (node.id, other.id):
        with pytest.raises(NotAllowed):
            other.call("data_node.subtract", unique, claimed)
    assert unique in names(node)


@pytest.mark.parametrize("name", ["", "a b", "x..y", "a#b", None, 7, ["x"], "n" * 300])
def test_name_that_cannot_be_part_of_a_uri_is_refused_by_the_hub(join, name):
    node = join("server")
    with pytest.raises(BadRequest):
        node.call("data_node.add", name, None, node.id)


def test_consumer_may_call_and_subscribe_below_consumer_only(join, unique):
    consumer = join("consumer")
    base = consumer.session.uri
    assert isinstance(consumer.call("consumer.get_data_node"), list)
    consumer.do("subscribe", print, base(f"consumer.{unique}.feed.x"))
    consumer.do("subscribe", print, base("consumer."), SubscribeOptions(match="prefix"))
    for method, args in (
        ("call", (base("data_node.add"), unique, None, consumer.id)),
        ("call", (base(f"control.{unique}.stop"),)),
        ("call", ("wamp.session.kill_all",)),
        ("call", ("wamp.session.list",)),
        ("register", (print, base(f"consumer.{unique}.get_data"))),
        ("register", (print, "somewhere.else")),
        ("publish", (base(f"consumer.{unique}.feed.x"), 1)),
        ("publish", (base("hub.started"),)),
        ("subscribe", (print, base("hub.started"))),
        ("subscribe", (print, "", SubscribeOptions(match="prefix"))),
        ("subscribe", (print, base("..."), SubscribeOptions(match="wildcard"))),
        ("subscribe", (print, "wamp.session.on_join")),
    ):
        kwargs = {"options": PublishOptions(acknowledge=True)} if method == "publish" else {}
        with pytest.raises(ApplicationError) as caught:
            consumer.do(method, *args, **kwargs)
        assert caught.value.error in (DENIED, "wamp.error.invalid_uri"), (method, args)


def test_server_may_not_reach_beyond_the_base_uri_nor_end_sessions(join):
    node = join("server")
    for method, args in (
        ("call", ("wamp.session.kill_all",)),
        ("register", (print, "somewhere.else")),
        ("subscribe", (print, "somewhere.else")),
    ):
        with pytest.raises(ApplicationError) as caught:
            node.do(method, *args)
        assert caught.value.error == DENIED


def test_wrong_secret_wrong_user_and_wrong_realm_are_told(sisock_router):
    from dataclasses import replace

    access = sisock_router.access()
    for wrong in (replace(access, secret="guess"), replace(access, user="nobody"), replace(access, realm="elsewhere")):
        with pytest.raises(Refused, match=f"refused '{wrong.user}' in realm '{wrong.realm}'"), BlockingConsumer(wrong):
            pass


@pytest.mark.parametrize("form", ["ws://127.0.0.1:{port}/ws", "rs://127.0.0.1:{raw}", "unix:{socket}"])
def test_every_transport_lets_consumers_in(sisock_router, form):
    from dataclasses import replace

    site = sisock_router.site
    url = form.format(port=site.router.port, raw=site.rawsocket_port, socket=site.socket_path)
    with BlockingConsumer(replace(sisock_router.access(), url=url)) as consumer:
        assert isinstance(consumer.nodes(), list)


@pytest.mark.parametrize("form", ["ws://127.0.0.1:{port}/ws", "rs://127.0.0.1:{raw}"])
def test_connection_that_is_dead_is_found_by_the_kernel_within_half_a_minute(sisock_router, form):
    from dataclasses import replace

    site = sisock_router.site
    url = form.format(port=site.router.port, raw=site.rawsocket_port)
    port = int(url.rpartition(":")[2].partition("/")[0])
    before = connected_to(port)
    with BlockingConsumer(replace(sisock_router.access(), url=url)), ExitStack() as stack:
        (descriptor,) = connected_to(port) - before
        stack.enter_context(handle := socket.socket(fileno=os.dup(descriptor)))
        tcp = [
            handle.getsockopt(socket.IPPROTO_TCP, o)
            for o in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert tcp[0] + tcp[1] * tcp[2] <= 30


@pytest.mark.xdist_group("mortal")
def test_restarted_hub_has_every_live_node_again(mortal_router, unique):
    class Node(DataNodeServer):
        name = unique

    serving = Serving(mortal_router.access("server"))
    try:
        serving.serve(Node)
        with BlockingConsumer(mortal_router.access()) as consumer:
            assert [node.name for node in consumer.nodes()] == [unique]
            mortal_router.kill("hub")
            mortal_router.start("hub")
            wait_until(lambda: [node.name for node in consumer.nodes()] == [unique])
    finally:
        serving.stop()
