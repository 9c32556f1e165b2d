"""Checking passwords, slowly where they are wrong."""

import asyncio
import hmac

from sisock.errors import Busy
from sisock.site import GatewaySecrets
from sisock.times import SYSTEM_CLOCK
from sisock_hub.gateway.signing import Signer

# A wrong password costs so many seconds, one after the other for an address and account; so many may wait for that.
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
        self._waiting: dict[tuple[str, str | None], _Waiting] = {}
        self._proven: set[str] = set()  # fingerprints of what was right, for who sends it with each request

    async def hold(self, user: str, password: str, address: str) -> bool:
        """Whether there is such a user, and that is the password.

        Wrong passwords slow down others of the same address for the same user only.

        Parameters
        ----------
        user, password : str
        address : str
            Of who sends them.

        Raises
        ------
        Busy
            If too many wrong ones come from that address for that user.
        """
        said = self._digest(user, password)
        if said in self._proven:
            return True
        known = self._secrets.users.get(user)
        key = (address, user if known is not None else None)  # unknown names share one queue
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.number >= _MOST_WAITING:
            raise Busy("too many wrong passwords come at the moment; try again in some seconds")
        right = hmac.compare_digest(password.encode(), (known.password.get_secret_value() if known else "").encode())
        if right and known is not None:
            self._proven.add(said)
            return True
        waiting = self._waiting.setdefault(key, _Waiting())
        waiting.number += 1
        try:
            async with waiting.turn:
                await SYSTEM_CLOCK.sleep(_PENALTY_S)
        finally:
            waiting.number -= 1
            if not waiting.number:
                del self._waiting[key]
        return False

    def fingerprint(self, user: str) -> str | None:
        """Return what changes when a user's password does; None if there is no such user."""
        known = self._secrets.users.get(user)
        return self._digest(user, known.password.get_secret_value()) if known else None

    def _digest(self, user: str, password: str) -> str:
        return self._signer.digest(f"{user}\0{password}")


class _Waiting:
    """Wrong passwords of an address for a user, whose answers wait."""

    def __init__(self) -> None:
        self.turn, self.number = asyncio.Lock(), 0
