"""The router bounds its connections: clients that read nothing, do not log in, or send what is not a message."""

import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest

from sisock import Field, Timeline
from sisock.consumer import BlockingConsumer
from sisock.node import Node
from sisock.process import raise_open_files
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource
from sisock.testing.serving import Serving
from sisock_hub.connections import Connections, Limits
from tests.site.bare import ABORT, CALL, CHALLENGE, ERROR, HELLO, REGISTER, RESULT, WELCOME, BareClient
from tests.site.browsers import measure as measure_browsers
from tests.site.browsers import router_with_gateway
from tests.site.stalled import MB, measure

TRANSPORTS = ["rawsocket", "websocket"]


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    """A router of these tests' own: they make it cut connections."""
    extra = ", handshake_timeout: 2s, unsent_timeout: 3s, max_connections: 1200"
    router = router_with_gateway(tmp_path_factory.mktemp("guard"), extra)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        router.start("router", "hub", "gateway")
        yield router
    finally:
        router.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def status(router):
    with BlockingConsumer(router.access()) as consumer:
        return consumer.router_status()


def wait(condition, within_s=30.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_memory_is_bounded_when_subscribers_never_read(router, transport):
    done = measure(router, clients=10, transport=transport, rate=20 * MB, duration_s=2.0, back_s=20.0)
    assert done.grown < 64 * MB
    assert done.after - done.before < 64 * MB
    assert done.cut == 10


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_memory_is_bounded_when_callers_never_read_their_answers(router, transport):
    done = measure(router, clients=10, transport=transport, calls=True, duration_s=2.0, back_s=1.0)
    assert done.grown < 64 * MB


@pytest.mark.parametrize("kind", ["sse", "ws"])
def test_memory_of_the_gateway_is_bounded_when_browsers_never_read_a_fast_feed(router, kind):
    """A hundred of them took it to 2.4 GB (server-sent events) and 1.6 GB (WebSocket)."""
    done = measure_browsers(router, browsers=60, kind=kind, duration_s=3.0, back_s=1.0)
    assert done.grown < 150 * MB


def test_slow_caller_that_reads_gets_its_whole_answer(router, sisock_serve_on):
    n = 500_000
    source = ManualSource(Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False))
    node = Node("slow", None, [source], HistorySettings(keep=1e12), allowance=AllowanceSettings(values=10**7))
    sisock_serve_on(router, node)
    source.emit("tl", 1e9 + np.arange(n) * 0.01, {"x": np.random.default_rng(1).random(n)})
    with BareClient(router.site, receive_buffer=1 << 16) as client:
        assert client.login(router.access())[0] == WELCOME
        client.call(1, f"{router.site.base_uri}.consumer.slow.get_data", ["x"], 1.0, 2e9, encoding="packed")
        rows = 0
        while (answer := client.receive())[2].get("progress"):
            assert answer[0] == RESULT
            rows += len(answer[3][0]["t"]["data"]) // 8
            time.sleep(0.4)
    assert rows == n
    assert answer[3][0]["chunks"] == 8


def test_only_the_hub_may_end_a_session(router):
    """The names of a site's URIs are open to all its nodes; the right to cut another's connection is not."""
    before = status(router)["counters"]
    with BareClient(router.site) as victim, BareClient(router.site) as node:
        assert victim.login(router.access())[0] == WELCOME
        session = victim.session
        assert node.login(router.access("server"))[0] == WELCOME
        node.call(1, f"{router.site.base_uri}.router.end_session", session)
        answer = node.receive()
        assert answer[:2] == [ERROR, CALL]
        assert answer[4:6] == ["wamp.error.not_authorized", ["only the hub may end sessions"]]
        node.send([REGISTER, 2, {}, f"{router.site.base_uri}.router.end_sessions"])
        assert node.receive()[4] == "wamp.error.not_authorized"
        victim.call(1, f"{router.site.base_uri}.consumer.get_data_node")
        assert victim.receive()[0] == RESULT
    after = status(router)["counters"]
    assert after["ended"] == before["ended"]
    assert after["end_refused"] == before["end_refused"] + 1


@pytest.fixture
def sisock_serve_on():
    with ExitStack() as stack:

        def serve(router, node):
            serving = Serving(router.access("server"))
            stack.callback(serving.stop)
            serving.serve(node)

        yield serve


@pytest.mark.parametrize("transport", [*TRANSPORTS, "tcp", "tcp to websocket"])
def test_connection_that_does_not_log_in_is_cut(router, transport):
    before = status(router)["counters"]["not_logged_in"]
    if transport in TRANSPORTS:
        client = BareClient(router.site, transport)
        handle = client.socket
    else:
        port = router.site.rawsocket_port if transport == "tcp" else router.site.router.port
        handle = socket.create_connection(("127.0.0.1", port))
    with handle:
        handle.settimeout(20.0)
        with suppress(ConnectionResetError):
            assert handle.recv(1) == b""
    assert status(router)["counters"]["not_logged_in"] == before + 1


def test_idle_connections_neither_refuse_others_nor_stay(router):
    """1,100 of them, and a router that was started with the usual soft limit of 1,024 open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2300:
        pytest.skip(f"needs 2,300 open files; the hard limit is {hard}")
    assert raise_open_files() == hard
    before = status(router)
    assert before["open_files_limit"] == hard
    with ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(socket.create_connection(("127.0.0.1", router.site.rawsocket_port)))
        began = time.monotonic()
        assert status(router)["connections"] >= 2
        assert time.monotonic() - began < 5.0
        wait(lambda: status(router)["counters"]["not_logged_in"] >= before["counters"]["not_logged_in"] + 1100)
        assert status(router)["connections"] < 50


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nested_message_before_the_login_does_not_hold_up_others(router, transport):
    began, before = time.monotonic(), len(router.log())
    with BareClient(router.site, transport, "json") as client:
        payload = b"[" * (400_000 if transport == "rawsocket" else 60_000)
        client.socket.sendall(client.framed(payload, binary=False))
        assert client.is_cut(20.0)
        status(router)
        assert time.monotonic() - began < 10.0
    for each in ("RecursionError", "Traceback"):
        assert router.log()[before:].count(each) < 10


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("size", "accepted"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_message_before_the_login_has_64_kibibytes_at_the_most(router, transport, size, accepted):
    def hello(padding):
        about = {"roles": {"caller": {}}, "authmethods": ["wampcra"], "authid": user, "authextra": {"x": "x" * padding}}
        return msgpack.packb([HELLO, router.access().realm, about])

    user, padding = router.access().user, size - 1000
    padding += size - len(hello(padding))
    assert len(hello(padding)) == size
    with BareClient(router.site, transport) as client:
        client.send_bytes(hello(padding))
        if accepted:
            assert client.receive()[0] == CHALLENGE
        else:
            with pytest.raises(ConnectionError):
                client.receive()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_message_after_the_login_may_be_large_and_one_that_is_none_ends_its_own_connection(router, transport):
    with BareClient(router.site, transport) as client:
        assert client.login(router.access())[0] == WELCOME
        client.call(1, f"{router.site.base_uri}.consumer.get_data_node", "x" * 1_000_000)
        assert client.receive()[0] in (RESULT, 8)
        before = status(router)["counters"]["bad_messages"]
        client.send_bytes(b"\x91" * 5000)
        assert client.is_cut(20.0)
    assert status(router)["counters"]["bad_messages"] == before + 1


def test_storm_of_wrong_passwords_is_counted_and_delays_only_the_refusals(router):
    wrong = replace(router.access(), secret="guess")
    tried, took = 0, 0.0
    with ExitStack() as stack:
        while took < 1.0:
            assert tried < 24  # they are counted anew each minute, which may have begun between the first and the 12th
            client = stack.enter_context(BareClient(router.site))
            began, tried = time.monotonic(), tried + 1
            assert client.login(wrong)[0] == ABORT
            took = time.monotonic() - began
        began = time.monotonic()
        assert stack.enter_context(BareClient(router.site)).login(router.access())[0] == WELCOME
        assert time.monotonic() - began < 1.0
    assert status(router)["counters"]["wrong_logins"] >= tried


class Wrapper:
    """What Twisted has for a connection, without a socket."""

    def __init__(self, session=None):
        self.wrappedProtocol = session and SimpleNamespace(
            _session=SimpleNamespace(_session_id=session, _authid="c", _authrole="r")
        )
        self.transport = self
        self.dataBuffer, self.offset, self._tempDataLen = b"", 0, 0
        self.aborted = False

    def abortConnection(self):
        self.aborted = True

    def hold(self, size):
        """Have so many bytes wait for the peer."""
        self._tempDataLen = size


def test_client_is_cut_only_for_more_than_the_bytes_allowed_and_that_is_logged():
    said, now = [], [0.0]
    connections = Connections(Limits(100, 3, 5.0, 1000, 10_000, 5.0), lambda: now[0], said.append)
    few, more = Wrapper(1), Wrapper(2)
    for each in (few, more):
        assert connections.may_open("unix")
        connections.opened(each, "unix")
    few.hold(1000)
    more.hold(1001)
    connections.look()
    now[0] = 4.9
    connections.look()
    assert (few.aborted, more.aborted, said) == (False, False, [])
    now[0] = 5.0
    connections.look()
    assert (few.aborted, more.aborted) == (False, True)
    assert said == ["the connection of c (r) at unix is cut: it has read none of 1001 bytes for 5 s"]
    now[0] = 1000.0
    connections.look()
    assert not few.aborted
    assert connections.counters["not_read"] == 1
    few.hold(0)
    connections.look()
    few.hold(2000)
    connections.look()
    now[0] += 4.0
    few.dataBuffer, few.offset = b"x" * 2000, 10  # the kernel has taken something
    connections.look()
    now[0] += 4.0
    connections.look()
    assert not few.aborted


def test_no_more_than_three_chunks_are_on_their_way_to_a_client_and_half_of_the_bound_to_all():
    now, chunk = [0.0], (1 << 20) + (1 << 16)
    connections = Connections(Limits(100, 3, 5.0, 1000, 12 * chunk, 5.0), lambda: now[0], print)
    clients = {number: Wrapper(number) for number in (1, 2, 3)}
    for each in clients.values():
        connections.opened(each, "unix")
    assert [connections.has_room(1) for _ in range(4)] == [True, True, True, False]
    next(iter(connections)).arrived()
    assert connections.has_room(1)
    assert not connections.has_room(1)
    clients[2].hold(1001)
    assert [connections.has_room(2) for _ in range(2)] == [True, True]
    assert not connections.has_room(2)  # more than what may wait for it, and two chunks
    assert not connections.has_room(3)  # five are announced, and the sixth is more than half of what may wait for all
    assert connections.has_room(4)  # none of a client
    now[0] = 4.9
    assert not connections.has_room(1)
    now[0] = 5.0  # what did not come by now does not come
    assert connections.has_room(1)


def test_clients_that_read_nothing_do_not_hold_up_the_others():
    now, chunk = [0.0], (1 << 20) + (1 << 16)
    connections = Connections(Limits(100, 3, 5.0, 1000, 10 * chunk, 50.0), lambda: now[0], print)
    stuck, reading = Wrapper(1), Wrapper(2)
    for each in (stuck, reading):
        connections.opened(each, "unix")
    stuck.hold(5 * chunk)
    connections.look()
    assert not connections.has_room(2)
    now[0] = 1.0
    connections.look()
    assert connections.has_room(2)
    assert not connections.has_room(1)


def test_router_that_limits_connections_of_an_address_excepts_this_machine():
    said, now = [], [0.0]
    limits = Limits(100, 3, 5.0, 1000, 10_000, 5.0)
    connections = Connections(limits, lambda: now[0], said.append)
    opened = []
    for _ in range(3):
        assert connections.may_open("10.0.0.1")
        opened.append(Wrapper())
        connections.opened(opened[-1], "10.0.0.1")
        now[0] += 1.0
    for address in ("10.0.0.2", "127.0.0.1", "unix"):
        assert connections.may_open(address)
    # None of them has logged in: the oldest yields.
    assert connections.may_open("10.0.0.1")
    assert [each.aborted for each in opened] == [True, False, False]
    for each in connections:
        session = SimpleNamespace(_session_id=1, _authid="c", _authrole="r")
        each.wrapper.wrappedProtocol = SimpleNamespace(_session=session)
    assert not connections.may_open("10.0.0.1")
    assert connections.counters["refused"] == 1
    assert said[-1] == "a connection of 10.0.0.1 is refused: there are 3 connections of 10.0.0.1 already"
    now[0] += 100.0
    connections.look()
    assert [each.aborted for each in opened] == [True, False, False]
    opened[1].hold(2000)
    connections.look()
    now[0] += 6.0
    connections.look()
    assert [each.aborted for each in opened] == [True, True, False]
    assert connections.counters["not_read"] == 1


def test_process_of_the_router_gives_memory_back_and_raises_its_limits():
    """Crossbar's worker is a process that sisock does not start itself."""
    limits = dict.fromkeys(
        ("connections", "connections_per_address", "login_s", "unsent", "unsent_total", "unsent_s"), 1
    )
    code = (
        "import resource, threading; from autobahn.wamp.types import ComponentConfig; from sisock_hub.guard import Guard\n"
        f"Guard(ComponentConfig('realm', dict(base_uri='b', dead_after_s=5, limits={limits})))\n"
        "print([each.name for each in threading.enumerate()], resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    command = ["bash", "-c", 'ulimit -Sn 256; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert done.stdout.splitlines()[-1] == f"['MainThread', 'free memory'] {(hard, hard)}"


def test_limit_on_open_files_is_raised_for_every_command():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import resource, sys; from sisock import __main__; sys.argv[1:] = ['--help']\n"
        "try: __main__.main()\nfinally: print(resource.getrlimit(resource.RLIMIT_NOFILE), file=sys.stderr)"
    )
    command = ["bash", "-c", 'ulimit -Sn 256; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == str((hard, hard))
