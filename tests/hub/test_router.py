"""The router's configuration, checked by Crossbar itself, and its TLS by Python's."""

import hashlib
import importlib.util
import json
import os
import queue
import socket
import ssl
import stat
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import PublishOptions, SubscribeOptions
from OpenSSL import SSL
from twisted.internet._sslverify import OpenSSLCertificateAuthorities
from twisted.internet.ssl import Certificate, CertificateOptions

from sisock.cli.certificates import make_certificates
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import BadRequest, NoRouter, Refused, TimedOut
from sisock.site import Site, load_secrets, load_site
from sisock.testing.fixtures import RunningRouter, free_ports
from sisock.wamp.connection import Connection
from sisock.wamp.session import Session
from sisock_hub.router import configuration, write_configuration
from tests.disks import fill_disk

CONTAINER = Path(__file__).parents[2] / "crossbar-config"
OURS = {"SISOCK_SERVER_SECRET": "one", "SISOCK_CONSUMER_SECRET": "two"}


def crossbar_check(folder):
    return subprocess.run(
        [sys.executable, "-c", "from crossbar import run; run()", "check", "--cbdir", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "site.yaml").write_text("realm: lab\nbase_uri: org.lab\nrouter: {port: 9000, heartbeat: 7}\n")
    return load_site(tmp_path)


def test_configuration_is_what_crossbar_accepts_and_only_its_owner_reads(site):
    folder = write_configuration(site)
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert crossbar_check(folder).returncode == 0


def test_heartbeats_timeouts_and_limits_are_on(site):
    worker = configuration(site, load_secrets(site.secrets_path))["workers"][0]
    web, raw, unix = worker["transports"]
    options = web["paths"]["ws"]["options"]
    assert options["auto_ping_interval"] == 7000
    for key in ("auto_ping_timeout", "open_handshake_timeout", "max_message_size", "max_frame_size"):
        assert options[key] > 0
    for transport in (raw, unix):
        assert transport["options"]["max_message_size"] == 16 * 2**20
    assert [t["endpoint"].get("port") for t in (web, raw)] == [9000, 9001]
    assert worker["realms"][0]["name"] == "lab"
    assert {p["uri"] for p in worker["realms"][0]["roles"][1]["permissions"]} == {"org.lab.consumer."}


def test_names_and_secrets_of_the_roles_are_those_of_the_site(site, monkeypatch):
    monkeypatch.setenv("SISOCK_SERVER_USER", "their-server")
    auth = configuration(site, load_secrets(site.secrets_path))["workers"][0]["transports"][1]["auth"]
    assert auth["wampcra"]["users"] == {
        "their-server": {"secret": "one", "role": "server"},
        "consumer": {"secret": "two", "role": "consumer"},
    }


def fill(environment):
    spec = importlib.util.spec_from_file_location("fill", CONTAINER / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fill(json.loads((CONTAINER / "config.json").read_text()), environment)


def test_containers_configuration_is_in_step_and_holds_no_secret():
    assert json.loads((CONTAINER / "config.json").read_text()) == configuration(load_site(CONTAINER), None)


def test_containers_configuration_passes_crossbars_check_only_when_filled(tmp_path):
    (tmp_path / "config.json").write_text((CONTAINER / "config.json").read_text())
    assert crossbar_check(tmp_path).returncode != 0
    (tmp_path / "config.json").write_text(json.dumps(fill(OURS | {"REALM": "observatory"})))
    done = crossbar_check(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    worker = json.loads((tmp_path / "config.json").read_text())["workers"][0]
    assert worker["realms"][0]["name"] == "observatory"
    for listening in (worker["transports"][0]["paths"]["ws"], *worker["transports"][1:]):
        assert listening["auth"]["wampcra"]["users"]["consumer"] == {"secret": "two", "role": "consumer"}


def test_container_does_not_start_without_secrets():
    with pytest.raises(SystemExit, match="set SISOCK_SERVER_SECRET"):
        fill({})


def test_certificates_are_made_once_and_keys_are_their_owners(tmp_path):
    make_certificates(tmp_path / "tls", ["lab.example", "10.1.2.3"])
    for name in ("ca.key", "server.key"):
        assert stat.S_IMODE((tmp_path / "tls" / name).stat().st_mode) == 0o600
    with pytest.raises(BadRequest, match="exists already"):
        make_certificates(tmp_path / "tls")


@pytest.fixture(scope="module")
def tls_router(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder / "tls", ["router.example"])
    router = RunningRouter(folder, extra=", tls: {}")
    try:
        router.start()
        yield router
    finally:
        router.stop()


@pytest.mark.parametrize("scheme", ["wss", "rss"])
def test_tls_is_verified_by_the_sites_authority(tls_router, scheme, tmp_path):
    site = tls_router.site
    port = site.router.port if scheme == "wss" else site.rawsocket_port
    path = "/ws" if scheme == "wss" else ""
    access = replace(tls_router.access(), url=f"{scheme}://localhost:{port}{path}")
    with BlockingConsumer(access) as consumer:
        assert consumer.nodes() == []
    make_certificates(tmp_path / "other")
    for ca in (None, tmp_path / "other" / "ca.pem"):
        with (
            pytest.raises(Refused, match="is not trusted: its authority is not known"),
            BlockingConsumer(replace(access, ca=ca)),
        ):
            pass
    plain = replace(access, url=access.url.replace("ss:", "s:"))
    with pytest.raises((NoRouter, TimedOut)), BlockingConsumer(plain, patience_s=1.0):
        pass


def test_certificate_for_another_host_is_refused(tls_router, tmp_path):
    make_certificates(tmp_path, [])
    # A name that resolves to this machine and that is not in the certificate.
    access = replace(tls_router.access(), url=f"wss://127.0.0.2:{tls_router.site.router.port}/ws")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.2", tls_router.site.router.port)) == 0:
            with pytest.raises(Refused, match="not made for this host"), BlockingConsumer(access):
                pass
        else:
            with pytest.raises(NoRouter), BlockingConsumer(access, patience_s=1.0):
                pass


@pytest.mark.parametrize(("pinned", "accepted"), [("ca.pem", True), ("server.pem", False)])
def test_file_that_published_clients_trust_is_the_authority_and_not_the_server(tls_router, pinned, accepted):
    """They make Twisted trust one certificate, that of a file; docs/published.md says which it is to be here."""
    certificate = Certificate.loadPEM((tls_router.site.router.tls.ca.parent / pinned).read_bytes())
    context = CertificateOptions(trustRoot=OpenSSLCertificateAuthorities([certificate.original])).getContext()
    with socket.create_connection(("127.0.0.1", tls_router.site.router.port), 5.0) as plain:
        plain.setblocking(True)
        secure = SSL.Connection(context, plain)
        secure.set_tlsext_host_name(b"localhost")
        secure.set_connect_state()
        if accepted:
            secure.do_handshake()
        else:
            with pytest.raises(SSL.Error, match="certificate verify failed"):
                secure.do_handshake()
    said = " ".join((Path(__file__).parents[2] / "docs" / "published.md").read_text().split())
    assert "Give them a copy of this site's `tls/ca.pem` under that name" in said
    assert "`tls/server.pem` is not a substitute" in said


@pytest.mark.parametrize("name", ["localhost", "router.example"])
def test_pythons_own_tls_accepts_the_certificate(tls_router, name):
    site = tls_router.site
    context = ssl.create_default_context(cafile=site.router.tls.ca)
    with (
        socket.create_connection(("127.0.0.1", site.router.port), 5.0) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        assert secure.version() in ("TLSv1.2", "TLSv1.3")
    with socket.create_connection(("127.0.0.1", site.router.port), 5.0) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="elsewhere.example")


def test_taken_port_is_told_in_one_line(tls_router, tmp_path):
    site = tls_router.site
    (tmp_path / "site.yaml").write_text(f"router: {{port: {site.router.port}, rawsocket_port: {site.rawsocket_port}}}")
    done = subprocess.run(
        [sys.executable, "-m", "sisock", "router"],
        cwd=tmp_path,
        env={**os.environ, **OURS},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {site.router.port} is taken by another program" in done.stderr


def test_door_for_ocs_leads_to_observatory_and_nowhere_else(tmp_path):
    """As OCS agents and clients come in: without a login, and by HTTP."""
    (port,) = free_ports(1)
    router = RunningRouter(tmp_path, extra=f", ocs: {{port: {port}}}")
    anonymous = replace(router.site.access(), url=f"ws://127.0.0.1:{port}/ws", user="", secret="")
    got = queue.Queue()

    class Anonymous(Session):
        def onConnect(self):
            self.join(self.access.realm, ["anonymous"])

    def joined(access, kind):
        there = threading.Event()

        def make(config):
            session = kind(config)
            session.on("ready", lambda *_: there.set())
            return session

        connection = in_reactor(lambda: connected(access, make)).result(10.0)
        assert there.wait(60.0), connection.trouble
        return connection

    def connected(access, make):
        connection = Connection(access, make)
        connection.start()
        return connection

    def called(session, *args):
        return in_reactor(lambda: session.call(*args)).result(10.0)

    try:
        router.start()
        agent, node = joined(anonymous, Anonymous), joined(router.site.access("server"), Session)
        topic = "observatory.fake.feeds.temperatures"
        wild = SubscribeOptions(match="wildcard")
        in_reactor(lambda: node.session.subscribe(got.put, "observatory..feeds.", wild)).result(10.0)
        in_reactor(lambda: agent.session.register(lambda a, b: a + b, "observatory.fake.add")).result(10.0)
        told = PublishOptions(acknowledge=True)
        in_reactor(lambda: agent.session.publish(topic, ["hello"], options=told)).result(10.0)
        assert got.get(timeout=60.0) == ["hello"]
        body = json.dumps({"procedure": "observatory.fake.add", "args": [1, 2]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/call", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60.0) as answer:
            assert json.loads(answer.read())["args"] == [3]
        base = router.site.base_uri
        for procedure in (f"{base}.consumer.get_data_node", "wamp.session.list"):
            with pytest.raises(ApplicationError, match="not_authorized|not authorized"):
                called(agent.session, procedure)
        with pytest.raises(ApplicationError, match="not_authorized|not authorized"):
            in_reactor(lambda: agent.session.subscribe(got.put, f"{base}.consumer.x.feed.y")).result(10.0)
        for connection in (agent, node):
            in_reactor(connection.stop).result(10.0)
    finally:
        router.stop()


def test_router_and_hub_start_on_a_full_disk(tmp_path, small):
    folder = tmp_path / "site"
    folder.mkdir()
    router = RunningRouter(folder)
    with router.site.path.open("a") as file:
        file.write(f"state: {small / 'state'}\n")
    router.site = load_site(folder)
    write_configuration(router.site)  # it ran before
    filler = fill_disk(small)
    try:
        router.start()
        with BlockingConsumer(router.access()) as consumer:
            assert consumer.nodes() == []
        assert "No space left on device" in router.log()
        (spare,) = Path("/dev/shm").glob(f"sisock-router-{os.getuid()}-{_digest(router.site)}")
        assert stat.S_IMODE(spare.stat().st_mode) == 0o700
        assert stat.S_IMODE((spare / "config.json").stat().st_mode) == 0o600
    finally:
        router.stop()
    filler.unlink()
    assert write_configuration(router.site) == small / "state" / "router"
    assert not spare.exists()


def _digest(site):
    return hashlib.sha256(os.fsencode(site.path)).hexdigest()[:12]


def test_folder_that_somebody_else_may_write_to_does_not_get_the_secrets(tmp_path, small, monkeypatch):
    (small / "site.yaml").write_text("realm: lab\nbase_uri: org.lab\nrouter: {port: 9000}\n")
    monkeypatch.setenv("SISOCK_SERVER_SECRET", "one")
    monkeypatch.setenv("SISOCK_CONSUMER_SECRET", "two")
    site = load_site(small)
    fill_disk(small)
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr("sisock_hub.router._SPARE", (first, second))
    name = f"sisock-router-{os.getuid()}-{_digest(site)}"
    for parent in (first, second):
        parent.mkdir()
    (first / name).mkdir(mode=0o777)
    (first / name).chmod(0o777)
    assert write_configuration(site) == second / name
    assert list((first / name).iterdir()) == []
    (second / name / "config.json").unlink()
    (second / name).rmdir()
    (second / name).symlink_to(tmp_path)
    with pytest.raises(BadRequest, match="cannot be written to, and neither can"):
        write_configuration(site)
