"""Signed session cookies."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from sisock.files import write_whole
from sisock.times import SYSTEM_CLOCK

SESSION_S = 12 * 3600
"""Seconds for which a login is valid."""


class Signer:
    """Signs sessions, with a key in the state folder of the site, so that logins survive a restart.

    Parameters
    ----------
    folder : Path
        Folder of the key, which is readable by its owner only; created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "gateway.key"
        # A loss of power may have left an empty file, and anybody can sign with an empty key.
        if not path.exists() or not path.stat().st_size:
            fresh = path.with_suffix(f".{os.getpid()}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        self._key = path.read_text()
        self._ended = _Ended(folder / "gateway.ended")
        self._serializer = URLSafeTimedSerializer(self._key, salt="session")

    def digest(self, text: str) -> str:
        """Return a keyed digest of a text."""
        return hmac.new(self._key.encode(), text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def signed(self, name: str, fingerprint: str) -> str:
        """Return a signed session of a user; it is valid as long as the user's fingerprint is the same."""
        return str(self._serializer.dumps([name, fingerprint, secrets.token_hex(8)]))

    def session(self, signed: str) -> tuple[str, str] | None:
        """Return user and fingerprint of a session; None if it is invalid or has ended."""
        known = self._known(signed)
        return known[:2] if known else None

    def end(self, signed: str) -> None:
        """End a session before it expires."""
        if known := self._known(signed):
            self._ended.add(known[2])

    def _known(self, signed: str) -> tuple[str, str, str] | None:
        """Return user, fingerprint and number of a session; None if it is invalid or has ended."""
        try:
            name, fingerprint, number = self._serializer.loads(signed, max_age=SESSION_S)
        except (BadSignature, TypeError, ValueError):
            return None
        return None if number in self._ended else (name, fingerprint, number)


class _Ended:
    """The sessions that were ended before they expired, also by earlier runs.

    Parameters
    ----------
    path : Path
        A line for each: its number, and when it expires, UNIX seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._numbers = path, dict[str, float]()
        lines = path.read_text().splitlines() if path.exists() else []
        # A loss of power may have cut off the last line.
        for number, until in (parts for line in lines if len(parts := line.split()) == 2):
            if float(until) > SYSTEM_CLOCK.now():
                self._numbers[number] = float(until)
        if path.exists() and len(lines) == len(self._numbers) and not path.stat().st_mode & 0o077:
            return  # nothing to write, so a full disk does not matter
        lines = [f"{number} {until}\n" for number, until in self._numbers.items()]
        write_whole(path, "".join(lines), mode=0o600, sync=False)

    def __contains__(self, number: str) -> bool:
        return number in self._numbers

    def add(self, number: str) -> None:
        """End a session."""
        until = SYSTEM_CLOCK.now() + SESSION_S
        with self._path.open("a") as file:
            file.write(f"{number} {until}\n")
        self._numbers[number] = until
