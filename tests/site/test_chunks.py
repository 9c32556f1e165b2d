"""Chunks through a real router when something goes wrong: callers, routers and answers that break off or do not fit."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from twisted.internet.defer import CancelledError

from sisock import DataNodeServer
from sisock.cli.certificates import make_certificates
from sisock.consumer import BlockingConsumer, in_reactor
from sisock.errors import NoRouter, TooLarge
from sisock.testing.fixtures import RunningRouter
from sisock.testing.serving import Serving
from tests.site.gateway import wait
from tests.site.links import opened_link
from tests.site.proxy import Proxy

N = 2_000_000


class Served:
    """A node of one field with its sessions, of which it should never need a second one."""

    def __init__(self, serve, name, values):
        self.name, self.sessions = name, []
        t = np.arange(float(len(values)))
        kind = "string" if values.dtype.kind == "O" else "number"

        class Large(DataNodeServer):
            allowance_bytes = 200_000_000

            def get_fields_blocking(self, start, end):
                about = {"description": None, "timeline": "tl", "type": kind, "units": None}
                return {"x": about}, {"tl": {"interval": 1.0, "field": ["x"]}}

            def get_data_blocking(self, field, start, end, min_stride=None):
                return {"data": {"x": values}, "timeline": {"tl": {"t": t, "finalized_until": 1.0}}}

        Large.name = name

        def make(config):
            self.sessions.append(Large(config))
            return self.sessions[-1]

        serve(make)

    def becomes_idle(self):
        return within(10.0, lambda: self.sessions[-1].reply_sender.is_idle)

    def is_back(self):
        return within(20.0, lambda: len(self.sessions) > 1 and self.sessions[-1].added)


def within(seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def large(serve, name):
    return Served(serve, name, np.arange(float(N)))


def test_node_goes_on_when_callers_vanish_in_the_middle(sisock_router, sisock_serve, unique):
    node = large(sisock_serve, unique)
    for after in (1, 7, 20):
        proxy = Proxy(sisock_router.site.rawsocket_port)
        access = replace(sisock_router.access(), url=f"rs://127.0.0.1:{proxy.port}")
        with BlockingConsumer(access) as vanishing:

            def vanish(done, _total, after=after, proxy=proxy):
                if done > after * 2**20:
                    proxy.close()

            with pytest.raises(NoRouter, match="lost the router"):
                vanishing.data(unique, ["x"], 1.0, 0.0, progress=vanish)
    with BlockingConsumer(sisock_router.access()) as consumer:
        assert len(consumer.data(unique, ["x"], 1.0, 0.0)["x"]) == N
        assert consumer.status(unique)["counters"]["errors"] == 0
    assert len(node.sessions) == 1
    assert node.becomes_idle()


def test_call_that_is_cancelled_ends_the_chunks_and_gives_its_turn_back(sisock_router, sisock_serve, unique):
    node = large(sisock_serve, unique)
    with BlockingConsumer(sisock_router.access()) as consumer, opened_link(sisock_router.access()) as link:

        def ask():
            heard = []

            def progress(chunk):
                heard.append(chunk)
                if len(heard) == 3:
                    asking.cancel()

            procedure = f"consumer.{unique}.get_data"
            asking = link.call(30.0, procedure, ["x"], 1.0, 0.0, encoding="packed", on_progress=progress)
            return asking

        for _ in range(3):  # more than there are turns
            with pytest.raises(CancelledError):
                in_reactor(ask).result(30.0)
        assert len(consumer.data(unique, ["x"], 1.0, 0.0)["x"]) == N
    assert len(node.sessions) == 1
    assert node.becomes_idle()


def test_caller_who_asks_for_much_at_once_leaves_threads_to_others(sisock_router, sisock_serve, unique):
    release, reading, most, lock = threading.Event(), 0, 0, threading.Lock()

    class Slow(DataNodeServer):
        name = unique

        def get_fields_blocking(self, start, end):
            return {}, {}

        def get_data_blocking(self, field, start, end, min_stride=None):
            nonlocal reading, most
            with lock:
                reading += 1
                most = max(most, reading)
            release.wait(20.0)
            with lock:
                reading -= 1
            return {"data": {}, "timeline": {}}

    sisock_serve(Slow)
    with (
        BlockingConsumer(sisock_router.access()) as greedy,
        BlockingConsumer(sisock_router.access()) as other,
        ThreadPoolExecutor(40) as threads,
    ):
        requests = [threads.submit(greedy.data, unique, ["x"], 1.0, 0.0) for _ in range(40)]
        try:
            assert within(10.0, lambda: reading == 5)
            assert other.fields(unique) == {}
            assert not any(request.done() for request in requests)
        finally:
            release.set()
        for request in requests:
            request.result(30.0)
    assert most == 5


def test_texts_of_any_length_arrive_whole(sisock_router, sisock_serve, unique):
    texts = np.full(50_000, "", object)
    texts[20_000:20_025] = "ä" * 400_000  # all of it in rows that are next to each other: 20 MB
    texts[-3:] = None
    Served(sisock_serve, unique, texts)
    with BlockingConsumer(sisock_router.access()) as consumer:
        assert consumer.data(unique, ["x"], 1.0, 0.0)["x"].tolist() == texts.tolist()


@pytest.mark.parametrize("scheme", ["unix", "ws"])
def test_row_that_no_message_carries_is_too_large_and_ends_no_session(sisock_router, sisock_serve, unique, scheme):
    texts = np.full(1000, "a", object)
    texts[500] = "b" * 20_000_000
    node = Served(sisock_serve, unique, texts)
    access = sisock_router.access()
    if scheme == "ws":
        access = replace(access, url=f"ws://127.0.0.1:{sisock_router.site.router.port}/ws")
    with BlockingConsumer(access) as consumer:
        with pytest.raises(TooLarge):
            consumer.data(unique, ["x"], 1.0, 0.0)
        assert consumer.status(unique)["counters"]["too_large"] == 1
    assert len(node.sessions) == 1
    assert node.becomes_idle()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A router that carries messages of 64 KiB, with TLS."""
    folder = tmp_path_factory.mktemp("narrow")
    make_certificates(folder / "tls", ["router.example"])
    router = RunningRouter(folder, extra=", max_message_size: 65536, tls: {}")
    router.start()
    yield router
    router.stop()


@pytest.mark.parametrize("scheme", ["wss", "rss", "unix"])
def test_chunks_fit_messages_however_small(narrow, unique, scheme):
    site = narrow.site
    url = {
        "wss": f"wss://localhost:{site.router.port}/ws",
        "rss": f"rss://localhost:{site.rawsocket_port}",
        "unix": narrow.access().url,
    }[scheme]
    serving = Serving(replace(narrow.access("server"), url=url))
    try:
        node = large(serving.serve, unique)
        with BlockingConsumer(replace(narrow.access(), url=url)) as consumer:
            np.testing.assert_array_equal(consumer.data(unique, ["x"], 1.0, 0.0)["x"], np.arange(float(N)))
        assert len(node.sessions) == 1
    finally:
        serving.stop()


PINNED = """
import sys

from autobahn.twisted.wamp import ApplicationRunner
from OpenSSL import crypto
from twisted.internet._sslverify import OpenSSLCertificateAuthorities
from twisted.internet.ssl import CertificateOptions

import sisock


class node(sisock.base.DataNodeServer):
    name = "published-pinned"

    def get_fields(self, start, end):
        return {}, {}


certificate = crypto.load_certificate(crypto.FILETYPE_PEM, open(sys.argv[1]).read())
options = CertificateOptions(trustRoot=OpenSSLCertificateAuthorities([certificate]))
url = "wss://%s:%d/ws" % (sisock.base.SISOCK_HOST, sisock.base.SISOCK_PORT)
ApplicationRunner(url, sisock.base.REALM, ssl=options).run(node)
"""


def test_published_script_that_pins_a_certificate_file_takes_our_authority(narrow):
    site, access = narrow.site, narrow.access("server")
    reached = {"CROSSBAR_HOST": "127.0.0.1", "CROSSBAR_TLS_PORT": str(site.router.port)}
    environment = {**os.environ, **reached, "WAMP_USER": access.user, "WAMP_SECRET": access.secret}
    command = [sys.executable, "-c", PINNED, str(site.folder / "tls" / "ca.pem")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as node:
        try:
            with BlockingConsumer(narrow.access()) as consumer:
                wait(lambda: "published-pinned" in [info.name for info in consumer.nodes()])
                assert consumer.fields("published-pinned") == {}
        finally:
            node.kill()


def test_router_that_dies_in_the_middle_is_told_as_such_and_the_next_try_is_whole(narrow, unique):
    serving = Serving(narrow.access("server"))
    try:
        node = large(serving.serve, unique)
        with BlockingConsumer(narrow.access()) as consumer:

            def kill(done, _total):
                if done > 2**22 and "router" in narrow.processes:
                    narrow.kill("router")

            with pytest.raises(NoRouter, match="lost the router"):
                consumer.data(unique, ["x"], 1.0, 0.0, progress=kill)
            narrow.start("router")
            assert node.is_back()
            assert len(consumer.data(unique, ["x"], 1.0, 0.0)["x"]) == N
    finally:
        serving.stop()
