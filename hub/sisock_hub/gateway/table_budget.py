"""One budget in bytes for the samples of all tables that are being sent."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from sisock.errors import Busy

# Seconds after which a table no longer waits for the budget.
_PATIENCE_S = 30.0


class Account:
    """The bytes of samples that one table holds: those being written, and those read ahead."""

    def __init__(self, budget: "TableBudget") -> None:
        self._budget = budget
        self.size = 0

    async def reserve(self, size: int) -> None:
        """Wait until the table may hold so many more bytes.

        Raises
        ------
        Busy
            If it may not within half a minute.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._budget.wait(self, size)
        except TimeoutError as error:
            raise Busy("other tables that are being sent use up the gateway's memory; retry later") from error

    def release(self, size: int) -> None:
        """Return so many bytes to the budget."""
        self.size -= size
        self._budget.grant()


class TableBudget:
    """The bytes that all tables may hold together.

    Parameters
    ----------
    size : int
        Bytes. A table that needs more is granted it while no other holds anything.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._accounts: set[Account] = set()
        self._waiting: deque[tuple[Account, int, asyncio.Future[None]]] = deque()

    @property
    def held(self) -> int:
        """Bytes of samples that tables hold."""
        return sum(each.size for each in self._accounts)

    @property
    def waiting(self) -> int:
        """Number of tables' pieces that wait for the budget."""
        return len(self._waiting)

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Provide the account of a table; the bytes that it holds at the end are returned."""
        account = Account(self)
        self._accounts.add(account)
        try:
            yield account
        finally:
            self._accounts.discard(account)
            self.grant()

    async def wait(self, account: Account, size: int) -> None:
        """Wait until a table may hold so many more bytes; those that have waited longer come first."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((account, size, turn))
        self.grant()
        await turn

    def grant(self) -> None:
        """Let tables continue as far as the budget allows."""
        total = self.held
        while self._waiting:
            account, size, turn = self._waiting[0]
            if not turn.done():
                if total and total + size > self._size:
                    return
                account.size += size
                total += size
                turn.set_result(None)
            self._waiting.popleft()
