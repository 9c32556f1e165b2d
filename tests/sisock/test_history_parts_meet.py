"""Histories where their parts meet: resets, epochs, retention, kills, and disks that take nothing."""

import errno
import math
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sisock.errors import BadHistory
from sisock.fields import Field, Timeline, as_batch
from sisock.history import sealer
from sisock.history.entry import Reset
from sisock.history.opened import Opened
from sisock.history.quarantine import list_quarantined
from sisock.history.reader import StoreReader
from sisock.history.ring import Ring
from sisock.history.segment import Segment
from sisock.history.segment_set import SegmentSet
from sisock.history.store import Store
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval, SystemClock
from tests.sisock.histories import StoredHistory, killed

EVER = Interval(-1e12, 1e12)
NOW = 1_700_000_000.0
LIVE = Timeline("tl", [Field("x")], interval_s=1.0, lateness_s=5.0, live=True, follows_clock=False)


def put(history, t, name="tl"):
    t = np.asarray(t, float)
    return history.append(as_batch(name, t, {"x": t * 2}))


def opened(path, clock=None, line=LIVE, in_background=True, **more):
    settings = HistorySettings(path=path, **{"sync": "none", "memory": 1e9, "keep": 1e9, **more})
    outages = OutageLog(SystemClock())
    return StoredHistory([line], settings, clock or StepClock(NOW), outages=outages, in_background=in_background)


def samples(history, interval=EVER):
    found = history.read(["x"], interval).timelines
    return found.get("tl")


def no_space(*_arguments, **_more):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_gaps_that_a_reset_has_removed_stay_removed(tmp_path):
    with opened(tmp_path / "h") as history:
        put(history, NOW + np.arange(10.0))
    clock = StepClock(NOW + 1e6)
    with opened(tmp_path / "h", clock) as history:
        put(history, NOW + 1e6 + np.arange(10.0))
        assert samples(history).gaps == [(NOW + 9.0, NOW + 1e6)]
        history.set_back("tl", Reset(1, NOW + 20.0, NOW + 20.0))
        assert samples(history).gaps == []
    with opened(tmp_path / "h", StepClock(NOW + 20.0)) as history:
        assert samples(history).gaps == []


def test_gaps_before_what_a_reset_removes_stay(tmp_path):
    with opened(tmp_path / "h", StepClock(NOW + 1e6)) as history:
        put(history, NOW + np.arange(10.0))
        history.append(as_batch("tl", [NOW + 17.0], {"x": [1.0]}, gap_from=NOW + 10.0))
        put(history, NOW + 1e6 + np.arange(10.0))
        history.set_back("tl", Reset(1, NOW + 15.0, NOW + 20.0))
        assert samples(history).gaps == [(NOW + 10.0, NOW + 17.0)]


@pytest.mark.parametrize("sealed", [False, True])
def test_kill_at_any_step_of_a_reset_loses_nothing(tmp_path, monkeypatch, sealed):
    t = NOW + np.arange(0.0, 3000.0)
    path = tmp_path / "h"
    with opened(path, StepClock(NOW + 1e6), segment=65536) as history:
        put(history, t)
        if sealed:
            history.store.writers["tl"].rotate()
            put(history, [NOW + 9000.0])
            history.store.sealer.seal_all(history.store.writers["tl"], np.inf)
    t = np.append(t, NOW + 9000.0) if sealed else t
    copies = []
    history = opened(path, StepClock(NOW + 1e6), in_background=False)

    def snapshot():
        to = tmp_path / f"copy{len(copies)}"
        shutil.copytree(path, to)
        copies.append(to)

    def noting(real):
        def call(*arguments, **more):
            snapshot()
            result = real(*arguments, **more)
            snapshot()
            return result

        return call

    for name in ("rename", "fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    monkeypatch.setattr(Path, "rename", noting(Path.rename))
    history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    monkeypatch.undo()
    snapshot()
    killed(history)
    assert len(copies) > 5
    for copy in copies:
        with opened(copy, StepClock(NOW + 1e6)) as again:
            served = samples(again).t.tolist()
            aside = [each for each in list_quarantined(copy) if each.timeline]
            moved = {each for file in aside for each in t.tolist() if file.span.start <= each <= file.span.end}
            assert set(served) | moved == set(t.tolist()), copy
            assert samples(again).dropped == 0
            assert again.store.counters.as_dict()["quarantined"] == 0


@pytest.fixture
def syncs(monkeypatch):
    """A switch: while it has something, syncs of files with such endings fail."""
    failing = set()
    real = os.fdatasync

    def sync(fd):
        if Path(os.readlink(f"/proc/self/fd/{fd}")).suffix in failing:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    return failing


def test_reset_whose_sync_failed_is_not_half_made_by_a_kill(tmp_path, syncs):
    history = opened(tmp_path / "h", StepClock(NOW + 1e6), in_background=False)
    t = NOW + np.arange(0.0, 3000.0)
    put(history, t)
    syncs |= {".log", ".copy"}
    with pytest.raises(BadHistory):
        history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    assert samples(history).t.tolist() == t.tolist()
    killed(history)
    syncs.clear()
    with opened(tmp_path / "h", StepClock(NOW + 1e6)) as again:
        assert samples(again).t.tolist() == t.tolist()
        assert samples(again).dropped == 0


def test_journal_line_whose_sync_failed_is_taken_back_though_others_follow_it(tmp_path, monkeypatch):
    history = opened(tmp_path / "h", StepClock(NOW + 1e6), in_background=False)
    t = NOW + np.arange(0.0, 3000.0)
    put(history, t)
    real = os.fdatasync

    def fails(fd):
        if ".seg" not in os.readlink(f"/proc/self/fd/{fd}"):
            history.store.manifest.add_gap(1, NOW - 20.0, NOW - 10.0)  # as another thread does meanwhile
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fails)
        with pytest.raises(BadHistory):
            history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    killed(history)
    with opened(tmp_path / "h", StepClock(NOW + 1e6)) as again:
        assert samples(again).t.tolist() == t.tolist()
        assert samples(again).gaps == [(NOW - 20.0, NOW - 10.0)]
        assert samples(again).dropped == 0


@pytest.mark.parametrize("way", ["compacted", "not"])
def test_durable_change_survives_a_journal_that_is_rewritten_while_it_waits(tmp_path, monkeypatch, way):
    history = opened(tmp_path / "h", StepClock(NOW + 1e6), in_background=False)
    t = NOW + np.arange(0.0, 3000.0)
    put(history, t)
    real, rewritten = os.fdatasync, []

    def sync(fd):
        if ".seg" not in os.readlink(f"/proc/self/fd/{fd}") and way == "compacted" and not rewritten:
            rewritten.append(1)
            history.store.manifest.rewrite()
        real(fd)

    with monkeypatch.context() as slow:
        slow.setattr(os, "fdatasync", sync)
        history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    killed(history)
    with opened(tmp_path / "h", StepClock(NOW + 1e6)) as again:
        assert samples(again).t.tolist() == t[:2000].tolist()
        assert again.status()["tl"]["reset"] == 1
        assert samples(again).dropped == 0


def test_sealing_whose_sync_failed_leaves_nothing_that_a_later_start_adopts(tmp_path, syncs):
    history = opened(tmp_path / "h", StepClock(NOW + 1e6), segment=65536, in_background=False)
    put(history, NOW + 5000.0 + np.arange(0.0, 3000.0))
    history.store.writers["tl"].rotate()
    put(history, [NOW + 100_000.0])
    syncs |= {".log", ".copy"}
    with pytest.raises(BadHistory):
        history.store.sealer.seal_all(history.store.writers["tl"], np.inf)
    syncs.clear()
    assert list((tmp_path / "h").glob("*/*.parquet")) == []
    history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    killed(history)
    with opened(tmp_path / "h", StepClock(NOW + 1000.0)) as again:
        assert samples(again) is None
        assert again.finalized_until("tl") == NOW + 1000.0


def test_reset_that_the_disk_does_not_take_leaves_all_as_it_was(tmp_path, monkeypatch):
    history = opened(tmp_path / "h", StepClock(NOW + 1e6), segment=65536, in_background=False)
    put(history, NOW + np.arange(0.0, 3000.0))
    history.store.writers["tl"].rotate()
    put(history, [NOW + 5000.0])
    history.store.sealer.seal_all(history.store.writers["tl"], np.inf)
    with monkeypatch.context() as broken:
        broken.setattr("sisock.history.resetting.quarantine_samples", no_space)
        with pytest.raises(BadHistory, match="timeline 'tl' cannot be set back at present.*No space left"):
            history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    assert history.finalized_until("tl") == NOW + 4995.0
    assert len(samples(history).t) == 3001
    assert put(history, NOW + 1500.5 + np.arange(3.0)) is None
    assert put(history, [NOW + 5001.0]).t.tolist() == [NOW + 5001.0]
    history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    assert samples(history).t.tolist() == (NOW + np.arange(0.0, 2000.0)).tolist()
    history.close()


NARROW = Timeline("tl", [Field("x")], lateness_s=0.0, follows_clock=False)
WIDE = Timeline("tl", [Field("x", "string")], lateness_s=0.0, follows_clock=False)
OTHER = Timeline("tl", [Field("y")], lateness_s=0.0, follows_clock=False)


@pytest.mark.parametrize("fields", ["wider", "others"])
def test_epoch_that_begins_before_the_disk_has_taken_what_was_measured_loses_nothing_silently(
    tmp_path, monkeypatch, fields
):
    line = WIDE if fields == "wider" else OTHER
    (name,) = [field.name for field in line.fields]
    value = ["fault"] if fields == "wider" else [1.0]
    with opened(tmp_path / "h", StepClock(5e4), line=NARROW) as history:
        put(history, np.arange(10.0))
        with monkeypatch.context() as full:
            full.setattr("os.posix_fallocate", no_space)
            put(history, 100.0 + np.arange(3000.0))  # the present segment has room for 1,014
            assert history.status()["tl"]["unwritten"] == 1986
            history.add(line)
            history.append(as_batch("tl", [5000.0], {name: value}))
        history.store.write_behind()
        reply = history.read([name, "x"], EVER).timelines["tl"]
        if fields == "wider":
            assert reply.t.tolist() == [*range(10), *range(100, 3100), 5000.0]
            assert reply.dropped == 0
        else:
            assert reply.t.tolist() == [*range(10), *range(100, 1114), 5000.0]
            assert reply.dropped == 1986
            assert reply.gaps == [(1114.0, 3099.0)]
    with opened(tmp_path / "h", StepClock(5e4), line=line) as history:
        assert len(history.read([name, "x"], EVER).timelines["tl"].t) == (3011 if fields == "wider" else 1025)


def test_retention_makes_room_on_a_full_disk(tmp_path, monkeypatch):
    clock = StepClock(NOW)
    history = opened(tmp_path / "h", clock, keep=1000.0, in_background=False)
    history.confirm_clock()
    put(history, NOW + np.arange(-500.0, 0.0))
    history.store.writers["tl"].rotate()
    clock.step(2000.0)
    put(history, [NOW + 2000.0])
    with monkeypatch.context() as full:
        full.setattr("sisock.history.journal._write", no_space)
        full.setattr("os.posix_fallocate", no_space)
        history.store.keeper.expire(history.store.writers, clock.now())
        history.store.keeper.unlink(np.inf)
        assert len(list((tmp_path / "h").glob("*/*.seg"))) == 1
    killed(history)
    with opened(tmp_path / "h", clock, keep=1000.0) as again:
        assert samples(again).t.tolist() == [NOW + 2000.0]


def test_damage_found_while_an_epoch_begins_does_not_stop_the_upkeep(tmp_path, monkeypatch):
    history = opened(tmp_path / "h", StepClock(5e4), line=NARROW)
    put(history, np.arange(10.0))
    store, writer = history.store, history.store.writers["tl"]
    writer.rotate()
    put(history, 10.0 + np.arange(10.0))
    begun, may_end, real = threading.Event(), threading.Event(), sealer.write_sealed

    def write_sealed(*arguments):
        begun.set()
        assert may_end.wait(30.0)
        return real(*arguments)

    monkeypatch.setattr(sealer, "write_sealed", write_sealed)
    sealing = threading.Thread(target=store.sealer.seal_all, args=(writer, math.inf), daemon=True)
    sealing.start()
    assert begun.wait(30.0)
    monkeypatch.undo()
    segment = max((tmp_path / "h").glob("*/*.seg"))
    with segment.open("r+b") as file:
        file.seek(Segment(segment).layout.offsets[0])
        file.write(b"\xff" * 8)
    adding = threading.Thread(target=history.add, args=(OTHER,), daemon=True)
    adding.start()
    adding.join(1.0)
    free = writer.lock.acquire(timeout=5.0)  # as who appends does
    assert free
    writer.lock.release()
    may_end.set()
    for thread in (sealing, adding):
        thread.join(30.0)
        assert not thread.is_alive()
    assert history.summary()["quarantined"] == 1
    history.close()


def test_upkeep_goes_on_after_what_it_did_not_expect(tmp_path):
    with opened(tmp_path / "h", StepClock(5e4), line=NARROW) as history:
        asked = threading.Event()
        real = history.store.on_upkeep

        def failing():
            history.store.on_upkeep = real
            asked.set()
            raise MemoryError

        history.store.on_upkeep = failing
        history.store.upkeep.wake()
        assert asked.wait(30.0)
        history.store.upkeep.worker.join(1.0)
        assert history.store.upkeep.worker.is_alive
        assert history.store.counters.as_dict()["failures"] == 1


def test_epoch_begins_also_when_what_was_before_it_cannot_be_sealed_now(tmp_path, monkeypatch):
    with opened(tmp_path / "h", StepClock(5e4), line=NARROW) as history:
        put(history, np.arange(10.0))
        with monkeypatch.context() as full:
            full.setattr("sisock.history.sealer.write_sealed", no_space)
            history.add(OTHER)
            assert history.append(as_batch("tl", [20.0], {"y": [1.0]})).t.tolist() == [20.0]
        assert history.read(["x", "y"], EVER).timelines["tl"].t.tolist() == [*range(10), 20.0]
    with opened(tmp_path / "h", StepClock(5e4), line=OTHER) as history:
        assert history.read(["x", "y"], EVER).timelines["tl"].t.tolist() == [*range(10), 20.0]


def test_epoch_of_fields_quarantines_nothing_of_a_sender_whose_clock_is_a_little_ahead(tmp_path):
    t = NOW + 0.5 + np.arange(10.0)
    with opened(tmp_path / "h", StepClock(NOW + 9.0)) as history:
        put(history, t)
    clock = StepClock(NOW + 9.2)
    with opened(tmp_path / "h", clock) as history:
        history.add(replace(LIVE, fields=(Field("x", "string"),)))
        clock.step(0.1)
        assert samples(history).t.tolist() == t.tolist()
        assert history.status()["tl"]["resets"] == []


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_watermark_passes_nothing_that_memory_lost_while_the_disk_was_full(tmp_path, monkeypatch, end):
    history = opened(tmp_path / "h", StepClock(5e4), line=NARROW, memory=10.0, in_background=False)
    put(history, np.arange(1024.0))
    with monkeypatch.context() as broken:
        broken.setattr("sisock.history.journal._write", no_space)
        broken.setattr("sisock.history.journal.Journal.rewrite", no_space)
        broken.setattr("os.posix_fallocate", no_space)
        for i in range(5):
            put(history, 2000.0 + 100.0 * i + np.arange(100.0))
        final = history.finalized_until("tl")
        assert history.status()["tl"]["dropped"] > 0
        assert final <= 2000.0
        if end == "killed":
            killed(history)
    if end == "closed":
        history.close()
    with opened(tmp_path / "h", StepClock(5e4), line=NARROW) as again:
        assert again.finalized_until("tl") >= final
        got = samples(again)
        assert got.t.tolist()[:1024] == list(range(1024))
        if end == "closed":
            assert 1524 - len(got.t) == got.dropped
            missing = set(np.arange(2000.0, 2500.0).tolist()) - set(got.t.tolist())
            assert [t for t in missing if not any(a <= t <= b for a, b in got.gaps)] == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_resets_of_an_origin_whose_numbers_begin_anew_are_followed_each_once(tmp_path, on_disk):
    # As a recorder does, whose origin keeps its history in memory.
    line = Timeline("tl", [Field("x")], lateness_s=np.inf, follows_clock=False)
    with opened(tmp_path / "h" if on_disk else None, line=line) as history:
        for run in range(3):
            at = NOW + 1000.0 * run
            history.append(as_batch("tl", [at, at + 1e8], {"x": [1.0, 2.0]}, finalized_until=at + 1e8))
            for _ in range(2):  # a recorder hears of it more than once
                history.set_back("tl", Reset(1, at + 5.0, at + 10.0))
            assert history.finalized_until("tl") == at + 5.0
        assert samples(history).t.tolist() == [NOW, NOW + 1000.0, NOW + 2000.0]
        assert [each["number"] for each in history.status()["tl"]["resets"]] == [1, 2, 3]


def test_reset_of_an_origin_of_which_nothing_is_kept_yet_makes_nothing_final(tmp_path):
    # As a recorder does that meets, for the first time, a node that was once set back.
    line = Timeline("tl", [Field("x")], lateness_s=np.inf, follows_clock=False)
    with opened(tmp_path / "h", line=line) as history:
        history.set_back("tl", Reset(1, NOW - 2000.0, NOW - 1990.0))
        assert history.finalized_until("tl") is None
        (told,) = history.status()["tl"]["resets"]
        assert told == {"number": 1, "finalized_until": None, "removed_from": NOW - 1990.0}
        put(history, NOW + np.arange(10.0))
    with opened(tmp_path / "h", line=line) as history:
        assert history.set_back("tl", Reset(1, NOW - 2000.0, NOW - 1990.0)) == 0
        assert samples(history).t.tolist() == (NOW + np.arange(10.0)).tolist()
        assert history.finalized_until("tl") is None


@pytest.fixture
def names(monkeypatch):
    """The folders in which a name was made or changed that a loss of power may still undo."""
    pending = set()
    mkdir, rename, fsync = os.mkdir, os.rename, os.fsync

    def made(path, *arguments, **more):
        mkdir(path, *arguments, **more)
        pending.add(Path(path).parent)

    def renamed(source, target, **more):
        rename(source, target, **more)
        pending.update((Path(source).parent, Path(target).parent))

    def synced(fd):
        fsync(fd)
        pending.discard(Path(os.readlink(f"/proc/self/fd/{fd}")))

    for name, call in (("mkdir", made), ("rename", renamed), ("fsync", synced)):
        monkeypatch.setattr(os, name, call)
    return pending


def test_names_of_files_are_on_the_disk_before_what_depends_on_them_is_acknowledged(tmp_path, names):
    history = opened(tmp_path / "site" / "h", StepClock(NOW + 1e6), sync="always", in_background=False)
    assert names == set()
    put(history, NOW + np.arange(0.0, 3000.0))
    assert names == set()
    history.store.manifest.rewrite()
    assert names == set()
    history.set_back("tl", Reset(1, NOW + 1000.0, NOW + 2000.0))
    assert names == set()
    put(history, NOW + 2000.0 + np.arange(10.0))
    killed(history)
    for path in (tmp_path / "site" / "h").glob("*/*.seg"):
        path.write_bytes(path.read_bytes()[:5000])
    names.clear()
    again = opened(tmp_path / "site" / "h", StepClock(NOW + 1e6), sync="always", in_background=False)
    assert list((tmp_path / "site" / "h" / "quarantine").glob("*.seg"))
    assert names == set()
    killed(again)


def test_journal_whose_name_may_not_be_on_the_disk_is_written_anew(tmp_path, monkeypatch):
    history = opened(tmp_path / "h", sync="always", in_background=False)
    put(history, [NOW - 10.0])
    real = os.fsync

    def fails(fd):
        if os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / "h"):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fails)
        with pytest.raises(BadHistory, match="Input/output error"):
            history.store.manifest.rewrite()
        assert history.store.manifest.lacking
    before = (tmp_path / "h" / "catalogue.log").stat().st_ino
    history.store.manifest.complete(at_once=True)
    assert not history.store.manifest.lacking
    assert (tmp_path / "h" / "catalogue.log").stat().st_ino != before
    killed(history)


def test_a_question_looks_once_at_what_changed_on_disk(tmp_path, monkeypatch):
    looks = []
    real = SegmentSet.epochs
    monkeypatch.setattr(SegmentSet, "epochs", lambda *arguments: looks.append(1) or real(*arguments))
    with opened(tmp_path / "h", memory=0.0) as history:
        put(history, NOW - 10_000.0 + np.arange(3000.0))
        for method in ("mean", "first", "lttb", "minmax"):
            looks.clear()
            assert len(history.downsampled(["x"], EVER, method, max_points=10).timelines["tl"].t) <= 11
            assert looks == [1], method


def test_a_question_for_all_samples_reads_what_is_in_memory_once(tmp_path, monkeypatch):
    reads = []
    real = Ring.read
    monkeypatch.setattr(Ring, "read", lambda *arguments: reads.append(1) or real(*arguments))
    with opened(tmp_path / "h") as history:
        put(history, NOW - 100.0 + np.arange(50.0))
        reads.clear()
        assert len(history.downsampled(["x"], EVER, "first").timelines["tl"].t) == 50
        assert reads == [1]


@pytest.fixture
def store(tmp_path):
    """A store with sealed and open segments of 20,000 samples, of which nothing is done in the background."""
    settings = HistorySettings(path=tmp_path / "h", sync="none", keep=1e12, max_size=2**19)
    store = Store(settings, [LIVE], StepClock(NOW), in_background=False)
    for start in range(0, 20_000, 500):
        t = NOW - 30_000.0 + start + np.arange(500.0)
        store.append("tl", t, {"x": t * 2}, t[-1])
    yield store
    store.close()


def sealed_meanwhile(store):
    """Seal all that can be, and remove the files of what was replaced."""
    store.maintain()
    store.keeper.unlink(math.inf)


@pytest.mark.parametrize("other_process", [True, False])
def test_answer_continues_with_the_segments_that_replaced_those_it_began_with(store, other_process):
    before = (StoreReader(store.path) if other_process else store).stored("tl")
    assert before.status()["sealed"] == 0
    whole = NOW - 30_000.0 + np.arange(20_000.0)
    pieces = before.rows(["x"], EVER)
    read = [next(pieces)]
    sealed_meanwhile(store)
    assert store.stored("tl").status()["sealed"] > 0
    read += pieces
    assert np.concatenate([t for t, _ in read]).tolist() == whole.tolist()
    assert np.concatenate([columns["x"] for _, columns in read]).tolist() == (whole * 2).tolist()
    assert before.count(EVER) == 20_000
    assert before.at_most(EVER) >= 20_000
    assert before.span() == Interval(whole[0], whole[-1])
    assert [field.name for field in before.fields(EVER)] == ["x"]
    assert sum(int(bins.rows.sum()) for bins in before.bins(["x"], EVER, 64.0, "mean")) == 20_000
    assert before.newest_before(NOW - 25_000.5) == NOW - 25_001.0
    assert before.newest_times(3).tolist() == whole[-3:].tolist()


def test_damage_in_one_segment_has_no_other_read_twice(store, monkeypatch):
    sealed_meanwhile(store)
    before = store.stored("tl")
    first, second, *_ = [entry for entry in before.entries if entry.state == "sealed"]
    path = before.path(second)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    reads = []
    real = Opened.sealed
    monkeypatch.setattr(Opened, "sealed", lambda self, path, entry: reads.append(entry.id) or real(self, path, entry))
    t = np.concatenate([t for t, _ in before.rows(["x"], EVER)])
    assert np.all(t[1:] > t[:-1])
    assert reads.count(first.id) == reads.count(second.id) == 1
    lost = store.manifest.losses(1, EVER)[0]
    assert len(t) + lost == 20_000
    assert before.count(EVER) == 20_000  # of a segment that is taken as a whole, as it was
    now = np.concatenate([t for t, _ in store.stored("tl").rows(["x"], EVER)])
    assert now.tolist() == t.tolist()


def test_segment_that_is_missing_again_and_again_is_an_error_of_the_answer(store):
    before = store.stored("tl")
    stored = SegmentSet("tl", before.folder, before.entries, Opened(), lambda *_: before)
    before.path(before.entries[0]).unlink()
    with pytest.raises(BadHistory, match="is missing"):
        list(stored.rows(["x"], EVER))
