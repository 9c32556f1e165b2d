"""The process that is measured: a node that reads a topic, or a bare loop that only counts its messages.

servers, topic, number of messages, and `bare`, `rarely` (bare, looking for cycles as rarely as a node does) or `node`;
prints the messages per second after the first quarter.
"""

import sys
import time
import uuid

from confluent_kafka import Consumer

from sisock.node import open_node
from sisock.runner import collect_rarely
from sisock.settings import HistorySettings
from sisock.times import Interval
from sisock_nodes.kafka.settings import KafkaSettings

AT_ONCE = 10_000


def settings(servers, topic):
    names = ["counter", "t", *(f"x{i}" for i in range(11))]
    record = {"byte_format": "<I12d", "input_names": names, "time_index": 1, "output_refs": names[1:]}
    history = HistorySettings(keep=1e11, max_samples=10_000_000)
    more = {"start": "earliest", "group": uuid.uuid4().hex, "format": "struct", "record": record, "history": history}
    return KafkaSettings(type="kafka", servers=servers, topics=[topic], **more)


def bare(servers, topic, number):
    consumer = Consumer(settings(servers, topic).librdkafka("bare"))
    consumer.subscribe([topic])
    count, began, warm = 0, None, 0
    while count < number:
        count += len(consumer.consume(AT_ONCE, 0.1))
        if began is None and count >= number // 4:
            began, warm = time.perf_counter(), count
    rate = (count - warm) / (time.perf_counter() - began)
    consumer.close()
    return rate


def rarely(servers, topic, number):
    collect_rarely()
    return bare(servers, topic, number)


def node(servers, topic, number):
    collect_rarely()  # as the process of every node does
    node = open_node("bench", settings(servers, topic))
    node.start()
    count, began, warm = 0, None, 0
    while count < number:
        count = node.history.status().get(topic, {}).get("samples", 0)
        if began is None and count >= number // 4:
            began, warm = time.perf_counter(), count
        time.sleep(0.01)
    rate = (count - warm) / (time.perf_counter() - began)
    oldest = node.history.status()[topic]["oldest"]
    assert node.history.count([f"{topic}.x0"], Interval(oldest, 1e11)) == 2 * number
    node.stop()
    return rate


print({"bare": bare, "rarely": rarely, "node": node}[sys.argv[4]](sys.argv[1], sys.argv[2], int(sys.argv[3])))
