"""What the gateway keeps of logins on disk."""

from sisock_hub.gateway.signing import Signer


def test_files_of_logins_are_readable_by_their_owner_only(tmp_path):
    for _ in range(2):
        signer = Signer(tmp_path)
        signer._ended.add("1")
        modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}
        assert modes == {"gateway.key": 0, "gateway.ended": 0}
