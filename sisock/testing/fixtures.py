"""Pytest fixtures with a real router; a plugin that pytest loads through its entry point."""

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sisock.times import wait_until

if TYPE_CHECKING:
    from sisock.access import Access
    from sisock.site import Site
    from sisock.testing.stepped import SteppedSite

# Seconds within which a router must be ready; Crossbar needs some 5 on an idle core.
_BOOT_S = 60.0
# Below the ports that Linux assigns to outgoing connections.
_PORTS = range(10_000, 32_768)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the command line name the site file whose nodes `sisock.testing.contract` tests."""
    group = parser.getgroup("sisock")
    group.addoption("--sisock-site", metavar="FILE", help="site file whose nodes sisock.testing.contract tests")


class RunningRouter:
    """A router and a hub in separate processes.

    Attributes
    ----------
    site : sisock.site.Site
    processes : dict of str to subprocess.Popen
        The running processes, by name.
    """

    def __init__(self, folder: Path, realm: str = "test_realm", extra: str = "") -> None:
        from sisock.site import ROLES, load_site

        port, rawsocket_port = free_ports(2)
        (folder / "site.yaml").write_text(
            f"realm: {realm}\nrouter: {{port: {port}, rawsocket_port: {rawsocket_port}{extra}}}\n"
        )
        path = folder / "secrets.yaml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            for role in ROLES:
                file.write(f"{role}: {{user: {role}, secret: {secrets.token_hex(16)}}}\n")
            file.write(f"gateway: {{secret: {secrets.token_hex(16)}}}\n")
        self.site: Site = load_site(folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def access(self, role: str = "consumer") -> "Access":
        """Return the access to the router in that role."""
        return self.site.access(role)

    def start(self, *parts: str) -> None:
        """Start ``router``, ``hub``, or both, and wait until they answer."""
        for part in parts or ("router", "hub"):
            log = (self.site.folder / f"{part}.log").open("ab")
            self.processes[part] = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "sisock", part, "--site", str(self.site.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            log.close()
        self.wait_until_ready(hub="hub" in self.processes)

    def wait_until_ready(self, *, hub: bool = True) -> None:
        """Block until the router accepts a consumer and, with `hub`, the hub answers."""
        from sisock.consumer import BlockingConsumer
        from sisock.errors import SisockError

        failures: list[SisockError] = []

        def is_ready() -> bool:
            try:
                with BlockingConsumer(self.access(), patience_s=1.0, timeout_s=2.0) as consumer:
                    if hub:
                        consumer.nodes()
            except SisockError as error:
                failures.append(error)
                return False
            return True

        if not wait_until(is_ready, _BOOT_S, every_s=0.05):
            raise TimeoutError(f"no router after {_BOOT_S} s: {failures[-1]}; {self.log()}") from failures[-1]

    def log(self) -> str:
        """Return the logs of the processes."""
        return "\n".join(file.read_text() for file in self.site.folder.glob("*.log"))

    def kill(self, part: str) -> None:
        """Kill a process and its children, as ``kill -9`` does."""
        process = self.processes.pop(part)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # Its children end a moment later; until then the socket still accepts connections.
        if part == "router":
            wait_until(lambda: not self._accepts(), every_s=0.005)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(os.fspath(self.site.socket_path)) == 0

    def stop(self) -> None:
        """Stop all processes and wait for them."""
        for process in self.processes.values():
            process.terminate()
        for part in list(self.processes):
            process = self.processes[part]
            with suppress(subprocess.TimeoutExpired):  # killed with its group below
                process.wait(5.0)
            try:
                self.kill(part)
            except ProcessLookupError:
                self.processes.pop(part, None)


def free_ports(number: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Return free ports of the loopback interface, of TCP by default.

    They lie below those that the kernel assigns to outgoing connections. They are random, so that concurrent tests
    rarely choose the same one.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if len(found) == number:
            break
        with socket.socket(socket.AF_INET, kind) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


@pytest.fixture(scope="session")
def sisock_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRouter]:
    """Provide a real router and hub, for the whole test session; skip the test if they are not installed."""
    from sisock.errors import MissingExtra
    from sisock.supervisor import check_installed

    router = RunningRouter(tmp_path_factory.mktemp("router"))
    try:
        check_installed(router.site)
    except MissingExtra as error:
        if "router" in os.environ.get("SISOCK_TEST_REQUIRE", ""):
            pytest.fail(f"SISOCK_TEST_REQUIRE asks for a router: {error.message}")
        pytest.skip(error.message)
    try:
        router.start()
        yield router
    finally:
        router.stop()


@pytest.fixture
def sisock_serve(sisock_router: RunningRouter) -> Iterator[Callable[..., Any]]:
    """Provide a function that serves a Node, or a DataNodeServer subclass, in this process until the test ends.

    It returns when the hub knows the node.
    """
    from sisock.testing.serving import Serving

    serving = Serving(sisock_router.access("server"))
    try:
        yield serving.serve
    finally:
        serving.stop()


@pytest.fixture
def sisock_stepped_site(tmp_path: Path) -> "Iterator[SteppedSite]":
    """Provide a site in this process, with a stepped clock; it needs no Crossbar."""
    from sisock.testing.stepped import SteppedSite

    site = SteppedSite(tmp_path)
    try:
        site.start()
        yield site
    finally:
        site.stop()
