"""Signing who somebody is, for a cookie."""

import hashlib
import hmac
import os
import secrets
from collections import deque
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

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
        if not path.exists():
            fresh = path.with_suffix(f".{os.getpid()}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(32))
            fresh.replace(path)
        self._key = path.read_text()
        self._ended: deque[str] = deque(maxlen=10_000)
        self._serializer = URLSafeTimedSerializer(self._key, salt="session")

    def digest(self, text: str) -> str:
        """Return what is the same for the same text, and tells nobody else which it is."""
        return hmac.new(self._key.encode(), text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def signed(self, name: str, fingerprint: str) -> str:
        """Return a session of somebody, which nobody else can make; it ends when the fingerprint is another."""
        return str(self._serializer.dumps([name, fingerprint]))

    def session(self, signed: str) -> tuple[str, str] | None:
        """Return name and fingerprint of a session; None if it is none, or over."""
        if signed in self._ended:
            return None
        try:
            name, fingerprint = self._serializer.loads(signed, max_age=SESSION_S)
        except (BadSignature, TypeError, ValueError):
            return None
        return name, fingerprint

    def end(self, signed: str) -> None:
        """End a session before its time."""
        if self.session(signed):
            self._ended.append(signed)
