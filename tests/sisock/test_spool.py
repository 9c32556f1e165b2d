"""Frames that wait on disk."""

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sisock import spool as module
from sisock.errors import BadRequest
from sisock.spool import Spool


def waiting(spool, most=10**9):
    return [frame for _, frame in spool.waiting(most)]


def test_frames_come_in_their_order_until_they_are_delivered(tmp_path):
    spool = Spool(tmp_path / "s", 10**6)
    for i in range(5):
        spool.append(b"%d" % i)
    assert waiting(spool) == [b"0", b"1", b"2", b"3", b"4"]
    assert [frame for _, frame in spool.waiting(2)] == [b"0", b"1"]
    places = [place for place, _ in spool.waiting(10**6)]
    spool.delivered(places[2], 3)
    assert (waiting(spool), spool.frames) == ([b"3", b"4"], 2)
    spool.close()
    again = Spool(tmp_path / "s", 10**6)
    again.append(b"5")
    assert (waiting(again), again.frames) == ([b"3", b"4", b"5"], 3)
    again.delivered([place for place, _ in again.waiting(10**6)][-1], 3)
    again.close()
    assert waiting(Spool(tmp_path / "s", 10**6)) == []


def test_without_room_the_oldest_are_dropped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FILE_SIZE", 1000)
    spool = Spool(tmp_path / "s", 3000)
    for i in range(100):
        spool.append(b"%03d" % i + bytes(97))
    left = [int(frame[:3]) for frame in waiting(spool)]
    assert left == list(range(100 - len(left), 100))
    assert spool.counters["dropped"] == 100 - len(left)
    assert spool.frames == len(left)
    assert spool.size <= 3000
    spool.close()


def test_dropping_what_is_being_delivered_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FILE_SIZE", 1000)
    spool = Spool(tmp_path / "s", 2000)
    for i in range(5):
        spool.append(b"%03d" % i + bytes(97))
    places = [place for place, _ in spool.waiting(10**6)]
    for i in range(5, 60):
        spool.append(b"%03d" % i + bytes(97))
    spool.delivered(places[-1], 5)
    left = [int(frame[:3]) for frame in waiting(spool)]
    assert left == list(range(left[0], 60))
    assert spool.frames == len(left)


@settings(max_examples=60)
@given(
    frames=st.lists(st.binary(max_size=60), min_size=1, max_size=30),
    cut=st.integers(0, 200),
    done=st.integers(0, 30),
)
def test_what_a_kill_or_damage_cuts_off_is_all_that_is_missing(tmp_path_factory, frames, cut, done):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 10**6)
    for frame in frames:
        spool.append(frame)
    places = [place for place, _ in spool.waiting(10**9)]
    done = min(done, len(frames))
    if done:
        spool.delivered(places[done - 1], done)
    spool.close()
    (file,) = [path for path in folder.glob("*.spool") if path.stat().st_size]
    end = max(places[done - 1].at if done else 0, file.stat().st_size - cut)
    os.truncate(file, end)
    whole = sum(place.at <= end for place in places)
    again = Spool(folder, 10**6)
    again.append(b"after")
    assert waiting(again) == [*frames[done:whole], b"after"]
    again.close()


def test_folder_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match="cannot be used to hold"):
        Spool(tmp_path / "file" / "s", 1)


@pytest.mark.parametrize("exists", [True, False])
def test_spool_on_a_disk_that_takes_nothing_at_the_start_begins_when_it_can(tmp_path, monkeypatch, exists):
    if exists:
        spool = Spool(tmp_path / "s", 10**6)
        spool.append(b"before")
        spool.close()
    broken(monkeypatch, "mkdir", "open")
    spool = Spool(tmp_path / "s", 10**6)
    with pytest.raises(OSError, match="Read-only"):
        spool.append(b"lost")
    if exists:
        ((place, frame),) = spool.waiting(10**6)
        assert frame == b"before"
        spool.delivered(place, 1)
        assert spool.counters["unmarked"] == 1
    monkeypatch.undo()
    spool.append(b"after")
    assert (waiting(spool), spool.frames) == ([b"after"], 1)
    spool.close()


def test_spool_whose_disk_is_full_when_a_file_is_begun_goes_on_when_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FILE_SIZE", 100)
    spool = Spool(tmp_path / "s", 10**6)
    spool.append(b"a" * 90)
    broken(monkeypatch, "open")
    for _ in range(2):
        with pytest.raises(OSError, match="Read-only"):
            spool.append(b"lost" * 20)
    assert (waiting(spool), spool.frames) == ([b"a" * 90], 1)
    monkeypatch.undo()
    monkeypatch.setattr(module, "_FILE_SIZE", 100)
    spool.append(b"b" * 90)
    assert (waiting(spool), spool.frames) == ([b"a" * 90, b"b" * 90], 2)
    spool.close()


def broken(monkeypatch, *what):
    """Have the disk take nothing new: neither folders nor files."""

    def read_only(*_arguments, **_more):
        raise OSError(errno.EROFS, "Read-only file system")

    if "mkdir" in what:
        monkeypatch.setattr(os, "mkdir", read_only)
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *more: (read_only if flags & os.O_CREAT else real)(path, flags, *more)
    )
    monkeypatch.setattr("pathlib.Path.write_bytes", read_only)
