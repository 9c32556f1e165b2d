"""A recorder follows other nodes through a real router, whatever is killed."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sisock import DataNodeServer, Field, Timeline
from sisock.consumer import BlockingConsumer, following, past
from sisock.errors import SisockError
from sisock.history import open_history
from sisock.node import Node, open_node
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource, StepClock
from sisock.testing.fixtures import RunningRouter
from sisock.testing.serving import Serving
from sisock.times import Interval
from sisock.wamp.publisher import Publisher
from sisock_nodes.recorder import source as recorder_source
from sisock_nodes.recorder.settings import RecorderSettings

EVER = Interval(0.0, 1e12)
T0 = 1_600_000_000.0
FOR_EVER = HistorySettings(keep=1e11)
FIELDS = [Field("x", units="V"), Field("s", "string"), Field("b", "bool", description="whether")]


def timeline(lateness_s=0.0, fields=FIELDS, name="tl"):
    return Timeline(name, fields, interval_s=1.0, lateness_s=lateness_s, follows_clock=False)


def columns(t):
    return {"x": np.asarray(t) * 2, "s": np.array([f"at {x % 10:g}" for x in t], object), "b": np.asarray(t) % 2 == 0}


class Recorder:
    """A recorder of one node, in this process."""

    def __init__(self, access, folder, of, name, **settings):
        history = {"path": folder, **settings.pop("history", {})}
        settings = RecorderSettings(type="recorder", record=[of], history=history, **settings)
        self.of = of
        self.node = open_node(name, settings, access)
        self.serving = Serving(access)
        self.serving.serve(self.node)

    def samples(self, field="x", timeline="tl"):
        reply = self.node.history.read([f"{self.of}::{field}"], EVER)
        return reply.timelines.get(f"{self.of}::{timeline}")

    def wait(self, holds, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, self.node.status()
            time.sleep(0.01)

    def wait_for(self, t, field="x", timeline="tl"):
        self.wait(lambda: (s := self.samples(field, timeline)) is not None and len(s.t) >= len(t))
        np.testing.assert_array_equal(self.samples(field, timeline).t, t)

    @property
    def counts(self):
        return self.node.sources[0].counters

    def stop(self):
        self.serving.stop()


@pytest.fixture
def measured(sisock_router, unique):
    """A source, and its node that is served."""

    class Measured:
        def __init__(self):
            self.name, self.serving = unique, None

        def serve(self, *timelines, history=FOR_EVER, clock=None, allowance=None):
            self.stop()
            self.source = ManualSource(*(timelines or (timeline(),)))
            self.node = Node(self.name, None, [self.source], history, clock, allowance)
            self.serving = Serving(sisock_router.access("server"))
            self.serving.serve(self.node)
            return self

        def emit(self, t, name="tl", **more):
            values = columns(t)
            fields = next(tl for tl in self.source.timelines if tl.name == name).fields
            self.source.emit(name, t, {field.name: values[field.name] for field in fields}, **more)

        def stop(self):
            if self.serving:
                self.serving.stop()
            self.serving = None

    measured = Measured()
    yield measured
    measured.stop()


@pytest.fixture
def record(sisock_router, measured, tmp_path):
    made = []

    def make(**more):
        made.append(
            Recorder(sisock_router.access("server"), tmp_path / "h", measured.name, f"{measured.name}-r", **more)
        )
        return made[-1]

    yield make
    for recorder in made:
        recorder.stop()


def begun(measured, record):
    """Return a recorder that has ten samples."""
    measured.serve()
    measured.emit(T0 + np.arange(10.0))
    recorder = record()
    recorder.wait_for(T0 + np.arange(10.0))
    return recorder


def test_past_and_live_are_recorded_as_they_are(measured, record, sisock_router):
    measured.serve(timeline(lateness_s=5.0))
    past = T0 + np.arange(20_000.0)
    measured.emit(past[:10_000])
    measured.emit(past[10_000:] + 500.0, gap_from=past[9_999], dropped=7)
    recorder = record()
    t = np.r_[past[:10_000], past[10_000:] + 500.0]
    recorder.wait_for(t)
    for i in range(50):
        late = t[-1] - 2.5 + i / 100
        measured.emit([t[-1] + 1.0, late])
        t = np.sort(np.r_[t, t[-1] + 1.0, late])
    measured.emit(t[-1] + 100.0 + np.arange(3.0), gap_from=t[-1], dropped=3)
    t = np.r_[t, t[-1] + 100.0 + np.arange(3.0)]
    recorder.wait_for(t)
    theirs = measured.node.history.read(["x", "s", "b"], EVER).timelines["tl"]
    with BlockingConsumer(sisock_router.access()) as consumer:
        ours = consumer.data(recorder.node.name, [f"{measured.name}::{f}" for f in ("x", "s", "b")], 1.0)
        info = consumer.fields(recorder.node.name)
    samples = ours.timelines[f"{measured.name}::tl"]
    for name, values in theirs.columns.items():
        np.testing.assert_array_equal(ours[f"{measured.name}::{name}"], values)
    assert samples.finalized_until == theirs.finalized_until
    assert samples.gaps == theirs.gaps
    assert len(samples.gaps) == 2
    assert samples.dropped == 10
    assert info[f"{measured.name}::x"].units == "V"
    assert info[f"{measured.name}::b"].description == "whether"
    assert info[f"{measured.name}::x"].interval_s == 1.0
    assert recorder.counts["failures"] == recorder.counts["missed"] == recorder.counts["filled"] == 0


def test_past_is_fetched_in_pieces_that_the_node_allows(measured, record, monkeypatch):
    monkeypatch.setattr(past, "_AT_ONCE", 1000)
    measured.serve(allowance=AllowanceSettings(values=2000))
    t = T0 + np.r_[np.arange(3000.0) / 1000, 1e7 + np.arange(3000.0)]  # dense, silent, sparse
    measured.emit(t)
    recorder = record()
    recorder.wait_for(t)
    recorder.wait(lambda: recorder.counts["fetched"] == len(t))
    assert recorder.counts["failures"] == 0


def test_backfill_can_be_limited(measured, record):
    clock = StepClock(T0 + 1000.0)
    measured.serve(clock=clock)
    now = time.time()
    measured.emit(now - np.arange(1000.0)[::-1])
    recorder = record(backfill=100.0)
    recorder.wait(lambda: recorder.samples() is not None)
    assert 90 <= len(recorder.samples().t) <= 101
    assert recorder.samples().t[-1] == now


def test_what_a_recorder_missed_while_it_was_away_is_fetched(measured, record):
    measured.serve(timeline(lateness_s=10.0))
    t = T0 + np.arange(100.0)
    measured.emit(t)
    recorder = record()
    recorder.wait_for(t)
    recorder.stop()
    measured.emit(t[-1] + 1.0 + np.arange(5.0))
    measured.emit([t[-1] + 0.5], dropped=2, gap_from=t[-1])  # sorted in before the newest, beyond what was final there
    measured.emit(t[-1] + 6.0 + np.arange(45.0))
    t = np.sort(np.r_[t, t[-1] + 0.5, t[-1] + 1.0 + np.arange(50.0)])
    recorder = record()
    recorder.wait_for(t)
    assert recorder.counts["fetched"] < 80  # of what is final, nothing again
    samples = recorder.samples()
    np.testing.assert_array_equal(samples.columns[f"{measured.name}::x"], t * 2)
    assert samples.late == 0


def test_nothing_is_missing_when_more_comes_than_can_be_held(measured, record, monkeypatch):
    monkeypatch.setattr(following, "_HELD", 2)
    recorder = begun(measured, record)
    for i in range(10, 1000):
        measured.emit([T0 + i])
    recorder.wait_for(T0 + np.arange(1000.0))


def test_samples_that_no_feed_told_of_are_noticed(measured, record, monkeypatch):
    monkeypatch.setattr(recorder_source, "_LOOK_S", 0.1)
    recorder = begun(measured, record)
    with monkeypatch.context() as lost:
        lost.setattr(Publisher, "on_batch", lambda *_: None)  # as if the router lost it
        measured.emit(T0 + 10 + np.arange(10.0))
        recorder.wait_for(T0 + np.arange(20.0))
    measured.emit(T0 + 20 + np.arange(10.0))
    recorder.wait_for(T0 + np.arange(30.0))


def test_node_that_forgot_its_past_leaves_a_gap(measured, record):
    recorder = begun(measured, record)
    measured.stop()
    measured.serve()  # anew, with an empty memory
    measured.emit(T0 + 100 + np.arange(10.0))
    t = T0 + np.r_[np.arange(10.0), 100 + np.arange(10.0)]
    recorder.wait_for(t)
    assert recorder.samples().gaps == [(T0 + 9, T0 + 100)]


def test_finality_of_an_idle_node_is_taken_over(measured, record, monkeypatch):
    monkeypatch.setattr(recorder_source, "_LOOK_S", 0.1)
    clock = StepClock(T0)
    measured.serve(Timeline("tl", FIELDS, lateness_s=5.0), clock=clock)
    measured.emit(T0 + np.arange(10.0))
    clock.step(10.0)
    recorder = record()
    recorder.wait_for(T0 + np.arange(10.0))
    assert recorder.samples().finalized_until == T0 + 5.0
    clock.step(100.0)
    recorder.wait(lambda: recorder.samples().finalized_until == T0 + 105.0)


def test_fields_that_change_begin_an_epoch(measured, record, tmp_path):
    disk = HistorySettings(path=tmp_path / "theirs")
    measured.serve(history=disk)
    measured.emit(T0 + np.arange(10.0))
    recorder = record()
    recorder.wait_for(T0 + np.arange(10.0))
    measured.stop()
    fewer = timeline(fields=[Field("x", units="mV"), Field("b", "bool")])
    measured.serve(fewer, history=disk)
    measured.emit(T0 + 10 + np.arange(10.0))
    recorder.wait_for(T0 + np.arange(20.0))
    samples = recorder.samples()
    name = f"{measured.name}::x"
    assert [(since, field.units) for since, field in samples.epochs[name]] == [(T0, "V"), (T0 + 10, "mV")]
    assert len(recorder.samples("s").t) == 10
    recorder.stop()
    (tmp_path / "h").rename(tmp_path / "away")
    recorder = record()  # from the beginning, over the change
    recorder.wait_for(T0 + np.arange(20.0))
    assert [(since, field.units) for since, field in recorder.samples().epochs[name]] == [(T0, "V"), (T0 + 10, "mV")]
    assert len(recorder.samples("s").t) == 10


def test_timeline_and_node_that_come_later(measured, record, monkeypatch):
    monkeypatch.setattr(recorder_source, "_LOOK_S", 0.1)
    recorder = record()
    measured.serve()
    new = timeline(name="new", fields=[Field("y")])
    time.sleep(0.3)  # longer than a look, so that the feed has it
    measured.source.add(new)
    measured.source.emit("new", [T0, T0 + 1], {"y": [1, 2]})
    measured.emit(T0 + np.arange(5.0))
    recorder.wait_for([T0, T0 + 1], "y", "new")
    recorder.wait_for(T0 + np.arange(5.0))


def test_node_that_speaks_the_published_contract_alone(sisock_router, sisock_serve, record, measured, monkeypatch):
    monkeypatch.setattr(recorder_source, "_LOOK_S", 0.1)
    times = [T0, T0 + 1]

    class Old(DataNodeServer):
        name = measured.name

        def get_fields_blocking(self, start, end):
            if not any(start <= t < end for t in times):
                return {}, {}
            return {"x": {"description": None, "timeline": "tl", "type": "number", "units": "V"}}, {
                "tl": {"interval": None, "field": ["x"]}
            }

        def get_data_blocking(self, field, start, end, min_stride=None):
            t = [t for t in times if start <= t < end]
            return {"data": {"x": [2 * each for each in t]}, "timeline": {"tl": {"t": t, "finalized_until": None}}}

    sisock_serve(Old)
    recorder = record()
    recorder.wait_for(times)
    times += [T0 + 2, T0 + 3]
    recorder.wait_for(times)
    assert recorder.counts["failures"] == 0


@pytest.mark.long
def test_nothing_is_missing_whoever_is_killed(tmp_path):
    router = RunningRouter(tmp_path)
    (tmp_path / "site.yaml").write_text(
        (tmp_path / "site.yaml").read_text()
        + "nodes:\n  archive: {type: recorder, record: ['me*'], history: {path: archive}}\n"
    )
    source = ManualSource(timeline())
    serving = Serving(router.access("server"))
    command = [sys.executable, "-m", "sisock", "node", "run", "archive", "--site", str(tmp_path)]
    log = (tmp_path / "archive.log").open("ab")
    recorder, count = None, 0

    def emit(batches):
        nonlocal count
        for _ in range(batches):
            t = T0 + count + np.arange(7.0)
            source.emit("tl", t, columns(t))
            count += 7
            time.sleep(0.002)

    try:
        router.start()
        serving.serve(Node("measured", None, [source], FOR_EVER))
        for i in range(5):
            recorder = subprocess.Popen(command, stdout=log, stderr=log)
            emit(400)
            if i == 2:
                router.kill("router")
                emit(100)
                router.start("router")
            emit(int(np.random.default_rng(i).integers(300)))
            if i < 4:
                recorder.send_signal(signal.SIGKILL)
                recorder.wait()
            emit(20)
        with BlockingConsumer(router.access(), timeout_s=30.0) as consumer:
            deadline = time.monotonic() + 60.0
            while True:
                try:
                    data = consumer.data("archive", ["measured::x", "measured::s"], 1.0)
                    if len(data["measured::x"]) >= count:
                        break
                except SisockError:
                    pass
                assert time.monotonic() < deadline, (count, (tmp_path / "archive.log").read_text())
                time.sleep(0.1)
            t = T0 + np.arange(float(count))
            np.testing.assert_array_equal(data.timelines["measured::tl"].t, t)
            np.testing.assert_array_equal(data["measured::x"], columns(t)["x"])
            np.testing.assert_array_equal(data["measured::s"], columns(t)["s"])
            assert data.timelines["measured::tl"].gaps == []
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(60.0) == 0, (tmp_path / "archive.log").read_text()
        with open_history(tmp_path / "archive") as history:
            assert history.count(["measured::x"], EVER) == 2 * count
    finally:
        log.close()
        if recorder is not None and recorder.poll() is None:
            recorder.kill()
            recorder.wait()
        serving.stop()
        router.stop()


def test_a_clock_that_was_ahead_is_noticed_by_recorder_and_consumers(measured, record, sisock_router, tmp_path):
    now, year = 1_700_000_000.0, 365.25 * 86400.0
    history = HistorySettings(path=tmp_path / "measured", keep=1e9)

    def run(clock):
        measured.serve(Timeline("tl", FIELDS, interval_s=1.0), history=history, clock=clock)
        t = clock.now() + np.arange(1.0, 11.0)
        for each in t:
            clock.step(1.0)
            measured.emit([each])
        clock.step(5.0)
        return t

    first = run(StepClock(now))
    recorder = record()
    recorder.wait_for(first)
    ahead = run(StepClock(now + 20.0 + year))
    recorder.wait_for(np.r_[first, ahead])
    recorder.wait(lambda: recorder.node.history.finalized_until(f"{measured.name}::tl") > now + year)
    with BlockingConsumer(sisock_router.access("consumer")) as consumer:
        final = consumer.data(measured.name, ["x"], now, now + 1000.0)
        assert (len(final["x"]), final.timelines["tl"].finalized_until) == (10, None)
        assert consumer.data(measured.name, ["x"], now, now + 1000.0)["x"].tolist() == final["x"].tolist()
        assert consumer.cache_info()["answers"] == 1
        right = run(StepClock(now + 60.0))
        recorder.wait(lambda: recorder.samples().t[-1] == right[-1])
        recorder.wait_for(np.r_[first, right])
        deadline = time.monotonic() + 60.0
        while consumer.status(measured.name)["timelines"]["tl"]["reset"] != 1:
            assert time.monotonic() < deadline
        again = consumer.data(measured.name, ["x"], now, now + 1000.0)
        assert len(again["x"]) == 20
        assert again.timelines["tl"].reset == 1
    status = recorder.node.status()["timelines"][f"{measured.name}::tl"]
    assert (status["quarantined"], [reset["number"] for reset in status["resets"]]) == (10, [1])
    recorder.serving.stop()
    # A recorder that starts anew sets nothing back twice.
    recorder = record()
    recorder.wait_for(np.r_[first, right])
    assert recorder.counts["set_back"] == 0


@pytest.mark.parametrize("on_disk", [True, False])
def test_types_that_become_wider_are_recorded_as_they_are(on_disk, measured, record, tmp_path):
    history = HistorySettings(path=tmp_path / "measured") if on_disk else FOR_EVER
    lines = {kind: timeline(5.0, [Field("x", kind, units="V")]) for kind in ("bool", "number", "string")}
    measured.serve(lines["bool"], history=history)
    source = measured.source
    source.emit("tl", T0 + np.arange(3.0), {"x": np.array([True, False, True])})
    recorder = record()
    recorder.wait_for(T0 + np.arange(3.0))
    source.emit("tl", [T0 + 3.0], {"x": np.array([False])})
    recorder.wait_for(T0 + np.arange(4.0))
    source.add(lines["number"])
    source.emit("tl", T0 + np.arange(4.0, 6.0), {"x": np.array([2.5, np.nan])})
    recorder.wait_for(T0 + np.arange(6.0))
    source.add(lines["string"])
    source.emit("tl", [T0 + 6.0], {"x": np.array(["fault"], object)})
    recorder.wait_for(T0 + np.arange(7.0))
    values = recorder.samples().columns[f"{measured.name}::x"].tolist()
    assert [str(value) for value in values] == ["True", "False", "True", "False", "2.5", "nan", "fault"]
    assert recorder.node.status()["counters"]["bad_batches"] == 0
    (kept,) = recorder.node.history.timelines
    assert [field.type for field in kept.fields] == ["string"]
