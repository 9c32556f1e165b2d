"""Who has a name: the node that answers. One that is dead or hangs gives way, the same node takes its own name over."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from sisock.base import DataNodeServer
from sisock.consumer import BlockingConsumer
from sisock.errors import NameTaken
from sisock.testing.serving import Serving
from tests.site.proxy import Proxy


def kind(unique):
    class Node(DataNodeServer):
        name = unique

        def get_fields_blocking(self, start, end):
            return {}, {}

    return Node


@pytest.mark.parametrize("scheme", ["rs", "ws"])
def test_node_whose_network_was_cut_has_its_name_back(sisock_router, unique, scheme):
    site = sisock_router.site
    port = site.rawsocket_port if scheme == "rs" else site.router.port
    proxy = Proxy(port)
    access = sisock_router.access("server")
    path = "/ws" if scheme == "ws" else ""
    old = Serving(replace(access, url=f"{scheme}://127.0.0.1:{proxy.port}{path}"))
    new = Serving(replace(access, url=f"{scheme}://127.0.0.1:{port}{path}"))
    try:
        old.serve(kind(unique))
        proxy.freeze()
        began = time.monotonic()
        new.serve(kind(unique))
        assert time.monotonic() - began < 20.0
        with BlockingConsumer(sisock_router.access()) as consumer:
            assert consumer.status(unique)["name"] == unique
            assert [node.name for node in consumer.nodes()].count(unique) == 1
    finally:
        new.stop()
        proxy.close()
        old.stop()


def test_node_that_answers_keeps_its_name(sisock_router, unique):
    one, other = Serving(sisock_router.access("server")), Serving(sisock_router.access("server"))
    try:
        first = one.serve(kind(unique))
        session = first.session.session_id
        for _ in range(3):
            with pytest.raises(NameTaken):
                other.serve(kind(unique))
        assert first.session.session_id == session
    finally:
        one.stop()
        other.stop()


def test_node_that_hangs_gives_way_and_does_not_come_back(sisock_router, unique, tmp_path):
    access = sisock_router.access("server")
    environment = {
        **os.environ,
        "WAMP_URI": access.url,
        "WAMP_USER": access.user,
        "WAMP_SECRET": access.secret,
        "REALM": access.realm,
    }
    code = f"import sisock; sisock.serve({unique!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    new = Serving(access)
    try:
        with BlockingConsumer(sisock_router.access()) as consumer:
            deadline = time.monotonic() + 60.0
            while unique not in [node.name for node in consumer.nodes()]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            connection = new.serve(kind(unique))
            assert time.monotonic() - began < 20.0
            session = connection.session.session_id
            process.send_signal(signal.SIGCONT)
            time.sleep(2.0)
            assert connection.session.session_id == session
            assert consumer.status(unique)["name"] == unique
    finally:
        process.kill()
        process.wait()
        new.stop()


def test_same_node_takes_its_name_over_at_once(sisock_router, unique):
    """Two sessions of one instance: the second is what a node has that lost its first, which the router did not notice."""
    proxy = Proxy(sisock_router.site.rawsocket_port)
    access = replace(sisock_router.access("server"), url=f"rs://127.0.0.1:{proxy.port}")
    old, new = Serving(access), Serving(sisock_router.access("server"))

    def same(config):
        config.extra["instance"] = "of one node"
        return kind(unique)(config)

    try:
        old.serve(same)
        proxy.freeze()
        began = time.monotonic()
        new.serve(same)
        assert time.monotonic() - began < 4.0  # a probe alone takes 5 s
    finally:
        new.stop()
        proxy.close()
        old.stop()
