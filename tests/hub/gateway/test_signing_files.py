"""What the gateway keeps of logins on disk."""

import errno
import os

from sisock_hub.gateway.signing import Signer


def test_files_of_logins_are_readable_by_their_owner_only(tmp_path):
    for _ in range(2):
        signer = Signer(tmp_path)
        signer._ended.add("1")
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
