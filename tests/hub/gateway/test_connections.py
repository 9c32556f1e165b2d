"""The gateway's HTTP server under abuse before any login: a process of its own, without a router."""

import asyncio
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress

import httpx
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sisock.cli.making import make_site
from sisock.site import GatewaySecrets, GatewaySettings
from sisock.testing import StepClock
from sisock.testing.fixtures import free_ports
from sisock.times import SystemClock
from sisock_hub.gateway import passwords as passwords_module
from sisock_hub.gateway.connections import Connections
from sisock_hub.gateway.passwords import Passwords
from sisock_hub.gateway.signing import Signer

MB = 1_000_000


class Process:
    """A gateway in a process of its own."""

    def __init__(self, port, process, log):
        self.port, self.process, self.log = port, process, log

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20.0)

    def get(self, path="/healthz", timeout=30.0):
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=timeout)

    def count(self, why):
        (line,) = [line for line in self.get("/metrics").text.splitlines() if f'why="{why}"' in line]
        return float(line.split()[1])

    @property
    def memory(self):
        """Bytes that it has had at the most."""
        with open(f"/proc/{self.process.pid}/status") as status:
            (line,) = [line for line in status if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def flood(self, begin, piece, size, *, answer=None):
        """Send until so many bytes were sent, or the gateway takes no more; return how many it took.

        What answers the beginning, if anything is to, is read.
        """
        sent = 0
        with self.connect() as connection:
            connection.sendall(begin)
            if answer is not None:
                assert connection.recv(1000).startswith(answer)
            connection.settimeout(2.0)
            with suppress(OSError):
                while sent < size:
                    sent += connection.send(piece)
        return sent


@contextmanager
def gateway(folder, settings="{}"):
    make_site(folder)
    port, router = free_ports(2)
    path = folder / "site.yaml"
    path.write_text(f"router: {{port: {router}}}\ngateway: {{port: {port}, {settings.strip('{}')}}}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sisock", "gateway", "--site", str(path)], stdout=log, stderr=log
        )
    found = Process(port, process, folder / "log")
    try:
        deadline = time.monotonic() + 60.0
        while True:
            try:
                found.get()
            except httpx.TransportError:
                assert process.poll() is None, found.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                break
        yield found
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("gateway"), "{request_timeout: 2 s}") as found:
        yield found


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nx: ", b"y" * 10_000),
        (b"GET /", b"y" * 10_000),
        (
            b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"x: " + b"y" * 1000 + b"\r\n",
        ),
        (b"GET /api/v1/live HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
    ],
    ids=["headers", "one header", "URL", "trailers", "websocket"],
)
def test_request_without_end_is_cut_and_takes_no_memory(running, begin, piece):
    before = running.memory
    assert running.flood(begin, piece, 84 * MB) < 20 * MB  # what the sockets hold
    assert running.memory - before < 20 * MB
    assert running.get().status_code == 200
    assert running.count("headers_refused") > 0


def test_pipelined_requests_whose_answers_are_not_read_wait_in_the_client(running):
    before = running.memory
    request = b"GET /console/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert running.flood(b"", request * 1000, 42 * MB) < 20 * MB  # what the sockets hold
    assert running.memory - before < 20 * MB


_UPGRADE = (
    b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_pings_of_a_websocket_whose_pongs_are_not_read_wait_in_the_client(running):
    before = running.memory
    ping = b"\x89\xfd" + bytes(4) + b"x" * 125
    assert running.flood(_UPGRADE, ping * 1000, 84 * MB, answer=b"HTTP/1.1 101 ") < 20 * MB
    assert running.memory - before < 20 * MB


def test_message_of_a_websocket_has_a_hundred_fragments_at_the_most(running):
    address = f"ws://127.0.0.1:{running.port}/api/v1/live"
    with connect(address, open_timeout=30) as client:
        client.send(["{", *[" "] * 98, "}"])
        assert "bad_request" in client.recv(timeout=30.0)
    with connect(address, open_timeout=30) as client:
        with suppress(ConnectionClosed):  # it may be cut before all of them are sent
            client.send(["{", *[" "] * 99, "}"])
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=30.0)


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx",
    ],
    ids=["nothing", "headers", "body"],
)
def test_connection_whose_request_does_not_come_is_cut(running, begin):
    before = running.count("requests_timed_out")
    with running.connect() as connection:
        connection.sendall(begin)
        with suppress(ConnectionResetError):
            while connection.recv(1000):
                pass
    assert running.count("requests_timed_out") > before


def test_websocket_stays_open_for_longer_than_a_request_may_take(running):
    with connect(f"ws://127.0.0.1:{running.port}/api/v1/live", open_timeout=30) as client:
        time.sleep(4.0)  # twice the time of a request
        client.send("{}")
        assert "bad_request" in client.recv(timeout=30.0)


def test_new_clients_are_served_while_idle_connections_use_up_the_bound(tmp_path):
    with gateway(tmp_path, "{connections: 30, connections_per_address: 20}") as found:
        idle = [found.connect() for _ in range(50)]
        try:
            assert found.get(timeout=10.0).status_code == 200
            assert found.count("idle_cut") >= 30
        finally:
            for connection in idle:
                connection.close()
    assert found.log.read_text().count("idle connections to the gateway: ") <= 2


def test_clients_that_never_read_are_cut_before_their_answers_fill_the_memory(tmp_path):
    with gateway(tmp_path, "{unsent_bytes: 2 MB, unread_timeout: 3600 s}") as found:
        before = found.memory
        clients = [found.connect() for _ in range(100)]
        try:
            for client in clients:
                client.sendall(b"GET /console/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
            deadline = time.monotonic() + 60.0
            while not found.count("unread_cut"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert len(found.get("/console/plotly.min.js").content) > 1 * MB  # who reads gets all
            assert found.memory - before < 60 * MB
        finally:
            for client in clients:
                client.close()
    assert found.log.read_text().count("answers of the gateway that are not read: ") == 1


def test_client_that_reads_nothing_for_the_time_allowed_is_cut(tmp_path):
    with gateway(tmp_path, "{unread_timeout: 1 s}") as found, found.connect() as client:
        client.sendall(b"GET /console/plotly.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 60.0
        while found.count("unread_cut") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@asynccontextmanager
async def serving(app):
    """Serve an app with the protocols of the gateway, and provide them with the port."""
    connections = Connections(GatewaySettings(), SystemClock())
    port = free_ports(1)[0]
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="off", **connections.protocols())
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(30.0):
            while not server.started:
                await asyncio.sleep(0.01)
        yield connections, port
    finally:
        server.force_exit = server.should_exit = True
        await task


def test_request_that_becomes_invalid_while_it_is_answered_is_cut():
    """No answer can say so any more."""
    ended = asyncio.Event()

    async def app(_scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await receive()  # which returns once the client has left, or has sent all
        ended.set()

    async def attack():
        async with serving(app) as (connections, port), asyncio.timeout(30.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            await reader.readuntil(b"x\r\n")
            writer.write(b"no length of a chunk\r\n")
            assert await reader.read() == b""
            await ended.wait()
            assert connections.counters["headers_refused"] == 1
            writer.close()

    asyncio.run(attack())


def test_what_comes_after_an_invalid_request_is_not_kept():
    """Where a connection is closed over TLS, what the client has sent meanwhile still arrives."""

    class Closing(asyncio.Transport):
        def close(self):
            pass

        def write(self, _data):
            pass

        def is_closing(self):
            return False

        def get_write_buffer_size(self):
            return 0

    async def attack():
        connections = Connections(GatewaySettings(), SystemClock())
        config = uvicorn.Config(None, log_config=None, lifespan="off", **connections.protocols())
        config.load()
        protocol = config.http_protocol_class(config=config, server_state=uvicorn.server.ServerState(), app_state={})
        protocol.connection_made(Closing({"peername": ("10.0.0.1", 1), "sockname": ("127.0.0.1", 2)}))
        for _ in range(1000):
            protocol.data_received(b"\0" * 100_000)
        assert connections.counters["headers_refused"] == 1
        assert len(protocol.conn.trailing_data[0]) <= 100_000
        protocol.connection_lost(None)

    asyncio.run(attack())


def test_outage_of_clients_that_are_cut_is_logged_once_and_ends_when_it_is_calm(caplog):
    clock = StepClock()
    connections = Connections(GatewaySettings(), clock)
    for _ in range(3):
        connections.cut_short("idle_cut", "too many")
        clock.step(29.9)
        connections.look()
    assert connections.outages.health().state == "degraded"
    clock.step(0.1)
    connections.look()
    assert connections.outages.health().state == "ok"
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["idle connections to the gateway"] * 2
    assert connections.counters["idle_cut"] == 3


@pytest.fixture
def users(tmp_path, monkeypatch):
    monkeypatch.setattr(passwords_module, "_PENALTY_S", 3600.0)
    secrets = GatewaySecrets.model_validate(
        {"users": {"ada": {"password": "correct horse"}, "bob": {"password": "battery staple"}}}
    )
    return Passwords(secrets, Signer(tmp_path))


@pytest.mark.parametrize("name", ["ada", "nobody"])
def test_storm_of_wrong_passwords_slows_down_its_own_address_and_account_only(users, name):
    async def storm():
        wrong = [asyncio.create_task(users.hold(name, f"wrong {i}", "10.0.0.1")) for i in range(100)]
        async with asyncio.timeout(10.0):
            while sum(task.done() for task in wrong) < 80:
                await asyncio.sleep(0.01)
            assert await users.hold("ada", "correct horse", "10.0.0.2")
            assert await users.hold("bob", "battery staple", "10.0.0.1")
        for task in wrong:
            task.cancel()
        ends = await asyncio.gather(*wrong, return_exceptions=True)
        assert sum(isinstance(end, Exception) for end in ends) == 80  # refused as too many

    asyncio.run(storm())
