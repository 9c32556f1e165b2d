"""Histories whose files are damaged, exchanged, restored from a backup or removed while nobody writes to them."""

import json
import math
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from sisock.errors import BadHistory
from sisock.fields import Field, Timeline, as_batch
from sisock.history import History, is_history, journal, open_history
from sisock.history.sealed import Sealed, described
from sisock.history.segment import Segment
from sisock.settings import HistorySettings
from sisock.testing import StepClock
from sisock.times import Interval
from tests.faults.damage import run
from tests.sisock.histories import StoredHistory, killed, seal

EVER = Interval(-1e12, 1e12)
FORMAT_1 = Path(__file__).parent / "data" / "history-1"
X = Timeline("tl", [Field("x"), Field("s", "string")], lateness_s=0.0, follows_clock=False)
ROOM = ["t", "state", "ok"]


def opened(path, *timelines, now=1e5, **more):
    settings = HistorySettings(path=path, memory=0.0, sync="none", **more)
    return StoredHistory(timelines or (X,), settings, StepClock(now))


def put(history, t, **more):
    t = np.asarray(t, float)
    words = np.array([f"w{int(v) % 7}" for v in t], object)
    history.append(as_batch("tl", t, {"x": t * 2, "s": words}, **more))


def filled(path):
    """Make a folder with two sealed and two open segments, a gap, losses, and return what it has."""
    history = opened(path)
    put(history, np.arange(0, 500))
    seal(history, whole=True)
    put(history, np.arange(600, 1000), gap_from=499.0, dropped=3)
    seal(history, whole=True)
    put(history, np.arange(1000, 1200))
    history.store.writers["tl"].rotate()
    put(history, np.arange(1300, 1500), gap_from=1199.0, dropped=5)
    final = history.finalized_until("tl")
    killed(history)
    return final


TIMES = np.concatenate([np.arange(0, 500), np.arange(600, 1200), np.arange(1300, 1500)])


def has_all(history):
    samples = history.read(["x", "s"], EVER).timelines["tl"]
    np.testing.assert_array_equal(samples.t, TIMES)
    np.testing.assert_array_equal(samples.columns["x"], TIMES * 2.0)
    assert samples.columns["s"].tolist() == [f"w{int(v) % 7}" for v in TIMES]
    return samples


@pytest.mark.parametrize("what", ["removed", "empty", "zeroed", "flipped", "older"])
@pytest.mark.parametrize("copies", [[0], [1], [0, 1]])
def test_catalogue_that_is_lost_is_rebuilt_and_no_sample_removed(tmp_path, what, copies, caplog):
    backup = tmp_path / "backup"
    folder = tmp_path / "h"
    history = opened(folder)
    put(history, [-10.0])
    killed(history)
    shutil.copytree(folder, backup)
    shutil.rmtree(folder)
    final = filled(folder)
    for copy in copies:
        path = folder / journal.FILES[copy]
        data = path.read_bytes()
        if what == "removed":
            path.unlink()
        elif what == "older":
            shutil.copy(backup / path.name, path)
        else:
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
            path.write_bytes({"empty": b"", "zeroed": bytes(len(data)), "flipped": flipped}[what])
    with open_history(folder) as reader:
        if what != "older":
            has_all(reader)
    history = opened(folder)
    samples = has_all(history)
    assert history.finalized_until("tl") == final
    # They are beside the segments, too.
    assert (samples.gaps, samples.dropped) == ([(499.0, 600.0), (1199.0, 1300.0)], 8)
    if what != "older" or copies == [0, 1]:
        assert "was not as it was left" in caplog.text
    history.close()
    history = opened(folder)
    has_all(history)
    history.close()


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bit_in_a_commit_record_never_prevents_a_start(tmp_path, seed):
    final = filled(tmp_path)
    path = max(tmp_path.glob("*/*.seg"))
    layout = Segment(path).layout
    chance = np.random.default_rng(seed)
    at = layout.records + int(chance.integers(3 * layout.record_size))
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << int(chance.integers(8)))]))
    history = opened(tmp_path)
    has_all(history)
    assert history.finalized_until("tl") == final
    history.close()


@pytest.mark.parametrize("what", ["head", "cut", "removed"])
def test_open_segment_that_is_damaged_is_salvaged_or_counted(tmp_path, what):
    final = filled(tmp_path)
    path = max(tmp_path.glob("*/*.seg"))
    if what == "head":
        with path.open("r+b") as file:
            file.write(bytes(64))
    elif what == "cut":
        os.truncate(path, 5000)
    else:
        path.unlink()
    history = opened(tmp_path)
    assert history.finalized_until("tl") >= final
    if what == "head":
        has_all(history)
    else:
        samples = history.read(["x"], EVER).timelines["tl"]
        np.testing.assert_array_equal(samples.t, TIMES[TIMES < 1300])
        assert (1300.0, 1499.0) in samples.gaps
        assert samples.dropped == 8 + 200
    history.close()


def test_damaged_word_is_never_served(tmp_path):
    filled(tmp_path)
    path = max(tmp_path.glob("*/*.words"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"w3", b"w9", 1))
    history = opened(tmp_path)
    samples = history.read(["x", "s"], EVER).timelines["tl"]
    assert "w9" not in samples.columns["s"]
    np.testing.assert_array_equal(samples.t, TIMES[TIMES < 1300])
    assert samples.dropped == 8 + 200
    history.close()


def test_missing_pyramid_is_made_anew(tmp_path):
    filled(tmp_path)
    path = min(tmp_path.glob("*/*.pyramid"))
    path.unlink()
    with open_history(tmp_path) as reader:
        assert reader.downsampled(["x"], EVER, "max", 1024.0).timelines["tl"].columns["x"][0] == 2.0 * 1023
        has_all(reader)
    history = opened(tmp_path)
    assert history.downsampled(["x"], EVER, "max", 1024.0).timelines["tl"].columns["x"][0] == 2.0 * 1023
    has_all(history)
    assert history.summary()["quarantined"] == 1
    history.close()


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_removed_folder_of_a_timeline_costs_what_it_had_and_nothing_that_comes(tmp_path, end):
    """The watermark went to the time of the start, so that all rows of an older table were late from then on."""
    history = opened(tmp_path)
    put(history, np.arange(0, 500))
    seal(history, whole=True)
    put(history, np.arange(600, 1000))
    (history.close if end == "closed" else lambda: killed(history))()
    (folder,) = (each for each in tmp_path.iterdir() if each.name.isdigit())
    shutil.rmtree(folder)
    with opened(tmp_path) as history:
        assert history.finalized_until("tl") == (999.0 if end == "closed" else math.nextafter(499.0, math.inf))
        samples = history.read(["x"], EVER).timelines["tl"]
        assert not len(samples.t)
        assert all(any(start <= t <= end for start, end in samples.gaps) for t in (0.0, 499.0, 600.0, 999.0))
        assert samples.dropped >= 900
        put(history, np.arange(1000, 1010))
        assert history.status()["tl"]["late"] == 0
        assert history.read(["x"], EVER).timelines["tl"].t.tolist() == list(range(1000, 1010))


def exchange(folder, pattern, which=(-2, -1)):
    files = sorted(folder.glob(pattern))
    a, b = (files[i] for i in which)
    spare = folder / "spare"
    a.rename(spare)
    b.rename(a)
    spare.rename(b)


@pytest.mark.parametrize("patterns", [["seg"], ["parquet"], ["words"], ["pyramid"], ["seg", "parquet", "words"]])
@pytest.mark.parametrize("which", [(-2, -1), (0, -1)], ids=["two", "with one that was sealed and not removed yet"])
def test_files_of_segments_that_were_exchanged_get_their_names_back(tmp_path, patterns, which):
    filled(tmp_path)
    for pattern in patterns:
        exchange(tmp_path, f"*/*.{pattern}", which)
    history = opened(tmp_path)
    samples = has_all(history)
    assert (len(samples.gaps), samples.dropped) == (2, 8)  # as they were
    assert history.summary()["quarantined"] == 0
    history.close()


def test_words_that_are_exchanged_with_those_of_a_segment_without_any_get_their_names_back(tmp_path):
    filled(tmp_path)
    max(tmp_path.glob("*/*.words")).write_bytes(b"")
    exchange(tmp_path, "*/*.words")
    with opened(tmp_path) as history:
        strings = history.read(["s"], Interval(1000.0, 1200.0)).timelines["tl"].columns["s"]
        assert strings.tolist() == [f"w{int(v) % 7}" for v in range(1000, 1200)]


def test_files_that_are_exchanged_while_a_history_runs_get_their_names_back(tmp_path):
    filled(tmp_path)
    with opened(tmp_path) as history:
        exchange(tmp_path, "*/*.words")
        has_all(history)
        exchange(tmp_path, "*/*.seg")
        has_all(history)
        assert history.summary()["quarantined"] == 0


def test_file_that_nobody_knows_is_quarantined(tmp_path):
    filled(tmp_path)
    (tmp_path / "0001" / "notes.txt").write_text("keep me")
    (tmp_path / "0001" / "00000099.parquet").write_bytes(b"no parquet")
    opened(tmp_path).close()
    kept = {path.name for path in (tmp_path / "quarantine").iterdir()}
    assert kept == {"0001-notes.txt", "0001-00000099.parquet"}


def copied_segment(folder):
    file = max((folder / "0001").glob("*.seg"))
    shutil.copy(file, folder / "0001" / "00000099.seg")


def no_segment(folder):
    (folder / "0001" / "00000099.seg").write_bytes(b"no segment" * 1000)


def empty_segment(folder):
    (folder / "0001" / "00000099.seg").touch()


def copied_folder(folder):
    shutil.copytree(folder / "0001", folder / "0001-old")
    for file in (folder / "0001-old").glob("*.seg"):
        file.rename(file.with_name("00000088.seg"))


def folder_of_another_history(folder):
    """Copy the folder of a timeline of that name there, whose segments have higher numbers."""
    history = opened(folder / "other")
    for i in range(30):
        put(history, [5000.0 + i], gap_from=4000.0, dropped=7)
        history.store.writers["tl"].rotate()
    killed(history)
    (folder / "other" / "0001").rename(folder / "0009")
    shutil.rmtree(folder / "other")
    for file in (folder / "0009").glob("*.seg"):
        if int(file.stem) < 20:
            file.unlink()


@pytest.mark.parametrize("catalogue", ["there", "lost"])
@pytest.mark.parametrize(
    "put_there", [copied_segment, no_segment, empty_segment, copied_folder, folder_of_another_history]
)
def test_file_that_was_copied_there_changes_nothing(tmp_path, put_there, catalogue):
    final = filled(tmp_path)
    gaps = [(499.0, 600.0), (1199.0, 1300.0)]
    put_there(tmp_path)
    if catalogue == "lost":
        for name in ("catalogue.log", "catalogue.copy", "catalogue.sqlite"):
            (tmp_path / name).unlink()
    for _ in range(2):
        history = opened(tmp_path, now=1e6)
        samples = has_all(history)
        assert (sorted(samples.gaps), samples.dropped) == (gaps, 8)
        assert history.finalized_until("tl") == final
        history.close()
    with open_history(tmp_path) as history:
        has_all(history)
    history = opened(tmp_path, now=1e6)
    put(history, np.arange(1500, 1600))
    assert history.status()["tl"].get("late", 0) == 0
    history.close()


def served(history):
    found = {}
    for name, fields in (("room", ROOM), ("beam/ä", ["current"])):
        samples = history.read(fields, EVER).timelines[name]
        found[name] = {
            "samples": len(samples.t),
            "t_sum": float(samples.t.sum()),
            "gaps": [list(gap) for gap in samples.gaps],
            "dropped": samples.dropped,
            "late": samples.late,
            "finalized_until": history.finalized_until(name),
            "epochs": {f: [[since, field.units] for since, field in epochs] for f, epochs in samples.epochs.items()},
        }
    return found | {"clock_jumps": history.summary()["clock_jumps"]}


def of_format_1(folder):
    shutil.copytree(FORMAT_1 / "folder", folder)
    return json.loads((FORMAT_1 / "expected.json").read_text())


def nothing(folder):
    """Open a history to which nothing is appended, as a node does that has other timelines."""
    return History((), HistorySettings(path=folder, memory=0.0, sync="none", keep=1e12), StepClock(1e4))


def test_history_of_format_1_is_read_and_upgraded_in_place(tmp_path):
    folder = tmp_path / "h"
    expected = of_format_1(folder)
    sealed_before = {path: path.read_bytes() for path in folder.glob("*/*.parquet")}
    with open_history(folder) as reader:
        assert served(reader) == expected
    for _ in range(2):
        with nothing(folder) as history:
            assert served(history) == expected
            assert history.summary()["quarantined"] == 0
    assert {path: path.read_bytes() for path in folder.glob("*/*.parquet")} == sealed_before
    with sqlite3.connect(folder / "catalogue.sqlite") as db:
        # By which earlier versions, which would remove what they do not know, refuse it.
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2


def test_gaps_and_losses_of_an_upgraded_history_outlive_its_catalogue(tmp_path):
    folder = tmp_path / "h"
    expected = of_format_1(folder)
    with nothing(folder):
        pass
    for path in folder.glob("catalogue.*"):
        path.unlink()
    with nothing(folder) as history:
        assert {**served(history), "clock_jumps": expected["clock_jumps"]} == expected


def test_upgrade_that_is_killed_is_done_again(tmp_path):
    folder = tmp_path / "h"
    expected = of_format_1(folder)
    with nothing(folder):
        pass
    data = (folder / journal.FILES[0]).read_bytes()
    for at in (0, 10, len(data) // 2, len(data) - 1):
        again = tmp_path / f"again-{at}"
        of_format_1(again)
        (again / (journal.FILES[0] + ".new")).write_bytes(data[:at])
        with nothing(again) as history:
            assert served(history) == expected
        (again / journal.FILES[1]).unlink()
        with nothing(again) as history:
            assert served(history) == expected


def test_folder_whose_catalogue_is_lost_is_still_a_history(tmp_path):
    filled(tmp_path)
    for path in tmp_path.glob("catalogue.*"):
        path.unlink()
    assert is_history(tmp_path)
    with open_history(tmp_path) as reader:
        has_all(reader)
    (tmp_path / "recordings" / "2024").mkdir(parents=True)
    (tmp_path / "recordings" / "2024" / "march.parquet").touch()
    assert not is_history(tmp_path / "recordings")


def test_open_segment_that_is_damaged_while_the_node_runs_is_never_served_wrong(tmp_path):
    filled(tmp_path)
    history = opened(tmp_path)
    has_all(history)
    path = max(tmp_path.glob("*/*.seg"))
    at = Segment(path).layout.offsets[0] + 8 * 100
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"damaged!")
    put(history, [1500.0])
    samples = history.read(["x", "s"], EVER).timelines["tl"]
    np.testing.assert_array_equal(samples.t, np.append(TIMES[TIMES < 1300], 1500.0))
    np.testing.assert_array_equal(samples.columns["x"], samples.t * 2.0)
    assert (1300.0, 1499.0) in samples.gaps
    assert samples.dropped == 8 + 200
    killed(history)


def test_sample_that_replaced_another_is_not_undone_by_damage(tmp_path):
    late = Timeline("tl", X.fields, lateness_s=100.0, follows_clock=False)
    history = opened(tmp_path, late)
    put(history, np.arange(0.0, 50.0))
    history.store.writers["tl"].rotate()
    for t, x in (([10.0], [-1.0]), ([20.0], [-2.0])):
        columns = {"x": np.array(x), "s": np.array(["new"], object)}
        history.append(as_batch("tl", np.array(t), columns))
        history.store.writers["tl"].rotate()
    killed(history)
    path = sorted(tmp_path.glob("*/*.seg"))[1]
    with path.open("r+b") as file:  # the value of 10, whose time stays known
        file.seek(Segment(path).layout.offsets[0])
        file.write(bytes(8))
    history = opened(tmp_path, late)
    samples = history.read(["x"], EVER).timelines["tl"]
    assert samples.t.tolist() == [t for t in range(50) if t != 10]
    assert samples.columns["x"][samples.t == 20.0] == [-2.0]
    assert (10.0, math.nextafter(10.0, math.inf)) in samples.gaps
    killed(history)


def test_each_flipped_bit_of_a_sealed_segment_is_noticed(tmp_path):
    """Also in the headers of Parquet's pages, which the checksums of pages do not cover."""
    filled(tmp_path)
    path = min(tmp_path.glob("*/*.parquet"))
    whole, chance = path.read_bytes(), np.random.default_rng(1)
    _, entry, _ = described(path, int(path.stem))
    for at in chance.integers(len(whole), size=200).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << int(chance.integers(8)))]) + whole[at + 1 :])
        with pytest.raises(BadHistory):
            Sealed(path, entry).rows(EVER, ["x", "s"])


@pytest.mark.parametrize("what", ["removed", "schema", "utf-8", "empty"])
def test_catalogue_of_format_1_that_is_damaged_prevents_no_start(tmp_path, what):
    folder = tmp_path / "h"
    expected = of_format_1(folder)
    path = folder / "catalogue.sqlite"
    data = path.read_bytes()
    if what == "removed":
        path.unlink()
    else:
        path.write_bytes(
            {
                "schema": data.replace(b"CREATE TABLE segments", b"CREATE TABLE segmentz"),
                "utf-8": data.replace(b"room", b"ro\xffm"),
                "empty": b"",
            }[what]
        )
    with nothing(folder) as history:
        found = served(history)
    for name in ("room", "beam/ä"):
        assert found[name]["samples"] == expected[name]["samples"]
        assert found[name]["t_sum"] == expected[name]["t_sum"]
        assert found[name]["finalized_until"] == expected[name]["finalized_until"]


def test_damage_at_random_places_costs_no_more_than_gaps_say():
    """The long form is `make faults ONLY=damage`, or any number of trials in SISOCK_FAULT_TRIALS."""
    wrong = run(seed=1, trials=int(os.environ.get("SISOCK_FAULT_TRIALS", "40")))
    assert [(one.seed, one.what, one.errors) for one in wrong] == []


def test_flipped_bit_in_a_commit_record_of_a_segment_that_is_full_costs_nothing(tmp_path):
    history = opened(tmp_path)
    put(history, np.arange(0.0, 50.0))
    put(history, np.arange(50.0, 52.0))
    history.store.writers["tl"].rotate()
    history.store.writers["tl"].sync()
    killed(history)
    path = min(tmp_path.glob("*/*.seg"))
    layout = Segment(path).layout
    for which in (0, 1):
        data = bytearray(path.read_bytes())
        data[layout.records + which * layout.record_size] ^= 1
        again = tmp_path / f"again-{which}"
        shutil.copytree(tmp_path / "0001", again / "0001")
        (again / "0001" / path.name).write_bytes(data)
        history = opened(again)
        assert len(history.read(["x"], EVER).timelines["tl"].t) == 52
        killed(history)


def test_newest_record_of_format_1_that_is_damaged_is_a_loss(tmp_path):
    # Its rows are 300, of times from 2000 to 2299; the record before says that there are none.
    at = 384 + 36
    for how in ("cut", "flipped"):
        folder = tmp_path / how
        of_format_1(folder)
        path = folder / "0001" / "00000005.seg"
        data = bytearray(path.read_bytes())
        data[at + 30] ^= 1
        path.write_bytes(data[: at + 26] if how == "cut" else data)
        with nothing(folder) as history:
            samples = history.read(ROOM, EVER).timelines["room"]
            assert samples.t.max() < 2000.0
            assert samples.dropped >= 7 + 300
            assert any(start <= 2000.0 and end >= 2299.0 for start, end in samples.gaps)


def test_rows_are_verified_again_once_a_commit_record_is_damaged(tmp_path):
    history = opened(tmp_path / "h")
    put(history, np.arange(0.0, 100.0))
    assert history.read(["x"], EVER).timelines["tl"].t.tolist() == list(range(100))
    (path,) = (tmp_path / "h").glob("*/*.seg")
    layout = Segment(path).layout
    with path.open("r+b") as file:
        file.seek(layout.offsets[0] + 8 * 50)
        value, at = file.read(8), layout.records + layout.record_size
        file.seek(at)
        record = file.read(8)
        file.seek(at)
        file.write(value)  # they are exchanged
        file.seek(layout.offsets[0] + 8 * 50)
        file.write(record)
    samples = history.read(["x"], EVER).timelines["tl"]
    assert (samples.t.tolist(), samples.dropped, samples.gaps) == ([], 100, [(0.0, 99.0)])
    killed(history)


def test_question_that_begins_at_the_last_lost_sample_shows_the_gap(tmp_path):
    history = opened(tmp_path / "h")
    put(history, np.arange(0.0, 100.0))
    history.store.writers["tl"].rotate()
    put(history, np.arange(100.0, 200.0))
    killed(history)
    path = min((tmp_path / "h").glob("*/*.seg"))
    with path.open("r+b") as file:
        file.seek(Segment(path).layout.offsets[0])
        file.write(b"\xff\xff")
    last = Interval(99.0, 101.0)
    with open_history(tmp_path / "h") as reader:
        assert reader.read(["x"], last).timelines["tl"].gaps == [(0.0, 99.0)]
    with opened(tmp_path / "h") as history:
        assert history.read(["x"], last).timelines["tl"].gaps == [(0.0, 99.0)]
        samples = history.read(["x"], Interval(99.0, 99.5)).timelines["tl"]
        assert (samples.t.tolist(), samples.gaps) == ([], [(0.0, 99.0)])
        assert history.read(["x"], Interval(99.5, 101.0)).timelines["tl"].gaps == []


def test_samples_whose_bytes_have_no_checksums_are_not_read_through_a_map(tmp_path):
    # A disk that fails to read a page of a map ends the process.
    of_format_1(tmp_path / "h")
    for path in (tmp_path / "h").glob("*/*.parquet"):
        _, entry, _ = described(path, int(path.stem))
        sealed = Sealed(path, entry)
        t, _columns = sealed.rows(EVER, [field.name for field in entry.fields])
        assert len(t) == entry.rows
        assert str(path) not in Path("/proc/self/maps").read_text()
