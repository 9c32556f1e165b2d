"""Histories on disks that are full, read-only or give errors, at the start and while running."""

import errno
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sisock.errors import BadHistory
from sisock.fields import Batch, Field, Timeline, as_batch
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval, SystemClock
from tests.disks import fill_disk, mounted
from tests.faults.shim import Shim, compiled
from tests.sisock.histories import StoredHistory, killed

EVER = Interval(-1e12, 1e12)
LINE = Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=0.0, follows_clock=False)


def put(history, t, name="tl"):
    t = np.asarray(t, float)
    return history.append(as_batch(name, t, {"x": t * 2, "s": np.array([f"word {int(v) % 7}" for v in t], object)}))


class Disk:
    """A history on a disk, with the health that its node would report."""

    def __init__(self, path, lines=(LINE,), **more):
        self.outages = OutageLog(SystemClock())
        settings = HistorySettings(path=path, **{"sync": "none", "memory": 1e9, **more})
        self.clock = StepClock(5e4)
        self.history = StoredHistory(lines, settings, self.clock, outages=self.outages)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.history.close()

    def put(self, t, name="tl"):
        return put(self.history, t, name)

    def samples(self, interval=EVER):
        return self.history.read(["x", "s"], interval).timelines["tl"]

    def health(self):
        return self.outages.health()

    def counters(self):
        return self.history.status()["tl"]

    def await_health(self, state, within=10.0):
        deadline = time.monotonic() + within
        while self.health().state != state:
            assert time.monotonic() < deadline, self.health()
            self.run(0.25)

    def run(self, seconds):
        """Step the clock, and wait until the upkeep has done what is due."""
        self.clock.wait_for_sleepers()
        self.clock.step(seconds)
        self.clock.wait_for_sleepers()


def no_space(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_history_starts_on_a_full_disk_serves_what_it_has_and_writes_when_it_can(small):
    with Disk(small / "h") as disk:
        disk.put(range(10))
    filler = fill_disk(small)
    for _ in range(3):  # also again and again
        with Disk(small / "h") as disk:
            disk.put([100.0, 101.0])
            assert disk.samples().t.tolist() == [*range(10), 100.0, 101.0]
            assert disk.counters()["finalized_until"] <= 100.0
            assert disk.health().state == "degraded"
            assert "No space left" in disk.health().error
    with Disk(small / "h") as disk:
        disk.put([100.0, 101.0])
        filler.unlink()
        disk.await_health("ok")  # without another sample
        disk.put([102.0])
        assert disk.counters()["finalized_until"] == 102.0
    with Disk(small / "h") as disk:
        assert disk.samples().t.tolist() == [*range(10), 100.0, 101.0, 102.0]


@pytest.mark.parametrize("why", ["full", "read-only"])
def test_history_that_does_not_exist_yet_starts_on_a_disk_that_takes_nothing(small, why):
    filler = fill_disk(small) if why == "full" else None
    if filler is None:
        mounted("-o", "remount,ro", str(small))
    with Disk(small / "new" / "h") as disk:
        assert disk.put(range(10)) is not None
        assert disk.samples().t.tolist() == list(range(10))
        assert disk.health().state == "degraded"
        assert disk.counters()["finalized_until"] in (None, 0.0)
        assert disk.history.summary()["path"] == str(small / "new" / "h")
        if filler:
            filler.unlink()
        else:
            mounted("-o", "remount,rw", str(small))
        disk.await_health("ok")
        disk.put([10])
        assert disk.counters()["finalized_until"] == 10.0
    with Disk(small / "new" / "h") as disk:
        assert disk.samples().t.tolist() == list(range(11))
        assert disk.samples().columns["s"].tolist() == [f"word {i % 7}" for i in range(11)]


def test_history_starts_on_a_read_only_disk_and_is_locked_there(small):
    with Disk(small / "h") as disk:
        disk.put(range(10))
    mounted("-o", "remount,ro", str(small))
    with Disk(small / "h") as disk:
        disk.put([100.0])
        assert disk.samples().t.tolist() == [*range(10), 100.0]
        assert "Read-only" in disk.health().error
        with pytest.raises(BadHistory, match="in use by the process"):
            Disk(small / "h")
        mounted("-o", "remount,rw", str(small))
        disk.await_health("ok")
    with Disk(small / "h") as disk:
        assert disk.samples().t.tolist() == [*range(10), 100.0]


def test_catalogue_that_is_lost_is_rebuilt_also_on_a_disk_that_takes_nothing(small):
    with Disk(small / "h") as disk:
        disk.put(range(10))
        disk.put(range(10, 20))
    for path in (small / "h").glob("catalogue*"):
        path.unlink()
    mounted("-o", "remount,ro", str(small))
    with Disk(small / "h") as disk:
        disk.put([100.0])
        assert disk.samples().t.tolist() == [*range(20), 100.0]
        mounted("-o", "remount,rw", str(small))
        disk.await_health("ok")
    with Disk(small / "h") as disk:
        assert disk.samples().t.tolist() == [*range(20), 100.0]
        assert disk.samples().gaps == []


def test_damaged_segment_is_found_when_the_disk_takes_writes_again(small):
    with Disk(small / "h") as disk:
        disk.put(range(10))
    (segment,) = (small / "h").glob("*/*.seg")
    data = bytearray(segment.read_bytes())
    data[4096] ^= 1  # a value of x
    segment.write_bytes(data)
    mounted("-o", "remount,ro", str(small))
    with Disk(small / "h") as disk:
        disk.put([100.0])
        assert disk.samples().t.tolist() == [100.0]  # nothing wrong is served
        assert disk.samples().gaps == [(0.0, 9.0)]
        mounted("-o", "remount,rw", str(small))
        disk.await_health("ok")
        samples = disk.samples()
        assert samples.t.tolist() == [100.0]
        assert samples.gaps == [(0.0, 9.0)]
        assert samples.dropped == 10


def test_timeline_that_comes_while_the_disk_is_full_is_kept_in_memory_until_it_can_be_written(small):
    more = Timeline("more", [Field("y")], lateness_s=0.0, follows_clock=False)
    with Disk(small / "h") as disk:
        disk.put(range(10))
        filler = fill_disk(small)
        assert disk.history.add(more) is None
        disk.history.append(as_batch("more", [1.0, 2.0], {"y": [1.0, 2.0]}))
        assert disk.history.read(["y"], EVER).timelines["more"].t.tolist() == [1.0, 2.0]
        assert disk.health().state == "degraded"
        filler.unlink()
        disk.await_health("ok")
    with Disk(small / "h", [LINE, more]) as disk:
        assert disk.history.read(["y"], EVER).timelines["more"].columns["y"].tolist() == [1.0, 2.0]
        assert disk.samples().t.tolist() == list(range(10))


def test_gaps_and_losses_of_the_time_in_which_the_disk_is_full_are_served_and_written_later(small, monkeypatch):
    with Disk(small / "h") as disk:
        disk.put(range(10))
        filler = fill_disk(small)
        # The journal's last page may have room for some lines.
        monkeypatch.setattr("sisock.history.journal._write", no_space)
        t = np.arange(2000.0) + 100.0
        disk.put(t)
        disk.history.append(
            Batch("tl", np.array([5000.0]), {"x": np.array([1.0]), "s": np.array(["a"], object)}, 3000.0, 7)
        )
        assert disk.samples().gaps == [(3000.0, 5000.0)]
        assert disk.samples().dropped == 7
        filler.unlink()
        monkeypatch.undo()
        disk.await_health("ok")
    with Disk(small / "h") as disk:
        assert disk.samples().gaps == [(3000.0, 5000.0)]
        assert disk.samples().dropped == 7
        assert len(disk.samples().t) == 2011


@pytest.fixture
def syncs(monkeypatch):
    """A switch: while it is set, the next sync of a file fails, and those after it succeed, as Linux has it."""
    failures = []

    def failing(real):
        def sync(fd):
            if failures and Path(os.readlink(f"/proc/self/fd/{fd}")).suffix in failures[0]:
                failures.pop(0)
                raise OSError(errno.EIO, "Input/output error")
            real(fd)

        return sync

    monkeypatch.setattr(os, "fdatasync", failing(os.fdatasync))
    return failures


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_what_was_dirty_at_a_failed_sync_is_written_anew(tmp_path, syncs, sync):
    disk = Disk(tmp_path / "h", sync=sync, sync_interval=0.05)
    disk.put(range(10))
    disk.run(0.3)
    (segment,) = (tmp_path / "h").glob("*/*.seg")
    before = segment.read_bytes()
    syncs.append({".seg"})
    disk.put(range(10, 20))
    if sync == "interval":
        disk.await_health("degraded")
    assert disk.health().state == "degraded"
    assert "Input/output error" in disk.health().error
    disk.await_health("ok")
    disk.put(range(20, 30))
    disk.run(0.3)
    killed(disk.history)
    if segment.exists():  # what the failed sync was to write never reached the disk
        segment.write_bytes(before)
    with Disk(tmp_path / "h") as again:
        samples = again.samples()
        assert samples.t.tolist() == list(range(30))
        assert samples.columns["s"].tolist() == [f"word {i % 7}" for i in range(30)]
        assert samples.gaps == []
        assert samples.dropped == 0


def test_samples_are_not_final_while_syncs_fail(tmp_path, syncs):
    with Disk(tmp_path / "h", sync="always") as disk:
        disk.put(range(10))
        syncs.append({".seg"})
        disk.put(range(10, 20))
        assert disk.counters()["unwritten"] == 10
        assert disk.counters()["finalized_until"] <= 10.0
        disk.await_health("ok")
        disk.put([20.0])
        assert disk.counters()["finalized_until"] == 20.0


def test_journal_whose_sync_failed_is_written_as_a_whole(tmp_path, syncs):
    with Disk(tmp_path / "h", sync="always") as disk:
        disk.put(range(10))
        syncs += [{".log"}, {".copy"}]
        inodes = [path.stat().st_ino for path in sorted((tmp_path / "h").glob("catalogue.[lc]o*"))]
        disk.put(range(10, 5000))  # takes another segment
        disk.await_health("ok")
        assert [path.stat().st_ino for path in sorted((tmp_path / "h").glob("catalogue.[lc]o*"))] != inodes
    with Disk(tmp_path / "h") as disk:
        assert disk.samples().t.tolist() == list(range(5000))


WRITER = """
import sys
import threading
import numpy as np
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval

line = Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=0.0, follows_clock=False)
history = History([line], HistorySettings(path=sys.argv[1], sync="none", memory=1e9), StepClock(5e4))
k = 0
while True:
    t = np.arange(k, k + 500.0)
    history.append(as_batch("tl", t, {"x": t * 2, "s": np.array(["word"] * 500, object)}))
    k += 500
    final = history.finalized_until("tl")
    answer = history.read(["x"], Interval(0.0, final)).timelines.get("tl")
    print(k, final, 0 if answer is None else len(answer.t), history.status()["tl"]["unwritten"], flush=True)
"""


def test_kill_while_the_disk_is_full_changes_no_answer_that_was_final(small):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(small / "h")], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            for line in writer.stdout:
                end, final, count, unwritten = line.split()
                if int(unwritten) > 5000:
                    break
        finally:
            writer.send_signal(signal.SIGKILL)
    assert float(final) < float(end) - 4000  # it stood still when the disk was full
    assert int(count) == math.ceil(float(final))
    with Disk(small / "h") as disk:
        assert disk.counters()["finalized_until"] >= float(final)
        assert disk.samples(Interval(0.0, float(final))).t.tolist() == list(range(int(count)))


def test_samples_that_memory_cannot_hold_while_the_disk_is_full_are_counted_at_once(small):
    with Disk(small / "h", memory_size=2**20) as disk:
        disk.put(range(10))
        filler = fill_disk(small)
        for start in range(1000, 121_000, 10_000):
            disk.put(range(start, start + 10_000))
        counters = disk.counters()
        samples = disk.samples()
        assert counters["dropped"] > 10_000
        assert samples.dropped == counters["dropped"]
        assert len(samples.t) + counters["dropped"] == 120_010
        ((start, end),) = samples.gaps
        missing = np.setdiff1d(np.arange(1000.0, 121_000.0), samples.t)
        assert start <= missing[0]
        assert missing[-1] < end
        filler.unlink()
        disk.await_health("ok")
        disk.put([121_000.0])
        written = sum(file.stat().st_size for file in (small / "h").glob("*/*.seg"))
        assert written < 3 * 40 * len(samples.t)  # once, not at every attempt while the journal is full
    with Disk(small / "h") as disk:
        again = disk.samples()
        np.testing.assert_array_equal(again.t, np.append(samples.t, 121_000.0))
        assert again.gaps == samples.gaps
        assert again.dropped == samples.dropped


@pytest.fixture
def shim(tmp_path):
    library = compiled(tmp_path)
    if library is None:
        pytest.skip("there is no gcc")
    made = Shim(library, tmp_path / "control", tmp_path / "h")
    yield made
    made.close()


STARTER = """
import sys, time
import numpy as np
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History
from sisock.outage import OutageLog
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval, SystemClock
from tests.disks import fill_disk, mounted
from tests.faults.shim import Shim, compiled

line = Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=0.0, follows_clock=False)
outages = OutageLog(SystemClock())
clock = StepClock(5e4)
history = History([line], HistorySettings(path=sys.argv[1], sync="none", memory=1e9), clock, outages=outages)
ever = Interval(-1e12, 1e12)
for command in sys.stdin:
    word, number = command.split()
    clock.step(0.25)
    if word == "put":
        history.append(as_batch("tl", [float(number)], {"x": [1.0], "s": ["a"]}))
    try:
        found = history.read(["x"], ever).timelines.get("tl")
        answer = 0 if found is None else len(found.t)
    except Exception as error:
        answer = type(error).__name__
    print(outages.health().state, answer, flush=True)
history.close()
"""


class Started:
    """A history in a process of its own, whose disk can be made to fail."""

    def __init__(self, path, shim):
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **shim.environment},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.process.communicate(timeout=30)

    def ask(self, command="read", number=0):
        """Return the health's state, and how many samples are served, or the name of the error."""
        self.process.stdin.write(f"{command} {number}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def await_health(self, state):
        deadline = time.monotonic() + 20.0
        while (answer := self.ask())[0] != state:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return answer


@pytest.mark.parametrize("what", ["write_error", "read_error"])
def test_history_starts_on_a_disk_that_gives_io_errors_and_continues_when_it_works(tmp_path, shim, what):
    with Disk(tmp_path / "h", segment=2**16) as disk:
        disk.put(range(6000))
        writer = disk.history.store.writers["tl"]
        disk.history.store.sealer.seal_all(writer, math.inf)
        assert list((tmp_path / "h").glob("*/*.parquet"))
    shim.set(**{what: errno.EIO})
    with Started(tmp_path / "h", shim) as node:
        state, answer = node.ask("put", 9000)
        assert state == "degraded"
        assert answer == ("6001" if what == "write_error" else "BadHistory")  # never silently empty
        shim.set()
        assert node.await_health("ok")[1] == "6001"
        assert node.ask("put", 9001)[1] == "6002"
    with Disk(tmp_path / "h") as disk:
        samples = disk.samples()
        assert samples.t.tolist() == [*range(6000), 9000, 9001]
        assert samples.gaps == []


def test_read_that_fails_is_an_error_and_no_damage(tmp_path, shim):
    with Disk(tmp_path / "h", segment=2**16) as disk:
        disk.put(range(6000))
        disk.history.store.sealer.seal_all(disk.history.store.writers["tl"], math.inf)
    with Started(tmp_path / "h", shim) as node:
        assert node.ask("put", 9000) == ["ok", "6001"]
    with Started(tmp_path / "h", shim) as node:
        assert node.ask()[0] == "ok"
        shim.set(read_error=errno.EIO)
        state, answer = node.ask("put", 9001)
        assert (state, answer) == ("degraded", "Unreadable")
        shim.set()
        assert node.await_health("ok")[1] == "6002"
    assert not (tmp_path / "h" / "quarantine").exists()


@pytest.mark.parametrize("since", ["the start", "later"])
@pytest.mark.parametrize("suffix", [".words", ".parquet"])
def test_file_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch, suffix, since):
    real = Path.open

    def broken(path, mode="r", *more, **how):
        if path.suffix == suffix and "r" in mode:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, mode, *more, **how)

    with Disk(tmp_path / "h", segment=2**16) as disk:
        disk.put(range(6000))
        if suffix == ".parquet":
            disk.history.store.sealer.seal_all(disk.history.store.writers["tl"], math.inf)
    if since == "the start":
        monkeypatch.setattr(Path, "open", broken)
    with Disk(tmp_path / "h", memory=0.0, lines=() if since == "later" else (LINE,)) as disk:
        monkeypatch.setattr(Path, "open", broken)
        if (suffix, since) == (".words", "the start"):  # not served, and not left out silently
            assert disk.samples().gaps[-1][1] == 5999.0
        else:
            with pytest.raises(BadHistory, match="ask again later"):
                disk.samples()
        assert disk.health().state == "degraded"
        assert "Input/output error" in disk.health().error
        monkeypatch.undo()
        disk.await_health("ok", 60.0)
        deadline = time.monotonic() + 60.0
        while len(disk.samples().t) < 6000:
            assert time.monotonic() < deadline
            disk.run(0.25)
        assert disk.samples().columns["s"].tolist() == [f"word {i % 7}" for i in range(6000)]
        assert disk.samples().gaps == []
    assert not (tmp_path / "h" / "quarantine").exists()


def test_nobody_waits_for_a_slow_sync_but_who_appends(tmp_path, monkeypatch):
    entered, released = threading.Event(), threading.Event()

    def slow(fd):
        entered.set()
        assert released.wait(60.0)

    other = Timeline("other", [Field("y")], lateness_s=0.0, follows_clock=True)
    with Disk(tmp_path / "h", [LINE, other], sync="always") as disk:
        disk.put(range(10))
        disk.clock.step(10.0)
        monkeypatch.setattr(os, "fdatasync", slow)
        appending = threading.Thread(target=disk.put, args=(range(10, 5000),))  # takes another segment
        answers = []

        def ask():
            answers.append(disk.history.status()["tl"]["newest"])
            disk.clock.step(10.0)
            answers.append(disk.history.finalized_until("other") is not None)
            answers.append(len(disk.samples().t))
            answers.append(disk.history.summary()["path"])

        asking = threading.Thread(target=ask, daemon=True)
        try:
            appending.start()
            assert entered.wait(30.0)
            asking.start()
            asking.join(30.0)
            assert len(answers) == 4
            assert answers[2] >= 10
        finally:
            released.set()
            monkeypatch.undo()
            appending.join()
        assert disk.counters()["newest"] == 4999.0
