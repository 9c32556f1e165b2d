"""A test rig that throws datagrams: a hall's sensors as a struct, and a Catman system; Ctrl-C ends it.

python examples/rig/rig.py [host [port [seconds]]]
"""

import math
import socket
import struct
import sys
import time

CATMAN_PORT, HALL_PORT = 5001, 5002  # that they send from; the node tells them apart by these


def hall(t):
    """One record of the hall: time in ms, a temperature, whether the door is open, what is going on."""
    going_on = b"load" if math.sin(t / 30) > 0 else b"rest"
    return struct.pack("<qf?8s", round(t * 1000), 21.0 + math.sin(t / 60), int(t) % 60 < 5, going_on)


def catman(t, counter):
    """One record of Catman: two strains, and the time in the last channel."""
    load = max(0.0, math.sin(t / 30))
    return struct.pack("<HHI3d", 1, 3, counter % 2**32, 800 * load + math.sin(50 * t), -300 * load, t)


def main(host="127.0.0.1", port=5000, seconds=math.inf):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        for sender, own in ((one, CATMAN_PORT), (two, HALL_PORT)):
            sender.bind(("", own))
            sender.connect((host, int(port)))
        began, counter = time.time(), 0
        print(f"sending to {host}:{port}; Ctrl-C ends")
        while (now := time.time()) < began + float(seconds):
            # Four records of Catman in a datagram, 200 a second; one of the hall in ten of them.
            records = [catman(now + i / 200, counter + i) for i in range(4)]
            try:
                one.send(b"".join(records))
                if counter % 20 == 0:
                    two.send(hall(now))
            except ConnectionRefusedError:
                pass  # nobody receives yet
            counter += 4
            time.sleep(max(0.0, began + counter / 200 - time.time()))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        print("ended")
