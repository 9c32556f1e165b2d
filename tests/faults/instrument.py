"""The instrument: a process of its own that sends numbered samples, and keeps the list of what was acknowledged.

Commands are lines of JSON on its standard input: ``{"node": …, "port": …, "udp": …, "count": …, "period": …}`` begins to
send `count` samples each `period` seconds to a node, or sends them otherwise from now on. Each answer of a node is a line of
``<folder>/<node>.journal``.
"""

import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

DATAGRAM = struct.Struct("<d")
"""What is sent by UDP: the number."""
_PATIENCE_S = 120.0


class Stream(threading.Thread):
    """Sends to one node until the process ends."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.settings = settings
        self._journal = (folder / f"{settings['node']}.journal").open("a", buffering=1)
        self._next = 0

    def run(self) -> None:
        while True:
            try:
                self._send_by_udp() if self.settings.get("udp") else self._send()
            except OSError:
                time.sleep(0.1)  # the node is restarting; what it had not acknowledged is not sent again

    def _send(self) -> None:
        with socket.create_connection(("127.0.0.1", self.settings["port"]), 2.0) as connection:
            connection.settimeout(_PATIENCE_S)
            answers = connection.makefile("rb")
            while True:
                began, count = time.monotonic(), self.settings["count"]
                asked = {"first": self._next, "count": count}
                self._next += count
                connection.sendall(json.dumps(asked).encode() + b"\n")
                if not (answer := answers.readline()).endswith(b"\n"):
                    return
                self._journal.write(answer.decode())
                # Batches do not overlap: the times of their samples are 0.1 ms apart.
                time.sleep(max(0.0, began + max(self.settings["period"], count * 1e-4 + 1e-3) - time.monotonic()))

    def _send_by_udp(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", self.settings["port"]))
            while True:
                number, self._next = self._next, self._next + 1
                sender.send(DATAGRAM.pack(float(number)))
                self._journal.write(json.dumps({"first": number, "count": 1, "start": time.time()}) + "\n")
                time.sleep(self.settings["period"])


def main(folder: Path) -> None:
    streams: dict[str, Stream] = {}
    for line in sys.stdin:
        settings = json.loads(line)
        if settings["node"] in streams:
            streams[settings["node"]].settings |= settings
        else:
            streams[settings["node"]] = Stream(folder, settings)
            streams[settings["node"]].start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
