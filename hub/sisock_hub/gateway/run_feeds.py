"""The changes of runs as they come: each run is followed once, for all clients that follow it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sisock.consumer import RunHandle
from sisock.errors import Busy
from sisock.runs import ENDED
from sisock_hub.gateway.work_client import GATEWAY_ITSELF, WorkClient

MOST_RUNS = 200
"""Most runs that are followed at a time; each may keep 64 MB of updates."""


@dataclass(slots=True)
class _Followed:
    """A run, and the number of clients that follow it."""

    opening: asyncio.Task[RunHandle]
    readers: int = 0


class RunFeeds:
    """The runs that clients follow.

    Parameters
    ----------
    work : WorkClient

    Attributes
    ----------
    missed : int
        Changes that clients did not get, since they had read those before too slowly.
    """

    def __init__(self, work: WorkClient) -> None:
        self._work = work
        self._runs: dict[tuple[str, str], _Followed] = {}
        self.missed = 0

    def __len__(self) -> int:
        """Return the number of runs that are followed."""
        return len(self._runs)

    async def follow(self, node: str, number: str, after: int = 0) -> AsyncGenerator[dict[str, Any] | None]:
        """Yield None once a run is followed, then its changes, in order; the last one is that of its end.

        Parameters
        ----------
        node, number : str
            The node, and the id of the run.
        after : int
            Number of the last change that is known.

        Yields
        ------
        dict or None
            The change, and as ``missed`` the number of changes before it that are not kept.

        Raises
        ------
        NoSuchNode, NoSuchRun, NoSuchProcedure, Busy, NoRouter, TimedOut
        """
        async with self._run(node, number) as run:
            yield None
            state = None
            async for change in run.changes(after):
                missed, after, state = change.seq - after - 1, change.seq, change.state
                self.missed += missed
                yield {
                    "seq": change.seq,
                    "state": change.state,
                    "progress": change.progress,
                    "message": change.message,
                    "update": change.update,
                    "missed": missed,
                }
            if state not in ENDED:  # the client knows the last change, or one beyond it
                about = {key: run.about.get(key) for key in ("seq", "state", "progress", "message")}
                yield {**about, "update": None, "missed": 0}

    async def is_over(self, node: str, number: str, after: int) -> bool:
        """Return whether a run has ended, and has no changes after a number."""
        run = await self._work.run(node, number, GATEWAY_ITSELF)
        return run["state"] in ENDED and run["seq"] <= after

    @asynccontextmanager
    async def _run(self, node: str, number: str) -> AsyncIterator[RunHandle]:
        key = (node, number)
        followed = self._runs.get(key)
        if followed is None:
            if len(self._runs) >= MOST_RUNS:
                raise Busy(f"clients follow {MOST_RUNS} runs; try again when some of these have ended")
            followed = self._runs[key] = _Followed(asyncio.create_task(self._work.followed(node, number)))
        followed.readers += 1
        try:
            yield await asyncio.shield(followed.opening)
        finally:
            followed.readers -= 1
            if not followed.readers:
                del self._runs[key]
                followed.opening.cancel()
                followed.opening.add_done_callback(_close)


def _close(opening: asyncio.Task[RunHandle]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
