"""`sisock export`: through a real router, from nodes that allow less at once than is wanted."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import numpy as np
import pytest

from sisock import DataNodeServer, Field, Timeline
from sisock.cli.files import _files
from sisock.consumer import BlockingConsumer
from sisock.consumer.pieces import pieces
from sisock.downsample import downsampled, first
from sisock.errors import BadRequest, TooLarge
from sisock.fields import Samples
from sisock.node import Node, open_node
from sisock.recording import open_recording
from sisock.settings import AllowanceSettings, HistorySettings
from sisock.testing import ManualSource
from sisock.times import Interval
from sisock_nodes.file.settings import FileSettings
from tests import commands

EVER = HistorySettings(keep=1e12)
T0 = 1_700_000_000.0


@pytest.fixture
def sisock(sisock_router, tmp_path):
    """Run the command in `tmp_path`."""

    def run(*args, check=True):
        done = commands.sisock(*args, "--site", sisock_router.site.path, cwd=tmp_path)
        assert done.returncode == 0 or not check, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def history(sisock_serve, unique):
    """A node with two timelines, a day of each, which allows 5,000 values at once; its name."""
    fast = Timeline("fast", [Field("x", units="V"), Field("s", "string")], 1.0, 0.0, follows_clock=False)
    slow = Timeline(
        "slow/1", [Field("y", units="K", description="y"), Field("b", "bool")], 60.0, 0.0, follows_clock=False
    )
    source = ManualSource(fast, slow)
    sisock_serve(Node(unique, None, [source], EVER, allowance=AllowanceSettings(values=5_000)))
    t = T0 + np.arange(86_400.0)
    parts = [t[:30_000], t[30_100:]]
    source.emit("fast", parts[0], {"x": np.sin(parts[0]), "s": np.array([f"at {i % 10}" for i in range(30_000)])})
    source.emit("fast", parts[1], {"x": np.sin(parts[1]), "s": np.full(len(parts[1]), "on")}, gap_from=parts[0][-1])
    source.emit("slow/1", t[::60], {"y": t[::60] - T0, "b": t[::60] % 7 == 0})
    return unique


DAY = ("--start", T0, "--end", T0 + 86_400)


def samples(path, timeline):
    with open_recording(path) as recording:
        batches = list(recording.batches(timeline))
        names = next(tl for tl in recording.timelines if tl.name == timeline).fields
    t = np.concatenate([batch.t for batch in batches])
    return t, {f.name: np.concatenate([batch[f.name] for batch in batches]) for f in names}


def test_day_that_is_more_than_the_node_allows_is_exported_whole(sisock, sisock_router, history, tmp_path):
    with BlockingConsumer(sisock_router.access()) as consumer, pytest.raises(TooLarge):
        consumer.data(history, ["x"], T0, T0 + 86_400)
    sisock("export", history, "-o", "day.h5", *DAY)
    t, columns = samples(tmp_path / "day.h5", "fast")
    np.testing.assert_array_equal(t, T0 + np.r_[0:30_000, 30_100:86_400])
    np.testing.assert_array_equal(columns["x"], np.sin(t))
    assert columns["s"][:3].tolist() == ["at 0", "at 1", "at 2"]
    t, columns = samples(tmp_path / "day.h5", "slow/1")
    np.testing.assert_array_equal(columns["y"], t - T0)
    assert columns["b"].dtype == bool
    with open_recording(tmp_path / "day.h5") as recording:
        assert recording.node == history
        assert recording.interval == Interval(T0, T0 + 86_400)
        assert recording.gaps("fast") == [(T0 + 29_999, T0 + 30_100)]
        units = {f.name: (f.units, f.description) for tl in recording.timelines for f in tl.fields}
        assert units == {"x": ("V", None), "s": (None, None), "y": ("K", "y"), "b": (None, None)}
    assert [path.name for path in tmp_path.iterdir()] == ["day.h5"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "h5"])
def test_one_file_holds_all_timelines(ending, sisock, history, tmp_path):
    done = sisock("export", history, "-o", f"day.{ending}", *DAY, "--json")
    assert [path.name for path in tmp_path.iterdir()] == [f"day.{ending}"]
    (file,) = json.loads(done.stdout)["files"]
    fast, slow = file["timelines"]
    assert fast == {"timeline": "fast", "fields": ["x", "s"], "samples": 86_300, "gaps": 1}
    assert slow == {"timeline": "slow/1", "fields": ["y", "b"], "samples": 1440, "gaps": 0}
    t, columns = samples(tmp_path / f"day.{ending}", "fast")
    np.testing.assert_array_equal(columns["x"], np.sin(t))
    if ending == "parquet":
        import pandas

        frame = pandas.read_parquet(tmp_path / "day.parquet")
        assert frame["timeline"].value_counts().to_dict() == {"fast": 86_300, "slow/1": 1440}
        np.testing.assert_array_equal(frame["y"].dropna(), np.arange(0.0, 86_400.0, 60.0))


@pytest.mark.parametrize("output", ["day/", "there", "day"])
def test_folder_gets_a_file_for_each_timeline(output, sisock, history, tmp_path):
    (tmp_path / "there").mkdir()
    if output == "day":
        done = sisock("export", history, "-o", output, *DAY, check=False)
        assert "day has no known format" in done.stderr
        return
    sisock("export", history, "-o", output, *DAY)
    assert sorted(path.name for path in (tmp_path / output).iterdir()) == ["fast.parquet", "slow_1.parquet"]
    assert len(samples(tmp_path / output / "slow_1.parquet", "slow/1")[0]) == 1440
    done = sisock("export", history, "-o", output, *DAY, check=False)
    assert "exists already" in done.stderr
    sisock("export", history, "x", "-o", output, *DAY, "--format", "csv")
    assert (tmp_path / output / "fast.csv").exists()


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_each_timeline_gets_a_file_where_that_is_asked_for(ending, sisock, history, tmp_path):
    done = sisock("export", history, "-o", f"day.{ending}", *DAY, "--json", "--per-timeline")
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert [file["path"] for file in report["files"]] == [f"day-fast.{ending}", f"day-slow_1.{ending}"]
    fast, slow = (file["timelines"] for file in report["files"])
    assert fast == [{"timeline": "fast", "fields": ["x", "s"], "samples": 86_300, "gaps": 1}]
    assert slow == [{"timeline": "slow/1", "fields": ["y", "b"], "samples": 1440, "gaps": 0}]
    assert report["interval"] == [T0, T0 + 86_400]
    for file in report["files"]:
        assert (tmp_path / file["path"]).stat().st_size == file["bytes"]
    t, columns = samples(tmp_path / f"day-fast.{ending}", "fast")
    np.testing.assert_array_equal(columns["x"], np.sin(t))
    done = sisock("export", history, "y", "-o", f"y.{ending}", *DAY)
    assert done.stdout.splitlines()[1] == "  slow/1: 1,440 samples of y"
    assert samples(tmp_path / f"y.{ending}", "slow/1")[1].keys() == {"y"}


@pytest.mark.parametrize("output", ["day.parquet", "day.csv", "day.h5", "day/"])
def test_what_is_exported_can_be_served_again(sisock, sisock_router, sisock_serve, history, tmp_path, unique, output):
    sisock("export", history, "-o", output, *DAY)
    settings = FileSettings(type="file", path=tmp_path / output)
    sisock_serve(open_node(f"{unique}-again", settings))
    with BlockingConsumer(sisock_router.access()) as consumer:
        deadline = time.monotonic() + 60.0
        for field, newest in ("x", T0 + 86_399), ("b", T0 + 86_340):  # of both timelines
            while not len(consumer.data(f"{unique}-again", [field], newest, exact=True)[field]):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        for name, start, end in (("x", 29_000, 31_000), ("b", 0, 86_400), ("s", 86_000, 86_400)):
            before, after = (consumer.data(n, [name], T0 + start, T0 + end) for n in (history, f"{unique}-again"))
            np.testing.assert_array_equal(before[name], after[name])
            assert before.units(name) == after.units(name)
            ours, theirs = (next(iter(data.timelines.values())) for data in (before, after))
            np.testing.assert_array_equal(ours.t, theirs.t)
            assert ours.gaps == theirs.gaps


@pytest.mark.parametrize("method", ["first", "mean", "minmax"])
def test_thinned_out_in_pieces_is_what_it_would_be_at_once(method, sisock, history, tmp_path):
    sisock("export", history, "x", "-o", "x.parquet", *DAY, "--min-stride", "7s", "--downsample", method)
    t, columns = samples(tmp_path / "x.parquet", "fast")
    every = T0 + np.r_[0:30_000, 30_100:86_400]
    expected_t, expected, _ = downsampled(every, {"x": np.sin(every)}, 7.0, method)
    np.testing.assert_array_equal(t, expected_t)
    np.testing.assert_allclose(columns["x"], expected["x"], rtol=0, atol=1e-12)
    with open_recording(tmp_path / "x.parquet") as recording:
        assert recording.gaps("fast") == [(T0 + 29_999, T0 + 30_100)]


def test_number_of_points_is_that_of_the_whole(sisock, history, tmp_path):
    sisock("export", history, "x", "-o", "x.csv", *DAY, "--max-points", 100, "--downsample", "max")
    t, _ = samples(tmp_path / "x.csv", "fast")
    assert 30 < len(t) <= 100


def test_nothing_is_overwritten_unless_it_is_asked_for(sisock, history, tmp_path):
    (tmp_path / "day-slow_1.csv").write_text("mine")
    done = sisock("export", history, "-o", "day.csv", *DAY, "--per-timeline", check=False)
    assert done.returncode == 2
    assert done.stderr == "sisock: day-slow_1.csv exists already; give another name, or --force to overwrite it\n"
    assert [path.name for path in tmp_path.iterdir()] == ["day-slow_1.csv"]
    sisock("export", history, "-o", "day.csv", *DAY, "--per-timeline", "--force")
    assert len(samples(tmp_path / "day-slow_1.csv", "slow/1")[0]) == 1440


def test_what_cannot_be_exported_is_said_and_leaves_nothing(sisock, history, tmp_path):
    for args, why in (
        (("nobody", "-o", "x.csv"), "no node 'nobody'"),
        ((history, "z", "-o", "x.csv"), f"node {history!r} has no field 'z'"),
        ((history, "-o", "x.csv", "--start", "1", "--end", "2"), "has no samples in that interval"),
        ((history, "-o", "x.txt"), "x.txt has no known format"),
        ((history, "-o", "x.csv", "--format", "xls"), "'xls' is not a format"),
        ((history, "-o", "x.csv", "--downsample", "mean"), "--downsample needs --min-stride or --max-points"),
        ((history, "-o", "x.csv", "--downsample", "median", "--min-stride", "1"), "give one of first, mean"),
        ((history, "-o", "nowhere/x.csv", *DAY), "cannot write to folder nowhere: No such file or directory"),
    ):
        done = sisock("export", *args, check=False)
        assert done.returncode == 2
        assert why in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def slow_node(name):
    class Slow(DataNodeServer):
        def get_fields_blocking(self, start, end):
            return (
                {"x": {"description": None, "timeline": "tl", "type": "number", "units": None}},
                {"tl": {"interval": 1.0, "field": ["x"]}},
            )

        def get_data_blocking(self, field, start, end, min_stride=None):
            if end - start > 100:
                return False
            time.sleep(0.05)
            t = np.arange(np.ceil(start), end)
            # Whole numbers at first, then not.
            return {"data": {"x": [int(v) for v in t] if start < 500 else t / 3}, "timeline": {"tl": {"t": t}}}

    Slow.name = name
    return Slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_export_that_is_interrupted_leaves_nothing_behind(number, sisock_router, sisock_serve, unique, tmp_path):
    sisock_serve(slow_node(unique))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sisock",
            "export",
            unique,
            "-o",
            "x.h5",
            "--start",
            "1",
            "--site",
            sisock_router.site.path,
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60.0
    while not list(tmp_path.glob(".x.h5.*/x.h5")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60.0)
    assert process.returncode != 0
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_node_of_the_published_contract_is_exported_too(sisock, sisock_serve, unique, tmp_path):
    sisock_serve(slow_node(unique))
    sisock("export", unique, "-o", "x.csv", "--start", 1, "--end", 1000.5)
    t, columns = samples(tmp_path / "x.csv", "tl")
    assert t.tolist() == [*map(float, range(1, 1001))]
    assert columns["x"].dtype == float
    assert columns["x"][:3].tolist() == [1.0, 2.0, 3.0]
    assert columns["x"][-1] == 1000 / 3


class Answers:
    """What a node would answer that has samples at `t`, allows `most` at once, and knows of gaps."""

    def __init__(self, t, most, gaps=()):
        self.t, self.most, self.gaps, self.calls = np.asarray(t, float), most, gaps, 0

    def __call__(self, start, end):
        self.calls += 1
        i, j = np.searchsorted(self.t, (start, end))
        if j - i > self.most:
            raise TooLarge("too large")
        gaps = [gap for gap in self.gaps if gap[0] < end and gap[1] > start]
        return Samples(self.t[i:j], {"x": self.t[i:j]}, gaps=gaps) if j > i else None


@pytest.mark.parametrize("most", [1, 7, 1000, 10**9])
def test_pieces_together_are_the_whole_however_dense_it_is(most):
    rng = np.random.default_rng(1)
    t = np.sort(np.r_[rng.uniform(1e9, 1e9 + 10, 500), rng.uniform(1.2e9, 1.2e9 + 1e6, 500), 1.3e9, 1.3e9 + 1e-3])
    ask = Answers(t, most)
    found = list(pieces(ask, Interval(1.0, 1.3e9 + 1)))
    np.testing.assert_array_equal(np.concatenate([p.t for p, _ in found if p]), t)
    untils = [until for _, until in found]
    assert untils == sorted(untils)
    assert untils[-1] == 1.3e9 + 1
    assert ask.calls < 40 * (len(t) / most + 10)


def test_timelines_that_are_too_many_for_one_table_are_refused_with_what_to_do():
    timelines = [Timeline(f"t{i}", [Field(f"f{i}.{j}") for j in range(5)]) for i in range(50)]
    with pytest.raises(BadRequest, match=r"50 timelines with 250 fields .*-o many/\) or --per-timeline"):
        _files("many.parquet", "parquet", timelines, per_timeline=False)
    assert len(_files("many.parquet", "parquet", timelines[:40], per_timeline=False)) == 1
    assert len(_files("many.parquet", "parquet", timelines, per_timeline=True)) == 50
    assert len(_files("many.h5", "hdf5", timelines, per_timeline=False)) == 1


def test_moment_that_is_too_large_by_itself_ends_the_export():
    with pytest.raises(TooLarge, match="more than the node allows; ask for fewer fields"):
        list(pieces(Answers([5.0, 5.0, 5.0], 2), Interval(1.0, 10.0)))


@pytest.mark.parametrize("stride", [0.0, 600.0])
def test_every_gap_is_found_wherever_the_pieces_end(stride):
    # An hour of samples, then hours without; the gaps end at the very times at which pieces do.
    t = np.r_[3600.0 * np.arange(1, 100, 7), 1e6 + np.arange(0, 86_400.0, 10.0)]
    gaps = [*itertools.pairwise(t[:16]), (1e6 + 35_000, 1e6 + 35_100), (1e6 + 35_500, 1e6 + 35_510)]
    full = Answers(t, 10**9, gaps)

    def ask(start, end):
        found = full(start, end)
        if found is None or not stride:
            return found
        kept = first(found.t, stride)
        return replace(found, t=found.t[kept], columns={"x": found.t[kept]})

    for start in (1.0, 3600.0, 3599.0, 1800.0):
        found = [p for p, _ in pieces(ask, Interval(start, 2e6), stride) if p]
        assert {gap for p in found for gap in p.gaps} == set(gaps)
        got = np.concatenate([p.t for p in found])
        np.testing.assert_array_equal(got, ask(start, 2e6).t)


def test_folder_on_another_file_system_gets_its_files(sisock, history, tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no other file system")
        (tmp_path / "usb").symlink_to(elsewhere)
        sisock("export", history, "--start", str(T0), "--end", str(T0 + 100), "-o", "usb")
        assert sorted(os.listdir(elsewhere)) == ["fast.parquet", "slow_1.parquet"]
    assert os.listdir(tmp_path) == ["usb"]
