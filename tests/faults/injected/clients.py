"""Clients that do not read, or ask for too much; and what anybody may send."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.observer import Seen
from tests.faults.registry import Fault, Moment, fault
from tests.faults.site import DEEP

_REPOSITORY = Path(__file__).parents[3]
_BACK_S = 20.0


class Crowd(Fault):
    """Many clients in a process of their own."""

    number, mode, scheme, node = 20, "subscribe", "ws", "always"
    process: subprocess.Popen[str] | None = None

    def inject(self) -> None:
        ports = self.site.ports
        url = f"ws://127.0.0.1:{ports['router']}/ws" if self.scheme == "ws" else f"rs://127.0.0.1:{ports['rawsocket']}"
        arguments = [str(self.site.folder), url, str(self.number), self.mode, self.node]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crowd", *arguments],
            cwd=_REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def heal(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.site.send_as_usual()
        time.sleep(_BACK_S / 4)


class SlowReaders(Crowd):
    """Clients subscribe to a fast feed and stop reading."""

    part, hold_s, peak_mb, after_mb, weighed = "readers", 15.0, 64.0, 64.0, ("router", "hub", "gateway")

    def inject(self) -> None:
        super().inject()
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.site.send("always", count=5000, period=0.05)


@fault
class SlowRawSocket(SlowReaders):
    """20 clients on RawSocket subscribe to a fast feed and stop reading for 15 s."""

    name, scheme = "readers-rawsocket", "rs"


@fault
class SlowWebSocket(SlowReaders):
    """20 clients on WebSocket subscribe to a fast feed and stop reading for 15 s."""

    name, scheme = "readers-websocket", "ws"


@fault
class SlowHttp(Fault):
    """100 browsers ask the gateway for a live stream of a fast feed and for tables, and never read."""

    name, part, hold_s, peak_mb, weighed = "readers-http", "readers", 15.0, 100.0, ("router", "hub", "gateway")

    def inject(self) -> None:
        self._connections: list[socket.socket] = []
        for path in ["/api/v1/nodes/always/live?field=number"] * 50 + [
            f"/api/v1/nodes/{DEEP}/data?field=number&start=0.1&format=csv"
        ] * 50:
            connection = socket.create_connection(("127.0.0.1", self.site.ports["gateway"]), 5.0)
            self._connections.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.site.send("always", count=5000, period=0.05)

    def heal(self) -> None:
        for connection in self._connections:
            connection.close()
        self.site.send_as_usual()


@fault
class Malformed(Fault):
    """20,000 malformed datagrams are sent to a UDP node among the good ones."""

    name, part, short, hold_s = "udp-malformed", "udp", True, 3.0

    def inject(self) -> None:
        self.since = time.time()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self.site.ports["udp"]))
            for i in range(20_000):
                length = self.chance.choice((0, 1, 7, 9, 15, 33, 1399))  # no whole number of records
                with contextlib.suppress(OSError):
                    sender.send(self.chance.randbytes(length))
                if i % 50 == 0:
                    time.sleep(0.002)  # the kernel's buffer is small; what it drops is not what is tested here

    def violations(self) -> list[str]:
        with self.site.consumer() as consumer:
            until = time.time() - 2.0
            data = consumer.data("udp", ["rig.number"], self.since, until)
            dropped = consumer.status("udp")["sources"][0]["counters"].get("dropped_by_kernel", 0)
        numbers = data["rig.number"].astype(int).tolist() if "rig.number" in list(data) else []
        wrong = []
        if len(set(numbers)) < len(numbers):
            wrong.append("udp serves datagrams twice")
        missing = set(range(numbers[0], numbers[-1] + 1)) - set(numbers) if numbers else {0}
        if len(missing) > dropped:
            wrong.append(f"udp lost {len(missing)} good datagrams, the kernel dropped {dropped}")
        return wrong


@fault
class Abuse(Crowd):
    """50 clients ask a node for all it has, and for 10,000 fields, again and again for 15 s."""

    name, part, hold_s, number, mode, node = "get_data-abuse", "get_data", 15.0, 50, "ask", DEEP
    # The budget of 256 MB for the answers of all callers, and what is around it.
    peak_mb, after_mb = 320.0, 128.0

    def complaint(self, seen: Seen, moment: Moment) -> str | None:
        answered = [t for t, _ in seen.health[DEEP] if moment.began + 12.0 < t < moment.ended]
        return None if answered else f"{DEEP} did not report its status within 1 s during the abuse"
