"""Topics of a real broker as timelines."""

import json
import struct
import subprocess
import sys
import time

import msgpack
import numpy as np
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import ValidationError

from sisock.errors import BadRequest, NodeFailed, TooLarge
from sisock.node import open_node
from sisock.times import Interval
from sisock_nodes.kafka.log import Log as KafkaLog
from sisock_nodes.kafka.settings import KafkaSettings

pytestmark = pytest.mark.xdist_group("kafka")
EVER = Interval(0.0, 1e11)
QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}


class Log:
    """What a test writes to a broker."""

    def __init__(self, servers):
        self.servers = servers
        self.admin = AdminClient({"bootstrap.servers": servers})
        # Idempotent, or what is sent while a partition is not led yet is tried again, and comes after what follows it.
        self.producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True})

    def create(self, topic, partitions=1):
        for future in self.admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            future.result(20.0)

    def produce(self, topic, value, partition=0, t=None):
        stamp = {} if t is None else {"timestamp": round(t * 1000)}
        self.producer.produce(topic, value, partition=partition, **stamp)

    def write(self, topic, *values, partition=0, t=None):
        for value in values:
            self.produce(topic, value, partition, t)
        assert self.producer.flush(20.0) == 0


class Read:
    """A node that reads topics."""

    def __init__(self, servers, name="node", **settings):
        settings = {"config": QUICK, "history": {"keep": 1e10}, **settings}
        self.node = open_node(name, KafkaSettings(type="kafka", servers=servers, **settings))
        self.node.start()
        self.source = self.node.sources[0]

    def samples(self, field):
        """Return what is in the node's own history."""
        oldest = [about["oldest"] for about in self.node.history.status().values() if about["oldest"] is not None]
        if not oldest:
            return None
        found = self.node.history.read([field], Interval(min(oldest), 1e11)).timelines
        return next(iter(found.values()), None)

    def values(self, field):
        samples = self.samples(field)
        return [] if samples is None else samples.columns[field].tolist()

    def wait(self, holds, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.node.status()
            time.sleep(0.02)

    def counts(self, topic):
        found = (s["counters"] for s in self.node.status()["sources"] if s.get("part") == topic)
        return next(found, dict.fromkeys(("messages", "decoded"), 0))

    def counted(self, topic, messages):
        """Wait until so many messages of a topic are done with, and return all its counts."""
        self.wait(lambda: self.counts(topic)["messages"] == messages)
        return self.counts(topic)


@pytest.fixture
def log(servers):
    return Log(servers)


@pytest.fixture
def read(servers):
    made = []

    def make(**settings):
        made.append(Read(settings.pop("servers", servers), **settings))
        return made[-1]

    yield make
    for each in made:
        each.node.stop()


def test_json_past_and_live_with_units_and_what_is_wrong(log, read, topic):
    log.create(topic)
    t0 = round(time.time()) - 1000.0
    good = [
        {"at": (t0 + i) * 1000, "temp": i / 2, "state": {"door": i % 2 == 0, "word": f"w{i % 3}"}} for i in range(5)
    ]
    log.write(topic, *(json.dumps(each).encode() for each in good))
    log.write(
        topic,
        b"{",
        b"[1]",
        b"7",
        None,
        b'{"temp": 1}',
        b'{"at": 4e15, "temp": 1}',
        json.dumps([good[0], good[1]]).encode(),
    )
    node = read(
        topics=[topic], time={"field": "at", "scale": 0.001}, values={"temp": {"units": "°C"}}, group=f"g-{topic}"
    )
    counts = node.counted(topic, 12)
    assert node.values(f"{topic}.temp") == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert node.values(f"{topic}.state.word") == ["w0", "w1", "w2", "w0", "w1"]
    assert node.values(f"{topic}.state.door") == [True, False, True, False, True]
    assert node.samples(f"{topic}.temp").t.tolist() == [t0 + i for i in range(5)]
    expected = {"poison": 3, "empty": 1, "untimed": 1, "ahead": 1, "decoded": 9, "bad_values": 0, "skipped": 0}
    assert {name: counts[name] for name in expected} == expected
    log.write(topic, json.dumps({"at": (t0 + 9) * 1000, "temp": "hot", "new": 5}).encode())
    node.wait(lambda: node.values(f"{topic}.new")[-1:] == [5.0])
    assert np.isnan(node.values(f"{topic}.temp")[-1])
    assert node.counts(topic)["bad_values"] == 1
    fields = {field.name: field for tl in node.node.history.timelines for field in tl.fields}
    assert fields[f"{topic}.temp"].units == "°C"


def rows_of(node, field):
    samples = node.samples(field)
    return [] if samples is None else list(zip(samples.t.tolist(), samples.columns[field].tolist(), strict=True))


@pytest.mark.parametrize("how", ["value", "message"])
def test_devices_of_one_topic_have_timelines_of_their_own(how, log, read, topic):
    log.create(topic)
    t0 = round(time.time()) - 1000.0
    names = ["north", "south", "roof", "hall"]
    for i in range(3):
        for name, x in zip(names, (1, 10, 100, 1000), strict=True):
            value = json.dumps({"at": t0 + i, "sensor": name, "value": x + i})
            log.producer.produce(topic, value, key=name)
    assert log.producer.flush(20.0) == 0
    key = {"values": ["sensor"]} if how == "value" else {"message": True}
    node = read(topics=[topic], time={"field": "at"}, key=key, group=f"g-{topic}", lateness=1)
    assert node.counted(topic, 12)["unkeyed"] == 0
    for name, x in zip(names, (1, 10, 100, 1000), strict=True):
        assert rows_of(node, f"{topic}.{name}.value") == [(t0 + i, x + i) for i in range(3)]
    about = node.node.history.status()
    assert sum(each["overwritten"] for each in about.values()) == 0
    final = [about[f"{topic}.{name}"]["finalized_until"] for name in names]
    assert final == [final[0]] * 4
    # What one device sends makes final what the others had, too.
    log.producer.produce(topic, json.dumps({"at": t0 + 99, "sensor": "north", "value": 5}), key="north")
    assert log.producer.flush(20.0) == 0
    node.wait(lambda: node.node.history.status()[f"{topic}.north"]["finalized_until"] >= t0 + 98)


def test_log_from_before_the_history_is_read_by_the_key(log, read, topic):
    log.create(topic)
    now = time.time()
    t0 = round(now) - 5000.0
    for i in range(3):
        for name, x in (("north", 1), ("a.b", 10)):
            log.produce(topic, json.dumps({"at": t0 + i, "id": name, "x": x + i}), t=t0 + i)
    for name in ("north", "a.b"):
        log.produce(topic, json.dumps({"at": now, "id": name, "x": 0}), t=now)
    assert log.producer.flush(20.0) == 0
    node = read(topics=[topic], time={"field": "at"}, key="id", history={"keep": 1000.0}, group=f"g-{topic}")
    node.counted(topic, 2)
    timelines = sorted(tl.name for tl in node.node.history.timelines)
    assert timelines[1] == f"{topic}.north"
    assert timelines[0].startswith(f"{topic}.a_b-")  # with a hash, since a dot separates parts
    for timeline, x in zip(timelines, (10, 1), strict=True):
        samples = node.node.history.read([f"{timeline}.x"], Interval(t0 - 1, t0 + 10)).timelines[timeline]
        assert (samples.t.tolist(), samples.columns[f"{timeline}.x"].tolist()) == (
            [t0, t0 + 1, t0 + 2],
            [x, x + 1, x + 2],
        )


def test_msgpack_with_the_time_of_the_message(log, read, topic):
    log.create(topic)
    t = round(time.time(), 3) - 100.0
    log.write(topic, msgpack.packb({"x": 1.5}), t=t)
    log.write(topic, msgpack.packb([{"x": 2.5}]), b"\xc1", msgpack.packb(7), t=t + 1)
    node = read(topics=[topic], format="msgpack", group=f"g-{topic}")
    node.wait(lambda: node.values(f"{topic}.x") == [1.5, 2.5])
    assert node.samples(f"{topic}.x").t.tolist() == [t, t + 1]
    node.wait(lambda: node.counts(topic)["poison"] == 2)


def test_struct_records_by_pattern(log, read, topic):
    record = {"byte_format": "<dh", "input_names": ["t", "n"], "time_index": 0, "output_refs": ["n"]}
    node = read(topic_pattern=f"{topic}-.", format="struct", record=record, group=f"g-{topic}")
    t = time.time() - 50.0
    for name, rows in (("a", 3), ("b", 1)):
        log.create(f"{topic}-{name}")
        many = b"".join(struct.pack("<dh", t + i, i) for i in range(rows))
        log.write(f"{topic}-{name}", many, many[:-1], struct.pack("<dh", t + 9, 9))
    node.wait(lambda: [node.counts(part.name)["messages"] for part in node.source.parts] == [3, 3])
    assert node.values(f"{topic}-a.n") == [0, 1, 2, 9]
    assert node.values(f"{topic}-b.n") == [0, 9]
    assert node.samples(f"{topic}-a.n").columns[f"{topic}-a.n"].dtype == np.int16
    assert node.counts(f"{topic}-a")["poison"] == 1


def test_start_says_where_to_begin(log, read, topic):
    log.create(topic)
    now = time.time()
    for ago in (5000, 500, 50):
        log.write(topic, json.dumps({"ago": ago}).encode(), t=now - ago)
    for start, expected in ((1000.0, [500, 50]), ("earliest", [5000, 500, 50]), (None, [500, 50])):
        node = read(topics=[topic], start=start, history={"keep": 1000.0}, group=f"g-{topic}-{start}", max_ahead=10)
        node.counted(topic, len(expected))
    latest = read(topics=[topic], start="latest", group=f"g-{topic}-l")
    latest.wait(lambda: latest.source.assigned)
    log.write(topic, b'{"ago": 0}')
    latest.counted(topic, 1)
    assert latest.values(f"{topic}.ago")[-1:] == [0]


def test_fixed_partitions_and_a_shared_group(log, read, topic):
    log.create(topic, partitions=4)
    fixed = read(partitions={topic: [1, 3]}, name="fixed")
    t = time.time()

    def write(count, value):
        for p in range(4):
            log.write(topic, *[json.dumps({"p": value + p}).encode()] * count, partition=p, t=t + value + p)

    def every(node):
        return set(node.values(f"{topic}.p"))

    first = read(topics=[topic], group=f"g-{topic}", start="earliest", name="first")
    write(1, 0)
    first.wait(lambda: every(first) == {0, 1, 2, 3})
    second = read(topics=[topic], group=f"g-{topic}", name="second")
    for node in (first, second):  # both have joined, and share
        node.wait(lambda: len(node.source.assigned) == 2)  # noqa: B023
    write(3, 10)
    fixed.wait(lambda: every(fixed) == {1, 3, 11, 13})
    first.wait(lambda: every(first) | every(second) == {0, 1, 2, 3, 10, 11, 12, 13})
    assert not every(first) & every(second) & {10, 11, 12, 13}
    second.node.stop()
    write(1, 20)
    first.wait(lambda: every(first) >= {20, 21, 22, 23})
    assert first.counted(topic, 4 + 6 + 4)["skipped"] == 0  # what the other read meanwhile


def test_partitions_that_are_caught_up_with_one_after_the_other_lose_nothing(log, read, topic, tmp_path):
    log.create(topic, partitions=3)
    now = time.time() - 4000.0
    about = {"topics": [topic], "group": f"g-{topic}", "lateness": 1.0, "time": {"field": "t"}}
    about["history"] = {"path": tmp_path, "keep": 1e10}
    for run in range(2):  # at the first start, and after an outage
        t = now + 2000.0 * run + np.arange(30_000) / 30.0
        for i, each in enumerate(t):
            log.produce(topic, json.dumps({"t": each, "i": i}).encode(), partition=i % 3, t=each)
            if i % 10_000 == 0:
                log.producer.flush(20.0)
        assert log.producer.flush(20.0) == 0
        node = read(**about)
        node.wait(lambda node=node: node.counts(topic)["decoded"] == 30_000)
        status = node.node.history.status()[topic]
        assert (status["late"], len(node.values(f"{topic}.i"))) == (0, 30_000 * (run + 1))
        assert node.node.history.finalized_until(topic) == pytest.approx(t[-1] - 1.0, abs=0.1)
        node.node.stop()


# A member of a group that commits what it reads, until it is killed.
MEMBER = """
import sys
from confluent_kafka import Consumer
servers, group, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest",
    "enable.auto.commit": False, "partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6000})
consumer.subscribe([topic], on_assign=lambda c, parts: (c.incremental_assign(parts), print(len(parts), flush=True)))
while True:
    message = consumer.poll(0.1)
    if message is not None and not message.error():
        consumer.commit(message, asynchronous=False)
"""


def test_partitions_of_a_member_that_died_are_taken_over_without_loss(log, read, topic):
    log.create(topic, partitions=2)
    node = read(topics=[topic], group=f"g-{topic}", lateness=1.0, start="earliest")
    node.wait(lambda: len(node.source.assigned) == 2)
    command = [sys.executable, "-c", MEMBER, log.servers, f"g-{topic}", topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as member:
        try:
            while member.stdout.readline() != "1\n":
                pass
            node.wait(lambda: len(node.source.assigned) == 1)
            others = 1 - next(iter(node.source.assigned))[1]
            sent = []

            def send():
                for partition in (0, 1):
                    sent.append((partition, time.time()))
                    log.produce(topic, json.dumps({"n": len(sent)}).encode(), partition=partition, t=sent[-1][1])
                log.producer.flush(20.0)

            began = time.time()
            node.wait(lambda: send() or node.source.timelines)
            node.wait(lambda: send() or (node.node.history.finalized_until(topic) or 0.0) > began + 1.0)
            member.kill()
            died = time.time()
            node.wait(lambda: send() or len(node.source.assigned) == 2)
        finally:
            member.kill()
    # What the other had and had committed is not read again.
    missed = {n for n, (partition, t) in enumerate(sent, 1) if partition != others or t > died}
    node.wait(lambda: missed <= set(node.values(f"{topic}.n")))
    assert node.node.history.status()[topic]["late"] == 0
    node.wait(lambda: node.node.history.finalized_until(topic) > sent[-1][1] - 1.1)


@pytest.mark.parametrize("format", ["json", "struct"])
def test_messages_of_one_millisecond_are_all_there(log, read, topic, format):
    log.create(topic, partitions=2)
    t, n = round(time.time()) - 100.0, 3000
    for i in range(n):
        value = (
            json.dumps([{"i": 2 * i}, {"i": 2 * i + 1}]).encode()
            if format == "json"
            else struct.pack("<2d", 2 * i, 2 * i + 1)
        )
        log.produce(topic, value, partition=i % 2, t=t + i // 1000)
    assert log.producer.flush(20.0) == 0
    record = {"record": {"byte_format": "<d", "input_names": ["i"]}} if format == "struct" else {}
    node = read(topics=[topic], format=format, group=f"g-{topic}", **record)
    node.wait(lambda: node.counts(topic)["decoded"] == 2 * n)
    samples = node.samples(f"{topic}.i")
    assert sorted(samples.columns[f"{topic}.i"].tolist()) == list(range(2 * n))
    assert node.node.history.status()[topic]["repeated"] == 0
    assert np.abs(samples.t - t - samples.columns[f"{topic}.i"] // 2000).max() < 0.01
    again = node.source.past(topic, Interval(t - 1.0, t + 100.0))
    assert set(np.concatenate([batch.t for batch in again])) == set(samples.t)


def test_question_for_many_keys_older_than_the_history_reads_the_log_once(log, read, topic, monkeypatch):
    """It read the log once for each key."""
    log.create(topic)
    t, n = round(time.time()) - 10_000.0, 20
    for i in range(200):
        log.produce(topic, json.dumps({"sensor": f"s{i % n}", "value": i}).encode(), t=t + i)
    for i in range(n):
        log.produce(topic, json.dumps({"sensor": f"s{i}", "value": -1}).encode(), t=t + 9000.0)
    log.producer.flush(20.0)
    node = read(topics=[topic], group=f"g-{topic}", key="sensor", history={"keep": 3600.0})
    fields = [f"{topic}.s{i}.value" for i in range(n)]
    node.wait(lambda: len(node.node.history.timelines) == n and node.counts(topic)["messages"] == n)
    asked, messages = [], KafkaLog.messages
    monkeypatch.setattr(KafkaLog, "messages", lambda *about: asked.append(about) or messages(*about))
    found = node.node.history.read(fields, Interval(t - 1.0, t + 300.0)).timelines
    assert {name: samples.columns[f"{name}.value"].tolist() for name, samples in found.items()} == {
        f"{topic}.s{i}": [float(v) for v in range(i, 200, n)] for i in range(n)
    }
    assert len(asked) == 1


def test_partition_that_is_silent_holds_up_no_others(log, read, topic):
    log.create(topic, partitions=3)
    t = time.time() - 100.0
    node = read(topics=[topic], group=f"g-{topic}", lateness=1.0)
    node.wait(lambda: len(node.source.assigned) == 3)
    log.write(topic, b'{"x": 1}', partition=0, t=t)
    log.write(topic, b'{"x": 2}', partition=1, t=t + 10.0)
    node.wait(lambda: node.values(f"{topic}.x") == [1, 2])
    node.wait(lambda: node.node.history.finalized_until(topic) == pytest.approx(t + 9.0, abs=0.001))
    log.write(topic, b'{"x": 3}', partition=2, t=t + 9.5)
    node.wait(lambda: node.values(f"{topic}.x") == [1, 3, 2])


def test_history_on_disk_goes_on_where_it_was(log, read, topic, tmp_path):
    log.create(topic)
    t = time.time() - 100.0
    about = {"topics": [topic], "group": f"g-{topic}", "history": {"path": tmp_path}}
    log.write(topic, b'{"x": 1}', t=t)
    first = read(**about)
    first.wait(lambda: first.values(f"{topic}.x") == [1])
    first.node.stop()
    log.write(topic, b'{"x": 2}', t=t + 1)
    second = read(**about)
    second.counted(topic, 1)
    assert second.values(f"{topic}.x") == [1, 2]


def test_what_the_log_lost_while_a_node_was_stopped_is_counted(log, read, topic, tmp_path):
    log.create(topic)
    about = {"topics": [topic], "group": f"g-{topic}", "history": {"path": tmp_path}, "start": "earliest"}
    t = time.time() - 100.0
    for i in range(2):
        log.write(topic, json.dumps({"x": i}).encode(), t=t + i)
    first = read(**about)
    first.wait(lambda: first.values(f"{topic}.x") == [0, 1])
    first.node.stop()
    for i in range(2, 7):
        log.write(topic, json.dumps({"x": i}).encode(), t=t + i)
    (removed,) = log.admin.delete_records([TopicPartition(topic, 0, 5)]).values()
    removed.result(20.0)
    second = read(**about)
    assert second.counted(topic, 2)["skipped"] == 3
    assert second.values(f"{topic}.x") == [0, 1, 5, 6]


def test_what_was_before_the_history_is_read_from_the_log(log, read, topic):
    log.create(topic, partitions=2)
    now = time.time()
    yesterday = now - 86400.0 + np.arange(600.0)
    for t in yesterday:
        log.produce(topic, struct.pack("<dh", t, int(t) % 100), partition=int(t) % 2, t=t)
    assert log.producer.flush(20.0) == 0
    record = {"byte_format": "<dh", "input_names": ["t", "n"], "time_index": 0, "output_refs": ["n"]}
    node = read(topics=[topic], format="struct", record=record, group=f"g-{topic}", history={"keep": 3600.0})
    node.wait(lambda: len(node.source.assigned) == 2)
    field, history = f"{topic}.n", node.node.history
    node.wait(lambda: history.within(EVER))  # nothing has come, and yet it knows
    asked = Interval(yesterday[10], yesterday[500])

    def samples(reply):
        (samples,) = reply.timelines.values()
        return samples

    np.testing.assert_array_equal(samples(history.read([field], asked)).t, yesterday[10:500])
    assert history.count([field], asked) == 2 * 490
    assert not history.within(Interval(now - 40_000.0, now - 30_000.0))
    log.write(topic, *(struct.pack("<dh", now - i, 7) for i in (100, 90)), t=now - 90.0)
    node.counted(topic, 2)  # what is looked up is not counted as read
    for _ in range(2):  # the second time from memory
        both = samples(history.read([field], Interval(yesterday[0], now)))
        np.testing.assert_array_equal(both.t, [*yesterday, now - 100.0, now - 90.0])
        np.testing.assert_array_equal(both.columns[field], [*(int(t) % 100 for t in yesterday), 7, 7])
    thin = samples(history.downsampled([field], asked, "minmax", max_points=20))
    assert 10 <= len(thin.t) <= 20
    mean = samples(history.downsampled([field], Interval(yesterday[0], yesterday[-1]), "mean", min_stride=100.0))
    assert 6 <= len(mean.t) <= 7
    assert node.counts(topic)["messages"] == 2


def test_log_that_cannot_be_read_is_told(own_broker, read, topic, monkeypatch):
    own_broker.start()
    log = Log(own_broker.servers)
    log.create(topic)
    t = time.time()
    log.write(topic, b'{"x": 1}', t=t - 5000.0)
    node = read(servers=own_broker.servers, topics=[topic], group=f"g-{topic}", history={"keep": 1000.0})
    node.wait(lambda: node.node.history.count([f"{topic}.x"], EVER) == 2)
    log.write(topic, b'{"x": 2}', t=t)
    node.wait(lambda: node.values(f"{topic}.x") == [2])
    assert node.node.history.count([f"{topic}.x"], EVER) == 4
    own_broker.kill()
    monkeypatch.setattr("sisock_nodes.kafka.log._ASK_S", 1.0)
    monkeypatch.setattr("sisock_nodes.kafka.shared._KEPT_S", 0.0)  # what was read for the counts
    with pytest.raises(NodeFailed, match="Kafka at .* cannot be asked for what it has"):
        node.node.history.read([f"{topic}.x"], Interval(t - 20_000.0, t + 1))
    own = node.node.history.read([f"{topic}.x"], Interval(round(t, 3), t + 1)).timelines[topic]
    assert own.columns[f"{topic}.x"].tolist() == [2]


def test_too_much_of_a_log_is_refused(log, read, topic, monkeypatch):
    monkeypatch.setattr("sisock_nodes.kafka.log._MOST", 2)
    log.create(topic)
    now = time.time()
    log.write(topic, *[b'{"x": 1}'] * 3, t=now - 5000.0)
    node = read(topics=[topic], group=f"g-{topic}", history={"keep": 1000.0})
    node.wait(lambda: node.node.history.within(EVER))
    with pytest.raises(TooLarge, match="3 messages from before this node's history; at most 2"):
        node.node.history.read([f"{topic}.x"], EVER)


def test_broker_that_is_away_at_first_and_dies_later(own_broker, read, topic, caplog):
    config = {**QUICK, "reconnect.backoff.max.ms": 500}  # instead of 10 s
    node = read(servers=own_broker.servers, topics=[topic], group=f"g-{topic}", start="earliest", config=config)
    node.wait(lambda: node.source.counters["errors"] > 0)
    assert caplog.text.count("further failures are counted") == 1
    own_broker.start()
    log = Log(own_broker.servers)
    log.create(topic)
    t = time.time() - 100.0
    log.write(topic, b'{"x": 1}', t=t)
    node.wait(lambda: node.values(f"{topic}.x") == [1], 60.0)
    assert "recovered after" in caplog.text
    own_broker.kill()
    own_broker.start()
    log.write(topic, b'{"x": 2}', t=t + 1)
    node.wait(lambda: node.values(f"{topic}.x") == [1, 2], 60.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no topics"),
        ({"topics": ["a b"]}, "pattern"),
        ({"topic_pattern": "("}, "is not a regular expression"),
        ({"topic_pattern": r"bad\d"}, "does not know"),
        ({"topic_pattern": "(?:a|b)"}, "does not know"),
        ({"topics": ["a"], "format": "struct"}, "needs record"),
        ({"topics": ["a"], "record": {"byte_format": "<d", "input_names": ["x"]}}, "record is for format struct"),
        ({"topics": ["a"], "partitions": {"a": [0]}}, "leave out topics"),
        ({"topics": ["a"], "format": "xml"}, "struct"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValidationError, match=message):
        KafkaSettings(type="kafka", servers="x", **settings)


def test_client_settings_that_cannot_be():
    with pytest.raises(BadRequest, match=r"No such configuration property.*no\.such"):
        open_node("n", KafkaSettings(type="kafka", servers="x", topics=["a"], config={"no.such": 1}))
