"""Checks of passwords, with a delay for incorrect ones."""

import asyncio
import hmac

from sisock.errors import Busy
from sisock.site import GatewaySecrets
from sisock.times import SYSTEM_CLOCK
from sisock_hub.gateway.signing import Signer

# Seconds of delay of an incorrect password, one after the other for an address and account; most that may wait.
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
        self._proven: set[str] = set()  # digests of correct ones, for clients that send them with each request

    async def hold(self, user: str, password: str, address: str) -> bool:
        """Return whether the user exists and the password is correct.

        Incorrect passwords delay others of the same address for the same user only.

        Parameters
        ----------
        user, password : str
        address : str
            Network address of the client.

        Raises
        ------
        Busy
            If too many incorrect ones of that address for that user wait.
        """
        digest = self._digest(user, password)
        if digest in self._proven:
            return True
        known = self._secrets.users.get(user)
        key = (address, user if known is not None else None)  # unknown names share one queue
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.number >= _MOST_WAITING:
            raise Busy("too many incorrect passwords; retry in some seconds")
        is_correct = hmac.compare_digest(
            password.encode(), (known.password.get_secret_value() if known else "").encode()
        )
        if is_correct and known is not None:
            self._proven.add(digest)
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
        """Return a digest that changes with the user's password; None if there is no such user."""
        known = self._secrets.users.get(user)
        return self._digest(user, known.password.get_secret_value()) if known else None

    def _digest(self, user: str, password: str) -> str:
        return self._signer.digest(f"{user}\0{password}")


class _Waiting:
    """The delayed answers to incorrect passwords of an address for a user."""

    def __init__(self) -> None:
        self.turn, self.number = asyncio.Lock(), 0
