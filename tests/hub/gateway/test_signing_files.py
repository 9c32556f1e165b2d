"""What the gateway keeps of logins on disk."""

import errno
import os
import stat

from itsdangerous import URLSafeTimedSerializer

from sisock_hub.gateway.signing import Signer


def test_files_of_logins_are_readable_by_their_owner_only(tmp_path):
    for _ in range(2):
        signer = Signer(tmp_path)
        signer.end(signer.signed("ada", "f"))
        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
        assert modes == {"gateway.key": 0, "gateway.ended": 0}


def test_sessions_are_signed_again_after_a_restart_on_a_disk_that_takes_nothing(tmp_path, monkeypatch):
    signer = Signer(tmp_path)
    ended, kept = signer.signed("ada", "f"), signer.signed("bob", "f")
    signer.end(ended)

    def full(*_arguments, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    again = Signer(tmp_path)
    assert again.session(kept) == ("bob", "f")
    assert again.session(ended) is None


def test_an_empty_key_is_replaced(tmp_path):
    (tmp_path / "gateway.key").write_text("")
    forged = URLSafeTimedSerializer("", salt="session").dumps(["operator", "f", "1"])
    signer = Signer(tmp_path)
    assert signer.session(forged) is None
    assert len((tmp_path / "gateway.key").read_text()) >= 32
    assert stat.S_IMODE((tmp_path / "gateway.key").stat().st_mode) == 0o600
    assert Signer(tmp_path).session(signer.signed("operator", "f")) == ("operator", "f")


def test_a_new_key_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd)))
    Signer(tmp_path)
    assert synced == [(tmp_path / "gateway.key").stat().st_ino]
