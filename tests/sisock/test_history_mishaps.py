"""Mishaps of histories: each was found once by trying to break them."""

import errno
import math
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest

from sisock.errors import BadRequest, Busy
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History, open_history, sealed, sealer
from sisock.history.segment import Segment
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from tests.sisock.histories import StoredHistory, killed, seal

EVER = Interval(-1e12, 1e12)
X = Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False)
TEXT = Timeline("tl", [Field("s", "string")], lateness_s=100.0, follows_clock=False)


def opened(folder, *timelines, clock=None, **more):
    settings = HistorySettings(path=folder / "h", **{"memory": 0.0, "sync": "none", **more})
    return StoredHistory(timelines or (X,), settings, clock or StepClock(5e4))


def texts(history, t, words):
    history.append(as_batch("tl", t, {"s": np.array(words, object)}))


@pytest.fixture
def full_for_words(monkeypatch):
    """A disk that takes no words, after a part of the first ones, while the event is set."""
    full, real = threading.Event(), os.pwrite

    def pwrite(fd, data, at):
        if full.is_set() and os.readlink(f"/proc/self/fd/{fd}").endswith(".words"):
            real(fd, bytes(data)[: len(data) - 3], at)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return full


def test_lone_surrogate_is_replaced(tmp_path):
    history = opened(tmp_path, TEXT, memory=0.0)
    texts(history, [1.0, 2.0, 3.0], ["good", "\ud800bad", "good"])
    seal(history, whole=True)
    assert history.read(["s"], EVER).timelines["tl"].columns["s"].tolist() == ["good", "?bad", "good"]
    history.close()
    for make in (Field, lambda name: Timeline(name, [])):
        with pytest.raises(BadRequest, match="contains a lone surrogate"):
            make("\ud800")


@pytest.mark.parametrize("on_disk", [True, False])
def test_times_that_cannot_be_are_refused_alone(tmp_path, on_disk):
    history = opened(tmp_path) if on_disk else History([X], HistorySettings(keep=1e12), StepClock(5e4))
    history.append(as_batch("tl", [1000.0], {"x": [1]}))
    history.append(as_batch("tl", [-1e300, 2000.0, 1e308, 1.7e12], {"x": [2, 3, 4, 5]}))
    history.append(as_batch("tl", [-1e10], {"x": [6]}))
    assert history.read(["x"], EVER).timelines["tl"].t.tolist() == [1000.0, 2000.0]
    assert history.status()["tl"]["refused"] == 3
    assert history.status()["tl"]["late"] == 1
    history.close()


def test_fewer_points_than_two_are_refused():
    history = History([X])
    with pytest.raises(BadRequest, match="max_points is 1; give 2 or more"):
        history.downsampled(["x"], EVER, "minmax", max_points=1)


def test_finality_outlives_the_segments_that_say_it(tmp_path):
    line = replace(X, lateness_s=math.inf)
    for k in range(25):
        history = opened(tmp_path, line)
        history.append(as_batch("tl", [float(k)], {"x": [k]}, finalized_until=k + 0.5))
        killed(history)
    history = opened(tmp_path, line)
    assert history.finalized_until("tl") == 24.5
    history.maintain()
    assert history.status()["tl"]["sealed"] > 0
    with open_history(tmp_path / "h") as reader:
        assert reader.finalized_until("tl") == 24.5
    killed(history)
    history = opened(tmp_path, line)
    assert history.finalized_until("tl") == 24.5
    assert history.append(as_batch("tl", [3.25], {"x": [99]})) is None
    history.close()


def test_damage_in_the_newest_segment_leaves_a_gap_and_what_was_final(tmp_path):
    for start in (0, 200):
        history = opened(tmp_path)
        history.append(as_batch("tl", np.arange(start, start + 100), {"x": np.arange(100.0)}))
        killed(history)
    newest = max((tmp_path / "h" / "0001").glob("*.seg"))
    with newest.open("r+b") as file:
        file.seek(Segment(newest).layout.offsets[0] + 8)
        file.write(b"\xff\xff")
    history = opened(tmp_path)
    samples = history.read(["x"], EVER).timelines["tl"]
    assert samples.t.tolist() == list(range(100))
    assert samples.gaps == [(200.0, 299.0)]
    assert history.finalized_until("tl") == 299.0
    history.close()


def records(path):
    """Return the two commit records of an open segment."""
    layout, data = Segment(path).layout, path.read_bytes()
    starts = (layout.records, layout.records + layout.record_size)
    return [data[start : start + layout.record_size] for start in starts]


@pytest.mark.parametrize("fields", [1, 3000])
def test_commit_record_that_a_kill_cuts_leaves_the_one_before(tmp_path, fields):
    line = replace(X, fields=[Field(f"x{i}") for i in range(fields)])
    history = opened(tmp_path, line)
    for t in (1.0, 2.0, 3.0):
        history.append(as_batch("tl", [t], {f"x{i}": [t] for i in range(fields)}))
        if t == 2.0:
            (path,) = (tmp_path / "h" / "0001").glob("*.seg")
            before = records(path)
    killed(history)
    layout = Segment(path).layout
    (newest,) = (turn for turn, record in enumerate(records(path)) if record != before[turn])
    with path.open("r+b") as file:
        file.seek(layout.records + newest * layout.record_size)
        file.write(bytes(layout.record_size // 2))
    (tmp_path / "h" / "0001" / "marks").unlink()  # which is written after the record
    history = opened(tmp_path, line)
    assert history.read(["x0"], EVER).timelines["tl"].t.tolist() == [1.0, 2.0]
    assert history.summary()["quarantined"] == 0
    history.close()


def test_reader_beside_the_writer_has_all_that_it_says_is_final(tmp_path):
    history = opened(tmp_path, segment=65_536)
    stop = threading.Event()

    def write():
        k = 0
        while not stop.is_set():
            history.append(as_batch("tl", np.arange(k, k + 50), {"x": np.zeros(50)}))
            k += 50

    history.append(as_batch("tl", [-1.0], {"x": [0]}))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        with open_history(tmp_path / "h") as reader:
            end, before = time.monotonic() + 1.5, -1.0
            while time.monotonic() < end:
                final = reader.finalized_until("tl")
                assert final >= before
                before = final
                found = reader.read(["x"], Interval(final - 200.0, 1e11)).timelines.get("tl")
                if found is not None and found.finalized_until is not None:
                    there = found.t[found.t < found.finalized_until]
                    expected = np.arange(there[0], found.finalized_until) if len(there) else there
                    np.testing.assert_array_equal(there, expected)
    finally:
        stop.set()
        writer.join()
        history.close()


def test_words_that_were_written_in_part_are_nobodys(tmp_path, full_for_words):
    history = opened(tmp_path, TEXT, clock=StepClock(500.0), memory=1000.0)
    texts(history, [1.0, 2.0], ["a", "b"])
    full_for_words.set()
    texts(history, [3.0, 4.0, 5.0], ["long", "longer", "longest"])
    assert history.status()["tl"]["unwritten"] == 3
    full_for_words.clear()
    texts(history, [6.0, 7.0], ["c", "b"])
    killed(history)
    with open_history(tmp_path / "h") as reader:
        found = reader.read(["s"], EVER).timelines["tl"]
    assert dict(zip(found.t.tolist(), found.columns["s"].tolist(), strict=True)) == {
        1.0: "a", 2.0: "b", 3.0: "long", 4.0: "longer", 5.0: "longest", 6.0: "c", 7.0: "b",
    }  # fmt: skip


def test_what_could_not_be_written_is_written_at_the_end(tmp_path, full_for_words):
    history = opened(tmp_path, TEXT, clock=StepClock(500.0), memory=1000.0)
    texts(history, [1.0], ["a"])
    full_for_words.set()
    texts(history, [2.0], ["b"])
    full_for_words.clear()
    history.close()
    history = opened(tmp_path, TEXT, clock=StepClock(500.0), memory=1000.0)
    assert history.read(["s"], EVER).timelines["tl"].columns["s"].tolist() == ["a", "b"]
    full_for_words.set()
    texts(history, [3.0, 4.0], ["c", "d"])
    history.close()
    with open_history(tmp_path / "h") as reader:
        assert reader.read(["s"], EVER).timelines["tl"].gaps == [(3.0, 4.0)]


def test_nothing_is_sealed_before_what_is_still_to_be_written(tmp_path, full_for_words):
    clock = StepClock(1000.0)
    line = replace(TEXT, follows_clock=True)
    history = opened(tmp_path, line, clock=clock, memory=500.0)
    texts(history, 900.0 + np.arange(100), ["w"] * 100)
    full_for_words.set()
    texts(history, [950.5], ["new"])
    full_for_words.clear()
    clock.step(300.0)
    assert history.finalized_until("tl") == 950.5  # not past what is not on the disk
    writer = history.store.writers["tl"]
    writer.rotate()
    history.store.sealer.seal_all(writer, math.inf)
    texts(history, [1290.0], ["w"])
    clock.step(2000.0)
    texts(history, [3250.0], ["w"])
    assert history.read(["s"], Interval(950.2, 951.0)).timelines["tl"].columns["s"].tolist() == ["new"]
    history.close()


def test_finality_of_a_timeline_in_memory_outlives_other_fields():
    history = History([replace(X, lateness_s=math.inf)], HistorySettings(keep=1e12), StepClock(5e4))
    history.append(as_batch("tl", [1.0, 2.0, 3.0], {"x": [1, 2, 3]}, finalized_until=2.5))
    final = history.add(replace(X, fields=[Field("y")], lateness_s=math.inf))
    assert final > 3.0
    assert history.append(as_batch("tl", [2.7], {"y": [1]})) is None


def test_timeline_that_cannot_be_sealed_does_not_stop_the_others(tmp_path, monkeypatch):
    real = sealer.write_sealed

    def write_sealed(path, timeline, *rest):
        if timeline == "bad":
            raise ValueError("cannot be sealed")
        return real(path, timeline, *rest)

    monkeypatch.setattr(sealer, "write_sealed", write_sealed)
    history = opened(tmp_path, replace(X, name="bad", fields=[Field("b")]), X, segment=65_536)
    for name, field in (("bad", "b"), ("tl", "x")):
        for i in range(4):
            history.append(as_batch(name, np.arange(i * 20_000, (i + 1) * 20_000), {field: np.zeros(20_000)}))
    with pytest.raises(ValueError, match="cannot be sealed"):
        history.maintain()
    assert history.status()["tl"]["sealed"] > 0
    history.close()


def test_what_is_whole_of_a_damaged_sealed_segment_is_kept(tmp_path):
    n = 200_000
    history = opened(tmp_path)
    values = np.random.default_rng(0).normal(size=n)
    history.append(as_batch("tl", np.arange(n), {"x": values}))
    seal(history, whole=True)
    history.close()
    (path,) = (tmp_path / "h" / "0001").glob("*.parquet")
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(0).num_rows
    with path.open("r+b") as file:
        file.seek(int(0.57 * path.stat().st_size))  # in the middle of a group
        file.write(bytes(100))
    history = opened(tmp_path)
    samples = history.read(["x"], EVER).timelines["tl"]
    lost = np.setdiff1d(np.arange(n), samples.t)
    assert len(lost) == group
    assert samples.gaps == [(lost[0] - 1.0, lost[-1] + 1.0)]
    np.testing.assert_array_equal(samples.columns["x"], values[samples.t.astype(int)])
    assert (
        history.downsampled(["x"], EVER, "max", 2.0**20).timelines["tl"].columns["x"][0] == samples.columns["x"].max()
    )
    history.close()


def test_segment_that_cannot_be_opened_just_now_is_not_damaged(tmp_path, monkeypatch):
    history = opened(tmp_path)
    history.append(as_batch("tl", np.arange(1000), {"x": np.arange(1000.0)}))
    seal(history, whole=True)
    history.close()
    history = opened(tmp_path)
    real = sealed.pq.ParquetFile

    def none_left(*_args, **_more):
        raise OSError(errno.EMFILE, "Too many open files")

    with open_history(tmp_path / "h") as reader:
        for each in (history, reader):
            monkeypatch.setattr(sealed.pq, "ParquetFile", none_left)
            with pytest.raises(Busy, match="too many files are open"):
                each.read(["x"], EVER)
            monkeypatch.setattr(sealed.pq, "ParquetFile", real)
            assert len(each.read(["x"], EVER).timelines["tl"].t) == 1000
    assert history.summary()["quarantined"] == 0
    history.close()


def test_long_text_that_comes_often_is_stored_once(tmp_path):
    history = opened(tmp_path, TEXT)
    words = ["long " * 2000, "longer " * 2000]
    texts(history, np.arange(100_000), np.array(words, object)[np.arange(100_000) % 2])
    seal(history, whole=True)
    assert sum(path.stat().st_size for path in (tmp_path / "h" / "0001").glob("*.parquet")) < 200_000
    found = history.read(["s"], Interval(50_000.0, 50_003.0)).timelines["tl"].columns["s"].tolist()
    assert found == [words[0], words[1], words[0]]
    history.close()


def test_fields_that_are_added_in_memory_keep_what_was_there():
    line = replace(X, lateness_s=10.0)
    history = History([line], HistorySettings(keep=1e12), StepClock(5e4))
    history.append(as_batch("tl", [1.0, 20.0], {"x": [1, 2]}))
    wider = replace(line, fields=[Field("x"), Field("s", "string"), Field("b", "bool"), Field("y")])
    assert history.add(wider) == 10.0
    more = {"x": [3, 4], "s": ["a", "b"], "b": [True, True], "y": [5, 6]}
    history.append(as_batch("tl", [15.0, 21.0], more))
    samples = history.read(["x", "s", "b", "y"], EVER).timelines["tl"]
    assert samples.t.tolist() == [1.0, 15.0, 20.0, 21.0]
    assert samples.columns["s"].tolist() == ["", "a", "", "b"]
    assert samples.columns["b"].tolist() == [False, True, False, True]
    assert samples.columns["x"].tolist() == [1, 3, 2, 4]
    np.testing.assert_array_equal(samples.columns["y"], [np.nan, 5, np.nan, 6])
    assert history.status()["tl"]["samples"] == 4


def test_many_readers_of_one_sealed_segment_get_what_is_there(tmp_path):
    """Arrow's readers of files are for one thread at a time: others crashed, or waited for ever."""
    history = opened(tmp_path)
    t = np.arange(200_000.0)  # of more, reading takes so long that its readers hardly ever meet
    history.append(as_batch("tl", t, {"x": t * 2}))
    seal(history, whole=True)
    wrong = []

    def read(seed):
        chance = np.random.default_rng(seed)
        for _ in range(150):
            start, end = np.sort(chance.uniform(0.0, 2e5, 2))
            inside = t[(t >= start) & (t < end)]
            interval = Interval(start, end)
            if seed % 2:
                found = history.count(["x"], interval) == 2 * len(inside)
            else:
                samples = history.downsampled(["x"], interval, "max", max_points=100).timelines["tl"]
                found = samples.columns["x"].max() == inside[-1] * 2
            if not found:
                wrong.append((start, end))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    history.close()
