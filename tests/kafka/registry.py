"""A real schema registry for tests: Apicurio Registry, in memory, by Confluent's REST interface."""

import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from sisock.testing.fixtures import free_ports

POM = Path(__file__).parent / "registry.xml"
BOOT_S = 90.0


class RealRegistry:
    """A registry in a process of its own."""

    def __init__(self, folder: Path) -> None:
        unpack = ["mvn", "-q", "-B", "-f", str(POM), "dependency:unpack", f"-Dfolder={folder}"]
        done = subprocess.run(unpack, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        self._jar, self._out = next(folder.glob("*-runner.jar")), folder / "out"
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self._process = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}"]
        # It starts sooner with the quick compiler alone.
        command = ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", *where, "-jar", str(self._jar)]
        with self._out.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        deadline = time.monotonic() + BOOT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/subjects", timeout=20.0):
                    return
            except OSError:
                assert self._process.poll() is None, self._out.read_text()[-2000:]
                assert time.monotonic() < deadline, "the registry did not come up"
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Door:
    """A port that leads to a registry while it is open, and refuses while it is not; remembers what was asked."""

    def __init__(self, port: int) -> None:
        self._to = port
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self.asked = b""
        self._listening = None
        self._open: list[socket.socket] = []

    def open(self) -> None:
        """Let requests through."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        """Let nothing through, and break off what is under way."""
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._listening = None
        for each in self._open:
            each.close()
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                here, _ = listening.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._to))
            self._open += [here, there]
            for one, other, asks in ((here, there, True), (there, here, False)):
                threading.Thread(target=self._carry, args=(one, other, asks), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, asks: bool) -> None:
        try:
            while data := one.recv(65536):
                if asks:
                    self.asked += data
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            return
