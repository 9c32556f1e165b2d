"""The process that is measured: a node that receives datagrams, or a bare loop that only counts them.

Prints its port, then, for each line that it reads, how many it has received since, and how many the kernel dropped.
"""

import socket
import sys
import threading
import time

from sisock.node import open_node
from sisock.settings import AllowanceSettings, HistorySettings
from sisock_nodes.udp.receiver import Receiver
from sisock_nodes.udp.settings import UdpSettings

# Longer than a datagram may wait before the node has it: what comes later than that was not sustained.
WAIT_S = 0.1


def drops(sock):
    import numpy as np

    return int(np.frombuffer(sock.getsockopt(socket.SOL_SOCKET, 55, 36), np.uint32)[8])


def bare():
    """Count with recv_into, with the kernel's buffer as large as ours."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    sock.bind(("127.0.0.1", 0))
    count = [0]

    def run():
        buffer, receive = bytearray(65536), sock.recv_into
        while True:
            receive(buffer)
            count[0] += 1

    threading.Thread(target=run, daemon=True).start()
    return sock.getsockname()[1], lambda: (count[0], drops(sock))


def node():
    probe = Receiver("127.0.0.1", 0)
    port = probe.port
    probe.close()
    names = ["counter", "t", *(f"x{i}" for i in range(11))]
    about = {"byte_format": "<I12d", "input_names": names, "time_index": 1, "output_refs": names[1:]}
    settings = UdpSettings(
        type="udp", host="127.0.0.1", port=port, sources={"s": about}, history=HistorySettings(max_samples=1_000_000),
        allowance=AllowanceSettings(),
    )  # fmt: skip
    node = open_node("bench", settings)
    node.start()

    def counts():
        ports, source = node.status()["sources"]
        return source["counters"]["decoded"], ports["counters"]["dropped_by_kernel"]

    def status():  # as a console that shows the node does
        while True:
            node.status()
            time.sleep(0.1)

    threading.Thread(target=status, daemon=True).start()
    return port, counts


def main(kind):
    port, counts = {"bare": bare, "node": node}[kind]()
    print(port, flush=True)
    before = (0, 0)
    for _ in sys.stdin:
        time.sleep(WAIT_S)
        received = counts()[0]
        time.sleep(0.5)  # the drops are looked at from time to time
        now = (received, counts()[1])
        print(*(a - b for a, b in zip(now, before, strict=True)), flush=True)
        before = (counts()[0], now[1])


main(sys.argv[1])
