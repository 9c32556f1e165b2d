"""Streams: datagrams to a node, beside a bare loop that only counts."""

import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rows import Row

HERE = Path(__file__).parent
# Seconds of each trial, and by which factor the rates of successive trials differ.
TRIAL_S, STEP = 3.0, 1.12
MESSAGES, ROUNDS = 2_000_000, 3
LOWEST, HIGHEST = 50_000, 2_000_000


class Receiver:
    """A process that receives: `bare` or `node`."""

    def __init__(self, kind):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "streams_receiver.py"), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self.process.stdout.readline())

    def counts(self):
        """Return how many datagrams were received and how many the kernel dropped, since the last call."""
        self.process.stdin.write("counts\n")
        self.process.stdin.flush()
        return [int(each) for each in self.process.stdout.readline().split()]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10.0)


def send(port, rate):
    """Send at a rate for some seconds; return how many were sent, and how many a second that was."""
    command = [sys.executable, str(HERE / "streams_sender.py"), str(port), str(rate), str(TRIAL_S)]
    sent, seconds = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return int(sent), int(sent) / float(seconds)


def sustained(kind):
    """Return the highest rate at which every datagram arrives, with none dropped and none waiting at the end."""
    receiver = Receiver(kind)
    try:
        best, rate = 0.0, float(LOWEST)
        send(receiver.port, LOWEST)
        receiver.counts()
        failures = 0
        while rate < HIGHEST and failures < 2:
            sent, reached = send(receiver.port, rate)
            received, dropped = receiver.counts()
            if dropped or received < sent:
                failures += 1
            elif reached < rate / STEP:
                return max(best, reached)  # the sender cannot send faster
            else:
                best, failures = reached, 0
            if not failures:
                rate *= STEP
        return best
    finally:
        receiver.stop()


def datagrams():
    bare, node = sustained("bare"), sustained("node")
    name = "datagrams of 100 bytes sustained without a drop"
    return [
        Row(name, node, "per s (bare recv_into)", bare, 0.5),
        Row("the same", node, "per s", goal=200_000),
    ]


def memory():
    command = [sys.executable, str(HERE / "streams_memory.py")]
    early, most, records = map(
        float, subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    )
    assert records == 180e6
    kept = 50_000 * 60 * (12 + 1) * 8 / 1e6  # a minute of 12 fields and their times
    return [
        Row(
            "an hour of 50,000 datagrams/s, a minute kept",
            most,
            "MB resident (at 2 min)",
            early,
            1.1,
            at_most=True,
        ),
        Row("the same", most, "MB resident (its arrays)", kept),
    ]


def kafka():
    sys.path.insert(0, str(HERE.parents[1]))
    from confluent_kafka import Producer

    from tests.kafka.broker import Broker, fetched_jars, missing

    if why := missing():
        print(f"Kafka is left out: {why}")
        return []
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "broker", fetched_jars(Path(folder) / "jars"))
        broker.start()
        try:
            producer = Producer(
                {"bootstrap.servers": broker.servers, "linger.ms": 20, "queue.buffering.max.messages": 10**6}
            )
            now = time.time() - 3600.0
            for i in range(MESSAGES):
                producer.produce("bench", struct.pack("<I12d", i, now + i * 1e-4, *[i * 0.5] * 11))
                if i % 10_000 == 0:
                    producer.poll(0)
                    while len(producer) > 900_000:
                        producer.poll(0.1)
            producer.flush()
            command = [sys.executable, str(HERE / "streams_kafka.py"), broker.servers, "bench", str(MESSAGES)]
            rates = {"bare": [], "rarely": [], "node": []}
            for _ in range(ROUNDS):
                for kind, found in rates.items():
                    done = subprocess.run([*command, kind], stdout=subprocess.PIPE, text=True, check=True)
                    found.append(float(done.stdout))
        finally:
            broker.stop()
    bare, rarely, node = (statistics.median(found) for found in rates.values())
    return [
        Row("Kafka, messages of 100 bytes to the history", node, "per s (bare consume)", bare, 1 / 1.5),
        Row("the same, beside a bare loop that looks for cycles as rarely", node, "per s", rarely),
    ]


def measure(console):
    rows = []
    for what, part in (("datagrams", datagrams), ("the memory of a stream", memory), ("Kafka", kafka)):
        console.print(f"measuring {what}")
        rows += part()
    return rows
