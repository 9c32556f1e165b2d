"""The site that faults are injected into: every part a process of its own, nodes connected through proxies."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil

from sisock.access import Access
from sisock.consumer import BlockingConsumer
from sisock.fields import as_batch
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.site import ROLES, Site, load_site
from sisock.testing.fixtures import free_ports
from sisock.times import SystemClock
from tests.faults import numbered
from tests.faults.proxy import Proxy
from tests.faults.shim import Shim, compiled

_REPOSITORY = Path(__file__).parents[2]
_ENTRY_POINTS = "[sisock.nodes]\nnumbered = tests.faults.numbered:node_type\n"
_TICK_S = 0.1
_BOOT_S = 90.0
_GRACE_S = 10.0
_SMALL_DISK = "256m"
_DEEP_ROWS, _DEEP_BATCH, _DEEP_SPACING_S = 3_000_000, 100_000, 1e-3
# The kernel ends what the driver has started when the driver dies, however that happens.
_LEASH = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []

NUMBERED = ("always", "interval", "none")
"""The nodes with a numbered stream, named for the sync modes of their histories."""
DEEP = "deep"
"""A node that measures nothing any more, and has millions of numbered samples."""
NODES = (*NUMBERED, "udp", "recorder", DEEP)
PARTS = ("router", "hub", "gateway", *NODES)

_SITE = """\
router: {{port: {router}, rawsocket_port: {rawsocket}}}
gateway: {{port: {gateway}}}
"""
_MACHINE = """\
router: {{url: "{url}"}}
secrets: ../secrets.yaml
state: state
nodes:
"""
_NODE = {
    "always": "{{type: numbered, port: {always}, history: {{path: always, sync: always, segment: 64KiB, memory: 60s}}}}",
    "interval": "{{type: numbered, port: {interval}, history: {{path: interval, sync: interval, segment: 64KiB, memory: 60s}}}}",
    "none": "{{type: numbered, port: {none}, follows_clock: false, history: {{path: none, sync: none, segment: 64KiB, memory: 60s}}}}",
    DEEP: "{{type: numbered, port: {deep}, follows_clock: false, history: {{path: deep}}}}",
    "udp": '{{type: udp, host: 127.0.0.1, port: {udp}, history: {{path: udp}}, sources: {{rig: {{byte_format: "<d", input_names: [number]}}}}}}',
    "recorder": "{{type: recorder, record: [always, interval, none], history: {{path: recorder}}}}",
}
# Which machine a node is on: each reaches the router through a proxy of its own.
_MACHINES = {"rig": ("ws", ("always", "interval", "udp", "recorder", DEEP)), "annex": ("rs", ("none",))}


class NotPossible(Exception):
    """The fault cannot be injected on this machine; the text is the reason."""


class Part:
    """A process of the site, started again whenever it ends, unless it is held.

    Attributes
    ----------
    environment : dict
        What its environment has beyond that of the driver, at its next start.
    """

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self.command, self.environment, self.log = name, command, dict(environment), log
        self.starts = 0
        self._held, self._lock = False, threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def held(self) -> bool:
        """Whether it is left as it is when it has ended."""
        return self._held

    @held.setter
    def held(self, held: bool) -> None:
        with self._lock:
            self._held = held

    def start(self) -> None:
        """Start the process unless it is held; it ends with the driver, however that ends."""
        with self._lock, self.log.open("ab") as log:
            if self.held:
                return
            self.process = subprocess.Popen(
                [*_LEASH, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.starts += 1

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self.process is not None and self.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Return the process and those that it has started."""
        try:
            first = psutil.Process(self.process.pid) if self.process else None
            return [first, *first.children(recursive=True)] if first else []
        except psutil.NoSuchProcess:
            return []

    def signal(self, number: int) -> None:
        """Send a signal to the process and those that it has started."""
        for process in self.processes():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def kill(self) -> None:
        """Kill the process and those that it has started, and wait for them."""
        processes = self.processes()
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        psutil.wait_procs(processes, _GRACE_S)

    def stop(self) -> None:
        """End the process as a supervisor does; kill it where that does not help."""
        self.held = True
        if self.runs and self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):  # killed below, with those that it has started
                self.process.wait(_GRACE_S)
        self.kill()


class FaultSite:
    """A site in a folder: router, hub, gateway, nodes in each sync mode, one of UDP, a recorder, and an instrument.

    Use it with ``with``; when that ends no process is left.

    Parameters
    ----------
    folder : Path
        Of this site alone.
    nodes : tuple of str, optional
    """

    def __init__(self, folder: Path, nodes: tuple[str, ...] = NODES) -> None:
        self.folder, self.nodes = folder, nodes
        self.numbered = tuple(name for name in NUMBERED if name in nodes)
        self.parts: dict[str, Part] = {}
        self.proxies: dict[str, Proxy] = {}
        self.ports: dict[str, int] = {}
        self.site: Site
        self.has_small_disk = False
        """Whether the history of `interval` is on a disk of its own, which can be filled."""
        self._shims: dict[str, Shim] = {}
        self._instrument: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="keeper")

    def __enter__(self) -> "FaultSite":
        try:
            self._write()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def access(self, role: str = "consumer") -> Access:
        """Return how the router is reached, past the proxies."""
        return self.site.access(role)

    def consumer(self, timeout_s: float = 10.0) -> BlockingConsumer:
        """Return a consumer that keeps no answers; open it with ``with``."""
        return BlockingConsumer(self.access(), cache_bytes=0, timeout_s=timeout_s, patience_s=timeout_s)

    def history(self, node: str) -> Path:
        """Return the folder of a node's history."""
        return self.folder / machine_of(node) / node

    def shim(self, node: str) -> Shim:
        """Return by what a numbered node's disk and clock are made to fail.

        Raises
        ------
        NotPossible
            If there is no compiler.
        """
        if node not in self._shims:
            raise NotPossible("a library must be compiled for it, and there is no gcc")
        return self._shims[node]

    def send(self, node: str, *, count: int = 10, period: float = 0.05) -> None:
        """Have the instrument send so many samples to a node in each `period`."""
        assert self._instrument is not None
        assert self._instrument.stdin is not None
        command = {"node": node, "port": self.ports[node], "udp": node == "udp", "count": count, "period": period}
        self._instrument.stdin.write(json.dumps(command) + "\n")
        self._instrument.stdin.flush()

    def send_as_usual(self) -> None:
        """Have the instrument send to all nodes at its usual rate."""
        for node in self.nodes:
            if node not in ("recorder", DEEP):
                self.send(node, **({"count": 1, "period": 0.02} if node == "udp" else {}))

    def log(self) -> str:
        """Return the last lines of what the parts have logged."""
        return "\n".join(
            f"--- {part.name}\n" + "\n".join(part.log.read_text(errors="replace").splitlines()[-15:])
            for part in self.parts.values()
            if part.log.exists()
        )

    def stop(self) -> None:
        """End everything that was started."""
        if self._instrument is not None:
            self._instrument.kill()
            self._instrument.communicate()
        for part in reversed(self.parts.values()):
            part.held = True
            part.signal(signal.SIGCONT)
        for part in reversed(self.parts.values()):
            part.stop()
        # Only now: the kernel kills what a thread has started when the thread ends.
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for proxy in self.proxies.values():
            proxy.stop()
        for shim in self._shims.values():
            shim.close()
        if self.has_small_disk:
            subprocess.run(["umount", "--lazy", str(self.history("interval"))], check=False)

    def _write(self) -> None:
        """Write the site files, the accounts and the entry point of the numbered nodes."""
        names = ("router", "rawsocket", "gateway", *self.nodes)
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        (self.ports["udp"],) = free_ports(1, socket.SOCK_DGRAM)
        (self.folder / "site.yaml").write_text(_SITE.format(**self.ports))
        with os.fdopen(os.open(self.folder / "secrets.yaml", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.writelines(f"{role}: {{user: {role}, secret: {secrets.token_hex(16)}}}\n" for role in ROLES)
        info = self.folder / "packages" / "faults-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faults\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(_ENTRY_POINTS)
        environment = {
            "PYTHONPATH": f"{self.folder / 'packages'}:{_REPOSITORY}",
            "XDG_RUNTIME_DIR": str(self.folder),
            "PYTHONUNBUFFERED": "1",
        }
        self.site = load_site(self.folder)
        library = compiled(self.folder)
        for name in ("router", "hub", "gateway"):
            self._add(name, [name, "--site", str(self.folder / "site.yaml")], environment)
        for machine, (scheme, nodes) in _MACHINES.items():
            here = [node for node in nodes if node in self.nodes]
            if not here:
                continue
            proxy = self.proxies[machine] = Proxy(self.ports["router" if scheme == "ws" else "rawsocket"])
            path = self.folder / machine
            path.mkdir()
            url = f"{scheme}://127.0.0.1:{proxy.port}{'/ws' if scheme == 'ws' else ''}"
            nodes_of = "".join(f"  {node}: {_NODE[node].format(**self.ports)}\n" for node in here)
            (path / "site.yaml").write_text(_MACHINE.format(url=url) + nodes_of)
            for node in here:
                more = environment
                if library is not None and node in NUMBERED:
                    self._shims[node] = Shim(library, self.folder / f"{node}.control", self.history(node))
                    more = {**environment, **self._shims[node].environment}
                self._add(node, ["node", "run", node, "--site", str(path / "site.yaml")], more)
        if DEEP in self.nodes:
            self._fill(self.history(DEEP))
        if "interval" in self.nodes:
            self._mount(self.history("interval"))

    def _fill(self, folder: Path) -> None:
        """Write a history of millions of numbered samples, the newest of which are ten minutes old."""
        start = time.time() - 600.0 - _DEEP_ROWS * _DEEP_SPACING_S
        settings = numbered.NumberedSettings(type="numbered", port=1, follows_clock=False)
        timeline = numbered.Numbered(settings, SystemClock()).timelines[0]
        with History([timeline], HistorySettings(path=folder, sync="none"), SystemClock()) as history:
            for first in range(0, _DEEP_ROWS, _DEEP_BATCH):
                numbers = np.arange(first, first + _DEEP_BATCH)
                columns = {"number": numbers.astype(float), "text": numbered.texts(numbers)}
                history.append(as_batch(timeline.name, start + numbers * _DEEP_SPACING_S, columns))

    def _mount(self, folder: Path) -> None:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "faults", str(folder)]
        with contextlib.suppress(OSError):
            self.has_small_disk = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _add(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "sisock", *arguments]
        self.parts[name] = Part(name, command, environment, self.folder / f"{name}.log")

    def _start(self) -> None:
        for name in ("router", "hub", "gateway"):
            self.parts[name].start()
        self._keeper.start()
        self.wait_for_router()
        for node in self.nodes:
            self.parts[node].start()
        self._instrument = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.instrument", str(self.folder)],
            stdin=subprocess.PIPE,
            text=True,
            cwd=_REPOSITORY,
            start_new_session=True,
        )
        self.send_as_usual()

    def wait_for_router(self) -> None:
        """Block until the router accepts connections."""
        deadline = time.monotonic() + _BOOT_S
        while not (self.accepts(self.ports["router"]) and self.accepts(self.ports["rawsocket"])):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no router after {_BOOT_S} s; {self.log()}")
            time.sleep(0.05)

    @staticmethod
    def accepts(port: int) -> bool:
        """Whether somebody listens on a port of the loopback interface."""
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _keep(self) -> None:
        """Start what has ended again."""
        while not self._ended.wait(_TICK_S):
            for part in self.parts.values():
                if part.process is not None and not part.runs:
                    part.start()

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield all processes of the site with the names of their parts."""
        for part in self.parts.values():
            for process in part.processes():
                yield part.name, process


def machine_of(node: str) -> str:
    """Return the machine that a node is on, which is also the name of its proxy."""
    return next(machine for machine, (_, nodes) in _MACHINES.items() if node in nodes)


def remove(folder: Path) -> None:
    """Remove a site's folder."""
    shutil.rmtree(folder, ignore_errors=True)
