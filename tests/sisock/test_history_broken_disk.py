"""Histories on disks that are full, read-only or give errors, at the start and while running."""

import contextlib
import errno
import os
import subprocess
import time

import numpy as np
import pytest

from sisock.errors import BadHistory
from sisock.fields import Batch, Field, Timeline, as_batch
from sisock.history import History
from sisock.outage import OutageLog
from sisock.site import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval, SystemClock

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
        self.history = History(lines, settings, StepClock(5e4), outages=self.outages)

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
            time.sleep(0.02)


def mounted(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, check=False)


@pytest.fixture
def small(tmp_path):
    """A disk of 8 MB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    if mounted("-t", "tmpfs", "-o", "size=8m", "sisock-test", str(path)).returncode:
        if "tmpfs" in os.environ.get("SISOCK_TEST_REQUIRE", "").split(","):
            pytest.fail("SISOCK_TEST_REQUIRE asks for tmpfs, but it cannot be mounted")
        pytest.skip("a tmpfs cannot be mounted here; it takes root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=False)


def no_space(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def fill(path):
    """Fill a disk to the last byte, and return the file that has done it."""
    filler = path / "filler"
    for size in (2**16, 1):
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while file.write(bytes(size)):
                continue
    return filler


def test_history_starts_on_a_full_disk_serves_what_it_has_and_writes_when_it_can(small):
    with Disk(small / "h") as disk:
        disk.put(range(10))
    filler = fill(small)
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
    filler = fill(small) if why == "full" else None
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
        filler = fill(small)
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
        filler = fill(small)
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
