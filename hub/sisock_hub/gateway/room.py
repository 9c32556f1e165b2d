"""Room in memory for the samples of streamed answers, bounded for all of them together."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from sisock.errors import Busy

# Seconds after which an answer no longer waits for room.
_PATIENCE_S = 30.0


class Held:
    """The bytes of samples that one streamed answer holds: those being written, and those read ahead."""

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.size = 0

    async def take(self, size: int) -> None:
        """Wait until there is room for so many more bytes.

        Raises
        ------
        Busy
            If there is none within half a minute.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._room.wait(self, size)
        except TimeoutError as error:
            raise Busy("other tables that are being sent use up the gateway's memory; ask again later") from error

    def give(self, size: int) -> None:
        """Hold so many bytes less."""
        self.size -= size
        self._room.grant()


class Room:
    """What all streamed answers may hold together.

    Parameters
    ----------
    size : int
        Bytes. An answer that needs more than that is granted it while no other holds anything.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: set[Held] = set()
        self._waiting: deque[tuple[Held, int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes of samples that streamed answers hold."""
        return sum(each.size for each in self._held)

    @property
    def waiting(self) -> int:
        """How many pieces of streamed answers wait for room."""
        return len(self._waiting)

    @contextmanager
    def streaming(self) -> Iterator[Held]:
        """Provide the account of a streamed answer; what it still holds at the end is free again."""
        held = Held(self)
        self._held.add(held)
        try:
            yield held
        finally:
            self._held.discard(held)
            self.grant()

    async def wait(self, held: Held, size: int) -> None:
        """Wait until an answer may hold so many bytes more; those that have waited longer come first."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((held, size, turn))
        self.grant()
        await turn

    def grant(self) -> None:
        """Let answers read on as far as there is room."""
        total = self.held
        while self._waiting:
            held, size, turn = self._waiting[0]
            if not turn.done():
                if total and total + size > self._size:
                    return
                held.size += size
                total += size
                turn.set_result(None)
            self._waiting.popleft()
