"""Signing who somebody is, for a cookie."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from sisock.files import write_whole
from sisock.times import SYSTEM_CLOCK

SESSION_S = 12 * 3600
"""How long a login lasts, in seconds."""


class Signer:
    """Signs names, with a key that is kept beside the site, so that logins outlive a restart.

    Parameters
    ----------
    folder : Path
        Where the key is kept, readable by its owner only; made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "gateway.key"
        # A loss of power may have left an empty file, and with an empty key everybody can sign.
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
        """Return what is the same for the same text, and tells nobody else which it is."""
        return hmac.new(self._key.encode(), text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def signed(self, name: str, fingerprint: str) -> str:
        """Return a session of somebody, which nobody else can make; it ends when the fingerprint is another."""
        return str(self._serializer.dumps([name, fingerprint, secrets.token_hex(8)]))

    def session(self, signed: str) -> tuple[str, str] | None:
        """Return name and fingerprint of a session; None if it is none, or over."""
        known = self._known(signed)
        return known[:2] if known else None

    def end(self, signed: str) -> None:
        """End a session before its time."""
        if known := self._known(signed):
            self._ended.add(known[2])

    def _known(self, signed: str) -> tuple[str, str, str] | None:
        """Return name, fingerprint and number of a session; None if it is none, or over."""
        try:
            name, fingerprint, number = self._serializer.loads(signed, max_age=SESSION_S)
        except (BadSignature, TypeError, ValueError):
            return None
        return None if number in self._ended else (name, fingerprint, number)


class _Ended:
    """The sessions that were ended before their time, also by an earlier run.

    Parameters
    ----------
    path : Path
        A line for each: its number, and when it would have ended, UNIX seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._numbers = path, dict[str, float]()
        lines = path.read_text().splitlines() if path.exists() else []
        # A loss of power may have cut off the last line.
        for number, until in (parts for line in lines if len(parts := line.split()) == 2):
            if float(until) > SYSTEM_CLOCK.now():
                self._numbers[number] = float(until)
        if path.exists() and len(lines) == len(self._numbers) and not path.stat().st_mode & 0o077:
            return  # so that it is not needed that the disk takes something
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
