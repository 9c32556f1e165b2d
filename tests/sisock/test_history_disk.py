"""The history on disk: the same answers as from memory, across restarts, kills, damage and full disks."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisock.downsample import METHODS, downsampled
from sisock.errors import BadData, BadHistory
from sisock.fields import Field, Timeline, as_batch
from sisock.files import checked_line
from sisock.history import History, journal, open_history
from sisock.history.layout import BLOCK
from sisock.history.segment import Segment
from sisock.history.store import Store
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from tests.sisock.histories import StoredHistory, killed, seal

EVER = Interval(-1e12, 1e12)
FIELDS = (Field("x", units="K"), Field("i"), Field("s", "string"), Field("b", "bool"))


def timeline(fields=FIELDS, lateness=0.0, follows_clock=False, **more):
    return Timeline("tl", fields, lateness_s=lateness, follows_clock=follows_clock, **more)


def on_disk(path, line=None, clock=None, **more):
    more = {"memory": 0.0, "sync": "none", **more}
    return StoredHistory([line or timeline()], HistorySettings(path=path, **more), clock or StepClock(5e4))


def columns_of(t, seed=0.0):
    t = np.asarray(t, float)
    return {
        "x": np.where(t % 7 == 3, np.nan, np.sin(t) + seed),
        "i": (t * 10).astype(np.int64),
        "s": np.array([f"word {int(v) % 5}" for v in t], object),
        "b": t % 2 == 0,
    }


def put(history, t, seed=0.0, **more):
    return history.append(as_batch("tl", t, columns_of(t, seed), **more))


def entries(history, state=None):
    return [e for e in history.store.stored("tl").entries if state in (None, e.state)]


def same(got, expected):
    assert got.keys() == expected.keys()
    for name in got:
        a, b = got[name], expected[name]
        np.testing.assert_array_equal(a.t, b.t)
        assert a.columns.keys() == b.columns.keys()
        for field in a.columns:
            np.testing.assert_array_equal(a.columns[field], b.columns[field])
        assert (a.finalized_until, a.gaps, a.dropped, a.late) == (b.finalized_until, b.gaps, b.dropped, b.late)


NAMES = [f.name for f in FIELDS]

writes = st.lists(
    st.tuples(st.lists(st.integers(0, 120), min_size=1, max_size=12), st.sampled_from(["", "seal", "reopen"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(
    writes,
    st.sampled_from([0.0, 20.0, 1000.0]),
    st.tuples(st.integers(-5, 130), st.integers(0, 130)),
    st.sampled_from(list(METHODS)),
    st.sampled_from([0.5, 2.0, 3.0, 16.0, 10.0]),
)
def test_disk_memory_open_sealed_and_pyramid_give_the_same(tmp_path_factory, writes, lateness, bounds, method, stride):
    path = tmp_path_factory.mktemp("history")
    line = timeline(lateness=lateness)
    memory = History([line], HistorySettings(keep=1e12), StepClock(5e4))
    disk = on_disk(path, line)
    try:
        for seed, (times, then) in enumerate(writes):
            put(memory, times, seed)
            put(disk, times, seed)
            if then == "seal":
                seal(disk)
            elif then == "reopen":
                disk.close()
                disk = on_disk(path, line)
        interval = Interval(float(bounds[0]), float(bounds[0] + bounds[1]))
        for wanted in (EVER, interval):
            expected = memory.read(NAMES, wanted).timelines
            same(disk.read(NAMES, wanted).timelines, expected)
            assert disk.count(NAMES, wanted) == memory.count(NAMES, wanted)
            thinned = disk.downsampled(NAMES, wanted, method, stride).timelines
            if not any(len(samples.t) for samples in expected.values()):
                assert not any(len(samples.t) for samples in thinned.values())
                continue
            samples = expected["tl"]
            t, columns, fell_back = downsampled(samples.t, samples.columns, stride, method)
            got = thinned["tl"]
            np.testing.assert_array_equal(got.t, t)
            for name in NAMES:
                if method == "mean" and name in ("x", "i"):
                    np.testing.assert_allclose(got.columns[name], columns[name], rtol=1e-12, atol=1e-12)
                else:
                    np.testing.assert_array_equal(got.columns[name], columns[name])
            assert got.downsample.first == tuple(fell_back)
            assert got.downsample.stride == stride
            few = disk.downsampled(NAMES, wanted, method, 0.0, 10).timelines["tl"]
            assert len(few.t) <= 10
            same({"tl": few}, {"tl": memory.downsampled(NAMES, wanted, method, 0.0, 10).timelines["tl"]}) if (
                method != "mean"
            ) else None
    finally:
        disk.close()


def test_pyramids_of_many_segments_give_what_the_samples_give(tmp_path):
    random = np.random.default_rng(1)
    t = np.cumsum(random.exponential(0.1, 60_000)) + 1.7e9
    x = random.normal(size=len(t))
    x[random.integers(0, len(t), 100)] = np.nan
    line = timeline((Field("x"),))
    disk = on_disk(tmp_path, line)
    for part in np.array_split(np.arange(len(t)), 6):
        disk.append(as_batch("tl", t[part], {"x": x[part]}))
        seal(disk, whole=True)
    assert len(entries(disk, "sealed")) == 6
    for low, high in ((0, 60_000), (17, 59_990), (12_345, 23_456), (30_001, 30_020)):
        interval = Interval(float(t[low]), float(t[high - 1]) + 1e-6)
        inside = slice(low, high)
        for method in ("mean", "min", "max", "minmax", "first"):
            for stride in (0.25, 8.0, 10.0, 64.0, 4096.0, 1e6):
                got = disk.downsampled(["x"], interval, method, stride).timelines["tl"]
                want_t, want, _ = downsampled(t[inside], {"x": x[inside]}, stride, method)
                np.testing.assert_array_equal(got.t, want_t)
                np.testing.assert_allclose(got.columns["x"], want["x"], rtol=1e-12 if method == "mean" else 0)
            few = disk.downsampled(["x"], interval, method, 0.0, 50).timelines["tl"]
            assert len(few.t) <= 50
            assert len(few.t) >= min(50, high - low) // 8
    disk.close()


def test_finality_does_not_go_back_at_a_restart_even_when_the_clock_does(tmp_path):
    clock = StepClock(1000.0)
    line = timeline(lateness=5.0, follows_clock=True)
    disk = on_disk(tmp_path, line, clock)
    put(disk, [999.0])
    clock.step(100.0)
    assert disk.finalized_until("tl") == 1095.0
    killed(disk)
    again = on_disk(tmp_path, line, StepClock(500.0))
    assert again.finalized_until("tl") == 1095.0
    assert put(again, [1094.0]) is None
    assert again.status()["tl"]["late"] == 1
    again.close()


def test_node_that_was_away_says_so_by_a_gap(tmp_path):
    clock = StepClock(1000.0)
    line = timeline(follows_clock=True, interval_s=1.0, lateness=1.0)
    disk = on_disk(tmp_path, line, clock)
    put(disk, [999.0, 1000.0])
    disk.close()
    clock.step(60.0)
    disk = on_disk(tmp_path, line, clock)
    put(disk, [1060.0])
    put(disk, [1061.0])
    assert disk.read(["x"], EVER).timelines["tl"].gaps == [(1000.0, 1060.0)]
    disk.close()
    clock.step(1.0)
    disk = on_disk(tmp_path, line, clock)
    put(disk, [1062.0])  # in its turn
    assert len(disk.read(["x"], EVER).timelines["tl"].gaps) == 1
    disk.close()


def test_gaps_and_losses_outlive_a_restart_and_are_in_thinned_answers(tmp_path):
    disk = on_disk(tmp_path, timeline(lateness=0.0))
    put(disk, [100.0, 200.0], gap_from=50.0, dropped=7)
    put(disk, [150.0, 151.0])
    disk.close()
    disk = on_disk(tmp_path)
    for samples in (
        disk.read(["x"], EVER).timelines["tl"],
        disk.downsampled(["x"], EVER, "minmax", 1000.0).timelines["tl"],
    ):
        assert samples.gaps == [(50.0, 100.0)]
        assert (samples.dropped, samples.late) == (7, 2)
    assert disk.read(["x"], Interval(199.0, 300.0)).timelines["tl"].late == 0
    disk.close()


def test_what_is_delivered_again_after_a_restart_is_a_repeat_and_no_loss(tmp_path):
    disk = on_disk(tmp_path)
    put(disk, np.arange(5000))
    disk.close()
    disk = on_disk(tmp_path)
    put(disk, np.arange(6000))
    status = disk.status()["tl"]
    assert status["late"] == 0
    assert status["repeated"] >= 4999
    assert disk.count(["x"], EVER) == 2 * 6000
    disk.close()


def test_field_that_changes_its_units_or_type_begins_an_epoch_and_both_are_served(tmp_path):
    first = timeline((Field("x", units="K"), Field("old")))
    disk = on_disk(tmp_path, first)
    disk.append(as_batch("tl", [1, 2], {"x": [1.5, 2.5], "old": [7, 8]}))
    disk.close()
    second = timeline((Field("x", units="°C"), Field("new", "string")))
    disk = on_disk(tmp_path, second)
    disk.append(as_batch("tl", [3], {"x": [3.5], "new": ["a"]}))
    samples = disk.read(["x", "old", "new"], EVER).timelines["tl"]
    assert samples.t.tolist() == [1, 2, 3]
    assert samples.columns["x"].tolist() == [1.5, 2.5, 3.5]
    np.testing.assert_array_equal(samples.columns["old"], [7, 8, np.nan])
    assert samples.columns["new"].tolist() == [None, None, "a"]
    assert [(since, f.units) for since, f in samples.epochs["x"]] == [(1.0, "K"), (3.0, "°C")]
    assert disk.read(["old"], EVER).timelines["tl"].t.tolist() == [1, 2]
    assert {f.name for f in disk.within(Interval(0, 3))[0].fields} == {"x", "old"}
    assert {f.name: f.units for f in disk.within(EVER)[0].fields} == {"x": "°C", "old": None, "new": None}
    disk.close()
    third = timeline((Field("x", "string"), Field("y")))
    disk = on_disk(tmp_path, third)
    disk.append(as_batch("tl", [4], {"x": ["warm"], "y": [9]}))
    assert disk.read(["x"], EVER).timelines["tl"].columns["x"].tolist() == [1.5, 2.5, 3.5, "warm"]
    for method in ("minmax", "mean", "min"):
        thinned = disk.downsampled(["x", "y"], EVER, method, 2.0).timelines["tl"]
        assert thinned.columns["x"].tolist()[-1] == "warm"
        np.testing.assert_array_equal(thinned.columns["y"], [np.nan] * (len(thinned.t) - 1) + [9])
        assert thinned.downsample.first == ("x",)
    disk.close()


def test_one_sample_ahead_of_the_clock_makes_nothing_late(tmp_path):
    line = Timeline("tl", [Field("x")], lateness_s=1.0, follows_clock=False)
    for run in range(2):
        with on_disk(tmp_path, line, StepClock(1000.0 + 10 * run)) as history:
            now = 1000.0 + 10 * run
            history.append(as_batch("tl", [now], {"x": [1]}))
            history.append(as_batch("tl", [now + 3600.0], {"x": [2]}))
            history.append(as_batch("tl", [now + 0.5, now - 0.5, now - 1.5], {"x": [3, 4, 5]}))
            assert history.status()["tl"]["late"] == 1
            assert history.finalized_until("tl") == now - 1.0


def test_timeline_that_is_there_no_more_is_still_served(tmp_path):
    disk = on_disk(tmp_path)
    put(disk, [1, 2, 3])
    disk.close()
    other = Timeline("other", [Field("y")], lateness_s=0.0, follows_clock=False)
    disk = on_disk(tmp_path, other)
    assert [tl.name for tl in disk.timelines] == ["other"]
    assert disk.read(["x"], EVER).timelines["tl"].t.tolist() == [1, 2, 3]
    assert disk.read(["x"], EVER).timelines["tl"].finalized_until == 3.0  # it may go on some day
    assert [tl.name for tl in disk.within(EVER)] == ["tl"]
    disk.close()


@pytest.mark.parametrize("name", ["a/b", "../../x", "ä ö.ü", "a.b", ".", "\N{SNOWMAN}\n", "%s'\"", "t", "x" * 300])
def test_any_name_of_a_field_or_timeline_works_and_is_no_file(tmp_path, name):
    line = Timeline(name, [Field(name), Field("other")], lateness_s=0.0, follows_clock=False)
    disk = History([line], HistorySettings(path=tmp_path / "h", memory=0.0), StepClock(5e4))
    disk.append(as_batch(name, [1, 2], {name: [1, 2], "other": [3, 4]}))
    disk.add(replace(line, fields=line.fields[:1]))  # which seals what has others
    assert disk.status()[name]["sealed"] == 1
    disk.close()
    disk = History([line], HistorySettings(path=tmp_path / "h", memory=0.0), StepClock(5e4))
    assert disk.read([name], EVER).timelines[name].columns[name].tolist() == [1, 2]
    assert disk.downsampled([name], EVER, "max", 16.0).timelines[name].columns[name].tolist() == [2]
    disk.close()
    assert {p.name for p in (tmp_path / "h").iterdir()} <= {
        "0001",
        "lock",
        "catalogue.sqlite",
        "catalogue.log",
        "catalogue.copy",
    }


def test_second_writer_is_refused_with_the_pid_of_the_first(tmp_path):
    disk = on_disk(tmp_path)
    with pytest.raises(BadHistory, match=f"in use by the process with pid {os.getpid()}"):
        on_disk(tmp_path)
    disk.close()
    on_disk(tmp_path).close()


def test_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadHistory, match="cannot be written to .* set history.path"):
        on_disk(tmp_path / "file")


def test_newer_format_is_told_and_left_alone(tmp_path):
    on_disk(tmp_path).close()
    for name in journal.FILES:
        (tmp_path / name).write_bytes(checked_line(b'1 [["format", [99]]]'))
    with pytest.raises(BadHistory, match="format 99; this sisock reads up to 2"):
        on_disk(tmp_path)


def damage(path, at, data=b"\xff\x00\xff"):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_damaged_block_of_an_open_segment_is_put_aside_and_the_rest_is_kept(tmp_path):
    n = 2 * BLOCK + 1000
    line = timeline((Field("x"), Field("s", "string")))
    disk = on_disk(tmp_path, line)
    t = np.arange(n, dtype=float)
    disk.append(as_batch("tl", t, {"x": t, "s": np.array(["a", "b"], object)[np.arange(n) % 2]}))
    disk.close()
    (path,) = tmp_path.glob("*/*.seg")
    layout = Segment(path).layout
    damage(path, layout.offsets[0] + 8 * (BLOCK + 7))
    disk = on_disk(tmp_path, line)
    samples = disk.read(["x", "s"], EVER).timelines["tl"]
    np.testing.assert_array_equal(samples.t, np.concatenate([t[:BLOCK], t[2 * BLOCK :]]))
    np.testing.assert_array_equal(samples.columns["x"], samples.t)
    assert samples.gaps == [(BLOCK, 2.0 * BLOCK - 1.0)]
    assert disk.summary()["quarantined"] == 1
    assert list((tmp_path / "quarantine").iterdir())
    put_more = disk.append(as_batch("tl", [n + 1], {"x": [1.0], "s": ["c"]}))
    assert len(put_more) == 1
    disk.close()
    disk = on_disk(tmp_path, line)
    assert disk.count(["x"], EVER) == 2 * (n - BLOCK + 1)
    disk.close()


@pytest.mark.parametrize("where", ["head", "commit", "cut", "gone"])
def test_open_segment_that_cannot_be_read_is_put_aside_and_the_node_starts(tmp_path, where):
    disk = on_disk(tmp_path)
    put(disk, np.arange(10))
    disk.close()
    (path,) = tmp_path.glob("*/*.seg")
    layout = Segment(path).layout
    if where == "head":
        damage(path, 30)
    elif where == "commit":
        damage(path, layout.records, b"\xff" * 2 * layout.record_size)
    elif where == "cut":
        os.truncate(path, 5000)
    else:
        path.unlink()
    disk = on_disk(tmp_path)
    put(disk, [100])
    samples = disk.read(["x"], EVER).timelines["tl"]
    if where in ("head", "commit"):  # both are elsewhere, too
        assert samples.t.tolist() == [*range(10), 100]
    else:
        assert samples.t.tolist() == [100]
        assert samples.gaps == [(0.0, 9.0)]
        assert samples.dropped == 10
    disk.close()


@pytest.mark.parametrize("what", ["parquet", "pyramid", "gone"])
def test_damaged_sealed_segment_is_found_when_it_is_read_and_leaves_a_gap(tmp_path, what):
    disk = on_disk(tmp_path, timeline((Field("x"),)))
    random = np.random.default_rng(0)
    for i in range(3):
        disk.append(as_batch("tl", np.arange(1000) + i * 1000, {"x": random.normal(size=1000)}))
        seal(disk, whole=True)
    disk.close()
    middle = sorted(tmp_path.glob("*/*.parquet"))[1]
    if what == "gone":
        middle.unlink()
    else:
        path = middle.with_suffix(f".{what}")
        damage(path, path.stat().st_size // 3, os.urandom(200))
    disk = on_disk(tmp_path, timeline((Field("x"),)))
    if what == "pyramid":
        disk.downsampled(["x"], EVER, "minmax", 64.0)
        disk.downsampled(["x"], EVER, "minmax", 256.0)
    else:
        disk.read(["x"], EVER)
    samples = disk.read(["x"], EVER).timelines["tl"]
    if what == "pyramid":  # which is made anew from the samples
        np.testing.assert_array_equal(samples.t, np.arange(3000))
        assert samples.gaps == []
        assert disk.summary()["quarantined"] == 1
        disk.close()
        return
    np.testing.assert_array_equal(samples.t, np.append(np.arange(1000), np.arange(2000, 3000)))
    assert samples.gaps == [(1000.0, 1999.0)]
    disk.close()


def test_loss_of_power_leaves_what_was_forced_onto_the_disk(tmp_path, monkeypatch):
    disk = on_disk(tmp_path, sync="always")
    put(disk, np.arange(100))
    (path,) = tmp_path.glob("*/*.seg")
    forced = path.read_bytes()
    layout = Segment(path).layout
    monkeypatch.setattr(os, "fdatasync", lambda _fd: None)  # from here on, nothing reaches the disk
    put(disk, np.arange(100, 200))
    now = path.read_bytes()
    killed(disk)
    # The newest commit record reached the disk, the values that it tells of did not.
    end = layout.records + layout.record_size
    path.write_bytes(forced[: layout.records] + now[layout.records : end] + forced[end:])
    again = on_disk(tmp_path)
    np.testing.assert_array_equal(again.read(["x"], EVER).timelines["tl"].t, np.arange(100))
    again.close()


def test_history_is_bounded_by_age_and_by_size(tmp_path):
    clock = StepClock(10_000.0)
    line = timeline((Field("x"),), follows_clock=True)
    disk = on_disk(tmp_path, line, clock, keep=1000.0)
    for _ in range(30):
        t = clock.now() + np.arange(100)
        disk.append(as_batch("tl", t, {"x": t}))
        clock.step(100.0)
        disk.finalized_until("tl")
        seal(disk)
        disk.maintain()
    assert clock.now() - 1300 < disk.status()["tl"]["oldest"] < clock.now() - 900
    assert disk.summary()["expired"] > 1000
    disk.close()
    small = on_disk(tmp_path / "small", timeline((Field("x"),)), max_size=2**20, segment=2**16)
    random = np.random.default_rng(0)
    for i in range(60):
        small.append(as_batch("tl", i * 10_000.0 + np.arange(10_000), {"x": random.normal(size=10_000)}))
        small.maintain()
    assert small.summary()["bytes"] <= 2**20 * 1.3
    assert small.status()["tl"]["newest"] == 599_999
    small.close()


def test_disk_that_takes_nothing_more_loses_nothing_while_memory_lasts(tmp_path, monkeypatch):
    disk = on_disk(tmp_path, memory=1e9)
    put(disk, [1, 2])

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        put(disk, [3, 4])
        put(disk, [5])
        assert disk.status()["tl"]["unwritten"] == 3
        assert disk.read(["x"], EVER).timelines["tl"].t.tolist() == [1, 2, 3, 4, 5]
    put(disk, [6])
    disk.close()
    disk = on_disk(tmp_path)
    assert disk.read(["x"], EVER).timelines["tl"].t.tolist() == [1, 2, 3, 4, 5, 6]
    disk.close()


def test_clock_that_jumps_is_written_down_and_removes_nothing(tmp_path):
    clock = StepClock(1000.0)
    disk = on_disk(tmp_path, timeline(follows_clock=True, lateness=1.0), clock, keep=100.0)
    put(disk, [1000.0])
    clock.jump(86400.0 * 365)
    put(disk, [clock.now()])
    assert [seconds for _, seconds in disk.summary()["clock_jumps"]] == [86400.0 * 365]
    clock.jump(-86400.0 * 365)
    put(disk, [1001.0])
    assert len(disk.summary()["clock_jumps"]) == 2
    assert 1000.0 in disk.read(["x"], EVER).timelines["tl"].t
    assert disk.status()["tl"]["late"] == 0  # the jump forward did not move the watermark
    disk.close()


WRITER = """
import os, sys
import numpy as np
from sisock.fields import Batch, Field, Timeline
from sisock.history import History
from sisock.settings import HistorySettings


def write(path, sync, at):
    line = Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=5.0, follows_clock=False)
    history = History([line], HistorySettings(path=path, sync=sync, segment=2**16, sync_interval=0.05, memory=0.0))
    random = np.random.default_rng(at)
    print("started", flush=True)
    while True:
        n = int(random.integers(1, 400))
        t = np.arange(at, at + n, dtype=float)
        shuffled = random.permutation(t) if random.random() < 0.3 else t
        words = (shuffled % 11).astype(int).astype(str).astype(object)
        history.append(Batch("tl", shuffled, {"x": shuffled * 2, "s": words}))
        at += n
        print(f"{at}\\n", end="", flush=True)  # by one call, of which a kill leaves no half


for line in sys.stdin:
    path, sync, first = line.split()
    if not os.fork():
        print(os.getpid(), flush=True)
        write(path, sync, int(first))
    os.wait()
    print("killed", flush=True)
"""


@pytest.fixture(scope="module")
def writers():
    """A process that has imported what a writer needs, and forks one for each line that it gets."""
    command = [sys.executable, "-c", WRITER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()
        assert process.wait(30.0) == 0


def kill_while_writing(writers, path, sync, first, delay):
    """Return up to where a writer had acknowledged when it was killed."""
    print(path, sync, first, file=writers.stdin, flush=True)
    pid = int(writers.stdout.readline())
    try:
        assert writers.stdout.readline() == "started\n"
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(writers.stdout.readline, "killed\n")))
        reader.start()
        time.sleep(delay)  # the kill is to come at any moment
    finally:
        os.kill(pid, signal.SIGKILL)
    reader.join()
    return int(lines[-1]) if lines else first


@pytest.mark.parametrize("sync", ["none", "interval", "always"])
def test_nothing_acknowledged_is_missing_or_twice_after_kills_at_any_moment(writers, tmp_path, sync):
    random = np.random.default_rng()
    line = Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=5.0, follows_clock=False)
    acknowledged = 0
    for _ in range(17):  # three modes: 51 kills
        acknowledged = kill_while_writing(writers, tmp_path, sync, acknowledged, random.uniform(0.0, 0.12))
        disk = on_disk(tmp_path, line)
        samples = disk.read(["x", "s"], EVER).timelines.get("tl")
        assert disk.summary()["quarantined"] == 0
        disk.close()
        if samples is None:
            assert acknowledged == 0
            continue
        np.testing.assert_array_equal(samples.t, np.arange(len(samples.t)))
        np.testing.assert_array_equal(samples.columns["x"], samples.t * 2)
        assert (samples.columns["s"] == (samples.t % 11).astype(int).astype(str)).all()
        assert len(samples.t) >= acknowledged
        acknowledged = len(samples.t)
    assert acknowledged > 1000


def test_another_process_may_read_while_one_writes(tmp_path):
    disk = on_disk(tmp_path, timeline(lateness=10.0))
    put(disk, np.arange(1000))
    script = f"""
import numpy as np
from sisock.history import open_history
from sisock.times import Interval
ever = Interval(-1e12, 1e12)
with open_history({str(tmp_path)!r}) as history:
    samples = history.read(["x", "s"], ever).timelines["tl"]
    print(len(samples.t), samples.finalized_until, samples.columns["s"][-1], flush=True)
    input()
    samples = history.read(["x", "s"], ever).timelines["tl"]
    thinned = history.downsampled(["x"], ever, "max", 0.0, 10).timelines["tl"]
    print(len(samples.t), samples.finalized_until, len(thinned.t) <= 10, [f.name for f in history.within(ever)[0].fields])
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout.readline() == "1000 989.0 word 4\n"
        put(disk, np.arange(1000, 2000))
        seal(disk, whole=True)
        put(disk, np.arange(2000, 2500))
        out, _ = reader.communicate("\n", timeout=30)
    assert out == "2500 2489.0 True ['x', 'i', 's', 'b']\n"
    disk.close()
    with pytest.raises(BadHistory, match="is not a history"):
        open_history(tmp_path / "nothing")


def test_reader_goes_on_without_what_is_damaged_and_changes_nothing(tmp_path):
    disk = on_disk(tmp_path, timeline((Field("x"),)))
    for i in range(3):
        disk.append(as_batch("tl", np.arange(1000) + i * 1000, {"x": np.arange(1000)}))
        seal(disk, whole=True)
    disk.close()
    path = sorted(tmp_path.glob("*/*.parquet"))[1]
    damage(path, path.stat().st_size // 2, os.urandom(300))
    with open_history(tmp_path) as history:
        t = history.read(["x"], EVER).timelines["tl"].t
        np.testing.assert_array_equal(t, np.append(np.arange(1000), np.arange(2000, 3000)))
        assert history.summary()["damaged"] == 1
    assert path.exists()


def test_past_is_put_in_as_a_whole_or_not_at_all(tmp_path):
    line = timeline((Field("x"),))
    disk = on_disk(tmp_path, line)
    disk.append(as_batch("tl", np.arange(1000, 2000), {"x": np.arange(1000)}))
    disk.close()
    store = Store(HistorySettings(path=tmp_path), [])
    files = sorted(p.name for p in tmp_path.glob("*/*"))

    def batches(*starts):
        return [as_batch("tl", np.arange(s, s + 100), {"x": np.full(100, s)}, gap_from=s - 50.0) for s in starts]

    for wrong, message in ((batches(0, 1950), "from 1000.0 to 1999.0 already"), (batches(500, 400), "not in order")):
        with pytest.raises(BadData, match=message):
            store.insert(line, wrong)
        assert sorted(p.name for p in tmp_path.glob("*/*")) == files
    assert store.insert(line, batches(100, 300, 700)) == 300
    with pytest.raises(BadData, match="from 100.0 to 799.0 already"):
        store.insert(line, batches(200))
    assert store.insert(Timeline("new", [Field("y", "string")]), [as_batch("new", [1.0], {"y": ["a"]})]) == 1
    store.close()
    disk = on_disk(tmp_path, line)
    samples = disk.read(["x"], Interval(0, 1001)).timelines["tl"]
    assert samples.t.tolist() == [*range(100, 200), *range(300, 400), *range(700, 800), 1000]
    assert samples.gaps == [(50.0, 100.0), (250.0, 300.0), (650.0, 700.0)]
    assert disk.read(["y"], EVER).timelines["new"].columns["y"].tolist() == ["a"]
    disk.append(as_batch("tl", [3000.0], {"x": [1]}))
    assert disk.count(["x"], EVER) == 2 * 1301
    disk.close()


def test_timelines_that_come_later_go_on_where_they_were(tmp_path):
    def opened():
        return History([], HistorySettings(path=tmp_path / "h", memory=0.0), StepClock(5e4))

    line = Timeline("tl", [Field("x")], lateness_s=math.inf, follows_clock=False)
    disk = opened()
    assert disk.add(line) is None
    disk.append(as_batch("tl", [1.0, 2.0, 3.0], {"x": [1, 2, 3]}, finalized_until=2.5))
    assert disk.add(line) == 2.5
    disk.close()
    disk = opened()
    assert disk.read(["x"], EVER).timelines["tl"].finalized_until == 2.5  # nobody has said that it goes on
    assert disk.add(line) == 2.5
    disk.append(as_batch("tl", [2.0, 2.5, 2.7], {"x": [-2, -2.5, 2.7]}))
    samples = disk.read(["x"], EVER).timelines["tl"]
    assert samples.t.tolist() == [1.0, 2.0, 2.5, 2.7, 3.0]
    assert samples.columns["x"].tolist() == [1.0, 2.0, -2.5, 2.7, 3.0]
    assert samples.late == 1
    assert disk.append(as_batch("tl", [], {"x": []}, finalized_until=9.0)) is None
    disk.close()
    disk = opened()
    assert disk.add(line) == 9.0
    assert disk.read(["x"], EVER).timelines["tl"].columns["x"].tolist() == [1.0, 2.0, -2.5, 2.7, 3.0]
    disk.close()


@pytest.mark.parametrize("on_disk", [True, False])
def test_timeline_that_goes_on_with_other_fields(tmp_path, on_disk, caplog):
    line = Timeline("tl", [Field("x")], lateness_s=1.0, follows_clock=False)
    history = History([line], HistorySettings(path=tmp_path if on_disk else None, keep=1e12), StepClock(5e4))
    history.append(as_batch("tl", [1.0, 2.0, 3.0], {"x": [1, 2, 3]}))
    final = history.add(replace(line, fields=[Field("y", "string")]))
    history.append(as_batch("tl", [4.0, 5.0], {"y": ["a", "b"]}))
    with pytest.raises(BadData, match="lacks 'y'"):
        history.append(as_batch("tl", [6.0], {"x": [6]}))
    found = history.read(["x", "y"], EVER).timelines["tl"]
    assert found.columns["y"].tolist()[-2:] == ["a", "b"]
    if on_disk:
        assert final > 3.0
        assert history.read(["x"], EVER).timelines["tl"].columns["x"].tolist()[:3] == [1, 2, 3]
    else:
        assert found.t.tolist() == [4.0, 5.0]
        assert "forgotten" in caplog.text
    assert history.status()["tl"]["samples"] == 5
    history.close()
