"""Datagrams: received in arrays, sorted by sender, counted when they are not what they should be."""

import json
import os
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sisock.errors import BadRequest
from sisock.node import open_node
from sisock.procedure import Caller
from sisock.testing.fixtures import free_ports
from sisock.times import Interval, SystemClock
from sisock_nodes.udp import receiver as receiver_module
from sisock_nodes.udp.receiver import Datagrams, Receiver
from sisock_nodes.udp.settings import SourceSettings, UdpSettings
from sisock_nodes.udp.stream import ARRIVAL_STEP_S, Stream

EVER = Interval(0.0, 1e12)
NOW = 1_700_000_000.0


def datagrams_of(*datagrams, at=NOW):
    """Return datagrams as if they had been received."""
    lengths = np.array([len(data) for data in datagrams])
    beginnings = np.zeros((len(datagrams), max(lengths)), np.uint8)
    for row, data in zip(beginnings, datagrams, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8)
    senders, arrival = np.zeros((len(lengths), 4), np.uint64), np.broadcast_to(np.asarray(at), len(lengths))
    return Datagrams(lengths, senders, arrival, beginnings, beginnings[:, :0])


@pytest.fixture
def sender():
    sockets = []

    def make(family=socket.AF_INET):
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        sockets.append(made)
        return made

    yield make
    for made in sockets:
        made.close()


@pytest.fixture
def receiver():
    receiver = Receiver("127.0.0.1", 0)
    yield receiver
    receiver.close()


class Rig:
    """A node that receives, and what it has."""

    def __init__(self, sources, folder=None, clock=None, **more):
        self.port = more.pop("port", None) or free_ports(1, socket.SOCK_DGRAM)[0]
        settings = UdpSettings(type="udp", host="127.0.0.1", port=self.port, sources=sources, **more)
        self.node = open_node("rig", settings, folder=folder, clock=clock)
        self.node.start()

    def call(self, name, **arguments):
        work = self.node.work
        return work.call(work.offers.get(name), arguments, Caller()).result(10.0)

    def send(self, sender, *datagrams):
        for data in datagrams:
            sender.sendto(data, ("127.0.0.1", self.port))

    def counts(self, source=None):
        listed = self.node.status()["sources"]
        return next(s["counters"] for s in listed if s.get("part") == source)

    def wait(self, holds):
        deadline = time.monotonic() + 60.0
        while not holds():
            assert time.monotonic() < deadline, self.node.status()
            time.sleep(0.005)

    def samples(self, field):
        (samples,) = self.node.history.read([field], EVER).timelines.values()
        return samples


@pytest.fixture
def rig(request):
    made = []

    def make(sources, **more):
        made.append(Rig(sources, **more))
        return made[-1]

    yield make
    for each in made:
        each.node.stop()


def test_datagrams_of_all_lengths_are_received_whole_and_in_order(receiver, sender):
    lengths = [10, 0, 3000, 1, 65507, 2112, 2113, 10]
    one = sender()
    for i, n in enumerate(lengths):
        one.sendto(bytes([i + 1]) * n, ("127.0.0.1", receiver.port))
    before = time.time()
    receiver.wait(60.0)
    datagrams = receiver.receive()
    assert datagrams.lengths.tolist() == lengths
    assert receiver.sender(datagrams.senders[3].tobytes()) == one.getsockname()
    assert np.all(np.abs(datagrams.arrival - before) < 5.0)
    for index in ([0], [0, 7], [0, 1, 3], [3, 0], [2, 4], [5, 6], list(range(8)), []):
        expected = b"".join(bytes([i + 1]) * lengths[i] for i in index)
        assert datagrams.payload(np.array(index, np.intp)).tobytes() == expected
    assert receiver.receive() is None


def test_ipv6(sender):
    receiver = Receiver("::1", 0)
    one = sender(socket.AF_INET6)
    one.sendto(b"abc", ("::1", receiver.port))
    receiver.wait(60.0)
    datagrams = receiver.receive()
    assert receiver.sender(datagrams.senders[0].tobytes()) == one.getsockname()[:2]
    receiver.close()


def test_port_that_is_taken_is_told(receiver):
    with pytest.raises(BadRequest, match="another program has it"):
        Receiver("127.0.0.1", receiver.port)
    with pytest.raises(BadRequest, match="give another host or port"):
        Receiver("203.0.113.1", 0)


def test_what_the_kernel_drops_is_counted(rig, sender, monkeypatch):
    monkeypatch.setattr(receiver_module, "_MOST_BUFFER", 4096)
    held = threading.Event()

    class HeldClock(SystemClock):
        """Holds up who receives, once there is something."""

        def now(self):
            if sent:
                held.wait(10)
            return time.time()

    one, sent = sender(), []
    node = rig({"x": {"byte_format": "<d", "input_names": ["x"]}}, clock=HeldClock())
    sent.append(True)
    for _ in range(500):
        node.send(one, bytes(8))
    held.set()
    node.wait(lambda: node.counts("x")["received"] + node.counts()["dropped_by_kernel"] == 500)
    assert node.counts()["dropped_by_kernel"] > 0


def test_interleaved_senders_keep_what_each_has_sent(rig, sender):
    """The system that this follows wrote all senders into one buffer, at each other's offsets."""
    one, two = sender(), sender()
    node = rig(
        {
            "one": {
                "port": one.getsockname()[1],
                "byte_format": "<d3f",
                "input_names": ["t", "a", "b", "c"],
                "time_index": 0,
            },
            "two": {
                "port": two.getsockname()[1],
                "byte_format": ">qd",
                "input_names": ["n", "t"],
                "time_index": 1,
                "output_refs": ["n"],
            },
        },
        history={"keep": 1e11},
    )
    random = np.random.default_rng(1)
    n, t0 = 30_000, time.time() - 1000.0
    t = t0 + np.arange(n) / 100
    raw = random.integers(0, 2**32, (n, 3), np.uint32)  # any bits, NaN among them
    first = np.zeros(n, np.dtype([("t", "<f8"), ("v", "<u4", 3)]))
    first["t"], first["v"] = t, raw
    numbers = random.integers(-(2**63), 2**63 - 1, n, np.int64)
    second = np.zeros(n, np.dtype([("n", ">i8"), ("t", ">f8")]))
    second["n"], second["t"] = numbers, t

    def send(who, records, at_once):
        parts = [records[i : i + at_once].tobytes() for i in range(0, n, at_once)]
        for part in parts:
            node.send(who, part)

    threads = [threading.Thread(target=send, args=each) for each in ((one, first, 1), (two, second, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    node.wait(lambda: node.counts("one")["decoded"] == node.counts("two")["decoded"] == n)
    np.testing.assert_array_equal(node.samples("two.n").columns["two.n"], numbers)
    for i, name in enumerate("abc"):
        values = node.samples(f"one.{name}").columns[f"one.{name}"]
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values.view(np.uint32), raw[:, i])
    np.testing.assert_array_equal(node.samples("one.t").t, t)
    assert node.counts()["unknown_sender"] == node.counts()["dropped_by_kernel"] == 0


def test_what_is_wrong_is_counted_and_the_rest_is_taken(rig, sender):
    known, stranger = sender(), sender()
    node = rig(
        {"x": {"port": known.getsockname()[1], "byte_format": "<2d", "input_names": ["t", "x"], "time_index": 0}},
        history={"keep": 1e11},
    )
    t = time.time()
    rows = [(t, 1.0), (t + 90_000.0, 2.0), (float("nan"), 3.0), (t + 1, float("inf")), (t + 0.5, 5.0)]
    node.send(known, *(struct.pack("<2d", *row) for row in rows))
    node.send(known, b"", bytes(15), bytes(17), bytes(65507), struct.pack("<2d", t + 2, 6.0))
    node.send(stranger, bytes(16), bytes(16))
    node.wait(lambda: node.counts("x")["received"] == 10)
    node.send(known, struct.pack("<2d", t - 500.0, 4.0))
    node.wait(lambda: node.counts("x")["decoded"] == 7 and node.counts()["received"] == 13)
    counts = node.counts("x")
    assert (counts["wrong_length"], counts["ahead"], counts["decoded"]) == (4, 1, 7)
    assert counts["non_finite"] == 2  # a time and a value
    assert node.counts()["unknown_sender"] == 2
    samples = node.samples("x.x")
    assert samples.columns["x.x"].tolist() == [1.0, 5.0, float("inf"), 6.0]
    status = node.node.status()["timelines"]["x"]
    assert (status["refused"], status["late"]) == (1, 1)


def test_most_exact_source_has_the_datagrams(rig, sender):
    one, two = sender(), sender()
    about = {"byte_format": "<d", "input_names": ["x"]}
    node = rig(
        {
            "any": about,
            "one": {**about, "address": "127.0.0.1", "port": one.getsockname()[1]},
            "local": {**about, "address": "127.0.0.1"},
        }
    )
    node.send(one, bytes(8))
    node.send(two, bytes(8), bytes(8))
    node.wait(lambda: node.counts("one")["received"] == 1 and node.counts("local")["received"] == 2)
    assert node.counts("any")["received"] == 0


def test_several_ports(rig, sender):
    ports = free_ports(2, socket.SOCK_DGRAM)
    about = {"byte_format": "<d", "input_names": ["x"]}
    with pytest.raises(ValidationError, match="receive_on is 1, but the node receives on"):
        UdpSettings(type="udp", port=ports, sources={"a": {**about, "receive_on": 1}})
    node = rig({name: {**about, "receive_on": port} for name, port in zip("ab", ports, strict=True)}, port=ports)
    one = sender()
    for port in ports:
        one.sendto(bytes(8), ("127.0.0.1", port))
    node.wait(lambda: node.counts("a")["received"] == node.counts("b")["received"] == 1)


def test_sources_are_made_while_the_node_runs_and_survive_a_restart(rig, sender, tmp_path):
    one = sender()
    about = {"byte_format": "<d", "input_names": ["x"]}
    fixed = {"fixed": {**about, "port": 9}}
    node = rig(fixed, folder=tmp_path)
    told = node.call("create_source", id="new", port=one.getsockname()[1], units={"x": "V"}, **about)
    assert (told["running"], told["from"]) == (True, "created")
    node.send(one, struct.pack("<d", 1.5))
    node.wait(lambda: node.counts("new")["decoded"] == 1)
    assert node.samples("new.x").columns["new.x"].tolist() == [1.5]
    node.call("stop_source", id="new")
    node.call("stop_source", id="fixed")
    node.send(one, bytes(8))
    node.wait(lambda: node.counts("new")["stopped"] == 1)
    for arguments, message in [
        ({"id": "new", **about}, "there is a source 'new' already"),
        ({"id": "b", "port": 9, **about}, "'fixed' and 'b' would get the same datagrams"),
        ({"id": "b", "byte_format": "<2d", "input_names": ["x"]}, "has 2 values, input_names has 1 names"),
        ({"id": "b", "input_names": ["x"]}, "byte_format is missing"),
        ({"id": "", **about}, "id: String should have at least 1"),
        ({**about}, "id: is missing"),
        ({"id": "b", "colour": 1, **about}, "colour: is not known"),
        ({"id": "b", "address": "nowhere", **about}, "'nowhere' is not an IP address"),
        ({"id": "b", "port": 70_000, **about}, "port: "),
    ]:
        with pytest.raises(BadRequest, match=message):
            node.call("create_source", **arguments)
    with pytest.raises(BadRequest, match="there is no source 'b'; there are: fixed, new"):
        node.call("read_source", id="b")
    with pytest.raises(BadRequest, match="is in the site file"):
        node.call("delete_source", id="fixed")
    node.node.stop()
    again = rig(fixed, folder=tmp_path)
    assert [(told["id"], told["running"]) for told in again.call("list_sources")] == [("fixed", False), ("new", False)]
    assert again.call("read_source", id="new")["units"] == {"x": "V"}
    again.call("start_source", id="new")
    again.send(one, bytes(8))
    again.wait(lambda: again.counts("new")["decoded"] == 1)
    again.call("delete_source", id="new")
    again.send(one, bytes(8))
    again.wait(lambda: again.counts()["unknown_sender"] == 1)
    assert again.samples("new.x").columns["new.x"].tolist() == [0.0]  # what was measured stays
    again.call("create_source", id="new", port=one.getsockname()[1], **about)
    again.node.stop()
    (tmp_path / "sources.json").write_text("{")
    with pytest.raises(BadRequest, match="repair it, or remove it"):
        rig(fixed, folder=tmp_path)


def test_source_that_was_created_is_on_the_disk(rig, tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def synced(fd):
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        fsync(fd)

    def replaced(source, target):
        steps.append(("replace", Path(target).name))
        replace(source, target)

    node = rig({}, folder=tmp_path / "kept")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    node.call("create_source", id="new", byte_format="<d", input_names=["x"])
    assert steps[-3:] == [("sync", "sources.new"), ("replace", "sources.json"), ("sync", "kept")]


def test_source_that_cannot_be_kept_is_not_made(rig, tmp_path):
    (tmp_path / "file").write_text("")
    node = rig({}, folder=tmp_path / "file" / "folder")
    with pytest.raises(BadRequest, match="nothing was changed"):
        node.call("create_source", id="new", byte_format="<d", input_names=["x"])
    assert node.call("list_sources") == []


def test_created_source_gives_way_to_the_site_file(rig, tmp_path, caplog):
    about = {"byte_format": "<d", "input_names": ["x"]}
    (tmp_path / "sources.json").write_text(
        json.dumps({"created": {"x": about, "y": {**about, "port": 5}}, "stopped": []})
    )
    node = rig({"x": {**about, "port": 7}}, folder=tmp_path)
    assert [(told["id"], told["port"]) for told in node.call("list_sources")] == [("x", 7), ("y", 5)]
    assert "x, which was created earlier, is left out" in caplog.text


def test_what_came_is_final_when_the_sender_is_quiet(rig, sender):
    node = rig(
        {"x": {"byte_format": "<d", "input_names": ["t"], "time_index": 0, "lateness": 0.5}}, history={"keep": 1e11}
    )
    node.send(sender(), struct.pack("<d", 1e9))
    node.wait(lambda: node.counts("x")["decoded"] == 1)
    final = node.node.history.finalized_until
    assert final("x") == 1e9 - 0.5
    node.wait(lambda: final("x") > 1e9)
    assert final("x") < 1e9 + 1.0  # by the sender's clock, which stands still


def test_what_waits_in_the_kernel_is_not_late(rig, sender, monkeypatch):
    node = rig({"x": {"byte_format": "<d", "input_names": ["x"], "lateness": 0.1}})
    final, one = node.node.history.finalized_until, sender()
    node.wait(lambda: (final("x") or 0.0) > time.time() - 3.0)  # though nothing ever came
    node.send(one, struct.pack("<d", -1.0))
    node.wait(lambda: node.counts("x")["decoded"] == 1)
    receive, held = Receiver.receive, threading.Event()

    def receive_later(self):
        held.wait(20.0)
        return receive(self)

    monkeypatch.setattr(Receiver, "receive", receive_later)
    node.send(one, *(struct.pack("<d", i) for i in range(100)))
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        node.node.history.status()  # somebody asks meanwhile
        time.sleep(0.05)
    held.set()
    node.wait(lambda: node.counts("x")["decoded"] == 101)
    assert node.samples("x.x").columns["x.x"].tolist() == list(range(-1, 100))
    assert node.node.history.status()["x"]["late"] == 0


def test_time_away_is_a_gap_whoever_gives_the_times(rig, sender, tmp_path):
    about = {"byte_format": "<d", "input_names": ["t"], "time_index": 0}
    one, keep = sender(), {"path": tmp_path, "keep": 1e11}
    for t in (NOW, NOW + 5.0):
        node = rig({"x": about}, history=keep)
        node.send(one, struct.pack("<d", t))
        node.wait(lambda node=node: node.counts("x")["decoded"] == 1)
        gaps = node.samples("x.t").gaps
        node.node.stop()
    assert gaps == [(NOW, NOW + 5.0)]


def test_mapped_addresses_are_those_of_ipv4():
    assert SourceSettings(byte_format="<d", input_names=["x"], address="::ffff:127.0.0.1").address == "127.0.0.1"


def test_times_of_arrival_rise_strictly():
    stream = Stream("x", SourceSettings(byte_format="<d", input_names=["x"]))
    stream.start()
    several = [(NOW, NOW, NOW, NOW - 5.0), (NOW, NOW + 1.0)]
    t = np.concatenate(
        [
            batch.t
            for at in several
            for batch in stream.take(datagrams_of(*[bytes(8)] * len(at), at=at), np.arange(len(at)), NOW)
        ]
    )
    assert np.all(np.diff(t) > ARRIVAL_STEP_S / 2)
    assert (t[0], t[-1]) == (NOW, NOW + 1.0)


def test_clock_that_is_set_back_a_little_makes_nothing_late():
    stream = Stream("x", SourceSettings(byte_format="<d", input_names=["x"], lateness=0.1))
    stream.start()
    assert stream.quiet(NOW, NOW).finalized_until == NOW - 0.1
    assert stream.quiet(NOW + 0.5, NOW + 0.5) is None
    (batch,) = stream.take(datagrams_of(struct.pack("<d", 7.0), at=NOW - 0.4), np.arange(1), NOW - 0.4)
    assert batch.t[0] > NOW - 0.1


def arrivals(stream, *at):
    (batch,) = stream.take(datagrams_of(*[bytes(8)] * len(at), at=at), np.arange(len(at)), at[-1])
    return batch.t.tolist()


def test_clock_that_was_ahead_for_a_while_does_not_stamp_what_arrives_afterwards():
    decade = 3.2e8
    stream = Stream("x", SourceSettings(byte_format="<d", input_names=["x"], lateness=0.0))
    stream.start()
    assert arrivals(stream, NOW, NOW + decade) == [NOW, NOW + decade]
    assert arrivals(stream, NOW + 2.0, NOW + 3.0) == [NOW + 2.0, NOW + 3.0]
    assert stream.quiet(NOW + decade, NOW + decade).finalized_until == NOW + decade
    assert stream.quiet(NOW + 9.0, NOW + 9.0).finalized_until == NOW + 9.0
    assert arrivals(stream, NOW + 10.0) == [NOW + 10.0]


@given(
    datagrams=st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=80)), min_size=1, max_size=30),
    byte_format=st.sampled_from(["<2d", ">hb5s", "<?f", "@bd"]),
)
def test_whatever_comes_is_read_or_counted(datagrams, byte_format):
    number = {"<2d": 2, ">hb5s": 3, "<?f": 2, "@bd": 2}[byte_format]
    stream = Stream("s", SourceSettings(byte_format=byte_format, input_names=[f"v{i}" for i in range(number)]))
    stream.start()
    came = datagrams_of(*(data for _, data in datagrams))
    index = np.flatnonzero([who == 0 for who, _ in datagrams])
    size = struct.calcsize(byte_format)
    whole = [data for who, data in datagrams if who == 0 and data and len(data) % size == 0]
    rows = [row for data in whole for row in struct.iter_unpack(byte_format, data)]
    batches = list(stream.take(came, index, NOW))
    assert sum(map(len, batches)) == len(rows) == stream.counters["decoded"]
    assert stream.counters["wrong_length"] == len(index) - len(whole)
    if rows:
        ours = np.concatenate([batch.columns["s.v0"] for batch in batches])
        np.testing.assert_array_equal(ours, np.array([row[0] for row in rows]))
