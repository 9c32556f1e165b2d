"""Checking passwords, slowly where they are wrong."""

import asyncio
import hmac

from sisock.errors import Busy
from sisock.site import GatewaySecrets
from sisock_hub.gateway.signing import Signer

# A wrong password costs so many seconds, one after the other; so many may wait for that.
_PENALTY_S, _MOST_WAITING = 0.5, 20


class Passwords:
    """The passwords of the users.

    Parameters
    ----------
    secrets : GatewaySecrets
    signer : Signer
    """

    def __init__(self, secrets: GatewaySecrets, signer: Signer) -> None:
        self._secrets, self._signer = secrets, signer
        self._turn, self._waiting = asyncio.Lock(), 0
        self._proven: set[str] = set()  # fingerprints of what was right, for who sends it with each request

    async def hold(self, user: str, password: str) -> bool:
        """Whether there is such a user, and that is the password.

        Raises
        ------
        Busy
            If too many wrong ones come.
        """
        said = self._digest(user, password)
        if said in self._proven:
            return True
        if self._waiting >= _MOST_WAITING:
            raise Busy("too many wrong passwords come at the moment; try again in some seconds")
        known = self._secrets.users.get(user)
        right = hmac.compare_digest(password.encode(), (known.password.get_secret_value() if known else "").encode())
        if right and known is not None:
            self._proven.add(said)
            return True
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(_PENALTY_S)
        finally:
            self._waiting -= 1
        return False

    def fingerprint(self, user: str) -> str | None:
        """Return what changes when a user's password does; None if there is no such user."""
        known = self._secrets.users.get(user)
        return self._digest(user, known.password.get_secret_value()) if known else None

    def _digest(self, user: str, password: str) -> str:
        return self._signer.digest(f"{user}\0{password}")
